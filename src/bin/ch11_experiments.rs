//! Chapter 11, experimenting with hyperparameters: `cargo run --bin ch11_experiments`. The trials are run by the program
//! `sweep`.

use std::path::{Path, PathBuf};

use clap::Parser;
use self_attention::error::{Error, Result};
use self_attention::experiments::analysis::{
    Findings, Interval, Metric, Summary, Verdict,
};
use self_attention::experiments::results::{Finished, Results};
use self_attention::experiments::studies::{studies, Setting, Size, Study};
use self_attention::feed_forward::Activation;
use self_attention::visualization::{Axis, Chart, Curves, Heatmap, Panels, Series};

/// Computes everything that chapter 11 shows, from the results of its trials.
#[derive(Parser)]
struct Arguments {
    /// Draw the chapter's figures into this folder instead.
    #[arg(long, value_name = "FOLDER")]
    figures: Option<PathBuf>,

    /// The results of a sweep of your own [default: figures/ch11_trials.jsonl, those of the book].
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,

    /// The results are those of `sweep --quick` [default: runs/sweep/quick.jsonl].
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (size, usual) = match arguments.quick {
        true => (Size::Quick, "runs/sweep/quick.jsonl"),
        false => (Size::Full, "figures/ch11_trials.jsonl"),
    };
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join(usual);
    let path = arguments.results.unwrap_or(usual);
    if !path.exists() {
        let quick = if arguments.quick { "--quick " } else { "" };
        let problem = format!(
            "is not there; the trials have to be run first: \
             cargo run --release --bin sweep -- {quick}--results {}",
            path.display()
        );
        return Err(Error::file(path, problem));
    }
    let results = Results::read(&path)?;
    let studies = studies(size)?;
    let chapter = |study| -> Result<Chapter> {
        Ok(Chapter { findings: Findings::new(study, &results)?, size })
    };
    let [heads, width, blocks, rates, activations] = studies.each_ref().map(chapter);
    let (heads, width, blocks) = (heads?, width?, blocks?);
    let (rates, activations) = (rates?, activations?);
    if let Some(folder) = arguments.figures {
        heads_figure(&heads)?.save(&folder, "ch11_heads")?;
        width_figure(&width)?.save(&folder, "ch11_width")?;
        convergence_figure(&width)?.save(&folder, "ch11_convergence")?;
        blocks_figure(&blocks)?.save(&folder, "ch11_blocks")?;
        rates_figure(&rates)?.save(&folder, "ch11_rates")?;
        rates_map(&rates)?.save(&folder, "ch11_rates_map")?;
        activations_figure(&activations)?.save(&folder, "ch11_activations")?;
        courses_figure(&activations)?.save(&folder, "ch11_courses")?;
        return seeds_figure(&activations)?.save(&folder, "ch11_seeds");
    }
    method(&results, size)?;
    one_seed(&[&heads, &width, &blocks, &rates, &activations])?;
    by_hand(&heads)?;
    chosen(&[&heads, &width, &blocks, &rates, &activations])?;
    line(&heads)?;
    question_30(&heads)?;
    question_31(&width)?;
    question_32(&blocks)?;
    question_33(&rates)?;
    question_34(&activations)
}

/// A study with its results.
struct Chapter<'a> {
    findings: Findings<'a>,
    size: Size,
}

/// What a table shows of a setting: the heading, and the cell.
type Column<'a> = (&'a str, Box<dyn Fn(&Setting) -> Result<String> + 'a>);

impl<'a> Chapter<'a> {
    fn settings(&self) -> &'a [Setting] {
        &self.findings.study.settings
    }

    /// The setting that all studies share.
    fn baseline(&self) -> Result<&'a str> {
        Ok(&self.findings.study.baseline(self.size)?.name)
    }

    /// Mean and deviation of a metric, multiplied by `factor`.
    fn mean(&self, metric: Metric, factor: f64, digits: usize) -> Column<'_> {
        let heading = match metric {
            Metric::PhonemeErrorRate => "PER (%)",
            Metric::WordErrorRate => "WER (%)",
            Metric::ValidationLoss => "loss",
            Metric::TrainingLoss => "learned",
            Metric::Gap => "gap",
            Metric::Seconds => "seconds",
            Metric::LargestGradient => "largest",
            Metric::Rise => "rise",
        };
        let cell = move |setting: &Setting| {
            let summary = self.findings.summary(metric, &setting.name)?;
            Ok(spread(summary, factor, digits))
        };
        (heading, Box::new(cell))
    }

    /// The mean and deviation of any number of a trial; trials that lack it do not count.
    fn number<'b>(
        &'b self,
        heading: &'b str,
        digits: usize,
        number: impl Fn(&Finished) -> Option<f64> + 'b,
    ) -> Column<'b> {
        let cell = move |setting: &Setting| {
            let trials = self.findings.trials(&setting.name)?.iter();
            let numbers: Vec<f64> = trials.filter_map(|trial| number(trial)).collect();
            Ok(spread(Summary::of(&numbers), 1.0, digits))
        };
        (heading, Box::new(cell))
    }

    fn parameters(&self) -> Column<'_> {
        let cell = move |setting: &Setting| {
            let trials = self.findings.trials(&setting.name)?;
            Ok(trials.first().map_or(0, |trial| trial.parameters).to_string())
        };
        ("parameters", Box::new(cell))
    }

    fn diverged(&self) -> Column<'_> {
        let cell = |setting: &Setting| {
            let of = self.findings.trials(&setting.name)?.len();
            Ok(format!("{} of {of}", self.findings.diverged(&setting.name)?))
        };
        ("diverged", Box::new(cell))
    }

    /// How a setting compares with another one in a metric: the difference, its 95 % interval, and the verdict.
    fn against<'b>(
        &'b self,
        heading: &'b str,
        metric: Metric,
        factor: f64,
        digits: usize,
        other: impl Fn(&Setting) -> String + 'b,
    ) -> Column<'b> {
        let cell = move |setting: &Setting| {
            let other = other(setting);
            if setting.name == other {
                return Ok("–".into());
            }
            let found = self.findings.compare(metric, &setting.name, &other)?;
            let difference = found.difference.map(|interval| {
                let (mean, reach) = (factor * interval.mean, factor * interval.reach);
                format!("{} ± {reach:.digits$}  ", signed(mean, digits))
            });
            Ok(format!("{}{:11}", difference.unwrap_or_default(), found.verdict))
        };
        (heading, Box::new(cell))
    }

    /// Prints a line for each setting: the values of its knobs, and the columns.
    fn print(&self, columns: &[Column]) -> Result<()> {
        let study = self.findings.study;
        let mut rows: Vec<Vec<String>> =
            vec![study.knobs.iter().map(|knob| knob.replace("learning ", "")).collect()];
        for (heading, _) in columns {
            rows[0].push((*heading).to_owned());
        }
        for setting in &study.settings {
            let mut row: Vec<String> =
                setting.name.split('/').map(str::to_owned).collect();
            for (_, cell) in columns {
                row.push(cell(setting)?);
            }
            rows.push(row);
        }
        print_table(&rows);
        Ok(())
    }

    /// Of each setting the point that `x` and a metric make, and how far off it may be. A setting of which fewer than
    /// two trials came to an end has none.
    fn series(
        &self,
        name: &str,
        metric: Metric,
        factor: f64,
        settings: impl Fn(&Setting) -> bool,
        x: impl Fn(&Setting) -> f64,
    ) -> Result<Option<Series>> {
        let (mut points, mut deviations) = (Vec::new(), Vec::new());
        for setting in self.settings().iter().filter(|setting| settings(setting)) {
            if let Some(summary) = self.findings.summary(metric, &setting.name)? {
                points.push((x(setting), factor * summary.mean));
                deviations.push(factor * summary.deviation);
            }
        }
        Ok((!points.is_empty())
            .then(|| Series::new(name, points).with_error_bars(deviations)))
    }

    /// A panel with one line.
    fn panel(
        &self,
        title: &str,
        metric: Metric,
        factor: f64,
        axes: (Axis, Axis),
        x: impl Fn(&Setting) -> f64,
    ) -> Result<Chart> {
        let line = self.series(title, metric, factor, |_| true, x)?;
        Ok(Chart::Curves(Curves {
            title: title.into(),
            description: "Means with their standard deviations.".into(),
            x_axis: axes.0,
            y_axis: axes.1,
            series: line.into_iter().collect(),
            references: Vec::new(),
        }))
    }

    /// The validation loss after each epoch of a setting, as a line through the means with a band as wide as the
    /// deviation.
    fn course(&self, name: String, setting: &str) -> Result<Option<Series>> {
        let trials = self.findings.trials(setting)?;
        let epochs = trials.iter().map(|trial| trial.validation_losses.len()).min();
        let (mut points, mut deviations) = (Vec::new(), Vec::new());
        for epoch in 0..epochs.unwrap_or(0) {
            let losses: Vec<f64> =
                trials.iter().map(|trial| trial.validation_losses[epoch]).collect();
            if let Some(summary) = Summary::of(&losses) {
                points.push((epoch as f64 + 1.0, summary.mean));
                deviations.push(summary.deviation);
            }
        }
        Ok((!points.is_empty())
            .then(|| Series::new(name, points).with_spread(deviations)))
    }
}

/// A mean with its deviation, or a dash if there is none.
fn spread(summary: Option<Summary>, factor: f64, digits: usize) -> String {
    summary.map_or("–".into(), |Summary { mean, deviation }| {
        let mean = format!("{:.digits$}", factor * mean).replace('-', "−");
        format!("{mean} ± {:.digits$}", factor * deviation)
    })
}

/// A number with its sign.
fn signed(number: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", number.abs());
    let is_zero = text.chars().all(|c| c == '0' || c == '.');
    match (is_zero, number < 0.0) {
        (true, _) => format!(" {text}"),
        (false, true) => format!("−{text}"),
        (false, false) => format!("+{text}"),
    }
}

/// Rows of cells, the first row the headings, all cells flush right.
fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| width(cell))
                .max()
                .unwrap_or(0)
        })
        .collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: String = cells
            .map(|(column, (cell, &widest))| {
                let gap = if column == 0 { 0 } else { 2 };
                format!("{}{cell}", " ".repeat(gap + widest - width(cell)))
            })
            .collect();
        println!("{}", line.trim_end());
    }
}

// ANCHOR: method
fn method(results: &Results, size: Size) -> Result<()> {
    println!("== method ==");
    let base = size.baseline();
    let all = studies(size)?;
    let trials = self_attention::experiments::studies::trials(&all);
    let finished: Vec<&Finished> =
        trials.iter().filter_map(|trial| results.get(&trial.id)).collect();
    let core_seconds: f64 = finished.iter().map(|trial| trial.core_seconds).sum();
    let diverged = finished.iter().filter(|trial| trial.diverged.is_some()).count();
    println!("trials           {}, {diverged} of them diverged", trials.len());
    println!("core time        {:.0} minutes of training", core_seconds / 60.0);
    let machines = results.trials().iter().map(|trial| (&trial.processor, trial.threads));
    let machines: std::collections::BTreeSet<_> = machines.collect();
    for (processor, threads) in machines {
        println!("processor        {processor}, {threads} thread a trial");
    }
    let shown =
        |number: Option<usize>| number.map_or("all".into(), |number| number.to_string());
    println!("\nwhat the studies share");
    println!("training words   {}", shown(base.data.words));
    println!("validation words {}", shown(base.data.validation_words));
    println!("epochs           {}", base.training.epochs);
    println!("batch            {} positions at most", base.training.tokens_per_batch);
    if let Some(trial) =
        results.trials().iter().find(|trial| trial.config.data == base.data)
    {
        println!("steps            {}", trial.steps);
    }
    println!("width            {}", base.model.width);
    println!("heads            {}", base.model.heads);
    println!("blocks           {}", base.model.blocks);
    println!("activation       {}", name_of(base.model.activation));
    println!("learning rate    {}", base.training.learning_rate);
    println!("dropout          {}", base.training.dropout);
    println!("label smoothing  {}", base.training.label_smoothing);
    println!("warm-up          {} of the steps", base.training.warm_up);
    println!("weight decay     {}", base.training.optimizer.weight_decay);
    println!("clip             {}", base.training.clip);
    println!("\nstudy         question  settings  seeds");
    for Study { name, question, settings, trials, .. } in &all {
        let seeds = trials.first().map_or(0, Vec::len);
        println!(
            "{name:12} {:>9} {:>9} {seeds:>6}",
            format!("Q{question}"),
            settings.len()
        );
    }
    Ok(())
}
// ANCHOR_END: method

/// The phoneme error rate of a setting with each seed, in percent; infinite where the loss left the range of a float.
fn by_seed(chapter: &Chapter, setting: &Setting) -> Result<Vec<f64>> {
    let trials = chapter.findings.trials(&setting.name)?.iter();
    let rate = |trial: &Finished| Metric::PhonemeErrorRate.of(trial);
    Ok(trials
        .map(|trial| rate(trial).map_or(f64::INFINITY, |rate| 100.0 * rate))
        .collect())
}

/// The name of the setting with the lowest number.
fn lowest(settings: &[Setting], number: impl Fn(usize) -> f64) -> (usize, &str) {
    let all = settings.iter().enumerate();
    let least = all.min_by(|(a, _), (b, _)| number(*a).total_cmp(&number(*b)));
    least.map_or((0, ""), |(index, setting)| (index, &setting.name))
}

fn mean_of(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// What whoever had run one seed only would have said.
// ANCHOR: one_seed
fn one_seed(chapters: &[&Chapter]) -> Result<()> {
    println!("\n== one_seed ==");
    println!("the setting with the lowest PER");
    let mut winners = Vec::new();
    let mut pairs = vec![["study", "pairs", "order changes", "not decided"]
        .map(str::to_owned)
        .to_vec()];
    for chapter in chapters {
        let (study, settings) = (chapter.findings.study, chapter.settings());
        let rates = settings.iter().map(|setting| by_seed(chapter, setting));
        let rates = rates.collect::<Result<Vec<_>>>()?;
        let seeds = rates.first().map_or(0, Vec::len);
        if winners.is_empty() {
            let seeds = (1..=seeds).map(|seed| format!("seed {seed}"));
            winners.push(["study".to_owned()].into_iter().chain(seeds).collect());
        }
        let mut row = vec![study.name.to_owned()];
        let winner = |seed: usize| lowest(settings, |setting| rates[setting][seed]).1;
        row.extend((0..seeds).map(|seed| winner(seed).to_owned()));
        winners.push(row);

        let (mut of, mut changes, mut open) = (0, 0, 0);
        for (index, a) in settings.iter().enumerate() {
            for (other, b) in settings.iter().enumerate().skip(index + 1) {
                let is_less = |seed: usize| rates[index][seed] < rates[other][seed];
                let less = (0..seeds).filter(|&seed| is_less(seed)).count();
                let metric = Metric::PhonemeErrorRate;
                let found = chapter.findings.compare(metric, &a.name, &b.name)?;
                of += 1;
                changes += usize::from(less > 0 && less < seeds);
                open += usize::from(found.verdict == Verdict::NotDecided);
            }
        }
        pairs.push(vec![
            study.name.to_owned(),
            of.to_string(),
            changes.to_string(),
            open.to_string(),
        ]);
    }
    print_table(&winners);
    println!("\n== one_seed_pairs ==");
    println!("pairs of settings, and in how many the lower PER changes with the seed");
    print_table(&pairs);
    Ok(())
}
// ANCHOR_END: one_seed

/// Two comparisons with all their numbers.
fn by_hand(heads: &Chapter) -> Result<()> {
    println!("\n== by_hand ==");
    println!("PER (%)");
    for (a, b) in [("8", "4"), ("2", "4")] {
        let [first, second] = [a, b].map(|name| -> Result<Vec<f64>> {
            let place = heads.findings.study.position(name)?;
            by_seed(heads, &heads.settings()[place])
        });
        let (first, second) = (first?, second?);
        let pairs = first.iter().zip(&second);
        let differences: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
        let row = |name: &str, [a, b, difference]: [f64; 3]| {
            vec![
                name.to_owned(),
                format!("{a:.3}"),
                format!("{b:.3}"),
                signed(difference, 3),
            ]
        };
        let headings = ["", &format!("{a} heads"), &format!("{b} heads"), "difference"];
        let mut rows = vec![headings.map(str::to_owned).to_vec()];
        for (seed, difference) in differences.iter().enumerate() {
            let name = format!("seed {}", seed + 1);
            rows.push(row(&name, [first[seed], second[seed], *difference]));
        }
        let all = [&first, &second, &differences].map(|numbers| Summary::of(numbers));
        if let [Some(a), Some(b), Some(difference)] = all {
            rows.push(row("mean", [a.mean, b.mean, difference.mean]));
            let deviations = [a, b, difference].map(|all| all.deviation);
            let mut last = row("deviation", deviations);
            last[3] = format!("{:.3}", difference.deviation); // it has no sign
            rows.push(last);
        }
        print_table(&rows);
        if let Some(interval) = Interval::of(&differences) {
            let Interval { mean, reach } = interval;
            let [from, to] = [mean - reach, mean + reach].map(|end| signed(end, 3));
            println!("95 % interval from {from} to {to}: {}\n", interval.verdict());
        }
    }
    let t = [2, 3, 4, 5].map(|seeds| students_t(seeds).unwrap_or(f64::INFINITY));
    println!("t of 2, 3, 4, 5 seeds: {}", t.map(|t| format!("{t:.3}")).join(", "));
    Ok(())
}

/// Student's t for so many seeds, read off an interval, whose reach is `t · deviation / √seeds`.
fn students_t(seeds: usize) -> Option<f64> {
    let numbers: Vec<f64> = (0..seeds).map(|seed| seed as f64).collect();
    let Summary { deviation, .. } = Summary::of(&numbers)?;
    Some(Interval::of(&numbers)?.reach * (seeds as f64).sqrt() / deviation)
}

/// What it costs to choose by one seed: the score that the choice was made by, and the score with the other seeds.
// ANCHOR: chosen
fn chosen(chapters: &[&Chapter]) -> Result<()> {
    println!("\n== chosen ==");
    println!("PER (%) of the setting that one seed finds the best, mean over that seed");
    let headings = ["study", "settings", "with that seed", "with the others", "luck"];
    let mut rows = vec![headings.map(str::to_owned).to_vec()];
    for chapter in chapters {
        let settings = chapter.settings();
        let rates = settings.iter().map(|setting| by_seed(chapter, setting));
        let rates = rates.collect::<Result<Vec<_>>>()?;
        let (mut then, mut others) = (Vec::new(), Vec::new());
        for seed in 0..rates.first().map_or(0, Vec::len) {
            let (best, _) = lowest(settings, |setting| rates[setting][seed]);
            then.push(rates[best][seed]);
            let all = rates[best].iter().enumerate();
            let rest: Vec<f64> =
                all.filter(|(other, _)| *other != seed).map(|(_, &rate)| rate).collect();
            others.push(mean_of(&rest));
        }
        let (then, others) = (mean_of(&then), mean_of(&others));
        rows.push(vec![
            chapter.findings.study.name.to_owned(),
            settings.len().to_string(),
            format!("{then:.2}"),
            format!("{others:.2}"),
            signed(others - then, 2),
        ]);
    }
    print_table(&rows);
    Ok(())
}
// ANCHOR_END: chosen

/// A line of the file of results, cut into pieces that fit a page.
fn line(heads: &Chapter) -> Result<()> {
    println!("\n== line ==");
    let Some(trial) = heads.findings.trials(heads.baseline()?)?.first() else {
        return Ok(());
    };
    let unwritable = |error: serde_json::Error| Error::input("trial", error.to_string());
    let text = serde_json::to_string(trial).map_err(unwritable)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(unwritable)?;
    let mut fields: Vec<(usize, String)> = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let shown = match value {
            serde_json::Value::Array(numbers) if numbers.len() > 4 => {
                let first: Vec<String> =
                    numbers[..3].iter().map(|number| number.to_string()).collect();
                format!("[{}, …]", first.join(", "))
            }
            serde_json::Value::Object(parts) if parts.len() > 2 => {
                let part = |(name, value): (&String, &serde_json::Value)| {
                    let value = if value.is_object() {
                        "{…}".into()
                    } else {
                        value.to_string()
                    };
                    format!("\n    \"{name}\": {value}")
                };
                format!("{{{}}}", parts.iter().map(part).collect::<Vec<_>>().join(","))
            }
            value => value.to_string(),
        };
        // In the order of the line, where each field stands behind those before it.
        let place = text.find(&format!("\"{name}\":")).unwrap_or(text.len());
        fields.push((place, format!("\"{name}\": {shown}")));
    }
    fields.sort();
    let fields: Vec<String> = fields.into_iter().map(|(_, field)| field).collect();
    println!("{{{}}}", fields.join(",\n "));
    Ok(())
}

fn name_of(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "ReLU",
        Activation::Gelu => "GELU",
        Activation::Silu => "SiLU",
        Activation::Identity => "none",
    }
}

/// The differences of a study from its baseline, in quality and in time.
fn print_verdicts(chapter: &Chapter) -> Result<()> {
    let baseline = chapter.baseline()?;
    let knobs = chapter.findings.study.knobs.join("/");
    println!("each less {knobs} {baseline}, seed by seed: mean and 95 % interval");
    let other = |_: &Setting| baseline.to_owned();
    chapter.print(&[
        chapter.against("PER (points)", Metric::PhonemeErrorRate, 100.0, 2, other),
        chapter.against("seconds", Metric::Seconds, 1.0, 1, other),
    ])
}

/// The columns that each table of one knob has.
fn quality_and_time<'b>(chapter: &'b Chapter) -> Vec<Column<'b>> {
    vec![
        chapter.parameters(),
        chapter.mean(Metric::PhonemeErrorRate, 100.0, 2),
        chapter.mean(Metric::WordErrorRate, 100.0, 2),
        chapter.mean(Metric::Seconds, 1.0, 1),
    ]
}

/// The loss on words that were learned from and on others, and how far they lie apart.
fn losses<'a>(chapter: &'a Chapter) -> [Column<'a>; 3] {
    [
        chapter.mean(Metric::TrainingLoss, 1.0, 3),
        chapter.number("unseen", 3, |trial| Some(trial.scores?.validation_loss)),
        chapter.mean(Metric::Gap, 1.0, 3),
    ]
}

// ANCHOR: question_30
fn question_30(heads: &Chapter) -> Result<()> {
    println!("\n== q30_table ==");
    let of_a_head = |setting: &Setting| {
        Ok((setting.config.model.width / setting.config.model.heads).to_string())
    };
    let mut columns: Vec<Column> = vec![("D", Box::new(of_a_head))];
    columns.extend(quality_and_time(heads));
    heads.print(&columns)?;
    println!("\n== q30_verdicts ==");
    print_verdicts(heads)?;
    println!("\n== q30_losses ==");
    heads.print(&losses(heads))
}
// ANCHOR_END: question_30

// ANCHOR: question_31
fn question_31(width: &Chapter) -> Result<()> {
    println!("\n== q31_table ==");
    width.print(&quality_and_time(width))?;
    println!("\n== q31_verdicts ==");
    print_verdicts(width)?;
    println!("\n== q31_convergence ==");
    println!("validation loss after epoch");
    let last = width.size.baseline().training.epochs as usize;
    let mut epochs: Vec<usize> =
        [1, 3, 5, 10].into_iter().filter(|&epoch| epoch < last).collect();
    epochs.push(last);
    let headings: Vec<(usize, String)> =
        epochs.into_iter().map(|epoch| (epoch, epoch.to_string())).collect();
    let columns: Vec<Column> = headings
        .iter()
        .map(|(epoch, heading)| {
            width.number(heading, 3, move |trial| {
                trial.validation_losses.get(epoch - 1).copied()
            })
        })
        .collect();
    width.print(&columns)?;
    println!("\n== q31_budget ==");
    budget(width)
}

/// What a run has come to when another one is finished.
fn budget(width: &Chapter) -> Result<()> {
    let baseline = width.baseline()?;
    let seconds = |name: &str| -> Result<f64> {
        let summary = width.findings.summary(Metric::Seconds, name)?;
        Ok(summary.map_or(f64::NAN, |summary| summary.mean))
    };
    let epochs = width.size.baseline().training.epochs;
    let enough = seconds(baseline)?;
    println!(
        "validation loss when width {baseline} is finished, after {enough:.0} seconds"
    );
    let within = |name: &str| -> Result<usize> {
        let of_an_epoch = seconds(name)? / epochs as f64;
        // A little more, for the baseline itself must not lose its last epoch to a rounding.
        Ok(((enough / of_an_epoch + 1e-6) as usize).min(epochs as usize))
    };
    let done = |setting: &Setting| Ok(within(&setting.name)?.to_string());
    let loss = |setting: &Setting| {
        let last = within(&setting.name)?;
        let trials = width.findings.trials(&setting.name)?.iter();
        let losses: Vec<f64> = trials
            .filter_map(|trial| {
                trial.validation_losses.get(last.checked_sub(1)?).copied()
            })
            .collect();
        Ok(spread(Summary::of(&losses), 1.0, 3))
    };
    let columns: Vec<Column> = vec![
        ("epochs by then", Box::new(done)),
        ("loss by then", Box::new(loss)),
        width.number("loss in the end", 3, |trial| Some(trial.scores?.validation_loss)),
    ];
    width.print(&columns)
}
// ANCHOR_END: question_31

// ANCHOR: question_32
fn question_32(blocks: &Chapter) -> Result<()> {
    println!("\n== q32_table ==");
    blocks.print(&quality_and_time(blocks))?;
    println!("\n== q32_verdicts ==");
    print_verdicts(blocks)?;
    println!("\n== q32_losses ==");
    blocks.print(&losses(blocks))
}
// ANCHOR_END: question_32

/// The settings of a study with the highest learning rate, and that rate.
fn fastest<'a>(chapter: &Chapter<'a>) -> (f64, Vec<&'a Setting>) {
    let rate = |setting: &Setting| setting.config.training.learning_rate;
    let highest = chapter.settings().iter().map(rate).fold(0.0, f64::max);
    let settings = chapter.settings().iter();
    (highest, settings.filter(|setting| rate(setting) == highest).collect())
}

/// The largest norm of the gradient with each seed, after the warm-up and before clipping.
fn largest_gradients(chapter: &Chapter, setting: &Setting) -> Result<Vec<f64>> {
    let trials = chapter.findings.trials(&setting.name)?;
    Ok(trials.iter().map(|trial| trial.stability.largest_gradient).collect())
}

/// What means hide: a number of each trial at the highest learning rate.
fn print_fastest(
    chapter: &Chapter,
    what: &str,
    numbers: impl Fn(&Chapter, &Setting) -> Result<Vec<f64>>,
    digits: usize,
) -> Result<()> {
    let (rate, settings) = fastest(chapter);
    println!("{what} at a learning rate of {rate}, seed by seed");
    let mut rows = Vec::new();
    for setting in settings {
        let rates = numbers(chapter, setting)?;
        let knobs = &chapter.findings.study.knobs;
        let names = knobs.iter().zip(setting.name.split('/'));
        let names: Vec<_> = names.filter(|(knob, _)| **knob != "learning rate").collect();
        if rows.is_empty() {
            let knobs = names.iter().map(|(knob, _)| (**knob).to_owned());
            let seeds = (1..=rates.len()).map(|seed| format!("seed {seed}"));
            rows.push(knobs.chain(seeds).collect::<Vec<_>>());
        }
        let mut row: Vec<String> =
            names.into_iter().map(|(_, name)| name.to_owned()).collect();
        row.extend(rates.iter().map(|rate| match rate.is_finite() {
            true => format!("{rate:.digits$}"),
            false => "diverged".into(),
        }));
        rows.push(row);
    }
    print_table(&rows);
    Ok(())
}

// ANCHOR: question_33
fn question_33(rates: &Chapter) -> Result<()> {
    println!("\n== q33_table ==");
    let mut columns = vec![rates.mean(Metric::PhonemeErrorRate, 100.0, 2)];
    columns.extend(losses(rates));
    columns.push(rates.mean(Metric::Seconds, 1.0, 1));
    rates.print(&columns)?;
    println!("\n== q33_verdicts ==");
    let baseline = rates.baseline()?;
    println!("each less {baseline}, seed by seed: mean and 95 % interval");
    let other = |_: &Setting| baseline.to_owned();
    rates.print(&[
        rates.against("PER (points)", Metric::PhonemeErrorRate, 100.0, 2, other),
        rates.against("gap", Metric::Gap, 1.0, 3, other),
    ])?;
    println!("\n== q33_seeds ==");
    print_fastest(rates, "PER (%)", by_seed, 2)
}
// ANCHOR_END: question_33

// ANCHOR: question_34
fn question_34(activations: &Chapter) -> Result<()> {
    println!("\n== q34_table ==");
    activations.print(&[
        activations.mean(Metric::PhonemeErrorRate, 100.0, 2),
        activations.mean(Metric::ValidationLoss, 1.0, 3),
        activations.mean(Metric::Seconds, 1.0, 1),
    ])?;
    println!("\n== q34_seeds ==");
    print_fastest(activations, "PER (%)", by_seed, 2)?;
    println!("\n== q34_gradients ==");
    print_fastest(activations, "largest gradient", largest_gradients, 1)?;
    println!("\n== q34_stability ==");
    println!("norm of the gradient after the warm-up, and rise of the training loss");
    activations.print(&[
        activations.number("median", 2, |trial| Some(trial.stability.median_gradient)),
        activations.number("largest", 1, |trial| Some(trial.stability.largest_gradient)),
        activations.number("rise", 3, |trial| Some(trial.stability.rise)),
        activations.diverged(),
    ])?;
    println!("\n== q34_verdicts ==");
    println!(
        "each less GELU at the same learning rate, seed by seed: mean and 95 % interval"
    );
    let gelu = |setting: &Setting| {
        let rate = setting.name.split('/').next_back().unwrap_or_default();
        format!("gelu/{rate}")
    };
    activations.print(&[
        activations.against("PER (points)", Metric::PhonemeErrorRate, 100.0, 2, gelu),
        activations.against("rise", Metric::Rise, 1.0, 3, gelu),
    ])
}
// ANCHOR_END: question_34

const PER: &str = "phoneme error rate (%)";
const SECONDS: &str = "time to train (s)";

/// Quality and time side by side.
fn quality_and_time_panels(
    chapter: &Chapter,
    title: &str,
    description: &str,
    (x_axis, quality_axis): (Axis, Axis),
    x: impl Fn(&Setting) -> f64 + Copy,
) -> Result<Chart> {
    let x_axis = x_axis.with_ticks(values(chapter.findings.study, x));
    let quality = (x_axis.clone(), quality_axis);
    let time = (x_axis, Axis::linear(SECONDS).with_include([0.0]));
    Ok(Chart::Panels(Panels {
        title: title.into(),
        description: description.into(),
        columns: 2,
        panels: vec![
            chapter.panel("Quality", Metric::PhonemeErrorRate, 100.0, quality, x)?,
            chapter.panel("Time", Metric::Seconds, 1.0, time, x)?,
        ],
    }))
}

fn heads_figure(heads: &Chapter) -> Result<Chart> {
    quality_and_time_panels(
        heads,
        "More heads, each narrower",
        "Two charts over the number of heads, with error bars: the phoneme error rate, and the time to train.",
        (Axis::log("heads"), Axis::linear(PER)),
        |setting| setting.config.model.heads as f64,
    )
}

fn width_figure(width: &Chapter) -> Result<Chart> {
    quality_and_time_panels(
        width,
        "A wider model",
        "Two charts over the width of the model, with error bars: the phoneme error rate, and the time to train.",
        (Axis::log("width"), Axis::log(PER)),
        |setting| setting.config.model.width as f64,
    )
}

fn blocks_figure(blocks: &Chapter) -> Result<Chart> {
    quality_and_time_panels(
        blocks,
        "A deeper stack",
        "Two charts over the number of blocks, with error bars: the phoneme error rate, and the time to train.",
        (Axis::linear("blocks"), Axis::linear(PER)),
        |setting| setting.config.model.blocks as f64,
    )
}

fn convergence_figure(width: &Chapter) -> Result<Chart> {
    let settings = width.settings().iter();
    let lines = settings
        .map(|setting| width.course(format!("width {}", setting.name), &setting.name))
        .collect::<Result<Vec<_>>>()?;
    Ok(Chart::Curves(Curves {
        title: "How models of different width converge".into(),
        description: "The validation loss after each epoch, one line for each width. The band around a line is the standard \
                      deviation over the seeds."
            .into(),
        x_axis: Axis::linear("epoch"),
        y_axis: Axis::log("validation loss (nats a target)"),
        series: lines.into_iter().flatten().collect(),
        references: Vec::new(),
    }))
}

/// The different values that a knob has in a study, in the order of its settings.
fn values<T: PartialEq>(study: &Study, value: impl Fn(&Setting) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for value in study.settings.iter().map(value) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

/// For each learning rate a line over the dropout.
fn rates_figure(rates: &Chapter) -> Result<Chart> {
    let rate = |setting: &Setting| setting.config.training.learning_rate;
    let dropouts =
        values(rates.findings.study, |setting| setting.config.training.dropout);
    let panel = |title: &str, metric, factor, y_axis: Axis| -> Result<Chart> {
        let lines = values(rates.findings.study, rate).into_iter().map(|wanted| {
            rates.series(
                &format!("learning rate {wanted}"),
                metric,
                factor,
                |setting| rate(setting) == wanted,
                |setting| setting.config.training.dropout,
            )
        });
        Ok(Chart::Curves(Curves {
            title: title.into(),
            description: "One line for each learning rate, over the dropout.".into(),
            x_axis: Axis::linear("dropout").with_ticks(dropouts.clone()),
            y_axis,
            series: lines.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
            references: Vec::new(),
        }))
    };
    Ok(Chart::Panels(Panels {
        title: "Learning rate and dropout".into(),
        description: "Two charts over the dropout, with a line for each learning rate and error bars: the phoneme error rate, \
                      and how much the loss of unseen words is above that of training words."
            .into(),
        columns: 2,
        panels: vec![
            panel("Quality", Metric::PhonemeErrorRate, 100.0, Axis::log(PER))?,
            panel("Learned by heart", Metric::Gap, 1.0, Axis::linear("loss, unseen less learned (nats)"))?,
        ],
    }))
}

/// The same error rates as a map.
fn rates_map(rates: &Chapter) -> Result<Chart> {
    let study = rates.findings.study;
    let learning_rates = values(study, |setting| setting.config.training.learning_rate);
    let dropouts = values(study, |setting| setting.config.training.dropout);
    let mut rows = Vec::new();
    for rate in &learning_rates {
        let mut row = Vec::new();
        for dropout in &dropouts {
            let name = format!("{rate}/{dropout}");
            let summary = rates.findings.summary(Metric::PhonemeErrorRate, &name)?;
            // What did not come to an end has nothing right.
            row.push(summary.map_or(100.0, |summary| 100.0 * summary.mean));
        }
        rows.push(row);
    }
    let all = || rows.iter().flatten().copied();
    let (least, most) =
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let names = |numbers: &[f64]| numbers.iter().map(f64::to_string).collect();
    Ok(Chart::Heatmap(Heatmap {
        title: "Phoneme error rate in percent".into(),
        description: "A map with a row for each learning rate and a column for each dropout; a fuller colour is a higher \
                      phoneme error rate."
            .into(),
        row_axis: "learning rate".into(),
        column_axis: "dropout".into(),
        rows: names(&learning_rates),
        columns: names(&dropouts),
        min: least.floor(),
        max: most.ceil().max(least.floor() + 1.0),
        show_values: true,
        values: rows,
    }))
}

/// For each activation a line over the learning rate.
fn activations_figure(activations: &Chapter) -> Result<Chart> {
    let of = |setting: &Setting| setting.config.model.activation;
    let rates = values(activations.findings.study, |setting| {
        setting.config.training.learning_rate
    });
    let panel = |title: &str, metric, factor, y_axis: Axis| -> Result<Chart> {
        let lines = values(activations.findings.study, of).into_iter().map(|wanted| {
            activations.series(
                name_of(wanted),
                metric,
                factor,
                |setting| of(setting) == wanted,
                |setting| setting.config.training.learning_rate,
            )
        });
        Ok(Chart::Curves(Curves {
            title: title.into(),
            description: "One line for each activation, over the learning rate.".into(),
            x_axis: Axis::log("learning rate").with_ticks(rates.clone()),
            y_axis,
            series: lines.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
            references: Vec::new(),
        }))
    };
    Ok(Chart::Panels(Panels {
        title: "Activations at rising learning rates".into(),
        description: "Two charts over the learning rate, with a line for each activation and error bars: the phoneme error \
                      rate, and the largest norm of the gradient after the warm-up."
            .into(),
        columns: 2,
        panels: vec![
            panel("Quality", Metric::PhonemeErrorRate, 100.0, Axis::log(PER))?,
            panel(
                "Stability",
                Metric::LargestGradient,
                1.0,
                Axis::log("largest norm of the gradient"),
            )?,
        ],
    }))
}

/// How the validation loss falls at each learning rate, a line for each activation.
fn courses_figure(activations: &Chapter) -> Result<Chart> {
    let study = activations.findings.study;
    let rates = values(study, |setting| setting.config.training.learning_rate);
    let panels = rates.into_iter().map(|rate| -> Result<Chart> {
        let settings = study.settings.iter();
        let at_rate =
            settings.filter(|setting| setting.config.training.learning_rate == rate);
        let lines = at_rate.map(|setting| {
            activations.course(
                name_of(setting.config.model.activation).to_owned(),
                &setting.name,
            )
        });
        Ok(Chart::Curves(Curves {
            title: format!("Learning rate {rate}"),
            description:
                "The validation loss after each epoch, one line for each activation."
                    .into(),
            x_axis: Axis::linear("epoch"),
            y_axis: Axis::log("validation loss (nats a target)"),
            series: lines.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
            references: Vec::new(),
        }))
    });
    Ok(Chart::Panels(Panels {
        title: "The course of training".into(),
        description: "Charts of the validation loss after each epoch, one for each learning rate, with a line for each \
                      activation. The band around a line is the standard deviation over the seeds."
            .into(),
        columns: 2,
        panels: panels.collect::<Result<_>>()?,
    }))
}

/// How the training loss falls with each seed, for the activation of the baseline at the highest learning rate.
fn seeds_figure(activations: &Chapter) -> Result<Chart> {
    let (rate, settings) = fastest(activations);
    let usual = activations.size.baseline().model.activation;
    let setting =
        settings.into_iter().find(|setting| setting.config.model.activation == usual);
    let trials = match setting {
        Some(setting) => activations.findings.trials(&setting.name)?,
        None => &[],
    };
    let line = |trial: &&Finished| {
        let losses = trial.training_losses.iter().enumerate();
        let points = losses.map(|(epoch, &loss)| (epoch as f64 + 1.0, loss)).collect();
        Series::new(format!("seed {}", trial.config.training.seed), points)
    };
    Ok(Chart::Curves(Curves {
        title: format!("{} at a learning rate of {rate}", name_of(usual)),
        description: "The training loss of each epoch, one line for each seed.".into(),
        x_axis: Axis::linear("epoch"),
        y_axis: Axis::log("training loss (nats a target)"),
        series: trials.iter().map(line).collect(),
        references: Vec::new(),
    }))
}
