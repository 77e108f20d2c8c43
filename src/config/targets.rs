//! Who is notified: `WebhookTargetUrl` for one receiver, `WebhookTargets` for any number.
//!
//! Guarantee: nothing that opens a door is shown, neither in a fault nor by `Debug`: secrets and header values never, of a
//! URL only scheme, host and port (chat services and GitOps receivers have their secret in the path).

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::members::{Members, elements, shortened};
use super::{Fault, Source};
use crate::limits;
use crate::notify::guard;
use crate::notify::payload::Format;
use crate::notify::signature::Secret;
pub use crate::notify::target::{TargetSettings, shown};
use crate::push::policy::{Filter, Target};
use crate::push::state::Notice;

const ONE: &str = "WebhookTargetUrl";
const MANY: &str = "WebhookTargets";
const PRIVATE: &str = "WebhookAllowPrivateTargets";

/// Headers that the service or the connection sets itself.
const RESERVED: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The targets: first the one of `WebhookTargetUrl`, `WebhookTargetSecret` and `WebhookTargetFormat`, named `default`, then
/// those of `WebhookTargets`. Every fault is added to `faults`; a target with a fault is left out, so the result counts only
/// when there are none.
pub fn targets(source: &Source, faults: &mut Vec<Fault>) -> Vec<TargetSettings> {
    let private = match source.get(PRIVATE).map(str::to_lowercase).as_deref() {
        None | Some("true" | "1") => true,
        Some("false" | "0") => false,
        Some(other) => {
            faults.push(Fault::of(PRIVATE, &shortened(other), "must be `true` or `false`"));
            true
        }
    };
    let mut targets: Vec<TargetSettings> = simple(source, private, faults).into_iter().collect();
    let mut names: Vec<String> = targets.iter().map(|t| t.policy.name.clone()).collect();
    let room = limits::TARGETS_MAX - names.len();
    for (index, value) in elements(source, MANY, room, faults).into_iter().enumerate() {
        let place = match Members::peek(&value, "name") {
            Some(name) => format!("{MANY}, target {} `{name}`", index + 1),
            None => format!("{MANY}, target {}", index + 1),
        };
        // Also against names of targets that have other faults, so that all faults show in one start.
        if let Some(name) = value.get("name").and_then(|name| name.as_str()).map(|name| name.trim().to_owned()) {
            if names.contains(&name) {
                faults.push(Fault::hidden(format!("{place}, `name`"), "another target has this name already"));
            }
            names.push(name);
        }
        let before = faults.len();
        let target = Members::of(place, value, faults).and_then(|members| target(members, private));
        if faults.len() == before {
            targets.extend(target);
        }
    }
    targets
}

fn simple(source: &Source, allow_private: bool, faults: &mut Vec<Fault>) -> Option<TargetSettings> {
    const SECRET: &str = "WebhookTargetSecret";
    const FORMAT: &str = "WebhookTargetFormat";
    let before = faults.len();
    let format = source.get(FORMAT).map_or(Ok(Format::default()), Format::parse);
    if let Err(problem) = &format {
        faults.push(Fault::of(FORMAT, &shortened(source.get(FORMAT).unwrap_or_default()), problem));
    }
    let texts: Vec<&str> = source.get(SECRET).map(|text| text.split(',').collect()).unwrap_or_default();
    let secrets = secrets(texts.into_iter(), |problem| faults.push(Fault::hidden(SECRET, problem)));
    let Some(text) = source.get(ONE) else {
        for name in [SECRET, FORMAT].into_iter().filter(|name| source.get(name).is_some()) {
            faults.push(Fault::hidden(name, format!("is given without {ONE}, so there is nothing to send")));
        }
        return None;
    };
    let url = url(text, false, allow_private, |shown, problem| {
        faults.push(Fault { setting: ONE.into(), value: shown, problem });
    });
    if faults.len() > before {
        return None;
    }
    let format = format.ok()?;
    let notices = default_notices(format);
    let filter = Filter { actions: default_actions(format), ..Filter::default() };
    let policy = Target { name: "default".into(), notices, filter, companions: false };
    Some(TargetSettings {
        policy,
        url: url?,
        format,
        secrets,
        headers: HeaderMap::new(),
        allow_http: false,
        allow_private,
    })
}

fn target(mut members: Members<'_>, private: bool) -> Option<TargetSettings> {
    let name = name(&mut members);
    let format = match members.text("format").map(|text| (Format::parse(&text), text)) {
        None => Some(Format::default()),
        Some((Ok(format), _)) => Some(format),
        Some((Err(problem), text)) => {
            let at = members.at("format");
            members.faults.push(Fault::of(at, &shortened(&text), problem));
            None
        }
    };
    let allow_http = members.flag("allowHttp").unwrap_or(false);
    let allow_private = members.flag("allowPrivate").unwrap_or(private);
    let before = members.faults.len();
    let url = match members.text("url") {
        None => {
            if members.faults.len() == before {
                members.fault("url", "is missing");
            }
            None
        }
        Some(text) => url(&text, allow_http, allow_private, |shown, problem| {
            let setting = members.at("url");
            members.faults.push(Fault { setting, value: shown, problem });
        }),
    };
    let mut texts = members.texts("secrets").unwrap_or_default();
    texts.extend(members.text("secret"));
    let secrets = secrets(texts.iter().map(String::as_str), |problem| members.fault("secrets", problem));
    let notices = notices(&mut members, format);
    let headers = members.object("headers").map(headers).unwrap_or_default();
    let companions = members.flag("companions").unwrap_or(false);
    let filter = filter(&mut members, format, companions);
    members.finish();
    let policy = Target { name: name?, notices, filter, companions };
    Some(TargetSettings { policy, url: url?, format: format?, secrets, headers, allow_http, allow_private })
}

fn filter(members: &mut Members<'_>, format: Option<Format>, companions: bool) -> Filter {
    let mut filter = Filter::default();
    if let Some(mut inner) = members.object("filter") {
        filter = inner.filter();
        let pushed = |action: &String| ["push", "quarantine"].contains(&action.as_str());
        let companions_only =
            filter.tagged == Some(false) && (filter.actions.is_empty() || filter.actions.iter().any(pushed));
        if companions_only && !companions {
            inner.fault(
                "tagged",
                "asks for what has no tag, which is told only with `\"companions\": true` beside the filter",
            );
        }
        inner.finish();
    }
    if let (true, Some(format)) = (filter.actions.is_empty(), format) {
        filter.actions = default_actions(format);
    }
    filter
}

/// The name stands in rows, log lines and URLs, so it is plain.
fn name(members: &mut Members<'_>) -> Option<String> {
    let before = members.faults.len();
    let name = members.text("name");
    match &name {
        None if members.faults.len() == before => {
            members.fault("name", "is missing: rows and log lines call a target by its name");
        }
        Some(name) if name.len() > limits::NAME_BYTES_MAX || !name.bytes().all(plain) => {
            members.fault("name", format!("must be up to {} letters, digits, `-`, `_` or `.`", limits::NAME_BYTES_MAX));
        }
        None | Some(_) => {}
    }
    name
}

fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// What a target is told of unless it says. A consumer of the registry's own format knows of images that are there, and of
/// nothing else; a workflow that names no type is started by whatever comes.
fn default_notices(format: Format) -> Vec<Notice> {
    match format {
        Format::Acr | Format::Github => vec![Notice::Replicated, Notice::Recovered],
        Format::Standard | Format::CloudEvents | Format::Slack | Format::Teams => {
            vec![Notice::Replicated, Notice::TimedOut]
        }
    }
}

/// The actions a target is told of unless it says; none means all. The other formats name the action in words of their own,
/// and the registry sends only what its webhooks were made for.
fn default_actions(format: Format) -> Vec<String> {
    match format {
        Format::Acr | Format::Github => vec!["push".to_owned()],
        Format::Standard | Format::CloudEvents | Format::Slack | Format::Teams => Vec::new(),
    }
}

fn notices(members: &mut Members<'_>, format: Option<Format>) -> Vec<Notice> {
    let Some(words) = members.texts("outcomes") else { return format.map(default_notices).unwrap_or_default() };
    let mut notices = Vec::new();
    for word in words {
        let notice = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded]
            .into_iter()
            .find(|n| n.word() == word);
        match notice {
            Some(notice) if format.is_some_and(|format| !format.tells(notice)) => {
                let problem = "is no success, and consumers of the format `acr` take whatever comes for a pushed image: \
                               leave it out, or choose another format";
                let at = members.at("outcomes");
                members.faults.push(Fault::of(at, &word, problem));
            }
            Some(notice) if !notices.contains(&notice) => notices.push(notice),
            Some(_) => {}
            None => {
                let at = members.at("outcomes");
                let problem = "is no outcome; the outcomes are replicated, timed_out, recovered, superseded";
                members.faults.push(Fault::of(at, &shortened(&word), problem));
            }
        }
    }
    notices
}

fn secrets<'a>(texts: impl ExactSizeIterator<Item = &'a str>, mut fault: impl FnMut(String)) -> Vec<Secret> {
    if texts.len() > 2 {
        fault(format!(
            "{} secrets are given; two are allowed, the old and the new while they are rotated",
            texts.len()
        ));
        return Vec::new();
    }
    let mut secrets = Vec::new();
    for text in texts {
        match Secret::parse(text) {
            Ok(secret) => secrets.push(secret),
            Err(problem) => fault(problem),
        }
    }
    secrets
}

/// Calls `fault` with what may be shown of the URL, and what is wrong with it.
fn url(text: &str, allow_http: bool, private: bool, mut fault: impl FnMut(Option<String>, String)) -> Option<Url> {
    if text.len() > limits::URL_BYTES_MAX {
        fault(None, format!("the URL has {} bytes; {} are allowed", text.len(), limits::URL_BYTES_MAX));
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(e) => {
            fault(None, format!("is not a URL: {e}; write `https://host/path`"));
            return None;
        }
    };
    let problem = match url.scheme() {
        "https" => None,
        "http" if allow_http || guard::is_loopback(&url) => None,
        "http" => Some(format!(
            "is plain http, which anybody on the way can read and change: use https, or in {MANY} `\"allowHttp\": true`"
        )),
        _ => Some("must begin with `https://`".to_owned()),
    };
    // `localhost` is as good as its address; other names are looked up when they are connected to.
    let named = guard::is_loopback(&url).then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let refused = guard::literal(&url).or(named).and_then(|ip| guard::refusal(ip, private));
    let problem = problem.or_else(|| refused.map(|why| format!("is {why}")));
    match problem {
        None => Some(url),
        Some(problem) => {
            let shown = matches!(url.scheme(), "http" | "https").then(|| shown(&url));
            fault(shown, problem);
            None
        }
    }
}

fn headers(mut members: Members<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let pairs = members.rest();
    if pairs.len() > limits::TARGET_HEADERS_MAX {
        let problem = format!("{} headers are given; {} are allowed", pairs.len(), limits::TARGET_HEADERS_MAX);
        members.faults.push(Fault::hidden(members.place(), problem));
        return headers;
    }
    for (name, value) in pairs {
        match header(&name, &value) {
            Ok((header, _)) if headers.contains_key(&header) => members.fault(&shortened(&name), "is given twice"),
            Ok((header, value)) => {
                headers.insert(header, value);
            }
            Err(problem) => members.fault(&shortened(&name), problem),
        }
    }
    headers
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is not the name of a header")?;
    let known = name.as_str();
    if RESERVED.contains(&known) || known.starts_with("webhook-") || known.starts_with("proxy-") {
        return Err("is set by this service itself".into());
    }
    if value.len() > limits::TARGET_HEADER_BYTES_MAX {
        return Err(format!("its value has {} bytes; {} are allowed", value.len(), limits::TARGET_HEADER_BYTES_MAX));
    }
    let mut value = HeaderValue::from_str(value).map_err(|_| "its value holds a control character")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
