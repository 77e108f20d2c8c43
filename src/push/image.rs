//! An image as people write it, and which pushes are pushes of it.

use std::fmt;
use std::str::FromStr;

use super::arrival::{Correlation, login_server};
use super::{Key, Subject};
use crate::limits;

/// `registry/repository:tag@digest`; at least one of tag and digest. The registry may be left out where one stands for all
/// webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Login server, normalised as that of a webhook is.
    pub registry: Option<String>,
    /// Repository.
    pub repository: String,
    /// Tag.
    pub tag: Option<String>,
    /// Digest with its algorithm, such as `sha256:…`.
    pub digest: Option<String>,
}

/// How the newest push of an image is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// All pushes of it have this key.
    Key(Key),
    /// All pushes of it are of this place, and so are pushes of other contents.
    Place(String),
}

/// What an image looks like, for whoever wrote another thing.
const FORM: &str = "an image is written `registry/repository:tag@digest`, such as \
                    `contoso.azurecr.io/shop/cart:1.4.2@sha256:…`; the tag or the digest may be left out";

/// What to do with the beginning of a digest, which is what lists show.
const SHORT: &str = "the digest is cut short, and a push is found by the whole one only: `sha256:` and 64 hex digits; \
                     `global-webhook list --digest` takes its beginning, and `--json` shows all of it";

/// Fewest digits by which the beginning of a digest is known for one.
const SHORT_MIN: usize = 6;

/// Longest tag, in bytes, by the grammar of image references.
const TAG_BYTES_MAX: usize = 128;

/// What people type is held to the grammar of image references, so that a slip is not waited for. What the registry reports
/// is read by [`arrival`](super::arrival), and taken as it is.
impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{why}: {FORM}");
        let text = text.trim();
        if text.len() > limits::IMAGE_BYTES_MAX {
            return Err(bad("that is too long for an image"));
        }
        if text.contains("://") {
            return Err(bad("an image has no `https://`"));
        }
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad("that is no image"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
            Some(_) | None => (None, name),
        };
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            Some(_) | None => (path, None),
        };
        if repository.is_empty() || tag.is_some_and(str::is_empty) {
            return Err(bad("the repository or the tag is empty"));
        }
        if repository.contains(':') {
            return Err(bad("the image has more than one tag"));
        }
        if !repository.split('/').all(is_component) {
            return Err(bad(
                "the repository has something that none has; it is lower-case letters, digits and single \
                            `.`, `_` or `-` between them, in parts with one `/` between two",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(
                "the tag has something that none has; it is at most 128 letters, digits, `_`, `.` and `-`, \
                            and begins with none of the last two",
            ));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(if is_cut_short(digest) {
                SHORT.to_owned()
            } else {
                bad("the digest is none; it is `sha256:` and 64 hex digits in lower case, or `sha512:` and 128")
            });
        }
        if tag.is_none() && digest.is_none() {
            return Err(bad("the image has neither tag nor digest"));
        }
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Ok(Self {
            registry: registry.map(login_server),
            repository: repository.to_owned(),
            tag: owned(tag),
            digest: owned(digest),
        })
    }
}

/// Whether this is a part of a repository's name: letters and digits, between which one `.`, one or two `_`, or any number of
/// `-` stands.
fn is_component(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separates = |between: &str| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-');
    text.starts_with(plain) && text.ends_with(plain) && text.split(plain).all(separates)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= TAG_BYTES_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// Whether this is a whole digest, of one of the algorithms that registries use.
pub(crate) fn is_digest(text: &str) -> bool {
    let digits = |hex: &str| hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match text.split_once(':') {
        Some(("sha256", hex)) => hex.len() == 64 && digits(hex),
        Some(("sha512", hex)) => hex.len() == 128 && digits(hex),
        Some(_) | None => false,
    }
}

/// Whether this is how a digest begins, with or without its algorithm, and with or without dots for the rest.
fn is_cut_short(text: &str) -> bool {
    let (digits, whole) = match text.split_once(':') {
        None => (text, 64),
        Some(("sha256", digits)) => (digits, 64),
        Some(("sha512", digits)) => (digits, 128),
        Some(_) => return false,
    };
    let digits = digits.trim_end_matches(['…', '.']);
    (SHORT_MIN..whole).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Image {
    /// How its newest push is found, for an action and where no webhook names another registry than this.
    #[must_use]
    pub fn sought(&self, registry: &str, action: &str, correlation: Correlation) -> Sought {
        let subject = Subject {
            registry: registry.to_owned(),
            repository: self.repository.clone(),
            tag: self.tag.clone(),
            digest: self.digest.clone().unwrap_or_default(),
            action: action.to_owned(),
        };
        let key = subject.key(correlation, "");
        match (correlation, &self.digest) {
            (Correlation::Content, Some(_)) => Sought::Key(key),
            (Correlation::Content, None) | (Correlation::Id, _) => Sought::Place(key.place().to_owned()),
        }
    }

    /// Whether a push of `subject` is one of this image in a registry.
    #[must_use]
    pub fn is(&self, subject: &Subject, registry: &str) -> bool {
        let fits = |wanted: &Option<String>, given: Option<&str>| wanted.as_deref().is_none_or(|w| Some(w) == given);
        subject.registry == registry
            && subject.repository == self.repository
            && fits(&self.tag, subject.tag.as_deref())
            && fits(&self.digest, Some(&subject.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> (Option<String>, String, Option<String>, Option<String>) {
        let image: Image = text.parse().unwrap();
        assert_eq!(image.to_string().parse(), Ok(image.clone()), "it is written as it is read");
        (image.registry, image.repository, image.tag, image.digest)
    }

    #[test]
    fn images_are_read_as_clients_write_them() {
        let some = |text: &str| Some(text.to_owned());
        let digest = format!("sha256:{}", "9f2c".repeat(16));
        assert_eq!(
            image(&format!("Contoso.azurecr.io/shop/cart:1.4.2@{digest}")),
            (some("contoso.azurecr.io"), "shop/cart".into(), some("1.4.2"), Some(digest.clone()))
        );
        assert_eq!(image("localhost:5000/a:b"), (some("localhost"), "a".into(), some("b"), None));
        assert_eq!(image(&format!("shop/cart@{digest}")), (None, "shop/cart".into(), None, Some(digest)));
        assert_eq!(image("cart:latest"), (None, "cart".into(), some("latest"), None));
        assert_eq!(image("contoso.westeurope.geo.azurecr.io/a:1").0, some("contoso.azurecr.io"));
        let long = format!("sha512:{}", "0".repeat(128));
        assert_eq!(image(&format!("a@{long}")).3, Some(long));
        for repository in ["a", "a0/9", "a.b/c_d/e__f/g-h/i---j", "samples/hello-world"] {
            assert_eq!(image(&format!("r.io/{repository}:_A.b-C9")).1, repository);
        }
    }

    #[test]
    fn what_is_no_image_is_answered_with_what_one_looks_like() {
        let digits = "9f2c".repeat(16);
        for text in [
            "",
            " ",
            "a",
            "contoso.azurecr.io/a",
            "a:",
            ":b",
            "a@",
            "a@sha256",
            "a@sha256:",
            "a@md5:abc",
            "a@1.4.2",
            "a:b@sha256:9f2c",
            &format!("a@sha256:{}", digits.to_uppercase()),
            &format!("a@sha512:{digits}{digits}00"),
            &format!("a@sha1:{digits}"),
            "a:b:c",
            "contoso.azurecr.io/shop/cart:a:b",
            "contoso.azurecr.io//cart:1",
            "contoso.azurecr.io/shop/:1",
            "contoso.azurecr.io/Shop/cart:1",
            "Shop/cart:1",
            "a..b:1",
            "a___b:1",
            "-a:1",
            "a_:1",
            "a:-b",
            "a:.b",
            "a:b+c",
            &format!("a:{}", "x".repeat(129)),
            "https://r.io/a:b",
            "a b:c",
            "a:\u{7}",
        ] {
            let why = text.parse::<Image>().unwrap_err();
            assert!(why.contains("registry/repository:tag@digest"), "{text}: {why}");
        }
    }

    #[test]
    fn the_beginning_of_a_digest_is_told_from_a_whole_one() {
        let digits = "9f2c41aa6bd1";
        for digest in [
            "sha256:9f2c41",
            "9f2c41aa6bd1",
            "sha256:9f2c41aa6bd1…",
            "sha256:9f2c41aa6bd1...",
            &format!("sha256:{}", digits.repeat(5)),
        ] {
            let why = format!("contoso.azurecr.io/shop/cart:1@{digest}").parse::<Image>().unwrap_err();
            assert!(why.contains("list --digest") && !why.contains(digits), "{digest}: {why}");
        }
    }

    #[test]
    fn an_image_is_sought_where_its_webhooks_are_kept() {
        let subject = |tag: Option<&str>| Subject {
            registry: "r.io".into(),
            repository: "a".into(),
            tag: tag.map(str::to_owned),
            digest: format!("sha256:{}", "1".repeat(64)),
            action: "push".into(),
        };
        let digest = subject(None).digest;
        for (text, tag) in [(format!("r.io/a:b@{digest}"), Some("b")), (format!("r.io/a@{digest}"), None)] {
            let image: Image = text.parse().unwrap();
            let key = subject(tag).key(Correlation::Content, "id");
            assert_eq!(image.sought("r.io", "push", Correlation::Content), Sought::Key(key));
            let place = subject(tag).key(Correlation::Id, "id").place().to_owned();
            assert_eq!(image.sought("r.io", "push", Correlation::Id), Sought::Place(place));
            assert!(image.is(&subject(tag), "r.io") && !image.is(&subject(Some("c")), "s.io"));
        }
        let by_tag: Image = "r.io/a:b".parse().unwrap();
        let place = subject(Some("b")).key(Correlation::Content, "").place().to_owned();
        assert_eq!(by_tag.sought("r.io", "push", Correlation::Content), Sought::Place(place));
    }
}
