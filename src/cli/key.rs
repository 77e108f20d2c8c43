//! Keys on the command line: themselves, or the file that has them. What is on the command line, everybody on the machine can
//! read.

use std::io::Read as _;

use clap::error::{ContextKind, ContextValue};

/// Longest key in bytes; the Functions host's have 56.
const KEY_BYTES_MAX: u64 = 4096;

/// Reads a key, or `@` and the name of a file that holds nothing else but white space around it.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let mut key = text.to_owned();
    if let Some(path) = text.strip_prefix('@') {
        key.clear();
        std::fs::File::open(path)
            .and_then(|file| file.take(KEY_BYTES_MAX + 1).read_to_string(&mut key))
            .map_err(|e| format!("the key's file cannot be read: {e}"))?;
    }
    let key = key.trim();
    check(key).map(|()| key.to_owned())
}

/// Refuses what cannot have been meant as a key, such as a variable that was empty or quotes that came along.
pub(super) fn check(key: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>');
    match key {
        "" => Err("the key is empty".into()),
        key if key.len() as u64 > KEY_BYTES_MAX => Err(format!("the key has more than {KEY_BYTES_MAX} bytes")),
        key if !key.bytes().all(plain) => Err(
            "the key holds blanks, quotes, angle brackets or letters beyond ASCII: `openssl rand -hex 32` makes one"
                .into(),
        ),
        _ => Ok(()),
    }
}

/// The error of a command line, without the value of an argument that is a key or an address that may hold one.
pub(super) fn hide(mut error: clap::Error) -> clap::Error {
    let about = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.clone(),
        Some(_) | None => String::new(),
    };
    if ["--key", "--operator-key", "--url"].iter().any(|secret| about.starts_with(secret)) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_itself_or_for_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            parse(&format!("@{}", file.path().display()))
        };
        assert_eq!(parse("s3cret"), Ok("s3cret".into()));
        assert_eq!(of(" s3cret\n"), Ok("s3cret".into()));
        for not in ["", " ", "\"s3cret", "<your key>", "two\nlines", "schl\u{fc}ssel"] {
            assert!(parse(not).is_err() && of(not).is_err(), "{not:?}");
        }
        assert!(of("\n").is_err() && of(&"x".repeat(5000)).is_err() && parse("@/no/such/file").is_err());
    }
}
