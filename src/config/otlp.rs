//! The standard settings of OpenTelemetry, `OTEL_…`, as far as they mean anything here.
//!
//! Other programs read the same variables, the Functions host among them, and no webhook should be lost to a wrong one. So what
//! is wrong with them is a warning, and what it concerns is not sent. No warning shows a value that may be a secret.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Source, misspelt};
use crate::limits;
use crate::otlp::Options;
use crate::traces::Sampler;

/// Where both go unless one has an address of its own.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What is sent, and to where; `None` where nothing is.
pub(super) fn options(source: &Source, warnings: &mut Vec<String>) -> Option<Options> {
    if source.get("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return None;
    }
    let traces = endpoint(source, "TRACES", "v1/traces", warnings);
    let metrics = endpoint(source, "METRICS", "v1/metrics", warnings);
    if traces.is_none() && metrics.is_none() {
        return None;
    }
    let mut millis = |name: &str, usual: Duration| {
        let Some(text) = source.get(name) else { return usual };
        let read = text.parse().map(Duration::from_millis).ok();
        let bounded = read.filter(|time| (limits::OTLP_TIME_MIN..=limits::OTLP_TIME_MAX).contains(time));
        bounded.unwrap_or_else(|| {
            let (min, max) = (limits::OTLP_TIME_MIN.as_millis(), limits::OTLP_TIME_MAX.as_millis());
            warnings.push(format!(
                "{name} = {text:?}: must be milliseconds from {min} to {max}; {} is used",
                usual.as_millis()
            ));
            usual
        })
    };
    let timeout = millis("OTEL_EXPORTER_OTLP_TIMEOUT", Duration::from_secs(10));
    let metrics_every = millis("OTEL_METRIC_EXPORT_INTERVAL", Duration::from_secs(60));
    let spans_after = millis("OTEL_BSP_SCHEDULE_DELAY", Duration::from_secs(5));
    let headers = headers(source, warnings);
    let sampler = sampler(source, warnings);
    let resource = resource(source, warnings);
    Some(Options { traces, metrics, headers, timeout, sampler, resource, metrics_every, spans_after })
}

/// Where one signal goes: its own address as it is, or the common one with `path` behind it.
fn endpoint(source: &Source, signal: &str, path: &str, warnings: &mut Vec<String>) -> Option<Url> {
    let exporter = format!("OTEL_{signal}_EXPORTER");
    match source.get(&exporter) {
        None | Some("otlp") => {}
        Some("none") => return None,
        Some(other) => {
            warnings.push(format!("{exporter} = {other:?}: must be `otlp` or `none`; none of that is sent"));
            return None;
        }
    }
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let (name, text, path) = match (source.get(&own), source.get(ENDPOINT)) {
        (Some(text), _) => (own.as_str(), text, None),
        (None, Some(text)) => (ENDPOINT, text, Some(path)),
        (None, None) => return None,
    };
    let protocol = [format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"), "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned()];
    let protocol = protocol.iter().find_map(|name| Some((name, source.get(name)?)));
    // One warning for each thing, also where both signals meet it.
    let mut warn = |warning: String| {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    };
    if let Some((name, other)) = protocol.filter(|(_, word)| *word != "http/protobuf") {
        warn(format!(
            "{name} = {other:?}: only `http/protobuf` is spoken here; give the collector's HTTP port, mostly 4318, and that word"
        ));
        return None;
    }
    if let Some(problem) = misspelt::unfilled(text) {
        warn(format!("{name} {problem}; nothing is sent there"));
        return None;
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        // It may hold a password or a token.
        warn(format!("{name} is no http or https URL, such as `http://127.0.0.1:4318`; nothing is sent there"));
        return None;
    };
    if let Some(path) = path {
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
    }
    Some(url)
}

/// Pairs `name=value`, comma-separated, with values in percent-encoding; `None` for one that is no pair.
fn pairs(text: &str) -> impl Iterator<Item = Option<(String, String)>> {
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        // A plus stands for itself here.
        let value =
            form_urlencoded::parse(format!("v={}", value.trim().replace('+', "%2B").replace('&', "%26")).as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())?;
        (!name.is_empty()).then(|| (name.to_owned(), value))
    })
}

fn headers(source: &Source, warnings: &mut Vec<String>) -> HeaderMap {
    const NAME: &str = "OTEL_EXPORTER_OTLP_HEADERS";
    let mut headers = HeaderMap::new();
    for (number, pair) in source.get(NAME).into_iter().flat_map(pairs).enumerate() {
        let header = pair.and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        });
        match header {
            Some((name, value)) => drop(headers.insert(name, value)),
            None => warnings
                .push(format!("{NAME}: part {} is no `name=value` that can be a header; it is left out", number + 1)),
        }
    }
    headers
}

fn resource(source: &Source, warnings: &mut Vec<String>) -> Vec<(String, String)> {
    const NAME: &str = "OTEL_RESOURCE_ATTRIBUTES";
    let given: Vec<_> = source.get(NAME).into_iter().flat_map(pairs).collect();
    if given.iter().any(Option::is_none) {
        warnings.push(format!("{NAME}: holds parts that are no `name=value`; they are left out"));
    }
    let mut all: Vec<(String, String)> = given.into_iter().flatten().collect();
    if let Some(name) = source.get("OTEL_SERVICE_NAME") {
        all.retain(|(known, _)| known != "service.name");
        all.push(("service.name".into(), name.to_owned()));
    }
    // Metrics of two processes under one name would be taken for one.
    let instance = || uuid::Uuid::new_v4().to_string();
    let usual: [(&str, &dyn Fn() -> String); 3] = [
        ("service.name", &|| env!("CARGO_PKG_NAME").to_owned()),
        ("service.version", &|| env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", &instance),
    ];
    for (name, value) in usual {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name.to_owned(), value()));
        }
    }
    all
}

fn sampler(source: &Source, warnings: &mut Vec<String>) -> Sampler {
    const NAME: &str = "OTEL_TRACES_SAMPLER";
    let argument = "OTEL_TRACES_SAMPLER_ARG";
    let everything = Sampler { ratio: 1.0, parent_based: true };
    let Some(word) = source.get(NAME) else { return everything };
    let (parent_based, root) = match word.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, word),
    };
    let ratio = match (root, source.get(argument)) {
        ("always_on", _) => 1.0,
        ("always_off", _) => 0.0,
        ("traceidratio", None) => 1.0,
        ("traceidratio", Some(text)) => {
            let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.unwrap_or_else(|| {
                warnings.push(format!("{argument} = {text:?}: must be a number from 0 to 1; all traces are sent"));
                1.0
            })
        }
        _ => {
            warnings.push(format!(
                "{NAME} = {word:?}: must be `always_on`, `always_off` or `traceidratio`, alone or behind `parentbased_`; all traces are sent"
            ));
            return everything;
        }
    };
    Sampler { ratio, parent_based }
}

#[cfg(test)]
#[path = "otlp_tests.rs"]
mod tests;
