//! Random prompt pairs and patches.

use headlight::check::check_run;
use headlight::model::Config;
use headlight::patch::{MeanOver, Op, Origin, Patch, Prompt, Run, Vector};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::site::{Component, Stage};
use proptest::prelude::*;

use super::Random;
use super::subspaces::{Subspace, subspace};

#[derive(Debug, Clone)]
pub struct PairSpec {
    pub length: usize,
    /// Tokens that base and source share at the start; all of both where it is 255.
    pub shared: u8,
    /// What the source is longer (or shorter) by.
    pub longer: i8,
    /// Which positions are read: bit p for position p (folded into the prompt); 0 is the last.
    pub readouts: u8,
    pub seed: u64,
}

/// Pairs with prompts of at most `longest` tokens.
pub fn pair(longest: usize) -> impl Strategy<Value = PairSpec> {
    let shared = prop_oneof![1 => Just(255u8), 4 => Just(0u8), 4 => 0u8..8];
    let longer = prop_oneof![4 => Just(0i8), 1 => -3i8..4];
    let readouts = prop_oneof![2 => Just(0u8), 3 => any::<u8>()];
    (1..=longest, shared, longer, readouts, any::<u64>()).prop_map(
        |(length, shared, longer, readouts, seed)| PairSpec {
            length,
            shared,
            longer,
            readouts,
            seed,
        },
    )
}

impl PairSpec {
    pub fn resolve(&self, config: &Config) -> Pair {
        let mut random = Random(self.seed);
        let mut token = || random.below(config.vocab) as u32;
        let length = self.length.min(config.context);
        let base: Vec<u32> = (0..length).map(|_| token()).collect();
        let source = if self.shared == 255 {
            base.clone()
        } else {
            let longer = length
                .saturating_add_signed(self.longer.into())
                .clamp(1, config.context);
            // from the shared start on every token differs, or has a different one before it
            let differ = |p: usize| {
                if p == usize::from(self.shared) {
                    (base[p] + 1) % config.vocab as u32
                } else {
                    token()
                }
            };
            let shared = usize::from(self.shared).min(length).min(longer);
            let rest: Vec<u32> = if shared < length {
                (shared..longer).map(differ).collect()
            } else {
                (shared..longer).map(|_| 0).collect()
            };
            base[..shared].iter().copied().chain(rest).collect()
        };
        // spread over the prompt, and not always with the last one
        let mut readouts: Vec<usize> = (0..8)
            .filter(|i| self.readouts >> i & 1 == 1)
            .map(|i| i * length.div_ceil(8) % length)
            .collect();
        readouts.sort_unstable();
        readouts.dedup();
        let targets = (0..config.vocab as u32).collect();
        Pair {
            base,
            source: Some(source),
            targets,
            wrong: Vec::new(),
            readouts,
            ..Pair::default()
        }
    }
}

/// A patch as numbers to be folded into a model and a pair.
#[derive(Debug, Clone)]
pub struct PatchSpec {
    pub component: usize,
    pub layer: usize,
    /// Bit h for head h; all heads where none is left.
    pub heads: u8,
    pub positions: Places,
    pub keys: Option<(usize, usize)>,
    pub op: OpSpec,
    pub subspace: Subspace,
    pub base: bool,
    pub source_layer: Option<usize>,
    pub source_heads: Option<usize>,
    pub source_positions: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub enum Places {
    All,
    One(usize),
    Two(usize, usize),
    From(usize),
}

#[derive(Debug, Clone, Copy)]
pub enum OpSpec {
    Interchange,
    Zero,
    Fill(f64),
    Set(u64),
    Mean(u64),
    Add,
    AddVector(u64),
    Subtract,
    SubtractVector(u64),
    Scale(f64),
    Interpolate(f64),
    Noise(f64, u32),
}

fn op() -> impl Strategy<Value = OpSpec> {
    prop_oneof![
        8 => Just(OpSpec::Interchange),
        1 => Just(OpSpec::Zero),
        1 => prop_oneof![Just(0.75), Just(2.0)].prop_map(OpSpec::Fill),
        1 => any::<u64>().prop_map(OpSpec::Set),
        1 => any::<u64>().prop_map(OpSpec::Mean),
        1 => Just(OpSpec::Add),
        1 => any::<u64>().prop_map(OpSpec::AddVector),
        1 => Just(OpSpec::Subtract),
        1 => any::<u64>().prop_map(OpSpec::SubtractVector),
        1 => prop_oneof![Just(1.0), Just(0.5), Just(-1.5)].prop_map(OpSpec::Scale),
        2 => prop_oneof![Just(0.0), Just(-0.0), Just(1.0), Just(0.3), Just(2.0)].prop_map(OpSpec::Interpolate),
        1 => (prop_oneof![Just(0.0), Just(0.5)], 0u32..2).prop_map(|(level, sample)| OpSpec::Noise(level, sample)),
    ]
}

fn places() -> impl Strategy<Value = Places> {
    prop_oneof![
        2 => Just(Places::All),
        3 => any::<usize>().prop_map(Places::One),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Places::Two(a, b)),
        2 => any::<usize>().prop_map(Places::From),
    ]
}

pub fn patch() -> impl Strategy<Value = PatchSpec> {
    let component = prop_oneof![
        3 => 0..Component::all().count(),
        // what freezes are made of
        1 => prop_oneof![
            Just(Component::AttentionInput),
            Just(Component::QueryOutput),
            Just(Component::HeadKeyOutput),
            Just(Component::HeadValueOutput),
            Just(Component::HeadAttentionValueOutput),
            Just(Component::AttentionOutput),
            Just(Component::BlockMid),
            Just(Component::MlpOutput),
            Just(Component::BlockOutput),
        ].prop_map(|c| c as usize),
    ];
    // few layers, so that patches meet
    let place = (
        component,
        0usize..4,
        prop_oneof![Just(0u8), any::<u8>()],
        places(),
    );
    let keys = proptest::option::weighted(0.4, (any::<usize>(), any::<usize>()));
    let rare = || proptest::option::weighted(0.15, any::<usize>());
    let source = (proptest::bool::weighted(0.4), rare(), rare(), rare());
    (place, keys, (op(), subspace()), source).prop_map(
        |(
            (component, layer, heads, positions),
            keys,
            (op, subspace),
            (base, source_layer, source_heads, source_positions),
        )| {
            PatchSpec {
                component,
                layer,
                heads,
                positions,
                keys,
                op,
                subspace,
                base,
                source_layer,
                source_heads,
                source_positions,
            }
        },
    )
}

/// Runs of one to five patches.
pub fn runs(most: usize) -> impl Strategy<Value = Vec<Vec<PatchSpec>>> {
    proptest::collection::vec(proptest::collection::vec(patch(), 1..=5), 1..=most)
}

/// A constant of one row or, one time in three, of a row for each position.
pub fn vector(seed: u64, length: usize, positions: usize) -> Vector {
    let mut random = Random(seed);
    let rows = if seed.is_multiple_of(3) { positions } else { 1 };
    Vector {
        label: format!("v{seed}x{length}"),
        values: (0..rows * length).map(|_| random.normal()).collect(),
        rows,
    }
}

/// A list without what it has already had, in its order.
pub fn distinct(list: Vec<usize>) -> Vec<usize> {
    let fresh = |(i, x): &(usize, &usize)| !list[..*i].contains(x);
    list.iter()
        .enumerate()
        .filter(fresh)
        .map(|(_, x)| *x)
        .collect()
}

impl PatchSpec {
    pub fn resolve(&self, pair: &Pair, config: &Config) -> Patch {
        let component = Component::all().nth(self.component).unwrap();
        let keyed = component.has_keys();
        let length = pair.base.len();
        let source_length = pair.source.as_ref().map_or(0, Vec::len);
        let origin = if self.base || source_length == 0 {
            Origin::Clean(Prompt::Base)
        } else {
            Origin::Clean(Prompt::Source)
        };
        let read = if origin == Origin::Clean(Prompt::Base) {
            length
        } else {
            source_length
        };
        // rows of attention are read from the same position
        let length = if keyed { length.min(read) } else { length };
        let positions: Vec<usize> = match self.positions {
            Places::All => (0..length).collect(),
            Places::One(p) => vec![p % length],
            Places::Two(p, q) => distinct(vec![p % length, q % length]),
            Places::From(p) => (p % length..length).collect(),
        };
        let heads: Vec<usize> = (0..config.heads)
            .filter(|h| self.heads >> h & 1 == 1)
            .collect();
        let heads = match (component.has_heads(), heads.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => (0..config.heads).collect(),
            (true, false) => heads,
        };
        let columns = headlight::site::columns(component, config);
        let op = match self.op {
            OpSpec::Interchange => Op::Interchange,
            OpSpec::Set(_) | OpSpec::Mean(_) | OpSpec::AddVector(_) | OpSpec::SubtractVector(_)
                if keyed =>
            {
                Op::Zero
            }
            // what no z need give is refused
            OpSpec::Fill(_)
            | OpSpec::Set(_)
            | OpSpec::AddVector(_)
            | OpSpec::SubtractVector(_)
            | OpSpec::Noise(..)
                if component.is_made_of_z() =>
            {
                Op::Interchange
            }
            OpSpec::Zero if component.stage() == Stage::LnFScale => Op::Scale(0.5), // not NaN alone
            OpSpec::Zero => Op::Zero,
            OpSpec::Fill(x) => Op::Fill(x),
            OpSpec::Set(seed) if component.has_heads() && seed % 2 == 0 => {
                Op::Set(vector(seed, config.width, positions.len()))
            }
            OpSpec::Set(seed) => Op::Set(vector(seed, columns, positions.len())),
            OpSpec::Mean(seed) => {
                let mut random = Random(seed);
                let prompt = |random: &mut Random| -> Vec<u32> {
                    (0..1 + random.below(4))
                        .map(|_| random.below(config.vocab) as u32)
                        .collect()
                };
                let prompts: Vec<Vec<u32>> = (0..1 + random.below(3))
                    .map(|_| prompt(&mut random))
                    .collect();
                Op::Mean(MeanOver {
                    label: format!("{prompts:?}"),
                    prompts: prompts.into(),
                    by_position: false,
                })
            }
            OpSpec::Add => Op::Add(None),
            OpSpec::AddVector(seed) => Op::Add(Some(vector(seed, columns, positions.len()))),
            OpSpec::Subtract => Op::Subtract(None),
            OpSpec::SubtractVector(seed) => {
                Op::Subtract(Some(vector(seed, columns, positions.len())))
            }
            OpSpec::Scale(x) => Op::Scale(x),
            OpSpec::Interpolate(alpha) => Op::Interpolate(alpha),
            OpSpec::Noise(level, sample) => Op::Noise {
                level,
                seed: 7,
                sample,
            },
        };
        let source_positions = match self.source_positions {
            _ if keyed => None,
            None if positions.iter().all(|p| *p < read) => None,
            shift => Some(
                positions
                    .iter()
                    .map(|p| p.wrapping_add(shift.unwrap_or(0)) % read)
                    .collect(),
            ),
        };
        let turn = |turn: usize| {
            heads
                .iter()
                .map(|h| h.wrapping_add(turn) % config.heads)
                .collect::<Vec<_>>()
        };
        let layers = (!component.is_global()).then_some(config.layers);
        let patch = Patch {
            component,
            layer: layers.map(|n| self.layer % n),
            positions,
            keys: self
                .keys
                .filter(|_| keyed)
                .map(|(a, b)| distinct(vec![a % length, b % length, 0])),
            columns: None,
            basis: None,
            op,
            origin,
            source_component: None,
            source_layer: layers.and_then(|n| self.source_layer.map(|l| l % n)),
            source_heads: self
                .source_heads
                .filter(|_| component.has_heads())
                .map(turn),
            source_positions,
            heads,
        };
        // keys beyond every query are refused
        let last = patch.positions.iter().copied().max().unwrap_or(0);
        let keys = patch
            .keys
            .map(|keys| keys.into_iter().filter(|k| *k <= last).collect());
        let patch = Patch { keys, ..patch };
        let patch = match component.is_made_of_z() {
            true => patch,
            false => self.subspace.of(patch, columns, true),
        };
        check_run(&run_of(vec![patch.clone()]), &[], pair, config).unwrap();
        patch
    }
}

/// A run without a name.
pub fn run_of(patches: Vec<Patch>) -> Run {
    Run {
        patches,
        ..Run::default()
    }
}

/// An interchange in a layer and at heads, where the component has them.
pub fn interchange(
    component: Component,
    layer: usize,
    heads: &[usize],
    positions: impl IntoIterator<Item = usize>,
) -> Patch {
    let heads = match component.has_heads() {
        true => heads.to_vec(),
        false => Vec::new(),
    };
    let layer = (!component.is_global()).then_some(layer);
    Patch::interchange(component, layer, heads, positions.into_iter().collect())
}

/// The same with the base's own values.
pub fn freeze(patch: Patch) -> Patch {
    Patch {
        origin: Origin::Clean(Prompt::Base),
        ..patch
    }
}

pub fn resolve(pair: &PairSpec, runs: &[Vec<PatchSpec>], config: &Config) -> PairRuns {
    let pair = pair.resolve(config);
    let run = |patches: &Vec<PatchSpec>| {
        run_of(patches.iter().map(|p| p.resolve(&pair, config)).collect())
    };
    let runs = runs.iter().map(run).collect();
    PairRuns { pair, runs }
}
