//! Runs computed whole: no light cone, nothing shared, nothing left out of the cache.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use headlight::backend::{Backend, Readout, ReadoutSpec};
use headlight::forward::{ActivationCache, Buffers, forward};
use headlight::patch::{Op, Patch, Prompt, Run};
use headlight::plan::cache::{CacheLayout, CleanPrompt, PromptRows};
use headlight::plan::chunk::{Builder, Packed};
use headlight::plan::cone;
use headlight::plan::edit::{MeanRows, Means, edits};
use headlight::plan::patched_cache::PatchedCache;
use headlight::plan::positions::Positions;
use headlight::plan::tables::{Chunk, Reads, Ref};
use headlight::prompt::pair::Pair;
use headlight::site::{Component, Stage, kept, layer_of};

/// The clean runs of a pair, with every activation of every layer kept.
pub struct Reference<'a, B: Backend> {
    backend: &'a B,
    pair: &'a Pair,
    readouts: Positions,
    cache: ActivationCache<B::Matrix>,
    /// Rows of the cache at which base and source begin.
    offsets: [usize; 2],
    /// The clean base run's readouts.
    pub base: Vec<Readout>,
}

/// Keeps everything.
fn keep_all(layout: &mut CacheLayout, layers: usize) {
    for stage in Component::all().map(Component::stage) {
        match stage {
            Stage::TokenEmbedding | Stage::PositionEmbedding => layout.keep(stage, 0),
            Stage::LnFScale | Stage::LnFNormalized | Stage::FinalOutput => {
                layout.keep(stage, layers)
            }
            _ => (0..layers)
                .map(|l| kept(stage, l))
                .for_each(|(stage, layer)| layout.keep(stage, layer)),
        }
    }
}

fn go<B: Backend>(
    backend: &B,
    chunk: &Chunk,
    cache: &mut ActivationCache<B::Matrix>,
    ids: &[u32],
) -> Vec<Readout> {
    let mut spec = ReadoutSpec {
        first: vec![0],
        top: 3,
        ranks: true,
        base: (0..chunk.compared())
            .map(|i| (chunk.readouts + i) as u32)
            .collect(),
        ..ReadoutSpec::default()
    };
    for _ in &chunk.readout_of {
        spec.ids.extend(ids);
        spec.first.push(spec.ids.len());
    }
    let stop = AtomicBool::new(false);
    let readouts = forward(
        backend,
        chunk,
        &mut Buffers::new(backend),
        cache,
        &spec,
        &stop,
    )
    .unwrap();
    backend.finish(readouts).unwrap()
}

/// A whole run's rows are all its own: it knows of the base run only what operators read.
fn assert_reads_no_cache(chunk: &Chunk) {
    let own = |refs: &[Ref]| {
        assert!(
            refs.iter().all(|r| r.row().is_ok()),
            "a whole run reads the cache"
        )
    };
    for table in chunk.parts.iter().flat_map(|part| &part.ops) {
        match &table.reads {
            Reads::Rows(refs) => refs.iter().for_each(|refs| own(refs)),
            Reads::Attention(rows) => {
                [&rows.query, &rows.key, &rows.value]
                    .into_iter()
                    .for_each(|refs| own(refs));
            }
            Reads::Table(_) => {}
        }
        own(&table.copies.of);
        assert!(
            table.rows.gathered.is_empty(),
            "a whole run gathers clean rows"
        );
    }
}

/// Runs one prompt clean into its rows of the cache.
fn run_clean<B: Backend>(
    backend: &B,
    cache: &mut ActivationCache<B::Matrix>,
    prompt: usize,
    readouts: &Positions,
    targets: &[u32],
) -> Vec<Readout> {
    let config = backend.config();
    let (ids, offset) = (
        cache.layout.prompts[prompt].ids.clone(),
        cache.layout.prompts[prompt].offset,
    );
    let cone = cone::of_clean(config, ids.len(), readouts, &|_, _| true);
    let packed = Packed {
        cone: &cone,
        edits: &[],
        ids: &ids,
        offset,
        prompts: &PromptRows::new(),
        pair: 0,
        kept_as: None,
    };
    let (none, empty) = (HashMap::new(), PatchedCache::default());
    let chunk = Builder::new(config, &cache.layout, &none, &empty)
        .clean()
        .build(&[packed]);
    let all = go(backend, &chunk, cache, targets);
    let wanted = chunk
        .readout_of
        .iter()
        .zip(all)
        .filter(|((_, p), _)| readouts.contains(*p as usize));
    wanted.map(|(_, readout)| readout).collect()
}

impl<'a, B: Backend> Reference<'a, B> {
    pub fn new(backend: &'a B, pair: &'a Pair) -> Self {
        let config = backend.config();
        let readouts: Positions = pair.readout_positions().into_iter().collect();
        let mut layout = CacheLayout::default();
        let base = layout.prompt(&pair.base, &readouts);
        let source = layout.prompt(
            pair.source.as_ref().unwrap_or(&pair.base),
            &Positions::none(),
        );
        keep_all(&mut layout, config.layers);
        let offsets = [layout.prompts[base].offset, layout.prompts[source].offset];
        let mut cache = ActivationCache::new(backend, layout);
        if source != base {
            run_clean(backend, &mut cache, source, &Positions::none(), &[]);
        }
        let base = run_clean(backend, &mut cache, base, &readouts, &pair.targets);
        Self {
            backend,
            pair,
            readouts,
            cache,
            offsets,
            base,
        }
    }

    /// One row of the clean base run, of all heads.
    pub fn base_row(&self, stage: Stage, layer: usize, position: usize) -> Vec<f64> {
        let (stage, layer) = kept(stage, layer);
        let width = self.cache.layout.width(stage, self.backend.config());
        let all = self
            .backend
            .read(self.cache.get(stage, layer).unwrap())
            .unwrap();
        all[(self.offsets[0] + position) * width..][..width].to_vec()
    }

    /// A run's readouts.
    pub fn run(&mut self, run: &Run) -> Vec<Readout> {
        let config = self.backend.config();
        let mut means = Means::new();
        for patch in &run.patches {
            self.mean(patch, &mut means);
        }
        let edits = edits(&run.patches, &self.pair.base, config);
        let cone = cone::of_whole(config, &edits, self.pair.base.len(), &self.readouts);
        let [offset, source] = self.offsets;
        let prompts = PromptRows::from([(Prompt::Base, offset), (Prompt::Source, source)]);
        let packed = Packed {
            cone: &cone,
            edits: &edits,
            ids: &self.pair.base,
            offset,
            prompts: &prompts,
            pair: 0,
            kept_as: None,
        };
        let empty = PatchedCache::default();
        let mut chunk = Builder::new(config, &self.cache.layout, &means, &empty).build(&[packed]);
        assert_reads_no_cache(&chunk);
        for (_, position) in chunk.readout_of.clone() {
            chunk.compare(Ref::cached(offset + position as usize));
        }
        go(self.backend, &chunk, &mut self.cache, &self.pair.targets)
    }

    /// Every activation of a run computed whole, patches and all, each row kept: a cache in which the
    /// run stands behind the clean prompts, and its first row there.
    pub fn activations(&mut self, run: &Run) -> (ActivationCache<B::Matrix>, usize) {
        let config = self.backend.config();
        let mut means = Means::new();
        for patch in &run.patches {
            self.mean(patch, &mut means);
        }
        let source = self.pair.source.as_ref().unwrap_or(&self.pair.base);
        let mut layout = CacheLayout::default();
        let clean = [&self.pair.base, source].map(|ids| layout.prompt(ids, &Positions::none()));
        let offset = layout.rows();
        let own = CleanPrompt {
            ids: self.pair.base.clone(),
            offset,
            readouts: Positions::none(),
            stem: None,
        };
        layout.prompts.push(own);
        keep_all(&mut layout, config.layers);
        let prompts = clean.map(|prompt| layout.prompts[prompt].offset);
        let mut cache = ActivationCache::new(self.backend, layout);
        for prompt in 0..=clean[1] {
            run_clean(self.backend, &mut cache, prompt, &Positions::none(), &[]);
        }
        let edits = edits(&run.patches, &self.pair.base, config);
        let length = self.pair.base.len();
        let all = Positions::range(0, length);
        let cone = cone::of_whole(config, &edits, length, &all);
        let packed = Packed {
            cone: &cone,
            edits: &edits,
            ids: &self.pair.base,
            offset,
            prompts: &PromptRows::from([(Prompt::Base, prompts[0]), (Prompt::Source, prompts[1])]),
            pair: 0,
            kept_as: None,
        };
        let empty = PatchedCache::default();
        let chunk = Builder::new(config, &cache.layout, &means, &empty)
            .clean()
            .build(&[packed]);
        go(self.backend, &chunk, &mut cache, &[]);
        (cache, offset)
    }

    fn mean(&self, patch: &Patch, means: &mut Means) {
        let Op::Mean(over) = &patch.op else { return };
        let config = self.backend.config();
        let layer = layer_of(patch.component, patch.source_layer.or(patch.layer), config);
        let (stage, layer) = kept(patch.component.stage(), layer);
        // equal prompts are run once and weighed: the order of the sum is part of the result
        let mut distinct: Vec<(&[u32], f64)> = Vec::new();
        for ids in over.prompts.iter() {
            match distinct.iter_mut().find(|(known, _)| known == ids) {
                Some((_, weight)) => *weight += 1.0,
                None => distinct.push((ids, 1.0)),
            }
        }
        let mut mean = Vec::new();
        let mut count = 0.0;
        for (ids, weight) in distinct {
            let mut layout = CacheLayout::default();
            layout.prompt(ids, &Positions::none());
            keep_all(&mut layout, config.layers);
            let width = layout.width(stage, config);
            let mut cache = ActivationCache::new(self.backend, layout);
            run_clean(self.backend, &mut cache, 0, &Positions::none(), &[]);
            mean.resize(width, 0.0);
            for row in self
                .backend
                .read(cache.get(stage, layer).unwrap())
                .unwrap()
                .chunks_exact(width)
            {
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += weight * x);
                count += weight;
            }
        }
        mean.iter_mut().for_each(|m| *m /= count);
        let of = means.entry(over.key()).or_default();
        of.insert((stage, layer), MeanRows::Whole(mean));
    }
}
