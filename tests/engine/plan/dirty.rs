//! Which rows each kind of patch makes dirty.

use headlight::plan::cost::Flops;
use headlight::site::{Component, Stage};

use super::{computed, draw, flops, given, patch, read_out, rows, tiny, upward};

#[test]
fn a_patched_z_enters_the_next_layer_as_one_row_and_spreads_at_z() {
    let config = tiny(4);
    let cone = draw(
        &config,
        &[patch(Component::HeadAttentionValueOutput, 1, [3])],
        &[6],
    );
    let (p, up) = (vec![3], upward(3, 6));
    // layer 1 is part 2, and the final layer norm part 5
    assert_eq!((cone.first, cone.parts.len()), (2, 4));
    assert!(cone.parts[0].stream.all.is_empty());
    // the patched row is gathered, and goes on alone
    assert_eq!(
        computed(&cone, 1),
        [&[], &[], &[], &[], &p[..], &p, &p, &p].map(<[usize]>::to_vec)
    );
    assert_eq!(rows(&given(&cone, Stage::Z, 1).gathered()), p);
    assert!(given(&cone, Stage::AttentionInput, 1).all.is_empty());
    // q, k and v of that row; every later row joins at z, with the cache's q
    assert_eq!(
        computed(&cone, 2),
        [&p, &p, &p, &up, &up, &up, &up, &up].map(Vec::clone)
    );
    // in the last layer keys and values of dirty rows, and what the readout row sees
    let last = vec![6];
    assert_eq!(
        computed(&cone, 3),
        [&last, &up, &up, &last, &last, &last, &last, &last].map(Vec::clone)
    );
    assert_eq!(read_out(&cone), last);
    // multiply-adds of all that, by hand
    let (d, i, v) = (8, 20, 30);
    let row = d * d + 2 * d * i;
    let linear = row + (3 * d * d + 4 * row) + (d * d + 8 * d * d + row) + d * v;
    let attention = 2 * d * (4 + 5 + 6 + 7) + 2 * d * 7;
    assert_eq!(
        flops(&cone, &config),
        Flops {
            linear: 2 * linear,
            attention: 2 * attention
        }
    );
}

#[test]
fn dirty_rows_of_each_kind_of_patch_in_its_own_layer() {
    use Component as C;
    let config = tiny(3);
    let (one, up, none) = (vec![2], upward(2, 5), Vec::new());
    for (component, q, k, v, z, mid) in [
        (C::BlockInput, &one, &one, &one, &up, &up),
        (C::AttentionInput, &one, &one, &one, &up, &up),
        (C::HeadQueryOutput, &none, &none, &none, &one, &one),
        (C::HeadKeyOutput, &none, &none, &none, &up, &up),
        (C::HeadValueOutput, &none, &none, &none, &up, &up),
        (C::AttentionQueryInput, &none, &none, &none, &one, &one),
        (C::AttentionKeyInput, &none, &none, &none, &up, &up),
        (C::AttentionScores, &none, &none, &none, &one, &one),
        (C::AttentionWeight, &none, &none, &none, &one, &one),
        (
            C::HeadAttentionValueOutput,
            &none,
            &none,
            &none,
            &none,
            &one,
        ),
        (C::AttentionOutput, &none, &none, &none, &none, &one),
        (C::BlockMid, &none, &none, &none, &none, &none),
        (C::MlpInput, &none, &none, &none, &none, &none),
        (C::MlpOutput, &none, &none, &none, &none, &none),
    ] {
        let cone = draw(&config, &[patch(component, 1, [2])], &[5]);
        let [got_q, got_k, got_v, got_z, _, got_mid, _, out] = computed(&cone, 1);
        assert_eq!(
            [&got_q, &got_k, &got_v, &got_z, &got_mid],
            [q, k, v, z, mid],
            "{component}"
        );
        let row_wise = mid.len() < 2;
        assert_eq!(
            out,
            if row_wise { one.clone() } else { up.clone() },
            "{component}"
        );
        // the residual stream that the projections read is the cache's, except where it is patched
        assert_eq!(
            rows(&given(&cone, Stage::BlockInput, 1).all),
            if component == C::BlockInput {
                one.clone()
            } else {
                none.clone()
            }
        );
        let own = usize::from(matches!(
            component,
            C::AttentionQueryInput | C::AttentionKeyInput
        ));
        let copies = [Stage::Query, Stage::Key].map(|stage| given(&cone, stage, 1).copies);
        assert_eq!(copies.iter().sum::<usize>(), own, "{component}");
    }
    // an output's own row is not computed, and neither is the branch that it replaces
    let cone = draw(&config, &[patch(C::MlpOutput, 1, [2])], &[5]);
    assert!(given(&cone, Stage::MlpOutput, 1).computed.is_empty());
    assert!(given(&cone, Stage::MlpPre, 1).all.is_empty());
    let cone = draw(&config, &[patch(C::TokenEmbedding, 0, [2])], &[5]);
    assert_eq!(
        (
            cone.first,
            rows(&given(&cone, Stage::BlockInput, 0).computed)
        ),
        (0, vec![2])
    );
    assert_eq!(computed(&cone, 0)[3], up);
}

#[test]
fn rows_beyond_one_word_of_positions() {
    let config = tiny(2);
    for position in [62, 63, 64, 65, 127, 128] {
        let cone = draw(
            &config,
            &[patch(Component::HeadValueOutput, 0, [position])],
            &[128],
        );
        assert_eq!(computed(&cone, 0)[3], upward(position, 128));
        assert_eq!(computed(&cone, 1)[1], upward(position, 128));
        assert_eq!(computed(&cone, 1)[7], [128]);
        let cone = draw(
            &config,
            &[patch(Component::HeadValueOutput, 0, [position])],
            &[position],
        );
        assert_eq!(computed(&cone, 0)[3], [position]);
    }
}
