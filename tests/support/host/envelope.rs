//! A queue message as the host puts it before the handler, and the host's verdict on the answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::forward::VERSION;
use crate::support::http::Answer;

/// A queue message as received.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id and pop receipt; `None` for one made up by a run by hand.
    pub handle: Option<(String, String)>,
    /// How often it has been received.
    pub dequeue_count: u32,
    /// When it was put.
    pub inserted: DateTime<Utc>,
    /// When it goes away.
    pub expires: DateTime<Utc>,
    /// Until when it is leased.
    pub next_visible: DateTime<Utc>,
    /// Its text as stored, usually base64.
    pub raw: String,
}

impl Message {
    /// The bytes in it; `None` when the text is not base64.
    pub fn decoded(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.raw).ok()
    }
}

/// What differs from call to call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Function name, which is the path.
    pub function: String,
    /// Name of the trigger's binding.
    pub binding: String,
    /// The handler's port.
    pub port: u16,
    /// Id of the invocation.
    pub invocation: String,
    /// Instant of the call.
    pub utc_now: String,
    /// `sys.RandGuid`.
    pub guid: String,
    /// Whether the body goes in chunks, as in Azure, or with a length, as under `func start`.
    pub chunked: bool,
}

/// `instant` as .NET writes a UTC `DateTime`: up to seven fraction digits, no zeros at the end.
pub fn utc_text(instant: DateTime<Utc>) -> String {
    let text = format!("{}{:07}", instant.format("%Y-%m-%dT%H:%M:%S."), instant.timestamp_subsec_nanos() / 100);
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The bytes of the call for a message whose decoded text is `text`.
pub fn request(call: &Call, message: &Message, text: &str) -> Vec<u8> {
    let body = body(call, message, text);
    let framing =
        if call.chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {}", body.len()) };
    let head = format!(
        "POST /{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nX-Azure-Functions-HostVersion: {VERSION}\r\n\
         X-Azure-Functions-InvocationId: {}\r\nUser-Agent: Azure-Functions-Host/{VERSION}\r\n{framing}\r\n\
         Content-Type: application/json; charset=utf-8\r\n\r\n",
        call.function, call.port, call.invocation
    );
    if call.chunked {
        format!("{head}{:X}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
    } else {
        format!("{head}{body}").into_bytes()
    }
}

fn body(call: &Call, message: &Message, text: &str) -> String {
    let mut metadata: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, json: String| match metadata.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
        Some((_, value)) => *value = json,
        None => metadata.push((name.to_owned(), json)),
    };
    set("DequeueCount", quoted(&message.dequeue_count.to_string()));
    set("ExpirationTime", instant(message.expires));
    if let Some((id, _)) = &message.handle {
        set("Id", twice(id));
    }
    set("InsertionTime", instant(message.inserted));
    set("NextVisibleTime", instant(message.next_visible));
    match &message.handle {
        Some((_, receipt)) => set("PopReceipt", twice(receipt)),
        None => set(&call.binding, twice(text)),
    }
    let sys = [("MethodName", &call.function), ("UtcNow", &call.utc_now), ("RandGuid", &call.guid)];
    set("sys", object(sys.iter().map(|(name, value)| (*name, quoted(value)))));
    for (name, value) in in_order(text) {
        if let Some(json) = member(&value).filter(|_| !name.to_lowercase().ends_with("trigger")) {
            set(&name, json);
        }
    }
    let data = object([(call.binding.as_str(), twice(text))]);
    let metadata = object(metadata.iter().map(|(name, json)| (name.as_str(), json.clone())));
    object([("Data", data), ("Metadata", metadata)])
}

/// Members of an object in the order of its text; none for any other value.
fn in_order(text: &str) -> Vec<(String, Value)> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, Value)>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let members = serde::Deserializer::deserialize_map(&mut reader, Members).unwrap_or_default();
    if reader.end().is_ok() { members } else { Vec::new() }
}

/// A member of the message's object as it stands in `Metadata`: text of it, encoded twice; dates and booleans in .NET's
/// own spelling, objects as they are, lists and nulls not at all.
fn member(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Array(_) => None,
        Value::Object(_) => Some(value.to_string()),
        Value::Bool(true) => Some(twice("True")),
        Value::Bool(false) => Some(twice("False")),
        Value::Number(number) => Some(twice(&number.to_string())),
        Value::String(text) => Some(match DateTime::parse_from_rfc3339(text) {
            Ok(date) => twice(&date.to_utc().format("%m/%d/%Y %H:%M:%S").to_string()),
            Err(_) => twice(text),
        }),
    }
}

fn instant(instant: DateTime<Utc>) -> String {
    quoted(&instant.to_rfc3339_opts(SecondsFormat::Secs, false))
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let members: Vec<String> = members.into_iter().map(|(name, json)| format!("{}:{json}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn twice(text: &str) -> String {
    quoted(&quoted(text))
}

/// What the host makes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The message is done with.
    Success,
    /// The message comes again, or goes to the poison queue; with the reason.
    Failure(String),
    /// The host would wait until its own time-out and then kill the handler: a fault of the handler, always.
    Hang(String),
    /// Never put before the handler: straight to the poison queue.
    NotCalled(String),
}

/// Judges an answer as the host does.
pub fn judge(answer: &Answer) -> Judgement {
    let failure = |why: &str| Judgement::Failure(format!("{why}: {} {:?}", answer.status, answer.text()));
    let hang = |why: &str| Judgement::Hang(format!("{} with {why}", answer.status));
    if !(200..300).contains(&answer.status) {
        return failure("status");
    }
    if answer.status == 204 || answer.header("Content-Length") == Some("0") {
        return hang("an empty body");
    }
    let kind = answer.header("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") && !kind.eq_ignore_ascii_case("text/json") {
        return failure("unsupported media type");
    }
    if answer.body.iter().all(u8::is_ascii_whitespace) {
        return hang("an empty body");
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Value::Null) => hang("null"),
        Ok(Value::Object(members)) => {
            let well_formed = members.iter().all(|(name, value)| match name.to_lowercase().as_str() {
                "outputs" => value.is_object() || value.is_null(),
                "logs" => value.is_null() || value.as_array().is_some_and(|l| l.iter().all(Value::is_string)),
                _ => true,
            });
            if well_formed { Judgement::Success } else { failure("`Outputs` or `Logs` of the wrong type") }
        }
        Ok(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => failure("JSON, but no object"),
        Err(_) => failure("no JSON"),
    }
}
