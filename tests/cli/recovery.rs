//! A recovery over pairs is that of their means, in summaries, arrays and pictures; the mean of the pairs' own
//! stands beside it.

use headlight::report::{DrawnValue, HeatMap};
use headlight::results::metric::Quantity;

use crate::lab::Lab;
use crate::metrics::npy;

/// Pairs whose base and source differ by much, by little and not at all.
const PAIRS: &str = r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"]}
{"base": "The capital of Spain is", "source": "The capital of France is", "targets": [" Berlin"]}
{"base": "The capital of France is", "source": "The capital of Italy is", "targets": [" Rome"]}
"#;
const SAME: &str = r#"{"base": "The capital of Spain is", "source": "The capital of Spain is", "targets": [" Madrid"]}
"#;

/// The numbers under this name in a summary, line by line.
fn column(summary: &str, name: &str) -> Vec<f64> {
    let mut lines = csv::Reader::from_reader(summary.as_bytes());
    let at = lines
        .headers()
        .unwrap()
        .iter()
        .position(|n| n == name)
        .unwrap();
    let number = |line: Result<csv::StringRecord, _>| line.unwrap()[at].parse().unwrap();
    lines.records().map(number).collect()
}

#[test]
fn a_recovery_of_several_pairs_is_that_of_their_means() {
    let lab = Lab::new();
    for (data, pairs) in [(PAIRS.to_owned(), 3), (format!("{PAIRS}{SAME}"), 4)] {
        lab.write("d.jsonl", data);
        let said = lab.ok(&[
            "sweep",
            "--data",
            "d.jsonl",
            "--preset",
            "every-head-by-position",
            "--metric",
            "recovery_logit,logit",
            "--out",
            "t.parquet",
            "--arrays",
            "a.npz",
            "--plot",
            "p.svg",
        ]);
        // from what each pair gave: logits of its runs and of its clean prompts
        let of = |name: &str| npy(&lab, "a.npz", name);
        let (shape, runs) = of("logit_pairs");
        let cells = runs.len() / pairs;
        assert_eq!(shape[0], pairs);
        let ((_, base), (_, source)) = (of("logit_base"), of("logit_source"));
        let (_, own) = of("recovery_logit_pairs");
        let (_, of_means) = of("recovery_logit");
        let (_, mean) = of("recovery_logit_mean");
        let sum = |x: &[f64]| x.iter().sum::<f64>();
        let differ = sum(&source) - sum(&base);
        let mut furthest = 0.0f64;
        for cell in 0..cells {
            let here: Vec<f64> = (0..pairs).map(|p| runs[p * cells + cell]).collect();
            let wanted = (sum(&here) - sum(&base)) / differ;
            assert!(
                (of_means[cell] - wanted).abs() < 1e-9,
                "{cell} {wanted} {}",
                of_means[cell]
            );
            // a pair without a difference has no recovery of its own
            let own: Vec<f64> = (0..pairs)
                .map(|p| own[p * cells + cell])
                .filter(|x| !x.is_nan())
                .collect();
            let wanted = sum(&own) / own.len() as f64;
            assert!((mean[cell] - wanted).abs() < 1e-9 || (mean[cell].is_nan() && wanted.is_nan()));
            furthest = furthest.max((mean[cell] - of_means[cell]).abs());
        }
        assert!(furthest > 0.05, "the two hardly differ: {furthest}");

        // the summary has both
        let summary = lab.ok(&[
            "sweep",
            "--data",
            "d.jsonl",
            "--preset",
            "every-head-by-position",
            "--metric",
            "recovery_logit",
            "--out",
            "s.csv",
        ]);
        assert!(
            summary.out.contains("recovery_logit, base → patched"),
            "{}",
            summary.out
        );
        let summary = lab.read("s.summary.csv");
        for (name, wanted) in [
            ("recovery_logit", &of_means),
            ("recovery_logit_mean", &mean),
        ] {
            // the array is by layer, position, head, a table by layer, head, position
            let mut found = column(&summary, name);
            let mut wanted = wanted.clone();
            found.sort_by(f64::total_cmp);
            wanted.sort_by(f64::total_cmp);
            assert_eq!(found.len(), wanted.len());
            let near = found.iter().zip(&wanted).all(|(x, y)| (x - y).abs() < 1e-9);
            assert!(near, "{name}");
        }

        // the picture is the same from the sweep and from its file, and holds the first
        lab.ok(&[
            "plot",
            "t.parquet",
            "--value",
            "recovery_logit",
            "--out",
            "q.svg",
        ]);
        assert!(lab.read("p.svg") == lab.read("q.svg"), "{pairs} pairs");
        let table = lab.table("t.parquet");
        let map = HeatMap::new(&table, &DrawnValue::of("recovery_logit")).unwrap();
        let mut drawn: Vec<f64> = map
            .facets
            .iter()
            .flat_map(|facet| facet.cells.iter().flatten().copied())
            .collect();
        let mut wanted = of_means.clone();
        drawn.sort_by(f64::total_cmp);
        wanted.sort_by(f64::total_cmp);
        assert_eq!(drawn.len(), wanted.len());
        let near = drawn.iter().zip(&wanted).all(|(x, y)| (x - y).abs() < 1e-9);
        assert!(near, "{drawn:?} {wanted:?}");
        assert_eq!(
            (map.facets[0].base, map.facets[0].source),
            (Some(0.0), Some(1.0))
        );
        assert!(
            map.notes
                .iter()
                .any(|n| n.contains("that of their mean values")),
            "{:?}",
            map.notes
        );
        // what was read of the clean prompts stands with the pairs
        let clean = &table.provenance.pairs[0]
            .clean
            .get(Quantity::Logit)
            .unwrap();
        assert_eq!((clean.base[0], clean.source[0]), (base[0], source[0]));
        assert!(said.out.contains("strongest"));
    }
}

/// One cell that changes a probability much in one pair filled all ten lines.
#[test]
fn strongest_cells_are_those_of_the_mean_by_the_first_metric() {
    let lab = Lab::new();
    lab.write("d.jsonl", PAIRS.repeat(4));
    let sweep = |metric: &[&str]| {
        let args = [
            "sweep",
            "--data",
            "d.jsonl",
            "--heads",
            "0",
            "--component",
            "head_value_output",
            "--out",
            "t.csv",
        ];
        let out = lab.ok(&[&args[..], metric].concat()).out;
        let lines = out.lines().skip_while(|line| *line != "strongest").skip(1);
        let lines: Vec<String> = lines
            .take_while(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        (lines, lab.read("t.summary.csv"))
    };
    for metric in ["logit", "kl", "prob"] {
        let (lines, summary) = sweep(&["--metric", metric]);
        assert!(
            lines.len() > 5 && lines[1..].iter().all(|line| line.ends_with("12 pairs")),
            "{lines:#?}"
        );
        // no place twice
        let place = |line: &String| {
            line.split_whitespace()
                .take(3)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut places: Vec<_> = lines[1..].iter().map(place).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), lines.len() - 1, "{lines:#?}");
        // the first line is the place of the largest mean change
        let value = column(&summary, metric);
        let (layer, position) = (column(&summary, "layer"), column(&summary, "position"));
        // the base's mean: what the last position of the first layer's head leaves as it was
        let base = match metric {
            "kl" => 0.0,
            _ => {
                let clean = lab.ok(&[
                    "sweep",
                    "--data",
                    "d.jsonl",
                    "--heads",
                    "0",
                    "--layers",
                    "0",
                    "--positions",
                    "0",
                    "--component",
                    "head_value_output",
                    "--op",
                    "scale=1",
                    "--out",
                    "c.csv",
                    "--metric",
                    metric,
                ]);
                assert!(clean.out.contains("no patch changed"), "{}", clean.out);
                column(&lab.read("c.summary.csv"), metric)[0]
            }
        };
        let most = (0..value.len())
            .max_by(|a, b| {
                (value[*a] - base)
                    .abs()
                    .total_cmp(&(value[*b] - base).abs())
            })
            .unwrap();
        let wanted = [
            format!("v{}", layer[most]),
            "0".to_owned(),
            position[most].to_string(),
        ];
        assert_eq!(place(&lines[1]), wanted, "{lines:#?}");
    }
}
