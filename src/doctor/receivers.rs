//! Receivers, as far as a connection from here tells.

use reqwest::Url;

use super::catalogue::Id;
use super::report::{Check, skip};
use super::{Gap, Known};

/// What came of a connection to a receiver's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The receiver's name.
    pub target: String,
    /// Scheme, host and port.
    pub origin: String,
    /// Why there is none.
    pub trouble: Option<String>,
}

/// Name and origin of the receivers, read from the service's lines about them, such as
/// `deploy: acr to https://flux.example/…, signed, of replicated`. A line that is none of this version's is left out.
#[must_use]
pub fn receivers(lines: &[String]) -> Vec<(String, Url)> {
    let each = lines.iter().filter_map(|line| {
        let (name, rest) = line.rsplit_once(": ")?;
        let (_, rest) = rest.split_once(" to ")?;
        let origin = rest.split([',', '…']).next()?;
        let url = Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        Some((name.to_owned(), url))
    });
    each.collect()
}

pub(super) fn judge(connected: &Known<Vec<Connected>>, wants_test: bool, checks: &mut Vec<Check>) {
    match connected {
        Err(gap) => skip(checks, gap, &[Id::ReceiversReached]),
        Ok(all) if all.is_empty() => checks.push(Check::ok(Id::ReceiversReached, "There is none.")),
        Ok(all) => checks.extend(all.iter().map(|one| {
            let origin = &one.origin;
            let check = match &one.trouble {
                None => Check::ok(Id::ReceiversReached, format!("{origin} takes connections.")),
                Some(why) => Check::warning(Id::ReceiversReached, format!("{origin}: {why}")),
            };
            check.about(&one.target)
        })),
    }
    let action = Id::ReceiversTest.entry().action;
    let gap = match wants_test {
        true => Gap::unasked("The service has no call that sends a test notification.", action),
        false => Gap::unasked("--test-notification was not given, and the service has no call for it yet.", action),
    };
    skip(checks, &gap, &[Id::ReceiversTest]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_are_read_from_their_lines() {
        let lines = [
            "deploy: acr to https://flux.example/…, signed, of replicated",
            "ops: to: x: cloudevents to http://127.0.0.1:9000/, unsigned, of timed_out, companions too",
            "something else",
            "odd: acr to ftp://x/, signed",
        ];
        let found = receivers(&lines.map(str::to_owned));
        let found: Vec<_> = found.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
        assert_eq!(found, [("deploy", "https://flux.example/"), ("ops: to: x", "http://127.0.0.1:9000/")]);
    }
}
