//! Which webhooks are those of one service.

use std::collections::BTreeMap;

use super::registry::Registry;
use super::webhooks::Webhook;
use crate::push::Region;

/// Name of the tag that our webhooks carry, and how its value begins; [`Set::tag`] is the whole of it.
const TAG: (&str, &str) = ("managed-by", "acr-global-webhook/");

/// How the names begin where nobody says otherwise, and those that `infra/webhooks.bicep` makes.
pub const USUAL_PREFIX: &str = "acrgw";

/// Longest name of a webhook, in bytes.
const NAME_BYTES_MAX: usize = 50;

/// The webhooks of one service: those whose tag names its prefix, and that are called by it and a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set(String);

/// The set whose names begin as usual.
impl Default for Set {
    fn default() -> Self {
        Self(USUAL_PREFIX.to_owned())
    }
}

impl Set {
    /// The set whose names begin with `prefix`.
    ///
    /// # Errors
    /// Names cannot begin like that.
    pub fn of(prefix: &str) -> Result<Self, String> {
        let plain = prefix.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || !(3..=20).contains(&prefix.len()) {
            return Err("a webhook's name begins with 3 to 20 letters and digits".into());
        }
        Ok(Self(prefix.to_owned()))
    }

    /// How the names begin.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// Name and value of the tag that they carry. Their names alone do not tell two sets apart: `acrgw` with the region
    /// northcentralus is `acrgwnorth` with centralus.
    #[must_use]
    pub fn tag(&self) -> (&'static str, String) {
        (TAG.0, format!("{}{}", TAG.1, self.0.to_ascii_lowercase()))
    }

    /// The tags of a webhook that is made, beside those that somebody else gave to the one before it.
    #[must_use]
    pub fn tags(&self, before: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let (name, value) = self.tag();
        let mut tags = before.clone();
        tags.retain(|other, _| !other.eq_ignore_ascii_case(name));
        tags.insert(name.to_owned(), value);
        tags
    }

    /// The name of the webhook for `region`.
    #[must_use]
    pub fn name(&self, region: &Region) -> String {
        format!("{}{region}", self.0)
    }

    /// Whether the names for all regions of the registry can be given. A name that is cut may be that of another region.
    ///
    /// # Errors
    /// The prefix is too long for a region's.
    pub fn fits(&self, registry: &Registry) -> Result<(), String> {
        match registry.regions().map(|region| self.name(region)).find(|name| name.len() > NAME_BYTES_MAX) {
            None => Ok(()),
            Some(name) => Err(format!(
                "{} is too long: the webhook {name} would have {} characters, and {NAME_BYTES_MAX} are allowed",
                self.0,
                name.len()
            )),
        }
    }

    /// Whether the webhook is one of this set: it has its tag, and its name ends in its own region or in one of the registry's.
    /// Tags are copied along with a webhook, hence the name.
    #[must_use]
    pub fn has(&self, webhook: &Webhook, registry: &Registry) -> bool {
        let own = Region::parse(&webhook.location).ok();
        let mut regions = registry.regions().chain(&own);
        tag_of(webhook) == Some(&self.tag().1)
            && regions.any(|region| self.name(region).eq_ignore_ascii_case(&webhook.name))
    }
}

fn tag_of(webhook: &Webhook) -> Option<&String> {
    webhook.tags.iter().find(|(name, _)| name.eq_ignore_ascii_case(TAG.0)).map(|(_, value)| value)
}

/// Whether the webhook is of some set.
pub(super) fn is_tagged(webhook: &Webhook) -> bool {
    tag_of(webhook).is_some_and(|value| value.starts_with(TAG.1))
}
