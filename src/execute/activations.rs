//! Clean activations: of a prompt, for export, and of many, as rows.

use std::collections::BTreeMap;

use super::passes::Passes;
use super::{ExecuteError, Limits};
use crate::backend::Backend;
use crate::check::check_pair;
use crate::execute::clean::{KeptPairs, clean};
use crate::forward::ActivationCache;
use crate::plan::cache::CacheLayout;
use crate::plan::cone::Shapes;
use crate::plan::edit::Means;
use crate::plan::positions::Positions;
use crate::prompt::pair::Pair;
use crate::site::{Component, Stage, columns, kept, layer_of};

/// Rows that several prompts compute clean, in double precision.
#[derive(Debug)]
pub struct CleanRows {
    layout: CacheLayout,
    /// Of each place: numbers of a row, and all rows.
    values: BTreeMap<(Stage, usize), (usize, Vec<f64>)>,
}

impl CleanRows {
    /// Runs prompts clean, equal ones once, and keeps some stages of layers.
    ///
    /// # Errors
    ///
    /// [`ExecuteError`]: a budget too small, an interruption, or a device that failed.
    pub fn new<B: Backend>(
        backend: &B,
        prompts: &[&[u32]],
        places: &[(Stage, usize)],
        limits: &Limits<'_>,
    ) -> Result<(Self, Vec<usize>), ExecuteError> {
        let config = backend.config();
        let mut layout = CacheLayout::default();
        let at = prompts
            .iter()
            .map(|ids| layout.prompt(ids, &Positions::none()));
        let at = at.collect();
        for (stage, layer) in places {
            let (stage, layer) = kept(*stage, *layer);
            layout.keep(stage, layer);
        }
        let needed = (layout.values(config) * (backend.value_bytes() + size_of::<f64>())) as u64;
        if needed > limits.memory {
            return Err(ExecuteError::Memory {
                needed,
                budget: limits.memory,
            });
        }
        let wanted = vec![Vec::new(); layout.prompts.len()];
        let mut cache = ActivationCache::new(backend, layout.clone());
        let shapes = Shapes::default();
        let mut passes = Passes::new(backend, limits, &shapes);
        if !layout.slots.is_empty() {
            clean(
                &mut passes,
                &mut cache,
                &wanted,
                &KeptPairs::none(&Means::new()),
            )?;
        }
        let mut values = BTreeMap::new();
        for (stage, layer) in layout.slots.keys().copied() {
            if let Some(matrix) = cache.get(stage, layer) {
                let width = layout.width(stage, config);
                values.insert((stage, layer), (width, backend.read(matrix)?));
            }
        }
        Ok((Self { layout, values }, at))
    }

    /// The row of a prompt's position at a stage, empty where that is not kept. Scores and pattern have
    /// [`CleanRows::key_stride`] keys for each head.
    pub fn row(&self, prompt: usize, stage: Stage, layer: usize, position: usize) -> &[f64] {
        let row = self.layout.prompts[prompt].offset + position;
        match self.values.get(&kept(stage, layer)) {
            Some((width, values)) => &values[row * width..][..*width],
            None => &[],
        }
    }

    /// Tokens of a prompt.
    pub fn length(&self, prompt: usize) -> usize {
        self.layout.prompts[prompt].ids.len()
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        let each = self.values.values().map(|(_, values)| values.len());
        (each.sum::<usize>() * size_of::<f64>()) as u64
    }

    /// Columns from one head to the next in rows of scores and pattern.
    pub fn key_stride(&self) -> usize {
        self.layout.key_stride()
    }
}

/// One activation of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Activation {
    /// `component.layer`; `component` for sites outside the layers.
    pub name: String,
    /// `[positions, width]`; `[heads, positions, width]` for sites with heads; `[heads, queries,
    /// keys]` for scores and pattern, where masked cells are −∞ and 0.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f64>,
}

/// Runs a prompt clean and returns the activations of some sites, in the order given; of what heads add to the
/// residual stream the z that it is made of.
///
/// # Errors
///
/// [`ExecuteError`] for a prompt that does not fit, a budget too small, or an interruption.
pub fn activations<B: Backend>(
    backend: &B,
    ids: &[u32],
    sites: &[(Component, Option<usize>)],
    limits: &Limits<'_>,
) -> Result<Vec<Activation>, ExecuteError> {
    let config = backend.config();
    let pair = Pair {
        base: ids.to_vec(),
        ..Pair::default()
    };
    check_pair(&pair, config).map_err(|error| ExecuteError::Check {
        pair: 0,
        run: None,
        error,
    })?;
    let mut layout = CacheLayout::default();
    layout.prompt(ids, &Positions::none());
    let place = |(component, layer): &(Component, Option<usize>)| {
        kept(component.stage(), layer_of(*component, *layer, config))
    };
    for site in sites {
        let (stage, layer) = place(site);
        layout.keep(stage, layer);
    }
    let needed = (layout.values(config) * backend.value_bytes()) as u64;
    if needed > limits.memory {
        return Err(ExecuteError::Memory {
            needed,
            budget: limits.memory,
        });
    }
    let mut cache = ActivationCache::new(backend, layout);
    let shapes = Shapes::default();
    let mut passes = Passes::new(backend, limits, &shapes);
    clean(
        &mut passes,
        &mut cache,
        &[Vec::new()],
        &KeptPairs::none(&Means::new()),
    )?;
    let (n, h) = (ids.len(), config.heads);
    let each = sites.iter().map(|site| {
        let (component, layer) = *site;
        let (stage, kept_layer) = place(site);
        let values = match cache.get(stage, kept_layer) {
            Some(matrix) => backend.read(matrix)?,
            None => Vec::new(),
        };
        let name = layer.map_or(component.name().to_owned(), |l| format!("{component}.{l}"));
        // what heads add is made of z where the weights are
        let width = match component.is_made_of_z() {
            true => config.head_width(),
            false => columns(component, config),
        };
        let (shape, values) = match stage_heads(component) {
            Heads::None => (vec![n, width], values),
            Heads::Columns => {
                let row = |p: usize, head: usize| &values[p * h * width + head * width..][..width];
                let heads = (0..h).flat_map(|head| (0..n).flat_map(move |p| row(p, head).to_vec()));
                (vec![h, n, width], heads.collect())
            }
            Heads::Same => (vec![h, n, width], values.repeat(h)),
            Heads::Keys => {
                let masked = if component.stage() == Stage::Scores {
                    f64::NEG_INFINITY
                } else {
                    0.0
                };
                let cell = |head: usize, q: usize, k: usize| {
                    if k <= q {
                        values[q * h * n + head * n + k]
                    } else {
                        masked
                    }
                };
                let cells = (0..h).flat_map(|head| {
                    (0..n).flat_map(move |q| (0..n).map(move |k| cell(head, q, k)))
                });
                (vec![h, n, n], cells.collect())
            }
        };
        Ok(Activation {
            name,
            shape,
            values,
        })
    });
    each.collect()
}

/// How a component's heads lie in what is kept of it.
enum Heads {
    None,
    /// Side by side in a row.
    Columns,
    /// Every head reads the same row.
    Same,
    /// A row of keys each.
    Keys,
}

fn stage_heads(component: Component) -> Heads {
    match component.stage() {
        Stage::Scores | Stage::Pattern => Heads::Keys,
        Stage::QueryInput | Stage::KeyInput | Stage::ValueInput => Heads::Same,
        _ if component.has_heads() => Heads::Columns,
        _ => Heads::None,
    }
}
