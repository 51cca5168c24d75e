//! What must stay true of every run, bit for bit, on random models, pairs and patches.
//!
//! 1. A run computed through its light cone equals the same run computed whole.
//! 2. Patching with what was there changes nothing and costs nothing.
//! 3. A run's result does not depend on what else is in the batch, nor on how it is cut or threaded.
//! 4. pyvene's bitwise identities hold.
//! 5. The bound on operations is exact where patches die by common prefix alone.
//! 6. What is read of a row follows from its logits.
//!
//! Every execution here also checks that what was executed is what was planned. Each property runs
//! in f32 and f64. `PROPTEST_CASES` sets the number of cases, `PROPTEST_RNG_SEED` the seed.

mod batch;
mod bound;
mod freezes;
mod identities;
mod light_cone;
mod readouts;

use crate::common;
use crate::common::laws::cone_equals_whole;
use crate::common::model::ModelSpec;
use headlight::backend::cpu::Cpu;
use headlight::model::Checkpoint;
use headlight::prompt::pair::PairRuns;
use proptest::test_runner::TestCaseResult;

/// The first law, in both precisions.
fn in_both(spec: &ModelSpec, pairs: impl Fn(&Checkpoint) -> Vec<PairRuns>) -> TestCaseResult {
    let checkpoint = spec.open();
    let pairs = pairs(&checkpoint);
    cone_equals_whole(&Cpu::<f32>::new(&checkpoint), &pairs)?;
    cone_equals_whole(&Cpu::<f64>::new(&checkpoint), &pairs)
}
