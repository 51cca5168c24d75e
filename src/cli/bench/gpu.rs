//! Operations on a GPU, by its own clock, each beside the limit that holds it back.

use std::sync::Arc;

use super::print;
use crate::backend::DeviceError;
use crate::backend::cuda::events::Timer;
use crate::backend::cuda::limits::{Effort, Limit};
use crate::backend::cuda::{Cuda, ProductShape, Variant};
use crate::bench::operations::{Case, Workload, cases};
use crate::bench::{Repeats, median};
use crate::engine::Engine;
use crate::error::Error;

/// Rows of attention's prompts together.
const ATTENTION_ROWS: usize = 32_768;
/// Prompts up to so many tokens read and write more than they calculate.
const SHORT: usize = 128;

/// What the device can do in a second, measured.
struct Limits(Vec<(Limit, f64)>);

impl Limits {
    fn measure(cuda: &Cuda, quick: bool) -> Result<Self, DeviceError> {
        let device = cuda.device();
        let effort = Effort {
            seconds: if quick { 0.001 } else { 0.005 },
            launches: if quick { 3 } else { 10 },
        };
        let measure = |limit: Limit| Ok((limit, limit.measure(device, effort)?.rate));
        let all: Result<_, DeviceError> = Limit::ALL.into_iter().map(measure).collect();
        all.map(Self)
    }

    fn of(&self, wanted: Limit) -> f64 {
        let of = |(limit, rate): &(Limit, f64)| (*limit == wanted).then_some(*rate);
        self.0.iter().find_map(of).unwrap_or(f64::NAN)
    }

    /// Operations a second that an arithmetic can reach, and what that is called.
    fn arithmetic(&self, variant: Variant) -> (f64, &'static str) {
        match variant {
            Variant::Ffma => (self.of(Limit::Ffma), "ffma"),
            // three products for one
            Variant::Split => (self.of(Limit::Tf32) / 3.0, "mma tf32 / 3"),
            Variant::Tf32 => (self.of(Limit::Tf32), "mma tf32"),
            Variant::Bf16 => (self.of(Limit::Bf16), "mma bf16"),
            Variant::F16 => (self.of(Limit::F16), "mma f16"),
        }
    }

    /// The least seconds that a case can take, and the limit that makes it so: copying what must be
    /// copied, or calculating what must be calculated, whichever takes longer.
    fn least(&self, cuda: &Cuda, case: &Case, flops: f64, bytes: f64) -> (f64, &'static str) {
        let copy = (bytes / self.of(Limit::Copy), "copy");
        let variant = match (case.operation, case.product(config(cuda))) {
            (_, Some((inputs, _))) => cuda.variant(inputs),
            (Workload::Attention { length }, _) if length > SHORT => Variant::Ffma,
            _ => return copy,
        };
        let (rate, name) = self.arithmetic(variant);
        if flops / rate > copy.0 {
            (flops / rate, name)
        } else {
            copy
        }
    }
}

fn config(cuda: &Cuda) -> &crate::model::Config {
    crate::backend::Backend::config(cuda)
}

/// What is timed: every operation over more and more rows, then attention over prompts of more and
/// more tokens.
fn list(cuda: &Cuda, quick: bool) -> Vec<Case> {
    let (all_rows, lengths, attention_rows): (&[_], &[_], _) = if quick {
        (&[16], &[15], 16)
    } else {
        (&[16, 512, 4096, 32_768], &[15, 64, 512], ATTENTION_ROWS)
    };
    let is_attention = |case: &Case| matches!(case.operation, Workload::Attention { .. });
    let rows = all_rows.iter().flat_map(|rows| cases(*rows, 1));
    let mut list: Vec<Case> = rows.filter(|case| !is_attention(case)).collect();
    let context = config(cuda).context;
    list.extend(
        lengths
            .iter()
            .filter(|n| **n <= context)
            .map(|length| Case {
                operation: Workload::Attention { length: *length },
                rows: attention_rows,
            }),
    );
    list
}

pub fn kernels(cuda: &Cuda, engine: &Engine, quick: bool) -> Result<(), Error> {
    let out = &mut std::io::stdout().lock();
    let limits = Limits::measure(cuda, quick)?;
    let tera = |limit| limits.of(limit) / 1e12;
    print(out, |out| {
        writeln!(
            out,
            "limits of {}, measured: copy {:.0} GB/s; ffma {:.1}, mma tf32 {:.1}, mma bf16 {:.1}, mma f16 {:.1} TFLOP/s",
            cuda.device().name,
            limits.of(Limit::Copy) / 1e9,
            tera(Limit::Ffma),
            tera(Limit::Tf32),
            tera(Limit::Bf16),
            tera(Limit::F16),
        )?;
        let caches = if quick { "as it is" } else { "flushed" };
        writeln!(
            out,
            "precision {}; medians of device time, L2 cache {caches}\n",
            engine.precision().name()
        )?;
        writeln!(
            out,
            "{:<46} {:>10} {:>8} {:>8}  {:<12} {:>6}  kernel",
            "operation", "µs", "TFLOP/s", "GB/s", "limit", "share"
        )
    })?;
    let timer = Arc::new(Timer::new(cuda.device(), !quick)?);
    for case in list(cuda, quick) {
        engine.go_on()?;
        let line = match time(cuda, &timer, &case, quick) {
            Ok(seconds) => line(cuda, &limits, &case, seconds),
            Err(DeviceError::OutOfMemory { .. }) => {
                format!("{:<46} no room on the device", case.name(config(cuda)))
            }
            Err(error) => return Err(error.into()),
        };
        print(out, |out| writeln!(out, "{line}"))?;
    }
    print(out, |out| writeln!(out))
}

fn time(cuda: &Cuda, timer: &Arc<Timer>, case: &Case, quick: bool) -> Result<f64, DeviceError> {
    let repeats = Repeats {
        least: if quick { 3 } else { 20 },
        seconds: if quick { 0.0 } else { 0.2 },
        most: 1000,
    };
    let mut run = case.prepare(cuda);
    median(repeats, || cuda.time(timer, &mut run))
}

fn line(cuda: &Cuda, limits: &Limits, case: &Case, seconds: f64) -> String {
    let config = config(cuda);
    let (flops, bytes) = (
        case.flops(config),
        case.bytes(config, |store| cuda.bytes_of(store)),
    );
    let (least, limit) = limits.least(cuda, case, flops, bytes);
    let rate = if flops > 0.0 {
        format!("{:.1}", flops / seconds / 1e12)
    } else {
        "-".into()
    };
    let kernel = case.product(config).map(|(inputs, columns)| {
        let shape = ProductShape {
            rows: case.rows,
            inputs,
            columns,
        };
        let variant = cuda.variant(inputs);
        let tile = match case.operation {
            Workload::Readout => cuda.readout_tile(case.rows),
            _ => cuda.tile(variant, &[shape]),
        };
        format!("{} {}", variant.name(), tile.name())
    });
    format!(
        "{:<46} {:>10.1} {rate:>8} {:>8.1}  {limit:<12} {:>5.0}%  {}",
        case.name(config),
        seconds * 1e6,
        bytes / seconds / 1e9,
        least / seconds * 100.0,
        kernel.unwrap_or_default(),
    )
    .trim_end()
    .to_owned()
}
