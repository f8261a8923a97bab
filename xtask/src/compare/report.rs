//! The tables and figures of the appendix, made from the saved results and from nothing else.

use serde_json::{Value, json};

use super::statistics::Spread;

/// A table for each group of works, in Markdown, by name.
pub fn tables(results: &Value) -> Vec<(String, String)> {
    let mut tables = vec![
        ("machine".to_string(), machine(results)),
        ("targets".to_string(), targets(results)),
    ];
    let works = list(&results["works"]);
    let mut groups: Vec<&str> = Vec::new();
    for group in works.iter().filter_map(|work| work["group"].as_str()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        let works: Vec<&Value> =
            works.iter().filter(|work| work["group"] == group).collect();
        let table = match group {
            "attention" | "attention_backward" => by_length(&works),
            _ => by_side(&works),
        };
        tables.push((group.to_string(), table));
    }
    tables
}

/// One work, as lines for a terminal.
pub fn lines(work: &Value) -> String {
    let mut lines = format!("{}{}\n", text(&work["name"]), precision_of(work));
    let unit = text(&work["unit"]);
    for side in list(&work["sides"]) {
        let Some(seconds) = Spread::read(&side["seconds"]) else {
            let same = match side["apart"].as_f64() {
                Some(apart) => format!("the same, to {apart:.0e}"),
                None => "ready".to_string(),
            };
            lines += &format!("  {:<32}{same}\n", text(&side["name"]));
            continue;
        };
        let ratio = Spread::read(&side["ratio"]).map_or(String::new(), |ratio| {
            format!("   {} / it: {}", text(&side["against"]), significant(ratio.median))
        });
        let time = significant(seconds.median * 1e3);
        lines +=
            &format!("  {:<32}{time:>9} ms per {unit}{ratio}\n", text(&side["name"]));
    }
    for absent in list(&work["absent"]) {
        let (side, reason) = (text(&absent["side"]), text(&absent["reason"]));
        lines += &format!("  {side:<32}left out: {reason}\n");
    }
    lines
}

fn machine(results: &Value) -> String {
    let mut rows = String::from("| | |\n|---|---|\n");
    let mut row = |name: &str, value: &str| rows += &format!("| {name} | {value} |\n");
    let machine = &results["machine"];
    row("processor", text(&machine["processor"]));
    row("threads, for every side", &results["threads"].to_string());
    row("system", text(&machine["system"]));
    if let Some(card) = machine["card"].as_str() {
        row("card", card);
    }
    for (name, version) in results["versions"].as_object().into_iter().flatten() {
        row(name, text(version));
    }
    row("rounds", &results["rounds"].to_string());
    rows
}

fn targets(results: &Value) -> String {
    let mut table = String::from(
        "| work | compared with | at most | measured | |\n|---|---|--:|--:|---|\n",
    );
    for work in list(&results["works"]) {
        for target in list(&work["targets"]) {
            let name = text(&work["name"]);
            let (most, measured) = (&target["most"], target["measured"].as_f64());
            let (than, show): (&str, fn(f64) -> String) = match target["than"].as_str() {
                Some(than) => (than, significant),
                None => ("", |seconds| format!("{} ms", significant(seconds * 1e3))),
            };
            let most = most.as_f64().map_or_else(String::new, show);
            let (measured, met) = match measured {
                None => ("not measured".to_string(), ""),
                Some(measured) if target["met"] == true => (show(measured), "met"),
                Some(measured) => (show(measured), "missed"),
            };
            table += &format!("| {name} | {than} | {most} | {measured} | {met} |\n");
        }
    }
    table
}

/// A row for each side of each work.
fn by_side(works: &[&Value]) -> String {
    let unit = text(&works[0]["unit"]);
    let longest = works.iter().flat_map(|work| list(&work["sides"]));
    let longest = longest.filter_map(|side| Spread::read(&side["seconds"]));
    let longest = longest.fold(0.0, |longest: f64, seconds| longest.max(seconds.median));
    let (time, in_a_second) = if longest < 10.0 { ("ms", 1e3) } else { ("s", 1.0) };
    let mut table = format!(
        "| work | side | {time} per {unit} | ours / it | middle half | peak MiB |\n|---|---|--:|--:|--:|--:|\n"
    );
    for work in works {
        let mut name = format!("{}{}", text(&work["name"]), precision_of(work));
        for side in list(&work["sides"]) {
            let Some(seconds) = Spread::read(&side["seconds"]) else { continue };
            let [low, median, high] = [seconds.low, seconds.median, seconds.high]
                .map(|seconds| significant(seconds * in_a_second));
            let ratio = Spread::read(&side["ratio"])
                .map_or(String::new(), |ratio| significant(ratio.median));
            let peak = side["memory"]["peak"]
                .as_f64()
                .map_or(String::new(), |bytes| format!("{:.0}", bytes / 1048576.0));
            let side = text(&side["name"]);
            table += &format!(
                "| {name} | {side} | {median} | {ratio} | {low}–{high} | {peak} |\n"
            );
            name.clear(); // once is enough
        }
    }
    table
}

/// A row for each length, a column for each side: milliseconds, and in brackets ours divided by theirs.
fn by_length(works: &[&Value]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for side in works.iter().flat_map(|work| list(&work["sides"])) {
        let name = text(&side["name"]);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut table =
        format!("| T | {} |\n|--:|{}\n", names.join(" | "), "--:|".repeat(names.len()));
    for work in works {
        let cells = names.iter().map(|name| {
            let sides = list(&work["sides"]);
            let side = sides.iter().find(|side| side["name"] == *name)?;
            let seconds = significant(Spread::read(&side["seconds"])?.median * 1e3);
            Some(match Spread::read(&side["ratio"]) {
                Some(ratio) => format!("{seconds} ({})", significant(ratio.median)),
                None => seconds,
            })
        });
        let cells: Vec<String> = cells.map(Option::unwrap_or_default).collect();
        let length = format!("{}{}", work["settings"]["T"], precision_of(work));
        table += &format!("| {length} | {} |\n", cells.join(" | "));
    }
    table
}

/// How long attention takes at each length: the data of the crate's charts, by name.
pub fn figures(results: &Value) -> Vec<(String, Value)> {
    [("attention", "forward"), ("attention_backward", "forward and backward")]
        .into_iter()
        .filter_map(|(group, what)| {
            let works: Vec<&Value> = list(&results["works"])
                .iter()
                .filter(|work| work["group"] == group && precision_of(work).is_empty())
                .collect();
            Some((group.to_string(), by_length_chart(&works, what)?))
        })
        .collect()
}

/// A line for each side over the lengths; nothing if nothing was measured.
fn by_length_chart(works: &[&Value], what: &str) -> Option<Value> {
    // A chart has six colours, and this side is nearly the next one.
    const LEFT_OUT: &str = "PyTorch, explicit, compiled";
    let sides = list(&works.first()?["sides"]);
    let names = sides.iter().map(|side| text(&side["name"]));
    let series: Vec<Value> = names
        .filter(|name| *name != LEFT_OUT)
        .map(|name| {
            let points: Vec<[f64; 2]> = works
                .iter()
                .filter_map(|work| {
                    let side =
                        list(&work["sides"]).iter().find(|side| side["name"] == name)?;
                    let seconds = Spread::read(&side["seconds"])?.median;
                    let milliseconds = significant(seconds * 1e3).parse().ok()?;
                    Some([work["settings"]["T"].as_f64()?, milliseconds])
                })
                .collect();
            let mut series = json!({ "name": name, "points": points });
            if name.ends_with("fused") {
                series["dashed"] = true.into();
            }
            series
        })
        .collect();
    Some(json!({
        "kind": "curves",
        "title": format!("Attention, {what}"),
        "description": format!(
            "Milliseconds that a call of attention takes, {what}, over the number of positions, both on logarithmic \
             scales, a line for each side. The table has the numbers."
        ),
        "x_axis": { "label": "positions T", "log": true },
        "y_axis": { "label": "time (ms)", "log": true },
        "series": series,
    }))
}

/// Which numbers a card computed with; nothing where that is a matter of course.
fn precision_of(work: &Value) -> String {
    match work["precision"].as_str() {
        Some("float32") | None => String::new(),
        Some(precision) => format!(", {precision}"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Three digits that say something: `0.123`, `12.3`, `1230`.
pub fn significant(number: f64) -> String {
    let before_the_point = number.abs().max(1e-12).log10().floor() as i32 + 1;
    let decimals = (3 - before_the_point).clamp(0, 9) as usize;
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results() -> Value {
        let spread = |x: f64| Spread { low: x * 0.9, median: x, high: x * 1.1 }.json();
        let ours = |name: &str, x: f64| json!({ "name": name, "seconds": spread(x), "memory": { "start": 1, "peak": 210_000_000 } });
        let theirs = |name: &str, x: f64, ratio: f64| {
            json!({ "name": name, "seconds": spread(x), "ratio": spread(ratio), "against": "ours",
                    "memory": { "start": 1, "peak": null } })
        };
        json!({
            "threads": 2, "rounds": 7,
            "machine": { "processor": "a processor", "system": "linux x86_64", "card": null },
            "versions": { "PyTorch": "2.13.0" },
            "works": [
                { "group": "attention", "name": "attention, forward, T = 64", "unit": "call",
                  "precision": "float32", "settings": { "T": 64 },
                  "sides": [ours("ours, fused", 0.00012), theirs("PyTorch, fused", 0.00024, 0.5)] },
                { "group": "step", "name": "training step", "unit": "step", "precision": "float32",
                  "sides": [ours("ours", 0.16), theirs("PyTorch", 0.2, 0.8)],
                  "absent": [{ "side": "burn", "reason": "it was not built" }],
                  "targets": [
                      { "than": "PyTorch", "most": 0.8, "measured": 0.8, "met": true },
                      { "than": "PyTorch, compiled", "most": 0.8, "measured": null, "met": false },
                      { "than": null, "most": 0.015, "measured": 0.16, "met": false },
                  ] },
            ],
        })
    }

    #[test]
    fn a_group_is_a_table() {
        let tables = tables(&results());
        let named = |name: &str| {
            let (_, table) = tables.iter().find(|(found, _)| found == name).unwrap();
            table.as_str()
        };
        assert_eq!(tables.len(), 4);
        assert_eq!(
            named("attention"),
            "| T | ours, fused | PyTorch, fused |\n|--:|--:|--:|\n| 64 | 0.120 | 0.240 (0.500) |\n"
        );
        assert_eq!(
            named("step"),
            "| work | side | ms per step | ours / it | middle half | peak MiB |\n|---|---|--:|--:|--:|--:|\n\
             | training step | ours | 160 |  | 144–176 | 200 |\n\
             |  | PyTorch | 200 | 0.800 | 180–220 |  |\n"
        );
        assert_eq!(
            named("targets"),
            "| work | compared with | at most | measured | |\n|---|---|--:|--:|---|\n\
             | training step | PyTorch | 0.800 | 0.800 | met |\n\
             | training step | PyTorch, compiled | 0.800 | not measured |  |\n\
             | training step |  | 15.0 ms | 160 ms | missed |\n"
        );
        let machine = named("machine");
        assert!(machine.contains("| processor | a processor |\n"), "{machine}");
        assert!(machine.contains("| PyTorch | 2.13.0 |\n"), "{machine}");
        assert!(!machine.contains("card"), "{machine}");
    }

    #[test]
    fn the_terminal_is_told_what_was_left_out() {
        let said = lines(&results()["works"][1]);
        assert!(said.starts_with("training step\n  ours  "), "{said}");
        assert!(said.contains("200 ms per step   ours / it: 0.800\n"), "{said}");
        assert!(said.contains("left out: it was not built\n"), "{said}");
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.012345, 0.5, 12.34, 123.4, 1234.0].map(significant);
        assert_eq!(shown, ["0.0123", "0.500", "12.3", "123", "1234"]);
        assert_eq!(significant(0.0), "0.000000000");
    }

    #[test]
    fn a_length_is_a_point() {
        let figures = figures(&results());
        let [(name, chart)] = &figures[..] else { panic!("{figures:?}") };
        assert_eq!(name, "attention");
        let [ours, theirs] = list(&chart["series"]) else { panic!("{chart}") };
        assert_eq!(ours["points"], json!([[64.0, 0.12]]));
        assert_eq!(theirs["name"], "PyTorch, fused");
    }

    /// The tables and figures of the book are those of the saved results.
    #[test]
    fn the_books_tables_are_what_the_results_say() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for device in ["", "_cuda"] {
            let name = format!("appendix_measured{device}");
            let saved =
                std::fs::read_to_string(root.join(format!("figures/{name}.json")));
            let results = saved.map(|saved| serde_json::from_str(&saved).unwrap());
            let results = results.unwrap_or(json!({})); // not measured yet: then there must be no table either
            let tables =
                if results["works"].is_null() { Vec::new() } else { tables(&results) };
            for (group, chart) in figures(&results) {
                let path = root.join(format!("figures/{name}_{group}.json"));
                let saved: Value =
                    serde_json::from_str(&std::fs::read_to_string(path).unwrap())
                        .unwrap();
                assert_eq!(saved["series"], chart["series"], "{group}");
            }
            let mut expected: Vec<String> =
                tables.iter().map(|(group, _)| format!("{name}_{group}.md")).collect();
            let folder = root.join("book/output");
            for (group, table) in tables {
                let page = folder.join(format!("{name}_{group}.md"));
                assert_eq!(std::fs::read_to_string(&page).ok(), Some(table), "{group}");
            }
            let entries = std::fs::read_dir(&folder).unwrap().flatten();
            let mut found: Vec<String> = entries
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|file| file.starts_with(&name) && file.ends_with(".md"))
                .filter(|file| device == "_cuda" || !file.contains("_cuda"))
                .collect();
            found.sort();
            expected.sort();
            assert_eq!(found, expected);
        }
    }
}
