//! Patterns for repositories and tags, and which of them nothing can match.

use crate::limits;

/// What a pattern is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Repository,
    Tag,
}

impl Names {
    /// The member that holds such a pattern.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Tag => "tag",
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Repository => {
                "a repository has lower-case letters, digits, `.`, `_` and `-`, with one `/` between its parts; the registry \
                 and the tag are no part of it"
            }
            Self::Tag => {
                "a tag has up to 128 letters, digits, `_`, `.` and `-`, the first being neither `.` nor `-`; the repository is \
                 no part of it"
            }
        }
    }

    fn has(self, byte: u8) -> bool {
        match self {
            Self::Repository => {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-' | b'/')
            }
            Self::Tag => byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'),
        }
    }

    /// Whether one may stand before the other; a slash also stands for both ends.
    fn follows(self, one: u8, other: u8) -> bool {
        match self {
            Self::Repository => {
                (one != b'/' || other.is_ascii_alphanumeric()) && (other != b'/' || one.is_ascii_alphanumeric())
            }
            Self::Tag => one != b'/' || !matches!(other, b'.' | b'-'),
        }
    }

    /// Whether a name may match a pattern that is well-formed and has no braces.
    fn matches(self, pattern: &str) -> bool {
        if self == Self::Repository && pattern.split('/').next().is_some_and(|first| first.contains(".azurecr.")) {
            return false;
        }
        // The last character, where it is known which.
        let (mut last, mut least) = (Some(b'/'), 0);
        let mut rest = pattern;
        while !rest.is_empty() {
            let (element, after) = rest.split_at(element(rest));
            rest = after;
            if element == "*" {
                last = None;
                continue;
            }
            least += 1;
            let mut fitting = (0..128).filter(|byte| self.has(*byte) && fits(element, *byte));
            let next = match (fitting.next(), fitting.next()) {
                (None, _) => return false,
                (Some(only), None) => Some(only),
                (Some(_), Some(_)) => None,
            };
            if let (Some(one), Some(other)) = (last, next)
                && !self.follows(one, other)
            {
                return false;
            }
            last = next;
        }
        let ends = self == Self::Tag || last.is_none_or(|last| self.follows(last, b'/'));
        ends && least <= if self == Self::Tag { 128 } else { 255 }
    }
}

/// Bytes of the first element of a well-formed pattern: a character, escaped or not, or a class.
fn element(pattern: &str) -> usize {
    let bytes = pattern.as_bytes();
    let character = |at: usize| pattern[at..].chars().next().map_or(0, char::len_utf8);
    match bytes[0] {
        b'\\' => 1 + character(1),
        b'[' => {
            // The first character of a class stands for itself, whatever it is.
            let mut at = if matches!(bytes.get(1), Some(b'!' | b'^')) { 2 } else { 1 };
            let first = at;
            while at < bytes.len() && (bytes[at] != b']' || at == first) {
                at += if bytes[at] == b'\\' { 1 + character(at + 1) } else { character(at) };
            }
            (at + 1).min(bytes.len())
        }
        _ => character(0),
    }
}

fn fits(element: &str, byte: u8) -> bool {
    match element.as_bytes() {
        [b'\\' | b'[', ..] | [b'?'] => fast_glob::glob_match(element, [byte]),
        own => own == [byte],
    }
}

/// What is wrong with a pattern.
pub(super) fn problem(names: Names, pattern: &str) -> Option<String> {
    let readings = match Bounded::read(pattern) {
        Ok(bounded) => bounded.readings,
        Err(why) => return Some(why),
    };
    let idle = readings.iter().find(|reading| !names.matches(reading))?;
    let which = if idle == pattern { String::new() } else { format!("as {idle:?} it ") };
    Some(format!("{which}can match no {}: {}", names.word(), names.rule()))
}

/// A pattern that whoever asks may have made to take long: it is matched as what it stands for, each of which takes a time that
/// grows with the text's length and no faster than its square.
pub(crate) struct Bounded {
    negated: bool,
    readings: Vec<String>,
}

impl Bounded {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what is wrong with it, after the name of what holds it.
    pub(crate) fn read(pattern: &str) -> Result<Self, String> {
        if pattern.len() > limits::PATTERN_BYTES_MAX {
            return Err(format!("has {} bytes; {} are allowed", pattern.len(), limits::PATTERN_BYTES_MAX));
        }
        fast_glob::validate(pattern).map_err(|why| format!("is not a pattern that can be used: {why}"))?;
        let plain = pattern.trim_start_matches('!');
        let readings = readings(plain)
            .ok_or_else(|| format!("has braces that stand for more than {} patterns", limits::PATTERN_READINGS_MAX))?;
        Ok(Self { negated: (pattern.len() - plain.len()) % 2 == 1, readings })
    }

    /// Whether a text fits.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.negated != self.readings.iter().any(|reading| is_match(reading, text))
    }
}

/// Whether a text fits a reading, whose first `!` is a character as any other.
fn is_match(reading: &str, text: &str) -> bool {
    if reading.starts_with('!') {
        return fast_glob::glob_match(format!("\\{reading}"), text);
    }
    fast_glob::glob_match(reading, text)
}

/// The patterns without braces that a well-formed one stands for; `None` when they are too many.
fn readings(pattern: &str) -> Option<Vec<String>> {
    let (mut done, mut open) = (Vec::new(), vec![pattern.to_owned()]);
    while let Some(text) = open.pop() {
        match group(&text) {
            None => done.push(text),
            Some(cuts) => {
                let (head, tail) = (&text[..cuts[0]], &text[cuts[cuts.len() - 1] + 1..]);
                open.extend(cuts.windows(2).map(|cut| format!("{head}{}{tail}", &text[cut[0] + 1..cut[1]])));
            }
        }
        if done.len() + open.len() > limits::PATTERN_READINGS_MAX {
            return None;
        }
    }
    Some(done)
}

/// Where the first group begins, is divided and ends.
fn group(pattern: &str) -> Option<Vec<usize>> {
    let (mut cuts, mut depth, mut at) = (Vec::new(), 0, 0);
    while at < pattern.len() {
        let bytes = element(&pattern[at..]);
        match &pattern[at..at + bytes] {
            "{" => {
                depth += 1;
                if depth == 1 {
                    cuts.push(at);
                }
            }
            "," if depth == 1 => cuts.push(at),
            "}" if depth == 1 => {
                cuts.push(at);
                return Some(cuts);
            }
            "}" if depth > 1 => depth -= 1,
            _ => {}
        }
        at += bytes;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(names: Names, pattern: &str) -> String {
        problem(names, pattern).unwrap_or_default()
    }

    #[test]
    fn a_pattern_that_something_matches_is_taken() {
        for pattern in
            ["team/**", "**/web-*", "a/{b,c{d,e}}/*", "[a-z]*", "!tmp/*", "a?c", "\\a[!b]_x", "*", "{a,*}{b,*}"]
        {
            assert_eq!(fault(Names::Repository, pattern), "", "{pattern}");
        }
        for pattern in ["v*", "V[0-9]*", "*-rc?", "_x", "{latest,v*}", "[!v]*", "*.*"] {
            assert_eq!(fault(Names::Tag, pattern), "", "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_nothing_matches_is_refused() {
        for pattern in [
            "Team/**",
            "team//x",
            "/team/*",
            "team/",
            "shop:v1",
            "a,b",
            "[A-Z]*",
            "a b",
            "{team,Shop}/*",
            "!Team/*",
            "\\*",
            "contoso.azurecr.io/shop",
            "-x",
            "a/.b",
            "é",
            "}",
        ] {
            assert!(fault(Names::Repository, pattern).contains("can match no repository: "), "{pattern}");
        }
        for pattern in ["shop/v1", "shop:v1", "-rc", ".x", "v1,v2", "a b", "[/:]", &"v".repeat(129), "@sha256*"] {
            assert!(fault(Names::Tag, pattern).contains("can match no tag: "), "{pattern}");
        }
        assert!(fault(Names::Repository, "{team,Shop}/*").starts_with("as \"Shop/*\" it can"));
    }

    #[test]
    fn a_pattern_stands_for_few_others() {
        assert_eq!(readings("{a,*}{a,*}{a,*}{a,*}{a,*}{a,*}").map(|all| all.len()), Some(64));
        assert_eq!(readings("{a,{b,c}}/{d,e}").map(|all| all.len()), Some(6));
        assert_eq!(readings("[{]a,b\\{c"), Some(vec!["[{]a,b\\{c".to_owned()]));
        // Ten seconds for one text of 2048 bytes.
        let slow = "**/{a,a,a,*}{*,*,*,*,*}{*,*,*,*,*}{a,*}*{a,a,a,*}{a*,*}[a]{*a*a*a,*a*}{*a*,*}{a,a,a,*}";
        assert_eq!(fault(Names::Repository, slow), "has braces that stand for more than 64 patterns");
        assert!(fault(Names::Tag, "{a,{b,c}}{a,b}{a,b}{a,b}{a,b}{a,b}").contains("more than 64"));
    }

    #[test]
    fn a_pattern_that_was_made_to_take_long_does_not() {
        let long = "a".repeat(255);
        for group in ["{*a,*a,*a,*a,*a,*,*,*,*}", "{a*,*a,**,a}", "{a,*}"] {
            assert!(Bounded::read(&(group.repeat(10) + "b")).is_err_and(|why| why.contains("more than 64")), "{group}");
        }
        // As one pattern it would be tried at some 10^17 places.
        assert!(!Bounded::read(&("*{a}".repeat(10) + "b")).unwrap().matches(&long));
        assert!(!Bounded::read(&("**/".repeat(80) + "b")).unwrap().matches(&"a/".repeat(127)));
        assert!(Bounded::read("{").is_err_and(|why| why.contains("unclosed")));
        assert!(Bounded::read(&"*".repeat(256)).is_err_and(|why| why.contains("255")));
    }

    proptest! {
        #[test]
        fn what_a_pattern_stands_for_matches_as_it_does(text in "[ab!/]{0,6}", pattern in "[ab*?{},!/]{0,10}") {
            // Where stars of a group and beside it meet, what it stands for crosses segments.
            let meet = |bounded: &Bounded| pattern.contains('{') && bounded.readings.iter().any(|r| r.contains("**"));
            if let Ok(bounded) = Bounded::read(&pattern)
                && !meet(&bounded)
            {
                prop_assert_eq!(bounded.matches(&text), fast_glob::glob_match(&pattern, &text));
            }
        }

        #[test]
        fn what_a_tag_matches_is_never_refused(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,6}", pattern in "[a-c*?{},\\[\\]!^.v1\\\\-]{1,8}") {
            if fast_glob::glob_match(&pattern, &tag) && !pattern.starts_with('!') && problem(Names::Tag, &pattern).is_some() {
                // Of several readings only one has to be refused.
                prop_assert!(pattern.contains('{') || fast_glob::validate(&pattern).is_err(), "{pattern} matches {tag}");
            }
        }

        #[test]
        fn any_pattern_is_taken_or_refused(pattern in ".{0,40}") {
            let _ = (problem(Names::Tag, &pattern), problem(Names::Repository, &pattern));
        }
    }
}
