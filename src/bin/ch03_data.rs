//! Chapter 3, from text to batches: `cargo run --bin ch03_data`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use self_attention::data::{common_examples, examples};
use self_attention::model::prefix_decoder_mask;
use self_attention::prelude::*;
use self_attention::visualization::{Axis, Chart, Curves, Heatmap, Panels, Series};

/// Computes everything that chapter 3 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

/// The budgets that Q6 compares: the most positions of a batch.
const BUDGETS: [usize; 7] = [128, 256, 512, 1024, 2048, 4096, 8192];

fn main() -> Result<()> {
    tch::set_num_threads(1);
    let dictionary = Dictionary::embedded()?;
    let vocabulary = Vocabulary::new();
    let training: Arc<[Example]> =
        examples(&dictionary, &vocabulary, Split::Train)?.into();
    let batch = Batch::collate(
        &ough(&dictionary, &vocabulary)?.iter().collect::<Vec<_>>(),
        Device::Cpu,
    )?;
    if let Some(folder) = Arguments::parse().figures {
        batch_figure(&batch)?.save(&folder, "ch03_batch")?;
        masks_figure(&batch, &vocabulary)?.save(&folder, "ch03_masks")?;
        return padding_figure(&training)?.save(&folder, "ch03_padding");
    }
    question_4(&dictionary, &vocabulary)?;
    question_5(&dictionary, &vocabulary, &training)?;
    print_batch(&batch, &vocabulary)?;
    question_6(&dictionary, &vocabulary, &training)
}

/// What an error says, its advice on a line of its own.
fn in_lines(error: &Error) -> String {
    error.to_string().replace("; ", ";\n    ")
}

// ANCHOR: words
/// The vocabulary of a text: each word once, in the order of the alphabet.
struct Words(Vec<String>);

const UNKNOWN: usize = 0;

impl Words {
    fn of(text: &str) -> Self {
        let words: BTreeSet<String> = tokens(text).collect();
        Self(std::iter::once("<unk>".to_owned()).chain(words).collect())
    }

    fn ids(&self, text: &str) -> Vec<usize> {
        let id = |token| self.0.iter().position(|word| *word == token);
        tokens(text).map(|token| id(token).unwrap_or(UNKNOWN)).collect()
    }

    fn text(&self, ids: &[usize]) -> String {
        let words: Vec<&str> = ids.iter().map(|&id| self.0[id].as_str()).collect();
        words.join(" ")
    }
}

/// Small letters, and nothing but letters.
fn tokens(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|symbol: char| !symbol.is_alphabetic())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}
// ANCHOR_END: words

// ANCHOR: question_4
fn question_4(dictionary: &Dictionary, vocabulary: &Vocabulary) -> Result<()> {
    println!("== q4_words ==");
    let sentence = "Though the cough was tough, it went through.";
    let words = Words::of(sentence);
    println!("id     word");
    words.0.iter().enumerate().for_each(|(id, word)| println!("{id:>2}     {word}"));
    for text in [sentence, "The dough was tough."] {
        let ids = words.ids(text);
        println!("\ntext   {text}\nids    {ids:?}\nback   {}", words.text(&ids));
    }

    println!("\n== q4_vocabulary ==");
    println!("id     symbols from there on");
    for (row, symbols) in vocabulary.symbols().chunks(10).enumerate() {
        let symbols: String =
            symbols.iter().map(|symbol| format!("{symbol:<6}")).collect();
        println!("{:>2}     {}", 10 * row, symbols.trim_end());
    }

    println!("\n== q4_tough ==");
    let letters = vocabulary.letters("Tough")?;
    println!("letters    {letters:?}");
    println!("back       {}", vocabulary.text(&letters)?);
    for phonemes in dictionary.get("tough").into_iter().flat_map(|e| &e.pronunciations) {
        let sequence = Example::new(vocabulary, "tough", phonemes)?.tokens;
        println!("sequence   {sequence:?}");
        println!("back       {}", vocabulary.text(&sequence)?);
    }

    println!("\n== q4_errors ==");
    for word in [" Don’T ", "naïve", "x-ray", "route66", " "] {
        match vocabulary.letters(word) {
            Ok(ids) => println!("{ids:?}"),
            Err(error) => println!("{}", in_lines(&error)),
        }
    }

    println!("\n== q4_words_or_letters ==");
    let on = |split| {
        dictionary
            .iter()
            .map(|entry| entry.word.as_str())
            .filter(move |word| Split::of(word) == split)
    };
    let known_words: BTreeSet<&str> = on(Split::Train).collect();
    let known_letters: BTreeSet<char> = on(Split::Train).flat_map(str::chars).collect();
    let test: Vec<&str> = on(Split::Test).collect();
    let unknown_words = test.iter().filter(|word| !known_words.contains(*word)).count();
    let unknown_letters = test
        .iter()
        .filter(|word| !word.chars().all(|c| known_letters.contains(&c)))
        .count();
    let letters: usize = test.iter().map(|word| word.len()).sum();
    println!("tokens    in training   unknown of {} test words   a word", test.len());
    println!("words     {:>11} {unknown_words:>28} {:>8.1}", known_words.len(), 1.0);
    println!(
        "letters   {:>11} {unknown_letters:>28} {:>8.1}",
        known_letters.len(),
        letters as f64 / test.len() as f64
    );
    Ok(())
}
// ANCHOR_END: question_4

/// The five examples of *though, through, tough, cough*; the last has two pronunciations.
// ANCHOR: ough
fn ough(dictionary: &Dictionary, vocabulary: &Vocabulary) -> Result<Vec<Example>> {
    ["though", "through", "tough", "cough"]
        .into_iter()
        .filter_map(|word| dictionary.get(word))
        .flat_map(|entry| entry.pronunciations.iter().map(move |said| (entry, said)))
        .map(|(entry, phonemes)| Example::new(vocabulary, &entry.word, phonemes))
        .collect()
}
// ANCHOR_END: ough

// ANCHOR: question_5
fn question_5(
    dictionary: &Dictionary,
    vocabulary: &Vocabulary,
    training: &[Example],
) -> Result<()> {
    println!("\n== q5_cleaning ==");
    println!("words kept                {:>7}", dictionary.len());
    println!("words left out            {:>7}", dictionary.skipped());
    println!("pronunciations            {:>7}", dictionary.pronunciations());
    let mut ways = BTreeMap::new();
    for entry in dictionary.iter() {
        *ways.entry(entry.pronunciations.len()).or_insert(0) += 1;
    }
    for (ways, words) in ways {
        println!("  words with {ways} of them    {words:>7}");
    }
    for entry in ["cough", "tomato"].into_iter().filter_map(|word| dictionary.get(word)) {
        println!("{:<10} {:?}", entry.word, entry.pronunciations);
    }

    println!("\n== q5_malformed ==");
    for faulty in
        [&b"tough T AH1 F\ncaf\xe9 K"[..], b"tough", b"tough T AX1 F", b"a AH0\na EY1"]
    {
        if let Err(error) = Dictionary::parse(faulty) {
            println!("{}", in_lines(&error));
        }
    }

    println!("\n== q5_split ==");
    println!("              words   pronunciations");
    for split in [Split::Train, Split::Validation, Split::Test] {
        let on_it = || dictionary.iter().filter(|entry| Split::of(&entry.word) == split);
        let pronunciations: usize = on_it().map(|entry| entry.pronunciations.len()).sum();
        println!("{split:<10} {:>8} {pronunciations:>16}", on_it().count());
    }

    println!("\n== q5_leaks ==");
    println!("test pronunciations, and those of them whose word is in training too");
    for (name, by_word) in [("split by word", true), ("split by line", false)] {
        let (mut test, mut leaked) = (0, 0);
        for entry in dictionary.iter() {
            let line = |phonemes: &Vec<Phoneme>| -> String {
                let said = phonemes.iter().map(|phoneme| phoneme.symbol());
                std::iter::once(entry.word.as_str()).chain(said).collect()
            };
            let split = |phonemes| match by_word {
                true => Split::of(&entry.word),
                false => Split::of(&line(phonemes)),
            };
            let splits: Vec<Split> = entry.pronunciations.iter().map(split).collect();
            let tested = splits.iter().filter(|&&split| split == Split::Test).count();
            test += tested;
            leaked += if splits.contains(&Split::Train) { tested } else { 0 };
        }
        println!("{name}   {test:>6} {leaked:>6}");
    }
    let endings = ["'s", "s", "es", "ed", "ing", "er", "ly", "ness"];
    let is_related = |word: &str| {
        endings
            .iter()
            .filter_map(|ending| word.strip_suffix(ending))
            .any(|stem| dictionary.get(stem).is_some() && Split::of(stem) == Split::Train)
    };
    let test: Vec<_> =
        dictionary.iter().filter(|entry| Split::of(&entry.word) == Split::Test).collect();
    let related = test.iter().filter(|entry| is_related(&entry.word)).count();
    println!(
        "\ntest words that are a training word with an ending: {related} of {}, {:.1} %",
        test.len(),
        100.0 * related as f64 / test.len() as f64
    );

    println!("\n== q5_common ==");
    let common = common_examples(dictionary, vocabulary)?;
    let share = |times: usize| {
        let given = common.len() * times;
        let others = training.len() - common.len();
        100.0 * given as f64 / (given + others) as f64
    };
    println!("training examples         {:>7}", training.len());
    println!("of the commonest words    {:>7}", common.len());
    println!("  once each               {:>7.1} %", share(1));
    println!("  ten times each          {:>7.1} %", share(10));
    Ok(())
}
// ANCHOR_END: question_5

// ANCHOR: print_batch
fn print_batch(batch: &Batch, vocabulary: &Vocabulary) -> Result<()> {
    println!("\n== q5_batch ==");
    let words = ["though", "through", "tough", "cough", "cough"];
    let [rows, columns] = batch.tokens.size()[..] else {
        return Err(Error::input("batch", "tokens should be [B, T]"));
    };
    let [lengths, prefixes] = [&batch.lengths, &batch.prefixes].map(Vec::<i64>::try_from);
    let (lengths, prefixes) = (lengths?, prefixes?);
    println!("B = {rows} rows, T = {columns} positions");
    let positions: String =
        (0..columns).map(|position| format!("{position:>6}")).collect();
    for (name, tensor) in [("tokens", &batch.tokens), ("targets", &batch.targets)] {
        println!(
            "\n{name:<8}{positions}{}",
            ["", "  length  prefix"][usize::from(name == "tokens")]
        );
        for (row, ids) in Vec::<Vec<i64>>::try_from(tensor)?.iter().enumerate() {
            print!("{:<8}", words[row]);
            for &id in ids {
                print!("{:>6}", if id == IGNORED { "·" } else { vocabulary.symbol(id)? });
            }
            match name {
                "tokens" => println!("{:>8}{:>8}", lengths[row], prefixes[row]),
                _ => println!(),
            }
        }
    }

    println!("\n== q5_ids ==");
    let tough = |tensor: &Tensor| Vec::<i64>::try_from(tensor.get(2));
    println!("tokens of tough    {:?}", tough(&batch.tokens)?);
    println!("targets of tough   {:?}", tough(&batch.targets)?);
    let asked = batch.targets.ne(IGNORED).sum(Kind::Int64).int64_value(&[]);
    println!("\npositions computed     {:>3}", batch.positions());
    println!(
        "of them padding        {:>3}",
        batch.positions() as i64 - lengths.iter().sum::<i64>()
    );
    println!("that count in the loss {asked:>3}");
    println!("padding                {:.4}", batch.padding()?);
    Ok(())
}
// ANCHOR_END: print_batch

/// A loader without a thread: all that is asked of it here is its plan.
fn loader(
    examples: &Arc<[Example]>,
    budget: usize,
    bucketed: bool,
    seed: u64,
) -> Result<Loader> {
    let config = LoaderConfig::new(budget).with_bucketed(bucketed).with_seed(seed);
    Loader::new(Arc::clone(examples), config, Device::Cpu)
}

// ANCHOR: question_6
fn question_6(
    dictionary: &Dictionary,
    vocabulary: &Vocabulary,
    training: &Arc<[Example]>,
) -> Result<()> {
    let word = |example: &Example| -> Result<String> {
        let letters = &example.tokens[..example.prefix - 1];
        Ok(vocabulary.text(letters)?.replace(' ', ""))
    };

    println!("\n== q6_small ==");
    let few = ["a", "i", "go", "so", "tough", "though", "through", "enough"];
    let few: Arc<[Example]> = few
        .into_iter()
        .filter_map(|word| dictionary.get(word))
        .map(|entry| Example::new(vocabulary, &entry.word, &entry.pronunciations[0]))
        .collect::<Result<Vec<_>>>()?
        .into();
    for (name, bucketed) in [("shuffled", false), ("in buckets", true)] {
        let loader = loader(&few, 24, bucketed, 1)?;
        println!("{name}, at most 24 positions a batch");
        let plan = loader.plan(0);
        for places in &plan {
            let batch: Vec<&Example> = places.iter().map(|&place| &few[place]).collect();
            let longest = batch.iter().map(|example| example.positions()).max();
            let words: Result<Vec<_>> = batch
                .iter()
                .map(|example| Ok(format!("{} {}", word(example)?, example.positions())))
                .collect();
            println!(
                "  {} × {:<4} {}",
                batch.len(),
                longest.unwrap_or(0),
                words?.join(", ")
            );
        }
        println!("  padding {:.4}\n", loader.padding(&plan));
    }

    println!("== q6_padding ==");
    println!("positions         shuffled            in buckets     computed,");
    println!("at most       batches   padding    batches   padding    ratio");
    for budget in BUDGETS.into_iter().skip(2).step_by(2) {
        print!("{budget:>7}");
        let mut computed = Vec::new(); // positions, for each real one
        for bucketed in [false, true] {
            let loader = loader(training, budget, bucketed, 0)?;
            let plan = loader.plan(0);
            let padding = loader.padding(&plan);
            computed.push(1.0 / (1.0 - padding));
            print!(" {:>12} {:>8.1}%", plan.len(), 100.0 * padding);
        }
        println!(" {:>8.2}", computed[0] / computed[1]);
    }
    let longest = training.iter().max_by_key(|example| example.positions());
    if let Some(example) = longest {
        println!("\nthe longest, {}: {} positions", word(example)?, example.positions());
    }
    let all: usize = training.iter().map(Example::positions).sum();
    println!("the mean of all: {:.2}", all as f64 / training.len() as f64);

    println!("\n== q6_seed ==");
    let some: Arc<[Example]> = training.iter().step_by(20).cloned().collect();
    for (seed, epoch) in [(0, 0), (0, 0), (0, 1), (1, 0)] {
        let plan = loader(&some, 2048, true, seed)?.plan(epoch);
        let first: Result<Vec<_>> =
            plan[0].iter().take(5).map(|&place| word(&some[place])).collect();
        println!("seed {seed}, epoch {epoch}:  {} …", first?.join(", "));
    }
    Ok(())
}
// ANCHOR_END: question_6

/// What each position of the batch is.
fn batch_figure(batch: &Batch) -> Result<Chart> {
    let columns = batch.tokens.size()[1];
    let place = Tensor::arange(columns, (Kind::Int64, Device::Cpu)); // [T]
    let real = place.less_tensor(&batch.lengths.unsqueeze(1)); // [B, T]
    let asked = batch.targets.ne(IGNORED); // [B, T]
    let value = (real.to_kind(Kind::Double) + asked.to_kind(Kind::Double)) / 2.0; // [B, T]
    Ok(Chart::Heatmap(Heatmap {
        title: "What each position of the batch is: 0 padding, 0.5 given, 1 asked".into(),
        description: "Five rows, though, through, tough and cough twice, and eleven positions. Only through fills its row; \
                      the others end in two positions of padding. Each row is given its letters, and asked from its <sep> \
                      on."
            .into(),
        row_axis: "word".into(),
        column_axis: "position".into(),
        rows: ["though", "through", "tough", "cough", "cough"].map(String::from).into(),
        columns: (0..columns).map(|position| position.to_string()).collect(),
        min: 0.0,
        max: 1.0,
        show_values: false,
        values: Vec::try_from(&value)?,
    }))
}

/// The masks of *tough* in the batch.
fn masks_figure(batch: &Batch, vocabulary: &Vocabulary) -> Result<Chart> {
    let row = batch.tokens.get(2); // [T]
    let symbol = |id: i64| vocabulary.symbol(id).map(String::from);
    let tokens: Vec<String> =
        Vec::<i64>::try_from(&row)?.into_iter().map(symbol).collect::<Result<_>>()?;
    let positions = tokens.len() as i64;
    let [length, prefix] =
        [&batch.lengths, &batch.prefixes].map(|numbers| numbers.narrow(0, 2, 1)); // [1]
    let panel = |title: &str, description: &str, mask: Mask| -> Result<Chart> {
        let open = mask.allowed().f_expand([1, 1, positions, positions], true)?; // [1, 1, T, T]
        let open = open.squeeze().to_kind(Kind::Double); // [T, T]
        Ok(Chart::Heatmap(Heatmap {
            show_values: false,
            ..Heatmap::attention(
                title,
                description,
                &tokens,
                &tokens,
                Vec::try_from(&open)?,
            )
        }))
    };
    Ok(Chart::Panels(Panels {
        title: "The masks of tough, filled = may attend".into(),
        description: "Four matrices of eleven rows and columns: t o u g h <sep> T AH F and twice <pad>. Padding closes the \
                      last two columns. Causal closes what is above the diagonal. Prefix also opens the first six columns. \
                      The last is prefix and padding together."
            .into(),
        columns: 2,
        panels: vec![
            panel("Padding", "The last two columns are closed.", Mask::padding(&length, positions)?)?,
            panel("Causal", "Closed above the diagonal.", Mask::causal(positions, Device::Cpu)?)?,
            panel("Prefix", "The first six columns are open, the rest is causal.", Mask::prefix(&prefix, positions)?)?,
            panel("Prefix and padding", "What the model uses.", prefix_decoder_mask(&length, &prefix, positions)?)?,
        ],
    }))
}

/// The padding of an epoch against the size of a batch.
fn padding_figure(training: &Arc<[Example]>) -> Result<Chart> {
    let series = |name: &str, bucketed: bool| -> Result<Series> {
        let point = |&budget: &usize| {
            let loader = loader(training, budget, bucketed, 0)?;
            Ok((budget as f64, 100.0 * loader.padding(&loader.plan(0))))
        };
        Ok(Series::new(name, BUDGETS.iter().map(point).collect::<Result<_>>()?))
    };
    Ok(Chart::Curves(Curves {
        title: "Padding in an epoch of the training words".into(),
        description: "Two lines against the positions of a batch, from 128 to 8192. Shuffled, the padding rises with the \
                      size of a batch. In buckets it stays close to zero."
            .into(),
        x_axis: Axis::log("positions of a batch at most"),
        y_axis: Axis::linear("% of all positions").with_include([0.0]),
        series: vec![
            series("shuffled", false)?.with_dashes(),
            series("in buckets", true)?,
        ],
        references: Vec::new(),
    }))
}
