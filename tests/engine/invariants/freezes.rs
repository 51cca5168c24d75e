//! The same of runs with freezes: of whole stages behind a patch, and of patches that meet.

use headlight::model::Checkpoint;
use headlight::patch::Run;
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::Component;
use proptest::prelude::*;

use super::common::cases;
use super::common::model::model;
use super::common::runs::{OpSpec, PatchSpec, Places, freeze, interchange, pair, patch, run_of};
use super::common::subspaces::Subspace;
use super::in_both;

/// A live patch and, later in the run, the base's own values over whole stages.
#[derive(Debug, Clone)]
struct Frozen {
    live: PatchSpec,
    /// Component, layers after the live patch's, first position, head by head or all together.
    freezes: Vec<(Component, usize, usize, bool)>,
    /// Patches among the freezes: how many layers after the live one.
    also: Vec<(PatchSpec, usize)>,
}

fn frozen() -> impl Strategy<Value = Frozen> {
    let component = prop_oneof![
        Just(Component::BlockInput),
        Just(Component::AttentionInput),
        Just(Component::AttentionQueryInput),
        Just(Component::AttentionValueInput),
        Just(Component::QueryOutput),
        Just(Component::HeadQueryOutput),
        Just(Component::KeyOutput),
        Just(Component::HeadKeyOutput),
        Just(Component::HeadValueOutput),
        Just(Component::AttentionWeight),
        Just(Component::AttentionValueOutput),
        Just(Component::HeadAttentionValueOutput),
        Just(Component::AttentionOutput),
        Just(Component::BlockMid),
        Just(Component::Ln1Normalized),
        Just(Component::MlpResidualInput),
        Just(Component::Ln2Normalized),
        Just(Component::LnFNormalized),
        Just(Component::MlpInput),
        Just(Component::MlpPre),
        Just(Component::MlpActivation),
        Just(Component::MlpOutput),
        Just(Component::BlockOutput),
        Just(Component::FinalOutput),
    ];
    let first = prop_oneof![2 => Just(0usize), 1 => 0usize..8];
    let freezes = proptest::collection::vec((component, 0usize..3, first, any::<bool>()), 1..5);
    let also = proptest::collection::vec((patch(), 0usize..3), 0..3);
    (patch(), freezes, also).prop_map(|(live, freezes, also)| Frozen {
        live,
        freezes,
        also,
    })
}

impl Frozen {
    fn resolve(&self, pair: &Pair, checkpoint: &Checkpoint) -> Run {
        let config = &checkpoint.config;
        let live = self.live.resolve(pair, config);
        let from = live.layer.unwrap_or(0);
        let mut patches = vec![live];
        for &(component, after, first, apart) in &self.freezes {
            let layer = (from + after).min(config.layers - 1);
            let positions = first % pair.base.len()..pair.base.len();
            let heads: Vec<usize> = (0..config.heads).collect();
            let over =
                |heads: &[usize]| freeze(interchange(component, layer, heads, positions.clone()));
            match apart && component.has_heads() {
                true => patches.extend(heads.iter().map(|h| over(&[*h]))),
                false => patches.push(over(&heads)),
            }
        }
        for (patch, after) in &self.also {
            let layer = (from + after).min(config.layers - 1);
            patches.push(
                PatchSpec {
                    layer,
                    ..patch.clone()
                }
                .resolve(pair, config),
            );
        }
        run_of(patches)
    }
}

/// Patches that meet: a live one somewhere, then several at neighbouring stages of one layer, all
/// at one position, and most of them freezes.
#[derive(Debug, Clone)]
struct Meeting {
    live: PatchSpec,
    /// The first of four neighbouring components.
    around: usize,
    /// Which of the four, and what is done there.
    patches: Vec<(usize, PatchSpec)>,
    layer: usize,
    position: usize,
}

fn meeting() -> impl Strategy<Value = Meeting> {
    let frozen =
        (patch(), proptest::bool::weighted(0.6)).prop_map(|(patch, frozen)| match frozen {
            true => PatchSpec {
                op: OpSpec::Interchange,
                subspace: Subspace::All,
                base: true,
                heads: 0,
                keys: None,
                source_layer: None,
                source_heads: None,
                source_positions: None,
                ..patch
            },
            false => patch,
        });
    let patches = proptest::collection::vec((0usize..4, frozen), 1..6);
    (patch(), 0usize..32, patches, 0usize..4, any::<usize>()).prop_map(
        |(live, around, patches, layer, position)| Meeting {
            live,
            around,
            patches,
            layer,
            position,
        },
    )
}

impl Meeting {
    fn resolve(&self, pair: &Pair, checkpoint: &Checkpoint) -> Run {
        let config = &checkpoint.config;
        let count = Component::all().count();
        let mut patches = vec![self.live.resolve(pair, config)];
        for (near, patch) in &self.patches {
            let component = (self.around + near).min(count - 1);
            let positions = Places::One(self.position);
            let patch = PatchSpec {
                component,
                layer: self.layer,
                positions,
                ..patch.clone()
            };
            patches.push(patch.resolve(pair, config));
        }
        run_of(patches)
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn freezes_equal_the_whole_run(spec in model(), pair in pair(7), runs in proptest::collection::vec(frozen(), 1..5)) {
        in_both(&spec, |c| {
            let pair = pair.resolve(&c.config);
            let runs = runs.iter().map(|f| f.resolve(&pair, c)).collect();
            vec![PairRuns { pair, runs }]
        })?;
    }
}

proptest! {
    #![proptest_config(cases(1024))]

    #[test]
    fn patches_that_meet_equal_the_whole_run(spec in model(), pair in pair(4), runs in proptest::collection::vec(meeting(), 1..9)) {
        in_both(&spec, |c| {
            let pair = pair.resolve(&c.config);
            let runs = runs.iter().map(|m| m.resolve(&pair, c)).collect();
            vec![PairRuns { pair, runs }]
        })?;
    }
}
