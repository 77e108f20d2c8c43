//! An independent reading of what the service relays.

use std::ops::Range;

/// A member of a JSON object: its name, what stands between the previous value and its own, and its own value.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) gap: Range<usize>,
    pub(super) value: Range<usize>,
}

/// The members of the JSON object `text`, found by counting brackets.
pub(super) fn members(text: &str) -> Vec<Member> {
    let bytes = text.as_bytes();
    let blank = |mut i: usize| {
        while bytes[i].is_ascii_whitespace() {
            i += 1;
        }
        i
    };
    let string = |mut i: usize| {
        i += 1;
        while bytes[i] != b'"' {
            i += if bytes[i] == b'\\' { 2 } else { 1 };
        }
        i + 1
    };
    let mut found = Vec::new();
    let mut gap = 0;
    let mut at = blank(blank(0) + 1);
    while bytes[at] != b'}' {
        let end = string(at);
        let name = serde_json::from_str(&text[at..end]).expect("a name");
        let start = blank(blank(end) + 1);
        let (mut i, mut depth) = (start, 0);
        let mut last = start;
        while depth > 0 || !matches!(bytes[i], b',' | b'}') {
            match bytes[i] {
                b'"' => i = string(i) - 1,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if !bytes[i].is_ascii_whitespace() {
                last = i + 1;
            }
            i += 1;
        }
        found.push(Member { name, gap: gap..start, value: start..last });
        gap = last;
        at = if bytes[i] == b',' { blank(i + 1) } else { i };
    }
    found
}
