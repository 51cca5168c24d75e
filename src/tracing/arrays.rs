//! One prompt's tracing under ROME's names, as its `.npz` files hold them.

use super::averages::{Means, is_corrupted};
use super::runs::Tracing;
use crate::model::Checkpoint;
use crate::report::{Array, Arrays};
use crate::site::Component;
use crate::sweep::pair::PairRuns;
use crate::sweep::results::raw;
use crate::sweep::summary::Average;

/// What ROME calls a component: nothing for the residual stream behind a layer.
fn kind(component: Component) -> &'static str {
    match component {
        Component::BlockOutput => "",
        Component::MlpOutput => "mlp",
        Component::AttentionOutput => "attn",
        other => other.name(),
    }
}

/// The arrays of a prompt, of its first target's values of a metric (by its index in the summary):
///
/// | name | holds |
/// |---|---|
/// | `scores` | mean over samples, `[positions, layers]` |
/// | `scores_sd`, `scores_se` | standard deviation and error of that mean |
/// | `low_score`, `high_score` | corrupted without restoration, and clean |
/// | `input_ids`, `input_tokens`, `subject_range` | the prompt; first token of the subject and the one behind its last |
/// | `answer`, `window`, `kind` | the target; how many layers are restored together; `""`, `mlp`, `attn` or a component's name |
/// | `noise`, `samples` | standard deviation of the noise; how many draws |
///
/// Where several components are traced, they are a first axis of `scores`, `window` and `kind`.
pub fn arrays(
    model: &Checkpoint,
    tracing: &Tracing,
    prompt: &PairRuns,
    subject: &[usize],
    means: &Means,
    (metric, clean): (usize, f64),
) -> Arrays {
    let ids = &prompt.pair.base;
    let (layers, length) = (model.config.layers, ids.len());
    let components = tracing.restored.len();
    let mut scores = vec![vec![f64::NAN; components * length * layers]; 3];
    for average in &means.summary.rows {
        if let Some(at) = place(average, tracing, length, layers) {
            let moments = &average.values[metric];
            let found = [moments.mean(), moments.deviation(), moments.error()];
            scores
                .iter_mut()
                .zip(found)
                .for_each(|(all, x)| all[at] = x);
        }
    }
    let single = components == 1;
    let shape = match single {
        true => vec![length, layers],
        false => vec![components, length, layers],
    };
    let mut arrays = Arrays::new();
    for (name, values) in ["scores", "scores_sd", "scores_se"].into_iter().zip(scores) {
        arrays.push((name.into(), Array::Floats(shape.clone(), values)));
    }
    let one = |x: f64| Array::Floats(Vec::new(), vec![x]);
    arrays.push(("low_score".into(), one(means.corrupted(metric, 0))));
    arrays.push(("high_score".into(), one(clean)));
    let tokens = ids.iter().map(|id| raw(model, *id)).collect();
    arrays.push((
        "input_ids".into(),
        Array::indices(ids.iter().map(|id| *id as usize).collect()),
    ));
    arrays.push(("input_tokens".into(), Array::Texts(tokens)));
    let range = subject.iter().min().zip(subject.iter().max());
    let range = range.map_or(Vec::new(), |(first, last)| vec![*first, last + 1]);
    arrays.push(("subject_range".into(), Array::indices(range)));
    let answer = prompt
        .pair
        .targets
        .first()
        .map_or(String::new(), |id| raw(model, *id));
    arrays.push(("answer".into(), Array::Text(answer)));
    let windows: Vec<usize> = tracing.restored.iter().map(|r| r.window).collect();
    let kinds: Vec<String> = tracing
        .restored
        .iter()
        .map(|r| kind(r.component).into())
        .collect();
    match single {
        true => {
            arrays.push(("window".into(), Array::Indices(Vec::new(), windows)));
            arrays.push(("kind".into(), Array::Text(kinds.concat())));
        }
        false => {
            arrays.push(("window".into(), Array::indices(windows)));
            arrays.push(("kind".into(), Array::Texts(kinds)));
        }
    }
    arrays.push(("noise".into(), one(tracing.level)));
    arrays.push((
        "samples".into(),
        Array::Indices(Vec::new(), vec![tracing.samples as usize]),
    ));
    arrays
}

/// Where the first target's average of a restored state stands.
fn place(average: &Average, tracing: &Tracing, length: usize, layers: usize) -> Option<usize> {
    if is_corrupted(average) || average.index > 0 {
        return None;
    }
    let named = average.row.component.as_deref();
    let mut restored = tracing.restored.iter();
    let component = restored.position(|r| named == Some(r.component.name()))?;
    let (layer, position) = average.row.layer.zip(average.row.position)?;
    Some((component * length + position as usize) * layers + layer as usize)
}
