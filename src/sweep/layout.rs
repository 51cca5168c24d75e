//! Which clean runs a group of pairs needs, how far, and which of their activations are kept.

use std::collections::BTreeSet;

use crate::model::Config;
use crate::patch::Origin;
use crate::plan::cell::{Value, cells, kept};
use crate::plan::positions::Positions;
use crate::plan::trace::TraceLayout;
use crate::site::Stage;
use crate::sweep::pair::PairRuns;

/// Where a pair's prompts stand in a trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Index of the base among the layout's prompts.
    pub base: usize,
    /// Index of the source, if there is one.
    pub source: Option<usize>,
}

/// The clean runs that pairs need: which prompts, how far, and which stages are kept.
pub(super) fn layout(
    pairs: &[PairRuns],
    first: usize,
    config: &Config,
) -> (TraceLayout, Vec<Place>) {
    let mut layout = TraceLayout::default();
    let mut places = Vec::with_capacity(pairs.len());
    let mut sites: BTreeSet<(usize, Stage)> = BTreeSet::new();
    for (p, PairRuns { pair, runs }) in pairs.iter().enumerate() {
        let readouts: Positions = pair.readout_positions().into_iter().collect();
        let mut base_length = readouts.last().map_or(0, |r| r + 1);
        for run in runs.iter() {
            let run_cells = cells(&run.patches, (first + p) as u32, config);
            let first = run_cells.first().map(|c| (c.layer, c.stage));
            let start = first.map(|(layer, _)| layer);
            for cell in &run_cells {
                sites.insert((cell.layer, cell.stage));
                if let Value::Clean {
                    origin,
                    stage,
                    layer,
                    position,
                    ..
                } = &cell.value
                {
                    layout.keep(*stage, *layer);
                    if *origin == Origin::Base {
                        base_length = base_length.max(position + 1);
                    }
                }
                // a freeze can leave a branch clean under a dirty residual stream
                if first < Some((cell.layer, cell.stage))
                    && cell.stage <= Stage::Z
                    && cell.layer < config.layers
                {
                    layout.keep(Stage::AttentionOutput, cell.layer);
                }
            }
            if let Some(start) = start {
                for layer in start..config.layers {
                    [Stage::BlockInput, Stage::Query, Stage::Key, Stage::Value]
                        .iter()
                        .for_each(|stage| layout.keep(*stage, layer));
                }
                layout.keep(Stage::BlockInput, config.layers);
            }
        }
        let base = layout.prompt(&pair.base[..base_length], &readouts);
        let source = pair
            .source
            .as_ref()
            .map(|ids| layout.prompt(ids, &std::iter::once(ids.len() - 1).collect()));
        places.push(Place { base, source });
    }
    for (layer, stage) in sites {
        let (stage_kept, layer_kept) = kept(stage, layer);
        layout.keep(stage_kept, layer_kept);
        if (Stage::AttentionOutput..=Stage::MlpOutput).contains(&stage) {
            [Stage::AttentionOutput, Stage::BlockMid, Stage::MlpOutput]
                .iter()
                .for_each(|stage| layout.keep(*stage, layer));
        }
    }
    (layout, places)
}
