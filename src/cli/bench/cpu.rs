//! Operations on the CPU, by the wall clock.

use super::print;
use crate::backend::cpu::{Cpu, Real, limits};
use crate::bench::operations::cases;
use crate::bench::{Repeats, median, wall_clock};
use crate::engine::Engine;
use crate::error::Error;

pub fn kernels<T: Real>(engine: &Engine, quick: bool) -> Result<(), Error> {
    let model = engine.model();
    let (cpu, config) = (Cpu::<T>::new(model), &model.config);
    let (peak, copy) = (limits::multiply_add_peak::<T>(), limits::copy_bandwidth());
    let out = &mut std::io::stdout().lock();
    print(out, |out| {
        writeln!(
            out,
            "limits of this machine, measured: {:.0} GFLOP/s fused multiply-add in registers, {:.1} GB/s copy\n",
            peak / 1e9,
            copy / 1e9
        )?;
        writeln!(
            out,
            "{:<48} {:>10} {:>9} {:>8} {:>7}",
            "operation", "µs", "GFLOP/s", "GB/s", "share"
        )
    })?;
    let rows: &[usize] = if quick { &[16] } else { &[16, 512, 4096] };
    let repeats = Repeats {
        least: if quick { 3 } else { 5 },
        seconds: if quick { 0.0 } else { 0.2 },
        most: 1000,
    };
    for case in rows.iter().flat_map(|rows| cases(*rows, 16)) {
        let mut run = case.prepare(&cpu);
        let seconds = median(repeats, || {
            engine.go_on()?;
            Ok::<_, Error>(wall_clock(&mut run)?)
        })?;
        let (work, moved) = (case.flops(config), case.bytes(config, |_| size_of::<T>()));
        let (flops, bytes) = (work / seconds, moved / seconds);
        let (flops, share) = if work > 0.0 {
            (format!("{:.1}", flops / 1e9), flops / peak)
        } else {
            ("-".into(), bytes / copy)
        };
        print(out, |out| {
            writeln!(
                out,
                "{:<48} {:>10.1} {:>9} {:>8.1} {:>6.0}%",
                case.name(config),
                seconds * 1e6,
                flops,
                bytes / 1e9,
                share * 100.0
            )
        })?;
    }
    print(out, |out| writeln!(out))
}
