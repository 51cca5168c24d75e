//! Component and unit in pyvene's words → where in the model, in headlight's.
//!
//! pyvene addresses an activation by one of its names for GPT-2 (`models/gpt2/modelings_intervenable_gpt2.py`),
//! or by a module's path with `.input` or `.output` behind it, and a place in it by a unit: `pos`,
//! `h`, or `h.pos`, which is heads × positions.

use super::quoted;
use crate::site::Component::{self, *};

/// What a representation's locations count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Positions.
    Positions,
    /// Heads, at all positions.
    Heads,
    /// Heads × positions.
    HeadsPositions,
}

/// Where a representation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPlace {
    /// The activation.
    pub component: Component,
    /// Its layer, unless it stands outside them.
    pub layer: Option<usize>,
    /// What its locations count.
    pub unit: Unit,
    /// The module that pyvene hooks, and the side of it: hooks of one module act in the order in which
    /// they were made, hooks of two in the order in which these are called.
    pub hook: String,
    /// Whether the hook's own input is the activation, so that skipping does nothing more than
    /// interchanging, or something else that stands there.
    pub skip: Skip,
}

/// What `SkipIntervention` reads: the first input of the hooked module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The activation itself.
    Same,
    /// The input of the module whose output this is, which is as wide.
    Input,
    /// Something of another width.
    Unlike,
}

/// pyvene's names: component, module within the layer, side, and what a skip reads.
const NAMED: [(Component, &str, Skip); 16] = [
    (BlockInput, "input", Skip::Same),
    (BlockOutput, "output", Skip::Input),
    (AttentionInput, "attn.input", Skip::Same),
    (QueryOutput, "attn.c_attn.output", Skip::Unlike),
    (KeyOutput, "attn.c_attn.output", Skip::Unlike),
    (ValueOutput, "attn.c_attn.output", Skip::Unlike),
    (HeadQueryOutput, "attn.c_attn.output", Skip::Unlike),
    (HeadKeyOutput, "attn.c_attn.output", Skip::Unlike),
    (HeadValueOutput, "attn.c_attn.output", Skip::Unlike),
    (AttentionWeight, "attn.attn_dropout.input", Skip::Same),
    (AttentionValueOutput, "attn.c_proj.input", Skip::Same),
    (HeadAttentionValueOutput, "attn.c_proj.input", Skip::Same),
    (AttentionOutput, "attn.resid_dropout.output", Skip::Same),
    (MlpInput, "mlp.input", Skip::Same),
    (MlpActivation, "mlp.act.output", Skip::Input),
    (MlpOutput, "mlp.output", Skip::Input),
];

/// Paths within a layer that are one activation. Dropout does nothing outside training, and pyvene
/// writes in place, so what is written into ln_1's input is the residual stream itself.
const PATHS: [(&str, Component, Skip); 22] = [
    ("input", BlockInput, Skip::Same),
    ("output", BlockOutput, Skip::Input),
    ("ln_1.input", BlockInput, Skip::Same),
    ("ln_1.output", AttentionInput, Skip::Unlike),
    ("attn.input", AttentionInput, Skip::Same),
    ("attn.output", AttentionOutput, Skip::Unlike),
    ("attn.c_attn.input", AttentionInput, Skip::Same),
    ("attn.c_proj.input", AttentionValueOutput, Skip::Same),
    ("attn.c_proj.output", AttentionOutput, Skip::Unlike),
    ("attn.resid_dropout.input", AttentionOutput, Skip::Same),
    ("attn.resid_dropout.output", AttentionOutput, Skip::Same),
    ("ln_2.input", BlockMid, Skip::Same),
    ("ln_2.output", MlpInput, Skip::Unlike),
    ("mlp.input", MlpInput, Skip::Same),
    ("mlp.c_fc.input", MlpInput, Skip::Same),
    ("mlp.c_fc.output", MlpPre, Skip::Unlike),
    ("mlp.act.input", MlpPre, Skip::Same),
    ("mlp.act.output", MlpActivation, Skip::Input),
    ("mlp.c_proj.input", MlpActivation, Skip::Same),
    ("mlp.c_proj.output", MlpOutput, Skip::Unlike),
    ("mlp.dropout.output", MlpOutput, Skip::Same),
    ("mlp.output", MlpOutput, Skip::Input),
];

/// Paths outside the layers, and the layer that they are of.
const OUTSIDE: [(&str, Component, Option<usize>); 4] = [
    ("wte.output", TokenEmbedding, None),
    ("wpe.output", PositionEmbedding, None),
    ("drop.output", BlockInput, Some(0)),
    ("ln_f.output", FinalOutput, None),
];

/// The place that a component's name or path, a layer and a unit mean.
///
/// # Errors
///
/// A sentence: what cannot be mapped, and what can.
pub fn place(component: &str, layer: Option<usize>, unit: &str) -> Result<UnitPlace, String> {
    let (component, layer, hook, skip) = match component.contains('.') {
        true => path(component)?,
        false => named(component, layer)?,
    };
    let unit = units(component, unit)?;
    Ok(UnitPlace {
        component,
        layer,
        unit,
        hook,
        skip,
    })
}

type Found = (Component, Option<usize>, String, Skip);

fn named(name: &str, layer: Option<usize>) -> Result<Found, String> {
    let Some((component, side, skip)) = NAMED.iter().find(|(c, ..)| c.name() == name) else {
        return Err(format!(
            "{} is no component of pyvene's GPT-2: only GPT-2's can be imported",
            quoted(name)
        ));
    };
    let Some(layer) = layer else {
        return Err(format!(
            "{name} needs a layer: give it as an integer from 0"
        ));
    };
    Ok((*component, Some(layer), format!("{layer}.{side}"), *skip))
}

fn path(path: &str) -> Result<Found, String> {
    let inner = path.strip_prefix("transformer.").unwrap_or(path);
    let unknown = || {
        format!(
            "{} is no module path whose value has a name here: use a component's name such as \
             block_output, or the path of a GPT-2 module with .input or .output behind it",
            quoted(path)
        )
    };
    if let Some((side, component, layer)) = OUTSIDE.iter().find(|(side, ..)| *side == inner) {
        return Ok((*component, *layer, (*side).to_owned(), Skip::Unlike));
    }
    let (layer, side) = inner
        .strip_prefix("h[")
        .and_then(|rest| rest.split_once("]."))
        .ok_or_else(unknown)?;
    let plain = !layer.is_empty() && layer.bytes().all(|b| b.is_ascii_digit());
    let layer: usize = layer.parse().ok().filter(|_| plain).ok_or_else(unknown)?;
    let (side, component, skip) = PATHS
        .iter()
        .find(|(known, ..)| *known == side)
        .ok_or_else(unknown)?;
    Ok((*component, Some(layer), format!("{layer}.{side}"), *skip))
}

fn units(component: Component, unit: &str) -> Result<Unit, String> {
    let name = component.name();
    match (unit, component) {
        // the pattern's second dimension is heads, whatever the unit is called
        ("pos", AttentionWeight) => Ok(Unit::Heads),
        ("h", _) if component.has_heads() && component != AttentionWeight => Ok(Unit::Heads),
        ("h.pos", _) if component.has_heads() && component != AttentionWeight => {
            Ok(Unit::HeadsPositions)
        }
        ("pos", _) if !component.has_heads() => Ok(Unit::Positions),
        ("pos", _) => Err(format!(
            "unit pos counts heads at {name}, and writes what it reads elsewhere: use unit h.pos"
        )),
        ("h" | "h.pos", AttentionWeight) => Err(format!(
            "unit {unit} fails at {name} in pyvene itself: use unit pos, which counts heads there"
        )),
        ("h" | "h.pos", _) => Err(format!(
            "unit {unit} counts positions as heads at {name}: use unit pos, or a head component such as \
             head_value_output"
        )),
        _ => Err(format!(
            "unit {} is none of GPT-2's: use pos, h or h.pos",
            quoted(unit)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_sites() {
        let block = place("block_output", Some(3), "pos").unwrap();
        assert_eq!(
            (block.component, block.layer, block.unit),
            (BlockOutput, Some(3), Unit::Positions)
        );
        let path = place("transformer.h[3].output", Some(0), "pos").unwrap();
        assert_eq!(path, block);
        assert_eq!(place("h[3].output", None, "pos").unwrap(), block);
        let pattern = place("attention_weight", Some(1), "pos").unwrap();
        assert_eq!(pattern.unit, Unit::Heads);
        for (component, unit, needle) in [
            ("head_value_output", "pos", "h.pos"),
            ("block_output", "h.pos", "use unit pos"),
            ("attention_weight", "h.pos", "use unit pos"),
            ("block_output", "t", "`t`"),
            ("gate_output", "pos", "`gate_output`"),
            ("model.layers[3].output", "pos", "module path"),
            ("h[+3].output", "pos", "module path"),
            ("h[3].attn.c_attn.output", "pos", "module path"),
            ("lm_head.output", "pos", "module path"),
        ] {
            let error = place(component, Some(1), unit).unwrap_err();
            assert!(error.contains(needle), "{component} {unit}: {error}");
        }
    }
}
