//! The Functions host's invocation JSON, in and out; nothing else knows it.
//!
//! Source: the host's own behaviour (captured in `tests/fixtures/wire/`), which encodes a queue text twice and turns every
//! metadata value into a string. The plain forms of the public documentation are read as well.

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "Data", alias = "data")]
    data: serde_json::Map<String, Value>,
}

/// The text of the message in a queue-trigger call. The binding's name does not matter: there is one. The metadata is left
/// alone, since a message can overwrite it with members of its own.
///
/// # Errors
/// Says what is wrong with the envelope, repeating nothing of it.
pub fn read(body: &[u8]) -> Result<String, String> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|e| {
        format!(
            "the call is not the host's envelope with `Data` and `Metadata` (line {}, column {})",
            e.line(),
            e.column()
        )
    })?;
    let mut values = envelope.data.into_iter();
    let (Some((_, value)), None) = (values.next(), values.next()) else {
        return Err("the envelope's `Data` must hold exactly one binding".into());
    };
    Ok(match value {
        Value::String(text) => decoded(&text),
        plain @ (Value::Object(_) | Value::Array(_) | Value::Number(_) | Value::Bool(_) | Value::Null) => {
            plain.to_string()
        }
    })
}

/// Undoes the second encoding where there is one.
fn decoded(text: &str) -> String {
    serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned())
}

/// The answer that lets the host delete the message. It must be an object: an empty or `null` 2xx hangs the host.
#[must_use]
pub fn success(log: &str) -> Value {
    json!({ "Outputs": {}, "Logs": [log], "ReturnValue": null })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON body inside a captured chunked request.
    fn captured(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let from = text.find('{').expect("a body");
        let to = text.rfind('}').expect("a body");
        read(&text.as_bytes()[from..=to]).expect("an envelope")
    }

    macro_rules! wire {
        ($name:literal) => {
            captured(include_bytes!(concat!("../../tests/fixtures/wire/", $name, ".http")))
        };
    }

    #[test]
    fn captured_texts_are_decoded() {
        assert_eq!(wire!("queue-text"), "plain text é \"quoted\" \\ back");
        assert_eq!(wire!("queue-json-string"), "\"a json string\"");
        assert_eq!(wire!("queue-json-array"), "[1,2]");
        assert_eq!(wire!("queue-empty-text"), "");
        assert!(wire!("queue-json-object").starts_with(r#"{"push":"p1","due":1763800000"#));
        assert!(wire!("queue-overwrites-metadata").contains("mine"));
    }

    #[test]
    fn plain_forms_are_read_too() {
        let plain = read(br#"{"Data":{"t":{"push":"p1"}},"Metadata":{"Id":"abc"}}"#).unwrap();
        assert_eq!(plain, r#"{"push":"p1"}"#);
        assert_eq!(read(br#"{"Data":{"t":"{\"push\":\"p1\"}"}}"#).unwrap(), r#"{"push":"p1"}"#);
    }

    #[test]
    fn other_bodies_are_refused_without_repeating_them() {
        for body in
            ["", "[]", "{}", "null", r#"{"Data":{}}"#, r#"{"Data":{"a":"s3cret","b":1}}"#, r#"{"Data":"s3cret"}"#]
        {
            assert!(!read(body.as_bytes()).unwrap_err().contains("s3cret"), "{body}");
        }
    }
}
