//! `--out DIR/`: what is computed once is never computed again, whatever happens to the process, and ends up as the
//! bytes of a run that nothing happened to.

mod damage;
pub mod kills;
pub mod shards;
mod signals;
mod slurm;
mod watching;

use std::collections::BTreeMap;

use parquet::file::reader::{FileReader, SerializedFileReader};

use crate::lab::Lab;

/// Commands that patch pairs of a data set, without `--out`, and their names.
pub const COMMANDS: [(&str, &[&str]); 4] = [
    (
        "sweep",
        &[
            "sweep",
            "--data",
            "many.jsonl",
            "--component",
            "hook_z,hook_v,mlp_output",
            "--metric",
            "rank,recovery_logit_diff",
        ],
    ),
    (
        "edges",
        &["edges", "--data", "many.jsonl", "--receivers", "logits,m1"],
    ),
    (
        "path",
        &[
            "path",
            "--data",
            "many.jsonl",
            "--receivers",
            "a1.h0.q,a1.h1.v,logits",
            "--apart",
        ],
    ),
    (
        "trace",
        &[
            "trace",
            "--data",
            "many.jsonl",
            "--subject",
            "city",
            "--samples",
            "3",
        ],
    ),
];

const COUNTRIES: [&str; 5] = ["Spain", "Italy", "France", "Germany", "Japan"];

/// A folder with a data set of so many pairs, of which rows have ids and two targets.
pub fn lab(pairs: usize) -> Lab {
    let lab = Lab::new();
    let row = |i: usize| {
        let (base, source) = (COUNTRIES[i % 5], COUNTRIES[(i / 5 + i + 1) % 5]);
        format!(
            "{{\"id\": \"r{i}\", \"base\": \"The capital of {base} is\", \"source\": \"The capital of {source} is\", \
             \"targets\": [\" Madrid\", \" Rome\"], \"wrong_targets\": [\" Paris\"], \
             \"spans\": {{\"city\": \"{base}\"}}}}\n"
        )
    };
    lab.write("many.jsonl", (0..pairs).map(row).collect::<String>());
    lab
}

/// A Parquet file of whatever columns, as text row by row.
pub fn cells(lab: &Lab, name: &str) -> Vec<String> {
    let file = std::fs::File::open(lab.path(name)).unwrap();
    let rows = SerializedFileReader::new(file).unwrap();
    let rows = rows.get_row_iter(None).unwrap();
    rows.map(|row| row.unwrap().to_string()).collect()
}

/// The files of a folder that are results.
pub fn results(lab: &Lab, folder: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(lab.path(folder)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with('.') {
            files.insert(name, std::fs::read(path).unwrap());
        }
    }
    files
}

/// Asserts that two folders hold the same results.
pub fn assert_same(lab: &Lab, folder: &str, wanted: &BTreeMap<String, Vec<u8>>, after: &str) {
    let found = results(lab, folder);
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(wanted), "{after}");
    for (name, bytes) in wanted {
        assert!(found[name] == *bytes, "{name} differs {after}");
    }
}

/// A command with its results in `out`, in parts of so many rows.
pub fn to<'a>(command: &[&'a str], out: &'a str, rows: &'a str) -> Vec<&'a str> {
    [command, &["--out", out, "--part-rows", rows]].concat()
}

#[test]
fn a_folder_merges_into_the_file() {
    let lab = lab(7);
    for (name, command) in COMMANDS {
        let file = [command, &["--out", "one.parquet"]].concat();
        let one = lab.ok(&file);
        let parts = lab.ok(&to(command, "d/", "37"));
        let names: Vec<String> = results(&lab, "d").into_keys().collect();
        assert!(names.len() > 6, "{names:?}");
        assert_eq!(names[0], "manifest.json");
        assert_eq!(names[1], "part-00000.parquet");
        assert_eq!(names.last().unwrap(), "summary.parquet");
        // what people see is the same but for times and files
        let seen = |text: &str| {
            let (seen, _) = text.rsplit_once("\n\n").unwrap();
            seen.to_owned()
        };
        assert_eq!(seen(&one.out), seen(&parts.out), "{name}");
        let bytes = |file: &str| std::fs::read(lab.path(file)).unwrap();
        let (table, summary) = (bytes("one.parquet"), bytes("one.summary.parquet"));
        std::fs::remove_file(lab.path("one.parquet")).unwrap();
        std::fs::remove_file(lab.path("one.summary.parquet")).unwrap();
        lab.ok(&["merge", "d", "--out", "one.parquet"]);
        assert!(bytes("one.parquet") == table, "{name}");
        assert!(bytes("one.summary.parquet") == summary, "{name}");
        // no part is more than was asked for, and together they are all rows
        let rows = |file: &str| lab.table(file).rows;
        let whole = rows("one.parquet");
        let each = names.iter().filter(|name| name.starts_with("part-"));
        let each: Vec<_> = each.map(|part| rows(&format!("d/{part}"))).collect();
        assert!(each.iter().all(|rows| rows.len() <= 37));
        assert_eq!(each.concat(), whole);
        // and in the folder averages are those of the file
        let averages = |file: &str| cells(&lab, file);
        assert_eq!(
            averages("d/summary.parquet"),
            averages("one.summary.parquet")
        );
        std::fs::remove_dir_all(lab.path("d")).unwrap();
    }
}

/// CSV too, and what has no data set.
#[test]
fn other_formats_and_a_pair_that_was_typed() {
    let lab = Lab::new();
    let command = ["sweep", "--component", "hook_z"];
    lab.ok(&[&command[..], &["--out", "one.csv"]].concat());
    let files = lab.files();
    lab.ok(&to(&command, "d/", "13"));
    for file in ["one.csv", "one.csv.meta.json"] {
        std::fs::remove_file(lab.path(file)).unwrap();
    }
    lab.ok(&["merge", "d/", "--out", "one.csv"]);
    for file in ["one.csv", "one.csv.meta.json"] {
        let path = lab.path(file);
        assert!(std::fs::read(&path).unwrap() == files[&path], "{file}");
    }
    assert!(!lab.path("one.summary.csv").exists());
    assert!(lab.path("d/summary.parquet").exists());
}

#[test]
fn what_is_there_is_not_computed_again() {
    let lab = lab(6);
    let (_, command) = COMMANDS[0];
    lab.ok(&to(command, "d/", "50"));
    let first = results(&lab, "d");
    // a folder that a run made needs no slash
    let again = lab.ok(&to(command, "d", "50"));
    assert!(again.out.contains("\n0 runs in"), "{}", again.out);
    assert!(again.out.contains("were there already"), "{}", again.out);
    assert!(!again.out.contains("runs/s"), "{}", again.out);
    assert_same(&lab, "d", &first, "after a second start");
    // a merge leaves nothing there that a killed process has left, and touches nobody else's files
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for left in [".headlight-abc.part", "mine.part"] {
        let file = std::fs::File::create(lab.path("d").join(left)).unwrap();
        file.set_modified(then).unwrap();
    }
    lab.ok(&["merge", "d", "--out", "merged.csv"]);
    assert!(!lab.path("d/.headlight-abc.part").exists());
    std::fs::remove_file(lab.path("d/mine.part")).unwrap();
    // one part, then a summary, then all
    std::fs::remove_file(lab.path("d/part-00003.parquet")).unwrap();
    std::fs::remove_file(lab.path("d/summary.parquet")).unwrap();
    let again = lab.ok(&[&to(command, "d/", "50")[..], &["--resume"]].concat());
    assert!(again.out.contains("\n25 runs in"), "{}", again.out);
    assert_same(&lab, "d", &first, "after a part was lost");
    // nor need it be said again how it was cut
    std::fs::remove_file(lab.path("d/part-00001.parquet")).unwrap();
    lab.ok(&[command, &["--out", "d/"]].concat());
    assert_same(
        &lab,
        "d",
        &first,
        "after a start that says nothing of parts",
    );
    // what is damaged is computed again
    let part = lab.path("d/part-00002.parquet");
    let whole = std::fs::read(&part).unwrap();
    std::fs::write(&part, &whole[..whole.len() - 9]).unwrap();
    let again = lab.ok(&to(command, "d/", "50"));
    assert!(again.err.contains("part-00002.parquet"), "{}", again.err);
    assert_same(&lab, "d", &first, "after a part was damaged");
}

#[test]
fn another_run_is_refused_and_named() {
    let lab = lab(3);
    let command = ["sweep", "--data", "many.jsonl", "--component", "hook_z"];
    let more = |more: &[&'static str]| [&to(&command, "d/", "50")[..], more].concat();
    lab.ok(&more(&[]));
    lab.refused_after_device(
        &more(&["--layers", "1"]),
        &["d/", "another run's", "the patches"],
    );
    lab.refused_after_device(&more(&["--metric", "rank"]), &["the metrics"]);
    let precision = more(&["--precision", "f64"]);
    lab.refused_after_device(&precision, &["the precision (f32, now f64)"]);
    lab.refused_after_device(&more(&["--direction", "noise"]), &["the pairs"]);
    lab.refused_after_device(&more(&["--shard", "1/2"]), &["1 shard, not 2 shards"]);
    let rows = to(&command, "d/", "49");
    lab.refused_after_device(&rows, &["is cut into"]);
    let text = lab.read("many.jsonl");
    lab.write("many.jsonl", text.replace("r1", "r9"));
    lab.refused_after_device(&more(&[]), &["the pairs"]);
    lab.write("many.jsonl", text);
    lab.ok(&more(&[]));
    // a vector of the same name with other numbers
    let manifest = lab.read("d/manifest.json");
    lab.write(
        "d/manifest.json",
        manifest.replace("\"0.1.0\"", "\"0.0.9\""),
    );
    lab.refused_after_device(&more(&[]), &["headlight's version (0.0.9, now 0.1.0)"]);
    lab.write("d/manifest.json", &manifest[..100]);
    lab.refused_after_device(&more(&[]), &["manifest.json", "not a run's manifest"]);
    std::fs::remove_file(lab.path("d/manifest.json")).unwrap();
    lab.refused_after_device(&more(&[]), &["part-00000.parquet but no manifest.json"]);
}

#[test]
fn flags_that_mean_nothing_are_refused() {
    let lab = lab(3);
    lab.write("file", "");
    let sweep = |more: &[&'static str]| [&["sweep", "--component", "hook_z"][..], more].concat();
    lab.refused(&sweep(&["--resume"]), &["--resume", "--out DIR/"]);
    lab.refused(
        &sweep(&["--shard", "0/2", "--out", "t.csv"]),
        &["--shard", "--out DIR/"],
    );
    lab.refused(&sweep(&["--shard", "2/2", "--out", "d/"]), &["2/2", "3/7"]);
    lab.refused(
        &sweep(&["--shard", "auto", "--out", "d/"]),
        &["--shard auto"],
    );
    lab.refused(
        &sweep(&["--out", "file/"]),
        &["file", "name another folder"],
    );
    lab.refused(
        &sweep(&["--out", "file/d/"]),
        &["file", "name another folder"],
    );
    let arrays = [
        "sweep",
        "--preset",
        "every-head",
        "--arrays",
        "a.npz",
        "--out",
        "d/",
        "--shard",
        "0/2",
    ];
    lab.refused(&arrays, &["--arrays", "in folders"]);
    let plot = ["--shard", "0/2", "--out", "d/", "--plot", "m.svg"];
    lab.refused(&sweep(&plot), &["--plot", "in folders"]);
    lab.refused(
        &["merge", "nowhere", "--out", "t.csv"],
        &["nowhere", "no manifest.json"],
    );
    lab.refused(&["status", "nowhere"], &["nowhere", "no manifest.json"]);
    lab.refused(
        &["merge", "nowhere", "--out", "t.txt"],
        &["t.txt", ".parquet"],
    );
}

/// Arrays are made of rows, computed now or before: those of a folder, begun anew or gone on with, are a file's.
#[test]
fn arrays_of_a_folder_are_those_of_a_file() {
    let lab = lab(5);
    for command in [
        "sweep --preset attn_head_out_all_pos --metric logit_diff,recovery_logit_diff,kl,recovery_prob",
        "edges --senders mlps --receivers logits --metric prob,recovery_logprob",
    ] {
        let with = |more: &[&str]| {
            let command = command.split(' ').chain(["--data", "many.jsonl"]);
            let args: Vec<&str> = command.chain(more.iter().copied()).collect();
            lab.ok(&args);
        };
        let bytes = |name: &str| std::fs::read(lab.path(name)).unwrap();
        with(&["--out", "t.parquet", "--arrays", "file.safetensors"]);
        with(&[
            "--out",
            "f/",
            "--part-rows",
            "12",
            "--arrays",
            "new.safetensors",
        ]);
        // every second part is there already
        let mut parts: Vec<_> = std::fs::read_dir(lab.path("f"))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
        parts.retain(|path| {
            path.extension().is_some_and(|e| e == "parquet") && !path.ends_with("summary.parquet")
        });
        parts.sort();
        assert!(parts.len() > 3, "{command}: {parts:?}");
        parts
            .iter()
            .step_by(2)
            .for_each(|path| std::fs::remove_file(path).unwrap());
        with(&[
            "--out",
            "f/",
            "--part-rows",
            "12",
            "--arrays",
            "again.safetensors",
        ]);
        let tensors = |name: &str| {
            let bytes = bytes(name);
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut all: Vec<_> = tensors
                .iter()
                .map(|(name, t)| (name.to_owned(), t.data().to_vec()))
                .collect();
            all.sort();
            all
        };
        let file = tensors("file.safetensors");
        assert!(file.len() > 4);
        assert!(tensors("new.safetensors") == file, "{command}");
        assert!(tensors("again.safetensors") == file, "{command}");
        std::fs::remove_dir_all(lab.path("f")).unwrap();
    }
}

/// Numbers behind a name count, not the name.
#[test]
fn a_vector_with_other_numbers_is_another_run() {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let lab = Lab::new();
    let write = |x: f32| {
        let values: Vec<u8> = [x; 128].iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![128], &values).unwrap();
        lab.write("v.safetensors", serialize([("t", view)], None).unwrap());
    };
    let command = [
        "sweep",
        "--component",
        "mlp_output",
        "--op",
        "set=v.safetensors#t",
        "--out",
        "d/",
    ];
    write(0.5);
    lab.ok(&command);
    lab.ok(&command);
    write(0.25);
    lab.refused_after_device(&command, &["the patches"]);
}
