//! Where an activation stands: in which layer, and which columns of a row it has.

use super::Component;
use super::wiring::is_final;
use crate::model::Config;

/// The layer that a component is filed under in computation order.
pub fn layer_of(component: Component, layer: Option<usize>, config: &Config) -> usize {
    match is_final(component.stage()) {
        true => config.layers,
        false => layer.unwrap_or(0),
    }
}

/// Columns of one row of a component (of one head where it has heads); keys are not counted.
pub fn columns(component: Component, config: &Config) -> usize {
    component.width().numbers(config, 0)
}

/// Sorted numbers as stretches of neighbours: `(first, how many)`.
pub fn stretches(numbers: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut sorted: Vec<usize> = numbers.collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut stretches: Vec<(usize, usize)> = Vec::new();
    for number in sorted {
        match stretches.last_mut() {
            Some((first, length)) if *first + *length == number => *length += 1,
            _ => stretches.push((number, 1)),
        }
    }
    stretches
}

/// Those of `0..end` that no stretch has; `stretches` are sorted and apart.
pub fn rest(stretches: &[(usize, usize)], end: usize) -> Vec<(usize, usize)> {
    let mut rest = Vec::new();
    let mut at = 0;
    for (first, length) in stretches.iter().copied().chain([(end, 0)]) {
        if first > at {
            rest.push((at, first - at));
        }
        at = first + length;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_and_the_rest_make_the_whole() {
        let some = stretches([4, 2, 1, 7, 2].into_iter());
        assert_eq!(some, [(1, 2), (4, 1), (7, 1)]);
        assert_eq!(rest(&some, 9), [(0, 1), (3, 1), (5, 2), (8, 1)]);
        assert_eq!(rest(&some, 8), [(0, 1), (3, 1), (5, 2)]);
        assert_eq!(rest(&[], 3), [(0, 3)]);
        assert_eq!(rest(&[(0, 3)], 3), []);
    }
}
