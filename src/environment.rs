//! Chapter 2: what the programs run on: device, threads, versions, and mixed precision.

use std::path::Path;
use std::{env, fmt, fs};

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
        match self {
            Self::Auto if Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Auto if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Auto | Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Mps if tch::utils::has_mps() => Ok(Device::Mps),
            Self::Cuda | Self::Mps => Err(Error::Device {
                device: self.to_string(),
                reason: self.missing().unwrap_or("it has gone").to_owned(),
            }),
        }
    }
    // ANCHOR_END: device

    /// What is missing for this device, and how to get it.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Auto | Self::Cpu => None,
            Self::Cuda if Cuda::is_available() => None,
            Self::Cuda if tch::utils::has_cudart() => {
                Some("CUDA is linked but finds no card; see what `nvidia-smi` says")
            }
            // The driver says so itself.
            Self::Cuda if Path::new("/proc/driver/nvidia/version").exists() => {
                Some("a card is here, but this libtorch has no CUDA; run `cargo xtask setup --cuda`")
            }
            Self::Cuda => Some("no driver of an NVIDIA card is loaded"),
            Self::Mps if tch::utils::has_mps() => None,
            Self::Mps => Some("MPS is only on Apple's own processors"),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Mps => "mps",
        })
    }
}

/// Runs `f` in mixed precision on CUDA: matrix products in 16 bits, what needs the range in 32 (Micikevicius et al.,
/// 2018). On other devices it runs as it is.
// ANCHOR: mixed_precision
pub fn mixed_precision<T>(device: Device, f: impl FnOnce() -> T) -> T {
    if device.is_cuda() {
        tch::autocast(true, f)
    } else {
        f()
    }
}
// ANCHOR_END: mixed_precision

/// What a program runs on: for a report, and beside every measurement.
// ANCHOR: environment
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The version of this crate.
    pub crate_version: String,
    /// The version of tch.
    pub tch: String,
    /// The version of libtorch it is linked with.
    pub libtorch: String,
    /// Operating system and architecture.
    pub system: String,
    /// What the system calls its processor.
    pub processor: String,
    /// How many threads an operation may use.
    pub threads: i32,
    /// Every kind of device, whether it is there or not.
    pub devices: Vec<DeviceReport>,
}

/// Whether tensors can live on a device, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// The name it has on the command line.
    pub device: DeviceChoice,
    /// How many of them there are.
    pub count: i64,
    /// What is missing and how to get it, if there is none.
    pub missing: Option<String>,
}
// ANCHOR_END: environment

impl Environment {
    /// Looks at the machine.
    pub fn detect() -> Self {
        Self {
            crate_version: env!("CARGO_PKG_VERSION").to_owned(),
            tch: env!("TCH_VERSION").to_owned(),
            libtorch: env!("LIBTORCH_VERSION").to_owned(),
            system: format!("{} {}", env::consts::OS, env::consts::ARCH),
            processor: processor(),
            threads: tch::get_num_threads(),
            devices: vec![
                DeviceReport { device: DeviceChoice::Cpu, count: 1, missing: None },
                DeviceReport {
                    device: DeviceChoice::Cuda,
                    count: Cuda::device_count(),
                    missing: DeviceChoice::Cuda.missing().map(str::to_owned),
                },
                DeviceReport {
                    device: DeviceChoice::Mps,
                    count: i64::from(tch::utils::has_mps()),
                    missing: DeviceChoice::Mps.missing().map(str::to_owned),
                },
            ],
        }
    }
}

/// What Linux calls the processor. Other systems are not asked.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']));
    name.unwrap_or("unknown").to_owned()
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crate_version, tch, libtorch, system, processor, threads, devices } =
            self;
        writeln!(f, "self-attention  {crate_version}")?;
        writeln!(f, "tch             {tch}")?;
        writeln!(f, "libtorch        {libtorch}")?;
        writeln!(f, "system          {system}")?;
        writeln!(f, "processor       {processor}")?;
        write!(f, "threads         {threads}")?;
        for DeviceReport { device, count, missing } in devices {
            write!(f, "\n{device:<16}{count}")?;
            if let Some(missing) = missing {
                write!(f, ": {missing}")?;
            }
        }
        Ok(())
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
    fn a_device_that_is_not_there_is_refused_with_the_reason() {
        for choice in [DeviceChoice::Cuda, DeviceChoice::Mps] {
            match choice.missing() {
                None => assert!(choice.device().is_ok()),
                Some(reason) => assert_eq!(
                    choice.device().unwrap_err().to_string(),
                    format!("device `{choice}` is not available: {reason}; `--device cpu` always is")
                ),
            }
        }
    }

    #[test]
    fn the_report_names_what_is_linked_and_every_device_and_comes_back_from_json() {
        let environment = Environment::detect();
        assert!(environment.threads >= 1);
        let report = environment.to_string();
        // The pair that belongs together.
        assert!(
            report.contains("tch             0.26.0\nlibtorch        2.13.0\n"),
            "{report}"
        );
        for device in ["\ncpu             1\ncuda  ", "\nmps  "] {
            assert!(report.contains(device), "{report}");
        }
        let json = serde_json::to_string(&environment).unwrap();
        assert_eq!(serde_json::from_str::<Environment>(&json).unwrap(), environment);
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
