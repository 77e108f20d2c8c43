//! Names: of a region, of what was pushed, and of a push.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

/// Name of one replica region: 1 to [`limits::REGION_BYTES_MAX`] ASCII letters and digits, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    /// Reads a region's name as people and query strings write it: to Azure `West Europe` is `westeurope`.
    ///
    /// # Errors
    /// Says what is wrong with the text; the text itself is at most named by its length.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut name: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        name.make_ascii_lowercase();
        if name.is_empty() {
            return Err("a region's name is empty".into());
        }
        if name.len() > limits::REGION_BYTES_MAX {
            return Err(format!("a region's name has {} bytes, {} are allowed", name.len(), limits::REGION_BYTES_MAX));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err("a region's name has letters and digits only, such as `westeurope`".into());
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Region {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

/// Hex digits of each half of a [`Key`]: 128 bits, so that nobody finds two names with the same half.
const HALF: usize = 32;

/// What correlates the regional webhooks of one push, as 64 hex digits: two halves of 128 bits, each of a SHA-256 over an
/// injective encoding of the members it stands for. The first names the *place* (registry, repository, tag or digest,
/// action), the second the *content* within it. Safe as a table key, a file name and a URL segment whatever the registry sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Hashes both lists so that no two different ones give the same input to the hash: each part is preceded by its length.
    #[must_use]
    pub fn of(place: &[&str], content: &[&str]) -> Self {
        Self(half(place) + &half(content))
    }

    /// All 64 hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 32 hex digits that all pushes of the same place share.
    #[must_use]
    pub fn place(&self) -> &str {
        self.0.split_at(HALF).0
    }

    /// The 32 hex digits that tell this content from the others of its place.
    #[must_use]
    pub fn content(&self) -> &str {
        self.0.split_at(HALF).1
    }
}

impl FromStr for Key {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.len() == 2 * HALF && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if plain { Ok(Self(text.to_owned())) } else { Err(format!("a push's key is {} hex digits", 2 * HALF)) }
    }
}

/// The first 128 bits of the hash of a list, as hex digits.
pub(crate) fn half(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..HALF / 2])
}

/// Lower-case hexadecimal text of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).map(char::from).collect()
}

/// Name of one push: its correlation key and its round, written `<64 hex digits>-<round>`. Rounds count from 1; a second
/// round is the same content pushed again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PushId {
    /// What correlates the push's webhooks.
    pub key: Key,
    /// How often the same content has been pushed, from 1.
    pub round: u32,
}

impl fmt::Display for PushId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.key.0, self.round)
    }
}

impl FromStr for PushId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || "a push id is 64 hex digits, a hyphen and a round number".to_owned();
        let (key, round) = text.split_once('-').ok_or_else(bad)?;
        let plain = !round.starts_with('0') && round.bytes().all(|b| b.is_ascii_digit());
        let round = round.parse().ok().filter(|_| plain).ok_or_else(bad)?;
        Ok(Self { key: key.parse().map_err(|_| bad())?, round })
    }
}

impl TryFrom<String> for PushId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PushId> for String {
    fn from(id: PushId) -> Self {
        id.to_string()
    }
}

/// What was pushed (or deleted, or quarantined): the members that are the same in every region's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Login server of the registry, normalised (see [`login_server`](super::arrival::login_server)); empty when the webhook names none.
    pub registry: String,
    /// Repository, as sent.
    pub repository: String,
    /// Tag; absent for an untagged manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Digest of the manifest, as sent.
    pub digest: String,
    /// `push`, `delete`, `quarantine`, `chart_push` or `chart_delete`.
    pub action: String,
}

impl Subject {
    /// `repository:tag`, or `repository@digest` for an untagged manifest.
    #[must_use]
    pub fn image(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => format!("{}@{}", self.repository, self.digest),
        }
    }

    /// Whether a client pushed this along with an image rather than for itself: a manifest without a tag (a platform, an
    /// attestation, an image that gets its tag with the next request), or one whose tag names the digest it belongs to (a
    /// signature, an SBOM).
    #[must_use]
    pub fn is_companion(&self) -> bool {
        matches!(self.action.as_str(), "push" | "quarantine") && self.tag.as_deref().is_none_or(names_a_digest)
    }
}

/// Whether `tag` is the digest of another manifest, written as tags must be: `sha256-<hex>`, as the OCI rules have it for
/// referrers (which cut longer digests to 64 digits), with or without `.sig`, `.att`, `.sbom` and the like after it.
fn names_a_digest(tag: &str) -> bool {
    let Some((algorithm, rest)) = tag.split_once('-') else { return false };
    let digits = rest.split_once('.').map_or(rest, |(digits, _)| digits);
    matches!(algorithm, "sha256" | "sha384" | "sha512")
        && (64..=128).contains(&digits.len())
        && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn case_b5_blanks_and_case_do_not_count_in_a_region() {
        for text in ["  NorthEurope ", "North Europe", "NORTH\teurope"] {
            assert_eq!(Region::parse(text).unwrap().as_str(), "northeurope");
        }
        assert!(Region::parse(&format!("{} {}", "x".repeat(32), "y".repeat(32))).is_ok(), "bounded without its blanks");
        for bad in
            ["", "  ", "a,b", "a\u{7}", "west-europe", "\"westeurope\"", "wésteurope", "\u{212a}", &"x".repeat(65)]
        {
            assert!(Region::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_has_two_halves() {
        let key = Key::of(&["a"], &["b"]);
        assert_eq!((key.place(), key.content()), (&*half(&["a"]), &*half(&["b"])));
    }

    #[test]
    fn companions_are_told_from_images() {
        let hex = "0123456789abcdef".repeat(4);
        let is = |tag: Option<&str>, action: &str| {
            let tag = tag.map(str::to_owned);
            let name = || "x".to_owned();
            Subject { registry: name(), repository: name(), tag, digest: name(), action: action.into() }.is_companion()
        };
        for tag in [format!("sha256-{hex}"), format!("sha256-{hex}.sig"), format!("sha512-{hex}{hex}.att")] {
            assert!(is(Some(&tag), "push") && is(Some(&tag), "quarantine"), "{tag}");
        }
        assert!(is(None, "push"));
        let (short, other) = (&hex[1..], hex.to_uppercase());
        for tag in [
            "v1",
            "1.4.2",
            "latest",
            "sha256-",
            "sha-1a2b3c4",
            &hex,
            &format!("sha256-{short}"),
            &format!("sha256-{other}"),
        ] {
            assert!(!is(Some(tag), "push"), "{tag}");
        }
        for action in ["delete", "chart_push", "chart_delete"] {
            assert!(!is(None, action), "{action}");
        }
    }

    #[test]
    fn push_ids_refuse_other_spellings() {
        let key = &"0123456789abcdef".repeat(4);
        assert!(format!("{key}-1").parse::<PushId>().is_ok());
        for bad in [
            key.clone(),
            format!("{key}-0"),
            format!("{key}-"),
            format!("{key}-01"),
            format!("{key}-+1"),
            format!("{key}-1-2"),
            format!("{}-1", key.to_uppercase()),
            format!("{key}-4294967296"),
            "x-1".into(),
            String::new(),
        ] {
            assert!(bad.parse::<PushId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn push_ids_survive_their_text(parts in prop::collection::vec(".*", 0..5), round in 1u32..) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let id = PushId { key: Key::of(&parts, &[]), round };
            prop_assert_eq!(id.to_string().parse::<PushId>(), Ok(id));
        }

        #[test]
        fn keys_of_different_lists_differ(a in prop::collection::vec(".{0,8}", 0..4), b in prop::collection::vec(".{0,8}", 0..4)) {
            fn key(parts: &[String]) -> Key {
                Key::of(&[], &parts.iter().map(String::as_str).collect::<Vec<_>>())
            }
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }
    }

    #[test]
    fn moving_a_boundary_between_parts_changes_the_key() {
        for (one, other) in [(&["ab", "c"][..], &["a", "bc"][..]), (&["a", ""], &["a"])] {
            assert_ne!(Key::of(one, &[]).place(), Key::of(other, &[]).place());
            assert_ne!(Key::of(&[], one).content(), Key::of(&[], other).content());
        }
    }
}
