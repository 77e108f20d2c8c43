//! A text that is compared and sent, and never shown; and how it is found in the words of others.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// See the module. Equality takes the same time wherever two texts of the same length differ.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the request that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What is the same in all spellings of a text: its letters and digits, without case. `%2B` and `\u002B` are read, also where
/// one is in the other; signs go, since `+` is a blank to some and `/` is `\/` to others. Takes time by the text's length.
pub(super) fn core(text: &str) -> Vec<u8> {
    let mut read = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        read.push(byte);
        // Each turn makes the text shorter.
        while let Some((length, sign)) = escape(&read) {
            read.truncate(read.len() - length);
            read.extend(sign);
        }
    }
    read.retain(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
    read.make_ascii_lowercase();
    read
}

/// The escape that `text` ends in: its length, and the bytes that it stands for.
fn escape(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    let hex = |digits: &[u8]| {
        let all = digits.iter().all(u8::is_ascii_hexdigit).then(|| std::str::from_utf8(digits).ok()).flatten()?;
        u32::from_str_radix(all, 16).ok()
    };
    if let Some([b'%', digits @ ..]) = text.last_chunk::<3>() {
        return Some((3, vec![u8::try_from(hex(digits)?).ok()?]));
    }
    if let Some([b'\\', b'u', digits @ ..]) = text.last_chunk::<6>() {
        let sign = char::from_u32(hex(digits)?)?;
        return Some((6, sign.to_string().into_bytes()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings_have_one_core() {
        let same = [
            "S3CRET+x/y\u{e9}==",
            "S3CRET%2Bx%2fy%C3%a9%3D%3d",
            "S3CRET\\u002Bx\\/y\\u00E9\\u003d=",
            "s3cret x/y\u{e9}",
            "S3CRET%252Bx%5Cu002Fy\u{e9}",
            "%53%%33%33CRET%%32Bx/y\\u0025C3%A9",
        ];
        for text in same {
            assert_eq!(core(text), "s3cretxy\u{e9}".as_bytes(), "{text}");
        }
        for (text, expected) in
            [("", ""), ("%", ""), ("%2", "2"), ("%+f", "f"), ("\\ud800x", "ud800x"), ("a%zz", "azz")]
        {
            assert_eq!(core(text), expected.as_bytes(), "{text}");
        }
        assert_eq!(core(&format!("%{}", "25".repeat(1_000_000))), b"");
    }
}
