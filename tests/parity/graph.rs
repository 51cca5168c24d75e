//! Edge and path patching on the device.

use super::*;
use headlight::graph::extent::Extent;

/// Every edge of a small model, as raw hooks patched it between prompts that share no token's place.
#[test]
fn every_edge_agrees_with_hooks() {
    let gpu = gpu();
    let model = common::edges::checkpoint("odd_untied");
    let cuda = gpu.cuda(&model, Precision::F32);
    let (error, at) = common::edges::worst(&cuda, "odd_untied", &model, Extent::Whole, 1);
    println!("{error:.2e} at {at}");
    assert!(error <= 1e-5, "{error:e} at {at}");
}

/// A share of the paths, each two runs of which one reads the other.
#[test]
fn paths_agree_with_hooks() {
    let gpu = gpu();
    let model = common::edges::checkpoint("odd_untied");
    let cuda = gpu.cuda(&model, Precision::F32);
    let (error, at) = common::paths::worst(&cuda, "odd_untied", &model, 3);
    println!("{error:.2e} at {at}");
    assert!(error <= 1e-5, "{error:e} at {at}");
}
