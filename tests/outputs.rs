//! What the programs print is what the book says they print.
//!
//! A program marks its output with lines `== name ==`; what follows such a line is compared with
//! `book/output/<slug>_<name>.txt`. `cargo xtask figures` writes these files anew.

mod common;

use std::collections::BTreeSet;

use common::{files, root, run, stem, written};
use expect_test::expect_file;

/// The marked sections of a program's output: name and text.
fn sections(output: &str) -> Vec<(&str, String)> {
    let mut sections: Vec<(&str, String)> = Vec::new();
    for line in output.lines() {
        match line.strip_prefix("== ").and_then(|line| line.strip_suffix(" ==")) {
            Some(name) => sections.push((name, String::new())),
            None => match sections.last_mut() {
                Some((_, text)) => text.push_str(&format!("{line}\n")),
                None => {
                    assert!(line.is_empty(), "printed before the first section: {line}")
                }
            },
        }
    }
    sections
        .into_iter()
        .map(|(name, text)| (name, format!("{}\n", text.trim_end())))
        .collect()
}

#[test]
fn programs_print_what_the_book_shows() {
    let mut printed = BTreeSet::new();
    for chapter in written() {
        let output = String::from_utf8(run(chapter, &[]).stdout).unwrap();
        for (name, text) in sections(&output) {
            let name = format!("{}_{name}", chapter.slug);
            expect_file![root().join(format!("book/output/{name}.txt"))].assert_eq(&text);
            printed.insert(name);
        }
    }
    for path in files(&root().join("book/output"), "txt") {
        assert!(
            printed.contains(stem(&path)),
            "{}: no program prints this; delete it",
            path.display()
        );
    }
}

#[test]
fn a_stale_output_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stale.txt");
    std::fs::write(&path, "0.8338\n").unwrap();
    let compared = std::panic::catch_unwind(|| expect_file![&path].assert_eq("0.8339\n"));
    // Under `cargo xtask figures` the file is replaced instead.
    assert_eq!(compared.is_err(), !common::update());
}
