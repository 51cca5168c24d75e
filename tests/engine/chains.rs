//! Runs that read other runs, and what is collected, as laws over random models, pairs and patches.
//!
//! Each law holds bit for bit and against another way of saying the same: a run that reads itself
//! changes nothing; reading a run is setting what is collected from it; collecting a patched run's
//! value and freezing it there changes nothing.

mod collecting;
mod memory;
mod readers;

use crate::common;
use crate::common::runs::{PatchSpec, interchange, run_of};
use headlight::check::check_run;
use headlight::model::Config;
use headlight::patch::{Origin, Patch, Run};
use headlight::prompt::pair::Pair;
use headlight::site::Component;
use proptest::prelude::*;

/// Component, layer, head and position, each folded into range.
type Site = (usize, usize, usize, usize);

/// A site that is read: one head of one position, so that a constant can stand for it.
fn place() -> impl Strategy<Value = Site> {
    (
        0..Component::all().count(),
        0usize..4,
        any::<usize>(),
        any::<usize>(),
    )
}

fn at((component, layer, head, position): Site, pair: &Pair, config: &Config) -> Patch {
    let component = Component::all().nth(component).unwrap();
    let heads = [head % config.heads];
    let position = position % pair.base.len();
    interchange(component, layer % config.layers, &heads, [position])
}

fn patches(specs: &[PatchSpec], pair: &Pair, config: &Config) -> Vec<Patch> {
    specs.iter().map(|p| p.resolve(pair, config)).collect()
}

fn step(patches: Vec<Patch>) -> Run {
    Run {
        step: true,
        ..run_of(patches)
    }
}

fn reading(patch: &Patch, read: usize) -> Patch {
    Patch {
        origin: Origin::Run(read),
        ..patch.clone()
    }
}

/// Whether the run can be checked: some sites cannot be read of a run that patches what stands
/// between them and where they are kept.
fn sound(pair: &Pair, runs: &[Run], config: &Config) -> bool {
    runs.iter()
        .all(|run| check_run(run, runs, pair, config).is_ok())
}
