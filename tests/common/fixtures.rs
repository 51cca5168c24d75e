//! What other programs computed (tests/fixtures), and how far results are from it.

use std::path::{Path, PathBuf};

use headlight::backend::Readout;
use headlight::model::Checkpoint;

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&folder(name)).unwrap()
}

/// The worst error so far, and where it was.
#[derive(Default)]
pub struct Worst {
    pub error: f64,
    pub at: String,
}

impl Worst {
    pub fn note(&mut self, error: f64, at: impl FnOnce() -> String) {
        if error.is_nan() || error > self.error {
            self.error = if error.is_nan() { f64::INFINITY } else { error };
            self.at = at();
        }
    }

    /// Notes |Δ log-probability| of every target.
    pub fn note_targets(&mut self, readout: &Readout, want: &[f64], at: &str) {
        assert_eq!(readout.logits.len(), want.len(), "{at}");
        for (logit, want) in readout.logits.iter().zip(want) {
            let error = (readout.log_probability(*logit) - want).abs();
            self.note(error, || at.to_owned());
        }
    }

    pub fn assert_within(&self, gate: f64, who: &str) {
        let Self { error, at } = self;
        println!("{who}: {error:.2e} at {at}");
        assert!(*error <= gate, "{who}: {error:e} at {at}");
    }
}
