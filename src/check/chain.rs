//! Whether a run can be read by another, or collected from.

use super::CheckError;
use crate::model::Config;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::site::{Stage, kept, layer_of};

/// Checks that a patch can read a run, and says which prompt that run is of.
pub(super) fn check(
    patch: &Patch,
    read: usize,
    runs: &[Run],
    config: &Config,
) -> Result<Prompt, CheckError> {
    let wrong = |problem: String| CheckError::Chain {
        op: patch.op.label(),
        site: patch.component.name(),
        run: read,
        problem,
    };
    let Some(run) = runs.get(read) else {
        return Err(wrong(format!("but the pair has only {} runs", runs.len())));
    };
    if in_a_ring(read, runs) {
        return Err(wrong(
            "which in the end reads itself: let it read a prompt or an earlier run".into(),
        ));
    }
    let read_site = Patch {
        component: patch.read_component(),
        layer: patch.source_layer.or(patch.layer),
        ..patch.clone()
    };
    readable(&read_site, &run.patches, config, "reads")?;
    Ok(run.prompt)
}

/// Whether a run, followed through the runs that it reads, comes back to one on the way.
fn in_a_ring(start: usize, runs: &[Run]) -> bool {
    // the runs on the way from `start`, and those from which every way is known to end
    fn visit(run: usize, runs: &[Run], way: &mut Vec<usize>, done: &mut Vec<usize>) -> bool {
        if way.contains(&run) {
            return true;
        }
        if done.contains(&run) {
            return false;
        }
        way.push(run);
        let patches = runs.get(run).map_or(&[][..], |r| &r.patches);
        let read = patches.iter().filter(|p| p.op.reads_source());
        let read = read.filter_map(|patch| match patch.origin {
            Origin::Run(next) => Some(next),
            Origin::Clean(_) => None,
        });
        let ring = read.into_iter().any(|next| visit(next, runs, way, done));
        way.pop();
        done.push(run);
        ring
    }
    visit(start, runs, &mut Vec::new(), &mut Vec::new())
}

/// What stands where nobody but one reader looks (a head's own input, the MLP's) is kept as the
/// residual stream itself, and a block's output as the next one's input: neither can be read where
/// the run patches it.
pub(super) fn readable(
    read: &Patch,
    patches: &[Patch],
    config: &Config,
    does: &str,
) -> Result<(), CheckError> {
    let place = |patch: &Patch| {
        (
            layer_of(patch.component, patch.layer, config),
            patch.component.stage(),
        )
    };
    let (layer, stage) = place(read);
    let (kept_stage, kept_layer) = kept(stage, layer);
    if (kept_stage, kept_layer) == (stage, layer) {
        return Ok(());
    }
    let between = match stage {
        Stage::BlockOutput => (kept_layer, kept_stage),
        own => (layer, own),
    };
    let writes = |patch: &&Patch| {
        let (layer, _) = place(patch);
        let mut stages = patch.component.written();
        stages.any(|stage| (layer, stage) == between) && patch.op != Op::Collect
    };
    match patches.iter().find(writes) {
        Some(patch) => Err(CheckError::Shape {
            site: read.component.name(),
            problem: format!(
                "is what a run {does} that patches {} there, so the two cannot be told apart: read \
                 {}, or leave that patch out",
                patch.component, patch.component
            ),
        }),
        None => Ok(()),
    }
}
