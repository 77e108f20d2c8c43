//! Keys on the command line: themselves, or the file that has them. What is on the command line, everybody on the machine can
//! read.

use std::io::Read as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

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
    } else if is_option(text) {
        return Err("that is an option, not a key: was the key's variable empty?".into());
    } else if std::fs::metadata(text).is_ok_and(|about| !about.is_dir()) {
        return Err("that is a file's name, not a key: write @ before it".into());
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

/// Whether it reads like an option, as it is left over where a variable before it was empty. Keys may begin with a hyphen too, such
/// as those that Azure makes: forty letters and more of base64, of which some are capitals or digits.
fn is_option(text: &str) -> bool {
    let name = text.split('=').next().unwrap_or_default();
    name.starts_with('-') && name.bytes().all(|b| b == b'-' || b.is_ascii_lowercase())
}

/// The error of a command line, without what was given there: whatever stands in a wrong place may be a key, or an address that
/// holds one.
pub(super) fn hide(mut error: clap::Error) -> clap::Error {
    let given = if error.kind() == ErrorKind::UnknownArgument {
        ContextKind::InvalidArg
    } else if error.kind() == ErrorKind::InvalidSubcommand {
        ContextKind::InvalidSubcommand
    } else {
        ContextKind::InvalidValue
    };
    match error.get(given) {
        // An empty value is told as one that is missing. An option's bare name helps, and is no key.
        Some(ContextValue::String(text)) if !text.is_empty() && (!is_option(text) || text.contains('=')) => {
            error.insert(given, ContextValue::String("…".to_owned()));
            // The advice on how to pass it all the same repeats it.
            error.remove(ContextKind::Suggested);
        }
        Some(_) | None => {}
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

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
        for not in ["-", "-y", "--json", "--no-key", "--url=https://app.example", file.path().to_str().unwrap()] {
            let why = parse(not).unwrap_err();
            assert!(!why.contains(not) || not == "-", "{why}");
        }
        // Base64 of both kinds, as Azure makes it.
        for key in [
            "-s3cR3t_kZ0fXk2bq8Hc1mYy7v-wLrUeTgS5nJdPaAzFuQ4xO9Bw==",
            "--3cR3t_kZ0fXk2bq8Hc1mYy7v-wLrUeTgS5nJdPaAzFuQ4xO9Bw==",
            "/s3cR3t+kZ0fXk2bq8Hc1mYy7v/wLrUeTgS5nJdPaAzFuQ4xO9Bw==",
        ] {
            assert_eq!((parse(key), of(key)), (Ok(key.into()), Ok(key.into())));
        }
        assert!(of("\n").is_err() && of(&"x".repeat(5000)).is_err() && parse("@/no/such/file").is_err());
    }

    #[test]
    fn an_error_of_the_command_line_shows_nothing_that_was_given() {
        let secret = "S3CRETKEY";
        let address = format!("https://app.example/api/ImagePush?code={secret}");
        let option = format!("--url={address}");
        let lines: [&[&str]; 15] = [
            &[secret],
            &["doctor", secret],
            &["doctor", &address],
            &["doctor", "--", secret],
            &["doctor", "--key", "--url", &address, secret],
            &["doctor", "--key", "\"S3CRETKEY"],
            &["doctor", "--key", &option],
            &["doctor", "--app", secret],
            &["doctor", "--timeout", secret],
            &["doctor", "--arm-endpoint", "https://u:S3CRETKEY@x y"],
            &["doctor", "--credential", secret],
            &["webhooks", "plan", "--registry", "contoso", "--key", "--url", &address],
            &["webhooks", secret],
            &["show", secret],
            &["list", "--url", "ftp://u:S3CRETKEY@x", "--status", secret],
        ];
        for line in lines {
            let parsed = Cli::try_parse_from(["global-webhook"].iter().chain(line));
            let said = hide(parsed.err().unwrap_or_else(|| panic!("{line:?} is taken"))).to_string();
            assert!(!said.contains(secret) && said.contains('…'), "{line:?}: {said}");
        }
        for (line, words) in
            [(["list", "--statu", "x"], "--status"), (["list", "--json", "--limit"], "a value is required")]
        {
            let said = hide(Cli::try_parse_from(["global-webhook"].iter().chain(&line)).err().unwrap()).to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
