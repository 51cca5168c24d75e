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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceWish {
    /// The GPU when everything that it needs is there.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// GPUs of one kind, among which patched runs are shared out; all else is done by the first.
    Cuda(Vec<usize>),
    /// Every GPU of the machine.
    AllGpus,
}

impl DeviceWish {
    /// Whether nothing but GPUs will do.
    fn is_gpu(&self) -> bool {
        matches!(self, Self::Cuda(_) | Self::AllGpus)
    }
}

impl FromStr for DeviceWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(vec![0])),
            "all" | "cuda:all" => Ok(Self::AllGpus),
            _ => {
                let listed = text.strip_prefix("cuda:").unwrap_or("").split(',');
                let indices: Result<Vec<usize>, _> = listed.map(str::parse).collect();
                let indices = indices.map_err(|_| {
                    format!("unknown device `{text}`: use auto, cpu, cuda, cuda:N, cuda:N,M or all")
                })?;
                let twice = |i: &usize| indices.iter().filter(|j| *j == i).count() > 1;
                match indices.iter().find(|i| twice(i)) {
                    Some(index) => Err(format!("`{text}` names cuda:{index} twice")),
                    None => Ok(Self::Cuda(indices)),
                }
            }
        }
    }
}

/// The device that runs.
pub enum Choice {
    /// The CPU, with the reason.
    Cpu(String),
    /// GPUs of one kind, at least one, with the reason.
    #[cfg(feature = "cuda")]
    Cuda(Vec<Arc<Device>>, &'static str),
}

impl Choice {
    /// Chooses for a model.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`]: a GPU was asked for, or a precision that only GPUs have, and something that
    /// it needs is missing; or `HEADLIGHT_CPU` names no instructions that this machine has.
    pub fn of(wish: &DeviceWish, precision: Precision, config: &Config) -> Result<Self, Error> {
        Instructions::chosen().map_err(|why| Error::Usage(why.to_string()))?;
        let name = precision.name();
        if *wish == DeviceWish::Cpu && !precision.on_cpu() {
            return Err(Error::Usage(format!(
                "precision {name} runs on a GPU only: use --precision f32 or f64 with --device cpu"
            )));
        }
        if wish.is_gpu() && precision == Precision::F64 {
            return Err(Error::Usage(
                "precision f64 runs on the CPU only: use --device cpu, or another precision".into(),
            ));
        }
        match wish {
            DeviceWish::Cpu => Ok(Self::Cpu("as asked".into())),
            DeviceWish::Auto if precision == Precision::F64 => {
                Ok(Self::Cpu("no GPU: f64 runs on the CPU only".into()))
            }
            DeviceWish::Auto => match Self::gpus(&[0], config, precision, "there is one") {
                Ok(gpu) => Ok(gpu),
                Err(why) if precision.on_cpu() => Ok(Self::Cpu(format!("no GPU: {why}"))),
                Err(why) => Err(Error::Usage(format!(
                    "precision {name} runs on a GPU only, and {why}"
                ))),
            },
            DeviceWish::Cuda(indices) => {
                Self::gpus(indices, config, precision, "as asked").map_err(unavailable)
            }
            DeviceWish::AllGpus => {
                let indices = Self::every_gpu().map_err(unavailable)?;
                Self::gpus(&indices, config, precision, "all there are").map_err(unavailable)
            }
        }
    }

    /// GPUs, for this reason; or why not, for people.
    #[cfg(feature = "cuda")]
    fn gpus(
        indices: &[usize],
        config: &Config,
        precision: Precision,
        reason: &'static str,
    ) -> Result<Self, String> {
        let open = |index: &usize| open(*index, config, precision).map_err(|why| why.to_string());
        let devices: Vec<Arc<Device>> = indices.iter().map(open).collect::<Result<_, _>>()?;
        // another kind takes other products, whose sums have another order
        let kind = |device: &Device| (device.name.clone(), device.capability);
        for device in &devices[1..] {
            let first = &devices[0];
            if kind(device) != kind(first) {
                return Err(format!(
                    "cuda:{} is {} and cuda:{} is {}, and one table is computed by one kind",
                    first.index, first.name, device.index, device.name
                ));
            }
        }
        Ok(Self::Cuda(devices, reason))
    }

    #[cfg(not(feature = "cuda"))]
    fn gpus(_: &[usize], _: &Config, _: Precision, _: &'static str) -> Result<Self, &'static str> {
        Err(NO_CUDA)
    }

    /// Every GPU's index, at least one.
    #[cfg(feature = "cuda")]
    fn every_gpu() -> Result<Vec<usize>, String> {
        match Device::count() {
            Ok(0) => Err(Unavailable::NoDevice.to_string()),
            Ok(count) => Ok((0..count).collect()),
            Err(why) => Err(why.to_string()),
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn every_gpu() -> Result<Vec<usize>, &'static str> {
        Err(NO_CUDA)
    }

    /// The kind of device, whichever of several it is: `cpu` or the GPU's name.
    pub fn kind(&self) -> String {
        match self {
            Self::Cpu(_) => "cpu".into(),
            #[cfg(feature = "cuda")]
            Self::Cuda(devices, _) => devices[0].name.clone(),
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
            Self::Cuda(devices, _) => format!("cuda:{} {}", indices(devices), devices[0].name),
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
            Self::Cuda(devices, why) => {
                let index = indices(devices);
                let Device {
                    name,
                    capability,
                    from_ptx,
                    ..
                } = &*devices[0];
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
            Self::Cuda(devices, _) => Ok(devices[0].clone()),
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

fn unavailable(why: impl Display) -> Error {
    Error::Usage(format!(
        "--device cuda is not available: {why}; use --device cpu"
    ))
}

/// Numbers of devices, as `--device` lists them.
#[cfg(feature = "cuda")]
fn indices(devices: &[Arc<Device>]) -> String {
    let each = devices.iter().map(|device| device.index.to_string());
    each.collect::<Vec<_>>().join(",")
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
