//! The host's public side: routes, keys, and what is changed on the way to the handler.

use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::pool::Pool;
use super::url;
use crate::support::http::{Answer, Connection, Framing, Head, latin1};

/// What the host calls itself.
pub const VERSION: &str = "4.1037.0.0";

const REQUEST_LINE_MAX: usize = 8 * 1024;

/// Content headers; of these only `Content-Type` and `Content-Length` reach the handler.
const CONTENT_HEADERS: [&str; 11] = [
    "Content-Type",
    "Content-Length",
    "Content-Encoding",
    "Content-Language",
    "Content-Disposition",
    "Content-Location",
    "Content-MD5",
    "Content-Range",
    "Expires",
    "Last-Modified",
    "Allow",
];

/// One HTTP function.
#[derive(Debug, Clone)]
pub struct Route {
    segments: Vec<String>,
    methods: Vec<String>,
    anonymous: bool,
}

impl Route {
    /// A function of level `function`. The template's segments may be `{name}` and, at its end, `{name?}` or `{*rest}`.
    pub fn new(template: &str, methods: &[&str]) -> Self {
        Self {
            segments: template.split('/').map(str::to_owned).collect(),
            methods: methods.iter().map(|m| (*m).to_owned()).collect(),
            anonymous: false,
        }
    }

    /// The same, for callers without a key.
    pub fn anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    /// What it was made of.
    pub fn template(&self) -> String {
        self.segments.join("/")
    }

    /// Methods it lists.
    pub fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Case and a trailing slash do not count.
    fn matches(&self, method: &str, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        let Some(rest) = path.get(..5).filter(|p| p.eq_ignore_ascii_case("/api/")).and(path.get(5..)) else {
            return false;
        };
        let mut given = rest.split('/');
        for segment in &self.segments {
            match (segment.as_str(), given.next()) {
                (rest, _) if rest.starts_with("{*") => return self.lists(method),
                (optional, None) if optional.ends_with("?}") => {}
                (_, None) | (_, Some("")) => return false,
                (named, Some(_)) if named.starts_with('{') => {}
                (literal, Some(part)) if literal.eq_ignore_ascii_case(part) => {}
                (_, Some(_)) => return false,
            }
        }
        given.next().is_none() && self.lists(method)
    }

    fn lists(&self, method: &str) -> bool {
        self.methods.iter().any(|m| m.eq_ignore_ascii_case(method))
    }
}

/// The public side of one host.
#[derive(Debug)]
pub struct Front {
    /// Its HTTP functions; the first that matches takes the request.
    pub routes: Vec<Route>,
    /// The host key; a function's own has `.` and the first segment of its route behind it. `None` lets everybody in, as `func start`
    /// does.
    pub key: Option<String>,
    /// The way to the handler.
    pub pool: Arc<Pool>,
}

impl Front {
    /// Serves until dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            if let Ok((stream, _)) = listener.accept().await {
                let front = Arc::clone(&self);
                connections.spawn(async move {
                    // A caller that breaks off is its own affair.
                    let _ = front.converse(stream).await;
                });
            }
        }
    }

    async fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut caller = Connection::new(stream);
        while let Some(head) = caller.head().await? {
            let Ok(framing) = head.request_framing() else {
                return caller.write(&closing(500)).await;
            };
            let method = head.start.split(' ').next().unwrap_or_default().to_owned();
            if head.get("Expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
                caller.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let body = caller.body(framing).await?;
            let closes = head.closes();
            let answer = match self.refuse(&head, framing) {
                Some(status) => bare(status),
                None => match forwarded(&head, &body, &uuid::Uuid::new_v4().to_string()) {
                    Some(request) => self
                        .pool
                        .call(&request, !body.is_empty())
                        .await
                        .map_or_else(|_| bare(500), |a| passed_on(&a, &method)),
                    None => bare(500),
                },
            };
            caller.write(&answer).await?;
            if closes {
                break;
            }
        }
        Ok(())
    }

    /// The host's own answer to what the handler never sees.
    fn refuse(&self, head: &Head, framing: Framing) -> Option<u16> {
        if head.start.len() > REQUEST_LINE_MAX {
            return Some(414);
        }
        let (method, path, query) = request_line(head)?;
        let path = url::decoded(path);
        let Some(route) = self.routes.iter().find(|r| r.matches(method, &path)) else { return Some(404) };
        if let Some(key) = self.key.as_ref().filter(|_| !route.anonymous) {
            let given = head.get("x-functions-key").map(str::to_owned).or_else(|| url::query_value(query, "code"));
            let own = format!("{key}.{}", route.segments[0]);
            if ![Some(key), Some(&own)].contains(&given.as_ref()) {
                return Some(401);
            }
        }
        (framing == Framing::Chunked).then_some(500)
    }
}

fn request_line(head: &Head) -> Option<(&str, &str, &str)> {
    let mut parts = head.start.split(' ');
    let (method, target) = (parts.next()?, parts.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some((method, path, query))
}

/// The request as the handler gets it; `None` when the host fails to make one.
pub fn forwarded(head: &Head, body: &[u8], invocation: &str) -> Option<Vec<u8>> {
    let (method, path, query) = request_line(head)?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in &head.headers {
        if !value.is_ascii() {
            return None;
        }
        if CONTENT_HEADERS.iter().any(|c| c.eq_ignore_ascii_case(name)) {
            continue;
        }
        add(&mut headers, name, value, if name.eq_ignore_ascii_case("cookie") { "; " } else { ", " });
    }
    add(&mut headers, "User-Agent", &format!("Azure-Functions-Host/{VERSION}"), " ");
    add(&mut headers, "X-Azure-Functions-HostVersion", VERSION, ", ");
    add(&mut headers, "X-Azure-Functions-InvocationId", invocation, ", ");
    if !body.is_empty() {
        headers.push(("Content-Length".into(), body.len().to_string()));
        if let Some(content_type) = head.get("Content-Type") {
            headers.push(("Content-Type".into(), respelled(content_type)?));
        }
    } else if matches!(method, "POST" | "PUT" | "PATCH") {
        headers.push(("Content-Length".into(), "0".into()));
    }
    let query = url::forwarded_query(query);
    let mark = if query.is_empty() { "" } else { "?" };
    let mut request = format!("{method} {}{mark}{query} HTTP/1.1\r\n", url::forwarded_path(path));
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    Some([request.as_bytes(), body].concat())
}

/// Adds a value; several values of one name become one line.
fn add(headers: &mut Vec<(String, String)>, name: &str, value: &str, separator: &str) {
    match headers.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
        Some((_, values)) => {
            values.push_str(separator);
            values.push_str(value);
        }
        None => headers.push((name.to_owned(), value.to_owned())),
    }
}

/// A media type as .NET writes it back; `None` when it does not parse.
fn respelled(content_type: &str) -> Option<String> {
    let is_token =
        |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    let mut parts = content_type.split(';').map(str::trim);
    let media_type = parts.next()?;
    let (kind, subkind) = media_type.split_once('/')?;
    if !is_token(kind) || !is_token(subkind) {
        return None;
    }
    let mut spelled = vec![media_type.to_owned()];
    for parameter in parts {
        let (name, value) = parameter.split_once('=').map(|(n, v)| (n.trim(), v.trim()))?;
        let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
        if !is_token(name) || !(is_token(value) || quoted) {
            return None;
        }
        spelled.push(format!("{name}={value}"));
    }
    Some(spelled.join("; "))
}

/// The handler's answer as the caller gets it: read whole, everything kept but the chunks.
fn passed_on(answer: &Answer, method: &str) -> Vec<u8> {
    let has_length = method == "HEAD" || matches!(answer.status, 204 | 304);
    let mut text = format!("HTTP/1.1 {} {}\r\n", answer.status, answer.reason);
    for (name, value) in &answer.head.headers {
        let is_framing = name.eq_ignore_ascii_case("Transfer-Encoding")
            || (name.eq_ignore_ascii_case("Content-Length") && !has_length)
            || name.eq_ignore_ascii_case("Connection");
        if !is_framing {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if !has_length {
        text.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
    }
    text.push_str("\r\n");
    [latin1(&text), answer.body.clone()].concat()
}

fn bare(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Host\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn closing(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} Host\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}
