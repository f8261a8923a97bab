//! The pages of the book with everything they include in place, and what is wrong with them.
//!
//! mdBook leaves an empty block where an anchor is missing and goes on. This file is why that does not pass: the build
//! script tests what it expands, and `tests/book.rs` fails on what it finds wrong.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use mdbook_driver::builtin_renderers::MarkdownRenderer;
use mdbook_driver::config::Config;
use mdbook_driver::MDBook;
use regex::Regex;

/// A page as its reader gets it.
pub struct Page {
    /// The file's name without `.md`.
    pub name: String,
    /// The Markdown, with every include replaced by what it names.
    pub text: String,
}

/// All pages of the book in the order of the summary, with their includes in place.
///
/// Formulas stay as they are written: the preprocessor that turns them is not needed here.
pub fn expand(root: &Path) -> Result<Vec<Page>, Box<dyn Error>> {
    let mut config = Config::from_disk(root.join("book.toml"))?;
    config.set("preprocessor", serde_json::json!({}))?;
    let book = MDBook::load_with_config(root, config)?;
    let (book, _) = book.preprocess_book(&MarkdownRenderer::new())?;
    let page = |chapter: &mdbook_driver::book::Chapter| {
        let name = chapter.source_path.as_ref()?.file_stem()?.to_str()?.to_owned();
        Some(Page { name, text: chapter.content.clone() })
    };
    Ok(book.chapters().filter_map(page).collect())
}

static INCLUDE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"\{\{#(?:rustdoc_)?include ([^}:]+)(?::([a-z0-9_]+))?\}\}")
});
static EMPTY_FENCE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^```[^`\n]+\n\s*```$"));

#[allow(clippy::expect_used)] // the patterns are constants of this file
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

/// Everything wrong with the includes of the book, a line each: files and anchors that are not there, directives that
/// were not understood, and blocks that came out empty.
#[allow(dead_code)] // the build script expands, the tests judge
pub fn problems(root: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut problems = Vec::new();
    for Page { name, text } in expand(root)? {
        let folder = root.join("book");
        for include in
            INCLUDE.captures_iter(&fs::read_to_string(folder.join(format!("{name}.md")))?)
        {
            let Ok(included) = fs::read_to_string(folder.join(&include[1])) else {
                problems
                    .push(format!("{name}.md: {}: there is no such file", &include[0]));
                continue;
            };
            if let Some(anchor) = include.get(2).map(|anchor| anchor.as_str()) {
                let stands = |mark: &str| {
                    included.lines().any(|line| {
                        let line = line.trim_end().trim_end_matches(" -->"); // in a page it is a comment
                        line.ends_with(&format!("{mark}: {anchor}"))
                    })
                };
                if !stands("ANCHOR") || !stands("ANCHOR_END") {
                    problems.push(format!(
                        "{name}.md: {}: the file has no such anchor",
                        &include[0]
                    ));
                }
            }
        }
        if text.contains("{{#") {
            problems.push(format!("{name}.md: a directive `{{{{#…` was left as it is"));
        }
        for fence in EMPTY_FENCE.find_iter(&text) {
            let line = text[..fence.start()].lines().count() + 1;
            problems.push(format!(
                "{name}.md: the block at line {line} of the expanded page is empty"
            ));
        }
    }
    Ok(problems)
}
