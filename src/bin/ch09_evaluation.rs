//! Chapter 9, how good the model is: `cargo run --bin ch09_evaluation`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::data::cmudict::{text, Entry};
use self_attention::data::vocabulary::EOS;
use self_attention::evaluation::baseline::LetterToSound;
use self_attention::evaluation::calibration::{Bin, Calibration};
use self_attention::evaluation::comparison::{read_pronunciations, score as score_of};
use self_attention::evaluation::decoding::{BeamSearch, Hypothesis};
use self_attention::evaluation::metrics::{
    align, edit_distance, f1_aligned, nearest, word_error_rate, Bleu, Counts, Paired,
    Scores,
};
use self_attention::evaluation::pronouncer::{evaluate, Card, Pronouncer};
use self_attention::evaluation::record::{Record, Said, Searched};
use self_attention::evaluation::teacher_forced::{
    misses, teacher_forced, teacher_forced_logits,
};
use self_attention::files::write_whole;
use self_attention::prelude::*;
use self_attention::visualization::capture::Capture;
use self_attention::visualization::{
    Arrow, Axis, Chart, Curves, Diagram, Heatmap, Node, Series,
};

/// Computes everything that chapter 9 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,

    /// Let the shipped model pronounce all words of a part of the dictionary, and print its scores.
    #[arg(long, value_name = "PART")]
    score: Option<Part>,

    /// Let it pronounce all validation words in several ways, and keep what it said beside the model: minutes.
    #[arg(long)]
    record: bool,

    /// Let the models without attention learn, and keep what they say of the test words in models/comparison.
    #[arg(long)]
    baselines: bool,
}

/// The parts that a score means something for.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Validation,
    Test,
}

/// The model that is shipped.
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors");

/// What the program works on.
struct Setting {
    dictionary: Dictionary,
    card: Card,
    pronouncer: Pronouncer,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let weights = Path::new(SHIPPED);
    let setting = Setting {
        dictionary: Dictionary::embedded()?,
        card: Card::read(weights)?,
        pronouncer: Pronouncer::load(weights, Device::Cpu)?,
    };
    if let Some(part) = arguments.score {
        return score(&setting, part);
    }
    if arguments.record {
        return record(&setting);
    }
    if arguments.baselines {
        return record_baselines(&setting.dictionary);
    }
    tch::set_num_threads(1); // sums in the same order on every machine
    let record = Record::read(weights, &setting.card)?;
    let heard = Heard::new(&setting, &record)?;
    if let Some(folder) = arguments.figures {
        tree_figure().save(&folder, "ch09_tree")?;
        heard.reliability_figure()?.save(&folder, "ch09_reliability")?;
        heard.confusion_figure().save(&folder, "ch09_confusions")?;
        return heard.mistake_figure()?.save(&folder, "ch09_mistake");
    }
    question_24(&heard)?;
    question_25(&heard)?;
    question_26(&heard)?;
    mistakes(&heard)
}

/// The entries of one side of the split.
fn part(dictionary: &Dictionary, split: Split) -> Vec<&Entry> {
    dictionary.iter().filter(|entry| Split::of(&entry.word) == split).collect()
}

/// The scores on the test words as they stand on a model's card.
fn on_card(card: &Card) -> Result<Scores> {
    card.test_scores.ok_or_else(|| {
        let problem = "has no scores on the test words; train the model to the end";
        Error::file(Card::path(Path::new(SHIPPED)), problem)
    })
}

/// Scores the shipped model anew.
// ANCHOR: score
fn score(setting: &Setting, part_asked: Part) -> Result<()> {
    let Setting { dictionary, card, pronouncer: Pronouncer { model, vocabulary } } =
        setting;
    match part_asked {
        Part::Validation => {
            let entries = part(dictionary, Split::Validation);
            println!(
                "the right phonemes given\n{}",
                teacher_forced(model, vocabulary, &entries)?
            );
            println!("\non its own\n{}", evaluate(model, vocabulary, &entries)?);
        }
        Part::Test => {
            let entries = part(dictionary, Split::Test);
            println!("{}", evaluate(model, vocabulary, &entries)?);
            println!("\nthe model's card says\n{}", on_card(card)?);
        }
    }
    Ok(())
}
// ANCHOR_END: score

fn record(setting: &Setting) -> Result<()> {
    let entries = part(&setting.dictionary, Split::Validation);
    let command = "cargo run --release --bin ch09_evaluation -- --record";
    let bar = indicatif::ProgressBar::new(0);
    let watch = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let Setting { pronouncer, card, .. } = setting;
    Record::make(pronouncer, card, command, &entries, watch)?.write(Path::new(SHIPPED))
}

/// What the model said of the validation words, beside what the dictionary says.
struct Heard<'a> {
    setting: &'a Setting,
    record: &'a Record,
    /// The validation words, in the order of the record.
    entries: Vec<&'a Entry>,
    /// What the model said of each.
    predictions: Vec<Vec<Phoneme>>,
    /// What the dictionary lists for each.
    listed: Vec<Listed>,
    /// The nearest of these.
    nearest: Vec<Vec<Phoneme>>,
    /// How far that is.
    edits: Vec<usize>,
}

impl<'a> Heard<'a> {
    fn new(setting: &'a Setting, record: &'a Record) -> Result<Self> {
        let entries = record.said.iter().map(|said| {
            let missing = || {
                Error::input(
                    "record",
                    format!("`{}` is not in the dictionary", said.word),
                )
            };
            setting.dictionary.get(&said.word).ok_or_else(missing)
        });
        let entries = entries.collect::<Result<Vec<_>>>()?;
        let predictions: Vec<_> =
            record.said.iter().map(|said| said.greedy.phonemes.clone()).collect();
        let listed: Vec<_> =
            entries.iter().map(|entry| entry.pronunciations.clone()).collect();
        let nearest: Vec<Vec<Phoneme>> =
            nearest(&predictions, &listed)?.into_iter().cloned().collect();
        let pairs = predictions.iter().zip(&nearest);
        let edits = pairs.map(|(said, nearest)| edit_distance(said, nearest)).collect();
        Ok(Self { setting, record, entries, predictions, listed, nearest, edits })
    }

    /// The words that are wrong, as indices, those first for which `key` is smallest.
    fn wrong<K: PartialOrd>(&self, key: impl Fn(usize) -> K) -> Vec<usize> {
        let mut wrong: Vec<usize> =
            (0..self.edits.len()).filter(|&i| self.edits[i] > 0).collect();
        wrong.sort_by(|&a, &b| {
            key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
        });
        wrong
    }

    fn said(&self, index: usize) -> &Said {
        &self.record.said[index]
    }
}

/// Phonemes from one text.
fn phonemes(text: &str) -> Result<Vec<Phoneme>> {
    text.split_whitespace().map(str::parse).collect()
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn question_24(heard: &Heard) -> Result<()> {
    println!("== q24_two_scores ==");
    let given = &heard.record.summary.teacher_forced;
    let alone = heard.record.greedy_scores();
    let edits: usize = heard.edits.iter().sum();
    let a_word = |count: usize| format!("{:.4}", count as f64 / given.words as f64);
    println!("{} validation words, {} targets\n", given.words, given.targets);
    println!("given the right phonemes before");
    println!("  loss of a target           {:>7.4}", given.loss);
    println!("  targets that are wrong   {:>9}", percent(1.0 - given.accuracy));
    println!("  wrong targets a word       {:>7}", a_word(given.missed));
    println!("  words that are wrong     {:>9}", percent(1.0 - given.word_accuracy));
    println!("on its own");
    println!("  phoneme error rate       {:>9}", percent(alone.phoneme_error_rate));
    println!("  edits a word               {:>7}", a_word(edits));
    println!("  words that are wrong     {:>9}", percent(alone.word_error_rate));

    println!("\n== q24_by_hand ==");
    println!("phonemes in a row, each right with the probability on the left");
    let lengths = [1, 2, 5, 10, 20];
    println!("      {}", lengths.map(|length| format!("{length:>8}")).concat());
    for accuracy in [0.9f64, 0.95, 0.98, 0.99] {
        let cells = lengths.map(|length| format!("{:>8.4}", accuracy.powi(length)));
        println!("{accuracy:.2}  {}", cells.concat());
    }

    println!("\n== q24_one_word ==");
    one_word(heard)?;

    println!("\n== q24_references ==");
    let first: Vec<_> = heard.listed.iter().map(|listed| listed[..1].to_vec()).collect();
    let several = heard.listed.iter().filter(|listed| listed.len() > 1).count();
    let rate = |references| {
        Ok::<_, Error>(percent(word_error_rate(&heard.predictions, references)?))
    };
    println!("words with several pronunciations  {several} of {}", heard.listed.len());
    println!("word error rate, any listed        {}", rate(&heard.listed)?);
    println!("word error rate, the first listed  {}", rate(&first)?);
    Ok(())
}

/// The word for which the two ways of scoring differ most, of the hundred that the model gets most wrong.
fn one_word(heard: &Heard) -> Result<()> {
    let Pronouncer { model, vocabulary } = &heard.setting.pronouncer;
    let farthest = heard.wrong(|index| usize::MAX - heard.edits[index]);
    let farthest = &farthest[..100.min(farthest.len())];
    let example = |&index: &usize| {
        Example::new(vocabulary, &heard.entries[index].word, &heard.nearest[index])
    };
    let examples = farthest.iter().map(example).collect::<Result<Vec<_>>>()?;
    let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), Device::Cpu)?;
    let logits = teacher_forced_logits(model, &batch, &Dropout::off())?; // [B, T, V]
    let missed = misses(&logits, &batch.targets)?; // [B]
    let gap = |&row: &usize| {
        (heard.edits[farthest[row]] as i64 - missed[row], std::cmp::Reverse(row))
    };
    let Some(row) = (0..farthest.len()).max_by_key(gap) else { return Ok(()) };
    let (index, example) = (farthest[row], &examples[row]);
    let targets = &example.tokens[example.prefix..];
    let likeliest: Vec<i64> = Vec::try_from(logits.get(row as i64).argmax(-1, false))?; // [T]
    let likeliest = &likeliest[example.prefix - 1..][..targets.len()];
    let line = |ids: &[i64], mark: &dyn Fn(usize) -> bool| {
        let cell = |(place, &id): (usize, &i64)| {
            let mark = if mark(place) { "*" } else { "" };
            Ok(format!("{:<7}", format!("{}{mark}", vocabulary.symbol(id)?)))
        };
        Ok::<_, Error>(
            ids.iter()
                .enumerate()
                .map(cell)
                .collect::<Result<String>>()?
                .trim_end()
                .to_owned(),
        )
    };
    println!("{}\n", heard.entries[index].word);
    println!("the dictionary          {}", line(targets, &|_| false)?);
    println!(
        "given what is right     {}",
        line(likeliest, &|place| likeliest[place] != targets[place])?
    );
    let mut written = vocabulary.phonemes(&heard.predictions[index]);
    written.push(EOS);
    println!("on its own              {}", line(&written, &|_| false)?);
    println!("\nwrong where the right phonemes are given: {} (marked *)", missed[row]);
    println!(
        "edits from what it wrote on its own to the dictionary: {}",
        heard.edits[index]
    );
    Ok(())
}

/// Five words, what a model might have said of them, and what the dictionary lists.
const FIVE: [(&str, &str, &[&str]); 5] = [
    ("though", "DH OW", &["DH OW"]),
    ("through", "TH R AH F", &["TH R UW"]),
    ("tough", "T UH F", &["T AH F"]),
    ("cough", "K AO F", &["K AA F", "K AO F"]),
    ("enough", "IH N AH F", &["IH N AH F", "IY N AH F"]),
];

/// All pronunciations that the dictionary lists for a word.
type Listed = Vec<Vec<Phoneme>>;

/// The five words as predictions and references.
fn five() -> Result<(Vec<Vec<Phoneme>>, Vec<Listed>)> {
    let predictions =
        FIVE.iter().map(|(_, said, _)| phonemes(said)).collect::<Result<_>>()?;
    let listed =
        |listed: &[&str]| listed.iter().map(|text| phonemes(text)).collect::<Result<_>>();
    let listed = FIVE
        .iter()
        .map(|(_, _, references)| listed(references))
        .collect::<Result<_>>()?;
    Ok((predictions, listed))
}

fn question_25(heard: &Heard) -> Result<()> {
    let (predictions, listed) = five()?;
    let nearest = nearest(&predictions, &listed)?;
    println!("\n== q25_words ==");
    println!("word     predicted  listed               nearest    edits  phonemes");
    let (mut edits, mut tokens) = (0, 0);
    for (((word, said, listed), predicted), nearest) in
        FIVE.iter().zip(&predictions).zip(&nearest)
    {
        let (listed, distance) = (listed.join(", "), edit_distance(predicted, nearest));
        (edits, tokens) = (edits + distance, tokens + nearest.len());
        let nearest_text = text(nearest);
        println!(
            "{word:<8} {said:<10} {listed:<20} {nearest_text:<10} {distance:>5}  {:>8}",
            nearest.len()
        );
    }
    let scores = Scores::of(&predictions, &listed)?;
    println!("\nword error rate     2 / 5 = {:.4}", scores.word_error_rate);
    println!("phoneme error rate  {edits} / {tokens} = {:.4}", scores.phoneme_error_rate);

    println!("\n== q25_alignment ==");
    alignment(&predictions[1], nearest[1]);

    println!("\n== q25_f1 ==");
    let pairs =
        predictions.iter().zip(&nearest).flat_map(|(said, nearest)| align(said, nearest));
    let f1 = f1_aligned(pairs)?;
    println!("        predicted  actual  right  precision  recall      F1");
    let line = |name: &str, counts: &Counts| {
        let Counts { right, predicted, actual } = counts;
        let [precision, recall, f1] = [counts.precision(), counts.recall(), counts.f1()];
        println!(
            "{name:<7} {predicted:>9}  {actual:>6}  {right:>5}  {precision:>9.4}  {recall:>6.4}  {f1:>6.4}"
        );
    };
    f1.per_class.iter().for_each(|(phoneme, counts)| line(phoneme.symbol(), counts));
    line("micro", &f1.total);
    let [precision, recall] = [f1.mean(Counts::precision), f1.mean(Counts::recall)];
    println!(
        "{:<7} {:>35.4}  {recall:>6.4}  {:>6.4}",
        "macro", precision, f1.macro_average
    );

    println!("\n== q25_bleu ==");
    let bleu = Bleu::of(&predictions, &listed)?;
    println!("n  in a reference  predicted  precision");
    for (order, precision) in bleu.precisions().iter().enumerate() {
        let (matched, total) = (bleu.matched[order], bleu.total[order]);
        println!("{}  {matched:>14}  {total:>9}  {precision:>9.4}", order + 1);
    }
    let rest = |bleu: &Bleu| {
        let Bleu { predicted_length, reference_length, .. } = bleu;
        print!("brevity penalty: {predicted_length} phonemes predicted, {reference_length} in the references: ");
        println!("{:.4}\nBLEU-4 {:.4}", bleu.brevity_penalty(), bleu.score());
    };
    rest(&bleu);
    println!("\nwithout the last phoneme of each prediction");
    let shorter: Vec<_> =
        predictions.iter().map(|said| said[..said.len() - 1].to_vec()).collect();
    rest(&Bleu::of(&shorter, &listed)?);

    println!("\n== q25_scores ==");
    real_scores(heard)?;
    println!("\n== q25_error ==");
    standard_errors(heard)?;
    println!("\n== q25_confusions ==");
    confusions(heard);
    println!("\n== q25_kinds ==");
    kinds(heard)
}

/// The table of edit distances between the beginnings of two pronunciations, and the alignment it gives.
fn alignment(predicted: &[Phoneme], actual: &[Phoneme]) {
    let cells = |cells: Vec<String>| {
        cells.iter().map(|cell| format!("{cell:>4}")).collect::<String>()
    };
    println!("predicted down, actual across");
    println!("      {}", cells(actual.iter().map(Phoneme::to_string).collect()));
    for i in 0..=predicted.len() {
        let name = if i == 0 { "" } else { predicted[i - 1].symbol() };
        let row = (0..=actual.len())
            .map(|j| edit_distance(&predicted[..i], &actual[..j]).to_string());
        println!("{name:<2}{}", cells(row.collect()));
    }
    let pairs = align(predicted, actual);
    let row = |side: Vec<Option<&Phoneme>>| {
        cells(
            side.into_iter()
                .map(|token| token.map_or("–".into(), Phoneme::to_string))
                .collect(),
        )
    };
    println!("\npredicted {}", row(pairs.iter().map(|pair| pair.0).collect()));
    println!("actual    {}", row(pairs.iter().map(|pair| pair.1).collect()));
}

/// The scores on the test words: the shipped model's from its card, the others' from what they said.
fn real_scores(heard: &Heard) -> Result<()> {
    let Setting { dictionary, card, .. } = heard.setting;
    let test = part(dictionary, Split::Test);
    println!(
        "{:<30} {:>7}  {:>7}  {:>8}  {:>8}  {:>6}",
        "", "words", "PER", "F1 micro", "F1 macro", "BLEU-4"
    );
    println!("{:<30} {:>7}", "", "wrong");
    let line = |name: &str, scores: &Scores| {
        let Scores {
            word_error_rate, phoneme_error_rate, f1_micro, f1_macro, bleu, ..
        } = scores;
        println!(
            "{name:<30} {:>7}  {:>7}  {f1_micro:>8.4}  {f1_macro:>8.4}  {bleu:>6.4}",
            percent(*word_error_rate),
            percent(*phoneme_error_rate)
        );
    };
    for (name, file) in COMPARED {
        line(name, &score_of(&read_pronunciations(&comparison(file), &test)?, &test)?);
    }
    let scores = on_card(card)?;
    line("this book's model", &scores);
    println!("\n{} test words", scores.words);
    Ok(())
}

/// Who else pronounced the test words, and the file of what they said.
const COMPARED: [(&str, &str); 3] = [
    ("a letter, its commonest sound", "commonest_sound.tsv"),
    ("a letter in a window of nine", "letter_to_sound.tsv"),
    ("g2p-en 2.1.0", "g2p_en.tsv"),
];

/// What the shipped model says of them: `cut -f1 models/comparison/g2p_en.tsv | cargo run --release --bin pronounce`.
const OURS: &str = "pronouncer.tsv";

fn comparison(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/comparison").join(file)
}

/// Lets the models without attention pronounce the test words.
fn record_baselines(dictionary: &Dictionary) -> Result<()> {
    let mut baseline = LetterToSound::train(&part(dictionary, Split::Train))?;
    for (window, (_, file)) in [0, baseline.window].into_iter().zip(COMPARED) {
        baseline.window = window;
        let line = |entry: &&Entry| {
            format!("{}\t{}\n", entry.word, text(&baseline.pronounce(&entry.word)))
        };
        let lines: String = part(dictionary, Split::Test).iter().map(line).collect();
        write_whole(&comparison(file), lines.as_bytes())?;
    }
    Ok(())
}

/// The standard error of a rate that was counted on so many words.
fn standard_error(rate: f64, words: usize) -> f64 {
    (rate * (1.0 - rate) / words as f64).sqrt()
}

fn standard_errors(heard: &Heard) -> Result<()> {
    let Scores { words, word_error_rate: rate, .. } = on_card(&heard.setting.card)?;
    println!(
        "{:>6} words, {} wrong: standard error {}",
        100,
        percent(0.3),
        percent(standard_error(0.3, 100))
    );
    let error = standard_error(rate, words);
    println!(
        "{words:>6} words, {} wrong: standard error {}",
        percent(rate),
        percent(error)
    );
    let [low, high] = [rate - 1.96 * error, rate + 1.96 * error].map(percent);
    println!("19 of 20 such intervals hold the true rate: {low} to {high}");
    let difference = 1.96 * error * 2f64.sqrt();
    println!(
        "two equal systems on two such tests differ by up to {}, 19 times in 20",
        percent(difference)
    );

    let test = part(&heard.setting.dictionary, Split::Test);
    let theirs = read_pronunciations(&comparison("g2p_en.tsv"), &test)?;
    let ours = read_pronunciations(&comparison(OURS), &test)?;
    let listed: Vec<_> = test.iter().map(|entry| entry.pronunciations.clone()).collect();
    let paired = Paired::of(&theirs, &ours, &listed)?;
    println!("\nthe same words, word by word");
    println!("only g2p-en is right             {:>6}", paired.only_first);
    println!("only this book's model is right  {:>6}", paired.only_second);
    println!("gained by the model              {:>8}", percent(paired.gained()));
    println!("its standard error               {:>8}", percent(paired.standard_error()));
    Ok(())
}

/// The phonemes that are taken for each other most often.
fn confusions(heard: &Heard) {
    let mut counts: BTreeMap<(Phoneme, Phoneme), usize> = BTreeMap::new();
    let (mut substituted, mut added, mut left_out) = (0, 0, 0);
    for (said, nearest) in heard.predictions.iter().zip(&heard.nearest) {
        for pair in align(said, nearest) {
            match pair {
                (Some(said), Some(actual)) if said != actual => {
                    substituted += 1;
                    *counts.entry((*actual, *said)).or_default() += 1;
                }
                (Some(_), None) => added += 1,
                (None, Some(_)) => left_out += 1,
                _ => {}
            }
        }
    }
    println!("{substituted} phonemes replaced, {added} too many, {left_out} too few\n");
    println!("listed  said  times");
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for ((actual, said), count) in counts.iter().take(10) {
        println!("{actual:<6}  {said:<4}  {count:>5}");
    }
    let weak = |phoneme: &Phoneme| {
        if phoneme.symbol() == "IH" {
            "AH"
        } else {
            phoneme.symbol()
        }
    };
    let only_weak = (0..heard.edits.len()).filter(|&index| {
        let [said, nearest] = [&heard.predictions[index], &heard.nearest[index]];
        heard.edits[index] > 0 && said.iter().map(weak).eq(nearest.iter().map(weak))
    });
    let wrong = heard.edits.iter().filter(|&&edits| edits > 0).count();
    println!(
        "\nwords that are wrong {wrong}, of them only by AH for IH or IH for AH {}",
        only_weak.count()
    );
}

/// How unusual the spelling of a word is: the mean of −ln p of each letter after the two before it, counted on the
/// training words.
struct Spelling {
    pairs: HashMap<[u8; 2], f64>,
    triples: HashMap<[u8; 3], f64>,
}

impl Spelling {
    fn of<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        let (mut pairs, mut triples) = (HashMap::new(), HashMap::new());
        for word in words {
            for [a, b, c] in Self::triples(word) {
                *pairs.entry([a, b]).or_insert(0.0) += 1.0;
                *triples.entry([a, b, c]).or_insert(0.0) += 1.0;
            }
        }
        Self { pairs, triples }
    }

    /// Each letter with the two before it; the edges of the word count as letters.
    fn triples(word: &str) -> Vec<[u8; 3]> {
        let padded = format!("^^{word}$");
        padded
            .as_bytes()
            .windows(3)
            .map(|window| [window[0], window[1], window[2]])
            .collect()
    }

    fn surprise(&self, word: &str) -> f64 {
        let triples = Self::triples(word);
        let surprise = |&[a, b, c]: &[u8; 3]| {
            let seen = self.triples.get(&[a, b, c]).unwrap_or(&0.0) + 0.1; // one never seen is not impossible
            let before = self.pairs.get(&[a, b]).unwrap_or(&0.0) + 0.1 * 28.0;
            (before / seen).ln()
        };
        triples.iter().map(surprise).sum::<f64>() / triples.len() as f64
    }
}

/// The word error rate of the validation words in four groups of equal size, from usual to unusual spelling.
fn kinds(heard: &Heard) -> Result<()> {
    let training = part(&heard.setting.dictionary, Split::Train);
    let spelling = Spelling::of(training.iter().map(|entry| entry.word.as_str()));
    let mut words: Vec<(f64, usize)> = heard
        .entries
        .iter()
        .enumerate()
        .map(|(index, entry)| (spelling.surprise(&entry.word), index))
        .collect();
    words.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!("spelling        words  word error rate  from the middle of the group");
    let quarter = words.len().div_ceil(4);
    let names = ["usual", "fairly usual", "fairly unusual", "unusual"];
    for (name, group) in names.iter().zip(words.chunks(quarter)) {
        let wrong = group.iter().filter(|(_, index)| heard.edits[*index] > 0).count();
        let rate = percent(wrong as f64 / group.len() as f64);
        let middle = &group[group.len() / 2 - 1..][..3];
        let middle: Vec<_> =
            middle.iter().map(|(_, index)| heard.entries[*index].word.as_str()).collect();
        println!("{name:<14}  {:>5}  {rate:>15}  {}", group.len(), middle.join(", "));
    }
    Ok(())
}

/// What may follow what, after the T of *tough*, in a model made up for this page.
const TREE: [(&str, &[(&str, f64)]); 5] = [
    ("", &[("OW", 0.4), ("AH", 0.35), ("AW", 0.25)]),
    ("OW", &[("<eos>", 0.55), ("F", 0.45)]),
    ("AH", &[("F", 0.9), ("<eos>", 0.1)]),
    ("AW", &[("<eos>", 1.0)]),
    ("F", &[("<eos>", 1.0)]),
];

/// Searches the tree and says what is kept after each step: the beams, likeliest first.
fn search_tree(beams: usize) -> Vec<Vec<(Vec<&'static str>, f64)>> {
    let mut unfinished = vec![(Vec::new(), 1.0)];
    let mut finished = Vec::new();
    let mut steps = Vec::new();
    while !unfinished.is_empty() {
        let mut candidates = Vec::new();
        for (written, probability) in unfinished {
            let last = written.last().copied().unwrap_or("");
            let branches = TREE.iter().filter(|(before, _)| *before == last);
            for (next, share) in branches.flat_map(|(_, branches)| branches.iter()) {
                candidates.push(([&written[..], &[*next]].concat(), probability * share));
            }
        }
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
        candidates.truncate(beams - finished.len());
        let (ended, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|(written, _)| written.ends_with(&["<eos>"]));
        finished.extend(ended); // each takes up one place from now on
        unfinished = others;
        let mut kept = [&finished[..], &unfinished[..]].concat();
        kept.sort_by(|a, b| b.1.total_cmp(&a.1));
        steps.push(kept);
    }
    steps
}

fn question_26(heard: &Heard) -> Result<()> {
    println!("\n== q26_tree ==");
    for (name, beams) in [("greedy", 1), ("two beams", 2), ("three beams", 3)] {
        println!("{name}");
        for (step, kept) in search_tree(beams).iter().enumerate() {
            let kept =
                kept.iter().map(|(written, p)| format!("T {} {p:.4}", written.join(" ")));
            println!("  step {}  {}", step + 1, kept.collect::<Vec<_>>().join("   "));
        }
    }

    println!("\n== q26_length ==");
    println!(
        "phonemes  each token  together  ln(together)  (5 + n) / 6  ln(together) over it"
    );
    for (n, each) in [(2, 0.85f64), (8, 0.93)] {
        let log = f64::from(n + 1) * each.ln(); // with <eos>
        let penalty = f64::from(5 + n) / 6.0;
        println!(
            "{n:>8}  {each:>10.2}  {:>8.4}  {log:>12.4}  {penalty:>11.4}  {:>20.4}",
            log.exp(),
            log / penalty
        );
    }

    println!("\n== q26_cache ==");
    cache(heard)?;
    println!("\n== q26_beams ==");
    beams(heard)?;
    println!("\n== q26_invented ==");
    invented(heard)
}

/// How many positions are computed to write a word: with everything read again for each token, and with a cache.
fn positions(letters: usize, phonemes: usize) -> [usize; 2] {
    let prompt = letters + 1; // and <sep>
    let passes = 0..=phonemes; // one for each phoneme and one for <eos>
    [passes.map(|written| prompt + written).sum(), prompt + phonemes]
}

fn cache(heard: &Heard) -> Result<()> {
    println!("                    tough  all validation words");
    let tough = positions(5, 3);
    let mut all = [0, 0];
    for Said { word, greedy, .. } in &heard.record.said {
        let word = positions(word.len(), greedy.phonemes.len());
        all = [all[0] + word[0], all[1] + word[1]];
    }
    for (row, name) in ["read again", "with a cache"].iter().enumerate() {
        println!("{name:<18} {:>6}  {:>20}", tough[row], all[row]);
    }
    let times =
        |[again, cached]: [usize; 2]| format!("{:.1}", again as f64 / cached as f64);
    println!("{:<18} {:>6}  {:>20}", "times as many", times(tough), times(all));
    Ok(())
}

/// The ways to search, and greedy against five beams word by word.
fn beams(heard: &Heard) -> Result<()> {
    println!("beams  penalty  words wrong      PER  mean ln p  phonemes a word");
    for Searched { beams, length_penalty, scores, log_probability, phonemes } in
        &heard.record.summary.searches
    {
        println!(
            "{beams:>5}  {length_penalty:>7.1}  {:>11}  {:>7}  {log_probability:>9.4}  {phonemes:>15.4}",
            percent(scores.word_error_rate), percent(scores.phoneme_error_rate)
        );
    }
    let beams: Vec<_> =
        heard.record.said.iter().map(|said| said.beams.phonemes.clone()).collect();
    let paired = Paired::of(&heard.predictions, &beams, &heard.listed)?;
    println!("\ngreedy against {} beams, word by word", Record::BEAMS);
    println!("only greedy is right      {:>5}", paired.only_first);
    println!("only the beams are right  {:>5}", paired.only_second);
    let (gained, error) = (paired.gained(), paired.standard_error());
    let rate = heard.record.greedy_scores().word_error_rate;
    let unpaired = standard_error(rate, paired.words) * 2f64.sqrt();
    println!("gained by the beams              {:>7}", percent(gained));
    println!("its standard error, paired       {:>7}", percent(error));
    println!("unpaired, on two sets of words   {:>7}", percent(unpaired));
    let is_more = gained.abs() > 1.96 * error;
    let luck = if is_more { "less, 19 times in 20" } else { "as much" };
    println!("chance alone would gain {luck}");
    Ok(())
}

/// Words that are not in CMUdict.
const INVENTED: [&str; 4] = ["frough", "softmax", "tokenizer", "rustacean"];

fn invented(heard: &Heard) -> Result<()> {
    let Pronouncer { model, vocabulary } = &heard.setting.pronouncer;
    let found = BeamSearch::new(Record::BEAMS).search(model, vocabulary, &INVENTED)?;
    for (word, found) in INVENTED.iter().zip(found) {
        for found in found.iter().take(3) {
            println!("{word}\t{}\t{:.4}", text(&found.phonemes), found.probability());
        }
    }
    Ok(())
}

fn mistakes(heard: &Heard) -> Result<()> {
    println!("\n== q26_calibration ==");
    println!("{}", heard.calibration()?);
    let said = &heard.record.said;
    let sum: f64 = said.iter().map(|said| said.greedy.probability()).sum();
    let right = 1.0 - heard.record.greedy_scores().word_error_rate;
    println!(
        "mean probability {:.4}, words that are right {right:.4}",
        sum / said.len() as f64
    );

    println!("\n== q26_surest ==");
    let probability = |index| format!("{:.4}", heard.said(index).greedy.probability());
    some_mistakes(heard, &heard.surest(), "probability", probability);
    println!("\n== q26_farthest ==");
    let farthest = heard.wrong(|index| usize::MAX - heard.edits[index]);
    some_mistakes(heard, &farthest, "edits", |index| heard.edits[index].to_string());
    println!("\n== q26_looked ==");
    if let Some(index) = heard.worth_a_look() {
        let Said { word, greedy, .. } = heard.said(index);
        println!("{word}, listed as {}\n", text(&heard.nearest[index]));
        println!("written  probability  next best  probability");
        for [(best, p), (second, q)] in steps(&heard.setting.pronouncer, word, greedy)? {
            println!("{best:<7}  {p:>11.4}  {second:<9}  {q:>11.4}");
        }
        println!("all of it {:>10.4}", greedy.probability());
    }
    Ok(())
}

/// The first of these mistakes, each with a number to it.
fn some_mistakes(
    heard: &Heard,
    indices: &[usize],
    name: &str,
    number: impl Fn(usize) -> String,
) {
    let mut rows = vec![["word", "said", "listed nearest", name].map(String::from)];
    rows.extend(indices.iter().take(8).map(|&index| {
        let word = heard.entries[index].word.clone();
        let [said, nearest] =
            [&heard.predictions, &heard.nearest].map(|list| text(&list[index]));
        [word, said, nearest, number(index)]
    }));
    let width =
        |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [word_width, said_width, nearest_width, number_width] = [0, 1, 2, 3].map(width);
    for [word, said, nearest, number] in &rows {
        println!(
            "{word:<word_width$}  {said:<said_width$}  {nearest:<nearest_width$}  {number:>number_width$}"
        );
    }
}

/// At each step of a pronunciation, the token that was written and the likeliest other one, with their probabilities.
fn steps(
    pronouncer: &Pronouncer,
    word: &str,
    said: &Hypothesis,
) -> Result<Vec<[(&'static str, f64); 2]>> {
    let Pronouncer { model, vocabulary } = pronouncer;
    let example = Example::new(vocabulary, word, &said.phonemes)?;
    let batch = Batch::collate(&[&example], Device::Cpu)?;
    let logits = teacher_forced_logits(model, &batch, &Dropout::off())?.get(0); // [T, V]
    let mut writable = vocabulary.phonemes(&Phoneme::all().collect::<Vec<_>>());
    writable.push(EOS);
    let mut steps = Vec::new();
    for (place, &written) in example.tokens.iter().enumerate().skip(example.prefix) {
        // The first token must be a phoneme.
        let open = writable.len() - usize::from(place == example.prefix);
        let open = &writable[..open];
        let logits =
            logits.get(place as i64 - 1).index_select(0, &Tensor::from_slice(open));
        let shares: Vec<f64> = Vec::try_from(logits.softmax(-1, Kind::Double))?;
        let shares = open.iter().copied().zip(shares);
        let (this, others): (Vec<_>, Vec<_>) = shares.partition(|(id, _)| *id == written);
        let other = others.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        if let (Some(&(id, p)), Some((other, q))) = (this.first(), other) {
            steps.push([(vocabulary.symbol(id)?, p), (vocabulary.symbol(other)?, q)]);
        }
    }
    Ok(steps)
}

impl Heard<'_> {
    /// The words that are wrong, the surest first.
    fn surest(&self) -> Vec<usize> {
        self.wrong(|index| -self.said(index).greedy.log_probability)
    }

    /// The surest mistake in a word of six letters or more.
    fn worth_a_look(&self) -> Option<usize> {
        let mut surest = self.surest().into_iter();
        surest.find(|&index| self.entries[index].word.len() >= 6)
    }

    /// Whether the probability of what was said means what it says.
    fn calibration(&self) -> Result<Calibration> {
        let outcomes = self.record.said.iter().zip(&self.edits);
        let outcomes: Vec<_> = outcomes
            .map(|(said, &edits)| (said.greedy.probability(), edits == 0))
            .collect();
        Calibration::of(&outcomes, 10)
    }

    fn reliability_figure(&self) -> Result<Chart> {
        let mut bins = self.calibration()?.bins;
        bins.retain(|bin| bin.count >= 20); // the band of a smaller one would leave the picture
        let points = bins.iter().map(|bin| (bin.confidence, bin.accuracy)).collect();
        let spread = bins.iter().map(|&Bin { accuracy, count, .. }| {
            1.96 * standard_error(accuracy, count) // nineteen times in twenty within
        });
        let spread = spread.collect();
        let edges = [0.0, 1.0];
        Ok(Chart::Curves(Curves {
            title: "How sure, and how often right".into(),
            description: "The validation words in ten groups by the probability of what was said, and the part of \
                          each group that was right. On the dashed line the two are equal."
                .into(),
            x_axis: Axis::linear("mean probability of the pronunciations in a group").with_include(edges),
            y_axis: Axis::linear("part that is right").with_include(edges),
            series: vec![
                Series::new("the model", points).with_spread(spread),
                Series::new("sure as often as right", edges.map(|p| (p, p)).into()).with_dashes(),
            ],
            references: Vec::new(),
        }))
    }

    /// Which vowels are said for which.
    fn confusion_figure(&self) -> Chart {
        const VOWELS: [&str; 15] = [
            "AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY",
            "UH", "UW",
        ];
        let place = |phoneme: &Phoneme| {
            VOWELS.iter().position(|vowel| *vowel == phoneme.symbol())
        };
        let mut counts = [[0.0; 15]; 15];
        let mut listed = [0.0; 15];
        for (said, nearest) in self.predictions.iter().zip(&self.nearest) {
            for (said, actual) in align(said, nearest) {
                let Some(row) = actual.and_then(place) else { continue };
                listed[row] += 1.0;
                if let Some(column) = said.and_then(place).filter(|column| *column != row)
                {
                    counts[row][column] += 1.0;
                }
            }
        }
        let values: Vec<Vec<f64>> = counts
            .iter()
            .zip(listed)
            .map(|(row, listed)| {
                row.map(|count| 100.0 * count / f64::max(listed, 1.0)).to_vec()
            })
            .collect();
        let max = values.iter().flatten().copied().fold(1.0, f64::max);
        Chart::Heatmap(Heatmap {
            title: "Vowels said for other vowels, in percent".into(),
            description: "A row is a vowel of the dictionary, a column the vowel that the model said in its place; \
                          the number is the percentage of the row's vowels. The diagonal, where the two are the \
                          same, is left out."
                .into(),
            row_axis: "listed".into(),
            column_axis: "said".into(),
            rows: VOWELS.map(String::from).into(),
            columns: VOWELS.map(String::from).into(),
            min: 0.0,
            max: max.ceil(),
            show_values: true,
            values,
        })
    }

    /// What a sure mistake looked at, in the head that looks most sharply.
    fn mistake_figure(&self) -> Result<Chart> {
        let Some(index) = self.worth_a_look() else {
            return Err(Error::input("mistake", "there is no word that is wrong"));
        };
        let Said { word, greedy, .. } = self.said(index);
        let capture = Capture::of(&self.setting.pronouncer, word, &greedy.phonemes)?;
        let mut heatmaps = Vec::new();
        for (block, heads) in capture.weights.iter().enumerate() {
            for head in 0..heads.len() {
                heatmaps.push(capture.heatmap(block, head)?);
            }
        }
        let sharpness = |heatmap: &Heatmap| -> f64 {
            heatmap.values.iter().map(|row| row.iter().copied().fold(0.0, f64::max)).sum()
        };
        heatmaps.sort_by(|a, b| sharpness(b).total_cmp(&sharpness(a)));
        Ok(Chart::Heatmap(heatmaps.swap_remove(0)))
    }
}

/// The tree of the search, with the probability of each way down.
fn tree_figure() -> Chart {
    let node =
        |name: &str, p: f64, place| Node::new(name, [name, &format!("{p:.3}")], place);
    Chart::Diagram(Diagram {
        title: "Five ways to go on after T".into(),
        description: "A tree. After T come OW with 0.4, AH with 0.35 and AW with 0.25. After OW the end with 0.55 \
                      or F with 0.45; after AH F with 0.9 or the end with 0.1; after AW the end. Multiplied down, \
                      AH F has 0.315, AW 0.25, OW 0.22, OW F 0.18 and AH 0.035."
            .into(),
        columns: 5,
        nodes: vec![
            node("T", 1.0, (0, 0)).with_span(5),
            node("OW", 0.4, (1, 0)).with_span(2),
            node("AH", 0.35, (1, 2)).with_span(2).with_series(0),
            node("AW", 0.25, (1, 4)),
            node("OW <eos>", 0.4 * 0.55, (2, 0)),
            node("OW F", 0.4 * 0.45, (2, 1)),
            node("AH F", 0.35 * 0.9, (2, 2)).with_series(0),
            node("AH <eos>", 0.35 * 0.1, (2, 3)),
            node("AW <eos>", 0.25, (2, 4)),
        ],
        arrows: vec![
            Arrow::new("T", "OW").with_label("0.4"),
            Arrow::new("T", "AH").with_label("0.35"),
            Arrow::new("T", "AW").with_label("0.25"),
            Arrow::new("OW", "OW <eos>").with_label("0.55"),
            Arrow::new("OW", "OW F").with_label("0.45"),
            Arrow::new("AH", "AH F").with_label("0.9"),
            Arrow::new("AH", "AH <eos>").with_label("0.1"),
            Arrow::new("AW", "AW <eos>").with_label("1"),
        ],
    })
}
