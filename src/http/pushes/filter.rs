//! What a list is asked for, from the members of a query to a [`Search`]. Whatever is unknown is answered with what is known.

use std::sync::Arc;

use crate::api::{STATUSES, State};
use crate::clock::Instant;
use crate::config::pattern::Bounded;
use crate::config::timespan::with_unit;
use crate::http::error::Problem;
use crate::push::{Delivery, Region, Row, Subject};
use crate::store::Search;
use crate::store::search::Test;

/// Pushes of one page when `limit` does not say otherwise, and at most.
const PAGE: (usize, usize) = (50, 1000);

/// Members that the Functions host reads, and what it may add.
const OF_THE_HOST: [&str; 2] = ["code", "clientid"];

/// Members of a list's query. With `image` it is the query for an image; it stands here for whoever misspells it.
pub(super) const LIST_MEMBERS: &[&str] = &[
    "status",
    "registry",
    "repository",
    "tag",
    "digest",
    "region",
    "companions",
    "since",
    "until",
    "limit",
    "cursor",
    "image",
];

/// Members of the query for an image.
pub(super) const IMAGE_MEMBERS: &[&str] = &["image", "wait", "for", "arrived", "action", "since"];

/// How far the regions look back when nothing is said.
const WINDOW: &str = "24h";

/// The members of a query, each known and at most once.
pub(super) struct Members(Vec<(String, String)>);

impl Members {
    /// Reads a query.
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut members: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let name = name.to_ascii_lowercase();
            if OF_THE_HOST.contains(&name.as_str()) {
                continue;
            }
            if !known.contains(&name.as_str()) {
                let those = if known.is_empty() {
                    "this call has none".to_owned()
                } else {
                    format!("those that do are: {}", known.join(", "))
                };
                let message = format!("The query has a member that means nothing here; {those}.");
                return Err(Problem::bad_request("unknown_member", message));
            }
            if members.iter().any(|(other, _)| *other == name) {
                return Err(Problem::bad_request(
                    "member_twice",
                    format!("The query member `{name}` stands more than once; say it once."),
                ));
            }
            members.push((name, value.into_owned()));
        }
        Ok(Self(members))
    }

    /// The value of a member; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, value)| n == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The value of a member that names something, and without which all are meant; so it must not be empty.
    pub(super) fn named(&self, name: &'static str) -> Result<Option<&str>, Problem> {
        let stands = self.0.iter().any(|(n, _)| n == name);
        let value = self.get(name);
        if stands && value.is_none() {
            let message = format!("The query member `{name}` is empty; leave it out where all are meant.");
            return Err(Problem::bad_request(name, message));
        }
        Ok(value)
    }

    /// The value of a member that is a pattern.
    fn pattern(&self, name: &str) -> Result<Option<Bounded>, Problem> {
        let read = self.get(name).map(Bounded::read).transpose();
        read.map_err(|why| Problem::bad_request("pattern", format!("The query member `{name}` {why}.")))
    }

    /// The value of a member that is an instant, or a length of time before `now`.
    pub(super) fn instant(&self, name: &str, now: Instant) -> Result<Option<Instant>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // A plus sign that nobody has encoded comes as a space.
        let read = text.replace(' ', "+").parse::<Instant>().ok();
        let ago = || with_unit(text).ok().and_then(|ago| now.checked_sub_signed(chrono::Duration::from_std(ago).ok()?));
        read.or_else(ago).map(Some).ok_or_else(|| {
            let message = format!(
                "The query member `{name}` is neither an instant such as 2026-11-27T03:00:00Z nor a length of time before now, such as 90m, 24h or 3d."
            );
            Problem::bad_request(time_code(name), message)
        })
    }

    /// From when, until when, and the words for both.
    pub(super) fn window(&self, now: Instant) -> Result<(Instant, Instant, String), Problem> {
        let since = match self.instant("since", now)? {
            Some(since) => since,
            None => with_unit(WINDOW).ok().map_or(now, |ago| now - ago),
        };
        let until = self.instant("until", now)?.unwrap_or(now);
        let words = format!("{} {}", self.get("since").unwrap_or(WINDOW), self.get("until").unwrap_or_default());
        Ok((since, until, words))
    }

    /// The value of a member that is one of some words.
    pub(super) fn word(&self, name: &'static str, words: &[&'static str]) -> Result<Option<&'static str>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        one_of(name, text, words).map(Some)
    }

    /// The value of a member that is a number.
    pub(super) fn number(&self, name: &'static str, (least, most): (usize, usize)) -> Result<Option<usize>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().ok().filter(|n| (least..=most).contains(n)).map(Some).ok_or_else(|| {
            let message = format!("The query member `{name}` must be a number from {least} to {most}.");
            Problem::bad_request(name, message)
        })
    }
}

fn time_code(name: &str) -> &'static str {
    if name == "until" { "until" } else { "since" }
}

fn one_of(name: &'static str, text: &str, words: &[&'static str]) -> Result<&'static str, Problem> {
    words.iter().copied().find(|word| word.eq_ignore_ascii_case(text)).ok_or_else(|| {
        Problem::bad_request(
            name,
            format!("The query member `{name}` has a word that it does not know; it knows: {}.", words.join(", ")),
        )
    })
}

/// What a list is asked for.
pub(in crate::http) fn search(query: &str, now: Instant) -> Result<Search, Problem> {
    searched(&Members::read(query, LIST_MEMBERS)?, now)
}

/// The same, from members that were read before.
pub(super) fn searched(members: &Members, now: Instant) -> Result<Search, Problem> {
    let statuses: Vec<&'static str> = match members.get("status") {
        None => Vec::new(),
        Some(text) => text.split(',').map(|word| one_of("status", word.trim(), &STATUSES)).collect::<Result<_, _>>()?,
    };
    let region = members.get("region").map(|text| {
        Region::parse(text)
            .map_err(|why| Problem::bad_request("region", format!("The query member `region` is not usable: {why}.")))
    });
    let region = region.transpose()?;
    let owing = !statuses.is_empty() && statuses.iter().all(|status| matches!(*status, "waiting" | "owing"));
    let waiting = owing && !statuses.contains(&"owing");
    let row = (!statuses.is_empty() || region.is_some()).then(|| {
        let test = move |row: &Row| {
            (statuses.is_empty() || statuses.iter().any(|status| has(row, status)))
                && region.as_ref().is_none_or(|region| lacked(row, region))
        };
        Arc::new(test) as Test<Row>
    });
    Ok(Search {
        limit: members.number("limit", (1, PAGE.1))?.unwrap_or(PAGE.0),
        cursor: members.get("cursor").map(str::to_owned),
        since: members.instant("since", now)?,
        until: members.instant("until", now)?,
        owing,
        waiting,
        remembered: None,
        subject: subject(members)?,
        row,
    })
}

/// The test that members about the image come to.
fn subject(members: &Members) -> Result<Option<Test<Subject>>, Problem> {
    let [registry, repository, tag] = ["registry", "repository", "tag"].map(|name| members.pattern(name));
    let (registry, repository, tag) = (registry?, repository?, tag?);
    let digest = members.get("digest").map(beginning).transpose()?;
    let companions = members.word("companions", &["all", "none", "only"])?.filter(|word| *word != "all");
    if [&registry, &repository, &tag].iter().all(|name| name.is_none()) && digest.is_none() && companions.is_none() {
        return Ok(None);
    }
    let glob = |pattern: &Option<Bounded>, text: Option<&str>| {
        pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| pattern.matches(text)))
    };
    Ok(Some(Arc::new(move |subject: &Subject| {
        // People know the first digits, with or without the algorithm.
        let digest_is = |whole: &str, wanted: &str| {
            whole.get(..wanted.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(wanted))
        };
        let digits = subject.digest.split_once(':').map_or(subject.digest.as_str(), |(_, digits)| digits);
        let begins = |wanted: &String| digest_is(&subject.digest, wanted) || digest_is(digits, wanted);
        glob(&registry, Some(&subject.registry))
            && glob(&repository, Some(&subject.repository))
            && glob(&tag, subject.tag.as_deref())
            && digest.as_ref().is_none_or(begins)
            && companions.is_none_or(|word| (word == "only") == subject.is_companion())
    })))
}

/// How a digest begins; what no digest begins with is a slip.
fn beginning(text: &str) -> Result<String, Problem> {
    let digits = ["sha256:", "sha512:"].iter().find_map(|algorithm| text.strip_prefix(algorithm)).unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    let message =
        "The query member `digest` is how a digest begins: hex digits, with or without `sha256:` before them.";
    Err(Problem::bad_request("digest", message))
}

/// Whether a push is of a status.
fn has(row: &Row, status: &str) -> bool {
    let some = |test: fn(&Delivery) -> bool| {
        row.settled().is_some_and(|settled| settled.outbox.iter().any(|entry| test(&entry.delivery)))
    };
    match status {
        "owing" => some(|delivery| matches!(delivery, Delivery::Owed { .. })),
        "exhausted" => some(|delivery| matches!(delivery, Delivery::Exhausted { .. })),
        state => State::of(row).word() == state,
    }
}

/// Whether a push waits for a region, misses it, or had it too late.
fn lacked(row: &Row, region: &Region) -> bool {
    row.missing().contains(&region) || row.is_late(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        let now = Instant::UNIX_EPOCH + chrono::Duration::days(20_000);
        search(query, now).map(|_| ()).expect_err(query).message().to_owned()
    }

    #[test]
    fn what_is_unknown_is_answered_with_what_is_known() {
        assert!(refused("stat=waiting").contains("status, registry, repository"));
        assert!(refused("status=gone").contains("waiting, replicated, timed_out"));
        assert!(refused("status=waiting,").contains("exhausted"));
        assert!(refused("companions=some").contains("all, none, only"));
        assert!(refused("limit=0").contains("from 1 to 1000"));
        assert!(refused("limit=1&limit=2").contains("more than once"));
        assert!(refused("since=yesterday").contains("2026-11-27T03:00:00Z"));
        assert!(refused("region=%07").contains("region"));
        for digest in ["zz", "sha256:9g", "md5:00", "1.4.2", "sha256"] {
            assert!(refused(&format!("digest={digest}")).contains("hex digits"), "{digest}");
        }
        assert!(refused(&format!("tag={}", "*".repeat(999))).contains("255"));
        assert!(refused(&format!("repository={}", "{*a,*a,*,**}".repeat(9))).contains("more than 64 patterns"));
        assert!(refused("repository=[").contains("unclosed"));
        assert!(!refused("s3cret=1").contains("s3cret"), "nothing of the query is repeated");
    }

    #[test]
    fn times_are_instants_or_ago() {
        let now = Instant::UNIX_EPOCH + chrono::Duration::days(20_000);
        let since = |text: &str| search(&format!("since={text}"), now).map(|s| s.since).unwrap_or_default();
        assert_eq!(since("24h"), Some(now - chrono::Duration::days(1)));
        assert_eq!(since("1970-01-02T00:00:00Z"), Some(Instant::UNIX_EPOCH + chrono::Duration::days(1)));
        assert_eq!(since("1970-01-02T01:00:00+01:00"), since("1970-01-02T00:00:00Z"));
        assert_eq!(since("1970-01-02T01:00:00%2B01:00"), since("1970-01-02T00:00:00Z"));
        assert_eq!(since(""), None);
        let looks_back =
            |status: &str| search(&format!("code=x&CLIENTID=y&status={status}"), now).map(|s| (s.owing, s.waiting));
        assert!(matches!(looks_back("Waiting,owing"), Ok((true, false))));
        assert!(matches!(looks_back("waiting"), Ok((true, true))));
        assert!(matches!(looks_back("waiting,timed_out"), Ok((false, false))));
    }
}
