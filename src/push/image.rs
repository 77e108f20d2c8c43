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
        if let Some(digest) = digest {
            let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
            if !digest.split_once(':').is_some_and(|(algorithm, hex)| plain(algorithm) && plain(hex)) {
                return Err(bad("the digest lacks its algorithm or its digits"));
            }
        }
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
        assert_eq!(
            image("Contoso.azurecr.io/shop/cart:1.4.2@sha256:9f2c"),
            (some("contoso.azurecr.io"), "shop/cart".into(), some("1.4.2"), some("sha256:9f2c"))
        );
        assert_eq!(image("localhost:5000/a:b"), (some("localhost"), "a".into(), some("b"), None));
        assert_eq!(image("shop/cart@sha256:00"), (None, "shop/cart".into(), None, some("sha256:00")));
        assert_eq!(image("cart:latest"), (None, "cart".into(), some("latest"), None));
        assert_eq!(image("contoso.westeurope.geo.azurecr.io/a:1").0, some("contoso.azurecr.io"));
    }

    #[test]
    fn what_is_no_image_is_answered_with_what_one_looks_like() {
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
            "https://r.io/a:b",
            "a b:c",
            "a:\u{7}",
        ] {
            let why = text.parse::<Image>().unwrap_err();
            assert!(why.contains("registry/repository:tag@digest"), "{text}: {why}");
        }
    }

    #[test]
    fn an_image_is_sought_where_its_webhooks_are_kept() {
        let subject = |tag: Option<&str>| Subject {
            registry: "r.io".into(),
            repository: "a".into(),
            tag: tag.map(str::to_owned),
            digest: "sha256:1".into(),
            action: "push".into(),
        };
        for (text, tag) in [("r.io/a:b@sha256:1", Some("b")), ("r.io/a@sha256:1", None)] {
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
