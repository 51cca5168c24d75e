//! Dirty rows that are not computed, because nothing sees them.

use headlight::site::{Component, Stage};

use super::common::runs::interchange;
use super::{computed, draw, flops, given, nothing, patch, read_out, rows, tiny, upward};

#[test]
fn nothing_is_computed_that_no_readout_sees() {
    let config = tiny(2);
    // after the last readout
    for position in 4..8 {
        for component in Component::all() {
            assert!(
                nothing(&draw(&config, &[patch(component, 1, [position])], &[0, 3])),
                "{component}"
            );
        }
    }
    // the last layer before the row that is read: only keys and values reach on
    for component in Component::all().filter(|c| !c.is_global()) {
        use Component as C;
        let reaches = component < C::AttentionQueryInput
            || matches!(
                component,
                C::AttentionKeyInput
                    | C::AttentionValueInput
                    | C::KeyOutput
                    | C::HeadKeyOutput
                    | C::ValueOutput
                    | C::HeadValueOutput
            );
        let cone = draw(&config, &[patch(component, 1, [2])], &[5]);
        assert_eq!(nothing(&cone), !reaches, "{component}");
        assert_eq!(flops(&cone, &config).total() == 0, !reaches, "{component}");
    }
    // several readouts: rows between them are keys and values in the last layer, nothing else
    let cone = draw(
        &config,
        &[patch(Component::BlockInput, 1, [1, 2, 4, 6])],
        &[0, 3, 5],
    );
    let seen = vec![3, 5];
    assert_eq!(read_out(&cone), seen);
    let keys = vec![1, 2, 4];
    let [q, k, v, z, _, _, _, out] = computed(&cone, 1);
    assert_eq!(
        [q, k, v, z, out],
        [vec![], keys.clone(), keys, seen.clone(), seen]
    );
}

/// What enters a block is what leaves the one before it: a row that is replaced there is not computed here.
#[test]
fn a_row_that_a_later_block_input_replaces_costs_nothing_before() {
    use Component as C;
    let config = tiny(3);
    let over = || patch(C::BlockInput, 1, [5]);
    let alone = draw(&config, &[over()], &[5]);
    for component in Component::all().filter(|c| !c.is_global()) {
        let cone = draw(&config, &[patch(component, 0, [5]), over()], &[5]);
        assert!(computed(&cone, 0).iter().all(Vec::is_empty), "{component}");
        assert_eq!(flops(&cone, &config), flops(&alone, &config), "{component}");
        // replaced elsewhere, it is computed
        if component != C::BlockOutput {
            let other = patch(C::BlockInput, 1, [4]);
            let cone = draw(&config, &[patch(component, 0, [5]), other], &[5]);
            assert_eq!(
                given(&cone, Stage::BlockOutput, 0).computed.len(),
                1,
                "{component}"
            );
        }
    }
    // of several rows those that are not replaced: keys and values of row 2 reach 3, 4 and 5
    let reaching = patch(C::ValueOutput, 0, [2]);
    let cone = draw(&config, &[reaching, patch(C::BlockInput, 1, [3, 5])], &[5]);
    let [_, _, _, z, .., out] = computed(&cone, 0);
    assert_eq!([z, out], [vec![2, 4], vec![2, 4]]);
    let more = flops(&cone, &config).total();
    let none = draw(&config, &[patch(C::BlockInput, 1, [2, 3, 4, 5])], &[5]);
    assert!(more > flops(&none, &config).total());
}

#[test]
fn a_row_overwritten_whole_is_not_computed_before_that() {
    use Component as C;
    let config = tiny(3);
    let live = || patch(C::BlockInput, 1, [2]);
    let computed_of = |component: Component| {
        let over = interchange(component, 1, &[0, 1], 0..6);
        computed(&draw(&config, &[live(), over], &[4, 5]), 1)
    };
    let (one, up, none) = (vec![2], upward(2, 5), Vec::new());
    // q, k, v, z, attention output, mid, MLP, out
    assert_eq!(
        computed_of(C::HeadQueryOutput)[..4],
        [none.clone(), one.clone(), one.clone(), upward(0, 5)]
    );
    assert_eq!(
        computed_of(C::KeyOutput)[..4],
        [one.clone(), none.clone(), one.clone(), upward(0, 5)]
    );
    assert_eq!(
        computed_of(C::ValueOutput)[..4],
        [one.clone(), one.clone(), none.clone(), upward(0, 5)]
    );
    let z = computed_of(C::HeadAttentionValueOutput);
    assert_eq!(
        z[..5],
        [
            none.clone(),
            none.clone(),
            none.clone(),
            none.clone(),
            upward(0, 5)
        ]
    );
    let attention = computed_of(C::AttentionOutput);
    assert!(attention[..5].iter().all(Vec::is_empty));
    assert_eq!(attention[5], upward(0, 5));
    let mid = computed_of(C::BlockMid);
    assert!(mid[..6].iter().all(Vec::is_empty));
    assert_eq!(mid[6..], [upward(0, 5), upward(0, 5)]);
    assert!(computed_of(C::BlockOutput).iter().all(Vec::is_empty));
    for (component, stages) in [
        (C::MlpPre, [0, 6, 6]),
        (C::MlpActivation, [0, 0, 6]),
        (C::MlpOutput, [0, 0, 0]),
    ] {
        let over = patch(component, 1, 0..6);
        let cone = draw(&config, &[live(), over], &[4, 5]);
        let at = |stage| given(&cone, stage, 1).computed;
        let mlp = [Stage::MlpPre, Stage::MlpActivation, Stage::MlpOutput].map(|s| at(s).len());
        assert_eq!(mlp, stages, "{component}");
        assert_eq!(rows(&at(Stage::BlockMid)), up, "{component}");
        assert_eq!(at(Stage::BlockOutput).len(), 6, "{component}");
    }
}
