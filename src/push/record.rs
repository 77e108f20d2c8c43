//! The stored form of a row: one line of versioned JSON, and the registry's payload apart from it, which never changes and
//! would be escaped a second time inside.
//!
//! Guarantees: what a released build wrote stays readable. Members that this build does not know come back as they were, at any
//! depth; a build whose rows must not be touched by an older one raises the version.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Row;

/// The version that this build writes. Rows of version 1 have other keys, so none is ever met.
const VERSION: u32 = 2;

#[derive(Serialize)]
struct Out<'a, R> {
    v: u32,
    row: &'a R,
}

#[derive(Deserialize)]
struct In {
    v: u32,
    row: Row,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// A member of a stored row that this build does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Unknown {
    /// JSON pointer to the object that holds it.
    parent: String,
    name: String,
    value: Value,
}

/// The text to store for `row`, without its payload.
#[must_use]
pub fn encode(row: &Row) -> String {
    #[expect(clippy::expect_used, reason = "a row holds only what JSON can hold")]
    let text = match &row.unknown {
        None => serde_json::to_string(&Out { v: VERSION, row }),
        Some(unknown) => serde_json::to_value(row).and_then(|mut value| {
            for Unknown { parent, name, value: member } in unknown.iter() {
                // What it belonged to may be gone: a lease that has ended, a wait that is over.
                if let Some(Value::Object(parent)) = value.pointer_mut(parent) {
                    parent.entry(name).or_insert_with(|| member.clone());
                }
            }
            serde_json::to_string(&Out { v: VERSION, row: &value })
        }),
    }
    .expect("a row is JSON");
    text
}

/// Reads a stored row.
///
/// # Errors
/// For the operator: the text is not a row, or a newer version of this program wrote it.
pub fn decode(text: &str, payload: String) -> Result<Row, String> {
    let mut ignored = 0;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = serde_ignored::deserialize(&mut reader, |_| ignored += 1);
    // What stands behind it would be dropped.
    match read.and_then(|read: In| reader.end().map(|()| read)) {
        Ok(In { v: VERSION, row }) => {
            let unknown = if ignored > 0 { Some(unknown(text, &row)?) } else { None };
            Ok(Row { payload, unknown, ..row })
        }
        Ok(In { v, .. }) => Err(foreign(v)),
        Err(cause) => Err(match serde_json::from_str(text) {
            Ok(Head { v: VERSION }) => format!("the stored row cannot be read: {cause}"),
            Ok(Head { v }) => foreign(v),
            Err(cause) => format!("the stored row is not a record: {cause}"),
        }),
    }
}

fn foreign(version: u32) -> String {
    format!("the stored row has version {version}; this program reads version {VERSION}")
}

/// What stands in the text and not in the row that was read from it.
///
/// # Errors
/// It cannot be kept: it is nested too deep, or holds a number that is too large. Dropping it would break the promise.
fn unknown(text: &str, row: &Row) -> Result<Arc<Vec<Unknown>>, String> {
    let fault = |cause| format!("the stored row has members that cannot be kept: {cause}");
    let stored: Value = serde_json::from_str(text).map_err(fault)?;
    let known = serde_json::to_value(row).map_err(fault)?;
    let mut found = Vec::new();
    compare(&stored["row"], &known, "", &mut found);
    Ok(Arc::new(found))
}

fn compare(stored: &Value, known: &Value, place: &str, found: &mut Vec<Unknown>) {
    match (stored, known) {
        (Value::Object(stored), Value::Object(known)) => {
            for (name, value) in stored {
                match known.get(name) {
                    Some(known) => {
                        let place = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                        compare(value, known, &place, found);
                    }
                    None => {
                        found.push(Unknown { parent: place.to_owned(), name: name.clone(), value: value.clone() });
                    }
                }
            }
        }
        (Value::Array(stored), Value::Array(known)) => {
            for (at, (value, known)) in stored.iter().zip(known).enumerate() {
                compare(value, known, &format!("{place}/{at}"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
pub(crate) mod tests;
