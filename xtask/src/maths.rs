//! The mdBook preprocessor `maths`: LaTeX between `$` or `$$` becomes MathML while the book is built.
//!
//! The pages then show formulas without a script, a font or a network. The Markdown is read by the parser that
//! mdBook itself uses, so code, HTML and escaped dollars stay as they are.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use pulldown_latex::config::{DisplayMode, RenderConfig};
use pulldown_latex::{Parser as LatexParser, Storage, push_mathml};
use serde_json::Value;

use crate::error::{Error, Result};

/// Answers mdBook: takes `[context, book]` as JSON, gives the book with every formula translated.
pub fn preprocess(input: &str) -> Result<String> {
    let request: Value = serde_json::from_str(input)
        .map_err(|source| Error::Preprocessor(source.to_string()))?;
    let Value::Array(request) = request else { return Err(not_a_request()) };
    let Ok([_context, mut book]) = <[Value; 2]>::try_from(request) else {
        return Err(not_a_request());
    };
    translate_items(&mut book["items"])?;
    Ok(book.to_string())
}

fn not_a_request() -> Error {
    Error::Preprocessor("expected the pair [context, book]".to_string())
}

/// Translates the chapters of a list of book items, and the chapters below them.
fn translate_items(items: &mut Value) -> Result<()> {
    for item in items.as_array_mut().into_iter().flatten() {
        let Some(chapter) = item.get_mut("Chapter") else { continue };
        let name = chapter["path"]
            .as_str()
            .or(chapter["name"].as_str())
            .unwrap_or("a chapter")
            .to_string();
        if let Value::String(content) = &mut chapter["content"] {
            *content = translate(&name, content)?;
        }
        translate_items(&mut chapter["sub_items"])?;
    }
    Ok(())
}

/// The chapter's Markdown with every formula replaced by MathML.
fn translate(chapter: &str, markdown: &str) -> Result<String> {
    let mut translated = String::with_capacity(markdown.len());
    let mut copied = 0; // how much of the Markdown is already in `translated`
    let mut in_code = false;
    for (event, range) in Parser::new_ext(markdown, markdown_options()).into_offset_iter()
    {
        let (latex, mode) = match event {
            Event::InlineMath(latex) => (latex, DisplayMode::Inline),
            Event::DisplayMath(latex) => (latex, DisplayMode::Block),
            Event::Start(Tag::CodeBlock(_)) => {
                in_code = true;
                continue;
            }
            Event::End(TagEnd::CodeBlock) => {
                in_code = false;
                continue;
            }
            Event::Text(_) if !in_code => {
                if let Some(dollar) = lone_dollar(markdown, range) {
                    return Err(Error::LoneDollar {
                        chapter: chapter.to_string(),
                        line: line_at(markdown, dollar),
                        text: text_at(markdown, dollar),
                    });
                }
                continue;
            }
            _ => continue,
        };
        let mathml = mathml(&latex, mode).map_err(|reason| Error::Formula {
            chapter: chapter.to_string(),
            line: line_at(markdown, range.start),
            formula: latex.trim().to_string(),
            reason,
        })?;
        translated.push_str(&markdown[copied..range.start]);
        translated.push_str(&mathml);
        if markdown[range.end..].starts_with([',', '.', ';', ':', '!', '?', ')', '’']) {
            translated.push_str("&#8288;"); // a word joiner: no line begins with a comma
        }
        copied = range.end;
    }
    translated.push_str(&markdown[copied..]);
    Ok(translated)
}

/// What mdBook switches on, and mathematics.
fn markdown_options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_GFM
        | Options::ENABLE_MATH
}

/// One formula as MathML on one line, safe to stand in the middle of Markdown.
fn mathml(latex: &str, display_mode: DisplayMode) -> std::result::Result<String, String> {
    let storage = Storage::new();
    // The renderer would draw a mistake in red and go on; the book's build has to stop instead.
    let events: Vec<_> = LatexParser::new(latex, &storage)
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let mut mathml = String::new();
    let config = RenderConfig { display_mode, ..RenderConfig::default() };
    push_mathml(
        &mut mathml,
        events.into_iter().map(Ok::<_, std::convert::Infallible>),
        config,
    )
    .map_err(|e| e.to_string())?;
    Ok(shield(&mathml))
}

/// Hides a formula's text from Markdown: `*`, `_`, `'` and their like become character references, and line ends
/// blanks. Tags need no such care, Markdown leaves them alone.
fn shield(mathml: &str) -> String {
    let mut shielded = String::with_capacity(mathml.len());
    let mut in_tag = false;
    let mut in_reference = false;
    for c in mathml.chars() {
        match c {
            '\n' | '\r' => {
                shielded.push(' ');
                continue;
            }
            '<' => in_tag = true,
            '>' => in_tag = false,
            // pulldown-latex writes \mu as the sign for "micro", which no mathematical font has in italics.
            '\u{b5}' => {
                shielded.push('\u{3bc}');
                continue;
            }
            '&' => in_reference = true,
            ';' if in_reference => in_reference = false,
            _ if c.is_ascii_punctuation() && !in_tag && !in_reference => {
                shielded.push_str(&format!("&#{};", u32::from(c)));
                continue;
            }
            _ => {}
        }
        shielded.push(c);
    }
    shielded
}

/// Where a `$` stands in a piece of text that neither opens nor closes a formula and is not escaped.
fn lone_dollar(markdown: &str, range: std::ops::Range<usize>) -> Option<usize> {
    let dollars =
        markdown[range.clone()].match_indices('$').map(|(at, _)| range.start + at);
    dollars.into_iter().find(|&at| !markdown[..at].ends_with('\\'))
}

fn line_at(markdown: &str, position: usize) -> usize {
    markdown[..position].matches('\n').count() + 1
}

fn text_at(markdown: &str, position: usize) -> String {
    markdown[position..].lines().next().unwrap_or_default().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(latex: &str) -> String {
        mathml(latex, DisplayMode::Block).unwrap()
    }

    #[test]
    fn what_the_book_writes_is_understood() {
        for latex in [
            r"\operatorname{Attention}(Q, K, V) = \operatorname{softmax}\left(\frac{QK^\top}{\sqrt{D}}\right) V",
            r"x \in \mathbb{R}^{B \times T \times E}",
            r"\begin{bmatrix} 1 & 0 \\ 0.5 & -1 \end{bmatrix}",
            r"\sum_{j=1}^{S} \alpha_{ij} = 1",
            r"\begin{aligned} a &= b + c \\ &= d \end{aligned}",
            r"w_{ij} = \text{softmax over } j",
            r"\underbrace{QK^\top}_{T \times S}",
            r"-\infty \le \max_j s_{ij} < \exp(x) \cdot \hat{y} \approx \lVert x \rVert_2",
            r"\begin{cases} 0 & \text{if } j > i \\ 1 & \text{otherwise} \end{cases}",
            r"\mathcal{L} = -\frac{1}{N} \sum_{n} \log p_\theta(y_n \mid x_n)",
        ] {
            let mathml = block(latex);
            assert!(mathml.starts_with("<math"), "{latex}: {mathml}");
            assert!(mathml.ends_with("</math>"), "{latex}: {mathml}");
            assert!(!mathml.contains('\n'), "{latex}: {mathml}");
            assert!(!mathml.contains("merror"), "{latex}: {mathml}");
        }
    }

    #[test]
    fn the_pieces_become_the_elements_they_should() {
        assert!(block(r"\frac{a}{b}").contains("<mfrac>"));
        assert!(block(r"\sqrt{D}").contains("<msqrt>"));
        assert!(block(r"\mathbb{R}").contains('ℝ'));
        assert!(block(r"\operatorname{softmax}(x)").contains("softmax"));
        assert!(block(r"K^\top").contains('⊤'));
        assert!(block(r"a \in b \times c").contains('×'));
        assert!(
            block(r"\begin{bmatrix} a & b \\ c & d \end{bmatrix}")
                .matches("<mtr>")
                .count()
                == 2
        );
        assert!(
            block(r"\begin{aligned} a &= b \\ &= c \end{aligned}")
                .matches("<mtr>")
                .count()
                == 2
        );
        assert!(block(r"\underbrace{a + b}_{n}").contains("<munder"));
        assert!(block(r"\text{if } x").contains("<mtext"));
        assert!(block(r"\mu").contains('\u{3bc}'));
    }

    #[test]
    fn code_html_and_escaped_dollars_are_left_alone() {
        let markdown = "`$x$` and \\$5\n\n```sh\necho $HOME $x$\n```\n\n    indented $x$\n\n<div title=\"$x$\">\n$y$\n</div>\n";
        assert_eq!(translate("ch01.md", markdown).unwrap(), markdown);
    }

    #[test]
    fn formulas_are_replaced_where_they_stand() {
        let page = translate(
            "ch01.md",
            "Let $a$ be, and\n\n$$\n\\frac{a}{b}\n$$\n\n> quoted $c$ here\n",
        )
        .unwrap();
        assert!(page.starts_with("Let <math"), "{page}");
        assert!(page.contains("</math> be, and\n\n<math display=\"block\""), "{page}");
        assert!(page.contains("</math>\n\n> quoted <math"), "{page}");
        assert!(page.ends_with("</math> here\n"), "{page}");
        assert!(!page.contains('$'), "{page}");
    }

    #[test]
    fn no_line_may_break_between_a_formula_and_a_comma() {
        assert!(
            translate("ch01.md", "for $x$, and")
                .unwrap()
                .ends_with("</math>&#8288;, and")
        );
    }

    #[test]
    fn markdown_finds_nothing_to_do_in_a_formula() {
        let page =
            translate("ch01.md", "$a * b * c'$ and $x_1 * y_1$, $[a](b)$").unwrap();
        let inside: Vec<_> = Parser::new_ext(&page, markdown_options())
            .filter(|e| matches!(e, Event::Start(Tag::Emphasis | Tag::Link { .. })))
            .collect();
        assert!(inside.is_empty(), "{inside:?} in {page}");
    }

    #[test]
    fn a_mistake_names_the_chapter_the_line_the_formula_and_the_reason() {
        let error =
            translate("ch04.md", "text\n\nand $\\frac{a}{$\n").unwrap_err().to_string();
        assert!(error.contains("ch04.md, line 3"), "{error}");
        assert!(error.contains(r"\frac{a}{"), "{error}");
        let error = translate("ch04.md", "$\\nosuchcommand{x}$").unwrap_err().to_string();
        assert!(error.contains("nosuchcommand"), "{error}");
    }

    #[test]
    fn a_dollar_that_opens_nothing_is_a_mistake() {
        let error = translate("ch04.md", "see $ x$ there").unwrap_err().to_string();
        assert!(error.contains("ch04.md, line 1"), "{error}");
        assert!(error.contains("$ x$ there"), "{error}");
    }

    #[test]
    fn every_chapter_is_reached_however_deep() {
        let book = |content: &str| {
            serde_json::json!([{}, {"items": [
                "Separator",
                {"PartTitle": "$not a chapter$"},
                {"Chapter": {"name": "A", "content": content, "path": "a.md", "sub_items": [
                    {"Chapter": {"name": "B", "content": content, "path": null, "sub_items": []}}
                ]}}
            ]}])
            .to_string()
        };
        let answer: Value =
            serde_json::from_str(&preprocess(&book("$x$")).unwrap()).unwrap();
        let outer = &answer["items"][2]["Chapter"];
        assert!(outer["content"].as_str().unwrap().starts_with("<math"));
        assert!(
            outer["sub_items"][0]["Chapter"]["content"]
                .as_str()
                .unwrap()
                .starts_with("<math")
        );
        assert_eq!(answer["items"][1]["PartTitle"], "$not a chapter$");
        assert!(preprocess("{}").is_err());
        assert!(preprocess("[").is_err());
    }
}
