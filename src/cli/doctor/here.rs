//! The settings and the storage account that the command itself is given.

use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use serde_json::{Map, Value};

use super::told;
use crate::config::storage as account;
use crate::config::{self, Fault, Source};
use crate::doctor::{Gap, Here, Known, Looked};
use crate::store::azure::{Names, look};

/// The file that `func` reads.
const FILE: &str = "local.settings.json";

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Settings that are given to the command for itself, and say nothing of a deployment.
const OWN: [&str; 2] = ["webhookkey", "webhookoperatorkey"];

/// The environment, and the file behind it.
pub(super) fn source(file: Option<&Path>, environment: &Source) -> Known<Source> {
    let path = file.unwrap_or(Path::new(FILE));
    let (shown, correct) = (path.display(), "Correct the file, or name another one with --settings.");
    let text = match read(path) {
        Err(why) if file.is_none() && why.kind() == ErrorKind::NotFound => return Ok(environment.clone()),
        other => told(other.map_err(|why| format!("{shown} cannot be read: {why}")), correct)?,
    };
    let values = values(&text).map_err(|why| Gap::refused(format!("{shown} {why}"), correct))?;
    let mut source = environment.clone();
    for (name, value) in values {
        if environment.get(&name).is_none() {
            source.set(&name, value);
        }
    }
    Ok(source)
}

/// The text of a file, whatever its size is said to be.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// The settings of such a file, as the host takes them: with comments, commas behind the last member, numbers and truth values,
/// and members' names in any case. What is wrong is said without a value.
fn values(text: &str) -> Result<Vec<(String, String)>, String> {
    let plain = plain(text.trim_start_matches('\u{feff}'));
    let members: Map<String, Value> = serde_json::from_str(&plain).map_err(|why| {
        // What serde says of it may repeat a value.
        format!("is no JSON object: line {}, column {}", why.line(), why.column())
    })?;
    let (mut is_encrypted, mut values) = (false, Vec::new());
    for (name, member) in members {
        match (name.to_ascii_lowercase().as_str(), member) {
            ("isencrypted", member) => {
                is_encrypted = as_text(member).is_some_and(|text| text.eq_ignore_ascii_case("true"))
            }
            ("values", Value::Object(all)) => values.extend(all),
            ("values", _) => return Err("has `Values` that are no object".into()),
            _ => {}
        }
    }
    if is_encrypted {
        return Err("is encrypted: decrypt it with `func settings decrypt`".into());
    }
    values.retain(|(_, value)| !value.is_null());
    let each = values.into_iter().map(|(name, value)| match as_text(value) {
        Some(value) => Ok((name, value)),
        None => Err(format!("has a list or an object for {name}; a setting is a text")),
    });
    each.collect()
}

fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// JSON with blanks in place of comments and of commas that nothing follows, so that lines and columns stay.
fn plain(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let (mut at, mut comma) = (0, None);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = |mark: &[u8]| rest.windows(mark.len()).position(|part| part == mark);
        let length = match rest {
            [b'/', b'/', ..] => end(b"\n").unwrap_or(rest.len()),
            [b'/', b'*', ..] => rest[2..].windows(2).position(|part| part == b"*/").map_or(rest.len(), |end| end + 4),
            _ => 0,
        };
        if length > 0 {
            bytes[at..at + length].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
            at += length;
            continue;
        }
        match rest[0] {
            b'"' => {
                let mut is_escaped = false;
                let close = |b: &u8| {
                    let is_end = *b == b'"' && !is_escaped;
                    is_escaped = *b == b'\\' && !is_escaped;
                    is_end
                };
                at += 1 + rest[1..].iter().position(close).unwrap_or(rest.len() - 1);
                comma = None;
            }
            b',' => comma = Some(at),
            b'}' | b']' => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
            }
            b if b.is_ascii_whitespace() => {}
            _ => comma = None,
        }
        at += 1;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether they can be used.
pub(super) fn settings(source: &Source) -> Known<Here> {
    let of_a_service = |name: &str| {
        let name = name.to_lowercase();
        name.starts_with("webhook") && !OWN.contains(&name.as_str())
    };
    if !source.names().any(of_a_service) {
        return Err(Gap::unasked(
            "There are no settings here.",
            "Run it where the service's environment is, or beside its local.settings.json, or with --settings.",
        ));
    }
    Ok(match config::load(source) {
        Err(faults) => Here::Faulty(faults.iter().map(ToString::to_string).collect()),
        Ok(settings) => Here::Good { described: Box::new(settings.described), warnings: settings.warnings },
    })
}

/// What is seen of the storage account, where one is given.
pub(super) async fn storage(source: &Source) -> Known<Looked> {
    let mut faults: Vec<Fault> = Vec::new();
    let given = account::account(source, &mut faults);
    let Some(account) = given else {
        let Some(fault) = faults.first() else {
            return Err(Gap::unasked(
                "No storage account is given.",
                "Set AzureWebJobsStorage here as the service has it; its own word for its storage is storage.rows and storage.queue.",
            ));
        };
        return Err(Gap::refused(fault.to_string(), "Correct AzureWebJobsStorage."));
    };
    let correct = "Correct queueName in TimeoutCheck/function.json.";
    let names =
        told(Names::read(Path::new("."), source).map_err(|why| format!("TimeoutCheck/function.json {why}")), correct)?;
    let look = told(look::look(&account, &names).await, "Correct AzureWebJobsStorage.")?;
    let place = format!("{account}, queue {}, table {}", names.queue, names.table);
    Ok(Looked { place, poison_name: names.poison, look })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_commas_are_blank_outside_of_texts() {
        for (text, is) in [
            ("{}", "{}"),
            ("{,}", "{ }"),
            ("[1 , // x, \"\n]", "[1          \n]"),
            ("[1,/*,*/2]", "[1,     2]"),
            ("[1,/*]*/]", "[1      ]"),
            (r#"["//", "/*", "\\", "\",]"]"#, r#"["//", "/*", "\\", "\",]"]"#),
            ("{\"a\":\"http://b/\"} /* \u{e9}", "{\"a\":\"http://b/\"}      "),
            ("\"no end", "\"no end"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(plain(text), is, "{text}");
        }
    }

    #[test]
    fn settings_are_read_as_the_host_reads_them() {
        let of = |text: &str| values(text);
        let one = |value: &str| Ok(vec![("A".to_owned(), value.to_owned())]);
        for (text, value) in [
            (r#"{"Values":{"A":"b"}}"#, "b"),
            ("\u{feff}{\"VALUES\":{\"A\":true,\"B\":null}}", "true"),
            (r#"{"isEncrypted":"False","values":{"A":5}}"#, "5"),
        ] {
            assert_eq!(of(text), one(value), "{text}");
        }
        assert_eq!(of("{}"), Ok(vec![]));
        for text in [
            "",
            "[]",
            "s3cret",
            r#"{"Values":"s3cret"}"#,
            r#"{"Values":{"A":["s3cret"]}}"#,
            r#"{"IsEncrypted":"TRUE"}"#,
        ] {
            let why = of(text).unwrap_err();
            assert!(!why.contains("s3cret"), "{why}");
        }
    }
}
