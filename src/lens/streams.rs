//! The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): a residual stream x of a layer, read as
//! the last one is: logits = W_U · ln_f(x), the layer norm's scale that of x itself. TransformerLens's
//! `accumulated_resid` with `apply_ln` and `mlp_input=False` of each layer is `block_input`, and `incl_mid` adds
//! `block_mid`.

use super::{LensError, LensPart};
use crate::model::Config;
use crate::patch::{Origin, Patch, Prompt, Run};
use crate::site::Component;

/// Streams, in the order asked for.
///
/// # Errors
///
/// [`LensError::NoStream`].
pub fn streams(
    asked: impl IntoIterator<Item = (Component, Option<usize>)>,
) -> Result<Vec<LensPart>, LensError> {
    let stream = |(component, layer): (Component, Option<usize>)| match component {
        Component::BlockInput | Component::BlockMid | Component::BlockOutput => Ok(LensPart {
            name: layer.map_or(component.to_string(), |layer| {
                format!("{component}.{layer}")
            }),
            component: Some(component),
            layer,
            head: None,
        }),
        component => Err(LensError::NoStream { component }),
    };
    asked.into_iter().map(stream).collect()
}

/// One run a stream and position, streams outermost: the base's own stream written over its last one.
pub fn runs(
    streams: &[LensPart],
    positions: &[(Option<String>, usize)],
    config: &Config,
) -> Vec<Run> {
    let last = Component::BlockOutput;
    let run = |stream: &LensPart, (name, position): &(Option<String>, usize)| {
        let mut patch =
            Patch::interchange(last, Some(config.layers - 1), Vec::new(), vec![*position]);
        patch.origin = Origin::Clean(Prompt::Base);
        patch.source_component = stream.component.filter(|component| *component != last);
        patch.source_layer = stream.layer;
        Run {
            name: Some(stream.name.clone()),
            position: name.clone(),
            at: Some(*position),
            patches: vec![patch],
            ..Run::default()
        }
    };
    let each = streams
        .iter()
        .flat_map(|stream| positions.iter().map(move |at| (stream, at)));
    each.map(|(stream, at)| run(stream, at)).collect()
}
