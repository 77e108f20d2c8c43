//! Settings with secrets in them: none of it may show.

use std::collections::BTreeMap;

use global_webhook::config::{self, Settings};
use global_webhook::store::Failure;
use reqwest::Url;
use serde_json::Value;

use super::MARK;
use super::settings::source;

/// The same settings with a secret wherever one may stand: neither a fault nor anything shown has it.
pub(super) fn loads_in_secret(mut pairs: BTreeMap<&str, String>) {
    // The host of a URL and all names are shown, and both are folded; such an input proves nothing.
    let folded = MARK.to_lowercase();
    if pairs.iter().any(|(name, value)| *name != "IDENTITY_HEADER" && value.to_lowercase().contains(&folded)) {
        return;
    }
    for (name, value) in &mut pairs {
        match *name {
            "WebhookTargetUrl" | "WebhookPublicUrl" => *value = secret_url(value),
            "WebhookTargets" => *value = secret_targets(value),
            "WebhookTargetSecret" => *value = value.split(',').map(secret).collect::<Vec<_>>().join(","),
            "WebhookKey" | "IDENTITY_HEADER" => MARK.clone_into(value),
            "AzureWebJobsStorage" => *value = value.split(';').map(secret_part).collect::<Vec<_>>().join(";"),
            _ => {}
        }
    }
    let shown = match config::load(&source(&pairs)) {
        Ok(settings) => {
            // A path of the service's own address is nothing secret; everything else that is shown is looked at.
            let settings = Settings { public_url: None, ..settings };
            let targets: Vec<String> = settings.targets.iter().map(ToString::to_string).collect();
            let health = settings.described.health(Err(&Failure::Unavailable("x".into())));
            format!("{settings:?} {targets:?} {health} {:?}", settings.account.as_ref().map(ToString::to_string))
        }
        Err(faults) => {
            format!("{faults:?} {}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    };
    assert!(!shown.to_lowercase().contains(&folded), "{shown}");
}

fn secret(text: &str) -> String {
    format!("{text}{MARK}")
}

/// A connection string's part with a secret in it, where that is a key or a token, or no part at all.
fn secret_part(part: &str) -> String {
    let key = part.split_once('=').map(|(key, _)| key.trim().to_lowercase());
    match key.as_deref() {
        Some("accountkey" | "sharedaccesssignature") => secret(part),
        None if !part.trim().is_empty() => secret(part),
        Some(_) | None => part.to_owned(),
    }
}

/// The URL with a secret in its path, query and user; as it was where the host would be changed by that.
fn secret_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text.trim()) else { return text.to_owned() };
    if url.host().is_none() {
        return text.to_owned();
    }
    let path = secret(url.path());
    url.set_path(&path);
    if text.len().is_multiple_of(2) {
        url.set_query(Some(MARK));
    }
    if text.len().is_multiple_of(3) {
        // Refused for schemes that cannot have one.
        let _ = url.set_password(Some(MARK));
    }
    url.to_string()
}

/// The JSON of targets with a secret in every member that may hold one; text that is no such JSON is all secret.
fn secret_targets(text: &str) -> String {
    fn mark(value: &mut Value) {
        match value {
            Value::String(text) => text.push_str(MARK),
            Value::Array(all) => all.iter_mut().for_each(mark),
            Value::Object(members) => members.values_mut().for_each(mark),
            Value::Null | Value::Bool(_) | Value::Number(_) => *value = Value::from(MARK),
        }
    }
    let Ok(Value::Array(mut all)) = serde_json::from_str(text) else {
        return if serde_json::from_str::<Value>(text).is_ok() { text.to_owned() } else { secret(text) };
    };
    for target in all.iter_mut().filter_map(Value::as_object_mut) {
        for name in ["secret", "secrets", "headers"] {
            if let Some(value) = target.get_mut(name) {
                mark(value);
            }
        }
        if let Some(url) = target.get_mut("url") {
            if let Value::String(text) = url {
                *text = secret_url(text);
            } else {
                mark(url);
            }
        }
    }
    Value::from(all).to_string()
}
