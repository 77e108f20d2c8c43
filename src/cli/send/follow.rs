//! Follows pushes by their status documents until each has settled, and says how each ended.

use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::{Args, Push, Screen};
use crate::api;
use crate::cli::client::{Answer, Client};
use crate::cli::table::{millis, span};
use crate::clock::{Clock, Instant, after, until};

/// Pause between two rounds of looking.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long beyond its deadline a push may take to settle: the durable timer's lateness, and room for a restart.
const BEYOND_DEADLINE: Duration = Duration::from_secs(60);

/// How long to look for a push whose status cannot be read.
const UNSEEN: Duration = Duration::from_secs(120);

/// What is known of a push.
enum Seen {
    /// No status yet, and why.
    Nothing(String),
    /// Waiting.
    Running { arrived: usize, missing: Vec<String>, deadline: Option<Instant> },
    /// Over.
    Settled { outcome: String, took_ms: i64 },
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
            Seen::Settled { outcome, took_ms } => {
                (format!("{} after {}", outcome.replace('_', " "), millis(*took_ms)), Some(outcome.as_str()))
            }
            Seen::Running { missing, .. } => (format!("still waiting for {}", missing.join(", ")), None),
            Seen::Nothing(why) if push.status.is_some() => (format!("unknown: {why}"), None),
            Seen::Nothing(_) => ("not started: no webhook of it was accepted".to_owned(), None),
        };
        let expected = args.scenario.expected();
        // What was begun by an earlier run may have timed out meanwhile; it is everywhere all the same.
        let good = outcome == Some(expected) || (outcome == Some("recovered") && expected == "replicated");
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
    let Ok(document) = answer.document::<api::Push>() else {
        return Ok(Seen::Nothing("its status is not the expected document".into()));
    };
    let status = document.custom_status;
    Ok(match document.output {
        None => {
            Seen::Running { arrived: status.arrived(), missing: status.missing, deadline: status.deadline.parse().ok() }
        }
        Some(output) => {
            let outcome = if output.recovered.is_some() { "recovered".to_owned() } else { output.outcome };
            Seen::Settled { outcome, took_ms: output.duration_ms }
        }
    })
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
