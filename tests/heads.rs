//! What chapter 10 says of the shipped model's heads, held against the model and its record.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::root;
use self_attention::data::cmudict::Entry;
use self_attention::evaluation::alignment::Aligner;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::prelude::*;
use self_attention::visualization::ablation::{
    averaged, pronounced, silenced, Effect, Head, Rates,
};
use self_attention::visualization::head_record::{
    measure, measured_words, parts, HeadRecord, Pair, Removed,
};
use self_attention::visualization::heads::{Measures, PLACES, REACH};
use self_attention::visualization::inside::mean_contexts;

fn weights() -> PathBuf {
    root().join("models/pronouncer.safetensors")
}

fn card() -> Card {
    Card::read(&weights()).unwrap()
}

fn record() -> HeadRecord {
    HeadRecord::read(&weights(), &card()).unwrap()
}

fn output(name: &str) -> String {
    let path = root().join(format!("book/output/ch10_visualization_{name}.txt"));
    fs::read_to_string(path).unwrap()
}

/// The last number of the line that begins with `name`.
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no line `{name}` in:\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Measures on the same words again, to the decimals that rounding on other machines leaves alone.
#[test]
fn the_measures_are_what_the_heads_do_today() {
    let dictionary = Dictionary::embedded().unwrap();
    let pronouncer = Pronouncer::load(&weights(), Device::Cpu).unwrap();
    let (sample, _) = parts(&dictionary);
    // Only the words that are measured need to be said.
    let blank = vec![Vec::new(); sample.len()];
    let words: Vec<&str> =
        measured_words(&sample, &blank).iter().map(|(word, _)| *word).collect();
    let said = pronouncer.pronounce(&words).unwrap();
    let spoken: Vec<_> =
        words.iter().zip(&said).map(|(word, said)| (*word, &said[..])).collect();
    let training: Vec<_> =
        dictionary.iter().filter(|e| Split::of(&e.word) == Split::Train).collect();
    let aligner = Aligner::train(&training).unwrap();
    let found = measure(&pronouncer, &aligner, &spoken).unwrap();

    let [found, recorded] = [&found, &record().measured].map(numbers);
    assert_eq!(found.len(), recorded.len());
    for (found, recorded) in found.iter().zip(&recorded) {
        assert!((found - recorded).abs() < 2e-3, "{found} and {recorded}");
    }
}

/// All numbers of something that can be written as JSON, in order.
fn numbers(thing: &impl serde::Serialize) -> Vec<f64> {
    fn gather(value: &serde_json::Value, numbers: &mut Vec<f64>) {
        match value {
            serde_json::Value::Number(number) => numbers.push(number.as_f64().unwrap()),
            serde_json::Value::Array(items) => {
                items.iter().for_each(|item| gather(item, numbers));
            }
            serde_json::Value::Object(fields) => {
                fields.values().for_each(|value| gather(value, numbers));
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    gather(&serde_json::to_value(thing).unwrap(), &mut all);
    all
}

/// Every fortieth word of the sample, by the whole model and without two of its heads.
#[test]
fn without_a_head_the_model_says_today_what_is_recorded() {
    let dictionary = Dictionary::embedded().unwrap();
    let record = record();
    let Pronouncer { model, vocabulary } =
        Pronouncer::load(&weights(), Device::Cpu).unwrap();
    let (sample, _) = parts(&dictionary);
    let places: Vec<usize> = (0..sample.len()).step_by(40).collect();
    let some: Vec<_> = places.iter().map(|&place| sample[place]).collect();
    let same = |model: &Transformer, recorded: Vec<_>| {
        let (_, counted) = pronounced(model, &vocabulary, &some).unwrap();
        let recorded: Vec<_> = places.iter().map(|&place| recorded[place]).collect();
        // To a word: a near tie may fall to either side, for another machine sums in another order.
        let differ = counted.iter().zip(&recorded).filter(|(a, b)| a != b).count();
        assert!(differ <= 1, "{counted:?}, {recorded:?}");
    };
    same(&model, record.alone.counted());
    let mut removed: Vec<&Removed> = record.alone.heads.iter().collect();
    removed.sort_by_key(|removed| removed.silenced.changed);
    for removed in [removed[0], removed[removed.len() - 1]] {
        let less = silenced(&model, &[removed.head]).unwrap();
        same(&less, record.alone.counted_without(removed));
    }
}

#[test]
fn the_records_effects_are_those_of_its_words() {
    let record = record();
    let whole = record.alone.counted();
    assert_eq!(whole.len(), HeadRecord::SAMPLE);
    let close = |a: f64, b: f64| assert!((a - b).abs() < 2e-6, "{a} and {b}");
    let rates = Rates::of(&whole);
    close(rates.phoneme_error_rate, record.alone.whole.phoneme_error_rate);
    close(rates.word_error_rate, record.alone.whole.word_error_rate);
    for removed in &record.alone.heads {
        let without = record.alone.counted_without(removed);
        // What was said is not recorded, and has no part in rates and their errors.
        let blank = vec![Vec::new(); whole.len()];
        let effect = Effect::of((&blank, &whole), (&blank, &without)).unwrap();
        let Effect { rise, error, changed } = removed.silenced;
        close(effect.rise.phoneme_error_rate, rise.phoneme_error_rate);
        close(effect.rise.word_error_rate, rise.word_error_rate);
        close(effect.error.phoneme_error_rate, error.phoneme_error_rate);
        close(effect.error.word_error_rate, error.word_error_rate);
        assert!(changed >= removed.places.len());
    }
    let order = record.together.steps.iter().map(|step| {
        let of = |removed: &&Removed| removed.head == step.head;
        let removed = record.alone.heads.iter().find(of).unwrap();
        removed.silenced.rise.phoneme_error_rate
    });
    assert!(order.is_sorted());
}

#[test]
fn heads_are_silenced_together_and_averaged_as_recorded() {
    let dictionary = Dictionary::embedded().unwrap();
    let record = record();
    let pronouncer = Pronouncer::load(&weights(), Device::Cpu).unwrap();
    let Pronouncer { model, vocabulary } = &pronouncer;
    // With all heads silent no letter and no phoneme before reaches what is written next.
    let all = silenced(model, &Head::all(model)).unwrap();
    let (_, rest) = parts(&dictionary);
    let (said, counted) = pronounced(&all, vocabulary, &rest[..60]).unwrap();
    // The first phoneme depends on the number of letters alone.
    for (entry, phonemes) in rest.iter().zip(&said) {
        let alike = |other: &&Entry| other.word.len() == entry.word.len();
        let place = rest[..60].iter().position(alike).unwrap();
        assert_eq!(phonemes[0], said[place][0], "{}", entry.word);
    }
    let last = record.together.steps.last().unwrap();
    let rate = record.together.whole.word_error_rate + last.effect.rise.word_error_rate;
    let found = Rates::of(&counted).word_error_rate;
    assert!((found - rate).abs() < 0.05 && rate > 0.9, "{found} and {rate}");

    let words: Vec<&str> = rest[..20].iter().map(|entry| &entry.word[..]).collect();
    let said = pronouncer.pronounce(&words).unwrap();
    let spoken: Vec<_> = words.iter().zip(&said).map(|(w, s)| (*w, &s[..])).collect();
    let means = mean_contexts(&pronouncer, &spoken).unwrap();
    assert_eq!(means.len(), model.blocks.len());
    let mean = means[0].get(0);
    assert!(averaged(model, Head { block: 0, head: 0 }, &mean).is_ok());
}

#[test]
fn a_record_is_refused_beside_other_weights_and_when_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("model.safetensors");
    let record = record();
    record.write(&copy).unwrap();
    let [ours, theirs] =
        [&copy, &weights()].map(|path| fs::read(HeadRecord::path(path)).unwrap());
    assert_eq!(ours, theirs); // it comes back from its file

    let mut other = card();
    other.weights = "0123456789abcdef".into();
    let error = HeadRecord::read(&copy, &other).unwrap_err().to_string();
    assert!(error.contains("the model has 0123456789abcdef; make it again"), "{error}");
    let mut deeper = card();
    deeper.model.blocks += 1;
    let error = HeadRecord::read(&copy, &deeper).unwrap_err().to_string();
    assert!(error.contains("is damaged: the model has"), "{error}");
    fs::write(HeadRecord::path(&copy), "{}").unwrap();
    let error = HeadRecord::read(&copy, &card()).unwrap_err().to_string();
    assert!(error.contains("is damaged: missing field"), "{error}");
}

/// Q29: the best head looks at the right letter far more than even weights would, and yet a rule that knows nothing but two
/// lengths finds it more often, for the head counts. Three heads together find more than any rule.
#[test]
fn what_looks_like_an_alignment_on_four_words_is_mostly_counting() {
    let record = record();
    let rate = |way: usize| record.agreement(HeadRecord::WAYS[way]).unwrap().rate();
    let [diagonal, proportional, best, by_length, late, echo, three, all] =
        [0, 1, 2, 3, 4, 5, 6, 7].map(rate);
    // Of thousands of phonemes; a percentage point is more than three standard errors.
    assert!(record.alignments[0].agreement.phonemes > 10_000);
    for read in [best, by_length] {
        assert!((diagonal + 0.03..proportional - 0.03).contains(&read), "{read}");
    }
    assert!(three > proportional + 0.05 && three < 0.85, "{three}");
    assert!(all < diagonal - 0.03, "{all}");
    assert!(late < best - 0.05 && echo < diagonal - 0.05, "{late}, {echo} and {best}");
    assert!(record.nth_letter.rate() > 0.85, "{:?}", record.nth_letter);
    assert_eq!(record.nth_letter.phonemes, record.alignments[0].agreement.phonemes);
    let near = |way: usize| record.agreement(HeadRecord::WAYS[way]).unwrap().near_rate();
    assert!(near(1) > 0.99 && near(6) < near(1) - 0.02); // the misses of the three are farther off
    let score = record.of(record.best()).unwrap().alignment;
    assert!(score > 2.0 * record.measured.around_evenly[REACH], "{score}");
    // On the four words it looks right: F is written by the g where there is an F, and else nothing is.
    let text = output("q29_four_words");
    for line in text.lines().skip(2) {
        assert_eq!(line.contains(" F "), line.contains("[g]"), "{line}");
    }
    // In others it shows that it counts: the second letter of though, the third of through, night and knight.
    let others = text + &output("q29_night");
    for look in ["OW  t[h]ough", "UW  th[r]ough", "T   ni[g]ht", "T   kn[i]ght"] {
        assert!(others.contains(look), "{others}");
    }
    assert!(others.contains("N   [k]night"), "{others}");
}

/// Q29: phonemes look around the letter that writes them, and ahead.
#[test]
fn phonemes_look_beside_their_letter_and_ahead() {
    let text = output("q29_around");
    let heads = record().alone.heads.len() as f64;
    assert!(number(&text, "some letter around has more") > 0.6 * heads);
    assert!(number(&text, "look ahead more than") > 0.6 * heads);
    let [before, after] = {
        let evenly = record().measured.around_evenly;
        [&evenly[..REACH], &evenly[REACH + 1..]].map(|side| side.iter().sum::<f64>())
    };
    assert!(before < after, "even weights look ahead, too");
}

/// Q29: one head has a name; letters look most sharply in the first block, and none gives most of its weight to `<sep>`.
#[test]
fn few_heads_have_more_than_half_of_their_weight_in_one_role() {
    let text = output("q29_roles");
    let line = text.lines().find(|line| line.starts_with("heads with more")).unwrap();
    let numbers: Vec<f64> =
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!((1.0..=0.1 * numbers[1]).contains(&numbers[0]), "{line}");
    let before =
        text.lines().find(|line| line.starts_with("letters: the one before")).unwrap();
    assert!(
        before.contains("block 1, head 3") && before.ends_with("more than half"),
        "{before}"
    );
    for heads in record().measured.heads {
        assert!(heads.iter().all(|m| m.reading.separator.max(m.writing.separator) < 0.5));
    }
}

/// Q29: the heads of the first block look at places, whatever letters stand there, and three of them together at three
/// letters in a row, from the fourth place on those around the letter itself.
#[test]
fn heads_of_the_first_block_look_at_places_and_hand_on_three_letters_in_a_row() {
    let record = record();
    let [first, others @ ..] = &record.measured.heads[..] else { unreachable!() };
    assert!([1, 2, 3].iter().all(|&head| first[head].same_place > 0.9));
    assert!(first[0].same_place > 0.8);
    assert!(others.iter().flatten().all(|m| m.same_place < 0.75));
    let places = [2, 1, 0].map(|head| first[head].favourites.map(Option::unwrap));
    let in_a_row = |place: usize| {
        let [a, b, c] = places.map(|of_head| of_head[place]);
        (a + 1, b + 1) == (b, c)
    };
    assert!((0..PLACES).all(in_a_row), "{places:?}");
    assert!((3..PLACES).all(|place| places[1][place] == place), "{places:?}");
    assert!((0..3).all(|place| places[0][place] >= place), "{places:?}");
    assert_eq!(first[2].favourites, first[3].favourites);
}

/// Q29: letters look most sharply and least far in the first block, phonemes most sharply in the second.
#[test]
fn sharpness_and_distance_change_with_depth() {
    let means = |of: fn(&Measures) -> f64| -> Vec<f64> {
        let mean = |heads: &Vec<Measures>| {
            heads.iter().map(of).sum::<f64>() / heads.len() as f64
        };
        record().measured.heads.iter().map(mean).collect()
    };
    let letters = means(|m| m.reading.relative_entropy);
    assert!(letters[..4].is_sorted() && letters[3..].iter().all(|e| *e > 0.7));
    let distances = means(|m| m.reading.distance);
    assert!(distances[..4].is_sorted(), "{distances:?}");
    assert!(distances[4..].iter().all(|distance| *distance > distances[2]));
    let phonemes = means(|m| m.writing.relative_entropy);
    assert!([0, 2, 3, 4, 5].iter().all(|&b| phonemes[b] > phonemes[1] + 0.05));
}

/// Q29: hardly any head is needed, alone.
#[test]
fn hardly_any_head_is_needed_alone() {
    let record = record();
    let heads = &record.alone.heads;
    let hurt = heads.iter().filter(|removed| removed.silenced.hurts()).count();
    assert_eq!(hurt, 1, "of {}", heads.len());
    let text = output("q29_needed");
    assert_eq!(number(&text, "the PER rises by more than chance"), hurt as f64);
    // Those that are missed most bring a letter itself and the one after it.
    let harm = |removed: &&Removed| removed.silenced.rise.phoneme_error_rate;
    let mut order: Vec<&Removed> = heads.iter().collect();
    order.sort_by(|a, b| harm(b).total_cmp(&harm(a)));
    let (most, others) = order.split_at(2);
    assert_eq!(
        [0, 1].map(|at| most[at].head),
        [0, 1].map(|head| Head { block: 0, head })
    );
    assert!(harm(&most[1]) > 4.0 * harm(&others[0]));
    // To make them say their mean costs more than silence, and even weights change most words.
    assert!(most.iter().all(|removed| removed.averaged.hurts()
        && removed.averaged.rise.phoneme_error_rate > harm(removed)));
    let changed =
        |heads: &[&Removed]| heads.iter().map(|r| r.changed_evenly).collect::<Vec<_>>();
    assert!(changed(most).iter().min() > changed(others).iter().max());
    // Of what was tried to tell it in advance one lies outside the first band, and none outside the second.
    let text = output("q29_predicted");
    let bands = ["one of these", "all seven"].map(|band| number(&text, band));
    let outside = |band: f64| {
        let tried = text.lines().skip(1).take(7);
        let tried = tried.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>());
        tried.filter(|found| found.as_ref().unwrap().abs() > band).count()
    };
    assert_eq!(bands.map(outside), [1, 0]);
}

/// Q29: of the heads with the clearest alignment none is needed, alone.
#[test]
fn the_clearest_heatmaps_are_not_of_needed_heads() {
    let text = output("q29_by_score");
    assert!(text.contains("block 1, head 3") && !text.contains('*'), "{text}");
}

/// Q29: silenced together, heads do more harm than the sum of what each does alone.
#[test]
fn harms_do_not_add_up() {
    let record = record();
    let alone = |head: Head| {
        let removed = record.alone.heads.iter().find(|removed| removed.head == head);
        removed.unwrap().silenced.rise.phoneme_error_rate
    };
    let half = record.together.steps.len() / 2;
    let added: f64 =
        record.together.steps[..half].iter().map(|step| alone(step.head)).sum();
    let Effect { rise, error, .. } = record.together.steps[half - 1].effect;
    let more = rise.phoneme_error_rate - added;
    assert!(more > 3.0 * error.phoneme_error_rate, "{more} ± {error:?}");
    // The two that look at the same places are not missed alone, and each pair costs more than the sum.
    let pairs = &record.together.pairs;
    assert_eq!(pairs.len(), 6);
    for Pair { heads: [one, other], effect: Effect { rise, error, .. } } in pairs {
        let more = rise.phoneme_error_rate - alone(*one) - alone(*other);
        assert!(more > 0.0, "{one:?}, {other:?}: {more}");
        let both_first = (one.head, other.head) == (0, 1);
        let same = (one.head, other.head) == (2, 3);
        let large = rise.phoneme_error_rate > 0.06;
        assert_eq!(large, both_first || same, "{one:?}, {other:?}: {rise:?} ± {error:?}");
    }
    assert!(
        alone(Head { block: 0, head: 2 }) + alone(Head { block: 0, head: 3 }) < 0.001
    );
    // Without the second of them the rate more than doubles at once.
    let steps = &record.together.steps;
    let at = |head| steps.iter().position(|s| s.head == Head { block: 0, head }).unwrap();
    let rate = |step: usize| {
        let rise = steps[step].effect.rise;
        record.together.whole.phoneme_error_rate + rise.phoneme_error_rate
    };
    assert!(at(3) < at(2) && rate(at(2)) > 2.0 * rate(at(2) - 1));
    assert_eq!(at(2) - 1, 15); // fifteen others are gone by then
}

/// Q29: other weights, the same answer.
#[test]
fn quite_other_weights_give_nearly_the_same_answer() {
    let text = output("q29_same_answer");
    assert!(number(&text, "of the weight of a row, moved on average") > 0.25, "{text}");
    assert!(number(&text, "of the probability of a token, at most") < 0.01, "{text}");
}

/// Q29: the largest weight need not be the largest contribution.
#[test]
fn a_large_weight_may_lie_on_a_short_vector() {
    let text = output("q29_lengths");
    let row = |name: &str| -> Vec<f64> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect()
    };
    let largest =
        |row: &[f64]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
    let (weights, lengths, shares) = (row("weight"), row("length"), row("share"));
    let most = largest(&weights);
    assert!(weights[most] - shares[most] > 0.1, "{text}");
    let others = lengths.iter().sum::<f64>() - lengths[most];
    assert!(lengths[most] < 0.75 * others / (lengths.len() - 1) as f64, "{text}");
    let same = text.lines().next().unwrap();
    let same = same.trim_end_matches(" %").rsplit(' ').next().unwrap();
    assert!(same.parse::<f64>().unwrap() > 75.0, "{text}");
    let short = text.lines().skip(3).take(5);
    let short =
        short.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    assert!(short.clone().all(|length| length < 0.95), "{text}");
    assert_eq!(short.count(), 5);
    // The more a head's letters give to <sep>, the shorter what they get from it.
    assert!(number(&text, "rank correlation over all heads") < -0.41, "{text}");
    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-3);
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-3);
}

/// Q27: after dropout some rows sum to more than one.
#[test]
fn weights_after_dropout_do_not_sum_to_one() {
    let text = output("q27_dropout");
    let sums = text.lines().skip(3).map(|line| {
        let numbers: Vec<f64> =
            line.split_whitespace().skip(1).map(|n| n.parse().unwrap()).collect();
        (numbers[0], numbers[1])
    });
    let sums: Vec<_> = sums.collect();
    assert!(sums.iter().all(|(before, _)| *before == 1.0), "{text}");
    assert!(sums.iter().any(|(_, after)| *after > 1.05), "{text}");
}

fn program() -> Command {
    Command::new(assert_cmd::cargo::cargo_bin!("ch10_visualization"))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn any_word_is_drawn_and_its_weights_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let run = |arguments: &[&str]| {
        let output = program().arg("--out").arg(&out).args(arguments).assert().success();
        text(&output.get_output().stdout).to_owned()
    };
    let said = run(&["Tough"]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "Tough\tT AH F");
    for line in &lines[1..] {
        let (path, _) = line.split_once('\t').unwrap();
        assert!(Path::new(path).exists(), "{path}");
    }
    let model = card().model;
    let svg = |kind: &str, word: &str| {
        let path = out.join(format!("{word}_{kind}.svg"));
        let svg = fs::read_to_string(&path).unwrap();
        roxmltree::Document::parse(&svg).unwrap();
        svg
    };
    let best = record().best();
    let title = format!("block {}, head {}", best.block + 1, best.head + 1);
    assert!(svg("head", "tough").contains(&title), "{title}");
    assert_eq!(svg("block", "tough").matches(">head ").count() as i64, model.heads);
    let whole = svg("model", "tough");
    for block in 1..=model.blocks {
        assert!(whole.contains(&format!("block {block}")), "block {block}");
    }
    let json = fs::read_to_string(out.join("tough_weights.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["word"].as_str().map(str::to_lowercase).as_deref(), Some("tough"));

    // Another pronunciation, another head, an apostrophe, a long word.
    let said =
        run(&["o'clock", "--pronunciation", "AH K L", "--block", "1", "--head", "2"]);
    assert!(said.starts_with("o'clock\tAH K L\n"), "{said}");
    assert!(svg("head", "o'clock").contains("block 1, head 2"));
    run(&["internationalization"]);
    assert!(svg("model", "internationalization").contains("in order: i n t e r"));
}

#[test]
fn what_cannot_be_drawn_is_said_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let file = file.to_str().unwrap();
    let here = folder.path().join("out");
    let here = here.to_str().unwrap();
    let model = card().model;
    let long = "AH ".repeat(70);
    let blocks = format!("block = 99: the model has blocks 1 to {}", model.blocks);
    let heads = format!("head = 99: the model has heads 1 to {}", model.heads);
    let letters = "a".repeat(40);
    for (arguments, expected) in [
        (&["c4t"][..], "`c4t`: character '4' at position 2"),
        (&[""], "``: an empty word has no pronunciation"),
        (&[&letters], "40 letters, and the model takes at most"),
        (&["tough", "--pronunciation", "T XX"], "phoneme: `XX` is not one of the 39"),
        (
            &["tough", "--pronunciation", ""],
            "pronunciation: 0 phonemes, and with 5 letters",
        ),
        (
            &["tough", "--pronunciation", &long],
            "70 phonemes, and with 5 letters there is room for 1 to 32",
        ),
        (&["c4t", "--pronunciation", "T"], "character '4' at position 2"),
        (&["tough", "--block", "99"], &blocks),
        (&["tough", "--block", "0"], "block = 0: the model has"),
        (&["tough", "--head", "99"], &heads),
        (&["tough", "--block", "1", "--head", "0"], "head = 0: the model has"),
        (&["tough", "--out", file], "file"),
        (&["--pronunciation", "T"], "<WORD>"),
        (&["tough", "--record"], "cannot be used with"),
    ] {
        let mut command = program();
        if !arguments.contains(&"--out") && !arguments.contains(&"--record") {
            command.args(["--out", here]);
        }
        let output = command.args(arguments).assert().failure();
        let said = text(&output.get_output().stderr);
        assert!(said.contains(expected) && !said.contains("panicked"), "{said}");
        assert!(!Path::new(here).exists(), "{arguments:?}");
    }
}
