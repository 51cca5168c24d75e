//! Fetching from a hub: the real download code against a server on this machine. Nothing here
//! touches the real network.

#![cfg(feature = "hub")]

mod attacks;
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::checkpoint::tiny::{self, config, safetensors, tensors};
use headlight::model::{Checkpoint, Hub, ModelError};
use serde_json::json;
use server::{Answer, COMMIT, FakeHub, Fault, Files, Pace, Target, at, honest, sha256};

const ID: &str = "somebody/tiny-gpt2";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

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
    let repository = cache.path().join("models--somebody--tiny-gpt2");
    let main = repository.join("refs/main");
    assert_eq!(std::fs::read_to_string(main).unwrap(), COMMIT);
    let link = repository.join("snapshots").join(COMMIT).join(WEIGHTS);
    let blob = format!("../../blobs/{}", sha256(&plain()[WEIGHTS]));
    assert_eq!(std::fs::read_link(link).unwrap(), Path::new(&blob));
    let absent = repository.join(".no_exist").join(COMMIT);
    assert!(absent.join("tokenizer_config.json").exists());

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
            .any(|r| r.contains("/kept/model.safetensors")),
        "{requests:?}"
    );
    // and from the cache
    assert_eq!(topk("1"), fetched);
    assert_eq!(server.requests(), [""; 0]);
}

/// The model in three shards, with the older tokenizer files.
fn sharded() -> Files {
    let all: Vec<_> = tensors("F32").into_iter().collect();
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
    files.insert(INDEX.into(), index.into_bytes());
    files
}

#[test]
fn shards_and_the_older_tokenizer_files_are_fetched() {
    let mut lacking = sharded();
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, sharded());
    let hub = server.client(cache.path());
    let model = resolve(ID, &hub).unwrap();
    assert_eq!(model.text().unwrap().encode("ab").unwrap(), [2]);
    drop(server);
    assert_eq!(resolve(ID, &hub).unwrap().hash(), model.hash());

    lacking.remove("model-1.safetensors");
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, lacking);
    let (error, message) = refusal(&server.client(cache.path()));
    assert!(matches!(error, ModelError::HubFile { .. }), "{message}");
    assert!(message.contains("has no model-1.safetensors"), "{message}");
}

/// Every answer is this status.
fn status(code: u16) -> Fault {
    Arc::new(move |_, answer| *answer = Answer::new(code, b""))
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
    server.set(status(401));
    let (_, message) = refusal(&hub);
    assert!(
        message.contains("HF_TOKEN") && message.contains("401"),
        "{message}"
    );
    server.set(status(503));
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
    server.set(at(Target::Kept(WEIGHTS.into()), |_, answer| {
        answer.pace = Pace::Cut(answer.body.len() / 2);
    }));
    let (error, message) = refusal(&hub);
    assert!(matches!(error, ModelError::Download { .. }), "{message}");
    assert!(
        message.contains("fetching model.safetensors of `somebody/tiny-gpt2`"),
        "{message}"
    );
    nothing_usable(&hub);

    server.set(honest());
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
    server.set(at(Target::Kept(WEIGHTS.into()), |_, answer| {
        answer.body.truncate(answer.body.len() / 2);
        answer.length = None;
    }));
    let (error, message) = refusal(&hub);
    assert!(matches!(error, ModelError::Download { .. }), "{message}");
    assert!(message.contains("bytes arrived instead of"), "{message}");
    nothing_usable(&hub);
    server.set(honest());
    resolve(ID, &hub).unwrap();
}

#[test]
fn leftovers_of_an_earlier_run_do_not_stand_in_the_way() {
    let whole = plain()[WEIGHTS].clone();
    let ignoring_ranges = at(Target::Kept(WEIGHTS.into()), {
        let whole = whole.clone();
        move |_, answer| *answer = Answer::new(200, &whole)
    });
    let another_part = at(Target::Kept(WEIGHTS.into()), |request, answer| {
        if request.ranged {
            answer.set("Content-Range", "bytes 7-8/9");
        }
    });
    for (left, fault, works) in [
        (whole.clone(), honest(), true),
        ([whole.as_slice(), b"more"].concat(), honest(), true),
        (whole[..100].to_vec(), honest(), true),
        (b"of another file".to_vec(), honest(), true),
        (whole[..100].to_vec(), ignoring_ranges, true),
        (whole[..100].to_vec(), another_part, false),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let server = FakeHub::new(ID, plain());
        let hub = server.client(cache.path());
        let blobs = cache.path().join("models--somebody--tiny-gpt2/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        let incomplete = format!("{}.incomplete", sha256(&whole));
        std::fs::write(blobs.join(incomplete), &left).unwrap();
        server.set(fault);
        if !works {
            assert!(matches!(refusal(&hub).0, ModelError::Download { .. }));
            nothing_usable(&hub);
            server.set(honest());
        }
        let model = resolve(ID, &hub).unwrap();
        assert_eq!(model.hash(), sha256(&whole));
    }
}

#[test]
fn a_blob_that_was_damaged_on_disk_is_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    let whole = plain()[WEIGHTS].clone();
    let blobs = cache.path().join("models--somebody--tiny-gpt2/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let blob = blobs.join(sha256(&whole));
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, damaged).unwrap();
    assert_eq!(resolve(ID, &hub).unwrap().hash(), sha256(&whole));
    // One that is sound is not.
    std::fs::remove_dir_all(cache.path().join("models--somebody--tiny-gpt2/snapshots")).unwrap();
    server.requests();
    resolve(ID, &hub).unwrap();
    let requests = server.requests();
    assert!(
        !requests.iter().any(|r| r.contains("/kept/")),
        "{requests:?}"
    );
}

/// A link whose blob somebody cleared away.
#[test]
fn a_link_that_leads_nowhere_is_replaced() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    resolve(ID, &hub).unwrap();
    let blobs = cache.path().join("models--somebody--tiny-gpt2/blobs");
    std::fs::remove_file(blobs.join(sha256(&plain()[WEIGHTS]))).unwrap();
    assert_eq!(hub.cached(ID), None);
    resolve(ID, &hub).unwrap();
}

/// What another program left in the cache's `refs` is no path either.
#[test]
fn a_reference_that_is_no_commit_is_not_followed() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    resolve(ID, &hub).unwrap();
    let repository = cache.path().join("models--somebody--tiny-gpt2");
    std::fs::rename(repository.join("snapshots"), cache.path().join("elsewhere")).unwrap();
    std::fs::create_dir(repository.join("snapshots")).unwrap();
    let leading = format!("../../elsewhere/{COMMIT}");
    assert!(repository.join("snapshots").join(&leading).exists());
    std::fs::write(repository.join("refs/main"), leading).unwrap();
    assert_eq!(hub.cached(ID), None);
    for id in ["../elsewhere", "a/../b", "nobody", "", "/etc/passwd"] {
        assert_eq!(hub.cached(id), None, "{id}");
        let error = hub.fetch(id).unwrap_err();
        assert!(matches!(error, ModelError::NoSuchModel { .. }), "{error}");
    }
    // A last line's end is no harm.
    std::fs::remove_dir(repository.join("snapshots")).unwrap();
    std::fs::rename(cache.path().join("elsewhere"), repository.join("snapshots")).unwrap();
    std::fs::write(repository.join("refs/main"), format!("{COMMIT}\n")).unwrap();
    assert!(hub.cached(ID).is_some());
}

/// Bounds on what is fetched, whatever would come.
#[test]
fn what_is_longer_than_such_files_are_is_not_begun() {
    for (file, header, length) in [
        (WEIGHTS, "X-Linked-Size", 1u64 << 41),
        ("config.json", "X-Linked-Size", 17 << 20),
        ("tokenizer.json", "X-Linked-Size", 257 << 20),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let server = FakeHub::new(ID, plain());
        let hub = server.client(cache.path());
        server.set(at(Target::File(file.into()), move |_, answer| {
            answer.set(header, length.to_string());
        }));
        let (error, message) = refusal(&hub);
        assert!(matches!(error, ModelError::HubAnswer { .. }), "{message}");
        let part = format!("gives it {length} bytes, and at most");
        assert!(message.contains(&part), "{message}");
        assert!(!server.requests().iter().any(|r| r.contains("/kept/")));
    }
}

#[test]
fn an_address_that_is_none_is_said() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let mut hub = server.client(cache.path());
    for endpoint in ["huggingface.co", "file:///etc", "http://", "http://a b"] {
        endpoint.clone_into(&mut hub.endpoint);
        let (error, message) = refusal(&hub);
        assert!(matches!(error, ModelError::Offline { .. }), "{message}");
        assert!(message.contains("http:// or https://"), "{message}");
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
    // What is refused is asked for anew.
    let server = FakeHub::new(ID, plain());
    resolve(ID, &server.client(caches[0].path())).unwrap();

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
    assert_eq!(hub.patience.as_secs(), 10);
    let hub = with(&[
        ("HF_HOME", &path),
        ("HF_TOKEN", "hf_other"),
        ("HF_ENDPOINT", "http://localhost:1/"),
        ("HF_HUB_OFFLINE", "1"),
        ("HF_HUB_CACHE", "/somewhere"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "60"),
    ]);
    assert_eq!(hub.patience.as_secs(), 60);
    assert_eq!(hub.cache, Path::new("/somewhere"));
    assert_eq!(
        (hub.token.as_deref(), hub.offline),
        (Some("hf_other"), true)
    );
    assert_eq!(hub.endpoint, "http://localhost:1");
}

#[test]
fn runs_at_once_wait_for_each_other() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let hub = server.client(cache.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| resolve(ID, &hub).unwrap());
        }
    });
    let fetched = |r: &&String| r.contains("/kept/");
    assert_eq!(server.requests().iter().filter(fetched).count(), 1);
}

/// Whoever holds the lock and does nothing is waited for only so long.
#[test]
fn another_program_that_does_not_go_on_is_not_waited_for() {
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, plain());
    let mut hub = server.client(cache.path());
    let locks = cache.path().join(".locks/models--somebody--tiny-gpt2");
    std::fs::create_dir_all(&locks).unwrap();
    let name = format!("{}.lock", sha256(&plain()[WEIGHTS]));
    let lock = std::fs::File::create(locks.join(name)).unwrap();
    lock.lock().unwrap();
    hub.patience = std::time::Duration::from_secs(1);
    let (error, message) = refusal(&hub);
    assert!(matches!(error, ModelError::Download { .. }), "{message}");
    assert!(
        message.contains("another program is fetching it"),
        "{message}"
    );
    lock.unlock().unwrap();
    resolve(ID, &hub).unwrap();
}
