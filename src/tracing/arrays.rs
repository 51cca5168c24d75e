//! A tracing's scores as arrays: one prompt's under ROME's names, as its `.npz` files hold them, and a
//! data set's by what positions are to the subject.

use super::averages::{Means, is_corrupted};
use super::runs::{ROLES, Tracing};
use crate::model::Checkpoint;
use crate::prompt::pair::PairRuns;
use crate::results::array::{Array, Arrays};
use crate::results::rows::raw;
use crate::results::summary::{Average, Moments};
use crate::site::Component;

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
        let position = average.row.position.map(|p| p as usize);
        let place = position.and_then(|p| at(average, tracing, p, (length, layers)));
        if let Some(place) = place {
            let moments = &average.values[metric];
            let found = [moments.mean(), moments.deviation(), moments.error()];
            scores
                .iter_mut()
                .zip(found)
                .for_each(|(all, x)| all[place] = x);
        }
    }
    let shape = [several(tracing), vec![length, layers]].concat();
    let mut arrays = Arrays::new();
    for (name, values) in ["scores", "scores_sd", "scores_se"].into_iter().zip(scores) {
        arrays.push((name.into(), Array::Floats(shape.clone(), values)));
    }
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
    arrays.extend(about(tracing));
    arrays
}

/// The arrays of a data set's prompts, of each one's first target's values of a metric (by its index in
/// the summary) and, of the clean prompts, `clean`:
///
/// | name | holds |
/// |---|---|
/// | `scores` | mean over prompts, `[roles, layers]`; NaN where no prompt has such a position |
/// | `scores_sd`, `scores_se` | standard deviation over prompts, and error of that mean |
/// | `scores_n` | over how many prompts |
/// | `scores_pairs` | each prompt's own, `[pairs, roles, layers]`; NaN where it has no such position |
/// | `low_score`, `high_score` | corrupted without restoration, and clean: means over prompts |
/// | `low_score_pairs`, `high_score_pairs` | of each prompt |
/// | `axes`, `position`, `layer` | what stands along the axes of `scores`; the roles and the layers |
/// | `window`, `kind`, `noise`, `samples` | as of one prompt |
///
/// Where several components are traced, they are an axis before the roles.
pub fn arrays_of_prompts(
    tracing: &Tracing,
    layers: usize,
    means: &Means,
    (metric, clean): (usize, &[f64]),
) -> Arrays {
    let size = tracing.restored.len() * ROLES.len() * layers;
    let places = means.summary.rows.iter().map(|average| {
        let role = average.row.name.as_deref()?;
        let role = ROLES.iter().position(|name| *name == role)?;
        at(average, tracing, role, (ROLES.len(), layers))
    });
    let places: Vec<Option<usize>> = places.collect();
    let filled = |value: fn(&Moments) -> f64, missing: f64| {
        let mut all = vec![missing; size];
        for (place, average) in places.iter().zip(&means.summary.rows) {
            if let Some(place) = place {
                all[*place] = value(&average.values[metric]);
            }
        }
        all
    };
    let (mut each, mut low) = (Vec::new(), Vec::new());
    for prompt in &means.prompts {
        let mut own = vec![f64::NAN; size];
        let mut corrupted = f64::NAN;
        for (row, values) in prompt {
            let average = &means.summary.rows[*row];
            match places[*row] {
                Some(place) => own[place] = values[metric],
                None if is_corrupted(average) && average.index == 0 => corrupted = values[metric],
                None => {}
            }
        }
        each.extend(own);
        low.push(corrupted);
    }
    let shape = [several(tracing), vec![ROLES.len(), layers]].concat();
    let of_pairs = [&[low.len()], &shape[..]].concat();
    let mut arrays = Arrays::new();
    let mut add = |name: &str, array| arrays.push((name.to_owned(), array));
    let scores = |value, missing| Array::Floats(shape.clone(), filled(value, missing));
    add("scores", scores(Moments::mean, f64::NAN));
    add("scores_sd", scores(Moments::deviation, f64::NAN));
    add("scores_se", scores(Moments::error, f64::NAN));
    let counts = filled(|moments| f64::from(moments.count()), 0.0);
    let counts = counts.into_iter().map(|n| n as usize).collect();
    add("scores_n", Array::Indices(shape.clone(), counts));
    add("scores_pairs", Array::Floats(of_pairs, each));
    add("low_score", one(means.corrupted(metric, 0)));
    let mut high = Moments::default();
    clean.iter().for_each(|x| high.add(*x));
    add("high_score", one(high.mean()));
    let pairs = |values: Vec<f64>| Array::Floats(vec![values.len()], values);
    add("low_score_pairs", pairs(low));
    add("high_score_pairs", pairs(clean.to_vec()));
    let axes = ["component", "position", "layer"];
    let axes = axes.iter().skip(3 - shape.len());
    add("axes", Array::Texts(axes.map(|a| (*a).into()).collect()));
    let roles = ROLES.map(str::to_owned).to_vec();
    add("position", Array::Texts(roles));
    add("layer", Array::indices((0..layers).collect()));
    arrays.extend(about(tracing));
    arrays
}

/// The axis of the components, where there are several.
fn several(tracing: &Tracing) -> Vec<usize> {
    let count = tracing.restored.len();
    (count > 1).then_some(count).into_iter().collect()
}

fn one(x: f64) -> Array {
    Array::Floats(Vec::new(), vec![x])
}

/// How it was traced.
fn about(tracing: &Tracing) -> Arrays {
    let windows: Vec<usize> = tracing.restored.iter().map(|r| r.window).collect();
    let kinds = tracing.restored.iter().map(|r| kind(r.component).into());
    let kinds: Vec<String> = kinds.collect();
    let (window, kind) = match several(tracing).is_empty() {
        true => (
            Array::Indices(Vec::new(), windows),
            Array::Text(kinds.concat()),
        ),
        false => (Array::indices(windows), Array::Texts(kinds)),
    };
    let samples = Array::Indices(Vec::new(), vec![tracing.samples as usize]);
    let named = [
        ("window", window),
        ("kind", kind),
        ("noise", one(tracing.level)),
        ("samples", samples),
    ];
    named.map(|(name, array)| (name.to_owned(), array)).into()
}

/// Where the first target's average of a restored state stands, with its position or role along an axis
/// of so many, and so many layers.
fn at(
    average: &Average,
    tracing: &Tracing,
    position: usize,
    (positions, layers): (usize, usize),
) -> Option<usize> {
    if is_corrupted(average) || average.index > 0 {
        return None;
    }
    let named = average.row.component.as_deref();
    let mut restored = tracing.restored.iter();
    let component = restored.position(|r| named == Some(r.component.name()))?;
    let layer = average.row.layer? as usize;
    Some((component * positions + position) * layers + layer)
}
