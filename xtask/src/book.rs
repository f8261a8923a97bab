//! Building the book, and refusing one with faults that mdBook lets pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result, file};
use crate::places::Places;
use crate::process;

/// Builds the book into `target/book`.
pub fn build(places: &Places, mdbook: &Path) -> Result<()> {
    let mut build = Command::new(mdbook);
    build.arg("build").current_dir(&places.root).stdout(Stdio::null());
    let (status, said) = process::watch(&mut build)?;
    let mut faults = complaints(&said);
    if !status.success() && faults.is_empty() {
        faults.push(format!("mdbook ended with {status}"));
    }
    let built = places.root.join("target/book");
    if faults.is_empty() {
        for page in pages(&built)? {
            let html = fs::read_to_string(&page).map_err(file("reading", &page))?;
            let name = page.strip_prefix(&built).unwrap_or(&page).display();
            faults.extend(
                faults_of(&html).into_iter().map(|fault| format!("{name}: {fault}")),
            );
        }
    }
    if !faults.is_empty() {
        return Err(Error::Book { faults });
    }
    println!("{}", built.join("index.html").display());
    Ok(())
}

/// The warnings and errors among what mdBook printed. A missing include is one, and mdBook goes on.
fn complaints(said: &str) -> Vec<String> {
    let is_complaint = |line: &&str| {
        line.split_whitespace().take(3).any(|word| word == "WARN" || word == "ERROR")
    };
    said.lines().filter(is_complaint).map(|line| line.trim().to_string()).collect()
}

/// Every page, in every folder.
fn pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(file("reading", folder))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(pages(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "html") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// An include that stayed one, or a block of code with nothing to see.
fn faults_of(html: &str) -> Vec<String> {
    let left = html.match_indices("{{#").map(|(at, _)| {
        let text: String =
            html[at..].chars().take_while(|&c| c != '\n' && c != '<').take(60).collect();
        format!("this was not expanded: {text}")
    });
    let empty = code_blocks(html).filter(|code| visible(code).trim().is_empty());
    left.chain(
        empty.map(|_| "a block of code is empty; does its anchor exist?".to_string()),
    )
    .collect()
}

/// What stands between `<code …>` and `</code>` of every block of code.
fn code_blocks(html: &str) -> impl Iterator<Item = &str> {
    html.split("<pre").skip(1).filter_map(|rest| {
        let code = rest.split_once("</pre>")?.0.split_once("<code")?.1;
        Some(code.split_once('>')?.1.split_once("</code>")?.0)
    })
}

/// A code block's text without its tags and hidden lines.
fn visible(code: &str) -> String {
    let mut text = String::new();
    let mut hidden = false;
    for piece in code.split('<') {
        let (tag, after) = piece.split_once('>').unwrap_or(("", piece));
        hidden = if tag.contains("boring") { true } else { hidden && tag != "/span" };
        if !hidden {
            text.push_str(after);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_pages_have_no_faults() {
        let html = "<pre><code class=\"language-rust\"><span class=\"boring\">fn main() {\n</span>let x = 1;\n\
                    <span class=\"boring\">}\n</span></code></pre><p><code>{{</code></p>";
        assert_eq!(faults_of(html), Vec::<String>::new());
    }

    #[test]
    fn an_include_that_stayed_and_a_block_without_code_are_faults() {
        assert_eq!(
            faults_of("<p>{{#include gone.rs}}</p>"),
            ["this was not expanded: {{#include gone.rs}}"]
        );
        assert_eq!(
            faults_of("<pre><code class=\"language-text\"></code></pre>").len(),
            1
        );
        let hidden = "<pre class=\"playground\"><code class=\"language-rust\"><span class=\"boring\">fn main() {}\n</span>\n</code></pre>";
        assert_eq!(faults_of(hidden).len(), 1);
    }

    #[test]
    fn warnings_and_errors_are_picked_out() {
        let said = " INFO Book building has started\n WARN missing anchor\nERROR no such file\n INFO about a WARNING\n";
        assert_eq!(complaints(said), ["WARN missing anchor", "ERROR no such file"]);
    }
}
