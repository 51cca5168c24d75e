//! Noise, which plans draw.

use headlight::patch::{Op, Patch};
use headlight::plan::edit::{Value, edits};
use headlight::site::Component;

use super::{patch, tiny};

const BASE: [u32; 5] = [5, 1, 2, 3, 4];

#[test]
fn noise_is_a_function_of_where_it_is_added() {
    let config = tiny(2);
    let noise = |positions: Vec<usize>, heads: Vec<usize>, sample| {
        let op = Op::Noise {
            level: 0.5,
            seed: 3,
            sample,
        };
        Patch {
            heads,
            ..patch(Component::HeadValueOutput, 1, positions)
        }
        .with_op(op)
    };
    let drawn = |patches: &[Patch], base: &[u32], position, column| {
        let all = edits(patches, base, &config);
        let found = all
            .iter()
            .rfind(|c| c.layer == 1 && (c.position, c.column) == (position, column))
            .unwrap();
        let Value::Constant(values, offset) = &found.value else {
            panic!("{found:?}")
        };
        values[*offset..][..found.length].to_vec()
    };
    let alone = drawn(&[noise(vec![4], vec![1], 0)], &BASE, 4, 4);
    assert_eq!(
        drawn(&[noise(vec![0, 4, 2], vec![0, 1], 0)], &BASE, 4, 4),
        alone
    );
    let before = patch(Component::BlockInput, 0, 0..5);
    assert_eq!(
        drawn(
            &[
                before,
                noise(vec![1], vec![0], 0),
                noise(vec![4], vec![1], 0)
            ],
            &BASE,
            4,
            4
        ),
        alone
    );
    let others = [
        drawn(&[noise(vec![4], vec![0], 0)], &BASE, 4, 0),
        drawn(&[noise(vec![3], vec![1], 0)], &BASE, 3, 4),
        drawn(&[noise(vec![4], vec![1], 1)], &BASE, 4, 4),
        drawn(&[noise(vec![4], vec![1], 0)], &[5, 1, 2, 4, 4], 4, 4),
    ];
    assert!(others.iter().all(|other| *other != alone));
}
