//! A hub that lies, breaks off, stalls or leads astray, and what may come of it: the right model or a
//! refusal, never another file, other bytes, a wait without end, or the token at another host.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headlight::model::{Checkpoint, Hub, ModelError};
use serde_json::{Value, json};

use super::server::{
    Answer, COMMIT, FakeHub, Fault, Files, Pace, Request, Target, at, git, honest, sha256,
};
use super::tiny::{self, config, safetensors, tensors};
use super::{ID, INDEX, WEIGHTS, plain, resolve, sharded};

const TOKEN: &str = "hf_not_for_others";

/// What may come of an attack.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Refused,
    /// The right model, in spite of it.
    Opens,
}
use End::{Opens, Refused};

struct Attack {
    name: String,
    files: Files,
    fault: Fault,
    end: End,
    /// Whether it makes the client wait, so that it should be made impatient.
    slow: bool,
}

fn attack(name: impl Into<String>, end: End, fault: Fault) -> Attack {
    Attack {
        name: name.into(),
        files: plain(),
        fault,
        end,
        slow: false,
    }
}

fn slow(attack: Attack) -> Attack {
    Attack {
        slow: true,
        ..attack
    }
}

fn weights() -> Vec<u8> {
    plain()[WEIGHTS].clone()
}

/// The answer about weights, before their bytes.
fn about(spoil: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) -> Fault {
    at(Target::File(WEIGHTS.into()), spoil)
}

/// The weights' bytes, which another host sends.
fn bytes(spoil: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) -> Fault {
    at(Target::Kept(WEIGHTS.into()), spoil)
}

fn listing(spoil: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) -> Fault {
    at(Target::Listing, spoil)
}

fn both(a: Fault, b: Fault) -> Fault {
    Arc::new(move |request, answer| {
        a(request, answer);
        b(request, answer);
    })
}

/// The list of files with something changed in it.
fn listed(change: impl Fn(&mut Value) + Send + Sync + 'static) -> Fault {
    listing(move |_, answer| {
        let mut value = serde_json::from_slice(&answer.body).unwrap();
        change(&mut value);
        answer.put(value.to_string().into_bytes());
    })
}

/// Names that would be paths, and what else is no hash and no commit.
fn names(victim: &str) -> Vec<(String, String)> {
    let plain = [
        ("nothing", ""),
        ("a step up", ".."),
        ("steps up", "../../../../evil"),
        ("steps up within", "aaaa/../../../../evil"),
        ("backslashes", "..\\..\\evil"),
        ("a folder", "a/b"),
        ("an absolute path", victim),
        ("few digits", "deadbeef"),
        ("capitals", "0123456789ABCDEF0123456789ABCDEF01234567"),
        (
            "a digit too many",
            "0123456789abcdef0123456789abcdef012345670",
        ),
        (
            "digits with a slash",
            "0123456789abcdef0123456789abcdef0123/567",
        ),
    ];
    let mut all: Vec<_> = plain.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    all.push(("thousands of digits".into(), "a".repeat(5000)));
    all.push(("no ASCII".into(), "é".repeat(20)));
    all
}

fn attacks(victim: &str) -> Vec<Attack> {
    let mut all = Vec::new();
    // A name from outside that would become a path.
    for (what, name) in names(victim) {
        let sha = name.clone();
        let fault = listed(move |value| value["sha"] = json!(sha));
        all.push(attack(format!("commit: {what}"), Refused, fault));
        let sha = name.clone();
        let fault = about(move |_, answer| answer.set("X-Repo-Commit", sha.clone()));
        all.push(attack(format!("commit of weights: {what}"), Refused, fault));
        let etag = name.clone();
        let fault = about(move |_, answer| answer.set("X-Linked-Etag", format!("\"{etag}\"")));
        all.push(attack(format!("etag of weights: {what}"), Refused, fault));
        let fault = at(Target::File("tokenizer.json".into()), move |_, answer| {
            answer.set("ETag", name.clone());
        });
        all.push(attack(
            format!("etag of a tokenizer: {what}"),
            Refused,
            fault,
        ));
    }
    for (what, shard) in [
        ("nothing", String::new()),
        ("a step up", "..".into()),
        ("here", ".".into()),
        ("steps up", "../../../../evil".into()),
        ("steps up within", "a/../../../evil".into()),
        ("an absolute path", victim.into()),
        ("a folder", "a/b.safetensors".into()),
        ("backslashes", "..\\..\\evil".into()),
        ("a zero byte", "a\0.safetensors".into()),
        ("a line's end", "a\n.safetensors".into()),
        ("an escape", "\x1b[2Ja.safetensors".into()),
        ("a long name", format!("{}.safetensors", "a".repeat(300))),
        ("another file's name", "config.json".into()),
        ("a hidden file", ".a.safetensors".into()),
    ] {
        let mut files = sharded();
        let mut index: Value = serde_json::from_slice(&files[INDEX]).unwrap();
        index["weight_map"]["wte.weight"] = json!(shard);
        files.insert(INDEX.into(), index.to_string().into_bytes());
        files.entry(shard).or_insert_with(|| b"evil".to_vec());
        all.push(Attack {
            files,
            ..attack(format!("shard: {what}"), Refused, honest())
        });
    }
    let fault = listed(|value| {
        let list = value["siblings"].as_array_mut().unwrap();
        let names = ["../../../../evil", "/etc/passwd", "..\\x", "a\0b", ""];
        list.extend(names.map(|name| json!({"rfilename": name})));
    });
    all.push(attack("files that nobody wants", Opens, fault));

    // The list of files.
    for (what, body) in [
        ("HTML", b"<html>".to_vec()),
        ("nothing", Vec::new()),
        ("a list", b"[]".to_vec()),
        (
            "no files",
            br#"{"sha": "0123456789abcdef0123456789abcdef01234567"}"#.to_vec(),
        ),
        ("no UTF-8", vec![0xff; 100]),
        ("depth", vec![b'['; 2_000_000]),
        (
            "numbers for names",
            format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": 7}}]}}"#).into(),
        ),
    ] {
        let fault = listing(move |_, answer| answer.put(body.clone()));
        all.push(attack(format!("list: {what}"), Refused, fault));
    }
    for status in [400, 401, 403, 404, 418, 429, 500, 503, 304] {
        let fault = listing(move |_, answer| *answer = Answer::new(status, b""));
        all.push(attack(format!("list: status {status}"), Refused, fault));
        let fault = about(move |_, answer| *answer = Answer::new(status, b""));
        all.push(attack(format!("weights: status {status}"), Refused, fault));
    }
    let fault = listed(|value| {
        let list = value["siblings"].as_array_mut().unwrap();
        list.extend((0..200_000).map(|n| json!({"rfilename": format!("f{n}")})));
    });
    all.push(attack("list: long", Opens, fault));
    let fault = listing(|_, answer| {
        answer.put(vec![b' '; 1 << 20]);
        (answer.length, answer.pace) = (None, Pace::Endless);
    });
    all.push(attack("list: without end", Refused, fault));
    let fault = listed(|value| value["sha"] = json!("f".repeat(40)));
    all.push(attack(
        "list: a commit that the files are not of",
        Refused,
        fault,
    ));
    for (what, pace) in [
        ("silent", Pace::Silent),
        ("stalls", Pace::Stall(10)),
        ("drips", Pace::Drip(Duration::from_millis(40))),
    ] {
        let fault = listing(move |_, answer| answer.pace = pace);
        all.push(slow(attack(format!("list: {what}"), Refused, fault)));
        let fault = bytes(move |_, answer| answer.pace = pace);
        all.push(slow(attack(format!("weights: {what}"), Refused, fault)));
    }
    let fault = about(|_, answer| answer.pace = Pace::Silent);
    all.push(slow(attack(
        "weights: silent before the bytes",
        Refused,
        fault,
    )));
    let fault = listing(|_, answer| answer.pace = Pace::Cut(10));
    all.push(attack("list: broken off", Refused, fault));

    // Redirects.
    type To = fn(&Request) -> String;
    let roads: [(&str, To); 9] = [
        ("to itself", |r| r.url.clone()),
        ("to itself by address", |r| format!("{}{}", r.hub, r.url)),
        ("to ever new addresses", |r| format!("{}?", r.url)),
        ("to a file", |_| "file:///etc/passwd".into()),
        ("to ftp", |_| "ftp://127.0.0.1/x".into()),
        ("nowhere", |_| String::new()),
        ("to no address", |_| "http://".into()),
        ("to a relative path", |_| "x".into()),
        ("to another host, which has nothing", |r| {
            format!("{}/x", r.elsewhere)
        }),
    ];
    for (what, to) in roads {
        let fault = listing(move |request, answer| answer.redirect(to(request)));
        all.push(attack(format!("list: redirects {what}"), Refused, fault));
        let fault = Arc::new(move |request: &Request, answer: &mut Answer| {
            if request.url.contains("resolve") && request.url.contains(WEIGHTS) {
                answer.redirect(to(request));
            }
        });
        all.push(attack(format!("weights: redirects {what}"), Refused, fault));
    }
    let fault = about(|_, answer| answer.remove("Location"));
    all.push(attack("weights: redirect without a place", Refused, fault));
    let fault = at(Target::File("config.json".into()), |request, answer| {
        answer.redirect(format!("{}/kept/config.json", request.elsewhere));
    });
    all.push(attack("another host has the configuration", Opens, fault));
    let fault = bytes(|request, answer| answer.redirect(request.url.clone()));
    all.push(attack(
        "weights: the other host redirects to itself",
        Refused,
        fault,
    ));

    // What is said of the weights.
    for header in ["X-Repo-Commit", "X-Linked-Etag"] {
        let fault = about(move |_, answer| answer.remove(header));
        all.push(attack(format!("weights: no {header}"), Refused, fault));
    }
    let other = sha256(b"other");
    let fault = about(move |_, answer| answer.set("X-Linked-Etag", other.clone()));
    all.push(attack("weights: another file's SHA-256", Refused, fault));
    let fault = about(|_, answer| answer.set("X-Linked-Etag", git(b"other")));
    all.push(attack("weights: another file's git hash", Refused, fault));
    let fault = about(|_, answer| answer.set("X-Linked-Etag", git(&weights())));
    all.push(attack("weights: the right git hash", Opens, fault));
    let fault =
        about(|_, answer| answer.set("X-Linked-Etag", format!("W/\"{}\"", sha256(&weights()))));
    all.push(attack("weights: a weak etag", Opens, fault));
    for (what, size, end) in [
        ("more", "100000", Refused),
        ("far more", "1000000000000000", Refused),
        ("the most", "18446744073709551615", Refused),
        ("beyond", "99999999999999999999999", Opens),
        ("less", "100", Refused),
        ("none", "0", Refused),
        ("negative", "-5", Opens),
        ("a word", "many", Opens),
    ] {
        let fault = about(move |_, answer| answer.set("X-Linked-Size", size));
        all.push(attack(format!("weights: size {what}"), end, fault));
    }

    // The bytes.
    let flipped = |at: usize| {
        bytes(move |request, answer| {
            if let Some(byte) = answer.body.get_mut(at - request.from.min(at)) {
                *byte ^= 1;
            }
        })
    };
    let last = weights().len() - 1;
    for at in [0, 8, last / 2, last] {
        all.push(attack(
            format!("bytes: byte {at} flipped"),
            Refused,
            flipped(at),
        ));
    }
    let mut other = tensors("F32");
    let shape = [tiny::WIDTH];
    let numbers = tiny::values("other", &shape);
    other.insert("ln_f.bias".into(), tiny::stored("F32", &shape, &numbers));
    let other = safetensors(&other, "transformer.");
    assert_eq!(other.len(), weights().len());
    let fault = bytes(move |_, answer| answer.body.clone_from(&other));
    all.push(attack("bytes: other numbers", Refused, fault));
    let fault = bytes(|_, answer| *answer = Answer::new(200, b"<html>log in</html>"));
    all.push(attack("bytes: a portal's page", Refused, fault));
    let fault = bytes(|_, answer| answer.put(Vec::new()));
    all.push(attack("bytes: none", Refused, fault));
    let fault = bytes(|_, answer| {
        let mut body = answer.body.clone();
        body.push(0);
        answer.put(body);
    });
    all.push(attack("bytes: one more", Refused, fault));
    let fault = bytes(|_, answer| answer.pace = Pace::Cut(last_half()));
    all.push(attack("bytes: broken off", Refused, fault));
    let fault = bytes(|_, answer| {
        answer.body.truncate(last_half());
        answer.length = None;
    });
    all.push(attack("bytes: half, and a proper end", Refused, fault));
    let fault = bytes(|_, answer| answer.length = None);
    all.push(attack("bytes: no length, but all of them", Opens, fault));
    let unknown = about(|_, answer| answer.remove("X-Linked-Size"));
    let fault = bytes(|_, answer| answer.length = None);
    let fault = both(unknown.clone(), fault);
    all.push(attack("bytes: no length anywhere", Refused, fault));
    let fault = bytes(|_, answer| answer.length = Some("99999999999999".into()));
    all.push(attack(
        "bytes: a length without end",
        Refused,
        both(unknown, fault),
    ));
    let fault = bytes(|_, answer| (answer.length, answer.pace) = (None, Pace::Endless));
    all.push(attack("bytes: without end", Refused, fault));
    let fault = bytes(|_, answer| answer.length = Some("-1".into()));
    all.push(attack("bytes: a negative length", Refused, fault));
    for status in [204, 206, 301, 403, 404, 416, 500] {
        let fault = bytes(move |_, answer| answer.status = status);
        all.push(attack(format!("bytes: status {status}"), Refused, fault));
    }
    let fault = bytes(|_, answer| answer.set("Content-Encoding", "gzip"));
    all.push(attack("bytes: said to be compressed", Opens, fault));
    let fault = bytes(|_, answer| answer.set("X", "x".repeat(1 << 20)));
    all.push(attack("bytes: a long header", Refused, fault));
    let fault = bytes(|_, answer| {
        for n in 0..10_000 {
            answer.set(&format!("X-{n}"), "x");
        }
    });
    all.push(attack("bytes: many headers", Refused, fault));
    all
}

fn last_half() -> usize {
    weights().len() / 2
}

/// Every file below a folder, links as where they lead.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
            if path.is_symlink() {
                let link = std::fs::read_link(&path).unwrap();
                all.insert(name.to_owned(), link.to_str().unwrap().into());
            } else if path.is_dir() {
                folders.push(path);
            } else {
                all.insert(name.to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    all
}

/// Every blob is what its name says, every other file is one of the cache's own.
fn sound(cache: &Path) {
    let repository = "models--somebody--tiny-gpt2";
    for (name, content) in tree(cache) {
        let shown = String::from_utf8_lossy(&content);
        let parts: Vec<&str> = name.split('/').collect();
        let fits = match *parts.as_slice() {
            [".locks", r, lock] => r == repository && lock.ends_with(".lock") && content.is_empty(),
            [r, "blobs", blob] if r == repository => {
                let hash = if blob.len() == 64 {
                    sha256(&content)
                } else {
                    git(&content)
                };
                blob.ends_with(".incomplete") || blob == hash
            }
            [r, "refs", "main"] => r == repository && shown == COMMIT,
            [r, "snapshots", COMMIT, _] => r == repository && shown.starts_with("../../blobs/"),
            [r, ".no_exist", COMMIT, _] => r == repository && content.is_empty(),
            _ => false,
        };
        assert!(fits, "{name}: {shown}");
    }
}

fn run(attack: &Attack) {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("a/b/c/d/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let victim = home.path().join("a/.bashrc");
    std::fs::write(&victim, "precious").unwrap();
    let server = FakeHub::new(ID, attack.files.clone());
    let mut hub = Hub {
        token: Some(TOKEN.into()),
        ..server.client(&cache)
    };
    if attack.slow {
        hub.patience = Duration::from_millis(400);
    }
    server.set(attack.fault.clone());
    let start = Instant::now();
    let opened = resolve(ID, &hub);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    let model = match (opened, attack.end) {
        (Ok(model), Opens) => Some(model),
        (Err(error), Refused) => {
            let message = error.to_string();
            assert!(!message.chars().any(char::is_control), "{message:?}");
            assert!(message.len() < 700, "{message}");
            assert!(!message.contains(TOKEN), "{message}");
            let offline = Hub {
                offline: true,
                ..hub.clone()
            };
            let error = resolve(ID, &offline).unwrap_err();
            assert!(matches!(error, ModelError::Offline { .. }), "{error}");
            None
        }
        (Ok(_), Refused) => panic!("it went through"),
        (Err(error), Opens) => panic!("{error}"),
    };
    sound(&cache);
    let outside = tree(home.path());
    let outside: Vec<_> = outside
        .iter()
        .filter(|(n, _)| !n.starts_with("a/b/c/d/cache/"))
        .collect();
    assert_eq!(outside, [(&"a/.bashrc".to_owned(), &b"precious".to_vec())]);
    let requests = server.requests();
    assert!(requests.len() < 30, "{} requests", requests.len());
    for line in requests {
        assert_eq!(line.contains(TOKEN), !server.is_elsewhere(&line), "{line}");
    }
    // A hub that mends its ways is believed again, whatever was left of the attack.
    drop(server);
    let server = FakeHub::new(
        ID,
        if attack.files.contains_key(INDEX) {
            sharded()
        } else {
            plain()
        },
    );
    hub.endpoint.clone_from(&server.endpoint);
    hub.patience = Duration::from_secs(20);
    let again = resolve(ID, &hub).unwrap();
    let numbers = tiny::values("wpe.weight", &[tiny::CONTEXT, tiny::WIDTH]);
    let of = |model: &Checkpoint| model.position_embedding().to_vec::<f32>();
    assert!(model.is_none_or(|model| of(&model) == numbers) && of(&again) == numbers);
    assert!(again.tokenizer.is_some() && config().is_object());
    sound(&cache);
}

#[test]
fn no_attack_goes_through() {
    // A path that every attack may name; each has a file of that name in its own folder too.
    let victim = tempfile::tempdir().unwrap();
    let path = victim.path().join(".bashrc");
    std::fs::write(&path, "precious").unwrap();
    let all = attacks(path.to_str().unwrap());
    assert!(all.len() >= 60, "{}", all.len());
    let failed = std::sync::Mutex::new(Vec::new());
    // Most of the time is spent waiting.
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(attack) =
                    all.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    if std::panic::catch_unwind(AssertUnwindSafe(|| run(attack))).is_err() {
                        failed.lock().unwrap().push(attack.name.clone());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:#?}",
        failed.len(),
        all.len()
    );
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}
