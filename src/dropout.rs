//! Dropout: during training, forget some of the numbers.
//!
//! With probability `rate` a number becomes 0, and the others are divided by `1 − rate`, so that the expected value
//! stays the same (Srivastava et al., "Dropout", 2014). During evaluation nothing is forgotten.
//!
//! PyTorch's modules carry a training flag. Here a forward pass is given the [`Dropout`] it shall use: a seeded one
//! trains, [`Dropout::off`] evaluates. So a pass cannot be in the wrong mode by accident, and a run that is resumed
//! forgets the same numbers again.

use std::cell::RefCell;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tch::{Device, Tensor};

use self_attention::error::{Error, Result};

/// A source of dropout for one forward pass.
#[derive(Debug)]
pub struct Dropout {
    rate: f64,
    generator: RefCell<SmallRng>,
}

impl Dropout {
    /// Forgets a share `rate` of the numbers, chosen from `seed`.
    ///
    /// # Errors
    /// [`Error::Config`] unless `0 ≤ rate < 1`.
    pub fn new(rate: f64, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::config(
                "dropout",
                rate,
                "a rate is at least 0 and below 1",
            ));
        }
        Ok(Self { rate, generator: RefCell::new(SmallRng::seed_from_u64(seed)) })
    }

    /// Forgets nothing: for evaluation.
    pub fn off() -> Self {
        Self { rate: 0.0, generator: RefCell::new(SmallRng::seed_from_u64(0)) }
    }

    /// `x` with a share of its numbers set to 0 and the rest scaled up by `1 / (1 − rate)`.
    ///
    /// # Shapes
    /// Any; the result has the shape of `x`.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch cannot make the tensor.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        if self.rate == 0.0 {
            return Ok(x.shallow_clone());
        }
        match x.device() {
            Device::Cpu => Ok(x.f_mul(&self.kept(x)?)?),
            // On an accelerator the numbers are drawn where they are needed.
            _ => Ok(x.f_dropout(self.rate, true)?),
        }
    }

    /// 0 where a number is forgotten and `1 / (1 − rate)` where it is kept, shaped like `x`.
    ///
    /// libtorch draws one double at a time for this on a CPU. Sixteen random bits a number are enough, and four times
    /// as many of them come out of one step of the generator.
    fn kept(&self, x: &Tensor) -> Result<Tensor> {
        let mut bits = vec![0u16; x.numel()];
        self.generator.borrow_mut().fill(&mut bits[..]);
        let forgotten = (self.rate * 65_536.0).round() as u32; // of the 65 536 values of a u16
        let scale = 65_536.0 / (65_536 - forgotten) as f32;
        let kept: Vec<f32> = bits
            .iter()
            .map(|&bits| if u32::from(bits) < forgotten { 0.0 } else { scale })
            .collect();
        Ok(Tensor::f_from_slice(&kept)?.f_view(&x.size()[..])?.f_to_kind(x.kind())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    fn ones() -> Tensor {
        Tensor::ones([100, 1000], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn off_is_the_identity() {
        assert_eq!(Dropout::off().apply(&ones()).unwrap(), ones());
    }

    #[test]
    fn forgets_the_share_it_says_and_keeps_the_mean() {
        let dropped = Dropout::new(0.1, 7).unwrap().apply(&ones()).unwrap();
        let share =
            dropped.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!((share - 0.1).abs() < 0.005, "{share}"); // five standard deviations of 100 000 draws
        assert!((dropped.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.006);
    }

    #[test]
    fn a_seed_forgets_the_same_numbers_again_and_goes_on_to_others() {
        let [first, second] = [0, 0].map(|seed| Dropout::new(0.5, seed).unwrap());
        let once = first.apply(&ones()).unwrap();
        assert_eq!(once, second.apply(&ones()).unwrap());
        assert_ne!(once, first.apply(&ones()).unwrap());
    }

    #[test]
    fn a_rate_outside_its_range_is_refused() {
        for rate in [-0.1, 1.0, f64::NAN] {
            assert!(Dropout::new(rate, 0).is_err(), "{rate}");
        }
    }
}
