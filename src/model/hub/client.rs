//! Requests to the hub, and what may become of them.
//!
//! Redirects are followed here and not by the HTTP library, so that they are counted, lead to http
//! and https alone, and take the token to no other host. Nothing waits for ever, and no answer is read
//! beyond what its asker allows.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, LOCATION, RANGE,
};
use ureq::http::{Method, Request, Response, Uri};
use ureq::{Agent, Body};

use super::Hub;
use crate::model::error::quote;

/// Redirects of one request that are followed.
const MOST_REDIRECTS: usize = 10;
/// Bytes a second below which a body counts as one that has stopped.
const SLOWEST: u64 = 100;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The hub answered with this status.
    Status(u16),
    /// Anything else, as a part of a sentence.
    Other(String),
}

/// What the hub says about a file before it sends it. Nothing of it has been checked.
#[derive(Debug, Default)]
pub(super) struct Description {
    /// The commit that it is of.
    pub(super) commit: Option<String>,
    /// Its name among blobs.
    pub(super) etag: Option<String>,
    /// Its length in bytes.
    pub(super) length: Option<u64>,
}

/// A file's bytes on their way.
pub(super) struct Transfer {
    /// Where in the file they begin.
    pub(super) start: u64,
    /// The whole file's length, if the answer says it.
    pub(super) length: Option<u64>,
    /// The bytes.
    pub(super) body: Steady,
}

/// Who asks.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    agent: Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub) -> Self {
        let patience = Some(hub.patience);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_send_request(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .user_agent(concat!("headlight/", env!("CARGO_PKG_VERSION")))
            .build();
        Client {
            hub,
            agent: agent.into(),
        }
    }

    /// The whole answer to a question, of at most `most` bytes.
    pub(super) fn ask(&self, path: &str, most: u64) -> Result<Vec<u8>, Failure> {
        let response = self.follow(Method::GET, path, None, |_| ())?;
        let mut bytes = Vec::new();
        let mut body = self.body(response).take(most + 1);
        body.read_to_end(&mut bytes)
            .map_err(|e| self.broken_off(&e))?;
        match bytes.len() as u64 > most {
            true => Err(Failure::Other(format!(
                "its answer has more than {most} bytes"
            ))),
            false => Ok(bytes),
        }
    }

    /// Asks about a file. Where the file is kept elsewhere, elsewhere is not asked.
    pub(super) fn describe(&self, path: &str) -> Result<Description, Failure> {
        let mut found = Description::default();
        let text = |headers: &HeaderMap, name: &str| {
            let value = headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        // The first to speak of the linked file knows it best.
        let mut linked = |headers: &HeaderMap| {
            let Description {
                commit,
                etag,
                length,
            } = &mut found;
            *commit = commit.take().or_else(|| text(headers, "x-repo-commit"));
            *etag = etag.take().or_else(|| text(headers, "x-linked-etag"));
            *length = length.or_else(|| text(headers, "x-linked-size")?.parse().ok());
        };
        let response = self.follow(Method::HEAD, path, None, &mut linked)?;
        let headers = response.headers();
        linked(headers);
        found.etag = found.etag.or_else(|| text(headers, ETAG.as_str()));
        if response.status().is_success() {
            let announced = || text(headers, CONTENT_LENGTH.as_str())?.parse().ok();
            found.length = found.length.or_else(announced);
        }
        Ok(found)
    }

    /// Begins to fetch a file, from byte `from` on if the hub can do that.
    pub(super) fn fetch(&self, path: &str, from: u64) -> Result<Transfer, Failure> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let response = self.follow(Method::GET, path, range, |_| ())?;
        let announced = response.body().content_length();
        let (start, length) = match response.status().as_u16() {
            200 => (0, announced),
            206 => {
                let told = response.headers().get(CONTENT_RANGE);
                let told = told.and_then(|range| span(range.to_str().ok()?));
                let (start, length) = told.ok_or_else(|| {
                    Failure::Other("it does not say which part of the file it sends".to_owned())
                })?;
                (start, length.or(announced.map(|rest| start + rest)))
            }
            other => return Err(Failure::Status(other)),
        };
        Ok(Transfer {
            start,
            length,
            body: self.body(response),
        })
    }

    /// Sends a request and follows its redirects, showing each one's headers to `passed`. A HEAD goes
    /// no further than the hub's own host, and a redirect from there is its answer.
    fn follow(
        &self,
        method: Method,
        path: &str,
        range: Option<String>,
        mut passed: impl FnMut(&HeaderMap),
    ) -> Result<Response<Body>, Failure> {
        let home = address(&self.hub.endpoint).ok_or_else(|| {
            Failure::Other("its address does not begin with http:// or https://".to_owned())
        })?;
        let whole = format!("{}{path}", self.hub.endpoint);
        let mut at = address(&whole)
            .ok_or_else(|| Failure::Other(format!("`{}` is no address", quote(&whole))))?;
        for _ in 0..=MOST_REDIRECTS {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(&at)
                // Lengths and hashes are those of the bytes as they are.
                .header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.hub.token.as_ref().filter(|_| is_home(&home, &at)) {
                request = request.header(AUTHORIZATION, format!("Bearer {token}"));
            }
            if let Some(range) = &range {
                request = request.header(RANGE, range);
            }
            let request = request.body(()).map_err(|e| other(&e))?;
            let response = self.agent.run(request).map_err(|e| self.explain(&e))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Err(Failure::Status(status.as_u16()));
            }
            let next = response.headers().get(LOCATION);
            let next = next.and_then(|next| target(&at, next.to_str().ok()?));
            let next = next.ok_or_else(|| {
                Failure::Other("it redirects to what is no http address".to_owned())
            })?;
            if method == Method::HEAD && !is_home(&home, &next) {
                return Ok(response);
            }
            passed(response.headers());
            at = next;
        }
        Err(Failure::Other(format!(
            "it redirects more than {MOST_REDIRECTS} times"
        )))
    }

    fn body(&self, response: Response<Body>) -> Steady {
        Steady {
            inner: Box::new(response.into_body().into_reader()),
            patience: self.hub.patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn explain(&self, error: &ureq::Error) -> Failure {
        match error {
            ureq::Error::Timeout(_) => self.stopped(),
            error => other(error),
        }
    }

    /// What ended a body before its end.
    pub(super) fn broken_off(&self, error: &io::Error) -> Failure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(inner) => self.explain(inner),
            None if error.kind() == io::ErrorKind::TimedOut => self.stopped(),
            None => other(error),
        }
    }

    fn stopped(&self) -> Failure {
        let seconds = self.hub.patience.as_secs_f64();
        Failure::Other(format!("next to nothing arrived for {seconds} s"))
    }
}

fn other(error: &dyn std::error::Error) -> Failure {
    Failure::Other(quote(&error.to_string()))
}

/// A body that must go on: slower than [`SLOWEST`] for a while, it has stopped.
pub(super) struct Steady {
    inner: Box<dyn Read>,
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl Read for Steady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        let passed = self.since.elapsed();
        if read > 0 && passed >= self.patience {
            if (self.bytes as f64) < SLOWEST as f64 * passed.as_secs_f64() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(read)
    }
}

/// An http or https address with a host.
fn address(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}

/// Where a redirect from `at` leads: an http or https address, or a path on the same host. From https
/// none leads to http.
fn target(at: &Uri, location: &str) -> Option<Uri> {
    let next = match (location.starts_with("//"), location.starts_with('/')) {
        (true, _) => format!("{}:{location}", at.scheme_str()?),
        (_, true) => format!("{}://{}{location}", at.scheme_str()?, at.authority()?),
        _ => location.to_owned(),
    };
    let next = address(next.split('#').next()?)?;
    let lowered = at.scheme_str() == Some("https") && next.scheme_str() == Some("http");
    (!lowered).then_some(next)
}

/// Whether an address is the hub's own: its host and port, or the same host's https in place of http.
fn is_home(home: &Uri, at: &Uri) -> bool {
    let port = |uri: &Uri| {
        let usual = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        uri.port_u16().unwrap_or(usual)
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    let same = home.scheme_str() == at.scheme_str() && port(home) == port(at);
    let raised = port(home) == 80 && port(at) == 443 && at.scheme_str() == Some("https");
    host(home) == host(at) && (same || raised)
}

/// First byte and the whole length, out of `bytes 3-9/10` or `bytes 3-9/*`.
fn span(range: &str) -> Option<(u64, Option<u64>)> {
    let (span, length) = range.strip_prefix("bytes ")?.split_once('/')?;
    let start = span.split_once('-')?.0.parse().ok()?;
    match length {
        "*" => Some((start, None)),
        length => Some((start, Some(length.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        address(text).unwrap()
    }

    #[test]
    fn the_token_stays_at_home() {
        let home = uri("https://hub.example/mirror");
        for there in ["https://hub.example/a", "https://HUB.example:443/b"] {
            assert!(is_home(&home, &uri(there)), "{there}");
        }
        for elsewhere in [
            "http://hub.example/a",
            "https://hub.example:444/a",
            "https://hub.example.evil/a",
            "https://evil/hub.example",
            "https://hub.example@evil/a",
            "https://cdn.hub.example/a",
        ] {
            assert!(!is_home(&home, &uri(elsewhere)), "{elsewhere}");
        }
        let plain = uri("http://localhost:8000");
        assert!(is_home(&plain, &uri("http://localhost:8000/x")));
        assert!(!is_home(&plain, &uri("http://localhost:8001/x")));
        assert!(!is_home(&plain, &uri("https://localhost:8000/x")));
        assert!(!is_home(&plain, &uri("http://127.0.0.1:8000/x")));
        assert!(is_home(&uri("http://hub"), &uri("https://hub/x")));
    }

    #[test]
    fn redirects_lead_to_addresses_or_paths() {
        let at = uri("https://hub.example:1/a/b?c");
        let to = |location: &str| target(&at, location).map(|uri| uri.to_string());
        assert_eq!(to("/x?y#z").unwrap(), "https://hub.example:1/x?y");
        assert_eq!(to("//cdn/x").unwrap(), "https://cdn/x");
        assert_eq!(to("https://cdn/x").unwrap(), "https://cdn/x");
        for nowhere in [
            "",
            "x",
            "../x",
            "http://cdn/x",
            "file:///etc/passwd",
            "ftp://cdn/x",
            "javascript:1",
            "https://",
            "https:///x",
        ] {
            assert_eq!(to(nowhere), None, "{nowhere}");
        }
        assert!(address("hub.example").is_none() && address("").is_none());
    }

    #[test]
    fn ranges_say_where_they_begin() {
        assert_eq!(span("bytes 3-9/10"), Some((3, Some(10))));
        assert_eq!(span("bytes 0-0/*"), Some((0, None)));
        for wrong in [
            "",
            "bytes",
            "bytes */10",
            "bytes 3-9",
            "3-9/10",
            "bytes x-9/10",
            "bytes 3-9/-5",
        ] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }
}
