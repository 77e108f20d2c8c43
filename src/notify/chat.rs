//! What people read: Slack and Teams. Plain sentences, no names of ours.
//!
//! Guarantee: nothing that came with a push is taken for markup, begins a line, mentions anybody or links anywhere. What no
//! name of an image has is shown as `�`, so that neither of the two markup languages, which have no way to escape all of
//! their signs, finds one of its own.

use serde_json::{Value, json};

use super::payload::Data;
use crate::push::Region;
use crate::push::state::Notice;

/// Body for a Slack incoming webhook.
pub(super) fn slack(data: &Data<'_>) -> Value {
    let mut lines = vec![format!("{} {}", symbol(data.notice), headline(data))];
    lines.extend(details(data).into_iter().map(|(name, value)| format!("{name}: {value}")));
    if let Some(url) = &data.status_url {
        lines.push(format!("<{}|Status>", escaped(url)));
    }
    json!({ "text": lines.join("\n") })
}

/// Body for a Teams workflow ("When a Teams webhook request is received"): one Adaptive Card, version 1.4, which every
/// Teams client shows.
pub(super) fn teams(data: &Data<'_>) -> Value {
    let facts: Vec<Value> =
        details(data).into_iter().map(|(name, value)| json!({ "title": name, "value": value })).collect();
    let colour = match data.notice {
        Notice::Replicated | Notice::Recovered => "Good",
        Notice::TimedOut => "Attention",
        Notice::Superseded => "Default",
    };
    let mut message = card(&[
        json!({ "type": "TextBlock", "text": headline(data), "wrap": true, "weight": "Bolder", "color": colour }),
        json!({ "type": "FactSet", "facts": facts }),
    ]);
    if let Some(url) = &data.status_url {
        message["attachments"][0]["content"]["actions"] =
            json!([{ "type": "Action.OpenUrl", "title": "Status", "url": url }]);
    }
    message
}

/// A message for a Teams workflow with one card of these elements.
pub(super) fn card(elements: &[Value]) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": elements,
            },
        }],
    })
}

/// The sentence that stands alone in a notification on a telephone.
fn headline(data: &Data<'_>) -> String {
    let repository = plain(data.repository);
    let image = match data.tag {
        Some(tag) => format!("{repository}:{}", plain(tag)),
        None => format!("{repository}@{}", short(&digest(data))),
    };
    let image = if data.registry.is_empty() { image } else { format!("{}/{image}", plain(data.registry)) };
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
    let missing = list(data.missing.iter().copied());
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
    let arrived = list(data.arrivals.keys().copied());
    let mut details = vec![("Arrived", if arrived.is_empty() { "nowhere".to_owned() } else { arrived })];
    if !data.missing.is_empty() {
        details.push(("Missing", list(data.missing.iter().copied())));
    }
    for (region, at) in &data.reported_before {
        details.push(("Reported the same image before", format!("{} at {at}", plain(region.as_str()))));
    }
    details.push(("Digest", digest(data)));
    details.push(("First seen", data.opened.clone()));
    let took = if data.terminated && data.notice == Notice::TimedOut { "Ended by an operator after" } else { "Took" };
    details.push((took, waited(data)));
    details
}

fn list<'a>(regions: impl Iterator<Item = &'a Region>) -> String {
    regions.map(|region| plain(region.as_str())).collect::<Vec<_>>().join(", ")
}

/// The digest, with the one colon that it has.
fn digest(data: &Data<'_>) -> String {
    match data.digest.split_once(':') {
        Some((algorithm, hex)) if hex.starts_with(|c: char| c.is_ascii_alphanumeric()) => {
            format!("{}:{}", plain(algorithm), plain(hex))
        }
        Some(_) | None => plain(data.digest),
    }
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

/// `text` of strangers with `�` for whatever no name of an image has. An underscore is emphasis unless it stands within a word.
fn plain(text: &str) -> String {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let within = || {
            letter(plain.trim_end_matches('_').chars().last())
                && letter(rest.as_str().trim_start_matches('_').chars().next())
        };
        let kept = c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/') || (c == '_' && within());
        plain.push(if kept { c } else { '\u{fffd}' });
    }
    plain
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_c8_names_stay_as_they_are_and_nothing_else_does() {
        for name in ["shop/cart", "1.4.2-rc.1", "a_b__c-d.e", "contoso.azurecr.io", "9f86d081"] {
            assert_eq!(plain(name), name);
        }
        for (text, shown) in [
            ("*bold*", "�bold�"),
            ("_it_", "�it�"),
            ("a__", "a��"),
            ("x\ny", "x�y"),
            ("\u{1b}[31m", "��31m"),
            ("[x](http://e.example)", "�x��http�//e.example�"),
            ("<!channel>&", "��channel��"),
            (":tada:", "�tada�"),
            ("`~#@\u{202e}\u{2028}", "������"),
        ] {
            assert_eq!(plain(text), shown, "{text:?}");
        }
    }
}
