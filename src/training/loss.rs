//! How wrong a prediction is: cross-entropy over the positions that count.

use tch::{Reduction, Tensor};

use self_attention::data::batch::IGNORED;
use self_attention::error::{Error, Result};

/// The mean cross-entropy of the targets that count.
///
/// `loss = −(1/N) Σ log softmax(logits)[target]` over the `N` positions whose target is not [`IGNORED`]. With label
/// smoothing `ε` a share `ε` of each target is spread evenly over all `V` tokens (Szegedy et al., 2016), so that the
/// model is not driven to be surer than it can be. Without it, a model that finds all tokens equally likely has a loss
/// of `ln V`.
///
/// # Shapes
/// `logits`: `[…, V]`, `targets`: `[…]`, such as `[B, T, V]` and `[B, T]`; the loss has no dimension. It is in nats.
///
/// # Errors
/// [`Error::Shape`] if the two do not belong together; [`Error::Config`] unless `0 ≤ ε < 1`.
// ANCHOR: cross_entropy
pub fn cross_entropy(
    logits: &Tensor,
    targets: &Tensor,
    label_smoothing: f64,
) -> Result<Tensor> {
    check(logits, targets, label_smoothing)?;
    let logits = logits.f_flatten(0, -2)?; // […, V] with one dimension before the last
    let targets = targets.f_flatten(0, -1)?; // the same […] as one dimension
    let no_weights = None::<&Tensor>;
    Ok(logits.f_cross_entropy_loss(
        &targets,
        no_weights,
        Reduction::Mean,
        IGNORED,
        label_smoothing,
    )?)
}
// ANCHOR_END: cross_entropy

fn check(logits: &Tensor, targets: &Tensor, label_smoothing: f64) -> Result<()> {
    if !(0.0..1.0).contains(&label_smoothing) {
        return Err(Error::config(
            "label_smoothing",
            label_smoothing,
            "a share is at least 0 and below 1",
        ));
    }
    let (logits, targets) = (logits.size(), targets.size());
    match logits.split_last() {
        Some((_, asked)) if asked == targets && !asked.is_empty() => Ok(()),
        Some((_, asked)) if !asked.is_empty() => Err(Error::Shape {
            what: "loss: targets",
            expected: format!("{asked:?}, as in the logits"),
            found: targets,
        }),
        _ => Err(Error::Shape {
            what: "loss: logits",
            expected: "[…, V]".into(),
            found: logits,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn logits() -> Tensor {
        Tensor::from_slice(&[1.0, 2.0, 0.5, 0.0, 0.0, 0.0]).view([1, 2, 3])
    }

    fn loss(targets: &[i64], smoothing: f64) -> f64 {
        cross_entropy(&logits(), &Tensor::from_slice(targets).view([1, 2]), smoothing)
            .unwrap()
            .double_value(&[])
    }

    #[test]
    fn equals_its_definition() {
        let sum = 1f64.exp() + 2f64.exp() + 0.5f64.exp();
        let [first, second] = [-(2f64.exp() / sum).ln(), 3f64.ln()];
        assert!((loss(&[1, 0], 0.0) - (first + second) / 2.0).abs() < 1e-12);
        let spread =
            [1.0, 2.0, 0.5].map(|logit: f64| sum.ln() - logit).iter().sum::<f64>() / 3.0;
        assert!((loss(&[1, IGNORED], 0.3) - (0.7 * first + 0.3 * spread)).abs() < 1e-12);
    }

    #[test]
    fn ignored_positions_do_not_count() {
        assert!((loss(&[IGNORED, 2], 0.0) - 3f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let targets = Tensor::zeros([1, 3], (Kind::Int64, Device::Cpu));
        let error = cross_entropy(&logits(), &targets, 0.0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "loss: targets: expected [1, 2], as in the logits, found [1, 3]"
        );
        assert!(cross_entropy(&targets, &targets, 0.0).is_err());
        assert!(cross_entropy(&logits(), &targets, 1.0).is_err());
    }
}
