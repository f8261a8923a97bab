//! How the parameters change: AdamW, a learning rate that warms up and cools down, and a limit on the gradient.
//!
//! tch has an AdamW, but keeps its moments where they cannot be saved: a run that is killed would forget them and go on
//! differently. This one shows them.

use serde::{Deserialize, Serialize};
use tch::{nn, no_grad, Tensor};

use self_attention::error::{Error, Result};

/// The settings of [`AdamW`].
// ANCHOR: adam_w_config
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// How much of the first moment is kept at each step, `β₁`.
    pub beta1: f64,
    /// How much of the second moment is kept at each step, `β₂`.
    pub beta2: f64,
    /// Keeps the division away from zero, `ε`.
    pub epsilon: f64,
    /// How fast a matrix decays towards zero, `λ`; biases, norms and embeddings do not decay.
    pub weight_decay: f64,
}
// ANCHOR_END: adam_w_config

impl Default for AdamWConfig {
    /// PyTorch's defaults, but a `β₂` that forgets sooner, as is usual for transformers, and a stronger decay.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, epsilon: 1e-8, weight_decay: 0.05 }
    }
}

impl AdamWConfig {
    fn check(&self) -> Result<()> {
        for (setting, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(Error::config(
                    setting,
                    beta,
                    "must be at least 0 and below 1",
                ));
            }
        }
        for (setting, value) in
            [("epsilon", self.epsilon), ("weight_decay", self.weight_decay)]
        {
            if !(value.is_finite() && value >= 0.0) {
                let reason = "must be finite and not negative";
                return Err(Error::config(setting, value, reason));
            }
        }
        Ok(())
    }
}

/// Which parameters decay towards zero: the matrices that mix numbers. Biases and norms, which have one dimension, do
/// not, and neither do the tables of the vectors of tokens and positions.
// ANCHOR: decays
pub fn decays(name: &str, value: &Tensor) -> bool {
    let table = ["embedding", "positions"].contains(&name);
    value.dim() >= 2 && !table
}
// ANCHOR_END: decays

/// One tensor that is trained, and what the optimizer remembers of its gradients.
#[derive(Debug)]
struct Parameter {
    name: String,
    value: Tensor,
    first: Tensor,
    second: Tensor,
    decays: bool,
}

/// Adam with decoupled weight decay (Kingma & Ba, 2015; Loshchilov & Hutter, 2019).
///
/// With the gradient `g` at step `t` and learning rate `η`:
/// `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
/// `θ ← θ − ηλθ − η · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)`.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    steps: u64,
}

impl AdamW {
    /// An optimizer for all parameters of `store`, in the order of their names.
    ///
    /// Those for which [`decays`] says so decay.
    ///
    /// # Errors
    /// [`Error::Config`] for settings that cannot train; [`Error::Torch`] if libtorch cannot make the moments.
    pub fn new(store: &nn::VarStore, config: AdamWConfig) -> Result<Self> {
        config.check()?;
        let mut named: Vec<_> = store
            .variables()
            .into_iter()
            .filter(|(_, value)| value.requires_grad())
            .collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        let parameters = named
            .into_iter()
            .map(|(name, value)| {
                let (first, second) = (value.f_zeros_like()?, value.f_zeros_like()?);
                let [first, second] = [
                    first.f_set_requires_grad(false)?,
                    second.f_set_requires_grad(false)?,
                ];
                let decays = decays(&name, &value);
                Ok(Parameter { name, value, first, second, decays })
            })
            .collect::<Result<_>>()?;
        Ok(Self { config, parameters, steps: 0 })
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        for parameter in &mut self.parameters {
            parameter.value.zero_grad();
        }
    }

    /// Scales all gradients down together so that their joint Euclidean norm is at most `limit`, and says what it was
    /// before (Pascanu et al., 2013).
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    // ANCHOR: clip_gradients
    pub fn clip_gradients(&mut self, limit: f64) -> Result<f64> {
        let mut norms = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let gradient = parameter.value.f_grad()?;
            if gradient.defined() {
                norms.push(gradient.f_norm()?);
            }
        }
        let norm = Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?;
        if norm > limit {
            self.scale_gradients(limit / norm)?;
        }
        Ok(norm)
    }
    // ANCHOR_END: clip_gradients

    /// Multiplies all gradients by `factor`.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    pub fn scale_gradients(&mut self, factor: f64) -> Result<()> {
        for parameter in &self.parameters {
            let mut gradient = parameter.value.f_grad()?;
            if gradient.defined() {
                let _ = gradient.f_mul_scalar_(factor)?;
            }
        }
        Ok(())
    }

    /// Moves every parameter one step against its gradient.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    // ANCHOR: step
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let [seen1, seen2] =
            [beta1, beta2].map(|beta| 1.0 - beta.powf(self.steps as f64));
        no_grad(|| {
            for Parameter { value, first, second, decays, .. } in &mut self.parameters {
                let gradient = value.f_grad()?;
                if !gradient.defined() {
                    continue; // the parameter had no part in the loss
                }
                let _ = first.f_lerp_(&gradient, 1.0 - beta1)?;
                let _ = second.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
                let root = second.f_div_scalar(seen2)?.f_sqrt()?.f_add_scalar(epsilon)?;
                let update = first.f_div(&root)?.f_mul_scalar(learning_rate / seen1)?;
                if *decays {
                    let _ = value.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
                }
                let _ = value.f_sub_(&update)?;
            }
            Ok(())
        })
    }
    // ANCHOR_END: step

    /// How many steps were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// What has to be kept beside the parameters for a run to go on as if it had never stopped: both moments of each.
    pub fn moments(&self) -> impl Iterator<Item = (String, &Tensor)> {
        self.parameters.iter().flat_map(|parameter| {
            let Parameter { name, first, second, .. } = parameter;
            [(format!("first.{name}"), first), (format!("second.{name}"), second)]
        })
    }

    /// Says how many steps were taken, after the moments were read back into the tensors of [`AdamW::moments`].
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }
}

/// A learning rate that rises in a line from 0 to its peak and then falls along half a cosine to 0.
///
/// `η(t) = peak · t/warm-up` before the warm-up ends, and `peak · (1 + cos(π·p))/2` after it, where `p` is the share of
/// the remaining steps that lie behind step `t` (Loshchilov & Hutter, 2017). So no step is taken at a rate of 0.
// ANCHOR: schedule
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps until it is reached.
    pub warm_up: u64,
    /// Steps in all.
    pub total: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 1.
    pub fn learning_rate(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * step as f64 / self.warm_up as f64;
        }
        let cooling = self.total.saturating_sub(self.warm_up).max(1) as f64;
        let behind = step.saturating_sub(self.warm_up + 1) as f64;
        let passed = (behind / cooling).min(1.0);
        self.peak * (1.0 + (std::f64::consts::PI * passed).cos()) / 2.0
    }
}
// ANCHOR_END: schedule

/// The factor on the loss in mixed precision, which lifts the gradients over the smallest number that 16 bits can hold
/// (Micikevicius et al., 2018; PyTorch's `GradScaler`).
///
/// A step whose gradients overflow is left out, and the factor halved; after 2,000 steps without an overflow it is
/// doubled. It is a power of two, so multiplying by it and dividing again changes no digit.
// ANCHOR: loss_scale
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    /// What the loss is multiplied by, and the gradients divided by.
    pub factor: f64,
    good_steps: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { factor: 65_536.0, good_steps: 0 }
    }
}

impl LossScale {
    /// Learns from a step whether its gradients overflowed.
    pub fn update(&mut self, overflowed: bool) {
        self.good_steps += 1;
        if overflowed {
            *self = Self { factor: self.factor / 2.0, good_steps: 0 };
        } else if self.good_steps == 2_000 {
            *self = Self { factor: self.factor * 2.0, good_steps: 0 };
        }
    }
}
// ANCHOR_END: loss_scale

#[cfg(test)]
mod tests {
    use super::*;
    use self_attention::model::TransformerConfig;
    use tch::{nn::OptimizerConfig, Device, Kind};

    fn store() -> (nn::VarStore, [Tensor; 2]) {
        tch::manual_seed(4);
        let store = nn::VarStore::new(Device::Cpu);
        let matrix = store.root().randn("matrix", &[3, 4], 0.0, 1.0);
        let bias = store.root().randn("bias", &[4], 0.0, 1.0);
        (store, [matrix, bias])
    }

    fn loss([matrix, bias]: &[Tensor; 2]) -> Tensor {
        (matrix.sin() + bias).square().sum(Kind::Float)
    }

    #[test]
    fn equals_libtorchs_adamw() {
        let config = AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() };
        let (ours_store, ours) = store();
        let mut optimizer = AdamW::new(&ours_store, config).unwrap();
        let (mut theirs_store, theirs) = store();
        theirs_store.copy(&ours_store).unwrap(); // other tests draw from the same generator
        let mut reference =
            nn::AdamW { beta1: 0.9, beta2: 0.98, wd: 0.0, eps: 1e-8, amsgrad: false }
                .build(&theirs_store, 0.01)
                .unwrap();
        for _ in 0..20 {
            optimizer.zero_grad();
            loss(&ours).backward();
            optimizer.step(0.01).unwrap();
            reference.backward_step(&loss(&theirs));
        }
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours - theirs).abs().max().double_value(&[]) < 1e-5);
        }
    }

    #[test]
    fn matrices_decay_and_biases_do_not() {
        let (store, [matrix, bias]) = store();
        let [before_matrix, before_bias] = [matrix.copy(), bias.copy()];
        let config = AdamWConfig { weight_decay: 0.5, ..AdamWConfig::default() };
        let mut optimizer = AdamW::new(&store, config).unwrap();
        ((&matrix + &bias).sum(Kind::Float) * 0.0).backward(); // a gradient of zero: only the decay is left
        optimizer.step(0.1).unwrap();
        assert!((&matrix - before_matrix * 0.95).abs().max().double_value(&[]) < 1e-6);
        assert_eq!(bias, before_bias);
    }

    #[test]
    fn of_the_models_parameters_the_matrices_of_its_layers_decay() {
        let store = nn::VarStore::new(Device::Cpu);
        let _model = TransformerConfig::new(69).with_blocks(1).init(&store.root());
        let mut names: Vec<_> = store.variables().into_iter().collect();
        names.retain(|(name, value)| decays(name, value));
        let mut names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        names.sort();
        let layers = ["linear1", "linear2", "self_attn.in_proj", "self_attn.out_proj"];
        assert_eq!(names.len(), layers.len(), "{names:?}");
        for (name, layer) in names.iter().zip(layers) {
            assert!(name.starts_with(&format!("layers.0.{layer}")), "{name}");
        }
    }

    #[test]
    fn an_overflow_halves_the_factor_on_the_loss_and_patience_doubles_it() {
        let mut scale = LossScale::default();
        scale.update(true);
        assert_eq!(scale.factor, 32_768.0);
        (0..1_999).for_each(|_| scale.update(false));
        assert_eq!(scale.factor, 32_768.0);
        scale.update(false);
        assert_eq!(scale.factor, 65_536.0);
    }

    #[test]
    fn gradients_are_clipped_together() {
        let (store, parameters) = store();
        let mut optimizer = AdamW::new(&store, AdamWConfig::default()).unwrap();
        loss(&parameters).backward();
        let before = optimizer.clip_gradients(0.5).unwrap();
        assert!(before > 0.5);
        assert!((optimizer.clip_gradients(f64::INFINITY).unwrap() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_learning_rate_rises_to_its_peak_and_falls_towards_zero() {
        let schedule = Schedule { peak: 2.0, warm_up: 10, total: 110 };
        assert_eq!(schedule.learning_rate(5), 1.0);
        assert_eq!([10, 11].map(|step| schedule.learning_rate(step)), [2.0, 2.0]);
        assert!((schedule.learning_rate(61) - 1.0).abs() < 1e-12);
        let last = schedule.learning_rate(110);
        assert!(last > 0.0 && last < 0.001, "{last}");
        assert!(schedule.learning_rate(111) < 1e-12);
        let cold = Schedule { peak: 2.0, warm_up: 0, total: 1 };
        assert_eq!([0, 1].map(|step| cold.learning_rate(step)), [2.0, 2.0]);
    }
}
