//! Every figure is drawn from its data, and the data is what the programs compute today.
//!
//! `cargo xtask figures` draws them anew. What takes minutes to measure is only drawn here.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{files, root, run, stem, update, written};
use self_attention::visualization::Chart;
use serde_json::Value;

/// How much a number may differ between machines, relative to the larger of the two, or to one if both are smaller.
const TOLERANCE: f64 = 1e-3;

/// What is made by a command of its own: `SAVE_FIGURE=1 cargo bench --bench attention`, or `loader`.
const MEASURED: [&str; 2] = ["ch03_loader", "ch04_cost"];

/// What differs between two JSON values, if anything does: the first place, and both sides.
fn difference(saved: &Value, fresh: &Value, place: &str) -> Option<String> {
    let differs = || Some(format!("{place}: {saved} is saved and {fresh} is computed"));
    match (saved, fresh) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            if (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0) {
                None
            } else {
                differs()
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(i, (a, b))| difference(a, b, &format!("{place}[{i}]"))),
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => a
            .iter()
            .find_map(|(key, a)| difference(a, &b[key], &format!("{place}.{key}"))),
        (a, b) if a == b => None,
        _ => differs(),
    }
}

/// What no picture shows as it is: the results of `cargo xtask compare`.
const RESULTS: [&str; 2] = ["appendix_measured", "appendix_measured_cuda"];

/// The data of pictures in a folder.
fn data(folder: &Path) -> Vec<PathBuf> {
    let mut paths = files(folder, "json");
    paths.retain(|path| !RESULTS.contains(&stem(path)));
    paths
}

/// What is wrong with the figures of `folder`: a picture that its data would not give, or one without the other.
fn stale_pictures(folder: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for path in data(folder) {
        let name = stem(&path);
        let drawn = Chart::load(&path).and_then(|chart| chart.to_svg()).unwrap();
        match fs::read_to_string(path.with_extension("svg")) {
            Ok(saved) if saved == drawn => {}
            Ok(_) => problems.push(format!("{name}.svg is not what {name}.json draws")),
            Err(_) => problems.push(format!("{name}.json has no picture")),
        }
    }
    for path in files(folder, "svg") {
        if !path.with_extension("json").exists() {
            problems.push(format!("{}.svg has no data", stem(&path)));
        }
    }
    problems
}

/// What is wrong with which figures the pages show: `shown` that are not there, and some that nobody shows.
fn unused_figures(folder: &Path, shown: &BTreeSet<String>) -> Vec<String> {
    let there: BTreeSet<String> =
        files(folder, "svg").iter().map(|path| stem(path).to_owned()).collect();
    let missing = shown
        .difference(&there)
        .map(|name| format!("{name}.svg is shown and does not exist"));
    let unused = there
        .difference(shown)
        .map(|name| format!("{name}.svg is not shown on any page"));
    missing.chain(unused).collect()
}

/// The figures that the pages and the README show.
fn shown() -> BTreeSet<String> {
    let figure = regex::Regex::new(r"figures/([a-z0-9_]+)\.svg").unwrap();
    let mut pages = files(&root().join("book"), "md");
    pages.push(root().join("README.md"));
    let texts = pages.iter().map(|page| fs::read_to_string(page).unwrap());
    texts
        .flat_map(|text| {
            figure
                .captures_iter(&text)
                .map(|found| found[1].to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn programs_compute_the_data_that_is_saved() {
    let mut made: BTreeSet<String> = MEASURED.map(str::to_owned).into();
    for chapter in written() {
        let fresh = tempfile::tempdir().unwrap();
        run(chapter, &["--figures", fresh.path().to_str().unwrap()]);
        for path in files(fresh.path(), "json") {
            made.insert(stem(&path).to_owned());
            let saved = root().join("figures").join(path.file_name().unwrap());
            if update() {
                Chart::load(&path)
                    .unwrap()
                    .save(root().join("figures"), stem(&path))
                    .unwrap();
            }
            let [saved, computed] = [&saved, &path].map(|path| {
                let text = fs::read_to_string(path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                serde_json::from_str(&text).unwrap()
            });
            assert_eq!(
                difference(&saved, &computed, stem(&path)),
                None,
                "run `cargo xtask figures`"
            );
        }
    }
    let saved = data(&root().join("figures"));
    let saved: BTreeSet<String> = saved
        .iter()
        .map(|path| stem(path).to_owned())
        .filter(|name| !name.starts_with(RESULTS[0])) // those are measured
        .collect();
    assert_eq!(saved, made, "a figure that no program makes, or one that was not saved");
}

#[test]
fn the_explorer_shows_what_the_model_looks_at_today() {
    let fresh = tempfile::tempdir().unwrap();
    let fresh = fresh.path().join("words.json");
    let chapter = written().find(|chapter| chapter.slug == "ch10_visualization").unwrap();
    run(chapter, &["--explorer", fresh.to_str().unwrap()]);
    let saved = root().join("figures/ch10_explorer/words.json");
    if update() {
        fs::create_dir_all(saved.parent().unwrap()).unwrap();
        fs::copy(&fresh, &saved).unwrap();
    }
    let [saved, fresh] = [saved, fresh].map(|path| {
        serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap()
    });
    assert_eq!(difference(&saved, &fresh, "explorer"), None, "run `cargo xtask figures`");
}

#[test]
fn pictures_are_drawn_from_their_data() {
    let folder = root().join("figures");
    if update() {
        for path in data(&folder) {
            Chart::load(&path).unwrap().save(&folder, stem(&path)).unwrap();
        }
    }
    assert_eq!(
        stale_pictures(&folder),
        Vec::<String>::new(),
        "run `cargo xtask figures`"
    );
}

#[test]
fn every_figure_is_shown_and_every_figure_shown_exists() {
    assert_eq!(unused_figures(&root().join("figures"), &shown()), Vec::<String>::new());
}

#[test]
fn a_stale_figure_fails() {
    let folder = tempfile::tempdir().unwrap();
    let chart = Chart::load(root().join("figures/ch04_tough.json")).unwrap();
    chart.save(folder.path(), "fresh").unwrap();
    chart.save(folder.path(), "stale").unwrap();
    assert_eq!(stale_pictures(folder.path()), Vec::<String>::new());
    let picture = folder.path().join("stale.svg");
    fs::write(&picture, fs::read_to_string(&picture).unwrap().replace("0.83", "0.84"))
        .unwrap();
    fs::remove_file(folder.path().join("fresh.json")).unwrap();
    assert_eq!(
        stale_pictures(folder.path()),
        ["stale.svg is not what stale.json draws", "fresh.svg has no data"]
    );

    let saved: Value = serde_json::from_str(&chart.to_json().unwrap()).unwrap();
    let mut computed = saved.clone();
    computed["values"][3][4] = 0.9.into();
    let difference = difference(&saved, &computed, "tough").unwrap();
    assert!(difference.starts_with("tough.values[3][4]: 0.83"), "{difference}");
}

#[test]
fn an_unused_figure_fails() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("orphan.svg"), "<svg/>").unwrap();
    assert_eq!(
        unused_figures(folder.path(), &BTreeSet::from(["gone".to_owned()])),
        ["gone.svg is shown and does not exist", "orphan.svg is not shown on any page"]
    );
}
