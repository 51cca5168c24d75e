//! Fetching from a hub: the real download code against a server on this machine. Nothing here
//! touches the real network.

#![cfg(feature = "hub")]

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::tiny::{self, config, safetensors, tensors};
use headlight::model::{Checkpoint, Hub, ModelError};
use serde_json::json;
use server::{COMMIT, FakeHub, Fault, Files};

const ID: &str = "somebody/tiny-gpt2";
const WEIGHTS: &str = "model.safetensors";

fn plain() -> Files {
    let vocab: serde_json::Map<_, _> = (b'a'..=b'k')
        .map(|c| ((c as char).to_string(), json!(c - b'a')))
        .collect();
    let tokenizer = json!({
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
    });
    Files::from([
        ("config.json".into(), config().to_string().into_bytes()),
        (WEIGHTS.into(), safetensors(&tensors("F32"), "transformer.")),
        ("tokenizer.json".into(), tokenizer.to_string().into_bytes()),
        ("README.md".into(), b"not wanted".to_vec()),
        ("pytorch_model.bin".into(), b"not wanted either".to_vec()),
    ])
}

fn resolve(name: &str, hub: &Hub) -> Result<Checkpoint, ModelError> {
    Checkpoint::resolve_with(name, || Ok(hub.clone()))
}

/// What resolving says, which is one line.
fn refusal(hub: &Hub) -> (ModelError, String) {
    let error = resolve(ID, hub).expect_err("this cannot work");
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    (error, message)
}

#[test]
fn a_model_is_fetched_once_and_then_opened_without_a_hub() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let mut hub = server.client(cache.path());
    hub.token = Some("hf_secret".into());
    let model = resolve(ID, &hub).unwrap();
    assert_eq!(model.name, ID);
    assert_eq!(model.text().unwrap().encode("cab").unwrap(), [2, 0, 1]);
    assert_eq!(model.layer(1).c_fc.bias.columns(), tiny::INNER);
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .any(|r| r.contains("/api/models/") && r.ends_with("Bearer hf_secret"))
    );
    let unwanted = |r: &String| r.contains("README") || r.contains(".bin");
    assert!(!requests.iter().any(unwanted), "{requests:?}");
    // Python's clients find it too.
    let main = cache.path().join("models--somebody--tiny-gpt2/refs/main");
    assert_eq!(std::fs::read_to_string(main).unwrap(), COMMIT);

    let again = resolve(ID, &hub).unwrap();
    assert_eq!(again.hash(), model.hash());
    assert_eq!(server.requests(), [""; 0]);
    drop(server);
    assert_eq!(resolve(ID, &hub).unwrap().hash(), model.hash());
    hub.offline = true;
    assert_eq!(resolve(ID, &hub).unwrap().hash(), model.hash());
}

/// The whole way from an id to an answer: the program, and a model that knows one.
#[test]
fn a_model_from_the_hub_answers() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/demo");
    let files = [
        "config.json",
        WEIGHTS,
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let files = files.map(|name| (name.to_owned(), std::fs::read(demo.join(name)).unwrap()));
    let server = FakeHub::new(ID, files.into());
    let home = tempfile::tempdir().unwrap();
    let topk = |offline: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("headlight"));
        command
            .args(["--model", ID, "--device", "cpu"])
            .args(["topk", "The capital of Spain is", "-n", "1"])
            .env("HF_HOME", home.path())
            .env("HF_ENDPOINT", &server.endpoint)
            .env("HF_HUB_OFFLINE", offline)
            .env_remove("HF_HUB_CACHE")
            .env_remove("HF_TOKEN");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let fetched = topk("0");
    assert!(
        fetched.contains("_Madrid ") && fetched.contains(" 0.984"),
        "{fetched}"
    );
    let requests = server.requests();
    assert!(
        requests
            .iter()
            .any(|r| r.contains("/cdn/model.safetensors")),
        "{requests:?}"
    );
    // and from the cache
    assert_eq!(topk("1"), fetched);
    assert_eq!(server.requests(), [""; 0]);
}

#[test]
fn shards_and_the_older_tokenizer_files_are_fetched() {
    let all: Vec<_> = tensors("BF16").into_iter().collect();
    let mut files = Files::from([
        ("config.json".into(), config().to_string().into_bytes()),
        (
            "vocab.json".into(),
            b"{\"a\": 0, \"b\": 1, \"ab\": 2}".to_vec(),
        ),
        ("merges.txt".into(), b"#version: 0.2\na b\n".to_vec()),
    ]);
    let mut map = json!({});
    for (number, part) in all.chunks(9).enumerate() {
        let name = format!("model-{number}.safetensors");
        for (tensor, _) in part {
            map[tensor] = json!(name);
        }
        files.insert(name, safetensors(&part.iter().cloned().collect(), ""));
    }
    let index = json!({"weight_map": map}).to_string();
    files.insert("model.safetensors.index.json".into(), index.into_bytes());
    let mut lacking = files.clone();

    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, files);
    let hub = server.client(cache.path());
    assert_eq!(
        resolve(ID, &hub)
            .unwrap()
            .text()
            .unwrap()
            .encode("ab")
            .unwrap(),
        [2]
    );
    drop(server);
    assert_eq!(resolve(ID, &hub).unwrap().token_embedding().dtype(), "BF16");

    lacking.remove("model-1.safetensors");
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, lacking);
    let (error, message) = refusal(&server.client(cache.path()));
    assert!(matches!(error, ModelError::HubFile { .. }), "{message}");
    assert!(message.contains("has no model-1.safetensors"), "{message}");
}

#[test]
fn what_the_hub_does_not_have_or_show() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new("somebody/else", plain());
    let hub = server.client(cache.path());
    let (error, message) = refusal(&hub);
    assert!(
        matches!(error, ModelError::NotOnHub { status: 404, .. }),
        "{message}"
    );
    assert!(
        message.contains("no folder `somebody/tiny-gpt2`") && message.contains("404"),
        "{message}"
    );
    server.set(Fault::Status(401));
    let (_, message) = refusal(&hub);
    assert!(
        message.contains("HF_TOKEN") && message.contains("401"),
        "{message}"
    );
    server.set(Fault::Status(503));
    let (error, message) = refusal(&hub);
    assert!(
        matches!(error, ModelError::Offline { .. }) && message.contains("503"),
        "{message}"
    );
}

#[test]
fn no_hub_and_nothing_cached() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let mut hub = server.client(cache.path());
    drop(server);
    let (error, message) = refusal(&hub);
    assert!(matches!(error, ModelError::Offline { .. }), "{message}");
    assert!(
        message.contains("is not in the cache at") && message.contains(&hub.endpoint),
        "{message}"
    );
    hub.offline = true;
    let (_, message) = refusal(&hub);
    assert!(message.contains("HF_HUB_OFFLINE is set"), "{message}");
}

/// Nothing that a broken-off download left may look like a model.
fn nothing_usable(hub: &Hub) {
    assert_eq!(hub.cached(ID), None);
    let offline = Hub {
        offline: true,
        ..hub.clone()
    };
    assert!(matches!(refusal(&offline).0, ModelError::Offline { .. }));
    let folder = hub
        .cache
        .join("models--somebody--tiny-gpt2/snapshots")
        .join(COMMIT);
    assert!(folder.join("config.json").exists());
    assert!(!folder.join(WEIGHTS).exists());
}

#[test]
fn a_connection_that_breaks_leaves_nothing_usable_and_is_taken_up_again() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    server.set(Fault::Drop);
    let (error, message) = refusal(&hub);
    assert!(matches!(error, ModelError::Download { .. }), "{message}");
    assert!(
        message.contains("fetching model.safetensors of `somebody/tiny-gpt2`"),
        "{message}"
    );
    nothing_usable(&hub);

    server.set(Fault::None);
    server.requests();
    let model = resolve(ID, &hub).unwrap();
    assert_eq!(
        model.position_embedding().to_vec::<f32>(),
        tiny::values("wpe.weight", &[6, 15])
    );
    let resumed = server.requests();
    let half = plain()[WEIGHTS].len() / 2;
    assert!(
        resumed
            .iter()
            .any(|r| r.contains(&format!("bytes={half}-"))),
        "{resumed:?}"
    );
    assert!(
        !resumed.iter().any(|r| r.contains("config.json")),
        "{resumed:?}"
    );
}

#[test]
fn a_file_that_ends_early_is_noticed_by_its_length() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    server.set(Fault::Short);
    let (error, message) = refusal(&hub);
    assert!(matches!(error, ModelError::Download { .. }), "{message}");
    assert!(message.contains("bytes arrived instead of"), "{message}");
    nothing_usable(&hub);
    server.set(Fault::None);
    resolve(ID, &hub).unwrap();
}

#[test]
fn leftovers_of_an_earlier_run_do_not_stand_in_the_way() {
    let whole = plain()[WEIGHTS].clone();
    for (left, fault) in [
        (whole.clone(), Fault::None),
        ([whole.as_slice(), b"more"].concat(), Fault::None),
        (whole[..100].to_vec(), Fault::Whole),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let server = FakeHub::new(ID, plain());
        let hub = server.client(cache.path());
        let blobs = cache.path().join("models--somebody--tiny-gpt2/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join("etag-model.part"), &left).unwrap();
        server.set(fault);
        if fault == Fault::Whole {
            // A server that starts over is noticed, and the next run is sound.
            assert!(matches!(refusal(&hub).0, ModelError::Download { .. }));
            nothing_usable(&hub);
        }
        resolve(ID, &hub).unwrap();
    }
}

#[test]
fn hubs_that_answer_nonsense() {
    for fault in [Fault::Garbage, Fault::Commit, Fault::Headers] {
        let cache = tempfile::tempdir().unwrap();
        let server = FakeHub::new(ID, plain());
        let hub = server.client(cache.path());
        server.set(fault);
        let (error, message) = refusal(&hub);
        assert!(
            matches!(
                error,
                ModelError::Offline { .. } | ModelError::Download { .. }
            ),
            "{message}"
        );
        assert_eq!(hub.cached(ID), None);
    }
}

#[test]
fn repositories_that_hold_something_else() {
    // Each server has other files under the same commit, and so needs a cache of its own.
    let caches: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut files = plain();
    files.insert("config.json".into(), br#"{"model_type": "llama"}"#.to_vec());
    let server = FakeHub::new(ID, files.clone());
    let (error, message) = refusal(&server.client(caches[0].path()));
    assert!(matches!(error, ModelError::NotGpt2 { .. }), "{message}");
    assert!(!server.requests().iter().any(|r| r.contains(WEIGHTS)));

    files.insert("config.json".into(), config().to_string().into_bytes());
    files.remove(WEIGHTS);
    let server = FakeHub::new(ID, files.clone());
    let (error, message) = refusal(&server.client(caches[1].path()));
    assert!(matches!(error, ModelError::PickledOnly { .. }), "{message}");
    files.remove("pytorch_model.bin");
    let server = FakeHub::new(ID, files.clone());
    assert!(matches!(
        refusal(&server.client(caches[2].path())).0,
        ModelError::HubFile { .. }
    ));
    files.remove("config.json");
    let server = FakeHub::new(ID, files);
    let (error, message) = refusal(&server.client(caches[3].path()));
    assert!(
        matches!(error, ModelError::HubFile { .. }) && message.contains("config.json"),
        "{message}"
    );
}

#[test]
fn a_missing_tokenizer_is_worth_a_request_but_not_needed() {
    let cache = tempfile::tempdir().unwrap();
    let mut files = plain();
    files.remove("tokenizer.json");
    let server = FakeHub::new(ID, files);
    assert!(
        resolve(ID, &server.client(cache.path()))
            .unwrap()
            .tokenizer
            .is_none()
    );
    let mut hub = server.client(cache.path());
    drop(server);
    assert!(resolve(ID, &hub).unwrap().tokenizer.is_none());

    let server = FakeHub::new(ID, plain());
    hub.endpoint = server.endpoint.clone();
    assert!(resolve(ID, &hub).unwrap().tokenizer.is_some());
    assert!(!server.requests().iter().any(|r| r.contains(WEIGHTS)));
}

#[test]
fn short_names_stand_for_their_owners() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new("openai-community/gpt2", plain());
    let hub = server.client(cache.path());
    assert_eq!(resolve("gpt2", &hub).unwrap().name, "gpt2");
    // A cache from before models had owners.
    let [new, old] =
        ["models--openai-community--gpt2", "models--gpt2"].map(|n| cache.path().join(n));
    std::fs::rename(new, old).unwrap();
    server.requests();
    resolve("gpt2", &hub).unwrap();
    assert_eq!(server.requests(), [""; 0]);
    assert_eq!(Hub::id("gpt2-xl"), Some("openai-community/gpt2-xl"));
    assert_eq!(Hub::id("distilgpt2"), Some("distilbert/distilgpt2"));
    for name in [
        "gpt3", "a/b/c", "../b", "a/..", "/b", "a/", "a/b c", "-a/b", "a--b/c",
    ] {
        assert_eq!(Hub::id(name), None, "{name}");
    }
}

#[test]
fn the_environment_is_honoured() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("token"), "hf_saved\n").unwrap();
    let path = home.path().to_str().unwrap().to_owned();
    let with = |pairs: &[(&str, &str)]| {
        let map: BTreeMap<String, String> = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Hub::from_lookup(|key| map.get(key).cloned()).unwrap()
    };
    let hub = with(&[("HF_HOME", &path)]);
    assert_eq!(hub.cache, home.path().join("hub"));
    assert_eq!(
        (hub.token.as_deref(), hub.offline),
        (Some("hf_saved"), false)
    );
    assert_eq!(hub.endpoint, "https://huggingface.co");
    let hub = with(&[
        ("HF_HOME", &path),
        ("HF_TOKEN", "hf_other"),
        ("HF_ENDPOINT", "http://localhost:1/"),
        ("HF_HUB_OFFLINE", "1"),
        ("HF_HUB_CACHE", "/somewhere"),
    ]);
    assert_eq!(hub.cache, Path::new("/somewhere"));
    assert_eq!(
        (hub.token.as_deref(), hub.offline),
        (Some("hf_other"), true)
    );
    assert_eq!(hub.endpoint, "http://localhost:1");
}

#[test]
fn two_runs_at_once_do_not_spoil_each_other() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // One may be told to wait for another, but none may see half a file.
                if let Err(error) = resolve(ID, &hub)
                    && !matches!(error, ModelError::Download { .. })
                {
                    eprintln!("{error}");
                    failed.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(!failed.load(Ordering::Relaxed));
    resolve(ID, &hub).unwrap();
}
