//! Figures that others have published of OpenAI's GPT-2 small, where its weights are at hand; and
//! the same of the demo model, always. See `tests/cli/published/README.md`.

use std::io::{Write as _, stderr};
use std::path::Path;

use crate::lab::Lab;
use serde::Deserialize;
use serde_json::{Value, json};

/// Published figures are met to this, whatever the model.
const WITHIN: f64 = 1e-4;

#[derive(Deserialize)]
struct Figures {
    tables: Vec<Top>,
    sweep: Sweep,
    parallel: Parallel,
    arrays: Arrays,
}

/// The most probable tokens after a prompt.
#[derive(Deserialize)]
struct Top {
    prompt: String,
    top: Vec<(String, f64)>,
}

/// Head 0 of z and v, in every layer and position.
#[derive(Deserialize)]
struct Sweep {
    base: String,
    source: String,
    targets: Vec<String>,
    /// Tokens that both prompts begin with.
    shared: u32,
    cells: Vec<Cell>,
    within: f64,
}

#[derive(Deserialize)]
struct Cell {
    component: String,
    layer: u32,
    position: u32,
    prob: Vec<f64>,
}

/// block_output of layer 3: position 1 of one source and position 3 of another.
#[derive(Deserialize)]
struct Parallel {
    base: String,
    source: String,
    language: String,
    targets: Vec<String>,
    prob: Vec<f64>,
}

/// Denoising over a data set, by presets.
#[derive(Deserialize)]
struct Arrays {
    rows: Vec<Value>,
    /// Logit difference of each clean prompt, to three decimals.
    clean: Vec<f64>,
    /// Mean logit difference of the corrupted prompts.
    corrupted: f64,
    matrices: Vec<Matrix>,
}

#[derive(Deserialize)]
struct Matrix {
    preset: String,
    shape: Vec<usize>,
    /// (x − corrupted) / (clean − corrupted) of mean logit differences.
    values: Vec<f64>,
}

/// A published model's figures and its name or folder.
struct Published {
    model: String,
    figures: Figures,
}

impl Published {
    fn new(name: &str, model: String) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/published");
        let text = std::fs::read(folder.join(name)).unwrap();
        let figures = serde_json::from_slice(&text).unwrap();
        Self { model, figures }
    }

    fn ok(&self, lab: &Lab, args: &[&str]) -> String {
        lab.ok(&[&["--model", &self.model], args].concat()).out
    }

    fn tables(&self) {
        let lab = Lab::new();
        for Top { prompt, top } in &self.figures.tables {
            let args = ["topk", prompt, "-n", "10", "--format", "json"];
            let said: Vec<Value> = serde_json::from_str(&self.ok(&lab, &args)).unwrap();
            assert_eq!(said.len(), top.len());
            for (said, (token, prob)) in said.iter().zip(top) {
                assert_eq!(said["token"].as_str(), Some(token.as_str()), "{prompt}");
                near(said["prob"].as_f64().unwrap(), *prob, WITHIN, token);
            }
        }
    }

    fn sweep(&self) {
        let lab = Lab::new();
        let sweep = &self.figures.sweep;
        let mut args = vec!["sweep", "--base", &sweep.base, "--source", &sweep.source];
        args.extend(["--heads", "0", "--out", "t.csv"]);
        for target in &sweep.targets {
            args.extend(["--target", target]);
        }
        self.ok(&lab, &args);
        let rows = lab.table("t.csv").rows;
        let shared = rows.iter().filter(|r| r.position.unwrap() < sweep.shared);
        for row in shared {
            assert_eq!(row.prob.to_bits(), row.base_prob.to_bits(), "{row:?}");
        }
        for cell in &sweep.cells {
            let found: Vec<f64> = rows
                .iter()
                .filter(|r| {
                    r.component.as_deref() == Some(&*cell.component)
                        && (r.layer, r.position) == (Some(cell.layer), Some(cell.position))
                })
                .map(|r| r.prob)
                .collect();
            assert_eq!(found.len(), cell.prob.len());
            for (got, want) in found.iter().zip(&cell.prob) {
                let at = format!("{}.{}@{}", cell.component, cell.layer, cell.position);
                near(*got, *want, sweep.within, &at);
            }
        }
    }

    fn parallel(&self) {
        let lab = Lab::new();
        let p = &self.figures.parallel;
        let patch = |position: usize, source: &str| json!({"component": "block_output", "layer": 3, "positions": [position], "source": source});
        let experiment = json!({
            "pair": [{"base": p.base, "source": p.source, "prompts": {"language": p.language}, "targets": p.targets}],
            "run": [{"patches": [patch(1, "language"), patch(3, "source")]}],
        });
        lab.write("e.json", experiment.to_string());
        self.ok(&lab, &["run", "e.json", "--out", "t.csv"]);
        let rows = lab.table("t.csv").rows;
        assert_eq!(rows.len(), p.prob.len());
        for (row, want) in rows.iter().zip(&p.prob) {
            near(row.prob, *want, WITHIN, &row.target);
        }
    }

    fn arrays(&self) {
        let lab = Lab::new();
        let a = &self.figures.arrays;
        let rows: Vec<String> = a.rows.iter().map(Value::to_string).collect();
        lab.write("pairs.jsonl", rows.join("\n"));
        for matrix in &a.matrices {
            let args = [
                "sweep",
                "--data",
                "pairs.jsonl",
                "--bos",
                "--preset",
                &matrix.preset,
            ];
            let out = [
                "--metric",
                "logit_diff",
                "--arrays",
                "m.safetensors",
                "--out",
                "m.parquet",
            ];
            self.ok(&lab, &[&args[..], &out].concat());
            let bytes = std::fs::read(lab.path("m.safetensors")).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let (shape, found) = values(&file, "logit_diff");
            assert_eq!(shape, matrix.shape, "{}", matrix.preset);
            let (_, clean) = values(&file, "logit_diff_source");
            let (_, corrupted) = values(&file, "logit_diff_base");
            for (got, want) in clean.iter().zip(&a.clean) {
                near(*got, *want, 5e-4 + WITHIN, "a clean prompt");
            }
            let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
            let (clean, corrupted) = (mean(&clean), mean(&corrupted));
            near(corrupted, a.corrupted, WITHIN, "the corrupted prompts");
            for (i, (got, want)) in found.iter().zip(&matrix.values).enumerate() {
                let recovered = (got - corrupted) / (clean - corrupted);
                near(recovered, *want, WITHIN, &format!("{}, {i}", matrix.preset));
            }
        }
    }

    fn all(&self) {
        self.tables();
        self.sweep();
        self.parallel();
        self.arrays();
    }
}

fn near(got: f64, want: f64, within: f64, what: &str) {
    assert!(
        (got - want).abs() <= within,
        "{what}: {got}, published {want}"
    );
}

fn values(file: &safetensors::SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f64>) {
    let tensor = file.tensor(name).unwrap();
    let data = tensor.data();
    let values = match tensor.dtype() {
        safetensors::Dtype::F64 => data
            .as_chunks::<8>()
            .0
            .iter()
            .map(|b| f64::from_le_bytes(*b))
            .collect(),
        _ => data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|b| f64::from(f32::from_le_bytes(*b)))
            .collect(),
    };
    (tensor.shape().to_vec(), values)
}

#[test]
fn figures_of_the_demo_model() {
    Published::new("demo.json", "demo".into()).all();
}

#[test]
fn published_figures_of_gpt2() {
    match std::env::var("HEADLIGHT_GPT2") {
        Ok(folder) => Published::new("gpt2.json", folder).all(),
        Err(_) => {
            // at least its form is read, and is of GPT-2's shape
            let Published { figures, .. } = Published::new("gpt2.json", String::new());
            let shapes = figures
                .arrays
                .matrices
                .iter()
                .map(|m| (m.shape.iter().product(), m.values.len()));
            shapes.for_each(|(shape, values): (usize, usize)| assert_eq!(shape, values));
            assert_eq!(figures.arrays.rows.len(), figures.arrays.clean.len());
            // libtest captures what print macros write, not this
            let skipped = "published_figures_of_gpt2 skipped: HEADLIGHT_GPT2 names no folder with OpenAI's GPT-2 \
                           small; HEADLIGHT_GPT2=/path/to/gpt2 cargo test --test cli published runs it\n";
            let _ = stderr().write_all(skipped.as_bytes());
        }
    }
}
