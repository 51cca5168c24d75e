//! Sets of positions.

use headlight::plan::positions::Positions;

use super::rows;

#[test]
fn edges_of_sets_of_positions() {
    let set = |p: &[usize]| p.iter().copied().collect::<Positions>();
    for (from, to) in [
        (0, 0),
        (0, 64),
        (63, 64),
        (63, 65),
        (64, 64),
        (64, 65),
        (64, 128),
        (5, 3),
        (100, 70),
        (127, 129),
    ] {
        let range = Positions::range(from, to);
        assert_eq!(rows(&range), (from..to).collect::<Vec<_>>(), "{from}..{to}");
        assert_eq!(range.is_empty(), from >= to);
        assert_eq!(range.last(), (from..to).last());
        assert_eq!(range.first(), (from..to).next());
    }
    // sets of different lengths in words
    let (short, long) = (set(&[1, 63]), set(&[1, 64, 200]));
    assert_eq!(rows(&short.union(&long)), [1, 63, 64, 200]);
    assert_eq!(rows(&long.union(&short)), [1, 63, 64, 200]);
    assert_eq!(
        (rows(&short.and(&long)), rows(&long.and(&short))),
        (vec![1], vec![1])
    );
    assert_eq!(
        (rows(&short.minus(&long)), rows(&long.minus(&short))),
        (vec![63], vec![64, 200])
    );
    assert_eq!(
        (
            long.up_to(64).len(),
            long.up_to(63).len(),
            long.up_to(1000).len()
        ),
        (2, 1, 3)
    );
    let mut set = long.clone();
    set.remove(200);
    assert_eq!(
        (set.last(), set.contains(200), set.contains(10_000)),
        (Some(64), false, false)
    );
    set.remove(10_000);
    set.insert(0);
    assert_eq!(
        (set.first(), set.len(), Positions::none().last()),
        (Some(0), 3, None)
    );
}
