//! Follows pushes by their status documents until each has settled, and says how each ended.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::{Args, Push, Screen};
use crate::cli::client::{Answer, Client};
use crate::cli::table::span;
use crate::clock::{Clock, Instant, after, until};

/// Pause between two rounds of looking.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long beyond its deadline a push may take to settle: the durable timer's lateness, and room for a restart.
const BEYOND_DEADLINE: Duration = Duration::from_secs(60);

/// How long to look for a push whose status cannot be read.
const UNSEEN: Duration = Duration::from_secs(120);

/// A status document, as far as it is of use here; made to be read even if members are added or missing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    runtime_status: String,
    custom_status: Option<Custom>,
    output: Option<Output>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Custom {
    outcome: Option<String>,
    deadline: Option<Instant>,
    regions: BTreeMap<String, Reported>,
    missing: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reported {
    arrived: Option<Instant>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Output {
    outcome: Option<String>,
    /// From the first webhook to settling.
    duration_ms: Option<u64>,
}

/// What is known of a push.
enum Seen {
    /// No status yet, and why.
    Nothing(String),
    /// Waiting.
    Running { arrived: usize, missing: Vec<String>, deadline: Option<Instant> },
    /// Over.
    Settled { outcome: String, took: Option<Duration> },
}

/// Looks at all pushes until none is running; true when each ended as the scenario expects.
pub(super) async fn until_settled(
    args: &Args,
    service: &Client,
    pushes: &[Push],
    clock: &dyn Clock,
    screen: &mut Screen,
) -> Result<bool, String> {
    let begun = clock.now();
    let mut seen: Vec<Seen> = pushes.iter().map(|_| Seen::Nothing("not looked at yet".into())).collect();
    loop {
        for (push, seen) in pushes.iter().zip(&mut seen) {
            if let (Some(url), Seen::Nothing(_) | Seen::Running { .. }) = (&push.status, &*seen) {
                match service.call(Method::GET, url, None).await {
                    Ok(answer) => *seen = read(service, &answer)?,
                    // A service that restarts is no reason to stop looking.
                    Err(trouble) => *seen = Seen::Nothing(trouble.text),
                }
            }
        }
        let now = clock.now();
        let open: Vec<(&Push, &Seen)> = pushes
            .iter()
            .zip(&seen)
            .filter(|(push, seen)| push.status.is_some() && !matches!(seen, Seen::Settled { .. }))
            .collect();
        let Some((push, first)) = open.first() else { break };
        let (news, passing) = first.words(now);
        let settled = seen.iter().filter(|s| matches!(s, Seen::Settled { .. })).count();
        screen.progress(&format!("{settled} of {} settled; {}: {news}", pushes.len(), push.image), &passing);
        let limit = |seen: &Seen| match (args.timeout, seen) {
            (Some(timeout), _) => after(begun, timeout),
            (None, Seen::Running { deadline: Some(deadline), .. }) => after(*deadline, BEYOND_DEADLINE),
            (None, _) => after(begun, UNSEEN),
        };
        if open.iter().all(|(_, seen)| now >= limit(seen)) {
            break;
        }
        clock.sleep(INTERVAL).await;
    }
    let mut all_good = true;
    for (push, seen) in pushes.iter().zip(&seen) {
        let (words, outcome) = match seen {
            Seen::Settled { outcome, took } => {
                let took = took.map(|t| format!(" after {}", span(t))).unwrap_or_default();
                (format!("{}{took}", outcome.replace('_', " ")), Some(outcome.as_str()))
            }
            Seen::Running { missing, .. } => (format!("still waiting for {}", missing.join(", ")), None),
            Seen::Nothing(why) if push.status.is_some() => (format!("unknown: {why}"), None),
            Seen::Nothing(_) => ("not started: no webhook of it was accepted".to_owned(), None),
        };
        let expected = args.scenario.expected();
        let good = outcome == Some(expected);
        let remark = if good { String::new() } else { format!(" (expected: {})", expected.replace('_', " ")) };
        screen.line(&format!("{}: {words}{remark}", push.image));
        all_good &= good;
    }
    Ok(all_good)
}

/// Reads a status answer. Fails only where every further look would fail too.
fn read(service: &Client, answer: &Answer) -> Result<Seen, String> {
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(service.refusal(answer).text),
        // A webhook that was put on the queue, because rows could not be written, has a row a little later.
        StatusCode::NOT_FOUND => return Ok(Seen::Nothing("the service does not know it (yet)".into())),
        other => return Ok(Seen::Nothing(format!("its status answers {}", other.as_u16()))),
    }
    let Ok(document) = serde_json::from_str::<Document>(&answer.body) else {
        return Ok(Seen::Nothing("its status is not the expected document".into()));
    };
    let custom = document.custom_status.unwrap_or_default();
    if document.runtime_status == "Running" {
        let arrived = custom.regions.values().filter(|r| r.arrived.is_some()).count();
        return Ok(Seen::Running { arrived, missing: custom.missing, deadline: custom.deadline });
    }
    let output = document.output.unwrap_or_default();
    let outcome = output.outcome.or(custom.outcome);
    let took = output.duration_ms.map(Duration::from_millis);
    Ok(Seen::Settled { outcome: outcome.unwrap_or(document.runtime_status), took })
}

impl Seen {
    /// What there is to say, and what changes all the time.
    fn words(&self, now: Instant) -> (String, String) {
        match self {
            Self::Nothing(why) => (why.clone(), String::new()),
            Self::Settled { outcome, .. } => (outcome.clone(), String::new()),
            Self::Running { arrived, missing, deadline } => {
                let all = arrived + missing.len();
                let left = deadline.map(|d| format!(", {} left", span(until(now, d)))).unwrap_or_default();
                (format!("{arrived} of {all} regions, missing {}", missing.join(", ")), left)
            }
        }
    }
}
