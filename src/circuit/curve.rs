//! How faithful circuits of several sizes are, as MIB (Mueller et al. 2025) sums it up: CPR, how much of the
//! metric they bring back, and CMD, how far they are from the whole model, as areas over their share of the edges.

/// MIB's ten shares of all edges.
pub const SIZES: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// How many of so many edges a share is; rounded down, as MIB's `int()` does.
pub fn count(share: f64, edges: usize) -> usize {
    (share * edges as f64) as usize
}

/// The area under some values over [`SIZES`], by trapezoids, from the first to the last: not from 0.
fn area(values: impl Iterator<Item = f64>) -> f64 {
    let at: Vec<(f64, f64)> = SIZES.into_iter().zip(values).collect();
    let each = at.windows(2).map(|pair| {
        let [(x, a), (y, b)] = [pair[0], pair[1]];
        (y - x) * (a + b) / 2.0
    });
    each.sum()
}

/// The integrated circuit performance ratio of faithfulnesses at [`SIZES`]; 0.999 where every one is 1.
pub fn cpr(faithfulness: &[f64]) -> f64 {
    area(faithfulness.iter().copied())
}

/// The integrated circuit-model distance: the area between them and 1; 0 is best.
pub fn cmd(faithfulness: &[f64]) -> f64 {
    area(faithfulness.iter().map(|f| (1.0 - f).abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand.
    #[test]
    fn areas_are_trapezoids_between_the_sizes() {
        assert_eq!(SIZES.map(|s| count(s, 32_491))[..4], [32, 64, 162, 324]);
        assert!((cpr(&[1.0; 10]) - 0.999).abs() < 1e-15 && cmd(&[1.0; 10]) == 0.0);
        let f = [-0.5, 0.0, 0.1, 0.25, 0.5, 0.75, 1.25, 1.5, 1.0, 1.0];
        let by_hand = 0.001 * -0.25
            + 0.003 * 0.05
            + 0.005 * 0.175
            + 0.01 * 0.375
            + 0.03 * 0.625
            + 0.05 * 1.0
            + 0.1 * 1.375
            + 0.3 * 1.25
            + 0.5 * 1.0;
        assert!((cpr(&f) - by_hand).abs() < 1e-15);
        let by_hand = 0.001 * 1.25
            + 0.003 * 0.95
            + 0.005 * 0.825
            + 0.01 * 0.625
            + 0.03 * 0.375
            + 0.05 * 0.25
            + 0.1 * 0.375
            + 0.3 * 0.25
            + 0.0;
        assert!((cmd(&f) - by_hand).abs() < 1e-15);
    }
}
