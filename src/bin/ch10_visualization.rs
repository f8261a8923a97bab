//! Chapter 10, what the model looks at: `cargo run --bin ch10_visualization`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::data::cmudict::text;
use self_attention::evaluation::decoding::prompt;
use self_attention::evaluation::pronouncer::{Card, Pronouncer};
use self_attention::files::write_whole;
use self_attention::prelude::*;
use self_attention::visualization::ablation::{rank_correlation, Effect, Head, Rates};
use self_attention::visualization::capture::Capture;
use self_attention::visualization::head_record::{HeadRecord, Pair, Removed};
use self_attention::visualization::heads::{
    distance, entropy, looked_at, offset, Look, Measures, PLACES, REACH,
};
use self_attention::visualization::inside::{
    even_weights, look_inside, read_words, Inside,
};
use self_attention::visualization::maps::{block_map, head_map, map_of_heads, model_map};
use self_attention::visualization::table::matrix;
use self_attention::visualization::{
    Axis, Chart, Curves, Heatmap, Panels, Reference, Series,
};
use serde::Serialize;
use serde_json::Value;
use tch::no_grad;

const EXAMPLES: &str = "\
Examples:
  ch10_visualization                            everything the chapter shows
  ch10_visualization rhythm                     heatmaps and weights of a word, into runs/attention
  ch10_visualization tough --block 1 --head 2   one head of your choice
  ch10_visualization read --pronunciation \"R EH D\"";

/// Computes everything that chapter 10 shows, or draws what the model looks at in a word.
#[derive(Parser)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    /// Draws a word: one head, all heads of its block, all heads of the model; and writes all weights as JSON.
    word: Option<String>,

    /// The phonemes to read the word with [default: what the model says]
    #[arg(long, value_name = "PHONEMES", requires = "word")]
    pronunciation: Option<String>,

    /// The block of the head and of the heads to draw, counted from 1 [default: that of the best alignment head]
    #[arg(long, value_name = "B", requires = "word")]
    block: Option<usize>,

    /// The head to draw alone, counted from 1 [default: the best alignment head, or the first of --block]
    #[arg(long, value_name = "H", requires = "word")]
    head: Option<usize>,

    /// Where to write the files of a word.
    #[arg(
        long,
        value_name = "FOLDER",
        requires = "word",
        default_value = "runs/attention"
    )]
    out: PathBuf,

    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER", conflicts_with = "word")]
    figures: Option<PathBuf>,

    /// Write what the explorer of the page shows before the model is loaded.
    #[arg(long, value_name = "FILE", conflicts_with = "word")]
    explorer: Option<PathBuf>,

    /// Measures every head and silences each in turn, and keeps what comes of it beside the model: minutes.
    #[arg(long, conflicts_with = "word")]
    record: bool,
}

/// The model that is shipped.
const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/pronouncer.safetensors");

/// One number of a head.
type Measure = fn(&Measures) -> f64;

/// The words of the book.
const FOUR: [&str; 4] = ["though", "through", "tough", "cough"];

/// The words to choose from in the explorer. The first is the one it begins with.
const WORDS: [&str; 8] =
    ["though", "through", "tough", "cough", "thorough", "bough", "night", "knight"];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tch::set_num_threads(1); // sums in the same order on every machine
    let weights = Path::new(SHIPPED);
    let card = Card::read(weights)?;
    let pronouncer = Pronouncer::load(weights, Device::Cpu)?;
    if arguments.record {
        return record(&pronouncer, &card);
    }
    if let Some(word) = &arguments.word {
        return draw(&arguments, &pronouncer, &card, word);
    }
    let record = HeadRecord::read(weights, &card)?;
    let best = record.best();
    let book = Book { pronouncer, record, best };
    if let Some(file) = arguments.explorer {
        return book.save_explorer(&file);
    }
    if let Some(folder) = arguments.figures {
        return book.figures(&folder);
    }
    book.question_27()?;
    book.question_28()?;
    book.question_29()
}

fn record(pronouncer: &Pronouncer, card: &Card) -> Result<()> {
    let command = "cargo run --release --bin ch10_visualization -- --record";
    let bar = indicatif::ProgressBar::new(0);
    let watch = |done: usize, all: usize| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    };
    let dictionary = Dictionary::embedded()?;
    HeadRecord::make(pronouncer, card, command, &dictionary, watch)?
        .write(Path::new(SHIPPED))
}

// ANCHOR: draw
/// Writes the heatmaps and the weights of one word.
fn draw(
    arguments: &Arguments,
    pronouncer: &Pronouncer,
    card: &Card,
    word: &str,
) -> Result<()> {
    let head = chosen(arguments, card)?;
    let phonemes = match &arguments.pronunciation {
        Some(text) => spelled_out(pronouncer, word, text)?,
        None => pronouncer.pronounce(&[word])?.concat(),
    };
    let capture = Capture::of(pronouncer, word, &phonemes)?.with_model(&card.weights);
    println!("{word}\t{}", text(&phonemes));
    for Written { name, shows, chart } in written(&capture, head)? {
        let path = arguments.out.join(&name);
        match chart {
            Some(chart) => chart.save(&arguments.out, name.trim_end_matches(".svg"))?,
            None => capture.save(&path)?,
        }
        println!("{}\t{shows}", path.display());
    }
    Ok(())
}
// ANCHOR_END: draw

/// A file of a word.
struct Written {
    name: String,
    shows: String,
    /// None for the weights themselves.
    chart: Option<Chart>,
}

/// What is written of a word.
fn written(capture: &Capture, head: Head) -> Result<Vec<Written>> {
    let (blocks, heads) = (capture.weights.len(), capture.weights[0].len());
    let letters = &capture.tokens[..capture.prefix - 1].concat(); // no character that a file's name cannot have
    let file = |kind: &str, shows: String, chart| Written {
        name: format!("{letters}_{kind}.svg"),
        shows,
        chart: Some(chart),
    };
    let map = head_map(capture, head.block, head.head)?;
    Ok(vec![
        file("head", head.to_string(), Chart::Heatmap(map)),
        file(
            "block",
            format!("all heads of block {}", head.block + 1),
            block_map(capture, head.block)?,
        ),
        file("model", format!("all {blocks} × {heads} heads"), model_map(capture)),
        Written {
            name: format!("{letters}_weights.json"),
            shows: "all weights".into(),
            chart: None,
        },
    ])
}

/// The head that was asked for.
fn chosen(arguments: &Arguments, card: &Card) -> Result<Head> {
    let from_1 = |what: &'static str, number: usize, count: i64| {
        let reason = format!("the model has {what}s 1 to {count}");
        let is_there = (1..=count as usize).contains(&number);
        is_there.then(|| number - 1).ok_or_else(|| Error::config(what, number, reason))
    };
    let head = |number| from_1("head", number, card.model.heads);
    let block = |number| from_1("block", number, card.model.blocks);
    match (arguments.block, arguments.head) {
        (Some(of), number) => {
            Ok(Head { block: block(of)?, head: head(number.unwrap_or(1))? })
        }
        (None, number) => {
            let number = number.map(head).transpose()?;
            let best = HeadRecord::read(Path::new(SHIPPED), card)?.best();
            Ok(Head { head: number.unwrap_or(best.head), ..best })
        }
    }
}

/// Phonemes as they were typed, if the model has room for them.
fn spelled_out(pronouncer: &Pronouncer, word: &str, text: &str) -> Result<Vec<Phoneme>> {
    let Pronouncer { model, vocabulary } = pronouncer;
    let prompt = prompt(model, vocabulary, word)?;
    let phonemes: Vec<Phoneme> =
        text.split_whitespace().map(str::parse).collect::<Result<_>>()?;
    let next = model.next_place(&Tensor::from_slice(&prompt).unsqueeze(0))?;
    let room = (model.config.max_positions - next) as usize;
    let letters = prompt.len() - 1; // and `<sep>`
    if phonemes.is_empty() || phonemes.len() > room {
        let problem = format!(
            "{} phonemes, and with {letters} letters there is room for 1 to {room}; give as many, \
             as in \"T AH F\"",
            phonemes.len()
        );
        return Err(Error::input("pronunciation", problem));
    }
    Ok(phonemes)
}

/// What the page hands to `book/theme/explorer.js`.
#[derive(Serialize)]
struct Explorer {
    /// How large the file of weights is.
    bytes: u64,
    /// What the model looks at in each word, with the pronunciation it writes itself.
    captures: Vec<Capture>,
}

/// What the chapter is about.
struct Book {
    pronouncer: Pronouncer,
    record: HeadRecord,
    /// The head with the largest alignment score.
    best: Head,
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A rise in percentage points with its standard error.
fn points(rise: f64, error: f64) -> String {
    format!("{:+.2} ± {:.2}", 100.0 * rise, 100.0 * error)
}

impl Book {
    /// What the model looks at in a word that it pronounces itself.
    fn capture(&self, word: &str) -> Result<Capture> {
        let said = self.pronouncer.pronounce(&[word])?.concat();
        Ok(Capture::of(&self.pronouncer, word, &said)?.with_model(&self.record.weights))
    }

    fn measures(&self, head: Head) -> Result<&Measures> {
        let missing = || Error::input("record", format!("has no {head}"));
        self.record.of(head).ok_or_else(missing)
    }

    fn heads(&self) -> Vec<Head> {
        Head::all(&self.pronouncer.model)
    }

    fn question_27(&self) -> Result<()> {
        println!("== q27_shapes ==");
        self.shapes()?;

        println!("\n== q27_rows ==");
        let capture = self.capture("tough")?;
        println!("{}\n", self.best);
        let rows = &capture.weights[self.best.block][self.best.head];
        let first = capture.prefix - 1; // <sep>
        let predicted = capture.tokens[first + 1..].iter().map(String::as_str);
        let names: Vec<String> = capture.tokens[first..]
            .iter()
            .zip(predicted.chain(["<eos>"]))
            .map(|(row, next)| format!("{row} → {next}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let columns: Vec<&str> = capture.tokens.iter().map(String::as_str).collect();
        println!(
            "{}",
            matrix(&names, &columns, &Tensor::from_slice2(&rows[first..]), 4)?
        );

        println!("\n== q27_json ==");
        let json = serde_json::to_value(&capture)
            .map_err(|error| Error::input("capture", error.to_string()))?;
        if let Value::Object(fields) = &json {
            for (name, value) in fields {
                println!("{name:<9} {}", form(value));
            }
        }

        println!("\n== q27_dropout ==");
        after_dropout(&capture)
    }

    /// The weights as the model hands them out, and what must be true of them.
    fn shapes(&self) -> Result<()> {
        let Pronouncer { model, vocabulary } = &self.pronouncer;
        let (tokens, mask) = self.tough()?;
        let prediction =
            no_grad(|| model.forward(&tokens, Some(&mask), &Dropout::off()))?;
        let ids: Vec<i64> = Vec::try_from(&tokens.get(0))?;
        println!("tokens    {}", vocabulary.text(&ids)?);
        println!("logits    {:?}", prediction.logits.size());
        for (block, weights) in prediction.weights.iter().enumerate() {
            println!("block {}   {:?}", block + 1, weights.size());
        }
        let all = Tensor::stack(&prediction.weights, 0); // [blocks, B, H, T, T]
        let sums = all.sum_dim_intlist(-1, false, Kind::Double);
        let far = (&sums - 1.0).abs().max().double_value(&[]);
        let negative = all.lt(0.0).sum(Kind::Int64).int64_value(&[]);
        let closed = mask.closed()?.expand_as(&all);
        let on_closed = all.masked_select(&closed);
        println!("\nrows                                 {}", sums.numel());
        println!("all sum to one, within 0.0001        {}", far < 1e-4);
        println!("weights below 0                      {negative}");
        println!("weights of closed keys               {}", on_closed.numel());
        let zero = bool::try_from(on_closed.eq(0.0).all())?;
        println!("all of them are exactly 0            {zero}");
        let look = |_, heads: &self_attention::visualization::inside::Heads| {
            Ok(heads.weights.shallow_clone())
        };
        let logits = no_grad(|| look_inside(model, &tokens, Some(&mask), look))?;
        println!("to look changes a bit of the logits  {}", logits != prediction.logits);
        Ok(())
    }

    /// *tough* with its pronunciation, `[1, T]`, and its mask.
    fn tough(&self) -> Result<(Tensor, Mask)> {
        let Pronouncer { vocabulary, .. } = &self.pronouncer;
        let said = self.pronouncer.pronounce(&["tough"])?.concat();
        let example = Example::new(vocabulary, "tough", &said)?;
        let batch = Batch::collate(&[&example], Device::Cpu)?;
        let positions = batch.tokens.size()[1];
        let mask = prefix_decoder_mask(&batch.lengths, &batch.prefixes, positions)?;
        Ok((batch.tokens, mask))
    }

    fn question_28(&self) -> Result<()> {
        println!("\n== q28_letters ==");
        let capture = self.capture("tough")?;
        let map = capture.heatmap(self.best.block, self.best.head)?;
        println!("{}\n", map.title);
        let [rows, columns] = [&map.rows, &map.columns]
            .map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        println!("{}", matrix(&rows, &columns, &Tensor::from_slice2(&map.values), 2)?);

        println!("\n== q28_files ==");
        for Written { name, shows, .. } in written(&capture, self.best)? {
            println!("{name:<19} {shows}");
        }
        Ok(())
    }

    fn question_29(&self) -> Result<()> {
        println!("\n== q29_by_hand ==");
        by_hand();
        println!("\n== q29_measures ==");
        self.table_of_measures()?;
        println!("\n== q29_by_block ==");
        self.by_block();
        println!("\n== q29_roles ==");
        self.roles()?;
        println!("\n== q29_by_place ==");
        self.by_place()?;
        println!("\n== q29_alignment ==");
        self.alignments();
        println!("\n== q29_around ==");
        self.around()?;
        println!("\n== q29_four_words ==");
        println!("{}\n", self.best);
        self.looked_at_most(&FOUR)?;
        println!("\n== q29_night ==");
        self.looked_at_most(&["night", "knight"])?;
        println!("\n== q29_alone ==");
        self.alone();
        println!("\n== q29_needed ==");
        self.needed()?;
        println!("\n== q29_predicted ==");
        self.predicted()?;
        println!("\n== q29_together ==");
        self.together();
        println!("\n== q29_pairs ==");
        self.in_pairs()?;
        println!("\n== q29_lengths ==");
        self.lengths()?;
        println!("\n== q29_same_answer ==");
        self.same_answer()
    }

    fn table_of_measures(&self) -> Result<()> {
        println!(
            "         rows of letters                      rows of <sep> and phonemes"
        );
        println!(
            "block    entropy distance   itself before  after  <sep>  entropy distance  letters  <sep>  its"
        );
        println!(
            " head    of most                                         of most                           letter"
        );
        for head in self.heads() {
            let Measures { reading, writing, alignment, .. } = self.measures(head)?;
            println!(
                "{:>2} {:>4}    {:>7.2} {:>8.2}   {:>6.2} {:>6.2} {:>6.2} {:>6.2}  {:>7.2} {:>8.2}  {:>7.2} {:>6.2}  {:>6.2}",
                head.block + 1,
                head.head + 1,
                reading.relative_entropy,
                reading.distance,
                reading.diagonal(),
                reading.previous(),
                reading.next(),
                reading.separator,
                writing.relative_entropy,
                writing.distance,
                writing.letters,
                writing.separator,
                alignment,
            );
        }
        println!(
            "\nthe score of even weights on its letter {:.2}",
            self.record.measured.around_evenly[REACH]
        );
        Ok(())
    }

    /// The means over the heads of each block.
    fn by_block(&self) {
        println!("         rows of letters     rows of <sep> and phonemes");
        println!("block    entropy distance    entropy distance");
        for (block, heads) in self.record.measured.heads.iter().enumerate() {
            let mean = |of: fn(&Measures) -> Look, number: fn(&Look) -> f64| {
                let numbers = heads.iter().map(|measures| number(&of(measures)));
                numbers.sum::<f64>() / heads.len() as f64
            };
            let [reading, writing]: [fn(&Measures) -> Look; 2] =
                [|m| m.reading, |m| m.writing];
            println!(
                "{:>5}    {:>7.2} {:>8.2}    {:>7.2} {:>8.2}",
                block + 1,
                mean(reading, |look| look.relative_entropy),
                mean(reading, |look| look.distance),
                mean(writing, |look| look.relative_entropy),
                mean(writing, |look| look.distance),
            );
        }
    }

    /// The heads whose letters choose by their place, and what they choose.
    fn by_place(&self) -> Result<()> {
        let places: Vec<String> =
            (1..=PLACES).map(|place| format!("{place:>2}")).collect();
        println!("head  the letter at place");
        println!("      {}    do so", places.concat());
        let mut order = self.heads();
        let same = |head: &Head| self.record.of(*head).map_or(0.0, |m| m.same_place);
        order.sort_by(|a, b| same(b).total_cmp(&same(a)));
        let (first, others) = order.split_at(5.min(order.len()));
        for head in first {
            let favourites = self.measures(*head)?.favourites.map(|key| match key {
                Some(key) => format!("{:>2}", key + 1),
                None => " –".to_owned(),
            });
            let name = format!("{}.{}", head.block + 1, head.head + 1);
            println!("{name:<5} {} {:>8}", favourites.concat(), percent(same(head)));
        }
        let most = others.first().map_or(0.0, same);
        println!("the others, at most    {:>8}", percent(most));
        Ok(())
    }

    /// For each role the head that comes closest to it.
    fn roles(&self) -> Result<()> {
        let mut named = Vec::new();
        println!("{:<34} {:<16} {:>10}", "", "closest", "its weight");
        let heads = self.heads();
        let count = self.measures(self.best)?.roles().len();
        for role in 0..count {
            let mut of_role = Vec::new();
            for &head in &heads {
                let (name, weight) = self.measures(head)?.roles()[role];
                of_role.push((name, head, weight));
                if weight > 0.5 && !named.contains(&head) {
                    named.push(head);
                }
            }
            let most = of_role.into_iter().max_by(|a, b| a.2.total_cmp(&b.2));
            if let Some((name, head, weight)) = most {
                let more = if weight > 0.5 { "  more than half" } else { "" };
                println!("{name:<34} {:<16} {weight:>10.2}{more}", head.to_string());
            }
        }
        println!(
            "\nheads with more than half of their weight in one role: {} of {}",
            named.len(),
            heads.len()
        );
        Ok(())
    }

    /// How the weight of the best heads lies around the letter that writes the phoneme.
    fn around(&self) -> Result<()> {
        println!("                 letters before           its   letters after");
        let steps = -(REACH as i64)..=REACH as i64;
        let names: Vec<String> = steps.map(|step| format!("{step:>5}")).collect();
        println!("{:<16} {}", "", names.concat());
        let (mut elsewhere, mut ahead) = (0, 0);
        let evenly = self.record.measured.around_evenly;
        let tilt = |around: &[f64]| {
            let sum = |weights: &[f64]| weights.iter().sum::<f64>();
            sum(&around[REACH + 1..]) / sum(&around[..REACH])
        };
        let print = |name: &str, around: &[f64]| {
            let cells: Vec<String> = around.iter().map(|w| format!("{w:>5.2}")).collect();
            println!("{name:<16} {}", cells.concat());
        };
        for head in self.heads() {
            let around = self.measures(head)?.around_letter;
            elsewhere += usize::from(largest(&around) != REACH);
            ahead += usize::from(tilt(&around) > tilt(&evenly));
            print(&head.to_string(), &around);
        }
        print("even weights", &evenly);
        let heads = self.heads().len();
        println!("\nof {heads} heads");
        println!("  some letter around has more weight than its own  {elsewhere:>3}");
        println!("  look ahead more than even weights do             {ahead:>3}");
        Ok(())
    }

    fn alignments(&self) {
        println!("{:<37} {:>13}  {:>17}", "", "the same", "or one beside it");
        for read in &self.record.alignments {
            let agreement = &read.agreement;
            println!(
                "{:<37} {:>13}  {:>17}",
                read.way,
                percent(agreement.rate()),
                percent(agreement.near_rate())
            );
        }
        let phonemes = self.record.alignments.first().map_or(0, |r| r.agreement.phonemes);
        println!("\n{phonemes} phonemes; the best head is {}", self.best);
        let nth = &self.record.nth_letter;
        println!("for the n-th phoneme it finds");
        println!("  the n-th letter                   {:>15}", percent(nth.rate()));
        println!("  the n-th letter or one beside it  {:>15}", percent(nth.near_rate()));
    }

    /// Which letter each phoneme of some words looks at most, in the head with the best alignment.
    fn looked_at_most(&self, words: &[&str]) -> Result<()> {
        for word in words {
            let capture = self.capture(word)?;
            let weights = &capture.weights[self.best.block][self.best.head];
            let (prefix, said) = (capture.prefix, &capture.tokens[capture.prefix..]);
            let letters = looked_at(weights, prefix, said.len(), 0);
            let seen = said.iter().zip(letters).enumerate();
            let seen = seen.map(|(place, (phoneme, letter))| {
                let weight = weights[prefix - 1 + place][letter];
                let before = &word[..letter];
                let after = &word[letter + 1..];
                let shown = format!("{before}[{}]{after}", capture.tokens[letter]);
                format!("{phoneme:<3} {shown:<10} {weight:.2}")
            });
            println!("{word:<8} {}", seen.collect::<Vec<_>>().join("   "));
        }
        Ok(())
    }

    /// Each head silenced, those first that the model misses most.
    fn alone(&self) {
        let alone = &self.record.alone;
        println!(
            "without any head silenced: PER {}, words wrong {}, {} words\n",
            percent(alone.whole.phoneme_error_rate),
            percent(alone.whole.word_error_rate),
            alone.edits.len()
        );
        println!("                   silenced                                              its mean instead");
        println!("                         PER rises by    words wrong rise by   changed         PER rises by");
        let mut removed: Vec<&Removed> = alone.heads.iter().collect();
        removed.sort_by(|a, b| harm(b).total_cmp(&harm(a)));
        let rises = |effect: &Effect| {
            let Effect { rise, error, .. } = effect;
            [
                points(rise.phoneme_error_rate, error.phoneme_error_rate),
                points(rise.word_error_rate, error.word_error_rate),
            ]
        };
        for removed in removed {
            let [phonemes, words] = rises(&removed.silenced);
            let [mean, _] = rises(&removed.averaged);
            println!(
                "{:<16} {} {phonemes:>17} {words:>22} {:>9} {} {mean:>17}",
                removed.head.to_string(),
                mark(&removed.silenced),
                removed.silenced.changed,
                mark(&removed.averaged),
            );
        }
        println!("\n* by more than three standard errors");
    }

    /// How many heads the model needs, one at a time.
    fn needed(&self) -> Result<()> {
        let removed = &self.record.alone.heads;
        let count =
            |is: &dyn Fn(&Removed) -> bool| removed.iter().filter(|r| is(r)).count();
        let hurt = |removed: &Removed| removed.silenced.hurts();
        let helps = |removed: &Removed| {
            let Effect { rise, error, .. } = removed.silenced;
            -rise.phoneme_error_rate > Effect::BEYOND_CHANCE * error.phoneme_error_rate
        };
        let heads = removed.len();
        println!("of {heads} heads, silenced alone");
        println!("  the PER rises by more than chance        {:>3}", count(&hurt));
        println!("  the PER falls by more than chance        {:>3}", count(&helps));
        println!(
            "  by no more than chance either way        {:>3}",
            heads - count(&hurt) - count(&helps)
        );
        println!(
            "  with the mean instead, more than chance  {:>3}",
            count(&|removed| removed.averaged.hurts())
        );
        let small = count(&|removed| removed.silenced.rise.phoneme_error_rate < 0.005);
        println!("  the PER rises by less than half a point  {small:>3}");
        let words = self.record.measured.words;
        println!("\n== q29_by_harm ==");
        println!("                            PER rises by   of {words} words, changed by even weights");
        let mut by_harm: Vec<&Removed> = removed.iter().collect();
        by_harm.sort_by(|a, b| harm(b).total_cmp(&harm(a)));
        for removed in by_harm.iter().take(5) {
            let Effect { rise, error, .. } = removed.silenced;
            let rise = points(rise.phoneme_error_rate, error.phoneme_error_rate);
            println!(
                "{:<21} {rise:>18} {:>24}",
                removed.head.to_string(),
                removed.changed_evenly
            );
        }
        let most = by_harm.iter().skip(5).map(|removed| removed.changed_evenly).max();
        println!("the others, at most {:>44}", most.unwrap_or(0));
        println!("\n== q29_by_score ==");
        println!("                         alignment score    PER rises by");
        let mut by_score = self.heads();
        let score = |head: &Head| self.record.of(*head).map_or(0.0, |m| m.alignment);
        by_score.sort_by(|a, b| score(b).total_cmp(&score(a)));
        for head in by_score.iter().take(4) {
            let Some(removed) = removed.iter().find(|r| r.head == *head) else {
                continue;
            };
            let Effect { rise, error, .. } = removed.silenced;
            let rise = points(rise.phoneme_error_rate, error.phoneme_error_rate);
            println!(
                "{:<30} {:>9.2} {} {rise:>15}",
                head.to_string(),
                score(head),
                mark(&removed.silenced)
            );
        }
        Ok(())
    }

    /// Whether what a heatmap shows tells how much the model needs the head.
    fn predicted(&self) -> Result<()> {
        let heads = self.heads();
        let harms: Vec<f64> = self.record.alone.heads.iter().map(harm).collect();
        let measures = heads
            .iter()
            .map(|head| self.measures(*head).copied())
            .collect::<Result<Vec<_>>>()?;
        let tries: [(&str, Measure); 6] = [
            ("weight on its letter", |m| m.alignment),
            ("weight on the last one's letter", |m| m.echo),
            ("entropy, rows of letters", |m| m.reading.relative_entropy),
            ("entropy, rows of phonemes", |m| m.writing.relative_entropy),
            ("weight on <sep>, rows of letters", |m| m.reading.separator),
            ("weight on letters, rows of phonemes", |m| m.writing.letters),
        ];
        println!("rank correlation with the rise of the PER");
        for (name, measure) in tries {
            let values: Vec<f64> = measures.iter().map(measure).collect();
            println!("  {name:<36} {:>5.2}", rank_correlation(&values, &harms)?);
        }
        let blocks: Vec<f64> = heads.iter().map(|head| head.block as f64).collect();
        println!("  {:<36} {:>5.2}", "block", rank_correlation(&blocks, &harms)?);
        println!(
            "\nif {} heads had nothing to do with it, then 19 times in 20",
            heads.len()
        );
        // The second is for seven at once: one of 140 lies beyond it, to either side.
        for (what, quantile) in
            [("one of these would lie", 1.96), ("all seven would lie", 2.69)]
        {
            let chance = quantile / ((heads.len() - 1) as f64).sqrt();
            println!("  {what:<22} between −{chance:.2} and {chance:.2}");
        }
        Ok(())
    }

    /// More and more heads silenced: what comes of it, and what would if harms added up.
    fn together(&self) {
        let together = &self.record.together;
        println!(
            "silenced  with                PER                  if harms added up   words wrong"
        );
        println!(
            "{:>8}  {:<16} {:>8} {:>26}  {:>12}",
            0,
            "",
            percent(together.whole.phoneme_error_rate),
            "",
            percent(together.whole.word_error_rate)
        );
        for (count, (step, added)) in
            together.steps.iter().zip(self.added_up()).enumerate()
        {
            let Effect { rise, error, .. } = step.effect;
            let of =
                |rate: fn(&Rates) -> f64| percent(rate(&together.whole) + rate(&rise));
            println!(
                "{:>8}  {:<16} {:>8} ± {:>4.2} {:>19}  {:>12}",
                count + 1,
                step.head.to_string(),
                of(|rates| rates.phoneme_error_rate),
                100.0 * error.phoneme_error_rate,
                percent(added),
                of(|rates| rates.word_error_rate),
            );
        }
    }

    /// What the model loses if it loses two heads of the first block, and at how many places both look at the same.
    fn in_pairs(&self) -> Result<()> {
        println!("block 1            places where both      PER rises by   if harms");
        println!("                   look at the same                      added up");
        for Pair { heads: [one, other], effect } in &self.record.together.pairs {
            let (ours, theirs) =
                (self.measures(*one)?.favourites, self.measures(*other)?.favourites);
            let same = ours.iter().zip(theirs);
            let same = same.filter(|(a, b)| a.is_some() && *a == b).count();
            let Effect { rise, error, .. } = effect;
            let rise = points(rise.phoneme_error_rate, error.phoneme_error_rate);
            let added = self.alone_harm(*one) + self.alone_harm(*other);
            println!(
                "heads {} and {}   {same:>8} of {PLACES} {rise:>22} {:>+10.2}",
                one.head + 1,
                other.head + 1,
                100.0 * added
            );
        }
        Ok(())
    }

    /// By how much the PER rises without this head.
    fn alone_harm(&self, head: Head) -> f64 {
        let removed = self.record.alone.heads.iter().find(|r| r.head == head);
        removed.map_or(0.0, harm)
    }

    /// At each step the PER there would be if the harm of each head alone added up.
    fn added_up(&self) -> Vec<f64> {
        let together = &self.record.together;
        let steps = together.steps.iter();
        let sums = steps.scan(together.whole.phoneme_error_rate, |sum, step| {
            *sum += self.alone_harm(step.head);
            Some(*sum)
        });
        sums.collect()
    }

    /// Of all weights of the four words in all heads, the one whose share in what is added is smallest beside it.
    fn short_vector(&self) -> Result<ShortVector> {
        let said = self.pronouncer.pronounce(&FOUR)?;
        let spoken: Vec<_> =
            FOUR.iter().zip(&said).map(|(word, said)| (*word, &said[..])).collect();
        let mut found: Option<(f64, ShortVector)> = None;
        read_words(&self.pronouncer, &spoken, |place, inside| {
            for head in self.heads() {
                let weights = &inside.weights[head.block][head.head];
                for (query, row) in weights.iter().enumerate() {
                    let shares = contributions(inside, head, query);
                    let drops = row.iter().zip(shares).map(|(w, share)| w - share);
                    let drop = drops.fold(0.0, f64::max);
                    if found.as_ref().is_none_or(|(most, _)| drop > *most) {
                        let example = ShortVector {
                            word: FOUR[place],
                            said: said[place].clone(),
                            head,
                            query,
                            inside: inside.clone(),
                        };
                        found = Some((drop, example));
                    }
                }
            }
            Ok(())
        })?;
        let none = || Error::input("lengths", "the four words have no weights");
        found.map(|(_, example)| example).ok_or_else(none)
    }

    /// How often lengths turn the order of weights over, and whether `<sep>` is given much weight and little length.
    fn lengths(&self) -> Result<()> {
        let heads = self.heads();
        let measures = heads
            .iter()
            .map(|head| self.measures(*head).copied())
            .collect::<Result<Vec<_>>>()?;
        let same: f64 =
            measures.iter().map(|m| m.same_largest).sum::<f64>() / heads.len() as f64;
        println!(
            "rows in which the largest weight is the largest contribution  {}",
            percent(same)
        );
        println!("\nheads whose letters give <sep> most   weight  its length, that of a letter being 1");
        let mut order: Vec<usize> = (0..heads.len()).collect();
        let weight = |index: usize| measures[index].reading.separator;
        order.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)));
        for &index in order.iter().take(5) {
            println!(
                "  {:<34} {:>7.2}  {:>6.2}",
                heads[index].to_string(),
                weight(index),
                measures[index].separator_length
            );
        }
        let weights: Vec<f64> = measures.iter().map(|m| m.reading.separator).collect();
        let lengths: Vec<f64> = measures.iter().map(|m| m.separator_length).collect();
        println!(
            "rank correlation over all heads {:>20.2}\n",
            rank_correlation(&weights, &lengths)?
        );
        self.short_vector()?.print()
    }

    /// One head's weights replaced by even ones: of those heads with which the answer hardly moves, the one whose weights
    /// move most.
    fn same_answer(&self) -> Result<()> {
        let Pronouncer { model, vocabulary } = &self.pronouncer;
        let (tokens, mask) = self.tough()?;
        let even = even_weights(&mask)?; // [1, 1, T, T]
        let first = vocabulary.letters("tough")?.len() as i64; // the row of <sep>
        let answer = |chosen: Option<Head>| -> Result<(Tensor, f64)> {
            let mut moved = 0.0;
            let logits = no_grad(|| {
                look_inside(model, &tokens, Some(&mask), |block, heads| {
                    let weights = heads.weights.copy(); // [1, H, T, T]
                    if let Some(head) = chosen.filter(|head| head.block == block) {
                        let mut of_head = weights.select(1, head.head as i64); // [1, T, T]
                        let apart = (&of_head - even.get(0)).abs();
                        let apart = apart.sum_dim_intlist(-1, false, Kind::Double); // [1, T]
                        moved = apart.mean(Kind::Double).double_value(&[]) / 2.0;
                        of_head.copy_(&even.get(0));
                    }
                    Ok(weights)
                })
            })?;
            let rows = logits.get(0).slice(0, first, None, 1); // [M + 1, V]
            Ok((rows.softmax(-1, Kind::Double), moved))
        };
        let (before, _) = answer(None)?;
        let said = before.argmax(-1, false); // [M + 1]
        let mut tried = Vec::new();
        for head in self.heads() {
            let (after, weights_moved) = answer(Some(head))?;
            let apart = (&after - &before).abs();
            let apart = apart.sum_dim_intlist(-1, false, Kind::Double); // [M + 1]
            let answer_moved = apart.max().double_value(&[]) / 2.0;
            let same = after.argmax(-1, false) == said;
            tried.push(Even { head, weights_moved, answer_moved, same, after });
        }
        let still = |tried: &&Even| tried.answer_moved < 0.01;
        let same = tried.iter().filter(|tried| tried.same).count();
        let count = tried.iter().filter(still).count();
        println!("tough, each head in turn made to spread its weight evenly");
        println!("  it still says the same               {same:>3} of {}", tried.len());
        println!("  and its probabilities move by < 0.01 {count:>3} of {}", tried.len());
        let most = |a: &&Even, b: &&Even| a.weights_moved.total_cmp(&b.weights_moved);
        let least = |a: &&Even, b: &&Even| a.answer_moved.total_cmp(&b.answer_moved);
        let found = tried.iter().filter(still).max_by(most);
        let Some(found) = found.or_else(|| tried.iter().min_by(least)) else {
            return Ok(());
        };
        println!("\n{}", found.head);
        println!(
            "  of the weight of a row, moved on average   {:.4}",
            found.weights_moved
        );
        println!(
            "  of the probability of a token, at most     {:.4}",
            found.answer_moved
        );
        if let Some(removed) =
            self.record.alone.heads.iter().find(|r| r.head == found.head)
        {
            let Effect { rise, error, .. } = removed.silenced;
            let rise = points(rise.phoneme_error_rate, error.phoneme_error_rate);
            println!("  silenced, the PER of the sample rises by   {rise}");
            println!(
                "  even in {} words, those that change       {:>3}",
                self.record.measured.words, removed.changed_evenly
            );
        }
        println!("\nprobability of    as learned    evenly");
        for (row, &token) in Vec::<i64>::try_from(&said)?.iter().enumerate() {
            let of = |answer: &Tensor| answer.double_value(&[row as i64, token]);
            println!(
                "{:<14} {:>13.4} {:>9.4}",
                vocabulary.symbol(token)?,
                of(&before),
                of(&found.after)
            );
        }
        Ok(())
    }

    fn figures(&self, folder: &Path) -> Result<()> {
        let Head { block, head } = self.best;
        let tough = self.capture("tough")?;
        Chart::Heatmap(head_map(&tough, block, head)?).save(folder, "ch10_head")?;
        block_map(&tough, block)?.save(folder, "ch10_block")?;
        model_map(&tough).save(folder, "ch10_model")?;
        self.explorer_figure()?.save(folder, "ch10_explorer")?;
        self.four_words_figure()?.save(folder, "ch10_words")?;
        self.measures_figure()?.save(folder, "ch10_measures")?;
        self.around_figure()?.save(folder, "ch10_around")?;
        self.alone_figure().save(folder, "ch10_alone")?;
        self.together_figure().save(folder, "ch10_together")?;
        self.short_vector()?.figure().save(folder, "ch10_lengths")
    }

    /// Writes what the explorer shows before the model is loaded.
    fn save_explorer(&self, file: &Path) -> Result<()> {
        let capture = |word| Ok(self.capture(word)?.rounded());
        let explorer = Explorer {
            bytes: fs::metadata(SHIPPED).map_err(Error::io(Path::new(SHIPPED)))?.len(),
            captures: WORDS.into_iter().map(capture).collect::<Result<_>>()?,
        };
        let text = serde_json::to_string(&explorer)
            .map_err(|error| Error::file(file, error.to_string()))?;
        write_whole(file, (text + "\n").as_bytes())
    }

    /// What stands in the explorer's place where no script runs: the head that it begins with.
    fn explorer_figure(&self) -> Result<Chart> {
        let capture = self.capture(WORDS[0])?;
        let (block, head) = capture.clearest_head();
        let Capture { word, tokens, weights, .. } = &capture;
        Ok(Chart::Heatmap(Heatmap::attention(
            format!("{word}: block {}, head {}", block + 1, head + 1),
            format!(
                "How much each token of {word} and its pronunciation, on the left, looks at each other."
            ),
            tokens,
            tokens,
            weights[block][head].clone(),
        )))
    }

    fn four_words_figure(&self) -> Result<Chart> {
        let Head { block, head } = self.best;
        let panel = |word| -> Result<Chart> {
            let map = self.capture(word)?.heatmap(block, head)?;
            Ok(Chart::Heatmap(Heatmap { title: word.into(), ..map }))
        };
        Ok(Chart::Panels(Panels {
            title: format!("One spelling, four sounds: {}", self.best),
            description: "Four heatmaps, for though, through, tough and cough: how much each phoneme, in the row \
                          where it is predicted, looks at each letter."
                .into(),
            columns: 2,
            panels: FOUR.into_iter().map(panel).collect::<Result<_>>()?,
        }))
    }

    fn measures_figure(&self) -> Result<Chart> {
        let maps: [(&str, &str, Measure); 6] = [
            (
                "Letters: entropy",
                "Entropy over the largest possible, rows of letters.",
                |m| m.reading.relative_entropy,
            ),
            ("Phonemes: entropy", "The same, rows of <sep> and phonemes.", |m| {
                m.writing.relative_entropy
            }),
            ("Letters: on the one before", "Weight on the letter before.", |m| {
                m.reading.previous()
            }),
            ("Letters: on <sep>", "Weight of letters on <sep>.", |m| m.reading.separator),
            (
                "Phonemes: on its letter",
                "Weight on the letter that writes the phoneme.",
                |m| m.alignment,
            ),
            ("Phonemes: on letters", "Weight on all letters together.", |m| {
                m.writing.letters
            }),
        ];
        let panels = maps.map(|(title, description, measure)| {
            let of = |heads: &Vec<Measures>| heads.iter().map(measure).collect();
            let values = self.record.measured.heads.iter().map(of).collect();
            Chart::Heatmap(map_of_heads(title, description, values, 1.0))
        });
        Ok(Chart::Panels(Panels {
            title: "What each head does".into(),
            description: "Six maps with a cell for each head, blocks down and heads across: entropy in the rows of \
                          letters and of phonemes, the weight of letters on the letter before and on <sep>, and the \
                          weight of phonemes on the letter that writes them and on all letters."
                .into(),
            columns: 2,
            panels: panels.into(),
        }))
    }

    /// Where each head looks from the letter that writes the phoneme.
    fn around_figure(&self) -> Result<Chart> {
        let heads = self.heads();
        let around = heads
            .iter()
            .map(|head| Ok(self.measures(*head)?.around_letter))
            .collect::<Result<Vec<_>>>()?;
        let reach = REACH as i64;
        let row = |step: usize| around.iter().map(|around| around[step]).collect();
        let name = |step: i64| match step {
            0 => "its letter".to_owned(),
            step => format!("{step:+}").replace('-', "−"),
        };
        let names =
            heads.iter().map(|head| format!("{}.{}", head.block + 1, head.head + 1));
        let values: Vec<Vec<f64>> = (0..=2 * REACH).map(row).collect();
        Ok(Chart::Heatmap(Heatmap {
            title: "Where phonemes look, counted from the letter that writes them".into(),
            description: "A column for each head, as in 2.3 for the third head of block 2, and nine rows: the mean \
                          weight on the letter that writes the phoneme, on the four before it and the four after it."
                .into(),
            row_axis: "letter".into(),
            column_axis: "head".into(),
            rows: (-reach..=reach).map(name).collect(),
            columns: names.collect(),
            min: 0.0,
            max: values.iter().flatten().copied().fold(0.0, f64::max),
            show_values: false,
            values,
        }))
    }

    fn alone_figure(&self) -> Chart {
        let heads = self.record.measured.heads.first().map_or(1, Vec::len);
        let map = |title: &str, description: &str, value: fn(&Effect) -> f64| {
            let of = |removed: &Removed| {
                (1e4 * value(&removed.silenced)).round() / 100.0 + 0.0 // no −0
            };
            let values: Vec<f64> = self.record.alone.heads.iter().map(of).collect();
            let values = values.chunks(heads).map(<[f64]>::to_vec).collect();
            map_of_heads(title, description, values, 1.0)
        };
        // A rise and its standard error on one scale, or the two could not be compared.
        let pair = |rise: Heatmap, error: Heatmap| {
            let error = Heatmap { min: rise.min, max: rise.max, ..error };
            [rise, error].map(Chart::Heatmap)
        };
        let phonemes = pair(
            map("The PER rises by", "Rise of the phoneme error rate.", |effect| {
                effect.rise.phoneme_error_rate
            }),
            map("its standard error", "Standard error of the left map.", |effect| {
                effect.error.phoneme_error_rate
            }),
        );
        let words = pair(
            map("Words wrong rise by", "Rise of the word error rate.", |effect| {
                effect.rise.word_error_rate
            }),
            map("its standard error", "Standard error of the left map.", |effect| {
                effect.error.word_error_rate
            }),
        );
        Chart::Panels(Panels {
            title: "Each head silenced: percentage points".into(),
            description: "Four maps with a cell for each head, blocks down and heads across: by how many percentage \
                          points the phoneme error rate rises when the head is silenced, the standard error of that, \
                          and the same for the part of words that are wrong."
                .into(),
            columns: 2,
            panels: phonemes.into_iter().chain(words).collect(),
        })
    }

    fn together_figure(&self) -> Chart {
        let together = &self.record.together;
        let whole = together.whole.phoneme_error_rate;
        let steps = together.steps.iter().enumerate();
        let (mut points, mut spread) = (vec![(0.0, 100.0 * whole)], vec![0.0]);
        for (count, Step { rise, error }) in
            steps.map(|(n, step)| (n + 1, Step::of(step.effect)))
        {
            points.push((count as f64, 100.0 * (whole + rise)));
            spread.push(100.0 * 1.96 * error);
        }
        let added = [whole].into_iter().chain(self.added_up()).enumerate();
        let added = added.map(|(count, rate)| (count as f64, 100.0 * rate)).collect();
        Chart::Curves(Curves {
            title: "Heads silenced together".into(),
            description: "The phoneme error rate against the number of heads that are silenced, the least needed \
                          first, with what it would be if the harm of each alone added up."
                .into(),
            x_axis: Axis::linear("heads silenced"),
            y_axis: Axis::log("phoneme error rate (%)"),
            series: vec![
                Series::new("silenced together", points).with_spread(spread),
                Series::new("if harms added up", added).with_dashes(),
            ],
            references: vec![Reference { name: "no head silenced".into(), value: 100.0 * whole }],
        })
    }
}

/// The rise of the PER and its standard error.
struct Step {
    rise: f64,
    error: f64,
}

impl Step {
    fn of(Effect { rise, error, .. }: Effect) -> Self {
        Self { rise: rise.phoneme_error_rate, error: error.phoneme_error_rate }
    }
}

/// By how much the PER rises when the head is silenced.
fn harm(removed: &Removed) -> f64 {
    removed.silenced.rise.phoneme_error_rate
}

/// A star for a rise beyond chance.
fn mark(effect: &Effect) -> &'static str {
    if effect.hurts() {
        "*"
    } else {
        " "
    }
}

/// A head with even weights, and what became of the answer.
struct Even {
    head: Head,
    /// The part of a row's weight that lies elsewhere now, on average over the rows.
    weights_moved: f64,
    /// The part of a token's probability that lies elsewhere now, at most.
    answer_moved: f64,
    /// Whether each phoneme is still the likeliest.
    same: bool,
    after: Tensor,
}

/// A row in which the largest weight lies on a short vector.
struct ShortVector {
    word: &'static str,
    said: Vec<Phoneme>,
    head: Head,
    query: usize,
    inside: Inside,
}

/// What each key adds to a row's result, as a share of the lengths of all.
fn contributions(inside: &Inside, head: Head, query: usize) -> Vec<f64> {
    let row = &inside.weights[head.block][head.head][query];
    let lengths = &inside.lengths[head.block][head.head];
    let added: Vec<f64> = row.iter().zip(lengths).map(|(w, length)| w * length).collect();
    let sum: f64 = added.iter().sum();
    added.into_iter().map(|length| length / sum).collect()
}

fn largest(numbers: &[f64]) -> usize {
    (0..numbers.len())
        .fold(0, |best, place| if numbers[place] > numbers[best] { place } else { best })
}

impl ShortVector {
    fn tokens(&self) -> Vec<String> {
        let letters = self.word.chars().map(String::from);
        let said = self.said.iter().map(|phoneme| phoneme.symbol().to_owned());
        letters.chain(["<sep>".to_owned()]).chain(said).collect()
    }

    fn print(&self) -> Result<()> {
        let Self { word, head, query, inside, .. } = self;
        let tokens = self.tokens();
        println!("{word}, {head}, the row of {}\n", tokens[*query]);
        let lengths = &inside.lengths[head.block][head.head];
        let row = &inside.weights[head.block][head.head][*query];
        let added = contributions(inside, *head, *query);
        let names: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let rows = Tensor::from_slice2(&[row, lengths, &added]);
        println!("{}", matrix(&["weight", "length", "share"], &names, &rows, 4)?);
        Ok(())
    }

    fn figure(&self) -> Chart {
        let Self { word, head, inside, .. } = self;
        let tokens = self.tokens();
        let weights = &inside.weights[head.block][head.head];
        let shares =
            (0..tokens.len()).map(|query| contributions(inside, *head, query)).collect();
        let panel = |title: &str, description: &str, values: Vec<Vec<f64>>| {
            Chart::Heatmap(Heatmap::attention(
                title,
                description,
                &tokens,
                &tokens,
                values,
            ))
        };
        Chart::Panels(Panels {
            title: format!("{word}: {head}, by weight and by what is added"),
            description: format!(
                "Two heatmaps of {word}. On the left the weight that each row gives to each column; on the right the \
                 share of the column in what is added to the row, weight times length."
            ),
            columns: 2,
            panels: vec![
                panel("weight", "The attention weights.", weights.clone()),
                panel("share of what is added", "Weight times length.", shares),
            ],
        })
    }
}

/// The row of the third of five letters, with weights that one can do by hand.
fn by_hand() {
    let rows = [
        ("all on itself", [0.0, 0.0, 1.0, 0.0, 0.0]),
        ("all on the one before", [0.0, 1.0, 0.0, 0.0, 0.0]),
        ("half and half", [0.5, 0.0, 0.0, 0.5, 0.0]),
        ("evenly", [0.2; 5]),
    ];
    println!(
        "u, the third of      t    o    u    g    h   entropy  of most  distance  offset"
    );
    for (name, row) in rows {
        let cells = row.map(|weight| format!("{weight:>4.1}")).join(" ");
        let offset = (offset(2, &row) * 1e9).round() / 1e9 + 0.0; // no −0
        println!(
            "{name:<21} {cells}   {:>7.4}  {:>7.4}  {:>8.1}  {offset:>6.1}",
            entropy(&row) + 0.0, // no −0
            entropy(&row) / 5f64.ln() + 0.0,
            distance(2, &row),
        );
    }
}

/// What weights look like after dropout: the mistake is to draw these.
fn after_dropout(capture: &Capture) -> Result<()> {
    let head = Tensor::from_slice2(&capture.weights[0][0]); // [T, T]
    let dropped = Dropout::new(0.1, 10)?.apply(&head)?;
    println!("block 1, head 1, a tenth of the weights dropped\n");
    println!("row      sum of weights  after dropout  largest after dropout");
    for (row, token) in capture.tokens.iter().enumerate() {
        let sum = |weights: &Tensor| {
            weights.get(row as i64).sum(Kind::Double).double_value(&[])
        };
        let most = dropped.get(row as i64).max().double_value(&[]);
        println!(
            "{token:<8} {:>14.4}  {:>13.4}  {most:>21.4}",
            sum(&head),
            sum(&dropped)
        );
    }
    Ok(())
}

/// What a JSON value is made of, as in `9 × string`.
fn form(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let of = items.first().map_or_else(|| "nothing".to_owned(), form);
            format!("{} × {of}", items.len())
        }
        Value::Object(fields) => {
            let fields =
                fields.iter().map(|(name, value)| format!("{name}: {}", form(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => format!("text, as in {text:?}"),
        Value::Number(_) => "number".to_owned(),
        Value::Bool(_) => "true or false".to_owned(),
        Value::Null => "nothing".to_owned(),
    }
}
