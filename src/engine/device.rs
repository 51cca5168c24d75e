//! Which device runs, and why not the other.

use std::fmt::Display;
use std::str::FromStr;
#[cfg(feature = "cuda")]
use std::sync::Arc;

use crate::backend::Precision;
use crate::backend::cpu::Instructions;
#[cfg(feature = "cuda")]
use crate::backend::cuda::{Cuda, Device, Unavailable};
use crate::error::Error;
use crate::model::Config;
use crate::text::counted;

/// Where to compute, as `--device` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceWish {
    /// The GPU when everything that it needs is there.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// One GPU.
    Cuda(usize),
}

impl FromStr for DeviceWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.strip_prefix("cuda:").map(str::parse::<usize>);
        match (text, index) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(index))) => Ok(Self::Cuda(index)),
            _ => Err(format!(
                "unknown device `{text}`: use auto, cpu, cuda or cuda:N"
            )),
        }
    }
}

/// The device that runs.
pub enum Choice {
    /// The CPU, with the reason.
    Cpu(String),
    /// A GPU, with the reason.
    #[cfg(feature = "cuda")]
    Cuda(Arc<Device>, &'static str),
}

impl Choice {
    /// Chooses for a model.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`]: a GPU was asked for, or a precision that only GPUs have, and something that
    /// it needs is missing; or `HEADLIGHT_CPU` names no instructions that this machine has.
    pub fn of(wish: DeviceWish, precision: Precision, config: &Config) -> Result<Self, Error> {
        Instructions::chosen().map_err(|why| Error::Usage(why.to_string()))?;
        let name = precision.name();
        if wish == DeviceWish::Cpu && !precision.on_cpu() {
            return Err(Error::Usage(format!(
                "precision {name} runs on a GPU only: use --precision f32 or f64 with --device cpu"
            )));
        }
        if matches!(wish, DeviceWish::Cuda(_)) && precision == Precision::F64 {
            return Err(Error::Usage(
                "precision f64 runs on the CPU only: use --device cpu, or another precision".into(),
            ));
        }
        match wish {
            DeviceWish::Cpu => Ok(Self::Cpu("as asked".into())),
            DeviceWish::Auto if precision == Precision::F64 => {
                Ok(Self::Cpu("no GPU: f64 runs on the CPU only".into()))
            }
            DeviceWish::Auto => match Self::gpu(0, config, precision, "there is one") {
                Ok(gpu) => Ok(gpu),
                Err(why) if precision.on_cpu() => Ok(Self::Cpu(format!("no GPU: {why}"))),
                Err(why) => Err(Error::Usage(format!(
                    "precision {name} runs on a GPU only, and {why}"
                ))),
            },
            DeviceWish::Cuda(index) => {
                Self::gpu(index, config, precision, "as asked").map_err(|why| {
                    Error::Usage(format!(
                        "--device cuda is not available: {why}; use --device cpu"
                    ))
                })
            }
        }
    }

    /// A GPU, for this reason; or why not, for people.
    #[cfg(feature = "cuda")]
    fn gpu(
        index: usize,
        config: &Config,
        precision: Precision,
        reason: &'static str,
    ) -> Result<Self, impl Display> {
        open(index, config, precision).map(|device| Self::Cuda(device, reason))
    }

    #[cfg(not(feature = "cuda"))]
    fn gpu(_: usize, _: &Config, _: Precision, _: &'static str) -> Result<Self, impl Display> {
        Err(NO_CUDA)
    }

    /// The kind of device, whichever of several it is: `cpu` or the GPU's name.
    pub fn kind(&self) -> String {
        match self {
            Self::Cpu(_) => "cpu".into(),
            #[cfg(feature = "cuda")]
            Self::Cuda(device, _) => device.name.clone(),
        }
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        !matches!(self, Self::Cpu(_))
    }

    /// What `device` says in provenance: `cpu`, or the GPU's name.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(_) => "cpu".into(),
            #[cfg(feature = "cuda")]
            Self::Cuda(device, _) => format!("cuda:{} {}", device.index, device.name),
        }
    }

    /// One line for people.
    pub fn describe(&self, threads: usize) -> String {
        match self {
            Self::Cpu(why) => {
                let instructions = Instructions::used().name();
                format!(
                    "cpu, {}, {instructions} ({why})",
                    counted(threads, "thread")
                )
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(device, why) => {
                let Device {
                    index,
                    name,
                    capability,
                    from_ptx,
                    ..
                } = &**device;
                let (major, minor) = (capability / 10, capability % 10);
                // the driver keeps what it compiled for the next start
                let compiled = match from_ptx {
                    true => ", kernels compiled by the driver: the first start is slow",
                    false => "",
                };
                format!(
                    "cuda:{index}, {name}, compute capability {major}.{minor}{compiled} ({why})"
                )
            }
        }
    }

    /// The chosen GPU, or else the first, with its memory; or why there is none.
    #[cfg(feature = "cuda")]
    pub fn describe_gpu(&self) -> String {
        let device = match self {
            Self::Cuda(device, _) => Ok(device.clone()),
            Self::Cpu(_) => Device::open(0),
        };
        match device {
            Ok(device) => {
                let (free, total) = device.memory().unwrap_or_default();
                format!(
                    "{}, compute capability {}.{}, {} multiprocessors, {:.1} of {:.1} GB free",
                    device.name,
                    device.capability / 10,
                    device.capability % 10,
                    device.processors,
                    free as f64 / 1e9,
                    total as f64 / 1e9
                )
            }
            Err(why) => format!("none: {why}"),
        }
    }

    /// Why no GPU is looked for.
    #[cfg(not(feature = "cuda"))]
    pub fn describe_gpu(&self) -> String {
        format!("none: {NO_CUDA}")
    }
}

#[cfg(not(feature = "cuda"))]
const NO_CUDA: &str = "this build has no CUDA: build without --no-default-features";

/// Opens a device that has room for a model.
#[cfg(feature = "cuda")]
fn open(index: usize, config: &Config, precision: Precision) -> Result<Arc<Device>, Unavailable> {
    let device = Device::open(index)?;
    let needed = Cuda::weight_bytes(config, precision);
    let memory = device.memory();
    let (free, _) = memory.map_err(|error| Unavailable::Driver(error.to_string()))?;
    if free < needed {
        return Err(Unavailable::TooLittleMemory {
            name: device.name.clone(),
            free,
            needed,
        });
    }
    Ok(device)
}
