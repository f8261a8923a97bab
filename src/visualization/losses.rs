//! The two curves of a training run.

use crate::training::log::EpochRecord;
use crate::visualization::{Axis, Curves, Series};

/// Training and validation loss against the step.
///
/// The loss of an epoch is a mean over its steps, so it stands in their middle; a validation, a step and its loss,
/// stands where it was made.
// ANCHOR: loss_curves
pub fn loss_curves(
    title: impl Into<String>,
    epochs: &[EpochRecord],
    validations: &[(u64, f64)],
) -> Curves {
    let starts = [0].into_iter().chain(epochs.iter().map(|epoch| epoch.steps));
    let training = starts
        .zip(epochs)
        .map(|(start, epoch)| ((start + epoch.steps) as f64 / 2.0, epoch.train_loss));
    let validation = validations.iter().map(|&(step, loss)| (step as f64, loss));
    Curves {
        title: title.into(),
        description: "Training and validation loss against the step.".into(),
        x_axis: Axis::linear("step").with_include([0.0]),
        y_axis: Axis::linear("loss (nats a target)").with_include([0.0]),
        series: vec![
            Series::new("training", training.collect()),
            Series::new("validation", validation.collect()).with_dashes(),
        ],
        references: Vec::new(),
    }
}
// ANCHOR_END: loss_curves
