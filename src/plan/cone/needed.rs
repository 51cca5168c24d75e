//! The second pass, backward: of the rows that are dirty, those that something sees.

use super::dirty::{Dirt, Dirty, LayerDirt};
use super::{Cone, LayerCone, Rows, Wanted};
use crate::model::Config;
use crate::plan::basis_work::BasisWork;
use crate::plan::positions::Positions;
use crate::site::Stage;

/// Keeps of what is dirty the part that is needed. `seen` gives the rows that are kept at a stage.
/// Which edits are live and what is kept of them is left to whoever walked through them.
pub fn of(
    dirty: &Dirty,
    config: &Config,
    readouts: Positions,
    seen: &dyn Fn(Stage, usize) -> Positions,
) -> Cone {
    let Dirty {
        start,
        input,
        layers: dirt,
    } = dirty;
    let last = config.layers;
    let readouts = [Stage::LnFScale, Stage::LnFNormalized, Stage::FinalOutput]
        .iter()
        .fold(readouts, |n, s| n.union(&seen(*s, last)));
    let mut needed = readouts.union(&seen(Stage::BlockInput, last));
    let mut layers = Vec::with_capacity(dirt.len());
    for (i, dirt) in dirt.iter().enumerate().rev() {
        let see = |stage| seen(stage, start + i);
        let (cone, input) = layer(dirt, &needed, &see);
        layers.push(cone);
        needed = input;
    }
    layers.reverse();
    let embeddings = seen(Stage::TokenEmbedding, 0).union(&seen(Stage::PositionEmbedding, 0));
    let wanted = needed.and(&input.after).union(&embeddings);
    let input = Rows::new(wanted, &input.before, &input.replaced.minus(&embeddings));
    Cone {
        start: *start,
        input,
        layers,
        readouts,
        live: Vec::new(),
        kept: Wanted::new(),
        bases: BasisWork::default(),
    }
}

/// What a layer computes of which `needed` rows leave it, and the rows that it needs to enter.
/// `see` gives the rows of its stages that are kept.
fn layer(
    d: &LayerDirt,
    needed: &Positions,
    see: &dyn Fn(Stage) -> Positions,
) -> (LayerCone, Positions) {
    let see_any = |stages: &[Stage]| {
        stages
            .iter()
            .fold(Positions::none(), |seen, s| seen.union(&see(*s)))
    };
    let out = Rows::new(
        needed.and(&d.out.after),
        &d.mid.after.union(&d.mlp_output.after),
        &d.out.replaced,
    );

    let wanted = out
        .computed
        .and(&d.mlp_output.after)
        .union(&see(Stage::MlpOutput));
    let mlp_output = Rows::new(wanted, &d.activation.after, &d.mlp_output.replaced);
    let wanted = mlp_output
        .computed
        .and(&d.activation.after)
        .union(&see(Stage::MlpActivation));
    let mlp_activation = Rows::new(wanted, &d.pre.after, &d.activation.replaced);
    // a row that is overwritten behind ln_2 is still computed for whoever sees it before that
    let before = see_any(&[Stage::MlpInput, Stage::Ln2Normalized, Stage::Ln2Scale]);
    let wanted = mlp_activation
        .computed
        .and(&d.pre.after)
        .union(&see(Stage::MlpPre))
        .union(&before);
    let mlp_pre = Rows::new(
        wanted,
        &d.ln_2.union(&before),
        &d.pre.replaced.minus(&before),
    );

    let wanted = out
        .computed
        .union(&mlp_pre.computed)
        .and(&d.mid.after)
        .union(&see(Stage::BlockMid));
    let mid = Rows::new(
        wanted,
        &d.input.union(&d.attention_output.after),
        &d.mid.replaced,
    );
    let wanted = mid
        .computed
        .and(&d.attention_output.after)
        .union(&see(Stage::AttentionOutput));
    let attention_output = Rows::new(wanted, &d.z.after, &d.attention_output.replaced);
    // likewise a row of z whose scores or pattern somebody sees
    let before = see_any(&[Stage::Scores, Stage::Pattern]);
    let wanted = attention_output
        .computed
        .and(&d.z.after)
        .union(&see(Stage::Z))
        .union(&before);
    let z = Rows::new(
        wanted,
        &d.z.before.union(&before),
        &d.z.replaced.minus(&before),
    );

    let visible = z
        .computed
        .last()
        .map_or(Positions::none(), |p| Positions::range(0, p + 1));
    let projected = |dirt: &Dirt, used: &Positions, stage| {
        Rows::new(
            used.and(&dirt.after).union(&see(stage)),
            &d.ln_1,
            &dirt.replaced,
        )
    };
    let query = projected(&d.query, &z.computed, Stage::Query);
    let key = projected(&d.key, &visible, Stage::Key);
    let value = projected(&d.value, &visible, Stage::Value);
    let ln_1 = query
        .computed
        .union(&key.computed)
        .union(&value.computed)
        .union(&see_any(&[
            Stage::Ln1Scale,
            Stage::Ln1Normalized,
            Stage::AttentionInput,
        ]));
    let with_own_input = |(stage, position, _): &&(Stage, usize, usize)| match stage {
        Stage::QueryInput => query.all.contains(*position),
        Stage::KeyInput => key.all.contains(*position),
        _ => value.all.contains(*position),
    };
    let own: Vec<_> = d.head_inputs.iter().filter(with_own_input).collect();
    let head_inputs = own.len();
    let own: Positions = own.iter().map(|(_, position, _)| *position).collect();
    let input = ln_1
        .union(&mid.computed)
        .union(&own)
        .union(&see(Stage::BlockInput));
    let cone = LayerCone {
        ln_1,
        query,
        key,
        value,
        z,
        attention_output,
        mid,
        mlp_pre,
        mlp_activation,
        mlp_output,
        out,
        head_inputs,
    };
    (cone, input)
}
