//! The explorer of chapter 10 and the model in the page, in a real browser.
//!
//! It is the Chrome, Chromium or Edge of the machine; the variable CHROME names another. Where there is none, the tests
//! say so and pass, but in CI they fail.

#[path = "../common/mod.rs"]
mod common;
mod devtools;
#[path = "../../xtask/src/browser.rs"]
mod find;
mod page;
mod server;

use std::fs;
use std::path::Path;

use common::root;
use page::{book, say, Page, Screen, DESKTOP, PHONE};
use self_attention::evaluation::decoding::greedy;
use self_attention::evaluation::pronouncer::Pronouncer;
use self_attention::prelude::*;
use self_attention::visualization::capture::Capture;
use serde::Deserialize;
use serde_json::json;

const CHAPTER: &str = "ch10_visualization.html";

/// How far a number in the page may be from the crate's.
const TOLERANCE: f64 = 1e-4;

/// How many words are compared, at least.
const WORDS: usize = 200;

/// What the page shows before the model is loaded.
#[derive(Deserialize)]
struct Explorer {
    bytes: u64,
    captures: Vec<Capture>,
}

fn explorer() -> Explorer {
    let path = root().join("figures/ch10_explorer/words.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn pronouncer() -> Pronouncer {
    tch::set_num_threads(1); // on a busy machine two would mostly wait for each other
    let path = root().join("models/pronouncer.safetensors");
    Pronouncer::load(&path, Device::Cpu).unwrap()
}

/// A radio button of the explorer, by its group and its place in it.
fn radio(group: &str, index: usize) -> String {
    format!(".explorer-{group} label:nth-of-type({})", index + 1)
}

/// Which one of a group is chosen.
fn chosen(page: &Page, group: &str) -> usize {
    let buttons = format!("[...document.querySelectorAll('.explorer-{group} input')]");
    let index = page.ask(&format!("{buttons}.findIndex((input) => input.checked)"));
    index.as_u64().unwrap() as usize
}

/// The sentence below the picture.
fn sentence(page: &Page) -> String {
    page.text("document.querySelector('.explorer-says').textContent")
}

/// The sentence that belongs to a capture, up to the strongest key.
fn expected_sentence(
    capture: &Capture,
    block: usize,
    head: usize,
    query: usize,
) -> String {
    let Capture { tokens, prefix, weights, .. } = capture;
    let row = &weights[block][head][query];
    let key =
        (0..row.len()).fold(0, |best, key| if row[key] > row[best] { key } else { best });
    let named = |index: usize| {
        let times = tokens.iter().filter(|token| **token == tokens[index]).count();
        if times > 1 {
            format!("{} ({})", tokens[index], index + 1)
        } else {
            tokens[index].clone()
        }
    };
    let next = tokens.get(query + 1).map_or("the end", String::as_str);
    let before =
        if query + 1 >= *prefix { format!(", before {next},") } else { String::new() };
    let (block, head) = (block + 1, head + 1);
    format!(
        "Block {block}, head {head}. {}{before} looks at {} ",
        named(query),
        named(key)
    )
}

#[test]
fn scripts_and_weights_keep_to_their_size_and_there_is_one_copy_of_the_model() {
    let size = |name: &str| fs::metadata(root().join(name)).unwrap().len();
    let scripts =
        ["explorer", "pronouncer"].map(|name| size(&format!("book/theme/{name}.js")));
    assert!(scripts.iter().sum::<u64>() < 40_000, "{scripts:?}");
    assert!(size("models/pronouncer.safetensors") < 4_000_000);
    assert_eq!(size("models/pronouncer.safetensors"), explorer().bytes);
    for ending in ["json", "safetensors"] {
        let link = root().join(format!("book/model/pronouncer.{ending}"));
        let there = Path::new("../../models/pronouncer").with_extension(ending);
        assert_eq!(fs::read_link(link).unwrap(), there);
    }
}

#[test]
fn a_browser_is_found_on_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a", "b"].map(|name| folder.path().join(name));
    let path = std::env::join_paths(&names).unwrap();
    assert_eq!(find::on_path(&path), None);
    names.iter().for_each(|name| fs::create_dir(name).unwrap());
    let program = |folder: usize, name: &str| {
        let file = names[folder].join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        fs::write(&file, "").unwrap();
        file
    };
    let edge = program(0, "microsoft-edge");
    assert_eq!(find::on_path(&path), Some(edge));
    let chromium = program(1, "chromium");
    assert_eq!(find::on_path(&path), Some(chromium));
}

#[test]
fn the_explorer_shows_the_weights_it_was_given() {
    let Some(page) = Page::open(CHAPTER, DESKTOP) else { return };
    let captures = explorer().captures;
    let start = captures[0].clearest_head();
    assert_eq!((chosen(&page, "blocks"), chosen(&page, "heads")), start);
    let query = captures[0].tokens.len() - 2;
    let expected = expected_sentence(&captures[0], start.0, start.1, query);
    assert!(sentence(&page).starts_with(&expected), "{} {expected}", sentence(&page));
    assert!(
        page.ask("document.querySelector('.explorer-still').checkVisibility()") == false
    );

    // Every number of every head and query, of some words.
    for (index, capture) in captures.iter().enumerate().step_by(3) {
        let shown = page.ask(&format!(
            "(() => {{
                const all = (group, what) => [...document.querySelectorAll(`.explorer-${{group}} ${{what}}`)];
                const each = (group, read) => all(group, 'input').map((input) => (input.click(), read()));
                all('words', 'input')[{index}].click();
                const numbers = () => all('keys', '.number').map((number) => number.textContent);
                const drawn = () => all('tokens', '.strong path').length;
                return each('blocks', () => each('heads', () => each('queries', () => [numbers(), drawn()])));
            }})()"
        ));
        let heads = capture.weights.iter().flatten().flatten().flatten().count();
        let mut compared = 0;
        for (block, heads) in capture.weights.iter().enumerate() {
            for (head, rows) in heads.iter().enumerate() {
                for (query, row) in rows.iter().enumerate() {
                    let shown = &shown[block][head][query];
                    let lines = row.iter().filter(|weight| **weight >= 0.02).count();
                    assert_eq!(
                        shown[1], lines,
                        "{} {block} {head} {query}",
                        capture.word
                    );
                    for (key, weight) in row.iter().enumerate() {
                        let place =
                            format!("{} {block} {head} {query} {key}", capture.word);
                        let text = shown[0][key].as_str().unwrap();
                        if key >= capture.prefix && key > query {
                            assert_eq!(text, "–", "{place}");
                        } else {
                            let number: f64 = text.parse().unwrap();
                            assert!(
                                (number - weight).abs() < 0.005_001,
                                "{place}: {text}, {weight}"
                            );
                        }
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!(compared, heads);
    }
    page.close();
}

#[test]
fn every_map_of_the_whole_model_is_painted_as_its_weights_are_in_every_theme() {
    let Some(page) = Page::open(CHAPTER, DESKTOP) else { return };
    page.click(&radio("views", 1));
    let capture = &explorer().captures[0];
    let expected: Vec<f64> =
        capture.weights.iter().flatten().flatten().flatten().copied().collect();
    let strongest = (0..expected.len()).fold(0, |best, at| {
        if expected[at] > expected[best] {
            at
        } else {
            best
        }
    });
    for theme in ["light", "rust", "coal", "navy", "ayu"] {
        page.ask(&format!("(document.documentElement.className = '{theme}', null)"));
        let dots =
            "[...document.querySelectorAll('.explorer-maps canvas')].flatMap((map) =>
            [...map.getContext('2d').getImageData(0, 0, map.width, map.height).data])";
        // In the colour of the theme, which a canvas keeps to a step or two.
        page.until(&format!(
            "getComputedStyle(document.querySelector('.explorer-maps canvas')).color.match(/\\d+/g)
                .every((part, index) => Math.abs(part - {dots}[4 * {strongest} + index]) <= 2)"
        ));
        let dots = page.ask(dots);
        let dots = dots.as_array().unwrap();
        assert_eq!(dots.len(), 4 * expected.len());
        for (dot, weight) in dots.chunks(4).zip(&expected) {
            assert!(
                (dot[3].as_f64().unwrap() - 255.0 * weight).abs() < 1.0,
                "{dot:?} {weight}"
            );
        }
    }
    page.close();
}

#[test]
fn all_of_it_can_be_reached_and_moved_by_keys() {
    let Some(page) = Page::open(CHAPTER, DESKTOP) else { return };
    let capture = &explorer().captures[0];
    let (blocks, heads) = (capture.weights.len(), capture.weights[0].len());
    let (block, head) = capture.clearest_head();

    // By Tab from group to group, each with a visible focus.
    page.click(&radio("words", 0));
    let group =
        "(document.activeElement.closest('fieldset, .explorer-own')?.className ?? '')";
    let mut visited = vec![page.text(group)];
    for _ in 0..5 {
        page.press(&["Tab"]);
        let ring = "[document.activeElement, document.activeElement.nextElementSibling]
            .some((element) => element && getComputedStyle(element).outlineStyle !== 'none')";
        assert!(page.ask(ring) == true, "{}", page.text(group));
        visited.push(page.text(group));
    }
    for (visited, expected) in
        visited.iter().zip(["words", "own", "views", "blocks", "heads", "queries"])
    {
        assert!(visited.contains(&format!("explorer-{expected}")), "{visited}");
    }

    // Among the tokens, and from head to head.
    let query = capture.tokens.len() - 2;
    page.press(&["ArrowLeft", "ArrowLeft"]);
    let expected = expected_sentence(capture, block, head, query - 2);
    assert!(sentence(&page).starts_with(&expected), "{} {expected}", sentence(&page));
    page.press(&["ArrowDown"]);
    let next = (block * heads + head + 1) % (blocks * heads);
    let (block, head) = (next / heads, next % heads);
    let expected = expected_sentence(capture, block, head, query - 2);
    assert!(sentence(&page).starts_with(&expected), "{} {expected}", sentence(&page));
    assert!(page.text(group).contains("explorer-queries"));

    // In the whole model, and from there to a head.
    page.click(&radio("views", 0));
    page.press(&["ArrowRight", "Tab"]);
    assert!(page.text(group).contains("explorer-maps"), "{}", page.text(group));
    page.press(&["ArrowDown", "ArrowRight"]);
    let next = ((block + 1) % blocks * heads + head + 1) % (blocks * heads);
    assert_eq!(chosen(&page, "maps"), next);
    page.press(&["Enter"]);
    assert_eq!(chosen(&page, "views"), 0);
    assert_eq!(
        (chosen(&page, "blocks"), chosen(&page, "heads")),
        (next / heads, next % heads)
    );
    assert!(page.text(group).contains("explorer-queries"));

    // The arrows, which turn the pages of the book elsewhere, have not.
    assert_eq!(page.text("location.pathname.split('/').pop()"), CHAPTER);
    page.close();
}

#[test]
fn the_mouse_shows_and_chooses() {
    let Some(page) = Page::open(CHAPTER, DESKTOP) else { return };
    let capture = &explorer().captures[0];
    let (block, head) = capture.clearest_head();
    let before = sentence(&page);
    page.point_at(&radio("queries", 1));
    let expected = expected_sentence(capture, block, head, 1);
    page.until(&format!(
        "document.querySelector('.explorer-says').textContent.startsWith('{expected}')"
    ));
    page.point_at(".explorer-title");
    page.until(&format!(
        "document.querySelector('.explorer-says').textContent === '{before}'"
    ));
    page.click(&radio("queries", 0));
    page.point_at(".explorer-title");
    let expected = expected_sentence(capture, block, head, 0);
    page.until(&format!(
        "document.querySelector('.explorer-says').textContent.startsWith('{expected}')"
    ));
    assert_eq!(chosen(&page, "queries"), 0);

    page.click(&radio("views", 1));
    page.click(&radio("maps", 2));
    page.click(".explorer-closer");
    assert_eq!(
        (chosen(&page, "views"), chosen(&page, "blocks"), chosen(&page, "heads")),
        (0, 0, 2)
    );
    page.close();
}

#[test]
fn a_phone_has_room_for_it_and_fingers_choose() {
    let Some(page) = Page::open(CHAPTER, PHONE) else { return };
    let captures = explorer().captures;
    let longest =
        (0..captures.len()).max_by_key(|&index| captures[index].tokens.len()).unwrap();
    page.tap(&radio("words", longest));
    page.until(&format!(
        "document.querySelector('.explorer-title b').textContent === '{}'",
        captures[longest].word
    ));
    let last = captures[longest].tokens.len() - 1;
    for query in [0, last] {
        page.tap(&radio("queries", query));
        page.until(&format!(
            "document.querySelectorAll('.explorer-queries input')[{query}].checked"
        ));
    }
    let too_wide = "document.documentElement.scrollWidth > innerWidth";
    assert!(page.ask(too_wide) == false);
    page.tap(&radio("views", 1));
    page.until("document.querySelector('.explorer-panel').dataset.view === 'model'");
    assert!(page.ask(too_wide) == false);
    page.close();
}

#[test]
fn the_reader_types_any_word_once_the_model_is_loaded() {
    let Some(page) = Page::open(CHAPTER, DESKTOP) else { return };
    let is_of_the_model =
        |address: &String| address.contains("/model/") || address.contains("pronouncer");
    assert!(!page.requests().iter().any(is_of_the_model), "{:?}", page.requests());
    page.click(".explorer-own button");
    page.until("document.activeElement.matches('.explorer-own input')");
    assert_eq!(
        page.requests().iter().filter(|address| is_of_the_model(address)).count(),
        3
    );

    let Pronouncer { model, vocabulary } = &pronouncer();
    let title = |word: &str| {
        let said = greedy(model, vocabulary, &[word]).unwrap().remove(0);
        let phonemes: Vec<_> =
            said.phonemes.iter().map(|phoneme| phoneme.symbol()).collect();
        format!("{word}→ {}probability {:.2}", phonemes.join(" "), said.probability())
    };
    let shown = "document.querySelector('.explorer-title').textContent";
    for (typed, word) in [("blough", "blough"), ("Zyx'S", "Zyx'S"), ("a", "a")] {
        page.ask("document.querySelector('.explorer-own input').select()");
        page.write(typed);
        page.until(&format!("{shown} === \"{}\"", title(word)));
    }
    assert_eq!(page.text("document.querySelector('.explorer-status').textContent"), "");

    // What cannot be pronounced is refused in the words of the crate, and what is shown stays.
    let before = page.text(shown);
    let status = "document.querySelector('.explorer-status').textContent";
    for word in
        ["", "  ", "na2ve", "naïve", "x-ray", "two words", "a🙂b", &"abc".repeat(12)]
    {
        let error = self_attention::evaluation::decoding::prompt(model, vocabulary, word);
        let error = error.unwrap_err().to_string().replace('`', "");
        let error = error.trim_start().trim_start_matches(": ");
        let input = "document.querySelector('.explorer-own input')";
        page.ask(&format!(
            "({input}.value = {}, {input}.dispatchEvent(new Event('input')), null)",
            json!(word)
        ));
        page.until(&format!("{status} === {}", json!(error)));
        assert_eq!(page.text(shown), before);
        assert!(page.ask(&format!("{input}.getAttribute('aria-invalid')")) == "true");
    }

    // A word of the page is shown again when it is chosen.
    page.click(&radio("words", 1));
    page.until(&format!("{shown}.startsWith('through→')"));
    assert_eq!(page.text(status), "");
    page.close();
}

/// A word as the page says it. The numbers come as a text with a character for each byte: a million of them in JSON
/// would take longer to read than to compute.
#[derive(Deserialize)]
struct Said {
    tokens: Vec<String>,
    prefix: usize,
    probability: f64,
    /// `[blocks, H, T, T]`
    weights: String,
    /// `[phonemes and the end, V]`
    logits: String,
}

/// The 32-bit floats whose bytes are the characters of a text.
fn numbers(text: &str) -> Vec<f64> {
    let bytes: Vec<u8> = text.chars().map(|letter| letter as u8).collect();
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()).into();
    bytes.chunks(4).map(number).collect()
}

/// The largest difference between two lists of numbers of one length.
fn farthest(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - theirs).abs())
        .fold(0.0, f64::max)
}

#[test]
fn the_model_in_the_page_says_what_the_crate_says() {
    let Some(page) = Page::open(CHAPTER, DESKTOP) else { return };
    let pronouncer = pronouncer();
    let Pronouncer { model, vocabulary } = &pronouncer;
    let dictionary = Dictionary::embedded().unwrap();
    let entries =
        dictionary.iter().filter(|entry| Split::of(&entry.word) == Split::Validation);
    let held_back: Vec<&str> = entries.map(|entry| entry.word.as_str()).collect();
    let evenly = held_back.iter().copied().step_by(held_back.len() / WORDS);
    let words: Vec<&str> = evenly.collect();
    assert!(words.len() >= WORDS);

    let said = page.wait_for(&format!(
        "(async () => {{
            const address = (name) => new URL(name, document.baseURI).href;
            const {{ load }} = await import(address('theme/pronouncer.js'));
            const pronouncer = await load(address('model/pronouncer'));
            const text = (numbers) =>
                Array.from(new Uint8Array(Float32Array.from(numbers).buffer), (byte) => String.fromCharCode(byte)).join('');
            const all = (rows) => text(rows.flatMap((row) => Array.from(row)));
            const said = [];
            const start = performance.now();
            for (const word of {}) said.push(await pronouncer.pronounce(word));
            const milliseconds = performance.now() - start;
            return [milliseconds, said.map(({{ tokens, prefix, probability, weights, logits }}) =>
                ({{ tokens, prefix, probability, weights: all(weights.flat(2)), logits: all(logits) }}))];
        }})()",
        json!(words)
    ));
    let (milliseconds, said): (f64, Vec<Said>) = serde_json::from_value(said).unwrap();
    let expected = greedy(model, vocabulary, &words).unwrap();
    assert_eq!(said.len(), expected.len());

    let mut largest = [("weights", 0.0f64), ("logits", 0.0), ("probability", 0.0)];
    for ((word, expected), said) in words.iter().zip(&expected).zip(&said) {
        let (capture, logits) =
            Capture::with_logits(&pronouncer, word, &expected.phonemes).unwrap();
        assert_eq!((&said.tokens, said.prefix), (&capture.tokens, capture.prefix));
        let ours: Vec<f64> =
            capture.weights.iter().flatten().flatten().flatten().copied().collect();
        let theirs = numbers(&said.weights);
        let are_closed = |weights: &[f64]| -> Vec<bool> {
            weights.iter().map(|weight| *weight == 0.0).collect()
        };
        assert_eq!(are_closed(&ours), are_closed(&theirs), "{word}");
        largest[0].1 = largest[0].1.max(farthest(&ours, &theirs));

        // Each phoneme, and the end, is chosen where the token before it was read.
        let first = capture.prefix as i64 - 1;
        let chosen = logits.narrow(0, first, logits.size()[0] - first);
        let chosen = chosen.to_kind(Kind::Double).flatten(0, 1);
        let chosen = Vec::<f64>::try_from(chosen).unwrap();
        largest[1].1 = largest[1].1.max(farthest(&chosen, &numbers(&said.logits)));
        let apart = (expected.probability() - said.probability).abs();
        largest[2].1 = largest[2].1.max(apart);
    }
    let differences: Vec<_> =
        largest.iter().map(|(what, apart)| format!("{what} {apart:.1e}")).collect();
    say(&format!(
        "the model in the page: {} words as the crate says them, {:.0} ms each; largest difference: {}",
        words.len(),
        milliseconds / words.len() as f64,
        differences.join(", ")
    ));
    for (what, apart) in largest {
        assert!(apart < TOLERANCE, "{what}: {apart:e}");
    }
    page.close();
}

#[test]
fn a_page_opened_as_a_file_shows_its_words_and_says_why_it_has_no_model() {
    let Some(page) = Page::open_file(CHAPTER) else { return };
    page.click(&radio("words", 2));
    page.until("document.querySelector('.explorer-title').textContent.startsWith('tough→ T AH F')");
    page.click(".explorer-own button");
    page.until(
        "document.querySelector('.explorer-status').textContent.includes('mdbook serve')",
    );
    assert_eq!(page.faults("file:///"), Vec::<String>::new());
}

#[test]
fn without_scripts_the_figure_stands_there_and_no_dead_control() {
    let Some(page) = Page::open(CHAPTER, Screen { has_scripts: false, ..DESKTOP }) else {
        return;
    };
    assert!(
        page.ask("document.querySelector('.explorer-still svg').checkVisibility()")
            == true
    );
    assert!(
        page.ask("document.querySelectorAll('.explorer :is(button, input)').length") == 0
    );
}

#[test]
fn a_page_without_an_explorer_is_left_alone() {
    let Some(page) = Page::open("introduction.html", DESKTOP) else { return };
    assert!(page.ask("document.querySelector('.explorer, .explorer-panel')").is_null());
    page.close();
}

/// The others would pass if nothing were heard.
#[test]
fn what_a_page_does_wrong_is_heard() {
    let Some(page) = Page::open("introduction.html", DESKTOP) else { return };
    assert_eq!(page.faults(book()), Vec::<String>::new());
    page.ask("console.error('out loud')");
    page.ask("setTimeout(() => { throw Error('uncaught') })");
    page.wait_for("fetch('http://else.where/file').catch(() => null)");
    let heard = || page.faults(book()).join("\n");
    for fault in ["out loud", "uncaught", "a request to http://else.where/file"] {
        let start = std::time::Instant::now();
        while !heard().contains(fault) {
            assert!(start.elapsed().as_secs() < 60, "{fault} was not heard: {}", heard());
        }
    }
}
