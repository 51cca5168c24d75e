//! A hub on this machine, and another host where it keeps weights. It speaks as much of the protocol
//! as huggingface_hub uses (the API's list of files; HEAD and GET of `resolve` with ranges, commit and
//! etag headers; weights behind a redirect) and can be told to misbehave in any answer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headlight::model::Hub;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How long a connection that should stay open does.
const LONGEST_STALL: Duration = Duration::from_secs(20);

pub type Files = BTreeMap<String, Vec<u8>>;

/// What a request is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The API's list of files.
    Listing,
    /// A file, asked of the hub.
    File(String),
    /// A file, asked of the other host.
    Kept(String),
    Other,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub head: bool,
    pub url: String,
    /// The first byte asked for, and whether a range was asked for at all.
    pub from: usize,
    pub ranged: bool,
    pub token: String,
    pub target: Target,
    /// The hub's own address and the other host's.
    pub hub: String,
    pub elsewhere: String,
}

/// An honest answer, for a fault to spoil.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What `Content-Length` says; without, the body ends where the connection does.
    pub length: Option<String>,
    pub pace: Pace,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    Whole,
    /// Nothing, not even a status, and the connection stays open.
    Silent,
    /// So many bytes of the body, then nothing, and the connection stays open.
    Stall(usize),
    /// So many bytes of the body, then the connection ends.
    Cut(usize),
    /// The body byte by byte, with pauses.
    Drip(Duration),
    /// The body again and again.
    Endless,
}

impl Answer {
    pub fn new(status: u16, body: &[u8]) -> Self {
        Answer {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
            length: Some(body.len().to_string()),
            pace: Pace::Whole,
        }
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(there, _)| there != name);
    }

    /// Another body, with its length.
    pub fn put(&mut self, body: Vec<u8>) {
        self.length = Some(body.len().to_string());
        self.body = body;
    }

    pub fn redirect(&mut self, to: impl Into<String>) {
        *self = Answer {
            headers: std::mem::take(&mut self.headers),
            ..Answer::new(302, b"")
        };
        self.set("Location", to);
    }
}

pub type Fault = Arc<dyn Fn(&Request, &mut Answer) + Send + Sync>;

/// No fault.
pub fn honest() -> Fault {
    Arc::new(|_, _| ())
}

/// A fault in what `target` answers, requests of headers alone included.
pub fn at(target: Target, spoil: impl Fn(&Request, &mut Answer) + Send + Sync + 'static) -> Fault {
    Arc::new(move |request, answer| {
        if request.target == target {
            spoil(request, answer);
        }
    })
}

struct Shared {
    id: String,
    files: Files,
    fault: Mutex<Fault>,
    /// Address, first byte of a range and authorization of every request.
    log: Mutex<Vec<String>>,
    hub: String,
    elsewhere: String,
    done: AtomicBool,
}

pub struct FakeHub {
    shared: Arc<Shared>,
    threads: Vec<(SocketAddr, JoinHandle<()>)>,
    pub endpoint: String,
}

impl FakeHub {
    pub fn new(id: &str, files: Files) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|l| l.local_addr().unwrap());
        let [hub, elsewhere] = addresses.map(|address| format!("http://{address}"));
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            files,
            fault: Mutex::new(honest()),
            log: Mutex::default(),
            hub: hub.clone(),
            elsewhere,
            done: AtomicBool::new(false),
        });
        let serve = |(listener, home): (TcpListener, bool)| {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if shared.done.load(Ordering::Relaxed) {
                        return;
                    }
                    let shared = shared.clone();
                    let stream = stream.unwrap();
                    std::thread::spawn(move || shared.answer(stream, home));
                }
            })
        };
        let threads = listeners.into_iter().zip([true, false]).map(serve);
        FakeHub {
            threads: addresses.into_iter().zip(threads).collect(),
            shared,
            endpoint: hub,
        }
    }

    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.log.lock().unwrap())
    }

    /// Whether a line of the log is of a request to the other host.
    pub fn is_elsewhere(&self, line: &str) -> bool {
        line.starts_with(&self.shared.elsewhere)
    }

    pub fn client(&self, cache: &Path) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            cache: cache.to_owned(),
            token: None,
            offline: false,
            progress: false,
            patience: Duration::from_secs(20),
        }
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        for (address, thread) in self.threads.drain(..) {
            drop(TcpStream::connect(address));
            thread.join().unwrap();
        }
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream, home: bool) {
        // A browser's spare connection, so to speak.
        let Some(request) = self.read(&stream, home) else {
            return;
        };
        let base = if home { &self.hub } else { &self.elsewhere };
        let range = match request.ranged {
            true => format!("bytes={}-", request.from),
            false => String::new(),
        };
        let line = format!("{base}{} {range} {}", request.url, request.token);
        self.log.lock().unwrap().push(line.trim().to_owned());
        let mut answer = self.honest(&request);
        let fault = self.fault.lock().unwrap().clone();
        fault(&request, &mut answer);
        // The client may have hung up.
        let _ = self.send(stream, &request, &answer);
    }

    fn read(&self, stream: &TcpStream, home: bool) -> Option<Request> {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ');
        let (head, url) = (words.next()? == "HEAD", words.next()?.to_owned());
        let (mut range, mut token) = (None, String::new());
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            match name.to_lowercase().as_str() {
                "range" => {
                    range = value
                        .trim()
                        .strip_prefix("bytes=")?
                        .strip_suffix('-')?
                        .parse()
                        .ok()
                }
                "authorization" => token = value.trim().to_owned(),
                _ => {}
            }
        }
        let id = &self.id;
        let file = |prefix: &str| url.strip_prefix(prefix).map(decoded);
        let target = if url.starts_with(&format!("/api/models/{id}/revision/")) {
            Target::Listing
        } else if let Some(name) = file(&format!("/{id}/resolve/{COMMIT}/")).filter(|_| home) {
            Target::File(name)
        } else if let Some(name) = file("/kept/").filter(|_| !home) {
            Target::Kept(name)
        } else {
            Target::Other
        };
        Some(Request {
            head,
            from: range.unwrap_or(0),
            ranged: range.is_some(),
            url,
            token,
            target,
            hub: self.hub.clone(),
            elsewhere: self.elsewhere.clone(),
        })
    }

    fn honest(&self, request: &Request) -> Answer {
        let missing = Answer::new(404, b"");
        match &request.target {
            Target::Listing if request.url.ends_with("/main") || request.url.ends_with(COMMIT) => {
                let name = |name: &String| json!({"rfilename": name});
                let names: Vec<_> = self.files.keys().map(name).collect();
                let listing = json!({"id": self.id, "sha": COMMIT, "siblings": names});
                Answer::new(200, listing.to_string().as_bytes())
            }
            Target::File(name) => match self.files.get(name) {
                Some(content) if name.ends_with(".safetensors") => {
                    let mut answer = Answer::new(302, b"");
                    answer.set("Location", format!("{}/kept/{name}", self.elsewhere));
                    answer.set("X-Repo-Commit", COMMIT);
                    answer.set("X-Linked-Etag", format!("\"{}\"", sha256(content)));
                    answer.set("X-Linked-Size", content.len().to_string());
                    answer
                }
                Some(content) => {
                    let mut answer = part(content, request);
                    answer.set("X-Repo-Commit", COMMIT);
                    answer.set("ETag", format!("\"{}\"", git(content)));
                    answer
                }
                None => missing,
            },
            Target::Kept(name) => match self.files.get(name) {
                Some(content) => part(content, request),
                None => missing,
            },
            _ => missing,
        }
    }

    fn send(
        &self,
        mut stream: TcpStream,
        request: &Request,
        answer: &Answer,
    ) -> std::io::Result<()> {
        // Long enough for whoever waits to have waited too long.
        let open = || {
            let start = Instant::now();
            while !self.done.load(Ordering::Relaxed) && start.elapsed() < LONGEST_STALL {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        if answer.pace == Pace::Silent {
            open();
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
        if let Some(length) = &answer.length {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        let body = if request.head {
            &[]
        } else {
            answer.body.as_slice()
        };
        match answer.pace {
            Pace::Stall(bytes) => {
                stream.write_all(&body[..bytes.min(body.len())])?;
                stream.flush()?;
                open();
            }
            Pace::Cut(bytes) => stream.write_all(&body[..bytes.min(body.len())])?,
            Pace::Drip(pause) => {
                let start = Instant::now();
                for byte in body {
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    std::thread::sleep(pause);
                    if self.done.load(Ordering::Relaxed) || start.elapsed() > LONGEST_STALL {
                        break;
                    }
                }
            }
            Pace::Endless => {
                while !body.is_empty() && !self.done.load(Ordering::Relaxed) {
                    stream.write_all(body)?;
                }
            }
            Pace::Whole | Pace::Silent => stream.write_all(body)?,
        }
        stream.flush()?;
        // Closing with unread bytes would reset the connection before the client has read ours.
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

/// The part of a file that was asked for.
fn part(content: &[u8], request: &Request) -> Answer {
    if !request.ranged {
        return Answer::new(200, content);
    }
    let from = request.from;
    if from >= content.len() {
        return Answer::new(416, b"");
    }
    let mut answer = Answer::new(206, &content[from..]);
    let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
    answer.set("Content-Range", range);
    answer
}

/// Text without `%41`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || (rest.next().unwrap() as char).to_digit(16).unwrap() as u8;
        bytes.push(if byte == b'%' {
            digit() << 4 | digit()
        } else {
            byte
        });
    }
    String::from_utf8(bytes).unwrap()
}

pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// As `git hash-object` gives it.
pub fn git(content: &[u8]) -> String {
    let head = format!("blob {}\0", content.len());
    hex(&Sha1::new_with_prefix(head).chain_update(content).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
