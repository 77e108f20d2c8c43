//! What a receiver is sent when an operator asks whether it can be reached. No push stands behind it.
//!
//! Guarantee: nothing in it names an image or is a word for one that is everywhere, so no receiver finds something to deploy. Its
//! `webhook-id` begins with [`ID_PREFIX`], which that of no push does.

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::payload::{Format, Message};
use crate::api::time;
use crate::clock::Instant;

/// How the `webhook-id` of a test begins.
pub const ID_PREFIX: &str = "test_";

/// What people and programs read.
const SENTENCE: &str = "This is a test of global-webhook and needs no action.";

/// The `webhook-id` of a test.
pub(super) fn webhook_id(test: Uuid) -> String {
    format!("{ID_PREFIX}{}", test.simple())
}

/// What `test` says in `format`; it is made at that instant.
pub(super) fn message(format: Format, test: Uuid, at: Instant) -> Result<Message, serde_json::Error> {
    let (id, timestamp) = (&*webhook_id(test), time(at));
    let data = Data { outcome: "test", message: SENTENCE };
    let body = match format {
        // The registry's own, from which the receivers of its format know that nothing was pushed.
        Format::Acr => serde_json::to_string(&Ping { id: test.to_string(), timestamp, action: "ping" })?,
        Format::Standard => serde_json::to_string(&Standard { r#type: "acr.webhook.test", timestamp, data })?,
        Format::CloudEvents => serde_json::to_string(&CloudEvent {
            specversion: "1.0",
            id,
            source: "urn:acr-global-webhook",
            r#type: "io.azurecr.webhook.test",
            time: timestamp,
            datacontenttype: "application/json",
            data,
        })?,
        Format::Slack => json!({ "text": SENTENCE }).to_string(),
        Format::Teams => {
            super::chat::card(&[json!({ "type": "TextBlock", "text": SENTENCE, "wrap": true })]).to_string()
        }
        Format::Github => serde_json::to_string(&Dispatch {
            event_type: "webhook_test",
            client_payload: ClientPayload { id, timestamp, data },
        })?,
    };
    Ok(Message::new(format, body))
}

#[derive(Serialize)]
struct Ping {
    id: String,
    timestamp: String,
    action: &'static str,
}

/// Whoever looks at `data.outcome` finds none that it knows.
#[derive(Serialize)]
struct Data {
    outcome: &'static str,
    message: &'static str,
}

#[derive(Serialize)]
struct Standard {
    r#type: &'static str,
    timestamp: String,
    data: Data,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    r#type: &'static str,
    time: String,
    datacontenttype: &'static str,
    data: Data,
}

#[derive(Serialize)]
struct Dispatch<'a> {
    event_type: &'static str,
    client_payload: ClientPayload<'a>,
}

#[derive(Serialize)]
struct ClientPayload<'a> {
    id: &'a str,
    timestamp: String,
    data: Data,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_says_that_it_is_a_test() {
        for format in Format::ALL {
            let message = message(format, Uuid::from_u128(1), Instant::UNIX_EPOCH).unwrap();
            let body: serde_json::Value = serde_json::from_str(&message.body).unwrap();
            let body = serde_json::to_string_pretty(&body).unwrap();
            let text = format!("content-type: {}\nuser-agent: {}\n\n{body}", message.content_type, message.user_agent);
            let text = text.replace(env!("CARGO_PKG_VERSION"), "<version>");
            insta::assert_snapshot!(format.word(), text);
        }
    }

    #[test]
    fn the_official_sdk_reads_the_cloud_event() {
        use cloudevents::AttributesReader;
        let test = Uuid::from_u128(1);
        let body = message(Format::CloudEvents, test, Instant::UNIX_EPOCH).unwrap().body;
        let event: cloudevents::Event = serde_json::from_str(&body).unwrap();
        assert_eq!((event.id(), event.ty()), (&*webhook_id(test), "io.azurecr.webhook.test"));
    }
}
