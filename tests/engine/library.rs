//! The library's front: what cannot be is refused where it is built, in a sentence.

use headlight::{Engine, Op, Patch};

#[test]
fn a_patch_is_checked_where_it_is_built() {
    let engine = Engine::open("demo").build().unwrap();
    let pair = engine.pair("The capital of Spain is", "The capital of Italy is");
    let pair = pair.unwrap().target(" Rome").unwrap();
    let v = || pair.patch("blocks.0.attn.hook_v").unwrap();
    let patch = v().head(0).at("Spain").unwrap();
    assert_eq!((patch.positions, patch.heads), (vec![3], vec![0]));
    assert_eq!(v().head(0).at(-1).unwrap().positions, [4]);
    assert_eq!(v().head(0).everywhere().unwrap().positions.len(), 5);

    let refused = |patch: Result<Patch, headlight::Error>, says: &str| {
        let said = patch.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    };
    refused(v().at(3), "needs heads");
    refused(v().head(99).at(3), "head 99");
    refused(v().head(0).at(5), "position 5");
    refused(v().head(0).at("Peru"), "Peru");
    refused(v().head(0).op(Op::Skip).at(3), "nothing can be skipped");
    refused(
        pair.patch("head_value_output").unwrap().head(0).at(3),
        "needs a layer",
    );
    let mlp = pair.patch("mlp_output.0").unwrap();
    refused(mlp.head(0).at(3), "has no heads");
    assert!(pair.patch("head_value_ouput.0").is_err());
}
