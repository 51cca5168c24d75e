//! A pair as a program writes it: prompts and answers as text, and patches that are checked where they are
//! built.

use std::ops::Deref;
use std::sync::Arc;

use super::{Engine, Pairs};
use crate::ask::preset::together;
use crate::basis::Basis;
use crate::check::check_run;
use crate::error::Error;
use crate::patch::{Op, Origin, Patch, Prompt, Run};
use crate::prompt::pair::{Pair, PairRuns};
use crate::prompt::position::Position;
use crate::site::Site;

/// A pair of one model, with what is asked of it.
#[derive(Clone)]
pub struct PairBuilder<'e> {
    engine: &'e Engine,
    pair: Pair,
}

/// A patch of one pair in the making: [`PatchBuilder::at`] says where it acts and has it checked. It is an
/// interchange with the source at the same place unless said.
#[derive(Clone)]
#[must_use = "nothing is patched before `at` says where"]
pub struct PatchBuilder<'p> {
    engine: &'p Engine,
    pair: &'p Pair,
    patch: Patch,
}

impl Engine {
    /// Two prompts: the base, which is patched, and the source, of which activations are taken.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] for text that the tokenizer does not encode.
    pub fn pair(&self, base: &str, source: &str) -> Result<PairBuilder<'_>, Error> {
        Ok(self.pair_of(Pair::encode(&self.model, base, source, &[])?))
    }

    /// What is asked of the demo model where nobody gives prompts, without targets.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for another model, of which nothing is asked unsaid.
    pub fn reference(&self) -> Result<Pair, Error> {
        if self.model.name != "demo" {
            return Err(Error::Usage(
                "no prompts: give --base and --source, or --data".into(),
            ));
        }
        let [base, source] = ["The capital of Spain is", "The capital of Italy is"];
        Ok(Pair::encode(&self.model, base, source, &[])?)
    }

    /// A pair that is there already, such as one of token ids.
    pub fn pair_of(&self, pair: Pair) -> PairBuilder<'_> {
        PairBuilder { engine: self, pair }
    }
}

impl PairBuilder<'_> {
    /// Reads out one more target, a text of one token.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] for text that the tokenizer has no single token for.
    pub fn target(mut self, text: &str) -> Result<Self, Error> {
        let id = self.engine.model.text()?.target(text)?;
        self.pair.targets.push(id);
        Ok(self)
    }

    /// Holds one more wrong answer against the targets.
    ///
    /// # Errors
    ///
    /// As [`PairBuilder::target`].
    pub fn wrong(mut self, text: &str) -> Result<Self, Error> {
        let id = self.engine.model.text()?.target(text)?;
        self.pair.wrong.push(id);
        Ok(self)
    }

    /// A patch at a site, by a name that `--component` takes with its layer: `head_value_output.0` or
    /// `blocks.0.attn.hook_v`.
    ///
    /// # Errors
    ///
    /// [`Error::Component`] for a name that is none.
    pub fn patch(&self, site: &str) -> Result<PatchBuilder<'_>, Error> {
        let Site { component, layer } = site.parse()?;
        Ok(PatchBuilder {
            engine: self.engine,
            pair: &self.pair,
            patch: Patch::interchange(component, layer, Vec::new(), Vec::new()),
        })
    }

    /// The pair with one run of these patches, in the order in which overlapping ones act.
    pub fn run(self, patches: impl IntoIterator<Item = Patch>) -> PairRuns {
        self.runs([patches.into_iter().collect()])
    }

    /// The pair with runs.
    pub fn runs(self, runs: impl Into<Arc<[Run]>>) -> PairRuns {
        PairRuns {
            pair: self.pair,
            runs: runs.into(),
        }
    }
}

impl Deref for PairBuilder<'_> {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.pair
    }
}

impl From<PairBuilder<'_>> for Pair {
    fn from(builder: PairBuilder<'_>) -> Self {
        builder.pair
    }
}

impl From<PairBuilder<'_>> for Pairs {
    fn from(builder: PairBuilder<'_>) -> Self {
        builder.pair.into()
    }
}

impl PatchBuilder<'_> {
    /// At one more head, from 0. A site with heads needs some.
    pub fn head(mut self, head: usize) -> Self {
        self.patch.heads.push(head);
        self
    }

    /// Does this instead.
    pub fn op(mut self, op: Op) -> Self {
        self.patch.op = op;
        self
    }

    /// Reads these activations instead of the source's. Where that is another run, the pair's runs are
    /// checked together when they are asked for.
    pub fn reading(mut self, origin: Origin) -> Self {
        self.patch.origin = origin;
        self
    }

    /// Acts on these columns alone (of one head, where the site has heads), or coordinates of the basis.
    pub fn columns(mut self, columns: impl Into<Vec<usize>>) -> Self {
        self.patch.columns = Some(columns.into());
        self
    }

    /// Acts in these coordinates.
    pub fn basis(mut self, basis: Arc<Basis>) -> Self {
        self.patch.basis = Some(basis);
        self
    }

    /// Of scores or a pattern, touches these keys alone.
    pub fn keys(mut self, keys: impl Into<Vec<usize>>) -> Self {
        self.patch.keys = Some(keys.into());
        self
    }

    /// The patch at a position of the base: a number from 0, a negative one from the end, `end`, or words of
    /// the prompt, whose tokens are patched together. Words are read where they stand in the source.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a position that the prompt has not; [`Error::Check`] for a patch that does not fit
    /// the model or the pair.
    pub fn at(self, position: impl Into<Position>) -> Result<Patch, Error> {
        self.at_all([position])
    }

    /// The patch at several positions together.
    ///
    /// # Errors
    ///
    /// As [`PatchBuilder::at`].
    pub fn at_all(
        self,
        positions: impl IntoIterator<Item = impl Into<Position>>,
    ) -> Result<Patch, Error> {
        let Self {
            engine,
            pair,
            mut patch,
        } = self;
        let positions: Vec<Position> = positions.into_iter().map(Into::into).collect();
        let of_source = patch.origin == Origin::Clean(Prompt::Source);
        let reads_source = of_source && patch.op.reads_source() && pair.source.is_some();
        let spots = engine.spots(pair, Some(&positions), reads_source)?;
        let all = together(&spots);
        patch.positions = all.positions;
        patch.source_positions = all.source_positions;
        // a run that is read is not there yet: what is read of it fits where the patch's own place does
        let mut alone: Run = [patch.clone()].into_iter().collect();
        for patch in &mut alone.patches {
            if matches!(patch.origin, Origin::Run(_)) {
                patch.origin = Origin::Clean(Prompt::Base);
            }
        }
        check_run(&alone, &[], pair, &engine.model.config)?;
        Ok(patch)
    }

    /// The patch at every position of the base together.
    ///
    /// # Errors
    ///
    /// As [`PatchBuilder::at`].
    pub fn everywhere(self) -> Result<Patch, Error> {
        let positions = 0..self.pair.base.len();
        self.at_all(positions)
    }
}
