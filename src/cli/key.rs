//! Keys on the command line: themselves, or the file that has them. What is on the command line, everybody on the machine can
//! read.

use std::io::Read as _;

/// Longest key in bytes; the Functions host's have 56.
const KEY_BYTES_MAX: u64 = 4096;

/// Reads a key, or `@` and the name of a file that holds nothing else but white space around it.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let Some(path) = text.strip_prefix('@') else { return Ok(text.to_owned()) };
    let mut key = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(KEY_BYTES_MAX + 1).read_to_string(&mut key))
        .map_err(|e| format!("the key's file cannot be read: {e}"))?;
    match key.trim() {
        "" => Err("the key's file is empty".into()),
        key if key.len() as u64 > KEY_BYTES_MAX => Err(format!("the key has more than {KEY_BYTES_MAX} bytes")),
        key => Ok(key.to_owned()),
    }
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
        assert!(of("\n").is_err() && of(&"x".repeat(5000)).is_err() && parse("@/no/such/file").is_err());
    }
}
