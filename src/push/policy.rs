//! What the settings say about pushes: which regions to wait for, how long, what to ignore, and whom to tell.

use std::time::Duration;

use super::arrival::Correlation;
use super::state::Notice;
use super::{Region, Subject};
use crate::limits;

/// The part of the settings that `step` may see. A push in flight keeps what was frozen into its row.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Regions a push waits for unless a rule says otherwise; distinct, at least one.
    pub regions: Vec<Region>,
    /// How long it waits unless a rule says otherwise.
    pub timeout: Duration,
    /// Which members name a push.
    pub correlation: Correlation,
    /// What a missing region that reported the same content before is worth at the deadline.
    pub repeats: Repeats,
    /// First match wins.
    pub rules: Vec<Rule>,
    /// Whom to tell.
    pub targets: Vec<Target>,
    /// Waits between the attempts of one notification; one attempt more than there are waits.
    pub schedule: Vec<Duration>,
}

/// What a report of an earlier round is worth for a region that is missing at the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repeats {
    /// Nothing: every push must be reported anew.
    #[default]
    New,
    /// It counts: for registries whose replicas do not notify an identical push again.
    Known,
}

/// An exception for some pushes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// For the status and the log.
    pub name: String,
    /// Pushes it is about.
    pub filter: Filter,
    /// What it says about them.
    pub verdict: Verdict,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Start nothing.
    Ignore,
    /// Wait, with its own regions or time-out where given.
    FanIn {
        /// In place of [`Policy::regions`].
        regions: Option<Vec<Region>>,
        /// In place of [`Policy::timeout`].
        timeout: Option<Duration>,
    },
}

/// Who is told of which outcomes of which pushes. Where and how stands in the notifier's settings, under the same name.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Distinct; the row keeps it.
    pub name: String,
    /// Outcomes it is told of.
    pub notices: Vec<Notice>,
    /// Pushes it is told of.
    pub filter: Filter,
    /// It is told of companions too; see [`Subject::is_companion`].
    pub companions: bool,
}

impl Target {
    /// Whether it is told of `notice` about `subject`.
    #[must_use]
    pub fn hears(&self, notice: Notice, subject: &Subject) -> bool {
        self.notices.contains(&notice) && self.filter.matches(subject) && (self.companions || !subject.is_companion())
    }
}

/// Some of all pushes. Every condition given must hold; none given means all pushes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Glob for the repository; `*` stays within one path segment, `**` crosses them.
    pub repository: Option<String>,
    /// Glob for the tag; an untagged push never matches it.
    pub tag: Option<String>,
    /// Actions; empty means all.
    pub actions: Vec<String>,
    /// Only tagged, or only untagged pushes.
    pub tagged: Option<bool>,
}

impl Filter {
    /// Whether `subject` is among them.
    #[must_use]
    pub fn matches(&self, subject: &Subject) -> bool {
        let glob = |pattern: &Option<String>, text: Option<&str>| match (pattern, text) {
            (None, _) => true,
            (Some(pattern), Some(text)) => fast_glob::glob_match(pattern, text),
            (Some(_), None) => false,
        };
        glob(&self.repository, Some(&subject.repository))
            && glob(&self.tag, subject.tag.as_deref())
            && (self.actions.is_empty() || self.actions.contains(&subject.action))
            && self.tagged.is_none_or(|tagged| tagged == subject.tag.is_some())
    }
}

/// What to do with the first arrival of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Start nothing; the name of the rule that says so.
    Ignore(String),
    /// Open a push.
    FanIn {
        /// Regions to wait for.
        regions: Vec<Region>,
        /// How long.
        timeout: Duration,
        /// Name of the rule that applied.
        rule: Option<String>,
    },
}

impl Policy {
    /// The plan for a push about `subject`.
    #[must_use]
    pub fn plan(&self, subject: &Subject) -> Plan {
        let rule = self.rules.iter().find(|rule| rule.filter.matches(subject));
        match rule.map(|rule| (&rule.name, &rule.verdict)) {
            None => Plan::FanIn { regions: self.regions.clone(), timeout: self.timeout, rule: None },
            Some((name, Verdict::Ignore)) => Plan::Ignore(name.clone()),
            Some((name, Verdict::FanIn { regions, timeout })) => Plan::FanIn {
                regions: regions.as_ref().unwrap_or(&self.regions).clone(),
                timeout: timeout.unwrap_or(self.timeout),
                rule: Some(name.clone()),
            },
        }
    }

    /// How long a push waits at most.
    #[must_use]
    pub fn waits_at_most(&self) -> Duration {
        let own = self.rules.iter().filter_map(|rule| match rule.verdict {
            Verdict::FanIn { timeout, .. } => timeout,
            Verdict::Ignore => None,
        });
        own.chain([self.timeout]).max().unwrap_or(self.timeout)
    }

    /// How long after its opening a push usually owes something at most: it waits, and then every wait of the schedule, longer
    /// by chance or by the receiver's wish. One that recovers late, is sent again by an operator, or whose attempts end without
    /// a result owes for longer.
    #[must_use]
    pub fn owes_at_most(&self) -> Duration {
        let wait = |wait: &Duration| (*wait * 6 / 5).max(limits::RETRY_AFTER_MAX) + limits::LEASE;
        self.waits_at_most() + self.schedule.iter().map(wait).sum::<Duration>()
    }

    /// Every region that some push may wait for, in the order of the settings.
    #[must_use]
    pub fn known_regions(&self) -> Vec<&Region> {
        let mut all: Vec<&Region> = self.regions.iter().collect();
        for rule in &self.rules {
            if let Verdict::FanIn { regions: Some(regions), .. } = &rule.verdict {
                all.extend(regions);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|region| seen.insert(*region));
        all
    }

    /// Names of the targets to tell of `notice` about `subject`.
    pub(super) fn told<'a>(&'a self, notice: Notice, subject: &'a Subject) -> impl Iterator<Item = &'a str> {
        self.targets.iter().filter(move |target| target.hears(notice, subject)).map(|target| target.name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(repository: &str, tag: Option<&str>, action: &str) -> Subject {
        Subject {
            registry: "r".into(),
            repository: repository.into(),
            tag: tag.map(str::to_owned),
            digest: "d".into(),
            action: action.into(),
        }
    }

    #[test]
    fn filters_hold_only_when_every_condition_holds() {
        let filter = Filter {
            repository: Some("team/**".into()),
            tag: Some("v*".into()),
            actions: vec!["push".into()],
            tagged: Some(true),
        };
        assert!(filter.matches(&subject("team/a/b", Some("v1"), "push")));
        assert!(!filter.matches(&subject("other/a", Some("v1"), "push")));
        assert!(!filter.matches(&subject("team/a", Some("x1"), "push")));
        assert!(!filter.matches(&subject("team/a", None, "push")));
        assert!(!filter.matches(&subject("team/a", Some("v1"), "delete")));
        assert!(Filter::default().matches(&subject("x", None, "delete")));
        assert!(Filter { tagged: Some(false), ..Filter::default() }.matches(&subject("x", None, "push")));
    }

    #[test]
    fn a_companion_is_told_only_to_who_asked() {
        let target = |companions| Target {
            name: "t".into(),
            notices: vec![Notice::Replicated],
            filter: Filter::default(),
            companions,
        };
        let (image, untagged) = (subject("a", Some("v1"), "push"), subject("a", None, "push"));
        let heard = [true, false]
            .map(|companions| [&image, &untagged].map(|subject| target(companions).hears(Notice::Replicated, subject)));
        assert_eq!(heard, [[true, true], [true, false]]);
        assert!(!target(true).hears(Notice::TimedOut, &image));
        // A deletion never names a tag, and is nobody's companion.
        assert!(target(false).hears(Notice::Replicated, &subject("a", None, "delete")));
    }

    #[test]
    fn the_first_matching_rule_wins() {
        let regions = |names: &[&str]| names.iter().map(|n| Region::parse(n).unwrap()).collect::<Vec<_>>();
        let rule = |name: &str, repository: &str, verdict| Rule {
            name: name.into(),
            filter: Filter { repository: Some(repository.into()), ..Filter::default() },
            verdict,
        };
        let policy = Policy {
            regions: regions(&["a", "b"]),
            timeout: Duration::from_secs(9),
            correlation: Correlation::Content,
            repeats: Repeats::New,
            rules: vec![
                rule("quiet", "tmp/*", Verdict::Ignore),
                rule("eu", "eu/*", Verdict::FanIn { regions: Some(regions(&["c", "a"])), timeout: None }),
                rule("all", "*/*", Verdict::FanIn { regions: None, timeout: Some(Duration::from_secs(1)) }),
            ],
            targets: vec![],
            schedule: vec![],
        };
        assert_eq!(policy.plan(&subject("tmp/x", None, "push")), Plan::Ignore("quiet".into()));
        let Plan::FanIn { regions, timeout, rule } = policy.plan(&subject("eu/x", None, "push")) else { panic!() };
        assert_eq!((regions.len(), timeout.as_secs(), rule.as_deref()), (2, 9, Some("eu")));
        let Plan::FanIn { timeout, rule, .. } = policy.plan(&subject("z/x", None, "push")) else { panic!() };
        assert_eq!((timeout.as_secs(), rule.as_deref()), (1, Some("all")));
        let Plan::FanIn { rule, .. } = policy.plan(&subject("plain", None, "push")) else { panic!() };
        assert_eq!(rule, None);
        let known: Vec<&str> = policy.known_regions().into_iter().map(Region::as_str).collect();
        assert_eq!(known, ["a", "b", "c"]);
    }
}
