//! A run's result depends neither on what else is in the batch, nor on how it is cut or threaded.

use headlight::backend::cpu::Cpu;
use proptest::prelude::*;

use super::common::cases;
use super::common::laws::batch_invariant;
use super::common::model::model;
use super::common::runs::{PairSpec, PatchSpec, Places, pair, patch, resolve, runs};

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_result_does_not_depend_on_the_batch(
        spec in model(),
        pairs in proptest::collection::vec((pair(9), runs(7)), 1..=4),
        seed in any::<u64>(),
    ) {
        let checkpoint = spec.open();
        let pairs: Vec<_> = pairs.iter().map(|(pair, runs)| resolve(pair, runs, &checkpoint.config)).collect();
        batch_invariant(&Cpu::<f32>::new(&checkpoint), &pairs, seed)?;
        batch_invariant(&Cpu::<f64>::new(&checkpoint), &pairs, seed)?;
    }

    /// One kind of patch over many positions, as sweeps are: chunks of many rows, and of one.
    #[test]
    fn a_sweep_does_not_depend_on_its_chunks(spec in model(), pair in pair(40), patch in patch(), seed in any::<u64>()) {
        let checkpoint = spec.open();
        let pair = PairSpec { shared: 0, ..pair };
        let places = (0..12).map(|i| vec![PatchSpec { positions: Places::One(3 * i), layer: i, ..patch.clone() }]);
        let pairs = [resolve(&pair, &places.collect::<Vec<_>>(), &checkpoint.config)];
        batch_invariant(&Cpu::<f32>::new(&checkpoint), &pairs, seed)?;
        batch_invariant(&Cpu::<f64>::new(&checkpoint), &pairs, seed)?;
    }
}
