//! `headlight trace --arrays`: ROME's arrays.

use headlight::results::table::Row;

use crate::lab::Lab;
use crate::metrics::{member, npy};
use crate::trace::{mean, traced};

#[test]
fn arrays_have_romes_names() {
    let lab = Lab::new();
    let rows = traced(
        &lab,
        &[
            "--component",
            "mlp_output",
            "--window",
            "3",
            "--samples",
            "2",
            "--arrays",
            "a.npz",
            "--noise",
            "0.2",
        ],
    );
    let (shape, scores) = npy(&lab, "a.npz", "scores");
    assert_eq!(shape, [5, 5]);
    for (i, two) in rows[2..].chunks(2).enumerate() {
        let (layer, position) = (i / 5, i % 5);
        assert_eq!(
            (two[0].layer, two[0].position),
            (Some(layer as u32), Some(position as u32))
        );
        let found = scores[position * 5 + layer];
        assert!((found - (two[0].prob + two[1].prob) / 2.0).abs() < 1e-15);
    }
    let one = |name: &str| {
        let (shape, values) = npy(&lab, "a.npz", name);
        assert_eq!((shape.len(), values.len()), (0, 1), "{name}");
        values[0]
    };
    assert!((one("low_score") - (rows[0].prob + rows[1].prob) / 2.0).abs() < 1e-15);
    assert!((one("high_score") - rows[0].base_prob).abs() < 1e-15);
    assert_eq!(one("noise"), 0.2);
    let integers = |name: &str| -> Vec<i64> {
        let bytes = member(&lab, "a.npz", name);
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let values = bytes[10 + length..].chunks(8);
        values
            .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
            .collect()
    };
    assert_eq!(integers("input_ids"), [279, 285, 263, 700, 261]);
    assert_eq!(
        (
            integers("subject_range"),
            integers("window"),
            integers("samples")
        ),
        (vec![3, 4], vec![3], vec![2])
    );
    let text = |name: &str| {
        let bytes = member(&lab, "a.npz", name);
        String::from_utf8_lossy(&bytes).replace('\0', "")
    };
    assert!(text("answer").contains("'<U7'") && text("answer").ends_with(" Madrid"));
    assert!(text("kind").ends_with("mlp"));
    assert!(text("input_tokens").ends_with("The capital of Spain is"));
    // several components are a first axis, and safetensors say the rest in their metadata
    traced(&lab, &["--samples", "2", "--arrays", "b.safetensors"]);
    let bytes = std::fs::read(lab.path("b.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("scores").unwrap().shape(), [3, 5, 5]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(
        (&*about["kind"], &*about["window"]),
        (r#"["","mlp","attn"]"#, "[1,10,10]")
    );
}

/// Of prompts that differ in length and in what they have: means over those that have a place.
#[test]
fn arrays_of_a_data_set_go_by_roles() {
    let lab = Lab::new();
    let prompt = |text: &str, subject: &str, target: &str| {
        format!(
            "{{\"base\": \"{text}\", \"spans\": {{\"subject\": \"{subject}\"}}, \"targets\": [\"{target}\"], \"wrong_targets\": [\" Paris\"]}}\n"
        )
    };
    let rows = [
        prompt("The capital of Spain is", "Spain", " Madrid"),
        prompt(
            "The capital city of Italy is",
            "capital city of Italy",
            " Rome",
        ),
        prompt("The capital of Italy is", "The capital", " Rome"),
    ];
    lab.write("three.jsonl", rows.concat());
    let args = [
        "trace",
        "--data",
        "three.jsonl",
        "--samples",
        "2",
        "--noise",
        "0.2",
    ];
    let out = [
        "--metric",
        "logit_diff",
        "--out",
        "t.csv",
        "--arrays",
        "a.npz",
    ];
    lab.ok(&[&args[..], &out].concat());
    let rows = lab.table("t.csv").rows;
    let (shape, each) = npy(&lab, "a.npz", "scores_pairs");
    assert_eq!(shape, [3, 3, 7, 5]);
    assert_eq!(npy(&lab, "a.npz", "scores").0, [3, 7, 5]);
    let numbers = |name: &str| npy(&lab, "a.npz", name).1;
    let text = |name: &str| {
        let bytes = member(&lab, "a.npz", name);
        String::from_utf8_lossy(&bytes).replace('\0', "")
    };
    assert!(text("axes").ends_with("componentpositionlayer"));
    let roles = [
        "before",
        "subject.first",
        "subject.middle",
        "subject.last",
        "next",
        "further",
        "end",
    ];
    assert!(text("position").ends_with(&roles.concat()));
    let counts: Vec<i64> = member(&lab, "a.npz", "scores_n")
        .rchunks(8)
        .take(105)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let (mut low, mut high) = (Vec::new(), Vec::new());
    for pair in 0..3 {
        let of = |name: &str, row: &&Row| row.pair == pair && row.name.as_deref() == Some(name);
        low.push(mean(
            rows.iter()
                .filter(|r| of("corrupted", r))
                .map(|r| r.metrics[0]),
        ));
        let clean = lab.sweep(&[
            "--data",
            "three.jsonl",
            "--metric",
            "logit_diff",
            "--op",
            "scale=1",
            "--component",
            "block_output",
            "--layers",
            "0",
            "--positions",
            "0",
        ]);
        high.push(clean[pair as usize].metrics[0]);
    }
    for (i, (component, role, layer)) in ["block_output", "mlp_output", "attention_output"]
        .iter()
        .flat_map(|c| {
            roles
                .iter()
                .flat_map(move |r| (0..5).map(move |l| (c, r, l)))
        })
        .enumerate()
    {
        let own = |pair: u32| {
            let of = rows.iter().filter(|row| {
                row.pair == pair
                    && row.name.as_deref() == Some(role)
                    && row.component.as_deref() == Some(component)
                    && row.layer == Some(layer)
            });
            mean(of.map(|row| row.metrics[0]))
        };
        let own: Vec<f64> = (0..3).map(own).collect();
        for (pair, own) in own.iter().enumerate() {
            let found = each[pair * 105 + i];
            assert!(
                (found - own).abs() < 1e-12 || (found.is_nan() && own.is_nan()),
                "{component} {role} {layer}: {found} {own}"
            );
        }
        let there: Vec<f64> = own.into_iter().filter(|x| !x.is_nan()).collect();
        let n = there.len() as f64;
        let average = mean(there.iter().copied());
        let square = there.iter().map(|x| (x - average).powi(2)).sum::<f64>();
        let deviation = (square / (n - 1.0)).sqrt();
        let same = |name: &str, expected: f64| {
            let found = numbers(name)[i];
            let both = found.is_nan() && expected.is_nan();
            assert!(
                (found - expected).abs() < 1e-12 || both,
                "{name}, {component} {role} {layer}: {found} {expected}"
            );
        };
        same("scores", average);
        same("scores_sd", deviation);
        same("scores_se", deviation / n.sqrt());
        assert_eq!(counts[104 - i], n as i64);
        let expected = match *role {
            // the second prompt's subject ends at the last token but one, the third's begins it
            "before" | "next" => 2 - i64::from(*role == "next"),
            "subject.first" => 2,
            "subject.middle" | "further" => 1,
            _ => 3,
        };
        assert_eq!(n as i64, expected, "{role}");
    }
    for (name, expected) in [("low_score", low), ("high_score", high)] {
        let found = numbers(&format!("{name}_pairs"));
        assert!(
            found
                .iter()
                .zip(&expected)
                .all(|(f, e)| (f - e).abs() < 1e-12)
        );
        let average = mean(expected.into_iter());
        assert!((numbers(name)[0] - average).abs() < 1e-12);
    }
    assert_eq!(numbers("noise"), [0.2]);
    // of one component and one prompt, in safetensors
    lab.write(
        "one.jsonl",
        prompt("The capital of Spain is", "Spain", " Madrid"),
    );
    let args = [
        "trace",
        "--data",
        "one.jsonl",
        "--component",
        "mlp_output",
        "--samples",
        "2",
    ];
    lab.ok(&[&args[..], &["--arrays", "b.safetensors"]].concat());
    let bytes = std::fs::read(lab.path("b.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("scores").unwrap().shape(), [7, 5]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let about = header.metadata().as_ref().unwrap();
    assert_eq!(about["axes"], r#"["position","layer"]"#);
    assert_eq!(about["layer"], "[0,1,2,3,4]");
}
