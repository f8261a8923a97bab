//! The steps of set-up. Each finds out first whether there is anything to do.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::libtorch::{self, Flavour, VERSION};
use crate::places::{Places, variable};
use crate::process;
use crate::tools;

/// What building this project leaves in `target/`, in bytes.
const TARGET: u64 = 4_000_000_000;

/// What set-up found or brought.
pub struct Tools {
    pub mdbook: PathBuf,
}

/// Sets up everything that the other commands need, and says what it found.
pub fn run(places: &Places, asked: Option<Flavour>) -> Result<Tools> {
    // What the user has to cure comes first: nobody should wait for a download to be told of a missing compiler.
    let compiler = tools::compiler()?;
    report("C++ compiler", &compiler);
    if !places.has_built_tch() {
        let cure = "Make room, or put what is built on another disk with the variable CARGO_TARGET_DIR.";
        tools::need_space(&places.root, TARGET, "what cargo builds", cure)?;
    }

    let libtorch = libtorch::obtain(places, asked)?;
    if libtorch::link(places, &libtorch)? && places.has_built_tch() {
        // What is linked was decided when these were built.
        process::follow(places.cargo().args([
            "clean",
            "--quiet",
            "--package",
            "torch-sys",
            "--package",
            "self-attention",
        ]))?;
    }
    let flavour = if libtorch::has_cuda(&libtorch) { "CUDA" } else { "CPU" };
    report(&format!("libtorch {VERSION}"), &format!("{flavour}, {}", libtorch.display()));

    let mdbook = tools::mdbook(places)?;
    report(
        &format!("mdbook {}", tools::mdbook_version(&mdbook).unwrap_or_default()),
        &mdbook.display().to_string(),
    );
    if let Some(folder) =
        mdbook.parent().filter(|_| mdbook.is_absolute() && !is_on_path(&mdbook))
    {
        println!(
            "  for the plain `mdbook serve`, put {} first on the PATH",
            folder.display()
        );
    }
    Ok(Tools { mdbook })
}

/// Finds or brings a browser for the tests of the pages; without one, they are left out.
pub fn browser() {
    match tools::browser() {
        Some(browser) => report("browser", &browser.display().to_string()),
        None => report(
            "browser",
            "none: install a Chrome, Chromium or Edge, or name one with CHROME, to have the pages tested in it",
        ),
    }
}

fn report(what: &str, found: &str) {
    println!("{what:<16} {found}");
}

/// Whether `mdbook` alone starts this one.
fn is_on_path(mdbook: &Path) -> bool {
    let path = variable("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("mdbook"))
        .find(|found| found.exists());
    found.as_deref() == Some(mdbook)
}
