//! Each pair's prompts beside each other.

use crate::backend::{Backend, ReadoutSpec};
use crate::execute::ExecuteError;
use crate::execute::layout::PromptPlaces;
use crate::execute::passes::Passes;
use crate::forward::ActivationCache;
use crate::patch::Prompt;
use crate::plan::chunk::Builder;
use crate::plan::edit::Means;
use crate::plan::edit::edits;
use crate::plan::patched_cache::PatchedCache;
use crate::plan::tables::Ref;
use crate::prompt::pair::PairRuns;
use crate::site::Stage;

/// KL(base‖source) of every pair, 0 without a source. Both stand in the cache, so this is a chunk of
/// no runs that is only read out.
pub fn compare<B: Backend>(
    passes: &mut Passes<'_, B>,
    cache: &mut ActivationCache<B::Matrix>,
    pairs: &[PairRuns],
    places: &[PromptPlaces],
) -> Result<Vec<f64>, ExecuteError> {
    let backend = passes.backend;
    let config = backend.config();
    let mut kls = vec![0.0; pairs.len()];
    let last_stream = (Stage::BlockInput, config.layers);
    // without runs nothing is kept, and nothing is asked
    if !cache.layout.slots.contains_key(&last_stream) {
        return Ok(kls);
    }
    let (none, empty) = (Means::new(), PatchedCache::default());
    let mut chunk = Builder::new(config, &cache.layout, &none, &empty).build(&[]);
    let mut of = Vec::new();
    for (p, (PairRuns { pair, runs }, place)) in pairs.iter().zip(places).enumerate() {
        // what follows a prompt is not compared
        if pair.continuation.aside {
            continue;
        }
        // by itself such a pair keeps nothing, and what stands beside it must not matter
        if runs
            .iter()
            .all(|run| edits(&run.patches, pair.prompt_ids(run.prompt), config).is_empty())
        {
            continue;
        }
        let (Some(source), Some(at)) = (place.source(), pair.source_position()) else {
            continue;
        };
        let prompt = pair.prompt_ids(Prompt::Base).len();
        let mut read = pair.readout_positions();
        read.retain(|at| *at < prompt);
        let Some(base_last) = read.last().copied() else {
            continue;
        };
        let offset = |prompt: usize| cache.layout.prompts[prompt].offset;
        chunk.read(Ref::cached(offset(source) + at));
        of.push((p, Ref::cached(offset(place.base()) + base_last)));
    }
    of.iter().for_each(|(_, base)| chunk.compare(*base));
    let rows = of.len();
    if rows == 0 {
        return Ok(kls);
    }
    let spec = ReadoutSpec {
        first: vec![0; rows + 1],
        base: (rows..2 * rows).map(|row| row as u32).collect(),
        ..ReadoutSpec::default()
    };
    let readouts = passes.forward(&chunk, cache, &spec)?;
    let readouts = passes.finish(readouts)?;
    passes.plan.compared += 2 * (2 * rows * config.vocab * config.width) as u64;
    for ((p, _), readout) in of.into_iter().zip(readouts) {
        kls[p] = readout.kl;
    }
    Ok(kls)
}
