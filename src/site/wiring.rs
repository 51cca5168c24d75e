//! GPT-2, stated once: the operations that it is made of, in the order of computation.
//!
//! An operation reads stages, its rows pass others on their way, and it gives one. Whatever has to
//! know how stages hang together goes through these lists: the two passes that draw a light cone, the
//! tables of a chunk, the buffers, what a run costs, and the forward pass, which runs them. So a kind
//! of operation is added in [`OperationKind`] and wherever a kind is matched, and an order of operations here.
//!
//! The order is that of Radford et al. 2019 as Hugging Face implements it (`modeling_gpt2.py`,
//! `GPT2Block.forward`): x += attention(ln_1(x)); x += mlp(ln_2(x)); then ln_f. The unembedding reads
//! what the last operation gives, at the rows that are read out.

use super::Stage;
use super::Stage as S;

/// Which row table an embedding reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedding {
    /// wte, indexed by token id.
    Token,
    /// wpe, indexed by position.
    Position,
}

/// A layer norm's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// ln_1 of a layer.
    Ln1(usize),
    /// ln_2 of a layer.
    Ln2(usize),
    /// The final layer norm.
    LnF,
}

/// A linear layer's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The query third of c_attn: D → D.
    Query(usize),
    /// The key third of c_attn: D → D.
    Key(usize),
    /// The value third of c_attn: D → D.
    Value(usize),
    /// The attention's c_proj: D → D.
    AttentionOutput(usize),
    /// c_fc: D → I.
    MlpPre(usize),
    /// The MLP's c_proj: I → D.
    MlpOutput(usize),
}

/// What an operation does with the rows that it reads. Weights are those of a layer.
#[derive(Debug, Clone, Copy)]
pub enum OperationKind {
    /// Rows of a table.
    Embed(Embedding),
    /// A layer norm, whose rows pass its scale and its normalised row.
    Norm(fn(usize) -> Norm),
    /// A linear layer. What it gives may go straight into the [`OperationKind::Activate`] or [`OperationKind::Add`]
    /// that follows it.
    Linear(fn(usize) -> Weight),
    /// Attention over every head: of queries, keys and values, in this order. Its rows pass the scores
    /// and the pattern.
    Attend,
    /// The checkpoint's activation function.
    Activate,
    /// The sum of the residual stream and a branch, in this order.
    Add,
}

impl OperationKind {
    /// Whether rows are computed wherever they are needed, since the clean ones are as cheap as a copy
    /// and need not be kept. Rows of other kinds are computed where they differ from the clean run's.
    pub const fn computes_clean_rows(self) -> bool {
        matches!(self, Self::Embed(_) | Self::Norm(_))
    }
}

/// Which rows of a stage a row of an operation sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// The row of its own position.
    Own,
    /// Every row up to its own position.
    UpTo,
}

/// A stage that an operation reads.
#[derive(Debug, Clone, Copy)]
pub struct Input {
    /// The stage.
    pub stage: Stage,
    /// Which rows of it.
    pub sees: Sees,
    /// The stage that it enters, if that is not the first one that rows pass.
    pub at: Option<Stage>,
}

const fn own(stage: Stage) -> Input {
    Input {
        stage,
        sees: Sees::Own,
        at: None,
    }
}

const fn up_to(stage: Stage, at: Stage) -> Input {
    Input {
        stage,
        sees: Sees::UpTo,
        at: Some(at),
    }
}

/// A copy of the residual stream that one operation alone reads.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// The stage at which the copy is patched.
    pub stage: Stage,
    /// What is copied.
    pub of: Stage,
}

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// What it does.
    pub kind: OperationKind,
    /// What it reads.
    pub reads: &'static [Input],
    /// A copy that it reads instead where somebody patches it. A layer norm reads the copy whole; of a
    /// linear layer single heads do, each a copy of its own, through the norm before.
    pub copy: Option<Copied>,
    /// Stages that its rows pass on the way, in order.
    pub passes: &'static [Stage],
    /// The stage that it gives.
    pub gives: Stage,
    /// The stage of the next layer that the same rows are, patched once more.
    pub enters: Option<Stage>,
}

impl Operation {
    const fn new(kind: OperationKind, reads: &'static [Input], gives: Stage) -> Self {
        Self {
            kind,
            reads,
            copy: None,
            passes: &[],
            gives,
            enters: None,
        }
    }

    const fn passing(mut self, passes: &'static [Stage]) -> Self {
        self.passes = passes;
        self
    }

    const fn copying(mut self, stage: Stage, of: Stage) -> Self {
        self.copy = Some(Copied { stage, of });
        self
    }

    const fn entering(mut self, stage: Stage) -> Self {
        self.enters = Some(stage);
        self
    }

    /// The copy that all of it reads.
    pub const fn whole_copy(&self) -> Option<Copied> {
        match self.kind {
            OperationKind::Linear(_) => None,
            _ => self.copy,
        }
    }

    /// The copy that single heads read.
    pub const fn head_copy(&self) -> Option<Copied> {
        match self.kind {
            OperationKind::Linear(_) => self.copy,
            _ => None,
        }
    }

    /// Stages with no buffer that outlives the operation: they are there for computed rows alone.
    pub fn inner(&self) -> impl Iterator<Item = Stage> + use<> {
        let copy = self.whole_copy().map(|copy| copy.stage);
        copy.into_iter().chain(self.passes.iter().copied())
    }

    /// Every stage that its rows pass in a layer, in order, what it gives and enters included.
    pub fn stages(&self, layer: usize) -> impl Iterator<Item = (Stage, usize)> + use<> {
        let inner = self.inner().chain([self.gives]);
        let next = self.enters.map(|stage| (stage, layer + 1));
        inner.map(move |stage| (stage, layer)).chain(next)
    }
}

/// The embedding.
#[rustfmt::skip]
const EMBEDDING: &[Operation] = &[
    Operation::new(OperationKind::Embed(Embedding::Token), &[], S::TokenEmbedding),
    Operation::new(OperationKind::Embed(Embedding::Position), &[], S::PositionEmbedding),
    Operation::new(OperationKind::Add, &[own(S::TokenEmbedding), own(S::PositionEmbedding)], S::BlockInput),
];

/// One layer.
#[rustfmt::skip]
const LAYER: &[Operation] = &[
    Operation::new(OperationKind::Norm(Norm::Ln1), &[own(S::BlockInput)], S::AttentionInput)
        .passing(&[S::Ln1Scale, S::Ln1Normalized]),
    Operation::new(OperationKind::Linear(Weight::Query), &[own(S::AttentionInput)], S::Query)
        .copying(S::QueryInput, S::BlockInput),
    Operation::new(OperationKind::Linear(Weight::Key), &[own(S::AttentionInput)], S::Key)
        .copying(S::KeyInput, S::BlockInput),
    Operation::new(OperationKind::Linear(Weight::Value), &[own(S::AttentionInput)], S::Value)
        .copying(S::ValueInput, S::BlockInput),
    Operation::new(OperationKind::Attend, &[own(S::Query), up_to(S::Key, S::Scores), up_to(S::Value, S::Z)], S::Z)
        .passing(&[S::Scores, S::Pattern]),
    Operation::new(OperationKind::Linear(Weight::AttentionOutput), &[own(S::Z)], S::AttentionOutput),
    Operation::new(OperationKind::Add, &[own(S::BlockInput), own(S::AttentionOutput)], S::BlockMid),
    Operation::new(OperationKind::Norm(Norm::Ln2), &[own(S::BlockMid)], S::MlpInput)
        .copying(S::MlpResidualInput, S::BlockMid)
        .passing(&[S::Ln2Scale, S::Ln2Normalized]),
    Operation::new(OperationKind::Linear(Weight::MlpPre), &[own(S::MlpInput)], S::MlpPre),
    Operation::new(OperationKind::Activate, &[own(S::MlpPre)], S::MlpActivation),
    Operation::new(OperationKind::Linear(Weight::MlpOutput), &[own(S::MlpActivation)], S::MlpOutput),
    Operation::new(OperationKind::Add, &[own(S::BlockMid), own(S::MlpOutput)], S::BlockOutput)
        .entering(S::BlockInput),
];

/// The final layer norm.
#[rustfmt::skip]
const FINAL: &[Operation] = &[
    Operation::new(OperationKind::Norm(|_| Norm::LnF), &[own(S::BlockInput)], S::FinalOutput)
        .passing(&[S::LnFScale, S::LnFNormalized]),
];

/// The stage that carries rows from one part of a pass to the next.
pub const STREAM: Stage = S::BlockInput;

/// The stage that is read out.
pub const READ_OUT: Stage = S::FinalOutput;

/// The operations of a part of a pass through so many layers: the embedding is part 0, layer l part
/// l + 1, and the final layer norm the last.
pub fn ops(part: usize, layers: usize) -> &'static [Operation] {
    match part {
        0 => EMBEDDING,
        _ if part <= layers => LAYER,
        _ => FINAL,
    }
}

/// Which of its inputs the operation after this one takes straight from it where nobody touches what
/// stands between, so that the two are one.
pub fn fuses(ops: &[Operation], i: usize) -> Option<usize> {
    let next = ops.get(i + 1)?;
    let fit = matches!(ops[i].kind, OperationKind::Linear(_))
        && matches!(next.kind, OperationKind::Activate | OperationKind::Add);
    let input = next
        .reads
        .iter()
        .position(|input| input.stage == ops[i].gives);
    input.filter(|_| fit)
}

/// The layer in which the stages of a part are named: 0 for the embedding, the number of layers for
/// the final layer norm.
pub const fn layer(part: usize) -> usize {
    part.saturating_sub(1)
}

/// What is known of a stage by its place in the lists.
#[derive(Clone, Copy)]
struct Known {
    /// The list in which it stands: the embedding's, a layer's, the final layer norm's.
    list: usize,
    /// Whether it has no buffer that outlives its operation: it is passed, or copied whole.
    inner: bool,
    /// Index of the operation that passes, copies or gives it, in its list.
    op: usize,
    /// Index of the operation whose result enters the next layer as it.
    entered: Option<usize>,
    /// What holds its clean value: itself, or what it is a copy of, or the next layer's.
    kept: (Stage, usize),
}

static KNOWN: [Known; Stage::COUNT] = known();

const fn known() -> [Known; Stage::COUNT] {
    let nothing = Known {
        list: 0,
        inner: false,
        op: usize::MAX,
        entered: None,
        kept: (STREAM, 0),
    };
    let mut known = [nothing; Stage::COUNT];
    let lists = [EMBEDDING, LAYER, FINAL];
    let mut list = 0;
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            let op = &lists[list][i];
            let here = Known {
                list,
                op: i,
                ..nothing
            };
            let mut pass = 0;
            while pass < op.passes.len() {
                let stage = op.passes[pass];
                known[stage as usize] = Known {
                    kept: (stage, 0),
                    inner: true,
                    ..here
                };
                pass += 1;
            }
            if let Some(copy) = op.copy {
                let inner = op.whole_copy().is_some();
                known[copy.stage as usize] = Known {
                    kept: (copy.of, 0),
                    inner,
                    ..here
                };
            }
            known[op.gives as usize] = Known {
                kept: (op.gives, 0),
                ..here
            };
            if let Some(next) = op.enters {
                known[op.gives as usize].kept = (next, 1);
                known[next as usize].entered = Some(i);
            }
            i += 1;
        }
        list += 1;
    }
    known
}

/// The part in which a stage of a layer is computed and patched, and the operation in it.
pub fn find(stage: Stage, layer: usize) -> (usize, usize) {
    let known = KNOWN[stage as usize];
    match known.entered {
        // what enters a layer is the end of the one before
        Some(op) if layer > 0 => (layer, op),
        _ if known.list == 0 => (0, known.op),
        _ => (layer + 1, known.op),
    }
}

/// Whether a stage has no buffer that outlives its operation, and so is there for computed rows alone.
pub fn is_inner(stage: Stage) -> bool {
    KNOWN[stage as usize].inner
}

/// Whether a stage stands behind the last layer.
pub fn is_final(stage: Stage) -> bool {
    KNOWN[stage as usize].list == 2
}

/// The stage and layer under which a cache keeps a stage's clean value: a copy of the residual stream
/// is the residual stream itself, and a layer's output the next one's input.
pub fn kept(stage: Stage, layer: usize) -> (Stage, usize) {
    let (stage, later) = KNOWN[stage as usize].kept;
    (stage, layer + later)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage once, in the order in which a pass through two layers comes to them.
    #[test]
    fn the_lists_have_every_stage_in_the_order_of_computation() {
        let mut order = Vec::new();
        for part in 0..4 {
            for (i, op) in ops(part, 2).iter().enumerate() {
                let heads = op.head_copy().map(|copy| (copy.stage, layer(part)));
                for (stage, layer) in heads.into_iter().chain(op.stages(layer(part))) {
                    assert_eq!(find(stage, layer), (part, i), "{stage:?} {layer}");
                    order.push((layer, stage));
                }
            }
        }
        assert!(order.is_sorted());
        let of = |layer: usize| order.iter().filter(move |(l, _)| *l == layer).count();
        // two embeddings and what enters; BlockInput alone of what does not stand in a layer
        let in_layer = Stage::COUNT - 5;
        assert_eq!([of(0), of(1), of(2)], [in_layer + 2, in_layer, 1 + 3]);
    }

    /// What an operation reads stands before it, and nothing reads a branch or an inner row twice: what
    /// is fused is seen by nobody else.
    #[test]
    fn operations_read_what_stands() {
        for part in 0..3 {
            let ops = ops(part, 1);
            for (i, op) in ops.iter().enumerate() {
                for input in op.reads {
                    let gives = ops[..i].iter().any(|before| before.gives == input.stage);
                    assert!(gives || input.stage == STREAM, "{:?}", op.gives);
                }
                let readers = ops.iter().flat_map(|op| op.reads);
                let readers = readers.filter(|input| input.stage == op.gives).count();
                if fuses(ops, i).is_some() {
                    assert_eq!(readers, 1, "{:?}", op.gives);
                }
            }
        }
        let fused = (0..LAYER.len()).filter(|i| fuses(LAYER, *i).is_some());
        let fused: Vec<Stage> = fused.map(|i| LAYER[i].gives).collect();
        assert_eq!(fused, [S::AttentionOutput, S::MlpPre, S::MlpOutput]);
    }

    #[test]
    fn copies_are_kept_as_what_they_copy() {
        for (stage, place) in [
            (S::QueryInput, (S::BlockInput, 3)),
            (S::ValueInput, (S::BlockInput, 3)),
            (S::MlpResidualInput, (S::BlockMid, 3)),
            (S::BlockOutput, (S::BlockInput, 4)),
            (S::BlockInput, (S::BlockInput, 3)),
            (S::Pattern, (S::Pattern, 3)),
            (S::FinalOutput, (S::FinalOutput, 3)),
        ] {
            assert_eq!(kept(stage, 3), place, "{stage:?}");
        }
    }
}
