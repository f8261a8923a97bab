//! Chapter 1, understanding self-attention: `cargo run --bin ch01_understanding`.

use std::hash::Hash;
use std::path::PathBuf;

use clap::Parser;
use fnv::{FnvHashMap, FnvHashSet};
use self_attention::chapters::CHAPTERS;
use self_attention::data::cmudict::{text, Dictionary, Entry, Phoneme};
use self_attention::data::split::Split;
use self_attention::data::vocabulary::Vocabulary;
use self_attention::linear::Linear;
use self_attention::model::sinusoids;
use self_attention::prelude::*;
use self_attention::visualization::table::matrix as table;
use self_attention::visualization::{
    Arrow, Axis, Chart, Curves, Diagram, Heatmap, Node, Panels, Series,
};
use self_attention::worked_example::{
    matrix, FEATURES, KEY_WEIGHT, LETTERS, QUERY_WEIGHT, VALUE_WEIGHT,
};

/// Computes everything that chapter 1 shows.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,
}

fn main() -> Result<()> {
    tch::set_num_threads(1); // sums in the same order on every machine
    let dictionary = Dictionary::embedded()?;
    if let Some(folder) = Arguments::parse().figures {
        window_figure(&windows(&dictionary)).save(&folder, "ch01_window")?;
        reach_figure(&reach()?).save(&folder, "ch01_reach")?;
        pass_figure().save(&folder, "ch01_pass")?;
        order_figure()?.save(&folder, "ch01_order")?;
        cost_figure().save(&folder, "ch01_cost")?;
        return map_figure().save(&folder, "ch01_map");
    }
    spelling(&dictionary);
    window(&dictionary);
    state()?;
    pass()?;
    order(&dictionary)?;
    cost();
    notation();
    Ok(())
}

/// Every pronunciation of a word, as in `K AA F, K AO F`.
fn said(dictionary: &Dictionary, word: &str) -> String {
    let entry = dictionary.get(word);
    let all = entry.into_iter().flat_map(|entry| &entry.pronunciations);
    all.map(|phonemes| text(phonemes)).collect::<Vec<_>>().join(", ")
}

fn spelling(dictionary: &Dictionary) {
    println!("== spelling ==");
    let words = [
        "though",
        "through",
        "tough",
        "cough",
        "hop",
        "hope",
        "photograph",
        "photography",
        "reverberation",
        "reverberations",
    ];
    for word in words {
        println!("{word:<14} {}", said(dictionary, word));
    }
}

// ANCHOR: least_wrong
/// How many different views there are, and the fewest wrong answers that any rule can
/// give which knows nothing else.
///
/// Words with the same view get the same answer; the best is what most of them accept.
fn least_wrong<V: Hash + Eq, A: PartialEq>(
    words: impl Iterator<Item = (V, impl IntoIterator<Item = A>)>,
) -> (usize, usize) {
    let mut groups: FnvHashMap<V, (usize, Vec<(A, usize)>)> = FnvHashMap::default();
    for (view, accepted) in words {
        let (size, votes) = groups.entry(view).or_default();
        *size += 1;
        for answer in accepted {
            match votes.iter_mut().find(|(other, _)| *other == answer) {
                Some((_, count)) => *count += 1,
                None => votes.push((answer, 1)),
            }
        }
    }
    let best = |votes: &[(A, usize)]| votes.iter().map(|vote| vote.1).max().unwrap_or(0);
    let wrong = groups.values().map(|(size, votes)| size - best(votes)).sum();
    (groups.len(), wrong)
}
// ANCHOR_END: least_wrong

/// A word as a reader of its first vowel sees it.
struct FirstVowel {
    /// The word between marks for its ends.
    padded: String,
    /// Where its first vowel letter stands in `padded`.
    place: usize,
    /// How its first vowel may sound.
    sounds: Vec<Phoneme>,
    split: Split,
}

/// The largest window goes so many letters to each side.
const REACH: usize = 6;

impl FirstVowel {
    fn of(entry: &Entry) -> Option<Self> {
        let place = REACH + entry.word.find(['a', 'e', 'i', 'o', 'u', 'y'])?;
        let is_vowel =
            |phoneme: &&Phoneme| phoneme.symbol().starts_with(['A', 'E', 'I', 'O', 'U']);
        let first = |phonemes: &Vec<Phoneme>| phonemes.iter().find(is_vowel).copied();
        let mut sounds: Vec<_> = entry.pronunciations.iter().filter_map(first).collect();
        sounds.sort();
        sounds.dedup();
        let (start, end) = ("^".repeat(REACH), "$".repeat(REACH));
        let padded = format!("{start}{}{end}", entry.word);
        (!sounds.is_empty()).then(|| Self {
            padded,
            place,
            sounds,
            split: Split::of(&entry.word),
        })
    }

    /// The vowel letter with `reach` letters on each side.
    fn window(&self, reach: usize) -> &str {
        &self.padded[self.place - reach..=self.place + reach]
    }
}

/// What a window of one size can and cannot tell.
struct Window {
    /// Letters on each side of the vowel.
    reach: usize,
    /// How many different windows there are.
    kinds: usize,
    /// The least errors a reader of the window can make, in percent.
    wrong: f64,
    /// The validation words whose window no training word has, in percent.
    unseen: f64,
}

fn windows(dictionary: &Dictionary) -> Vec<Window> {
    let words: Vec<_> = dictionary.iter().filter_map(FirstVowel::of).collect();
    let on = |split| words.iter().filter(move |word| word.split == split);
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole as f64;
    let measure = |reach| {
        let views = words.iter().map(|word| (word.window(reach), word.sounds.iter()));
        let seen: FnvHashSet<&str> =
            on(Split::Train).map(|word| word.window(reach)).collect();
        let unseen =
            on(Split::Validation).filter(|word| !seen.contains(word.window(reach)));
        let (kinds, wrong) = least_wrong(views);
        Window {
            reach,
            kinds,
            wrong: percent(wrong, words.len()),
            unseen: percent(unseen.count(), on(Split::Validation).count()),
        }
    };
    (0..=REACH).map(measure).collect()
}

fn window(dictionary: &Dictionary) {
    println!("\n== window ==");
    println!("letters on    letters    different    wrong at    never seen");
    println!("each side     in view      windows       least    in training");
    for Window { reach, kinds, wrong, unseen } in windows(dictionary) {
        let view = 2 * reach + 1;
        println!("{reach:>5} {view:>15} {kinds:>12} {wrong:>9.1} % {unseen:>11.1} %");
    }
}

/// How much the last state of an untrained network depends on each input, seen from the end: the size of the
/// gradient with respect to the input `0, 1, 2, …` steps back, the input of the last step being 1.
struct Reach {
    name: &'static str,
    by_distance: Vec<f64>,
}

/// The length of the sequences, their number, and the width.
const STEPS: i64 = 64;
const SEQUENCES: i64 = 64;
const WIDTH: i64 = 32;

/// `h = tanh(x·Wᵀ + b + h·Uᵀ + c)`, step by step, as in PyTorch's `nn.RNN`.
fn recurrent(path: &nn::Path, x: &Tensor) -> Result<Tensor> {
    let input = Linear::new(&(path / "input"), WIDTH, WIDTH)?;
    let state = Linear::new(&(path / "state"), WIDTH, WIDTH)?;
    let mut h = x.select(1, 0).zeros_like(); // [B, E]
    for t in 0..STEPS {
        h = (input.forward(&x.select(1, t))? + state.forward(&h)?).tanh(); // [B, E]
    }
    Ok(h)
}

/// The same with gates that decide what is kept (LSTM), set to keep most of it: a forget bias of 1.
fn gated(path: &nn::Path, x: &Tensor) -> Result<Tensor> {
    let input = Linear::new(&(path / "input"), WIDTH, 4 * WIDTH)?;
    let state = Linear::new(&(path / "state"), WIDTH, 4 * WIDTH)?;
    let mut h = x.select(1, 0).zeros_like(); // [B, E]
    let mut cell = h.zeros_like(); // [B, E]
    for t in 0..STEPS {
        let gates = input.forward(&x.select(1, t))? + state.forward(&h)?; // [B, 4E]
        let gate = |n| gates.narrow(-1, n * WIDTH, WIDTH); // [B, E]
        let keep: Tensor = (gate(1) + 1.0).sigmoid();
        cell = keep * cell + gate(0).sigmoid() * gate(2).tanh();
        h = gate(3).sigmoid() * cell.tanh();
    }
    Ok(h)
}

/// One head of self-attention; what the last position comes away with.
fn attention(path: &nn::Path, x: &Tensor) -> Result<Tensor> {
    let layer = MultiHeadConfig::new(WIDTH, 1).init(path)?;
    let context = layer.forward(x, None, &Dropout::off())?.context; // [B, T, E]
    Ok(context.select(1, STEPS - 1)) // [B, E]
}

/// The size of the gradient of the last state with respect to each input, over that of the last input.
fn reach() -> Result<[Reach; 3]> {
    type Network = fn(&nn::Path, &Tensor) -> Result<Tensor>;
    let measure = |name, network: Network| -> Result<Reach> {
        tch::manual_seed(1);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let store = nn::VarStore::new(Device::Cpu);
        let x = random(&[SEQUENCES, STEPS, WIDTH]).set_requires_grad(true); // [B, T, E]
        let last = network(&store.root(), &x)?; // [B, E]
        (last * random(&[SEQUENCES, WIDTH])).sum(Kind::Float).backward();
        let sizes = x
            .grad()
            .square()
            .sum_dim_intlist([0i64, 2].as_slice(), false, Kind::Double)
            .sqrt(); // [T]
        let sizes = Vec::<f64>::try_from(sizes / x.grad().select(1, STEPS - 1).norm())?;
        Ok(Reach { name, by_distance: sizes.into_iter().rev().collect() })
    };
    Ok([
        measure("recurrent", recurrent)?,
        measure("LSTM", gated)?,
        measure("attention", attention)?,
    ])
}

fn state() -> Result<()> {
    println!("\n== state ==");
    let reach = reach()?;
    println!(
        "steps back  {:>12} {:>12} {:>12}",
        reach[0].name, reach[1].name, reach[2].name
    );
    for distance in [0, 1, 2, 4, 8, 16, 32, 63] {
        let [a, b, c] = [0, 1, 2].map(|n| reach[n].by_distance[distance]);
        println!("{distance:>10}  {a:>12.1e} {b:>12.1e} {c:>12.1e}");
    }
    tch::manual_seed(1);
    let x = Tensor::randn([SEQUENCES, STEPS, WIDTH], (Kind::Float, Device::Cpu)); // [B, T, E]
    let store = nn::VarStore::new(Device::Cpu);
    let layer = MultiHeadConfig::new(WIDTH, 1).init(&store.root())?;
    let weights = layer.forward(&x, None, &Dropout::off())?.weights; // [B, H = 1, T, S]
    let largest = weights.amax([-1], false).mean(Kind::Float).double_value(&[]);
    println!("\nattention's largest weight in a row, on average  {largest:.4}");
    println!(
        "all weights, if they were even                   {:.4}",
        1.0 / STEPS as f64
    );
    Ok(())
}

fn pass() -> Result<()> {
    println!("\n== pass_letters ==");
    let x = Tough::letters()?; // [T = 5, E = 4]
    println!("x, a vector for each letter");
    println!("{}", table(&LETTERS, &FEATURES, &x, 0)?);

    println!("\n== pass_matrices ==");
    for (what, weight) in
        [("W_q", QUERY_WEIGHT), ("W_k", KEY_WEIGHT), ("W_v", VALUE_WEIGHT)]
    {
        println!("{what}: to make (row) out of what the letter is (column)");
        println!("{}\n", table(&FEATURES, &FEATURES, &matrix(&weight)?, 0)?);
    }

    println!("\n== pass_projected ==");
    let Tough { query, key, value } = Tough::project(&x)?; // [T, D], [S, D], [S, D]
    println!("queries, what each letter looks for");
    println!("{}", table(&LETTERS, &FEATURES, &query, 0)?);
    println!("\nkeys, what each letter offers");
    println!("{}", table(&LETTERS, &FEATURES, &key, 0)?);
    println!("\nvalues, what each letter hands over");
    println!("{}", table(&LETTERS, &FEATURES, &value, 0)?);

    println!("\n== pass_weights ==");
    let scores = attention_scores(&query, &key)?; // [T, S]
    let weights = attention_weights(&scores, None)?; // [T, S]
    println!("scores: a row for each letter that looks, a column for each it looks at");
    println!("{}", table(&LETTERS, &LETTERS, &scores, 0)?);
    println!("\nweights: the same, each row made to sum to one");
    println!("{}", table(&LETTERS, &LETTERS, &weights, 4)?);

    println!("\n== pass_context ==");
    println!("context: the values, averaged with the weights of each row");
    println!("{}", table(&LETTERS, &FEATURES, &weighted_average(&weights, &value)?, 4)?);
    Ok(())
}

/// The letters of *ought*, as places in *tough*.
const OUGHT: [i64; 5] = [1, 2, 3, 4, 0];

/// One pass over letters, `[T, E]`.
fn attend(letters: &Tensor) -> Result<Attended> {
    let Tough { query, key, value } = Tough::project(letters)?;
    scaled_dot_product_attention(&query, &key, &value, None, &Dropout::off())
}

fn order(dictionary: &Dictionary) -> Result<()> {
    let order = Tensor::from_slice(&OUGHT);
    let names = OUGHT.map(|place| LETTERS[place as usize]);
    let tough = Tough::letters()?; // [T = 5, E = 4]
    let ought = tough.index_select(0, &order); // [T = 5, E = 4]
    let [in_tough, in_ought] = [attend(&tough)?.context, attend(&ought)?.context];

    println!("\n== order ==");
    println!("context of t o u g h");
    println!("{}", table(&LETTERS, &FEATURES, &in_tough, 4)?);
    println!("\ncontext of o u g h t");
    println!("{}", table(&names, &FEATURES, &in_ought, 4)?);
    let apart = (&in_ought - in_tough.index_select(0, &order)).abs().max();
    println!(
        "\nthe same five rows in another order: {}",
        apart.double_value(&[]) < 1e-12
    );

    println!("\n== order_words ==");
    for word in ["tough", "ought", "dog", "god"] {
        println!("{word:<6} {}", said(dictionary, word));
    }
    let sorted = |entry: &Entry| {
        let mut letters = entry.word.clone().into_bytes();
        letters.sort_unstable();
        letters
    };
    let views = dictionary.iter().map(|entry| (sorted(entry), &entry.pronunciations));
    let (kinds, wrong) = least_wrong(views);
    let words = dictionary.len();
    let percent = 100.0 * wrong as f64 / words as f64;
    println!("\nwords                                 {words:>7}");
    println!("different, if the order is not seen   {kinds:>7}");
    println!("wrong at least, if it is not seen     {wrong:>7}, {percent:.1} %");

    println!("\n== order_positions ==");
    let positions = sinusoids(5, 4, Device::Cpu)?.to_kind(Kind::Double); // [T = 5, E = 4]
    println!("positions, to be added to the letters");
    println!(
        "{}",
        table(
            &["1st", "2nd", "3rd", "4th", "5th"],
            &["sin", "cos", "sin", "cos"],
            &positions,
            2
        )?
    );
    let in_tough = attend(&(&tough + &positions))?.context.index_select(0, &order);
    let in_ought = attend(&(&ought + &positions))?.context;
    println!("\ncontext in ought less context in tough");
    println!(
        "{}",
        table(&names, &FEATURES, &(((in_ought - in_tough) * 100.0).round() / 100.0), 2)?
    );
    Ok(())
}

/// Multiplications for `t` positions, `e` wide.
struct Cost {
    positions: u64,
    attention: u64,
    recurrence: u64,
    convolution: u64,
    whole_attention: u64,
    whole_recurrence: u64,
}

impl Cost {
    fn of(t: u64) -> Self {
        let (e, k) = (128, 3); // a small width, and a usual kernel
        Self {
            positions: t,
            attention: t * t * e,
            recurrence: t * e * e,
            convolution: k * t * e * e,
            whole_attention: 4 * t * e * e + 2 * t * t * e,
            whole_recurrence: 2 * t * e * e,
        }
    }
}

fn cost() {
    println!("\n== cost ==");
    println!("millions of multiplications, E = 128, k = 3");
    println!(
        "        attention  recurrence  convolution    attention, all  recurrence, all"
    );
    println!(
        "    T        T²·E        T·E²       k·T·E²     4·T·E² + 2·T²·E          2·T·E²"
    );
    for cost in [8, 32, 128, 512, 2048].map(Cost::of) {
        let million = |number: u64| number as f64 / 1e6;
        println!(
            "{:>5} {:>11.2} {:>11.2} {:>12.2} {:>19.2} {:>15.2}",
            cost.positions,
            million(cost.attention),
            million(cost.recurrence),
            million(cost.convolution),
            million(cost.whole_attention),
            million(cost.whole_recurrence),
        );
    }
}

fn notation() {
    println!("\n== notation ==");
    let vocabulary = Vocabulary::new().len() as i64;
    let TransformerConfig { width, heads, hidden, max_positions, .. } =
        TransformerConfig::new(vocabulary);
    let [positions, tough] = [LETTERS.len(), FEATURES.len()];
    println!("          tough    the model of this book");
    println!("T, S {positions:>10} {:>25}", format!("up to {max_positions}"));
    println!("H    {:>10} {heads:>25}", 1);
    println!("D    {tough:>10} {:>25}", width / heads);
    println!("E    {tough:>10} {width:>25}");
    println!("F    {:>10} {hidden:>25}", "none");
    println!("V    {positions:>10} {vocabulary:>25}");
}

fn window_figure(windows: &[Window]) -> Chart {
    let points = |value: fn(&Window) -> f64| {
        windows.iter().map(|window| (window.reach as f64, value(window))).collect()
    };
    Chart::Curves(Curves {
        title: "What a window of letters can tell".into(),
        description: "Against the letters on each side of a word's first vowel, from 0 to 6. The least possible share of \
                      wrong vowels falls from about half to almost nothing. The share of new words whose window was \
                      never seen in training rises from nothing to four fifths."
            .into(),
        x_axis: Axis::linear("letters on each side"),
        y_axis: Axis::linear("percent of words").with_include([0.0, 100.0]),
        series: vec![
            Series::new("wrong at least", points(|window| window.wrong)),
            Series::new("window never seen", points(|window| window.unseen)).with_dashes(),
        ],
        references: Vec::new(),
    })
}

fn reach_figure(reach: &[Reach]) -> Chart {
    let series = reach.iter().map(|Reach { name, by_distance }| {
        let points =
            by_distance.iter().enumerate().map(|(back, &size)| (back as f64, size));
        Series::new(*name, points.collect())
    });
    Chart::Curves(Curves {
        title: "How much an earlier input still counts".into(),
        description: "The size of the gradient against the distance, from 0 to 63 steps back, on a logarithmic scale. \
                      For both recurrent networks it falls in a straight line by many powers of ten. For attention it \
                      is level."
            .into(),
        x_axis: Axis::linear("steps back"),
        y_axis: Axis::log("gradient, relative to the last input's"),
        series: series.collect(),
        references: Vec::new(),
    })
}

fn pass_figure() -> Chart {
    let nodes = vec![
        Node::new("x", ["letters x", "[T, E]"], (0, 0)).with_span(3),
        Node::new("query", ["query", "x·W_qᵀ"], (1, 0)).with_series(0),
        Node::new("key", ["key", "x·W_kᵀ"], (1, 1)).with_series(1),
        Node::new("value", ["value", "x·W_vᵀ"], (1, 2)).with_series(2),
        Node::new("scores", ["scores", "query·keyᵀ / √D"], (2, 0)).with_span(2),
        Node::new("weights", ["weights", "softmax of each row"], (3, 0)).with_span(2),
        Node::new("context", ["context", "weights·value"], (4, 0)).with_span(3),
    ];
    let arrows = vec![
        Arrow::new("x", "query"),
        Arrow::new("x", "key"),
        Arrow::new("x", "value"),
        Arrow::new("query", "scores").with_label("[T, D]"),
        Arrow::new("key", "scores").with_label("[S, D]"),
        Arrow::new("scores", "weights").with_label("[T, S]"),
        Arrow::new("weights", "context").with_label("[T, S]"),
        Arrow::new("value", "context").with_label("[S, D]"),
    ];
    Chart::Diagram(Diagram {
        title: "One pass of self-attention".into(),
        description: "The letters x give query, key and value, each by a matrix of its own. Query and key give the \
                      scores, the scores give the weights by softmax, and weights and value give the context."
            .into(),
        columns: 3,
        nodes,
        arrows,
    })
}

fn order_figure() -> Result<Chart> {
    let tough = Tough::letters()?; // [T = 5, E = 4]
    let ought = tough.index_select(0, &Tensor::from_slice(&OUGHT));
    let panel = |word: &str, letters: &Tensor| -> Result<Chart> {
        let names: Vec<String> = word.chars().map(String::from).collect();
        Ok(Chart::Heatmap(Heatmap::attention(
            word,
            format!("The weights of {word}."),
            &names,
            &names,
            Vec::try_from(&attend(letters)?.weights)?,
        )))
    };
    Ok(Chart::Panels(Panels {
        title: "The same letters in another order".into(),
        description: "The weights of tough and of ought. The number for each pair of letters is the same in both; only \
                      rows and columns have changed places."
            .into(),
        columns: 2,
        panels: vec![panel("tough", &tough)?, panel("ought", &ought)?],
    }))
}

fn cost_figure() -> Chart {
    let points = |count: fn(&Cost) -> u64| {
        let lengths = (3..=11).map(|power| Cost::of(1 << power));
        lengths.map(|cost| (cost.positions as f64, count(&cost) as f64 / 1e6)).collect()
    };
    Chart::Curves(Curves {
        title: "Multiplications against the length".into(),
        description: "For a width of 128 and lengths from 8 to 2048, on logarithmic scales. Recurrence and convolution \
                      rise with the length, attention with its square: it starts below recurrence and crosses it at \
                      length 128."
            .into(),
        x_axis: Axis::log("length T"),
        y_axis: Axis::log("millions of multiplications"),
        series: vec![
            Series::new("attention, T²·E", points(|cost| cost.attention)),
            Series::new("recurrence, T·E²", points(|cost| cost.recurrence)).with_dashes(),
            Series::new("convolution, 3·T·E²", points(|cost| cost.convolution)).with_dashes(),
        ],
        references: Vec::new(),
    })
}

/// The map's boxes: chapter, short title, row, column and span on a grid of six columns.
const MAP: [(usize, &str, usize, usize, usize); 12] = [
    (1, "Understanding", 0, 0, 6),
    (2, "Environment", 1, 0, 2),
    (3, "Data", 2, 0, 2),
    (4, "Attention", 1, 2, 2),
    (5, "Multi-head", 2, 2, 2),
    (6, "Feed-forward", 1, 4, 2),
    (7, "Transformer block", 3, 2, 4),
    (8, "Training", 4, 0, 6),
    (9, "Evaluation", 5, 0, 6),
    (10, "Visualization", 6, 0, 3),
    (11, "Experiments", 6, 3, 3),
    (12, "Conclusion", 7, 0, 6),
];

/// The arrows, each from a chapter to what comes next on its path.
const PATHS: [(usize, usize); 14] = [
    (1, 2),
    (1, 4),
    (1, 6),
    (2, 3),
    (3, 8),
    (4, 5),
    (5, 7),
    (6, 7),
    (7, 8),
    (8, 9),
    (9, 10),
    (9, 11),
    (10, 12),
    (11, 12),
];

fn map_figure() -> Chart {
    let node =
        |&(chapter, title, row, column, span): &(usize, &str, usize, usize, usize)| {
            let lines = [title, &format!("chapter {chapter}")];
            Node::new(chapter.to_string(), lines, (row, column)).with_span(span)
        };
    Chart::Diagram(Diagram {
        title: "The chapters".into(),
        description: format!(
            "{} boxes, an arrow from each chapter to what comes next on its path. Data (3) and the transformer block (7) \
             meet in training (8); the block is made of attention (4), multi-head attention (5) and the feed-forward \
             network (6). Evaluation (9) leads to visualization (10) and experiments (11), and these to the \
             conclusion (12).",
            CHAPTERS.len()
        ),
        columns: 6,
        nodes: MAP.iter().map(node).collect(),
        arrows: PATHS.map(|(from, to)| Arrow::new(from.to_string(), to.to_string())).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_every_chapter_once_under_a_name_of_its_own() {
        assert_eq!(MAP.len(), CHAPTERS.len());
        for (chapter, (number, title, ..)) in CHAPTERS.iter().zip(MAP) {
            assert_eq!(chapter.number(), number);
            let names = format!("{} {}", chapter.title, chapter.slug.replace('_', "-"));
            assert!(names.to_lowercase().contains(&title.to_lowercase()), "{title}");
        }
        assert!(PATHS.iter().all(|(from, to)| from < to), "an arrow leads back");
    }

    #[test]
    fn no_window_tells_photograph_from_photography() {
        let dictionary = Dictionary::embedded().unwrap();
        let [one, other] = ["photograph", "photography"]
            .map(|word| FirstVowel::of(dictionary.get(word).unwrap()).unwrap());
        assert_eq!(one.window(REACH), other.window(REACH));
        assert_ne!(one.sounds, other.sounds);
    }

    #[test]
    fn attention_and_recurrence_cost_the_same_where_length_and_width_are_equal() {
        for length in 1..=2048 {
            let cost = Cost::of(length);
            assert_eq!(cost.attention.cmp(&cost.recurrence), length.cmp(&128));
            assert!(cost.whole_attention > cost.whole_recurrence);
            let gated = 4 * cost.whole_recurrence; // an LSTM
            assert_eq!(cost.whole_attention.cmp(&gated), length.cmp(&256));
        }
    }

    #[test]
    fn gradients_fade_along_a_state_and_not_under_attention() {
        let [recurrent, gated, attention] =
            reach().unwrap().map(|reach| reach.by_distance);
        assert!(recurrent[63] < 1e-15 && gated[63] < 1e-3);
        let level = attention[1..].iter().all(|size| (0.1..0.4).contains(size));
        assert!(level, "{attention:?}");
    }
}
