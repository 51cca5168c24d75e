//! Fetching from a hub: the real download code against a server on this machine.
//!
//! The server speaks as much of the hub's protocol as hf-hub needs (the API's list of files,
//! `resolve` with ranges, commit and etag headers, large files behind a redirect) and can be told to
//! misbehave. Nothing here touches the real network.

#[path = "checkpoint/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use headlight::model::{Checkpoint, Hub, ModelError};
use serde_json::json;
use tiny::{config, safetensors, tensors};
use tiny_http::{Header, Request, Response, Server, StatusCode};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ID: &str = "somebody/tiny-gpt2";
const WEIGHTS: &str = "model.safetensors";

type Files = BTreeMap<String, Vec<u8>>;

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Every answer is this status.
    Status(u16),
    /// Half of the weights, with the length of the whole announced.
    Drop,
    /// Half of the weights and a proper end, without a length.
    Short,
    /// An answer of the API that is no JSON.
    Garbage,
    /// A commit that would lead out of the cache.
    Commit,
    /// Files without the hub's headers.
    Headers,
    /// Ranges are ignored.
    Whole,
}

struct FakeHub {
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
    fault: Arc<Mutex<Fault>>,
    /// Method, address, range and authorization of every request.
    log: Arc<Mutex<Vec<String>>>,
    endpoint: String,
}

impl FakeHub {
    fn new(id: &'static str, files: Files) -> Self {
        let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
        let endpoint = format!("http://{}", server.server_addr().to_ip().unwrap());
        let fault = Arc::new(Mutex::new(Fault::None));
        let log = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (server, fault, log) = (server.clone(), fault.clone(), log.clone());
            let base = endpoint.clone();
            std::thread::spawn(move || {
                for request in server.incoming_requests() {
                    let fault = *fault.lock().unwrap();
                    log.lock().unwrap().push(describe(&request));
                    answer(request, id, &files, fault, &base);
                }
            })
        };
        FakeHub {
            server,
            thread: Some(thread),
            fault,
            log,
            endpoint,
        }
    }

    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn client(&self, cache: &Path) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            cache: cache.to_owned(),
            token: None,
            offline: false,
            progress: false,
        }
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn field(request: &Request, name: &'static str) -> Option<String> {
    let found = request.headers().iter().find(|h| h.field.equiv(name))?;
    Some(found.value.as_str().to_owned())
}

fn describe(request: &Request) -> String {
    let range = field(request, "Range").unwrap_or_default();
    let token = field(request, "Authorization").unwrap_or_default();
    format!("{} {range} {token}", request.url())
        .trim()
        .to_owned()
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).unwrap()
}

fn answer(request: Request, id: &str, files: &Files, fault: Fault, base: &str) {
    if let Fault::Status(code) = fault {
        return request.respond(Response::empty(code)).unwrap();
    }
    let url = request.url().to_owned();
    if let Some(revision) = url.strip_prefix(&format!("/api/models/{id}/revision/")) {
        let known = revision == "main" || revision == COMMIT;
        let names: Vec<_> = files
            .keys()
            .map(|name| json!({"rfilename": name}))
            .collect();
        let commit = if fault == Fault::Commit {
            "../../elsewhere"
        } else {
            COMMIT
        };
        let body = match fault {
            Fault::Garbage => "<html>".to_owned(),
            _ => json!({"sha": commit, "siblings": names, "id": id}).to_string(),
        };
        let code = StatusCode(if known { 200 } else { 404 });
        let kind = header("Content-Type", "application/json");
        return request
            .respond(
                Response::from_string(body)
                    .with_status_code(code)
                    .with_header(kind),
            )
            .unwrap();
    }
    let name = url
        .strip_prefix(&format!("/{id}/resolve/{COMMIT}/"))
        .or_else(|| url.strip_prefix("/cdn/"))
        .unwrap_or_default();
    let Some(content) = files.get(name) else {
        return request.respond(Response::empty(404)).unwrap();
    };
    // As the hub does, weights come from another address.
    if name.ends_with(".safetensors") && !url.starts_with("/cdn/") {
        let response = Response::empty(302)
            .with_header(header("Location", &format!("{base}/cdn/{name}")))
            .with_header(header("X-Linked-Etag", &format!("\"etag-{name}\"")))
            .with_header(header("X-Repo-Commit", COMMIT));
        return request.respond(response).unwrap();
    }
    let range = field(&request, "Range").unwrap_or_default();
    let (start, end) = range
        .trim_start_matches("bytes=")
        .split_once('-')
        .unwrap_or(("0", ""));
    let (start, end) = match fault {
        Fault::Whole if end.is_empty() => (0, content.len()),
        _ => (
            start.parse().unwrap(),
            end.parse().map_or(content.len(), |end: usize| end + 1),
        ),
    };
    if start >= content.len() {
        return request.respond(Response::empty(416)).unwrap();
    }
    let part = &content[start..end.min(content.len())];
    if url.starts_with("/cdn/") && part.len() > 1 && matches!(fault, Fault::Drop | Fault::Short) {
        let length = match fault {
            Fault::Drop => format!("Content-Length: {}\r\n", part.len()),
            _ => String::new(),
        };
        let mut writer = request.into_writer();
        write!(
            writer,
            "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n{length}\r\n"
        )
        .unwrap();
        writer.write_all(&part[..part.len() / 2]).unwrap();
        return writer.flush().unwrap();
    }
    let mut response = Response::from_data(part).with_status_code(206);
    if fault != Fault::Headers {
        let span = format!("bytes {start}-{}/{}", start + part.len() - 1, content.len());
        response.add_header(header("Content-Range", &span));
        response.add_header(header("ETag", &format!("\"etag-{name}\"")));
        response.add_header(header("X-Repo-Commit", COMMIT));
    }
    request.respond(response).unwrap();
}

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
    let mut files = plain();
    files.insert("config.json".into(), br#"{"model_type": "llama"}"#.to_vec());
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, files.clone());
    let (error, message) = refusal(&server.client(cache.path()));
    assert!(matches!(error, ModelError::NotGpt2 { .. }), "{message}");
    assert!(!server.requests().iter().any(|r| r.contains(WEIGHTS)));

    files.insert("config.json".into(), config().to_string().into_bytes());
    files.remove(WEIGHTS);
    let server = FakeHub::new(ID, files.clone());
    let (error, message) = refusal(&server.client(cache.path()));
    assert!(matches!(error, ModelError::PickledOnly { .. }), "{message}");
    files.remove("pytorch_model.bin");
    let server = FakeHub::new(ID, files.clone());
    assert!(matches!(
        refusal(&server.client(cache.path())).0,
        ModelError::HubFile { .. }
    ));
    files.remove("config.json");
    let cache = tempfile::tempdir().unwrap();
    let server = FakeHub::new(ID, files);
    let (error, message) = refusal(&server.client(cache.path()));
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
