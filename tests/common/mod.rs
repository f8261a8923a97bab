//! What the tests of the book share: where things are, and the programs of the chapters that are written.

#![allow(dead_code)] // each test uses a part of it

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use self_attention::chapters::{Chapter, CHAPTERS};

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the saved results shall be replaced instead of compared: `cargo xtask figures` sets this.
pub fn update() -> bool {
    env::var_os("UPDATE_EXPECT").is_some_and(|value| value != "0")
}

/// The chapters whose page is written. The others stand in the summary as drafts.
pub fn written() -> impl Iterator<Item = &'static Chapter> {
    CHAPTERS.iter().filter(|chapter| {
        root().join("book").join(format!("{}.md", chapter.slug)).exists()
    })
}

/// Runs the program of a chapter and expects it to succeed.
pub fn run(chapter: &Chapter, arguments: &[&str]) -> Output {
    let program = assert_cmd::cargo::cargo_bin(chapter.slug);
    let output = Command::new(&program).args(arguments).current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(
        output.status.success(),
        "{} {arguments:?} failed:\n{}",
        chapter.slug,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The files of a folder with one ending, by name.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files
}

/// A file's name without its ending.
pub fn stem(path: &Path) -> &str {
    path.file_stem().unwrap().to_str().unwrap()
}
