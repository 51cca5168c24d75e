//! What decides on a question's rows, as hashes: by them a run's folder knows whether it is the same run.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Form, Question};
use crate::basis::Basis;
use crate::folder::manifest::Identity;
use crate::model::hex;
use crate::patch::{Op, Patch, Run, Vector};
use crate::prompt::pair::PairRuns;
use crate::results::metric::Metric;
use crate::results::rows::pairs_provenance;

/// Text into a hash.
struct Hashed(Sha256);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Hashed {
    fn new() -> Self {
        Self(Sha256::new())
    }

    /// Adds what a value's debugging text says; hashes take all text.
    fn say(&mut self, said: std::fmt::Arguments<'_>) {
        let _ = self.write_fmt(said);
        // what follows is not part of it
        self.0.update([0]);
    }

    fn numbers(&mut self, numbers: &[f64]) {
        self.say(format_args!("{}", numbers.len()));
        let bytes = numbers.iter().map(|x| x.to_le_bytes());
        bytes.for_each(|bytes| self.0.update(bytes));
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Hashes of what patches share, by where it stands.
#[derive(Default)]
struct Shared(HashMap<usize, String>);

impl Shared {
    fn of(&mut self, address: usize, add: impl FnOnce(&mut Hashed)) -> String {
        let hash = || {
            let mut hashed = Hashed::new();
            add(&mut hashed);
            hashed.finish()
        };
        self.0.entry(address).or_insert_with(hash).clone()
    }

    fn vector(&mut self, vector: &Vector) -> String {
        let address = vector.values.as_ptr().addr();
        self.of(address, |hashed| {
            hashed.say(format_args!("{} {}", vector.label, vector.rows));
            hashed.numbers(&vector.values);
        })
    }

    fn basis(&mut self, basis: &Arc<Basis>) -> String {
        self.of(Arc::as_ptr(basis).addr(), |hashed| {
            hashed.say(format_args!(
                "{basis:?} {} {}",
                basis.rectified, basis.by_difference
            ));
            let parts = [
                &basis.shift,
                &basis.spread,
                &basis.encoder,
                &basis.bias,
                &basis.threshold,
                &basis.decoder,
                &basis.gain,
                &basis.offset,
            ];
            for part in parts {
                hashed.numbers(part.as_deref().unwrap_or(&[]));
            }
        })
    }

    fn op(&mut self, op: &Op) -> String {
        match op {
            Op::Set(vector) | Op::Add(Some(vector)) | Op::Subtract(Some(vector)) => {
                format!("{} {}", op.label(), self.vector(vector))
            }
            Op::Mean(over) => {
                let address = over.prompts.as_ptr().addr();
                let prompts = self.of(address, |hashed| {
                    hashed.say(format_args!("{:?}", over.prompts));
                });
                format!("{} {prompts}", op.label())
            }
            other => format!("{other:?}"),
        }
    }

    fn patch(&mut self, patch: &Patch, hashed: &mut Hashed) {
        let Patch {
            component,
            layer,
            heads,
            positions,
            keys,
            columns,
            basis,
            op,
            origin,
            source_component,
            source_layer,
            source_heads,
            source_positions,
        } = patch;
        let basis = basis.as_ref().map(|basis| self.basis(basis));
        let op = self.op(op);
        // what is not said leaves the hash as it was before it could be
        if let Some(component) = source_component {
            hashed.say(format_args!("from {component:?}"));
        }
        hashed.say(format_args!(
            "{component:?} {layer:?} {heads:?} {positions:?} {keys:?} {columns:?} {basis:?} {op} {origin:?} \
             {source_layer:?} {source_heads:?} {source_positions:?}"
        ));
    }

    fn runs(&mut self, runs: &[Run]) -> String {
        let mut hashed = Hashed::new();
        for run in runs {
            let Run {
                name,
                position,
                layer,
                prompt,
                at,
                step,
                patches,
            } = run;
            if let Some(at) = at {
                hashed.say(format_args!("at {at}"));
            }
            hashed.say(format_args!(
                "{name:?} {position:?} {prompt:?} {step} {}",
                patches.len()
            ));
            if let Some(layer) = layer {
                hashed.say(format_args!("layer {layer}"));
            }
            for patch in patches {
                self.patch(patch, &mut hashed);
            }
        }
        hashed.finish()
    }
}

impl Question<'_> {
    /// What decides on its rows; every weight is read for it.
    pub fn identity(&self) -> Identity {
        let engine = self.engine();
        let mut configuration = Hashed::new();
        configuration.say(format_args!("{:?}", engine.model().config));
        Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            model: engine.model().hash(),
            configuration: configuration.finish(),
            device: engine.device().kind(),
            precision: engine.precision().name().to_owned(),
            pairs: self.hash_of_pairs(),
            patches: self.hash_of_patches(),
            metrics: self.metrics.iter().map(Metric::to_string).collect(),
            top_tokens: self.top_tokens,
            means: false,
        }
    }

    fn hash_of_pairs(&self) -> String {
        let mut hashed = Hashed::new();
        for of in &self.pairs {
            let made = pairs_provenance(self.engine().model(), std::slice::from_ref(of));
            let PairRuns { pair, .. } = of;
            hashed.say(format_args!("{made:?} {pair:?}"));
        }
        hashed.finish()
    }

    fn hash_of_patches(&self) -> String {
        let (mut hashed, mut shared) = (Hashed::new(), Shared::default());
        match &self.form {
            Form::Runs | Form::Preset { .. } => {}
            Form::Edges { edges, extent } => hashed.say(format_args!("{edges:?} {extent:?}")),
            Form::Paths { paths, spots } => hashed.say(format_args!("{paths:?} {spots:?}")),
            Form::Lens { parts, by, .. } => hashed.say(format_args!("{parts:?} {by:?}")),
            Form::Tracing {
                tracing,
                subjects,
                of_data,
            } => hashed.say(format_args!("{tracing:?} {subjects:?} {of_data}")),
        }
        // pairs often share their runs
        let mut known: HashMap<(usize, usize), String> = HashMap::new();
        for PairRuns { runs, .. } in &self.pairs {
            let at = (runs.as_ptr().addr(), runs.len());
            let hash = known.entry(at).or_insert_with(|| shared.runs(runs));
            hashed.say(format_args!("{hash}"));
        }
        hashed.finish()
    }
}
