//! A tracing's scores as arrays: one prompt's under ROME's names, as its `.npz` files hold them, and a
//! data set's by what positions are to the subject.

use super::averages::{TraceMeans, place, place_of_role};
use super::runs::{ROLES, Tracing};
use crate::model::Checkpoint;
use crate::prompt::pair::PairRuns;
use crate::results::array::{Array, Arrays};
use crate::results::averages::Average;
use crate::results::moments::Moments;
use crate::results::rows::raw;
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

/// The three arrays of means and spreads over places.
fn scores(
    means: &TraceMeans<'_>,
    shape: &[usize],
    place: impl Fn(&Average) -> Option<usize>,
) -> Arrays {
    type Value = fn(&Moments) -> f64;
    let values: [(&str, Value); 3] = [
        ("scores", Moments::mean),
        ("scores_sd", Moments::deviation),
        ("scores_se", Moments::error),
    ];
    let filled = |value: Value| {
        let mut all = vec![f64::NAN; shape.iter().product()];
        for average in means.averages.rows() {
            if let Some(place) = place(average) {
                all[place] = value(&means.moments(average));
            }
        }
        Array::Floats(shape.to_vec(), all)
    };
    values
        .map(|(name, value)| (name.into(), filled(value)))
        .into()
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
    means: &TraceMeans<'_>,
) -> Arrays {
    let ids = &prompt.pair.base;
    let (layers, length) = (model.config.layers, ids.len());
    let shape = [several(tracing), vec![length, layers]].concat();
    let mut arrays = scores(means, &shape, |average| {
        let position = average.row.position? as usize;
        place(average, tracing, (position, length), layers)
    });
    let (clean, _) = means.clean_and_corrupted();
    let text = |id: &u32| raw(model, *id);
    let range = subject.iter().min().zip(subject.iter().max());
    let range = range.map_or(Vec::new(), |(first, last)| vec![*first, last + 1]);
    let answer = prompt.pair.targets.first();
    let others = [
        ("low_score", Array::number(means.low())),
        ("high_score", Array::number(clean[0])),
        (
            "input_ids",
            Array::indices(ids.iter().map(|id| *id as usize).collect()),
        ),
        ("input_tokens", Array::Texts(ids.iter().map(text).collect())),
        ("subject_range", Array::indices(range)),
        ("answer", Array::Text(answer.map_or(String::new(), text))),
    ];
    arrays.extend(others.map(|(name, array)| (name.to_owned(), array)));
    arrays.extend(about(tracing));
    arrays
}

/// The arrays of a data set's prompts, of each one's first target's values of what is
/// drawn:
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
pub fn arrays_of_prompts(tracing: &Tracing, layers: usize, means: &mut TraceMeans<'_>) -> Arrays {
    let shape = [several(tracing), vec![ROLES.len(), layers]].concat();
    let at = |average: &Average| place_of_role(average, tracing, layers);
    let mut arrays = scores(means, &shape, at);
    let mut counts = vec![0; shape.iter().product()];
    for average in means.averages.rows() {
        if let Some(place) = at(average) {
            counts[place] = means.moments(average).count() as usize;
        }
    }
    let each = means.take_scores();
    let (clean, low) = means.clean_and_corrupted();
    let mut high = Moments::default();
    clean.iter().for_each(|x| high.add(*x));
    let mut add = |name: &str, array| arrays.push((name.to_owned(), array));
    add("scores_n", Array::Indices(shape.clone(), counts));
    if let Some(each) = each {
        add(
            "scores_pairs",
            Array::Spooled([&[low.len()], &shape[..]].concat(), each),
        );
    }
    add("low_score", Array::number(means.low()));
    add("high_score", Array::number(high.mean()));
    let pairs = |values: &[f64]| Array::Floats(vec![values.len()], values.to_vec());
    add("low_score_pairs", pairs(low));
    add("high_score_pairs", pairs(clean));
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
        ("noise", Array::number(tracing.level)),
        ("samples", samples),
    ];
    named.map(|(name, array)| (name.to_owned(), array)).into()
}
