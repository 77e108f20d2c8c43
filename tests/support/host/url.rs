//! What becomes of a request's path and query on their way through the host.

/// The path as the host's own routing sees it: unescaped once, but for `%2F`.
pub fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match escape(bytes, at) {
            Some(b'/') | None => {
                out.push(*byte);
                at += 1;
            }
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

/// The path the handler gets. It goes through an unescaped display form, so that an escaped `?` or `#` cuts it short and
/// what was escaped twice is unescaped twice; dots that appear then are resolved.
pub fn forwarded_path(path: &str) -> String {
    let path = decoded(path);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, escape(bytes, at)) {
            (_, Some(inner)) => {
                if is_unreserved(inner) {
                    out.push(char::from(inner));
                } else {
                    push_escaped(&mut out, inner);
                }
                at += 3;
                continue;
            }
            (b'\\', None) => out.push('/'),
            (b, None) if is_unreserved(*b) || b"!$&'()*+,;=:@/[]".contains(b) => out.push(char::from(*b)),
            (b, None) => push_escaped(&mut out, *b),
        }
        at += 1;
    }
    without_dots(&out)
}

/// The path with `.` and `..` resolved, as .NET's addresses have it.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." && kept.len() > 1 {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(part),
        }
    }
    kept.join("/")
}

/// The query the handler gets, without its question mark: built anew from a dictionary without case. Repeated names fold
/// into one, spelled like the second; their values are joined by commas, empty ones left out.
pub fn forwarded_query(query: &str) -> String {
    let mut folded: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match folded.iter_mut().find(|(n, _)| n.to_lowercase() == name.to_lowercase()) {
            Some((spelling, values)) => {
                if values.len() == 1 {
                    *spelling = name.into_owned();
                }
                values.push(value.into_owned());
            }
            None => folded.push((name.into_owned(), vec![value.into_owned()])),
        }
    }
    let pairs: Vec<String> = folded
        .into_iter()
        .map(|(name, values)| {
            let values: Vec<String> = values.into_iter().filter(|v| !v.is_empty()).collect();
            format!("{}={}", escaped(&name), escaped(&values.join(",")))
        })
        .collect();
    pairs.join("&")
}

/// The first value of a query's member, found without regard to case.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.into_owned())
}

/// Escaped as .NET's default URL encoder does it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_unreserved(byte) || b"!$()*,;@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escaped(&mut out, byte);
        }
    }
    out
}

fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *bytes.get(at..at + 3)? else { return None };
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

fn push_escaped(out: &mut String, byte: u8) {
    out.push_str(&format!("%{byte:02X}"));
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}
