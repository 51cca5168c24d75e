//! Means by position, multiples of a constant, and latents of autoencoders' folders, against numpy.

use std::path::Path;

use crate::common::fixtures::{checkpoint, folder};
use crate::common::restated::worst;
use crate::common::runs::run_of;
use crate::emulator::gpu::gpu;
use headlight::backend::Precision;
use headlight::backend::cpu::Cpu;
use headlight::basis::read::BasisFiles;
use headlight::check::check_run;
use headlight::patch::{MeanOver, Op, Patch};
use headlight::prompt::pair::Pair;
use headlight::site::Component;

const FILE: (&str, &str) = ("tied", "ablations.json");

#[test]
fn means_by_position_multiples_and_latents_agree_with_numpy() {
    let model = checkpoint(FILE.0);
    let off = worst(&Cpu::<f64>::new(&model), &model, FILE);
    off.assert_within(1e-12, "f64");
    let off = worst(&Cpu::<f32>::new(&model), &model, FILE);
    off.assert_within(1e-5, "f32");
}

#[test]
fn the_device_agrees_with_numpy() {
    let gpu = gpu();
    let model = checkpoint(FILE.0);
    let off = worst(&gpu.cuda(&model, Precision::F32), &model, FILE);
    off.assert_within(1e-5, &gpu.device.name);
}

/// A folder as SAELens saves it, with another configuration or other files.
fn said_of(configuration: &str, from: &str, weights: Option<&str>, extra: &[&str]) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let here = temporary.path();
    std::fs::write(here.join("cfg.json"), configuration).unwrap();
    if let Some(name) = weights {
        std::fs::copy(
            folder(FILE.0).join(from).join("sae_weights.safetensors"),
            here.join(name),
        )
        .unwrap();
    }
    for name in extra {
        std::fs::write(here.join(name), "").unwrap();
    }
    match BasisFiles::default().read(here.to_str().unwrap(), Path::new(""), None) {
        Ok(basis) => format!("{basis:?}").rsplit(": ").next().unwrap().to_owned(),
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text}");
            text.replace(here.to_str().unwrap(), "F")
        }
    }
}

#[test]
fn what_a_folder_asks_for_and_no_basis_does_is_refused_by_its_name() {
    let file = Some("sae_weights.safetensors");
    let said = |configuration: &str| said_of(configuration, "sae_relu", file, &[]);
    assert_eq!(said("{}"), "32 → 40)");
    assert_eq!(
        said(r#"{"architecture": "standard", "d_in": 32, "d_sae": 40, "k": null}"#),
        "32 → 40)"
    );
    for (configuration, name) in [
        (r#"{"architecture": "gated"}"#, "architecture = gated"),
        (
            r#"{"architecture": "topk", "k": 32}"#,
            "architecture = topk",
        ),
        (
            r#"{"expansion_factor": 32, "k": 32}"#,
            "k = 32: of a row only its 32 largest",
        ),
        (
            r#"{"architecture": "standard", "activation_fn_str": "topk"}"#,
            "activation_fn_str = topk",
        ),
        (
            r#"{"normalize_activations": "expected_average_only_in"}"#,
            "normalize_activations = expected_average_only_in",
        ),
        (
            r#"{"finetuning_scaling_factor": true}"#,
            "finetuning_scaling_factor = true",
        ),
        (r#"{"transcode": true}"#, "transcode = true"),
        (
            r#"{"apply_b_dec_to_input": "no"}"#,
            "apply_b_dec_to_input = \"no\": it is true or false",
        ),
        (r#"{"d_in": 64}"#, "d_in = 64, but its encoder is [32, 40]"),
        (
            r#"{"architecture": "jumprelu"}"#,
            "has no tensor `threshold`",
        ),
        ("[]", "cfg.json that is no JSON object"),
        ("{", "cfg.json that is no JSON object"),
    ] {
        let said = said(configuration);
        assert!(
            said.starts_with("the autoencoder in F ") && said.contains(name),
            "{configuration}: {said}"
        );
    }
    let jumps = said_of("{}", "sae_jumprelu", file, &[]);
    assert!(
        jumps.contains("does not say architecture = jumprelu"),
        "{jumps}"
    );
    let pickle = said_of("{}", "sae_relu", None, &["ae.pt"]);
    assert!(
        pickle.contains("has its numbers in ae.pt, a pickle, which is never read"),
        "{pickle}"
    );
    let nothing = said_of("{}", "sae_relu", None, &[]);
    assert!(
        nothing.contains("has no sae_weights.safetensors"),
        "{nothing}"
    );
}

#[test]
fn a_prompt_of_no_mean_by_position_is_refused() {
    let model = checkpoint(FILE.0);
    let pair = Pair {
        base: vec![1, 2, 3, 4],
        targets: vec![1],
        ..Pair::default()
    };
    let mean = MeanOver {
        label: "F".into(),
        prompts: [vec![1, 2], vec![3, 4, 5], vec![2, 1]].into(),
        by_position: true,
    };
    let patch =
        Patch::interchange(Component::MlpOutput, Some(0), vec![], vec![1]).with_op(Op::Mean(mean));
    let error = check_run(&run_of(vec![patch]), &[], &pair, &model.config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "mlp_output is patched with means by position over `F`, of whose prompts none has 4 tokens as the patched one \
         has: they have 2, 3"
    );
}
