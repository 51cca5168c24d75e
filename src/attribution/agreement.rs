//! How estimates agree with exact runs.

/// Pearson's correlation; `None` where either does not vary, or there are fewer than two.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    if x.len() < 2 || x.len() != y.len() {
        return None;
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    let r = xy / (xx * yy).sqrt();
    r.is_finite().then_some(r)
}

/// Spearman's: Pearson's of the ranks, equal numbers sharing the mean of theirs.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x), &ranks(y))
}

fn ranks(x: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
    let mut ranks = vec![0.0; x.len()];
    let mut first = 0;
    for equal in order.chunk_by(|a, b| x[*a] == x[*b]) {
        let rank = first as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|i| ranks[*i] = rank);
        first += equal.len();
    }
    ranks
}

/// The largest share of a population that `found` of `sampled` random members with some property leave
/// possible, at 95 % confidence (Clopper and Pearson 1934, one-sided).
pub fn upper_bound(found: usize, sampled: usize) -> f64 {
    if found >= sampled {
        return 1.0;
    }
    // P(at most `found` of `sampled`) falls from 1 to 0 as the share grows
    let at_most = |share: f64| {
        let mut term = (1.0 - share).powi(sampled as i32);
        let mut sum = term;
        for k in 0..found {
            term *= (sampled - k) as f64 / (k + 1) as f64 * share / (1.0 - share);
            sum += term;
        }
        sum
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        match at_most(middle) > 0.05 {
            true => low = middle,
            false => high = middle,
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_those_of_textbooks() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0]);
        assert!((pearson(&x, &y).unwrap() - 1.0).abs() < 1e-15);
        let cubes = x.map(|x| -x * x * x);
        assert!((spearman(&x, &cubes).unwrap() + 1.0).abs() < 1e-15);
        assert!(pearson(&x, &cubes).unwrap() > -1.0);
        // ranks 0, 1.5, 1.5, 3 and 0, 1, 2, 3
        let tied = spearman(&[1.0, 2.0, 2.0, 3.0], &x).unwrap();
        assert!((tied - 0.948_683_298_050_513_8).abs() < 1e-15, "{tied}");
        assert_eq!(pearson(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(pearson(&[1.0], &[1.0]), None);
    }

    #[test]
    fn the_bound_is_that_of_the_rule_of_three() {
        // 1 − 0.05^(1/n)
        assert!((upper_bound(0, 100) - (1.0 - 0.05f64.powf(0.01))).abs() < 1e-12);
        assert!((upper_bound(0, 1) - 0.95).abs() < 1e-12);
        // a table's: 1 of 10
        assert!((upper_bound(1, 10) - 0.394_163_3).abs() < 1e-6);
        assert_eq!(upper_bound(5, 5), 1.0);
    }
}
