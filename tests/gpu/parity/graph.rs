//! Edge and path patching on the device.

use super::*;
use crate::common::fixtures::checkpoint;
use headlight::graph::extent::Extent;

/// Every edge of a small model, as raw hooks patched it between prompts that share no token's place.
#[test]
fn every_edge_agrees_with_hooks() {
    let gpu = gpu();
    let model = checkpoint("odd_untied");
    let cuda = gpu.cuda(&model, Precision::F32);
    let off = common::edges::worst(&cuda, "odd_untied", &model, Extent::Whole, 1);
    off.assert_within(1e-5, "odd_untied");
}

/// Every edge at every position, of which the hooks patched a sample.
#[test]
fn edges_at_one_position_agree_with_hooks() {
    let gpu = gpu();
    let model = checkpoint("odd_untied");
    let cuda = gpu.cuda(&model, Precision::F32);
    let off = common::edges::worst(&cuda, "odd_untied", &model, Extent::PerPosition, 1);
    off.assert_within(1e-5, "odd_untied");
}

/// A share of the paths, each two runs of which one reads the other.
#[test]
fn paths_agree_with_hooks() {
    let gpu = gpu();
    let model = checkpoint("odd_untied");
    let cuda = gpu.cuda(&model, Precision::F32);
    let off = common::paths::worst(&cuda, "odd_untied", &model, 3);
    off.assert_within(1e-5, "odd_untied");
}
