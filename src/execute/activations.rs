//! Clean activations of a prompt, for export.

use super::passes::Passes;
use super::{ExecuteError, Limits};
use crate::backend::Backend;
use crate::check::check_pair;
use crate::execute::clean::clean;
use crate::forward::ActivationCache;
use crate::plan::cache::CacheLayout;
use crate::plan::cone::Shapes;
use crate::plan::positions::Positions;
use crate::prompt::pair::Pair;
use crate::site::{Component, Stage, columns, kept, layer_of};

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

/// Runs a prompt clean and returns the activations of some sites, in the order given.
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
    clean(&mut passes, &mut cache, &[Vec::new()])?;
    let (n, h) = (ids.len(), config.heads);
    let each = sites.iter().map(|site| {
        let (component, layer) = *site;
        let (stage, kept_layer) = place(site);
        let values = match cache.get(stage, kept_layer) {
            Some(matrix) => backend.read(matrix)?,
            None => Vec::new(),
        };
        let name = layer.map_or(component.name().to_owned(), |l| format!("{component}.{l}"));
        let width = columns(component, config);
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
