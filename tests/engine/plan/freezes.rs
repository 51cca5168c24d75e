//! Patches that write the base's own value: after others, and alone.

use headlight::patch::{Op, Patch};
use headlight::plan::cone::{self, ConeInput, Wanted};
use headlight::plan::edit::edits;
use headlight::site::Component;

use super::{computed, draw, flops, freeze, nothing, patch, read_out, tiny, upward};

#[test]
fn a_freeze_ends_the_cone_and_unseen_rows_before_it_are_not_computed() {
    use Component as C;
    let config = tiny(4);
    let live = || patch(C::HeadAttentionValueOutput, 1, [2]);
    for component in [C::BlockMid, C::BlockOutput, C::BlockInput] {
        let cone = draw(&config, &[live(), freeze(component, 2, 0..6)], &[5]);
        assert!(nothing(&cone), "{component}");
        assert_eq!(flops(&cone, &config).total(), 0);
    }
    // head by head, all heads of z: the branch is the base's, the residual stream goes on alone
    let heads = [0, 1].map(|h| Patch {
        heads: vec![h],
        ..freeze(C::HeadAttentionValueOutput, 2, 0..6)
    });
    let cone = draw(&config, &[live(), heads[0].clone(), heads[1].clone()], &[5]);
    let one = vec![2];
    let none = Vec::new;
    assert_eq!(
        computed(&cone, 2),
        [
            none(),
            none(),
            none(),
            none(),
            none(),
            one.clone(),
            one.clone(),
            one.clone()
        ]
    );
    // one head of them does not: z is computed, and then partly overwritten
    let cone = draw(&config, &[live(), heads[0].clone()], &[5]);
    assert_eq!(computed(&cone, 2)[3], upward(2, 5));
    // a freeze of the later rows: the row itself goes on, and in the last layer nobody sees it
    let cone = draw(
        &config,
        &[
            live(),
            freeze(C::BlockOutput, 2, 3..6),
            freeze(C::KeyOutput, 3, [2]),
            freeze(C::ValueOutput, 3, [2]),
        ],
        &[5],
    );
    assert!(nothing(&cone));
    let cone = draw(
        &config,
        &[
            live(),
            freeze(C::BlockOutput, 2, 3..6),
            freeze(C::KeyOutput, 3, [2]),
        ],
        &[5],
    );
    assert_eq!(computed(&cone, 2)[3], one);
    assert_eq!(
        computed(&cone, 3),
        [
            none(),
            none(),
            one,
            vec![5],
            vec![5],
            vec![5],
            vec![5],
            vec![5]
        ]
    );
    // what a freeze reads is not a freeze when it stands elsewhere
    let moved = Patch {
        source_positions: Some((0..6).rev().collect()),
        op: Op::Add(None),
        ..freeze(C::BlockOutput, 2, 0..6)
    };
    let cone = cone::of_run(&ConeInput {
        config: &config,
        edits: &edits(&[live(), moved], &[], &config),
        readouts: &[5].into_iter().collect(),
        same: &|_| false,
        wanted: &Wanted::new(),
    });
    assert_eq!(read_out(&cone), vec![5]);
}

#[test]
fn dead_patches_cost_nothing_and_leave_live_ones_their_cone() {
    use Component as C;
    let config = tiny(3);
    for component in Component::all().filter(|c| !c.has_keys()) {
        assert!(
            nothing(&draw(&config, &[freeze(component, 1, 0..6)], &[5])),
            "{component}"
        );
    }
    // α = 0, a factor of 1, a level of 0 are no patches at all
    for op in [
        Op::Interpolate(0.0),
        Op::Scale(1.0),
        Op::Noise {
            level: 0.0,
            seed: 0,
            sample: 0,
        },
    ] {
        assert!(edits(&[patch(C::BlockInput, 0, [0]).with_op(op)], &[], &config).is_empty());
    }
    // dead upstream: only the live patch's layers are there to be computed
    let live = patch(C::BlockMid, 2, [5]);
    let cone = draw(
        &config,
        &[freeze(C::BlockInput, 0, 0..6), live.clone()],
        &[5],
    );
    let alone = draw(&config, &[live], &[5]);
    assert_eq!(flops(&cone, &config), flops(&alone, &config));
    assert!(flops(&cone, &config).total() > 0);
}
