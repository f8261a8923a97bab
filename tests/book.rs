//! The book is whole: what the registry of chapters promises stands on its pages, and nothing there leads nowhere.

#[path = "../build/pages.rs"]
mod pages;

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{files, root, stem, written};
use regex::Regex;
use self_attention::chapters::CHAPTERS;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::training::run::RunConfig;

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_summary_is_the_registry() {
    let expected: Vec<String> = CHAPTERS
        .iter()
        .map(|chapter| {
            let page = format!("{}.md", chapter.slug);
            let link = if root().join("book").join(&page).exists() {
                page
            } else {
                String::new()
            };
            format!("- [{}]({link})", chapter.title)
        })
        .collect();
    let summary = read(root().join("book/SUMMARY.md"));
    let listed: Vec<&str> =
        summary.lines().filter(|line| line.starts_with("- ")).collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_question_of_a_written_chapter_stands_once_word_for_word() {
    let heading = Regex::new(r"(?m)^## (Q\d+: .*)$").unwrap();
    for chapter in written() {
        let page = read(root().join("book").join(format!("{}.md", chapter.slug)));
        let found: Vec<&str> = heading
            .captures_iter(&page)
            .map(|found| found.get(1).unwrap().as_str())
            .collect();
        let expected: Vec<String> = chapter
            .numbered_questions()
            .map(|(number, question)| format!("Q{number}: {question} {{#q{number:02}}}"))
            .collect();
        assert_eq!(found, expected, "{}", chapter.slug);
        assert!(page.starts_with(&format!("# {}\n", chapter.title)), "{}", chapter.slug);
    }
    let numbers: Vec<usize> =
        CHAPTERS.iter().flat_map(|c| c.numbered_questions().map(|q| q.0)).collect();
    assert_eq!(numbers, (1..=34).collect::<Vec<_>>());
}

#[test]
fn every_include_finds_what_it_names_and_every_output_is_shown() {
    assert_eq!(pages::problems(root()).unwrap(), Vec::<String>::new());
    let texts: String = files(&root().join("book"), "md").iter().map(read).collect();
    for path in files(&root().join("book/output"), "txt") {
        let name = stem(&path);
        assert!(
            texts.contains(&format!("output/{name}.txt}}")),
            "{name}.txt is not shown on any page"
        );
    }
}

#[test]
fn a_vanished_anchor_fails() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("book.toml", "[book]\nsrc = \"book\"\n");
    write("book/SUMMARY.md", "- [Page](page.md)\n");
    write("src/lib.rs", "// ANCHOR: here\nfn here() {}\n// ANCHOR_END: here\n");
    let problems = |include: &str| {
        write("book/page.md", &format!("# Page\n\n```rust\n{include}\n```\n"));
        pages::problems(folder.path()).unwrap()
    };
    assert_eq!(problems("{{#include ../src/lib.rs:here}}"), Vec::<String>::new());
    let gone = problems("{{#include ../src/lib.rs:gone}}");
    assert_eq!(
        gone[0],
        "page.md: {{#include ../src/lib.rs:gone}}: the file has no such anchor"
    );
    assert_eq!(gone[1], "page.md: the block at line 3 of the expanded page is empty");
    let missing = problems("{{#include ../src/gone.rs}}");
    assert_eq!(missing[0], "page.md: {{#include ../src/gone.rs}}: there is no such file");
}

#[test]
fn chapter_2_says_what_every_dependency_is_for() {
    let manifest = read(root().join("Cargo.toml"));
    let page = read(root().join("book/ch02_environment.md"));
    let sections =
        manifest.split("\n[").filter(|section| section.contains("dependencies]"));
    let lines: Vec<&str> = sections.flat_map(|section| section.lines().skip(1)).collect();
    let named: Vec<_> = lines.iter().filter_map(|line| line.split_once(" = ")).collect();
    assert!(named.len() > 20, "{named:?}");
    for (package, _) in named {
        assert!(page.contains(&format!("`{package}`")), "{package} is not on the page");
    }
}

#[test]
fn the_runs_of_chapter_8_were_made_by_the_commands_on_its_page() {
    let page = read(root().join("book/ch08_training.md"));
    let common = Regex::new(r#"--bin train -- --quick (.+) "\$@""#).unwrap();
    let common = &common.captures(&page).unwrap()[1];
    let flag = Regex::new(r"--([a-z-]+) ([0-9.]+)").unwrap();
    for name in ["good", "high", "low", "overfit"] {
        let ending = format!(" --folder runs/{name}");
        let command = page.lines().rfind(|line| line.ends_with(&ending)).unwrap();
        let quick = RunConfig::quick(&Vocabulary::new());
        let mut expected = serde_json::to_value(quick).unwrap();
        for flag in flag.captures_iter(&format!("{common} {command}")) {
            let setting = flag[1].replace('-', "_");
            let part = if setting == "words" { "data" } else { "training" };
            expected[part][&setting] = serde_json::from_str(&flag[2]).unwrap();
        }
        let path = root().join(format!("figures/ch08_runs/{name}.json"));
        let config: serde_json::Value = serde_json::from_str(&read(path)).unwrap();
        assert_eq!(config, expected, "{name}");
    }
}

/// The numbers in a text that have two decimals or more, with how many they have.
fn decimals(text: &str) -> Vec<(f64, i32)> {
    let number = Regex::new(r"\d+\.(\d{2,})").unwrap();
    number
        .captures_iter(text)
        .map(|found| (found[0].parse().unwrap(), found[1].len() as i32))
        .collect()
}

/// The prose of a page: no code, no formulas, no HTML tags, no links, no versions.
fn prose(page: &str) -> String {
    [
        r"(?ms)^```.*?^```",
        r"(?s)\$\$.*?\$\$",
        r"\$[^$\n]+\$",
        r"<[^>]+>",
        r"\]\([^)]*\)",
        r"(?:PyTorch|libtorch|Rust|mdBook) [\d.]+",
    ]
    .iter()
    .fold(page.to_owned(), |text, pattern| {
        Regex::new(pattern).unwrap().replace_all(&text, "").into_owned()
    })
}

/// The numbers of a page's prose that no saved file holds.
fn unsupported(page: &str, saved: &[(f64, i32)]) -> Vec<String> {
    decimals(&prose(page))
        .into_iter()
        .filter(|(number, places)| {
            let unit = 10f64.powi(-places);
            !saved
                .iter()
                .any(|(value, _)| (value - number).abs() <= unit / 2.0 * (1.0 + 1e-9))
        })
        .map(|(number, places)| format!("{number:.*}", places as usize))
        .collect()
}

#[test]
fn every_number_in_the_prose_is_in_a_file() {
    for chapter in written() {
        let number = format!("ch{:02}_", chapter.number());
        let saved: String = [("book/output", "txt"), ("figures", "json")]
            .iter()
            .flat_map(|(folder, ending)| files(&root().join(folder), ending))
            .filter(|path| stem(path).starts_with(&number))
            .map(read)
            .collect();
        let page = read(root().join("book").join(format!("{}.md", chapter.slug)));
        assert_eq!(
            unsupported(&page, &decimals(&saved)),
            Vec::<String>::new(),
            "{}",
            chapter.slug
        );
    }
}

#[test]
fn a_number_that_no_file_holds_fails() {
    let saved = decimals("weight  0.8339\n");
    assert_eq!(
        unsupported("It gets 0.83 of it, or 0.8339.\n```\n0.99\n```\n", &saved),
        Vec::<String>::new()
    );
    assert_eq!(unsupported("It gets 0.84 of it.\n", &saved), ["0.84"]);
}

/// A page of the finished book may weigh this much, with everything in it.
const HEAVIEST_PAGE: u64 = 600_000;

#[test]
fn the_finished_book_is_light_complete_and_alone() {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let built =
        Command::new(cargo).args(["xtask", "book"]).current_dir(root()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let pages: BTreeMap<String, String> = files(&root().join("target/book"), "html")
        .into_iter()
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(path)))
        .collect();
    let fetched =
        Regex::new(r#"(?:src|srcset|data)="(?:https?:)?//|<link[^>]+href="(?:https?:)?//|url\(["']?https?:"#)
            .unwrap();
    let link = Regex::new(r#"<a[^>]* href="([^"]+)""#).unwrap();
    for (name, html) in &pages {
        assert!(
            html.len() as u64 <= HEAVIEST_PAGE || name == "print.html",
            "{name} has {} bytes",
            html.len()
        );
        assert!(
            !fetched.is_match(html),
            "{name} asks another host: {:?}",
            fetched.find(html)
        );
        for target in link.captures_iter(html).map(|found| found.get(1).unwrap().as_str())
        {
            let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
            if page.contains("://") || page.starts_with("mailto:") || target == "#" {
                continue;
            }
            let page = if page.is_empty() { name } else { page };
            let Some(there) = pages.get(page) else {
                assert!(
                    root().join("target/book").join(page).exists(),
                    "{name} links to {page}, which is not there"
                );
                continue;
            };
            let found = anchor.is_empty() || there.contains(&format!("id=\"{anchor}\""));
            assert!(found, "{name} links to {target}, and {page} has no such place");
        }
    }
    for chapter in written() {
        assert!(
            pages.contains_key(&format!("{}.html", chapter.slug)),
            "{} was not built",
            chapter.slug
        );
    }
}
