//! What comes in: webhooks, the host's envelopes, texts of the queue.

use chrono::DateTime;
use global_webhook::clock::{self, Instant};
use global_webhook::http::envelope as host;
use global_webhook::limits;
use global_webhook::push::arrival::{self, Fault, Webhook};
use global_webhook::push::{Arrival, Subject};
use global_webhook::store::azure::message::{Message, Spill};
use serde_json::Value;

use super::samples::{ACTIONS, opened, policy, region, timed_out};
use super::stored::survives;
use super::texts::in_order;
use super::told::told;
use super::{MARK, marked};

/// A webhook body is read or refused; what is read obeys the limits and can be told of; a refusal repeats nothing of it.
pub fn notification(data: &[u8]) -> bool {
    match arrival::parse(data) {
        Ok(Webhook::Ping | Webhook::Unknown) => {}
        Ok(Webhook::FanIn { id, subject }) => {
            bounded(&id, &subject);
            let payload = String::from_utf8(data.to_vec()).expect("a notification is UTF-8");
            let row = timed_out(&id, subject, payload);
            survives(&row);
            told(&row, true);
        }
        Err(fault) => quiet(&fault),
    }
    // A refusal of the same body with a secret somewhere in it.
    for place in [data.len() / 4, data.len() / 2, data.len() - data.len() / 5] {
        if let Err(fault) = arrival::parse(&marked(data, place)) {
            quiet(&fault);
        }
    }
    true
}

/// What `ImagePush` takes.
fn bounded(id: &str, subject: &Subject) {
    assert!((1..=limits::ID_BYTES_MAX).contains(&id.len()), "id of {} bytes", id.len());
    let Subject { registry, repository, tag, digest, action } = subject;
    for (name, text) in [("repository", Some(repository)), ("tag", tag.as_ref()), ("digest", Some(digest))] {
        let fits = text.is_none_or(|text| (1..=limits::MEMBER_BYTES_MAX).contains(&text.len()));
        assert!(fits, "{name}: {text:?}");
    }
    assert!(registry.len() <= limits::MEMBER_BYTES_MAX, "registry of {} bytes", registry.len());
    assert!(ACTIONS.contains(&action.as_str()), "{action}");
}

fn quiet(fault: &Fault) {
    assert!(!format!("{fault:?}").contains(MARK), "{fault:?}");
    assert!(fault.message.len() <= 400 && !fault.message.chars().any(char::is_control), "{fault:?}");
}

/// The host's envelope is read or refused; both encodings of a text give the text.
pub fn envelope(data: &[u8]) -> bool {
    match host::read(data) {
        Ok(text) => {
            let _ = Message::parse(&text, now());
        }
        Err(why) => short(&why),
    }
    let text = String::from_utf8_lossy(data).into_owned();
    let quoted = Value::from(text.as_str()).to_string();
    let twice = serde_json::json!({ "Data": { "message": quoted }, "Metadata": { "Id": quoted } }).to_string();
    assert_eq!(host::read(twice.as_bytes()), Ok(text));
    if let Err(why) = host::read(&marked(data, data.len() / 2)) {
        short(&why);
    }
    true
}

fn short(why: &str) {
    assert!(why.len() <= 200 && !why.chars().any(char::is_control) && !why.contains(MARK), "{why}");
}

/// When the texts of the queue are read.
fn now() -> Instant {
    DateTime::from_timestamp_secs(1_795_341_600).expect("an instant")
}

/// A queued text is one of ours or not; ours survives being written again, and an arrival in it is one that `ImagePush` would
/// have taken, and can be applied, stored and told of.
pub fn timer(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    match Message::parse(&text, now()) {
        Ok(message) => {
            let written = message.text();
            assert_eq!(Message::parse(&written, now()), Ok(message.clone()), "{written}");
            if let Message::Spill(spill) = message {
                spilled(&spill);
            }
        }
        Err(why) => short(&why),
    }
    if let Err(why) = Message::parse(&String::from_utf8_lossy(&marked(data, data.len() / 2)), now()) {
        short(&why);
    }
    true
}

fn spilled(spill: &Spill) {
    assert!(clock::until(now(), spill.received) <= limits::FUTURE_MAX, "{}", spill.received);
    in_order(&spill.region);
    for registry in [None, Some("fabrikam.azurecr.io")] {
        let arrival = match spill.arrival(registry) {
            Ok(arrival) => arrival,
            Err(fault) => {
                quiet(&fault);
                continue;
            }
        };
        as_taken(spill, &arrival, registry);
        assert_eq!(Spill::of(&arrival, &spill.app), *spill);
        for regions in [vec![arrival.region.clone()], vec![arrival.region.clone(), region("elsewhere 2")]] {
            for now in [now(), arrival.received] {
                let row = opened(arrival.clone(), now, &policy(regions.clone()));
                survives(&row);
                told(&row, true);
            }
        }
    }
}

/// The arrival is what `ImagePush` would have made of the payload.
fn as_taken(spill: &Spill, arrival: &Arrival, registry: Option<&str>) {
    assert_eq!((&arrival.region, arrival.received, &arrival.payload), (&spill.region, spill.received, &spill.payload));
    let room = limits::WEBHOOK_BYTES_MAX.checked_sub(arrival.payload.len()).expect("what ImagePush reads");
    let too_large = arrival.payload.clone() + &" ".repeat(room + 1);
    assert!(Spill { payload: too_large, ..spill.clone() }.arrival(registry).is_err());
    bounded(&arrival.id, &arrival.subject);
    let Ok(Webhook::FanIn { id, subject }) = arrival::parse(arrival.payload.as_bytes()) else {
        panic!("ImagePush would not have taken {:?}", arrival.payload)
    };
    let registry = registry.map_or_else(|| subject.registry.clone(), str::to_owned);
    assert_eq!((&arrival.id, &arrival.subject), (&id, &Subject { registry, ..subject }));
}
