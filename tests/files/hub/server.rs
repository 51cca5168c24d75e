//! A hub on this machine, which speaks as much of the protocol as hf-hub needs (the API's list of
//! files; `resolve` with ranges, commit and etag headers; weights behind a redirect) and can be told
//! to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use headlight::model::Hub;
use serde_json::json;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub type Files = BTreeMap<String, Vec<u8>>;

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
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

pub struct FakeHub {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
    fault: Arc<Mutex<Fault>>,
    /// Address, range and authorization of every request.
    log: Arc<Mutex<Vec<String>>>,
    pub endpoint: String,
}

impl FakeHub {
    pub fn new(id: &'static str, files: Files) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = format!("http://{address}");
        let fault = Arc::new(Mutex::new(Fault::None));
        let log = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (fault, log, base) = (fault.clone(), log.clone(), endpoint.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    // A connection without a request is the sign to stop.
                    let Some(request) = Request::read(&stream) else {
                        return;
                    };
                    let fault = *fault.lock().unwrap();
                    let line = format!("{} {} {}", request.url, request.range, request.token);
                    log.lock().unwrap().push(line.trim().to_owned());
                    let answer = answer(&request, id, &files, fault, &base);
                    // The client may have hung up.
                    let _ = stream.write_all(&answer);
                }
            })
        };
        FakeHub {
            address,
            thread: Some(thread),
            fault,
            log,
            endpoint,
        }
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    pub fn client(&self, cache: &Path) -> Hub {
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
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Request {
    url: String,
    range: String,
    token: String,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let url = lines.next()?.split(' ').nth(1)?.to_owned();
        let mut request = Request {
            url,
            range: String::new(),
            token: String::new(),
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            match name.to_lowercase().as_str() {
                "range" => request.range = value.trim().to_owned(),
                "authorization" => request.token = value.trim().to_owned(),
                _ => {}
            }
        }
        Some(request)
    }
}

/// A response of these header lines; without `announced` its end is that of the connection.
fn response(status: u16, headers: &str, body: &[u8], announced: Option<usize>) -> Vec<u8> {
    let length = announced.map_or_else(String::new, |n| format!("Content-Length: {n}\r\n"));
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn answer(request: &Request, id: &str, files: &Files, fault: Fault, base: &str) -> Vec<u8> {
    let status = |code| response(code, "", b"", Some(0));
    let url = request.url.as_str();
    if let Fault::Status(code) = fault {
        return status(code);
    }
    if let Some(revision) = url.strip_prefix(&format!("/api/models/{id}/revision/")) {
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
        let code = if revision == "main" || revision == COMMIT {
            200
        } else {
            404
        };
        let kind = "Content-Type: application/json\r\n";
        return response(code, kind, body.as_bytes(), Some(body.len()));
    }
    let name = url
        .strip_prefix(&format!("/{id}/resolve/{COMMIT}/"))
        .or_else(|| url.strip_prefix("/cdn/"))
        .unwrap_or_default();
    let Some(content) = files.get(name) else {
        return status(404);
    };
    let mut headers = format!("X-Repo-Commit: {COMMIT}\r\n");
    // As the hub does, weights come from another address.
    if name.ends_with(".safetensors") && !url.starts_with("/cdn/") {
        headers += &format!("Location: {base}/cdn/{name}\r\nX-Linked-Etag: \"etag-{name}\"\r\n");
        return response(302, &headers, b"", Some(0));
    }
    let span = request
        .range
        .trim_start_matches("bytes=")
        .split_once('-')
        .unwrap_or(("0", ""));
    let (start, end) = match (fault, span) {
        (Fault::Whole, (_, "")) => (0, content.len()),
        (_, (start, "")) => (start.parse().unwrap(), content.len()),
        (_, (start, end)) => (start.parse().unwrap(), end.parse::<usize>().unwrap() + 1),
    };
    if start >= content.len() {
        return status(416);
    }
    let part = &content[start..end.min(content.len())];
    let last = start + part.len() - 1;
    headers += &format!("Content-Range: bytes {start}-{last}/{}\r\n", content.len());
    headers += &format!("ETag: \"etag-{name}\"\r\n");
    let large = url.starts_with("/cdn/") && part.len() > 1;
    match fault {
        Fault::Drop if large => response(206, &headers, &part[..part.len() / 2], Some(part.len())),
        Fault::Short if large => response(206, &headers, &part[..part.len() / 2], None),
        Fault::Headers => response(206, "", part, Some(part.len())),
        _ => response(206, &headers, part, Some(part.len())),
    }
}
