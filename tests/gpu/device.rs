//! Which device runs, what is said where one cannot, and that both agree: the program with drivers of
//! every kind, on the emulated driver put into its library path.

use std::collections::BTreeSet;

use crate::emulator;
use crate::lab::{self, Lab, Said};
use headlight::backend::Precision;
use headlight::backend::cuda::{COMPILED_BY, Cuda};
use headlight::model::Checkpoint;
use headlight::results::table::Row;
use headlight::verify::Gates;

/// Runs the program with the emulated driver, set up by some variables.
fn with_driver(lab: &Lab, settings: &[(&str, &str)], args: &[&str]) -> Said {
    let library = emulator::library();
    let mut command = lab.command(args);
    command.env("LD_LIBRARY_PATH", library.parent().unwrap());
    command.env("HEADLIGHT_EMULATOR_DRIVER", "99000");
    command.envs(settings.iter().copied());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn assert_falls_back(settings: &[(&str, &str)], why: &str) {
    let lab = Lab::new();
    let auto = with_driver(
        &lab,
        settings,
        &["topk", "The capital of Spain is", "-n", "1"],
    );
    assert_eq!(auto.code, Some(0), "{auto:?}");
    assert!(
        auto.out.contains("_Madrid ") && auto.out.contains(" 0.984"),
        "{auto:?}"
    );
    assert!(
        auto.err.contains("device: cpu") && auto.err.contains(why),
        "{auto:?}"
    );
    assert_eq!(auto.err.lines().count(), 1, "{auto:?}");
    assert_refused(&lab, settings, "cuda", why);
}

fn assert_refused(lab: &Lab, settings: &[(&str, &str)], device: &str, why: &str) {
    let args = ["--device", device, "topk", "The capital of Spain is"];
    let asked = with_driver(lab, settings, &args);
    assert_eq!((asked.code, &*asked.out), (Some(2), ""), "{asked:?}");
    assert!(
        asked.err.starts_with("headlight: ") && asked.err.contains(why),
        "{asked:?}"
    );
    assert_eq!(asked.err.lines().count(), 1, "{asked:?}");
}

#[test]
fn the_gpu_is_taken_where_there_is_one_and_agrees() {
    let lab = Lab::new();
    let sweep = |device: &str, out: &str| {
        let args = ["--device", device, "sweep", "--layers", "0,3", "--out", out];
        let said = with_driver(&lab, &[], &args);
        assert_eq!(said.code, Some(0), "{said:?}");
        (said, lab.table(out).rows)
    };
    let (said, gpu) = sweep("auto", "gpu.csv");
    assert!(
        said.err
            .contains("device: cuda:0, headlight emulated device"),
        "{said:?}"
    );
    let (_, cpu) = sweep("cpu", "cpu.csv");
    assert_eq!(gpu.len(), cpu.len());
    for (gpu, cpu) in gpu.iter().zip(&cpu) {
        assert!((gpu.logprob - cpu.logprob).abs() < 1e-4, "{gpu:?}\n{cpu:?}");
    }
    let meta = lab.read("gpu.csv.meta.json");
    assert!(meta.contains("headlight emulated device"), "{meta}");
}

/// Pairs of unequal lengths, patched at places that each finds by itself: every column of the table and of
/// its averages.
#[test]
fn a_ragged_data_set_agrees_in_every_column() {
    let lab = Lab::new();
    let pair = |[base, source]: [(&str, &str); 2], targets: &str, wrong: &str| {
        let (b, s) = (base.1, source.1);
        format!(
            "{{\"base\": \"{}\", \"source\": \"{}\", \"targets\": [{targets}], \"wrong_targets\": [{wrong}], \
             \"spans\": {{\"land\": \"{b}\"}}, \"source_spans\": {{\"land\": \"{s}\"}}}}\n",
            base.0.replace("{}", b),
            source.0.replace("{}", s)
        )
    };
    let (short, long) = ("The capital of {} is", "The capital city of {} is");
    let longest = "The old capital city of {} is";
    let rows = [
        pair(
            [(short, "Spain"), (short, "Italy")],
            "\" Rome\"",
            "\" Madrid\"",
        ),
        pair(
            [(long, "Spain"), (short, "Poland")],
            "\" Warsaw\", \" Madrid\"",
            "\" Athens\"",
        ),
        pair(
            [(short, "France"), (longest, "Italy")],
            "\" Rome\"",
            "\" Paris\", \" Berlin\"",
        ),
        pair(
            [(longest, "Greece"), (long, "Germany")],
            "\" Berlin\"",
            "\" Athens\", \" Rome\"",
        ),
    ];
    lab.write("ragged.jsonl", rows.concat());
    let sweep = |device: &str, out: &str, more: &[&str]| {
        let args = [
            "--device",
            device,
            "sweep",
            "--data",
            "ragged.jsonl",
            "--component",
            "block_output,head_value_output,mlp_activation",
            "--layers",
            "1,4",
            "--positions",
            "land.last,end,-3",
            "--metric",
            "rank,logit_diff,prob_diff,kl,top1,entropy,recovery_prob,recovery_logit_diff,recovery_kl",
            "--out",
            out,
        ];
        let said = with_driver(&lab, &[], &[more, &args].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.contains(&format!("device: {device}")), "{said:?}");
        lab.table(out)
    };
    let (cpu, gpu) = (sweep("cpu", "cpu.csv", &[]), sweep("cuda", "gpu.csv", &[]));
    // two layers at three places: a block's output, four heads and an MLP; a row a target
    assert_eq!(cpu.rows.len(), 2 * 3 * 6 * 5);
    let lengths = ["cpu.csv", "gpu.csv"].map(|file| {
        let meta: serde_json::Value =
            serde_json::from_str(&lab.read(&format!("{file}.meta.json"))).unwrap();
        let pairs = meta["pairs"].as_array().unwrap().clone();
        let length = |pair: &serde_json::Value, ids: &str| pair[ids].as_array().unwrap().len();
        pairs
            .iter()
            .map(|p| (length(p, "base_ids"), length(p, "source_ids")))
            .collect::<Vec<_>>()
    });
    assert_eq!(lengths[0], lengths[1]);
    let all: BTreeSet<usize> = lengths[0].iter().flat_map(|(b, s)| [*b, *s]).collect();
    assert!(all.len() == 3, "{all:?}");
    assert!(lengths[0].iter().filter(|(b, s)| b != s).count() == 3);

    let gate = Gates::of(Precision::F32).run();
    let mut worst = (0.0, String::new());
    let mut close = |cpu: &str, gpu: &str, at: &str| {
        let numbers = [cpu, gpu].map(|text| text.parse::<f64>());
        let [Ok(a), Ok(b)] = numbers else {
            return assert_eq!(cpu, gpu, "{at}");
        };
        let error = (a - b).abs() / a.abs().max(1.0);
        assert!(
            error <= gate || (a.is_nan() && b.is_nan()),
            "{at}: {cpu} {gpu}"
        );
        if error > worst.0 {
            worst = (error, at.to_owned());
        }
    };
    // what counts tokens is the same to the last one
    let counts = [
        "pair",
        "run",
        "layer",
        "head",
        "position",
        "source_position",
        "target_id",
        "rank",
        "top1",
    ];
    for file in ["csv", "summary.csv"] {
        let [cpu, gpu] = ["cpu", "gpu"].map(|device| lab.read(&format!("{device}.{file}")));
        let [cpu, gpu] = [&cpu, &gpu].map(|text| {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let header = reader.headers().unwrap().clone();
            let rows = reader.records().map(Result::unwrap);
            (header, rows.collect::<Vec<_>>())
        });
        assert_eq!((&cpu.0, cpu.1.len()), (&gpu.0, gpu.1.len()), "{file}");
        for (line, (a, b)) in cpu.1.iter().zip(&gpu.1).enumerate() {
            for (column, (a, b)) in cpu.0.iter().zip(a.iter().zip(b)) {
                let at = format!("{file}, row {line}, {column}");
                match counts.contains(&column) {
                    true => assert_eq!(a, b, "{at}"),
                    false => close(a, b, &at),
                }
            }
        }
    }
    let (worst, at) = worst;
    println!("worst difference {worst:.1e} in {at}, where {gate:.0e} is allowed");
    // patches move what is compared
    let kl = gpu.metrics.iter().position(|name| name == "kl").unwrap();
    let moved = |row: &&Row| row.metrics[kl] > 100.0 * gate;
    let moved = gpu.rows.iter().filter(moved).count();
    assert!(moved > 10, "{moved}");

    // and how it is cut changes no bit
    let tight = sweep("cuda", "tight.csv", &["--memory", "1M"]);
    let same = |a: &Row, b: &Row| {
        let bits = |row: &Row| -> Vec<u64> {
            row.metrics
                .iter()
                .chain([&row.logit, &row.logprob])
                .map(|x| x.to_bits())
                .collect()
        };
        bits(a) == bits(b)
    };
    assert!(gpu.rows.iter().zip(&tight.rows).all(|(a, b)| same(a, b)));
    assert_eq!(gpu.rows.len(), tight.rows.len());
}

#[test]
fn no_driver_falls_back() {
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        eprintln!("skipped: this machine has a driver");
        return;
    }
    let lab = Lab::new();
    let why = "no NVIDIA driver is installed";
    let said = lab.ok(&["topk", "The capital of Spain is", "-n", "1"]);
    assert!(
        said.err.contains("device: cpu") && said.err.contains(why),
        "{said:?}"
    );
    lab.refused(&["--device", "cuda", "topk", "x"], &[why]);
}

#[test]
fn a_driver_without_a_device_falls_back() {
    assert_falls_back(&[("HEADLIGHT_EMULATOR_DEVICES", "0")], "reports no device");
}

#[test]
fn a_driver_that_does_not_start_falls_back() {
    let settings = [("HEADLIGHT_EMULATOR_INIT", "803")];
    assert_falls_back(
        &settings,
        "does not start: system has unsupported display driver",
    );
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let lab = Lab::new();
    assert_refused(&lab, &[], "cuda:3", "there is no device 3: 1 are there");
}

#[test]
fn devices_share_runs_out_and_nothing_else_changes() {
    let lab = Lab::new();
    lab.write("data.jsonl", DATA);
    let commands: [&[&str]; 6] = [
        &["sweep", "--layers", "0,3"],
        &[
            "sweep",
            "--layers",
            "1",
            "--data",
            "data.jsonl",
            "--metric",
            "kl,rank",
        ],
        &["edges", "--receivers", "a1.h0.q", "--data", "data.jsonl"],
        &["edges", "--receivers", "a1.h0.q", "--per-position"],
        &["path", "--receivers", "a1.h0.q", "--data", "data.jsonl"],
        &[
            "trace",
            "The capital of Spain is",
            "--subject",
            "Spain",
            "--samples",
            "2",
        ],
    ];
    for (i, command) in commands.iter().enumerate() {
        let written = |device: &str, count: &str| {
            let out = format!("{i}-{}.csv", device.replace([':', ','], "-"));
            let settings = [("HEADLIGHT_EMULATOR_DEVICES", count)];
            let args = [&["--device", device], *command, &["--out", &out]].concat();
            let said = with_driver(&lab, &settings, &args);
            assert_eq!(said.code, Some(0), "{said:?}");
            let summary = std::fs::read(lab.path(&out.replace(".csv", ".summary.csv"))).ok();
            (said, lab.read(&out), summary)
        };
        let (_, alone, alone_summary) = written("cuda:0", "1");
        let (device, count, name) = match i % 2 {
            0 => ("cuda:1,0", "2", "cuda:1,0, headlight"),
            _ => ("all", "3", "cuda:0,1,2, headlight"),
        };
        let (said, together, summary) = written(device, count);
        assert!(said.err.contains(name), "{said:?}");
        assert_eq!(together, alone, "{command:?}");
        assert_eq!(summary, alone_summary, "{command:?}");
    }
}

/// Pairs of several lengths.
const DATA: &str = r#"{"base": "The capital of Spain is", "source": "The capital of Italy is", "targets": [" Madrid"]}
{"base": "I think the capital of Italy is", "source": "I think the capital of Spain is", "targets": [" Rome"]}
{"base": "The capital of Italy is", "source": "The capital of Spain is", "targets": [" Rome"]}
"#;

#[test]
fn devices_of_two_kinds_do_not_fill_one_table() {
    let lab = Lab::new();
    let settings = [
        ("HEADLIGHT_EMULATOR_DEVICES", "3"),
        ("HEADLIGHT_EMULATOR_ODD", "2"),
    ];
    let why = "cuda:0 is headlight emulated device and cuda:2 is headlight odd device";
    assert_refused(&lab, &settings, "all", why);
    assert_refused(&lab, &settings, "cuda:0,2", why);
    let args = ["--device", "cuda:1,0", "topk", "The capital of Spain is"];
    assert_eq!(with_driver(&lab, &settings, &args).code, Some(0));
    lab.refused(
        &["--device", "cuda:1,1", "topk", "x"],
        &["names cuda:1 twice"],
    );
    lab.refused(
        &["--device", "cuda:1,", "topk", "x"],
        &["unknown device `cuda:1,`"],
    );
}

#[test]
fn an_old_device_falls_back() {
    let settings = [("HEADLIGHT_EMULATOR_CAPABILITY", "75")];
    assert_falls_back(
        &settings,
        "has compute capability 7.5, and the kernels need 8.0",
    );
}

#[test]
fn kernels_that_were_not_compiled_fall_back() {
    let settings = [("HEADLIGHT_EMULATOR_STRICT", "1")];
    match COMPILED_BY {
        None => assert_falls_back(&settings, "built without nvcc"),
        Some(_) => {
            let lab = Lab::new();
            let said = with_driver(&lab, &settings, &["info"]);
            assert!(said.out.contains("would use  cuda:0"), "{said:?}");
        }
    }
}

#[test]
fn a_driver_older_than_the_compiler_falls_back() {
    let settings = [("HEADLIGHT_EMULATOR_DRIVER", "11080")];
    match COMPILED_BY {
        Some(_) => assert_falls_back(&settings, "the driver serves CUDA 11.8 at most"),
        // a placeholder has no compiler to be older than
        None => {
            let said = with_driver(&Lab::new(), &settings, &["info"]);
            assert!(said.out.contains("would use  cuda:0"), "{said:?}");
        }
    }
}

#[test]
fn a_device_too_small_for_the_weights_falls_back() {
    let needed = Cuda::weight_bytes(&Checkpoint::demo().unwrap().config, Precision::F32);
    let settings = [("HEADLIGHT_EMULATOR_MEMORY", &*(needed - 1).to_string())];
    let why = format!(
        "{} bytes free, and the weights alone need {needed}",
        needed - 1
    );
    assert_falls_back(&settings, &why);
}

/// The budget allows more than the device has: chunks are halved until they fit, those of an odd number of
/// runs too.
#[test]
fn what_does_not_fit_is_halved_and_changes_no_bit() {
    let lab = Lab::new();
    let weights = Cuda::weight_bytes(&Checkpoint::demo().unwrap().config, Precision::F32);
    let refused = lab.path("refused");
    let sweep = |out: &str, room: u64, cells: &[&str]| {
        let _ = std::fs::remove_file(&refused);
        let room = (weights + room).to_string();
        let settings = [
            ("HEADLIGHT_EMULATOR_MEMORY", &*room),
            ("HEADLIGHT_EMULATOR_REFUSALS", refused.to_str().unwrap()),
        ];
        let args = [&["--memory", "2G", "sweep", "--out", out], cells].concat();
        let said = with_driver(&lab, &settings, &args);
        let refusals = std::fs::read(&refused).map_or(0, |bytes| bytes.len());
        (said, refusals)
    };
    let all = ["--layers", "0,1"];
    // 45 runs, and whatever is left of them
    let odd = ["--component", "hook_z", "--layers", "0-2", "--heads", "0-2"];
    let mut halved = [0, 0];
    for (cells, halved) in [&all[..], &odd].into_iter().zip(&mut halved) {
        let (plenty, refusals) = sweep("plenty.csv", 1 << 30, cells);
        assert_eq!((plenty.code, refusals), (Some(0), 0), "{plenty:?}");
        let plenty = lab.table("plenty.csv").rows;
        // from where some chunks fit to where no run does
        for room in [430_000, 410_000, 390_000, 375_000] {
            let (tight, refusals) = sweep("tight.csv", room, cells);
            if tight.code == Some(2) {
                assert!(tight.err.contains("the device has no room"), "{tight:?}");
                break;
            }
            assert_eq!(tight.code, Some(0), "{tight:?}");
            let tight = lab.table("tight.csv").rows;
            assert_eq!(tight.len(), plenty.len(), "{room}");
            assert_eq!(lab::bits(&tight), lab::bits(&plenty), "{room}");
            *halved += refusals;
        }
    }
    assert!(halved[0] > 20 && halved[1] > 5, "{halved:?} refusals");

    let (nothing, _) = sweep("nothing.csv", 1 << 16, &all);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    assert!(
        nothing.err.contains("the device has no room"),
        "{nothing:?}"
    );
    assert!(!lab.path("nothing.csv").exists());
}

#[test]
fn precisions_go_where_they_run() {
    let lab = Lab::new();
    let none = [("HEADLIGHT_EMULATOR_DEVICES", "0")];
    let topk = ["topk", "The capital of Spain is", "-n", "1"];
    for precision in ["tf32", "bf16", "f16"] {
        let args = [&["--precision", precision], &topk[..]].concat();
        let said = with_driver(&lab, &[], &args);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(
            said.err.contains("cuda:0") && said.out.contains("_Madrid "),
            "{said:?}"
        );
        // never in another precision than the one asked for
        let said = with_driver(&lab, &none, &args);
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(
            said.err
                .contains("GPU only, and the NVIDIA driver reports no device"),
            "{said:?}"
        );
    }
    let f64 = with_driver(&lab, &[], &[&["--precision", "f64"], &topk[..]].concat());
    assert!(
        f64.err.contains("device: cpu") && f64.err.contains("f64 runs on the CPU only"),
        "{f64:?}"
    );
    let args = [&["--precision", "f64", "--device", "cuda"], &topk[..]].concat();
    assert_eq!(with_driver(&lab, &[], &args).code, Some(2));
}

#[test]
fn activations_come_from_the_device_too() {
    let lab = Lab::new();
    for device in ["cpu", "cuda"] {
        let args = [
            "--device",
            device,
            "cache",
            "The capital of Spain is",
            "--component",
            "hook_resid_post,hook_pattern,hook_attn_scores,hook_q",
            "--out",
            &format!("{device}.safetensors"),
        ];
        let said = with_driver(&lab, &[], &args);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    let [cpu, gpu] =
        ["cpu", "cuda"].map(|d| std::fs::read(lab.path(&format!("{d}.safetensors"))).unwrap());
    let [cpu, gpu] =
        [&cpu, &gpu].map(|bytes| safetensors::SafeTensors::deserialize(bytes).unwrap());
    assert_eq!(cpu.names().len(), 20);
    for name in cpu.names() {
        let [cpu, gpu] = [&cpu, &gpu].map(|file| {
            let tensor = file.tensor(name).unwrap();
            let (values, _) = tensor.data().as_chunks::<4>();
            values
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect::<Vec<_>>()
        });
        let close = |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= 1e-4 * a.abs().max(1.0);
        assert!(cpu.iter().zip(&gpu).all(close), "{name}");
    }
}

#[test]
fn info_describes_the_device() {
    let said = with_driver(&Lab::new(), &[], &["info"]);
    assert!(
        said.out
            .contains("headlight emulated device, compute capability 8.0"),
        "{said:?}"
    );
    assert!(said.out.contains("would use  cuda:0"), "{said:?}");
}

#[test]
fn verify_compares_cpu_and_gpu() {
    let args = ["--model", &lab::fixture("tied"), "verify"];
    let said = with_driver(&Lab::new(), &[], &args);
    assert_eq!(said.code, Some(0), "{said:?}");
    for who in ["cpu f32 against", "headlight emulated device f32 against"] {
        assert!(said.out.contains(who), "{said:?}");
    }
    assert!(!said.out.contains("OVER"), "{said:?}");
}
