//! Chapter 2: what the programs run on: device, threads, versions, and mixed precision.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Cuda, Device};

use self_attention::error::{Error, Result};

/// Where tensors live and are computed with. Every program takes it as `--device`.
// ANCHOR: device_choice
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum DeviceChoice {
    /// CUDA if there is any, else Apple's MPS, else the CPU.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The first NVIDIA card.
    Cuda,
    /// Apple's Metal Performance Shaders.
    Mps,
}
// ANCHOR_END: device_choice

impl DeviceChoice {
    /// The device that was chosen.
    ///
    /// # Errors
    /// [`Error::Device`] if it was asked for by name and is not there.
    // ANCHOR: device
    pub fn device(self) -> Result<Device> {
        let missing = |device: &str, reason: &str| {
            Err(Error::Device {
                device: device.to_owned(),
                reason: format!("{reason}; or choose `--device cpu`"),
            })
        };
        match self {
            Self::Auto if Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Auto if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Cuda => missing(
                "cuda",
                "this libtorch finds no CUDA; run `cargo xtask setup --cuda`",
            ),
            Self::Mps if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Mps => missing("mps", "MPS is only on Apple's own processors"),
        }
    }
    // ANCHOR_END: device
}

/// Runs `f` in mixed precision on CUDA: matrix products in 16 bits, what needs the range in 32 (Micikevicius et al.,
/// 2018). On other devices it runs as it is.
pub fn mixed_precision<T>(device: Device, f: impl FnOnce() -> T) -> T {
    if device.is_cuda() {
        tch::autocast(true, f)
    } else {
        f()
    }
}

/// What a program runs on, for a report or beside a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The version of this crate.
    pub crate_version: String,
    /// The version of libtorch it is linked with.
    pub libtorch: String,
    /// How many threads an operation may use.
    pub threads: i32,
    /// How many NVIDIA cards libtorch can use.
    pub cuda_devices: i64,
    /// Whether Apple's MPS is there.
    pub mps: bool,
}

impl Environment {
    /// Looks at the machine.
    pub fn detect() -> Self {
        Self {
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: env!("LIBTORCH_VERSION").to_owned(),
            threads: tch::get_num_threads(),
            cuda_devices: Cuda::device_count(),
            mps: tch::utils::has_mps(),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "self-attention {}", self.crate_version)?;
        writeln!(f, "libtorch       {}", self.libtorch)?;
        writeln!(f, "threads        {}", self.threads)?;
        writeln!(f, "CUDA devices   {}", self.cuda_devices)?;
        write!(f, "MPS            {}", if self.mps { "yes" } else { "no" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_and_cpu_always_have_a_device() {
        assert!(DeviceChoice::Auto.device().is_ok());
        assert_eq!(DeviceChoice::Cpu.device().unwrap(), Device::Cpu);
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_with_the_cure() {
        if !Cuda::is_available() {
            let error = DeviceChoice::Cuda.device().unwrap_err().to_string();
            assert!(
                error.contains("cargo xtask setup --cuda")
                    && error.contains("--device cpu"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_report_names_the_libtorch_that_is_linked() {
        let environment = Environment::detect();
        assert!(environment.threads >= 1);
        let report = environment.to_string();
        assert!(report.contains("libtorch       2.13.0"), "{report}"); // the one that tch 0.26 builds against
    }

    #[test]
    fn without_a_card_mixed_precision_changes_nothing() {
        let kind = mixed_precision(Device::Cpu, || {
            let x = tch::Tensor::ones([2, 2], (tch::Kind::Float, Device::Cpu));
            x.matmul(&x).kind()
        });
        assert_eq!(kind, tch::Kind::Float);
    }
}
