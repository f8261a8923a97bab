//! What the page claims, and whether the results bear it out.
//!
//! A sentence that compares stands behind a comment that says what it claims, in a form that can be checked:
//!
//! ```text
//! <!-- claim: heads PER 8 not-better-than 4; heads seconds 8 worse-than 4 -->
//! Eight heads do not help here, and they take longer.
//! ```
//!
//! | claim                                  | it holds if                                                  |
//! |----------------------------------------|--------------------------------------------------------------|
//! | `STUDY METRIC A better-than B`         | the verdict on A and B is that A is better                   |
//! | `STUDY METRIC A worse-than B`          | … that A is worse                                            |
//! | `STUDY METRIC A undecided-with B`      | … that the data do not decide                                |
//! | `STUDY METRIC A not-better-than B`     | … anything else than that A is better                        |
//! | `STUDY METRIC A not-worse-than B`      | … anything else than that A is worse                         |
//! | `STUDY METRIC lowest A`                | no other setting of the study has a lower mean               |
//! | `STUDY METRIC highest A`               | no other setting of the study has a higher mean              |
//! | `STUDY METRIC A over B within X Y`     | the mean of A, divided by that of B, lies between X and Y    |
//! | `STUDY METRIC A below B with-seed N`    | with that seed alone, A has less than B                      |
//! | `STUDY loss A below B after N`         | after so many epochs the mean validation loss of A is lower, and that is decided |
//! | `STUDY diverged A N`                   | the loss of N of the trials of A left the range of a float   |
//! | `none (REASON)`                        | always: the sentence compares no results, for the reason given |
//!
//! The studies and their settings are those of `src/experiments/studies.rs`, the metrics those of
//! `src/experiments/analysis.rs`. At the beginning of a paragraph the comment stands on a line of its own, or Markdown
//! would take the whole line for HTML; within a paragraph it stands before its sentence.

use regex::Regex;
use self_attention::experiments::analysis::{Findings, Interval, Metric, Verdict};
use self_attention::experiments::results::{Finished, Results};
use self_attention::experiments::studies::Study;

/// Words that compare.
const COMPARES: &str = r"(?ix)\b(?:
    better | worse | best | worst | faster | slower | fastest | slowest | quicker | cheaper | cheapest | dearer |
    lowest | highest | largest | smallest | steadier | steadiest | calmer |
    beats? | wins? | loses? | outperforms? | helps? | helped | hurts? | harms? | improves? | improved | gains? | pays? |
    twice | thrice | doubles? | halves? | times\ as | as\ (?:good|well|fast|long|much|low|high)\ as |
    no\ difference | differs? | makes?\ (?:no|a|little)\ difference |
    (?:more|fewer|less|higher|lower|larger|smaller|longer|shorter|further|sooner|later|earlier|wider|narrower|deeper)
    \b [^.!?]* \b than
)\b";

/// What is wrong with the claims of a page: comparisons without a claim, claims that are none, and claims that the
/// results do not bear out.
pub fn problems(page: &str, studies: &[Study], results: &Results) -> Vec<String> {
    let compares = Regex::new(COMPARES).unwrap();
    let mut problems = Vec::new();
    let mut claimed = 0;
    for Sentence { text, claims } in sentences(page) {
        let short: String = text.chars().take(80).collect();
        if claims.is_empty() && compares.is_match(&text) {
            problems.push(format!("compares and claims nothing: {short}"));
        }
        if text.is_empty() {
            problems
                .push(format!("no sentence follows the claim: {}", claims.join("; ")));
        }
        for claim in &claims {
            claimed += usize::from(!claim.starts_with("none"));
            if let Err(problem) = check(claim, studies, results) {
                problems.push(format!("claim `{claim}`: {problem}"));
            }
        }
    }
    for line in page.lines().filter(|line| line.starts_with("<!-- claim")) {
        if !line.trim_end().ends_with("-->") {
            problems.push(format!(
                "text stands on the line of a comment, where it is no Markdown: {line}"
            ));
        }
    }
    if claimed == 0 {
        problems.push("the page claims nothing".into());
    }
    problems
}

/// A sentence of the prose, with the claims that stand before it.
struct Sentence {
    text: String,
    claims: Vec<String>,
}

/// The sentences of a page before its exercises. Code, formulas, tables, headings and tags are left out.
fn sentences(page: &str) -> Vec<Sentence> {
    let page = page.split("\n## Exercises").next().unwrap_or_default();
    let mut prose = page.to_owned();
    for pattern in [
        r"(?ms)^```.*?^```",
        r"(?s)\$\$.*?\$\$",
        r"(?m)^\|.*$",
        r"(?m)^#.*$",
        r"\{\{#[^}]*\}\}",
    ] {
        prose = Regex::new(pattern).unwrap().replace_all(&prose, "").into_owned();
    }
    // A claim becomes a character that occurs nowhere else, so that tags can go and it stays.
    let comment = Regex::new(r"(?s)<!-- claim: (.*?) -->").unwrap();
    let claims: Vec<String> =
        comment.captures_iter(&prose).map(|found| found[1].to_owned()).collect();
    let prose = comment.replace_all(&prose, "\u{1}");
    let prose = Regex::new(r"(?s)<!--.*?-->|<[^>]+>")
        .unwrap()
        .replace_all(&prose, "")
        .into_owned();
    // A claim on a line of its own belongs to the line after it.
    let prose =
        Regex::new(r"\u{1}\s*\n\s*").unwrap().replace_all(&prose, "\u{1} ").into_owned();
    let end = Regex::new(r"[.!?][)”’*_]*\s+|\n\s*\n").unwrap();

    let mut claims = claims.into_iter();
    let mut sentences = Vec::new();
    let mut rest = prose.as_str();
    while !rest.is_empty() {
        let length = end.find(rest).map_or(rest.len(), |found| found.end());
        let (sentence, after) = rest.split_at(length);
        rest = after;
        let here = claims.by_ref().take(sentence.matches('\u{1}').count());
        let claims: Vec<String> = here
            .flat_map(|claims| {
                claims.split(';').map(|claim| claim.trim().to_owned()).collect::<Vec<_>>()
            })
            .collect();
        let text = sentence.replace('\u{1}', "");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if !(text.is_empty() && claims.is_empty()) {
            sentences.push(Sentence { text, claims });
        }
    }
    sentences
}

/// Whether a claim holds; if not, what does.
fn check(claim: &str, studies: &[Study], results: &Results) -> Result<(), String> {
    if let Some(reason) = claim.strip_prefix("none") {
        let reason =
            reason.trim().strip_prefix('(').and_then(|reason| reason.strip_suffix(')'));
        return match reason {
            Some(reason) if reason.len() >= 8 => Ok(()),
            _ => Err("say why, as in `none (the definition of the mean)`".into()),
        };
    }
    let words: Vec<&str> = claim.split_whitespace().collect();
    let findings = |name: &str| {
        let study = studies.iter().find(|study| study.name == name);
        let study = study.ok_or_else(|| format!("there is no study `{name}`"))?;
        Findings::new(study, results).map_err(|error| error.to_string())
    };
    let metric = |name: &str| name.parse::<Metric>().map_err(|error| error.to_string());
    match words[..] {
        [study, "diverged", setting, count] => {
            let found =
                findings(study)?.diverged(setting).map_err(|error| error.to_string())?;
            hold(count == found.to_string(), || format!("{found} diverged"))
        }
        [study, of, which @ ("lowest" | "highest"), setting] => {
            let (findings, metric) = (findings(study)?, metric(of)?);
            let mine = mean(&findings, metric, setting)?;
            for other in &findings.study.settings {
                let theirs = match mean(&findings, metric, &other.name) {
                    Err(_) if which == "lowest" => continue, // what diverged is not lower
                    theirs => theirs?,
                };
                let is_beyond =
                    if which == "lowest" { theirs < mine } else { theirs > mine };
                hold(!is_beyond, || {
                    format!("{} has {theirs:.4}, and {setting} {mine:.4}", other.name)
                })?;
            }
            Ok(())
        }
        [study, of, a, "over", b, "within", least, most] => {
            let (findings, metric) = (findings(study)?, metric(of)?);
            let ratio = mean(&findings, metric, a)? / mean(&findings, metric, b)?;
            let [least, most] = [least, most].map(str::parse::<f64>);
            match (least, most) {
                (Ok(least), Ok(most)) if least < most => {
                    hold((least..=most).contains(&ratio), || {
                        format!("the ratio is {ratio:.3}")
                    })
                }
                _ => Err("`within` wants two numbers, the smaller first".into()),
            }
        }
        [study, of, a, "below", b, "with-seed", seed] => {
            let (findings, metric) = (findings(study)?, metric(of)?);
            let seed: u64 = seed.parse().map_err(|_| format!("`{seed}` is no seed"))?;
            let [a, b] = [a, b].map(|setting| {
                let trials =
                    findings.trials(setting).map_err(|error| error.to_string())?;
                let of_seed = |trial: &&&Finished| trial.config.training.seed == seed;
                let found = trials.iter().find(of_seed);
                let found = found.and_then(|trial| metric.of(trial));
                found.ok_or_else(|| format!("{setting} has no score with seed {seed}"))
            });
            let (a, b) = (a?, b?);
            hold(a < b, || format!("it is {a:.4}, and {b:.4}"))
        }
        [study, "loss", a, "below", b, "after", epochs] => {
            let findings = findings(study)?;
            let epoch = epochs.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            let [a, b] = [a, b].map(|setting| {
                let trials =
                    findings.trials(setting).map_err(|error| error.to_string())?;
                let losses = trials.iter().map(|trial| {
                    let loss = trial.validation_losses.get(epoch?).copied();
                    loss.filter(|_| trial.diverged.is_none())
                });
                let losses: Option<Vec<f64>> = losses.collect();
                losses.ok_or_else(|| format!("{setting} has no loss after {epochs}"))
            });
            let differences: Vec<f64> = a?.iter().zip(&b?).map(|(a, b)| a - b).collect();
            let Some(interval) = Interval::of(&differences) else {
                return Err("one seed decides nothing".into());
            };
            hold(interval.verdict() == Verdict::Better, || {
                format!("the difference is {:.4} ± {:.4}", interval.mean, interval.reach)
            })
        }
        [study, of, a, relation, b] => {
            let found = findings(study)?
                .compare(metric(of)?, a, b)
                .map_err(|error| error.to_string())?;
            let verdict = found.verdict;
            let holds = match relation {
                "better-than" => verdict == Verdict::Better,
                "worse-than" => verdict == Verdict::Worse,
                "undecided-with" => verdict == Verdict::NotDecided,
                "not-better-than" => verdict != Verdict::Better,
                "not-worse-than" => verdict != Verdict::Worse,
                _ => return Err(format!("`{relation}` is no relation")),
            };
            let difference = found.difference.map(|interval| {
                format!(", the difference {:.4} ± {:.4}", interval.mean, interval.reach)
            });
            hold(holds, || {
                format!("the verdict is {verdict}{}", difference.unwrap_or_default())
            })
        }
        _ => Err("is no claim; the forms stand in tests/experiments/claims.rs".into()),
    }
}

fn hold(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise())
    }
}

fn mean(findings: &Findings, metric: Metric, setting: &str) -> Result<f64, String> {
    let summary = findings.summary(metric, setting).map_err(|error| error.to_string())?;
    summary
        .map(|summary| summary.mean)
        .ok_or_else(|| format!("too few trials of {setting} came to an end"))
}

pub mod tests {
    use super::*;
    use self_attention::experiments::results::TrialScores;
    use self_attention::experiments::studies::{studies, trials, Size};
    use self_attention::experiments::trial::{Stability, Trial};

    /// Results that no trial has measured, with the phoneme error rate that `rate` says. What is 1 or above has
    /// diverged.
    pub fn made_up(studies: &[Study], rate: impl Fn(&Trial) -> f64) -> Results {
        let finished = trials(studies).into_iter().map(|trial| {
            let rate = rate(&trial);
            let (epochs, seed) =
                (trial.config.training.epochs, trial.config.training.seed);
            Finished {
                scores: (rate < 1.0).then_some(TrialScores {
                    phoneme_error_rate: rate,
                    word_error_rate: rate,
                    validation_loss: rate,
                    training_loss: rate,
                }),
                diverged: (rate >= 1.0).then(|| "the loss became NaN".to_owned()),
                parameters: 1000,
                steps: 100,
                training_losses: vec![rate; epochs as usize],
                validation_losses: vec![rate; epochs as usize],
                stability: Stability::default(),
                core_seconds: 10.0 * trial.config.model.blocks as f64 + 0.1 * seed as f64,
                seconds: 50.0,
                threads: 1,
                processor: "a processor".into(),
                name: trial.name,
                id: trial.id,
                config: trial.config,
            }
        });
        Results::new(finished.collect()).unwrap()
    }

    /// One head is worse than four by far, two by as much as the seeds differ, and sixteen diverge.
    fn setting() -> ([Study; 5], Results) {
        let studies = studies(Size::Full).unwrap();
        let results = made_up(&studies, |trial| {
            let noise = 0.01 * (trial.config.training.seed * 7 % 5) as f64;
            match trial.config.model.heads {
                1 => 0.5 + noise,
                2 => 0.22 - noise,
                16 => 1.0,
                _ => 0.2,
            }
        });
        (studies, results)
    }

    fn verdict(claim: &str) -> Result<(), String> {
        let (studies, results) = setting();
        check(claim, &studies, &results)
    }

    #[test]
    fn a_claim_holds_or_says_what_does() {
        for claim in [
            "heads PER 1 worse-than 4",
            "heads PER 4 better-than 1",
            "heads PER 2 undecided-with 4",
            "heads PER 2 not-better-than 4",
            "heads PER 2 not-worse-than 4",
            "heads WER 8 not-better-than 4",
            "heads loss 4 better-than 16",
            "heads PER 4 below 2 with-seed 3",
            "heads PER 2 below 4 with-seed 2",
            "heads PER 2 below 1 with-seed 4",
            "heads loss 4 below 1 after 15",
            "heads diverged 16 4",
            "heads diverged 4 0",
            "blocks seconds 4 over 2 within 1.9 2.1",
            "blocks seconds lowest 1",
            "heads PER lowest 2",
            "blocks seconds highest 6",
            "none (the words of a paper)",
        ] {
            assert_eq!(verdict(claim), Ok(()), "{claim}");
        }
        for (claim, expected) in [
            ("heads PER 4 worse-than 1", "the verdict is better, the difference -0.3"),
            ("heads PER 2 better-than 4", "the verdict is not decided"),
            ("heads PER 1 not-worse-than 4", "the verdict is worse"),
            ("heads PER 1 below 2 with-seed 4", "it is 0.53"),
            ("heads PER 16 below 2 with-seed 1", "16 has no score with seed 1"),
            ("heads PER 1 below 2 with-seed 9", "1 has no score with seed 9"),
            ("heads loss 2 below 4 after 3", "the difference is -0.00"),
            ("heads loss 4 below 16 after 3", "16 has no loss after 3"),
            ("heads loss 4 below 1 after 16", "4 has no loss after 16"),
            ("heads diverged 16 3", "4 diverged"),
            ("heads PER lowest 1", "2 has 0.1950, and 1 0.5250"),
            ("blocks seconds 4 over 2 within 2.5 3", "the ratio is 1.9"),
            ("blocks seconds 4 over 2 within 3 2", "wants two numbers"),
            ("heads PER 5 better-than 4", "`5` is none of 1, 2"),
            ("heads F1 2 better-than 4", "`F1` is none of PER"),
            ("hats PER 2 better-than 4", "there is no study `hats`"),
            ("heads PER 2 nicer-than 4", "`nicer-than` is no relation"),
            ("eight heads are better", "is no claim"),
            ("heads PER highest 16", "too few trials of 16"),
            ("none", "say why"),
        ] {
            let problem = verdict(claim).unwrap_err();
            assert!(problem.contains(expected), "{claim}: {problem}");
        }
    }

    const PAGE: &str = "# Title\n\nWe turn knobs.\n\n## Q30: Which is better? {#q30}\n\n\
        <!-- claim: heads PER 1 worse-than 4 -->\nOne head is worse than four. That is all.\n\n\
        | better | worse |\n\n```console\nbetter\n```\n\n\
        It costs time. <!-- claim: blocks seconds 4 worse-than 2; blocks seconds lowest 1 --> Two blocks \
        are faster than *four*. And so on.\n\n## Exercises\n\nWhich is better?\n";

    fn found(page: &str) -> Vec<String> {
        let (studies, results) = setting();
        problems(page, &studies, &results)
    }

    #[test]
    fn a_page_whose_comparisons_are_claimed_passes() {
        assert_eq!(found(PAGE), Vec::<String>::new());
    }

    #[test]
    fn a_comparison_without_a_claim_fails() {
        let page =
            PAGE.replace("And so on.", "And six are slower than two. Eight heads help.");
        assert_eq!(
            found(&page),
            [
                "compares and claims nothing: And six are slower than two.",
                "compares and claims nothing: Eight heads help."
            ]
        );
        let page = PAGE.replace("<!-- claim: heads PER 1 worse-than 4 -->\n", "");
        assert_eq!(
            found(&page),
            ["compares and claims nothing: One head is worse than four."]
        );
    }

    #[test]
    fn a_claim_that_the_results_do_not_bear_out_fails() {
        let page = PAGE.replace("heads PER 1 worse-than 4", "heads PER 2 worse-than 4");
        assert!(found(&page)[0]
            .starts_with("claim `heads PER 2 worse-than 4`: the verdict is not decided"));
        assert_eq!(found("# Title\n\nNothing.\n"), ["the page claims nothing"]);
    }

    #[test]
    fn a_comment_that_would_swallow_its_sentence_fails() {
        let page = PAGE.replace("4 -->\nOne", "4 --> One");
        assert!(found(&page)[0].starts_with("text stands on the line of a comment"));
        let page = PAGE.replace("And so on.", "<!-- claim: heads diverged 4 0 -->");
        assert_eq!(found(&page), ["no sentence follows the claim: heads diverged 4 0"]);
    }
}
