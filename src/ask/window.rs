//! Windows of layers: what one run patches around the layer that it is filed under.

use std::ops::Range;

/// `size` layers around `layer`, clipped at either end, as ROME counts them: from `layer − size / 2` on,
/// `layer` itself being the first behind the middle where the size is even.
pub fn window(layer: usize, size: usize, layers: usize) -> Range<usize> {
    layer.saturating_sub(size / 2)..layers.min(layer + size.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// range(max(0, layer - window // 2), min(num_layers, layer - (-window // 2)))
    #[test]
    fn windows_are_those_of_rome() {
        assert_eq!(window(0, 1, 12), 0..1);
        assert_eq!(window(11, 1, 12), 11..12);
        assert_eq!(window(0, 10, 12), 0..5);
        assert_eq!(window(5, 10, 12), 0..10);
        assert_eq!(window(6, 10, 12), 1..11);
        assert_eq!(window(11, 10, 12), 6..12);
        assert_eq!(window(5, 3, 12), 4..7);
        assert_eq!(window(2, 100, 4), 0..4);
        let floor = |a: i64, b: i64| a.div_euclid(b);
        for (layer, size, layers) in (0..6).flat_map(|l| (1..9).map(move |s| (l, s, 6))) {
            let from = (layer - floor(size, 2)).max(0);
            let to = (layer - floor(-size, 2)).min(layers);
            let [layer, size, layers] = [layer, size, layers].map(|x| x as usize);
            assert_eq!(window(layer, size, layers), from as usize..to as usize);
        }
    }
}
