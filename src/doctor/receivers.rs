//! Receivers, as far as a connection from here tells.

use reqwest::Url;

use super::Known;
use super::catalogue::Id;
use super::report::{Check, skip};
use crate::api::Tested;

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

pub(super) fn judge(connected: &Known<Vec<Connected>>, tested: &Known<Vec<Tested>>, checks: &mut Vec<Check>) {
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
    match tested {
        Err(gap) => {
            checks.push(Check::unread(Id::ReceiversTest, "Whether receivers take notifications is not known.", gap))
        }
        Ok(all) if all.is_empty() => checks.push(Check::ok(Id::ReceiversTest, "There is none.")),
        Ok(all) => checks.extend(all.iter().map(judge_test)),
    }
}

fn judge_test(tested: &Tested) -> Check {
    let (id, ms) = (Id::ReceiversTest, tested.duration_ms);
    let reason = tested.reason.as_deref().unwrap_or("It did not take it.");
    // What looks for an image finds none in a test.
    let wants_image = matches!(tested.format.as_str(), "acr" | "cloudevents") && reason.starts_with("400");
    let check = match tested.status {
        Some(status) if tested.confirmed => Check::ok(id, format!("It took it with {status}, within {ms} ms.")),
        _ if wants_image => Check::warning(id, format!("{reason}, after {ms} ms.")).because(
            "Argo CD Image Updater and Keel answer that to every test, since it names no image; any other refuses what it is sent.",
            "See by the next image whether it is told: `receivers.told`.",
        ),
        _ => Check::fault(id, format!("{reason}, after {ms} ms.")),
    };
    check.about(&tested.target)
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
