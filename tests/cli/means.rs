//! Averages over pairs: what a summary says is what its rows come to, and where rows would be too many it is all that
//! is written.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Instant;

use headlight::results::kept::MOST_ROWS;
use headlight::results::table::Row;

use crate::folders::kills::{Random, kill, spawn};
use crate::folders::shards::shuffled;
use crate::folders::{COMMANDS, assert_same, lab, results};
use crate::lab::Lab;

/// A CSV file as lines of fields by name.
fn lines(lab: &Lab, name: &str) -> Vec<BTreeMap<String, String>> {
    let mut file = csv::Reader::from_path(lab.path(name)).unwrap();
    let lines = file.deserialize().map(|line| line.unwrap());
    lines.collect()
}

/// What rows of one place and target have in common, spelt as a summary spells it.
fn place(name: &str, row: &Row, index: usize) -> Vec<String> {
    let text = |x: &Option<_>| x.as_ref().map_or(String::new(), |x| format!("{x}"));
    let number = |x: Option<u32>| x.map_or(String::new(), |x| x.to_string());
    let (component, name_of) = (text(&row.component), text(&row.name));
    let index = index.to_string();
    match name {
        // a prompt's positions go by what they are to the subject
        "trace" => vec![component, name_of, number(row.layer), index],
        _ => vec![
            component,
            name_of,
            number(row.layer),
            number(row.head),
            // where a name says it, it is another number in each prompt
            number(row.position.filter(|_| row.name.is_none())),
            number(row.source_layer),
            number(row.source_head),
            index,
        ],
    }
}

/// The same of a summary's line.
fn place_of_line(name: &str, line: &BTreeMap<String, String>) -> Vec<String> {
    let columns: &[&str] = match name {
        "trace" => &["component", "name", "layer", "target_index"],
        _ => &[
            "component",
            "name",
            "layer",
            "head",
            "position",
            "source_layer",
            "source_head",
            "target_index",
        ],
    };
    let of = |column: &&str| match *column == "position" && !line["name"].is_empty() {
        true => String::new(),
        false => line[*column].clone(),
    };
    columns.iter().map(of).collect()
}

/// The values of a column at each place: one a pair, of a tracing the mean of each pair's own.
fn values(name: &str, rows: &[Row], of: impl Fn(&Row) -> f64) -> BTreeMap<Vec<String>, Vec<f64>> {
    let mut own: BTreeMap<(Vec<String>, u32), Vec<f64>> = BTreeMap::new();
    let mut run = (u32::MAX, u32::MAX);
    let mut index = 0;
    for row in rows {
        index = match run == (row.pair, row.run) {
            true => index + 1,
            false => 0,
        };
        run = (row.pair, row.run);
        let at = (place(name, row, index), row.pair);
        own.entry(at).or_default().push(of(row));
    }
    let mut all: BTreeMap<Vec<String>, Vec<f64>> = BTreeMap::new();
    for ((place, _), values) in own {
        assert!(name == "trace" || values.len() == 1, "{place:?}");
        let finite = values.iter().filter(|x| x.is_finite());
        let mean = finite.clone().sum::<f64>() / finite.count() as f64;
        all.entry(place).or_default().push(mean);
    }
    all
}

/// A summary against the definitions, over more pairs than one block has.
#[test]
fn summaries_are_what_rows_come_to() {
    let lab = lab(150);
    for (name, command) in COMMANDS {
        lab.ok(&[command, &["--out", "t.csv"]].concat());
        let table = lab.table("t.csv");
        let summary = lines(&lab, "t.summary.csv");
        let mut compared = 0;
        let metrics = table.metrics.iter().enumerate();
        let metrics = metrics.map(|(i, metric)| (metric.as_str(), i + 3));
        let fixed = [("prob", 0), ("logprob", 1), ("logit", 2)];
        for (metric, column) in fixed.into_iter().chain(metrics) {
            let of = |row: &Row| match column {
                0 => row.prob,
                1 => row.logprob,
                2 => row.logit,
                other => row.metrics[other - 3],
            };
            let found = values(name, &table.rows, of);
            assert_eq!(found.len(), summary.len(), "{name}");
            for line in &summary {
                let number = |end: &str| {
                    let text = &line[&format!("{metric}{end}")];
                    text.parse::<f64>().unwrap()
                };
                let values = &found[&place_of_line(name, line)];
                assert_eq!(line["pairs"], values.len().to_string(), "{name}");
                let finite = values.iter().copied().filter(|x| x.is_finite());
                let finite: Vec<f64> = finite.collect();
                let n = finite.len() as f64;
                let mean = finite.iter().sum::<f64>() / n;
                let squares = finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
                let deviation = (squares / (n - 1.0)).sqrt();
                let least = finite.iter().copied().reduce(f64::min);
                let greatest = finite.iter().copied().reduce(f64::max);
                // a recovery is that of the means, and the mean of recoveries stands beside it
                let mean_at = match metric.starts_with("recovery_") {
                    true => "_mean",
                    false => "",
                };
                let wanted = [
                    (mean_at, mean),
                    ("_sd", deviation),
                    ("_se", deviation / n.sqrt()),
                    ("_n", n),
                ];
                for (end, wanted) in wanted {
                    let found = number(end);
                    let close = (found - wanted).abs() <= 1e-9 * wanted.abs().max(1e-3);
                    assert!(
                        close || found.is_nan() && wanted.is_nan(),
                        "{name} {metric}{end}: {found} is not {wanted}"
                    );
                }
                // extremes are some row's own (of a tracing some prompt's mean, which may round otherwise)
                for (end, wanted) in [("_min", least), ("_max", greatest)] {
                    let (found, wanted) = (number(end), wanted.unwrap_or(f64::NAN));
                    let same = match name {
                        "trace" => (found - wanted).abs() <= 1e-12 * wanted.abs(),
                        _ => found == wanted,
                    };
                    assert!(
                        same || found.is_nan() && wanted.is_nan(),
                        "{name} {metric}{end}: {found} is not {wanted}"
                    );
                }
                compared += 1;
            }
        }
        assert!(compared > 60, "{name}: {compared}");
    }
}

/// A command whose results are averages alone, in `out`.
fn means<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, more, &["--rows", "means"]].concat()
}

fn bytes(lab: &Lab, name: &str) -> Vec<u8> {
    std::fs::read(lab.path(name)).unwrap()
}

/// `--rows means` writes what stands beside the rows, and not the rows, in every format.
#[test]
fn means_alone_are_the_summary() {
    let lab = lab(70);
    for (name, command) in COMMANDS {
        let all = lab.ok(&[command, &["--out", "t.csv", "--rows", "all"]].concat());
        let said = lab.ok(&means(command, &["--out", "m.csv"]));
        assert!(lab.read("m.csv") == lab.read("t.summary.csv"), "{name}");
        assert!(!lab.path("m.summary.csv").exists());
        // what people see is the same but for times and files
        let seen = |text: &str| text.rsplit_once("\n\n").unwrap().0.to_owned();
        assert_eq!(seen(&all.out), seen(&said.out), "{name}");
        assert!(said.out.ends_with("\nwrote m.csv\n"), "{}", said.out);
        // the provenance is a table's
        let meta =
            |name: &str| -> serde_json::Value { serde_json::from_str(&lab.read(name)).unwrap() };
        let (of_rows, of_means) = (meta("t.csv.meta.json"), meta("m.csv.meta.json"));
        assert_eq!(of_rows["pairs"], of_means["pairs"], "{name}");
        let header = lab.read("m.csv").lines().next().unwrap().to_owned();
        let columns = of_means["columns"].as_array().unwrap();
        let columns: Vec<&str> = columns.iter().map(|c| c.as_str().unwrap()).collect();
        assert_eq!(columns.join(","), header, "{name}");
        let standard = lab.ok(&means(command, &["--out", "-"]));
        assert!(standard.out == lab.read("m.csv"), "{name}");
        lab.ok(&[command, &["--out", "t.parquet"]].concat());
        lab.ok(&means(command, &["--out", "m.parquet"]));
        let cells = |file: &str| crate::folders::cells(&lab, file);
        assert_eq!(cells("m.parquet"), cells("t.summary.parquet"), "{name}");
    }
    // a lens, which has a column of tokens that averages have not
    let lens: &[&str] = &["lens", "--data", "many.jsonl"];
    lab.ok(&[lens, &["--out", "t.csv"]].concat());
    lab.ok(&means(lens, &["--out", "m.csv"]));
    assert!(lab.read("m.csv") == lab.read("t.summary.csv"));
    lab.ok(&means(lens, &["--out", "d/", "--part-rows", "2000"]));
    lab.ok(&["merge", "d", "--out", "m.csv"]);
    assert!(lab.read("m.csv") == lab.read("t.summary.csv"));
    // samples of one prompt
    let trace: &[&str] = &["trace", "The capital of Spain is", "--subject", "Spain"];
    lab.ok(&[trace, &["--out", "t.csv"]].concat());
    lab.ok(&means(trace, &["--out", "m.csv"]));
    assert!(lab.read("m.csv") == lab.read("t.summary.csv"));
    lab.refused(&["plot", "m.csv", "--out", "m.svg"], &["m.csv", "pair"]);
}

/// Folders of means, whole, cut into any number of shards in any order, merge into the bytes of one run.
#[test]
fn folders_of_means_merge_into_the_bytes_of_one_run() {
    let lab = lab(150);
    for (name, command) in COMMANDS {
        lab.ok(&means(command, &["--out", "merged.parquet"]));
        let wanted = bytes(&lab, "merged.parquet");
        // parts of a few pairs each, and of whole blocks
        for (shards, rows) in [(1, "700"), (1, "1000000"), (2, "1000000"), (7, "700")] {
            let mut random = Random(shards as u64);
            for shard in shuffled(shards, &mut random) {
                let which = format!("{shard}/{shards}");
                let out = ["--out", "d/", "--part-rows", rows, "--shard", &which];
                lab.ok(&means(command, &out));
            }
            lab.ok(&["merge", "d", "--out", "merged.parquet"]);
            let same = bytes(&lab, "merged.parquet") == wanted;
            assert!(same, "{name} in {shards} shards of parts of {rows} rows");
            let parts = results(&lab, "d").into_keys();
            let parts = parts.filter(|name| name.starts_with("part-")).count();
            assert!(parts >= shards && (rows != "700" || parts > 5), "{parts}");
            if shards == 1 {
                let cells = |file: &str| crate::folders::cells(&lab, file);
                assert_eq!(
                    cells("d/summary.parquet"),
                    cells("merged.parquet"),
                    "{name}"
                );
            }
            std::fs::remove_dir_all(lab.path("d")).unwrap();
        }
        assert!(!lab.path("merged.summary.parquet").exists());
    }
}

/// Killed at any moment and started again, a folder ends with the bytes of one that nothing happened to.
#[test]
fn folders_of_means_that_are_killed() {
    let lab = lab(140);
    for (name, command) in COMMANDS {
        let args = means(command, &["--out", "d/", "--part-rows", "3000"]);
        let start = Instant::now();
        lab.ok(&args);
        let mut longest = start.elapsed();
        let wanted = results(&lab, "d");
        assert!(wanted.len() > 4, "{name}: {}", wanted.len());
        std::fs::remove_dir_all(lab.path("d")).unwrap();
        kill(&lab, &args, (6, &mut longest), &mut Random(11));
        lab.ok(&args);
        assert_same(&lab, "d", &wanted, name);
        // what is there is not computed again, and one that is lost is
        let again = lab.ok(&args);
        assert!(again.out.contains("\n0 runs in"), "{name}: {}", again.out);
        assert_same(&lab, "d", &wanted, name);
        std::fs::remove_file(lab.path("d/part-00001.parquet")).unwrap();
        std::fs::remove_file(lab.path("d/summary.parquet")).unwrap();
        lab.ok(&args);
        assert_same(&lab, "d", &wanted, name);
        std::fs::remove_dir_all(lab.path("d")).unwrap();
    }
}

/// A signal closes the part, of which nothing is done again, and no byte is another for it.
#[test]
fn signals_keep_means() {
    let lab = lab(300);
    for which in [0, 3] {
        let (name, command) = COMMANDS[which];
        // all in one part, so that a signal comes in the middle of it
        let args = means(command, &["--out", "d/"]);
        lab.ok(&args);
        let wanted = results(&lab, "d");
        assert_eq!(wanted.len(), 3, "{:?}", wanted.keys());
        std::fs::remove_dir_all(lab.path("d")).unwrap();
        let mut had = 0;
        for _ in 0..3 {
            let watched = ["--progress", "json", "--progress-every", "0.02"];
            let mut child = spawn(&lab, &[&args[..], &watched].concat());
            let mut stderr = BufReader::new(child.stderr.take().unwrap());
            loop {
                let mut line = String::new();
                let read = stderr.read_line(&mut line).unwrap();
                assert!(read > 0, "{name}: it ended");
                let Ok(said) = serde_json::from_str::<serde_json::Value>(&line) else {
                    continue;
                };
                assert!(said["runs_kept"].as_u64() <= Some(had), "{name}: {said}");
                // a tracing's pair is done again from its first run
                if said["runs"].as_u64() > Some(had + 100) {
                    break;
                }
            }
            let sent = Command::new("kill")
                .args(["-TERM", &child.id().to_string()])
                .status();
            assert!(sent.unwrap().success());
            assert_eq!(child.wait().unwrap().code(), Some(75), "{name}");
            let status = lab.ok(&["status", "d", "--format", "json"]).out;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            let runs = status["runs_done"].as_u64().unwrap();
            assert!(runs > had, "{name}: {runs} after {had}");
            had = runs;
        }
        let said = lab.ok(&args);
        let kept = format!("{had} were there already");
        assert!(said.out.contains(&kept), "{name}: {}", said.out);
        assert_same(&lab, "d", &wanted, name);
        std::fs::remove_dir_all(lab.path("d")).unwrap();
    }
}

/// Rows are not gone on with as means, nor means as rows, and what needs rows is refused where there are none.
#[test]
fn what_means_cannot_be_is_refused() {
    let lab = lab(6);
    let (_, command) = COMMANDS[0];
    let out = |out: &'static str| ["--out", out];
    lab.ok(&[command, &out("rows/")].concat());
    lab.refused_after_device(
        &means(command, &out("rows/")),
        &["rows/", "--rows (all, now means)"],
    );
    lab.ok(&means(command, &out("means/")));
    lab.refused_after_device(
        &[command, &out("means/")].concat(),
        &["means/", "--rows (means, now all)"],
    );
    lab.refused(
        &["merge", "rows", "means", "--out", "m.csv"],
        &["means", "--rows (means, now all)"],
    );
    let part = "means/part-00000.parquet";
    lab.refused(
        &["plot", part, "--out", "m.svg"],
        &[part, "averages", "merge"],
    );
    // one part is not another's, and one that was stopped is not whole
    let stopped = bytes(&lab, part);
    lab.write("rows/part-00000.parquet", &stopped);
    lab.refused(
        &["merge", "rows", "--out", "m.csv"],
        &["rows/part-00000.parquet", "another run's"],
    );
    let refused = |args: &[&str], needles: &[&str]| {
        lab.refused_after_device(args, needles);
    };
    let plot = [&out("p/")[..], &["--plot", "p.svg"]].concat();
    refused(&means(command, &plot), &["--plot", "--rows all"]);
    let top = [&out("t.csv")[..], &["--top", "2"]].concat();
    refused(&means(command, &top), &["--top", "--rows all"]);
    refused(
        &means(&["sweep"], &out("t.csv")),
        &["--rows means", "data set"],
    );
    lab.refused(&means(command, &[]), &["--rows", "--out"]);
    lab.refused(
        &["sweep", "--rows", "some", "--out", "t.csv"],
        &["some", "all, means, auto"],
    );
}

/// A plan says what will be written, and so does the command before it starts.
#[test]
fn means_are_announced() {
    let lab = lab(6);
    let (_, command) = COMMANDS[0];
    let plan = |more: &[&str]| -> serde_json::Value {
        let args = [&["plan"], command, more, &["--format", "json"]].concat();
        serde_json::from_str(&lab.ok(&args).out).unwrap()
    };
    let few = plan(&[]);
    assert_eq!(few["written"], "rows");
    assert_eq!(few["most_rows"], MOST_ROWS);
    let wished = plan(&["--rows", "means"]);
    assert_eq!(wished["written"], "means");
    assert_eq!(wished["rows"], few["rows"]);
    assert!(wished["bytes"].is_number());

    // more rows than are written unless they are asked for
    let row = |i: usize| {
        let ids: Vec<String> = (0..200).map(|id| id.to_string()).collect();
        let (base, ids) = (i % 200, ids.join(","));
        format!(
            "{{\"base_ids\": [1, 2, 3, 4, 5, 6, 7, 8, 9, {base}], \"source_ids\": [2, 2, 3, 4, 5, 6, 7, 8, 9, 10], \"target_ids\": [{ids}]}}\n"
        )
    };
    lab.write("huge.jsonl", (0..200).map(row).collect::<String>());
    let huge = [
        "sweep",
        "--data",
        "huge.jsonl",
        "--component",
        "head_value_output",
        "--columns",
        "each",
    ];
    let plan = |more: &[&str]| lab.ok(&[&["plan"], &huge[..], more].concat()).out;
    let said: serde_json::Value = serde_json::from_str(&plan(&["--format", "json"])).unwrap();
    let rows = said["rows"].as_u64().unwrap();
    assert!(rows > MOST_ROWS, "{rows}");
    assert_eq!(said["written"], "means");
    assert!(said["bytes"].as_u64() < Some(16 * rows / 10));
    let people = plan(&[]);
    assert!(
        people.contains(&format!(
            "rows     {rows}, of which means over pairs are written"
        )),
        "{people}"
    );
    let all = plan(&["--rows", "all", "--format", "json"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&all).unwrap()["written"],
        "rows"
    );
    // the command says so before it runs anything
    let mut child = spawn(&lab, &[&huge[..], &["--out", "huge.parquet"]].concat());
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = stderr.find(|line| line.as_ref().unwrap().contains("rows"));
    let line = line.unwrap().unwrap();
    assert!(
        line.contains(&format!("{rows} rows are more than {MOST_ROWS}"))
            && line.contains("--rows all"),
        "{line}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The most memory that a process had, in bytes, as far as one sees who looks every few milliseconds.
#[cfg(target_os = "linux")]
fn peak(lab: &Lab, args: &[&str]) -> u64 {
    let mut child = spawn(lab, args);
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let most = most.and_then(|most| most.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(1024 * most.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            assert!(ended.success(), "{args:?}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Ten times the pairs take no more memory than the pairs themselves do: of 320 rows a pair, which would be some 150
/// kilobytes, nothing is kept.
#[cfg(target_os = "linux")]
#[test]
fn memory_goes_by_cells_and_not_by_pairs() {
    let lab = lab(200);
    let few = lab.read("many.jsonl");
    lab.write("few.jsonl", &few);
    lab.write("many.jsonl", few.repeat(10));
    for out in ["m.parquet", "d/"] {
        let [few, many] = ["few.jsonl", "many.jsonl"].map(|data| {
            let sweep = [
                "sweep",
                "--data",
                data,
                "--component",
                "hook_z,hook_v",
                "--layers",
                "0-3",
            ];
            let _ = std::fs::remove_dir_all(lab.path("d"));
            let memory = ["--memory", "32M", "--threads", "2", "--out", out];
            peak(&lab, &means(&sweep, &memory))
        });
        let more = many.saturating_sub(few);
        assert!(few > 1 << 20, "{few}");
        assert!(more < 1800 * 16_000, "{out}: {few} bytes, then {many}");
    }
}
