//! What people read: Slack and Teams. Plain sentences, no names of ours.
//!
//! Guarantee: nothing that came with a push is taken for markup. Slack's three special characters are escaped, which also
//! disarms `<!channel>`; in Teams' Markdown a link cannot be written without brackets, so those become parentheses.

use serde_json::{Value, json};

use super::payload::Data;
use crate::push::state::Notice;

/// Body for a Slack incoming webhook.
pub(super) fn slack(data: &Data<'_>) -> Value {
    let mut lines = vec![format!("{} {}", symbol(data.notice), escaped(&headline(data)))];
    lines.extend(details(data).into_iter().map(|(name, value)| format!("{name}: {}", escaped(&value))));
    if let Some(url) = &data.status_url {
        lines.push(format!("<{}|Status>", escaped(url)));
    }
    json!({ "text": lines.join("\n") })
}

/// Body for a Teams workflow ("When a Teams webhook request is received"): one Adaptive Card, version 1.4, which every
/// Teams client shows.
pub(super) fn teams(data: &Data<'_>) -> Value {
    let facts: Vec<Value> =
        details(data).into_iter().map(|(name, value)| json!({ "title": name, "value": unbracketed(&value) })).collect();
    let colour = match data.notice {
        Notice::Replicated | Notice::Recovered => "Good",
        Notice::TimedOut => "Attention",
        Notice::Superseded => "Default",
    };
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            { "type": "TextBlock", "text": unbracketed(&headline(data)), "wrap": true, "weight": "Bolder", "color": colour },
            { "type": "FactSet", "facts": facts },
        ],
    });
    if let Some(url) = &data.status_url {
        card["actions"] = json!([{ "type": "Action.OpenUrl", "title": "Status", "url": url }]);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

/// The sentence that stands alone in a notification on a telephone.
fn headline(data: &Data<'_>) -> String {
    let image = match data.tag {
        Some(tag) => format!("{}:{tag}", data.repository),
        None => format!("{}@{}", data.repository, short(data.digest)),
    };
    let image = if data.registry.is_empty() { image } else { format!("{}/{image}", data.registry) };
    let is = match data.action {
        "delete" | "chart_delete" => "is deleted in",
        "quarantine" => "is quarantined in",
        _ => "is in",
    };
    let expected = data.regions.len();
    let all = match expected {
        1 => "its one region".to_owned(),
        2 => "both regions".to_owned(),
        n => format!("all {n} regions"),
    };
    let missing = list(data.missing.iter().map(|region| region.as_str()));
    match data.notice {
        Notice::Replicated => format!("{image} {is} {all}"),
        Notice::TimedOut => {
            let arrived = expected - data.missing.len();
            format!("{image} {is} {arrived} of {expected} regions after {}; no word from {missing}", waited(data))
        }
        Notice::Recovered => format!("{image} {is} {all} now, after it had timed out"),
        Notice::Superseded => {
            format!("{image} was superseded: its tag carries another image by now; no word from {missing}")
        }
    }
}

fn details(data: &Data<'_>) -> Vec<(&'static str, String)> {
    let arrived = list(data.arrivals.keys().map(|region| region.as_str()));
    let mut details = vec![("Arrived", if arrived.is_empty() { "nowhere".to_owned() } else { arrived })];
    if !data.missing.is_empty() {
        details.push(("Missing", list(data.missing.iter().map(|region| region.as_str()))));
    }
    for (region, at) in &data.reported_before {
        details.push(("Reported the same image before", format!("{region} at {at}")));
    }
    details.push(("Digest", data.digest.to_owned()));
    details.push(("First seen", data.opened.clone()));
    let took = if data.terminated && data.notice == Notice::TimedOut { "Ended by an operator after" } else { "Took" };
    details.push((took, waited(data)));
    details
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Enough of a digest to tell images apart.
fn short(digest: &str) -> &str {
    &digest[..digest.floor_char_boundary(19)]
}

/// How long it was, in the two largest units that count.
fn waited(data: &Data<'_>) -> String {
    let seconds = data.duration_ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}.{} s", seconds, data.duration_ms % 1000 / 100),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn symbol(notice: Notice) -> &'static str {
    match notice {
        Notice::Replicated | Notice::Recovered => ":white_check_mark:",
        Notice::TimedOut => ":warning:",
        Notice::Superseded => ":information_source:",
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unbracketed(text: &str) -> String {
    text.replace('[', "(").replace(']', ")")
}
