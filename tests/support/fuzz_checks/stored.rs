//! Stored rows.

use chrono::{DateTime, Utc};
use global_webhook::push::{Delivery, Region, Row, record as rows};
use serde_json::Value;

use super::told::told;

/// A stored text is a row or not; a row survives being written again, with members that nobody knows, and can be told of.
/// Input: a line with the text, then the registry's, if any.
pub fn record(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let (text, payload) = match text.split_once('\n') {
        Some((text, payload)) => (text, payload.to_owned()),
        None => (&*text, String::new()),
    };
    match rows::decode(text, payload.clone()) {
        Ok(row) => {
            assert_eq!(row.payload, payload);
            let written = survives(&row);
            let (stored, written) = (parsed(text), parsed(&written));
            if spelled_as_ours(&stored["row"]) {
                kept(&stored["row"], &written["row"], text);
            }
            told(&row, false);
            let _ = (row.ids_matched(), row.missing(), row.missing_in_time(), row.repeats_until());
            assert_eq!(row.wake().is_none(), at_rest(&row), "{text}");
        }
        Err(why) => assert!(why.len() <= 400 + text.len(), "{why}"),
    }
    true
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("a row that is read is JSON")
}

/// Nothing is left to do for it.
pub(super) fn at_rest(row: &Row) -> bool {
    row.settled().is_some_and(|s| s.outbox.iter().all(|entry| !matches!(entry.delivery, Delivery::Owed { .. })))
}

/// The row's text, which is read as the same row.
pub(super) fn survives(row: &Row) -> String {
    let text = rows::encode(row);
    assert_eq!(rows::decode(&text, row.payload.clone()).as_ref(), Ok(row), "{text}");
    text
}

/// Whether it is an object whose maps name each region in the one spelling that is written. Of two spellings one is lost.
fn spelled_as_ours(row: &Value) -> bool {
    let folded = |name: &String| Region::parse(name).is_ok_and(|region| region.as_str() == name);
    let maps = ["arrived", "unawaited", "before"].iter().filter_map(|name| row.get(name)?.as_object());
    row.is_object() && maps.flat_map(serde_json::Map::keys).all(folded)
}

/// Whatever stood in the text stands in what was written of it, but for members that say nothing.
fn kept(stored: &Value, written: &Value, text: &str) {
    match (stored, written) {
        (Value::Object(stored), Value::Object(written)) => {
            for (name, value) in stored {
                match written.get(name) {
                    Some(written) => kept(value, written, text),
                    None => assert!(says_nothing(value), "{name} of {text} is lost"),
                }
            }
        }
        (Value::Array(stored), Value::Array(written)) => {
            assert_eq!(stored.len(), written.len(), "{text}");
            stored.iter().zip(written).for_each(|(stored, written)| kept(stored, written, text));
        }
        // Forms that nobody writes, but serde reads: a struct from an array, and a word from an object.
        (Value::Array(_), Value::Object(_)) | (Value::Object(_), Value::String(_)) => {}
        (Value::String(stored), Value::String(written)) => {
            assert!(says_the_same(stored, written), "{stored} of {text}")
        }
        (stored, written) => assert_eq!(stored, written, "{text}"),
    }
}

/// The same text, instant or region.
fn says_the_same(stored: &str, written: &str) -> bool {
    // As rows are read, which is laxer than RFC 3339: a year of three digits is one.
    let instant = |text: &str| text.parse::<DateTime<Utc>>().ok();
    let same_instant = || instant(stored).is_some_and(|at| instant(written) == Some(at));
    stored == written || same_instant() || Region::parse(stored).is_ok_and(|region| region.as_str() == written)
}

/// What a member that is not written stands for.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    }
}
