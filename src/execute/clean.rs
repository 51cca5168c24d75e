//! Clean runs: prompts without patches, from which activations are kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ExecuteError;
use super::layout::PromptPlaces;
use super::passes::Passes;
use crate::backend::{Backend, Readout, ReadoutSpec};
use crate::forward::ActivationCache;
use crate::model::Config;
use crate::patch::{MeanOver, Op, Prompt};
use crate::plan::cache::{CacheLayout, CleanPrompt, PromptRows};
use crate::plan::chunk::{Builder, Packed};
use crate::plan::cone::{self, Cone};
use crate::plan::cost::Cost;
use crate::plan::edit::{Edit, MeanRows, Means, edits};
use crate::plan::patched_cache::PatchedCache;
use crate::plan::positions::Positions;
use crate::plan::tables::{Chunk, Ref};
use crate::prompt::pair::PairRuns;
use crate::site::{Stage, kept, layer_of};

/// The edits of a prompt that is a stem; none of a clean one.
pub(super) fn stem_edits(
    prompt: &CleanPrompt,
    pairs: &[PairRuns],
    places: &[PromptPlaces],
    config: &Config,
) -> Vec<Edit> {
    prompt.stem.map_or(Vec::new(), |(pair, stem)| {
        let patches = &places[pair].stems.patches[stem];
        edits(patches, pairs[pair].pair.prompt_ids(Prompt::Base), config)
    })
}

/// What is computed of a prompt of which activations are kept.
pub(super) fn kept_cone(
    prompt: &CleanPrompt,
    edits: &[Edit],
    kept: &dyn Fn(Stage, usize) -> bool,
    config: &Config,
) -> Cone {
    cone::of_stem(config, edits, prompt.ids.len(), &prompt.readouts, kept)
}

/// Whose prompts are run, and what their stems may write.
pub(super) struct KeptPairs<'a> {
    pub pairs: &'a [PairRuns],
    pub places: &'a [PromptPlaces],
    pub means: &'a Means,
}

impl<'a> KeptPairs<'a> {
    /// Prompts of nobody, none of which is a stem.
    pub fn none(means: &'a Means) -> Self {
        Self {
            pairs: &[],
            places: &[],
            means,
        }
    }
}

/// Runs the layout's prompts clean, filling the cache, and behind them stems, which may read them; readouts by (prompt, position).
pub(super) fn clean<B: Backend>(
    passes: &mut Passes<'_, B>,
    cache: &mut ActivationCache<B::Matrix>,
    wanted: &[Vec<u32>],
    of: &KeptPairs<'_>,
) -> Result<HashMap<(usize, usize), Readout>, ExecuteError> {
    let (backend, limits) = (passes.backend, passes.limits);
    let config = backend.config();
    let (empty, nowhere) = (PatchedCache::default(), PromptRows::new());
    let mut readouts = HashMap::new();
    let mut order: Vec<usize> = (0..cache.layout.prompts.len()).collect();
    order.sort_by_key(|prompt| cache.layout.prompts[*prompt].stem.is_some());
    let mut first = 0;
    while first < order.len() {
        let layout = &cache.layout;
        let stems = layout.prompts[order[first]].stem.is_some();
        let mut cones = Vec::new();
        let mut bytes = 0;
        for prompt in order[first..].iter().map(|index| &layout.prompts[*index]) {
            if prompt.stem.is_some() != stems {
                break;
            }
            let read = |stage, layer| layout.slots.contains_key(&(stage, layer));
            let edits = stem_edits(prompt, of.pairs, of.places, config);
            let cone = kept_cone(prompt, &edits, &read, config);
            let cost = Cost::of(&cone, &edits, config);
            bytes += (cost.values * backend.value_bytes()) as u64;
            let most = (limits.memory / 2).min(backend.chunk_bytes());
            if bytes > most && !cones.is_empty() {
                break;
            }
            if bytes > limits.memory / 2 {
                return Err(ExecuteError::Memory {
                    needed: 2 * bytes,
                    budget: limits.memory,
                });
            }
            passes.plan.clean += cost.flops;
            cones.push((cone, edits));
        }
        let here = &order[first..first + cones.len()];
        let packed: Vec<Packed<'_>> = cones
            .iter()
            .zip(here.iter().map(|index| &layout.prompts[*index]))
            .map(|((cone, edits), prompt)| Packed {
                cone,
                edits,
                ids: &prompt.ids,
                offset: prompt.offset,
                prompts: prompt
                    .stem
                    .map_or(&nowhere, |(pair, _)| &of.places[pair].rows),
                pair: prompt.stem.map_or(0, |(pair, _)| pair),
                kept_as: None,
            })
            .collect();
        let mut chunk = Builder::new(config, layout, of.means, &empty)
            .clean()
            .build(&packed);
        let mut spec = ReadoutSpec {
            first: vec![0],
            top: limits.top,
            ranks: limits.ranks,
            ..ReadoutSpec::default()
        };
        for (prompt, _) in &chunk.readout_of {
            spec.ids.extend(&wanted[here[*prompt as usize]]);
            spec.first.push(spec.ids.len());
        }
        if stems && limits.kl {
            compare_with_bases(&mut chunk, &mut spec, here, layout, of.places);
            passes.plan.compared += 2 * (chunk.compared() * config.vocab * config.width) as u64;
        }
        let read = passes.forward(&chunk, cache, &spec)?;
        let read = passes.finish(read)?;
        for ((prompt, position), readout) in chunk.readout_of.iter().zip(read) {
            readouts.insert((here[*prompt as usize], *position as usize), readout);
        }
        first += cones.len();
    }
    Ok(readouts)
}

/// Holds what is read of stems against their pairs' clean bases, which stand in the cache.
fn compare_with_bases(
    chunk: &mut Chunk,
    spec: &mut ReadoutSpec,
    here: &[usize],
    layout: &CacheLayout,
    places: &[PromptPlaces],
) {
    let bases = chunk.readout_of.iter().filter_map(|(prompt, position)| {
        let (pair, _) = layout.prompts[here[*prompt as usize]].stem?;
        let base = &layout.prompts[places[pair].base()];
        Some(Ref::cached(base.offset + *position as usize))
    });
    let bases: Vec<Ref> = bases.collect();
    for (row, base) in bases.into_iter().enumerate() {
        spec.base.push((chunk.readouts + row) as u32);
        chunk.compare(base);
    }
}

/// Mean activations that the pairs' patches write, by the text that names the prompts.
pub(super) fn means<B: Backend>(
    passes: &mut Passes<'_, B>,
    pairs: &[PairRuns],
) -> Result<Means, ExecuteError> {
    let (backend, limits) = (passes.backend, passes.limits);
    let config = backend.config();
    let mut means = Means::new();
    for MeanCache {
        key,
        by_position,
        layout,
        weights,
    } in mean_caches(pairs, config)
    {
        let needed = (layout.values(config) * backend.value_bytes()) as u64;
        if needed > limits.memory / 2 {
            return Err(ExecuteError::Memory {
                needed: 2 * needed,
                budget: limits.memory,
            });
        }
        let mut cache = ActivationCache::new(backend, layout);
        let none = vec![Vec::new(); weights.len()];
        clean(passes, &mut cache, &none, &KeptPairs::none(&Means::new()))?;
        let of = means.entry(key).or_default();
        for &(stage, layer) in cache.layout.slots.keys() {
            let Some(matrix) = cache.get(stage, layer) else {
                continue;
            };
            let width = cache.layout.width(stage, config);
            let values = backend.read(matrix)?;
            let prompts = cache.layout.prompts.iter().zip(&weights);
            let mut sums: HashMap<usize, (f64, Vec<f64>)> = HashMap::new();
            for (prompt, weight) in prompts {
                let length = prompt.ids.len();
                // all positions of all prompts have one sum, or those of each length one a position
                let (key, rows) = if by_position {
                    (length, length)
                } else {
                    (0, 1)
                };
                let (count, sum) = sums
                    .entry(key)
                    .or_insert_with(|| (0.0, vec![0.0; rows * width]));
                for position in 0..length {
                    let row = &values[(prompt.offset + position) * width..][..width];
                    let sum = &mut sum[if by_position { position * width } else { 0 }..][..width];
                    sum.iter_mut().zip(row).for_each(|(m, x)| *m += weight * x);
                    *count += if by_position && position > 0 {
                        0.0
                    } else {
                        *weight
                    };
                }
            }
            let mut means = sums.into_iter().map(|(length, (count, mut sum))| {
                sum.iter_mut().for_each(|m| *m /= count);
                (length, sum)
            });
            let rows = match by_position {
                true => MeanRows::ByPosition(means.collect()),
                false => MeanRows::Whole(means.next().map_or(Vec::new(), |(_, mean)| mean)),
            };
            of.insert((stage, layer), rows);
        }
    }
    Ok(means)
}

/// The clean runs of one set of prompts over which means are taken.
pub(super) struct MeanCache {
    /// What tells its means from others.
    pub key: String,
    /// Whether each position has a mean of its own.
    pub by_position: bool,
    /// Every distinct prompt, and what is kept of it.
    pub layout: CacheLayout,
    /// How often each prompt counts.
    pub weights: Vec<f64>,
}

pub(super) fn mean_caches(pairs: &[PairRuns], config: &Config) -> Vec<MeanCache> {
    type Wanted = (MeanOver, BTreeSet<(Stage, usize)>);
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    for patch in pairs
        .iter()
        .flat_map(|p| p.runs.iter())
        .flat_map(|r| &r.patches)
    {
        if let Op::Mean(over) = &patch.op {
            let entry = wanted.entry(over.key());
            let (_, sites) = entry.or_insert_with(|| (over.clone(), BTreeSet::new()));
            let layer = layer_of(patch.component, patch.source_layer.or(patch.layer), config);
            sites.insert(kept(patch.component.stage(), layer));
        }
    }
    let cache = |(key, (over, sites)): (String, Wanted)| {
        let mut layout = CacheLayout::default();
        // equal prompts are run once and weighed
        let mut weights: Vec<f64> = Vec::new();
        for ids in over.prompts.iter() {
            let prompt = layout.prompt(ids, &Positions::none());
            weights.resize(layout.prompts.len(), 0.0);
            weights[prompt] += 1.0;
        }
        sites
            .iter()
            .for_each(|(stage, layer)| layout.keep(*stage, *layer));
        MeanCache {
            key,
            by_position: over.by_position,
            layout,
            weights,
        }
    };
    wanted.into_iter().map(cache).collect()
}
