//! `wait`: blocks until an image is in every region, for pipelines.
//!
//! Guarantees
//! - *Told at once*: the call for the push is held by the service, which answers the moment a region reports.
//! - *Not knowing is not absence*: a service that cannot be reached says nothing about an image. It is asked again until
//!   `--timeout`; that it was lost is said once for each time.
//! - *One end*: the exit code says which, and nothing but the end is written to standard output.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use super::{Common, Context, Kind, Trouble};
use crate::api::{Push, State, Status, time};
use crate::cli::table::{cell, millis};
use crate::clock::{Instant, after, until, within};
use crate::config::timespan::{self, with_unit};
use crate::push::Image;

pub(super) const HELP: &str = "\
It goes on after a time-out of the service's own, since a region may be late. By tag alone it waits for the newest push of the
tag since --since; with a digest, for that image, whenever it was pushed. Progress goes to standard error.

Examples:
  global-webhook wait contoso.azurecr.io/shop/cart:1.4.2@sha256:9f2c… --timeout 10m
  global-webhook wait contoso.azurecr.io/shop/cart:1.4.2 --timeout 10m --json > push.json

Exit codes:
  0  the image is in every region, in time or late
  1  it did not work: no connection for the whole time, a wrong key
  2  wrong arguments: that is no image, or it names no registry
  3  not everywhere by --timeout; the missing regions are named
  4  never seen: no region reported it within --appear
  5  superseded: the tag carries another image by now";

/// Longest time for which the service is asked to hold an answer: proxies end calls that are silent for a minute.
const HOLD_MAX: Duration = Duration::from_secs(50);

/// Time for the last look, once the time is over.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Pause before a service that could not be reached is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// Pause after an answer that came at once and says nothing new, as those of a service that is about to end.
const PAUSE_NO_NEWS: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Args {
    /// registry/repository:tag@digest; tag or digest may be left out
    image: Image,
    /// Longest time to wait, such as 90s, 10m or 1h
    #[arg(long, default_value = "10m", value_parser = with_unit)]
    timeout: Duration,
    /// Longest time to wait for the first report of the image
    #[arg(long, default_value = "2m", value_parser = with_unit)]
    appear: Duration,
    /// Only a push opened at this instant or later, or so long before now [default by tag alone: 15m]
    #[arg(long)]
    since: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

/// How long a push of a tag may have been there before the wait for it began: a build's other steps come between.
const SINCE: Duration = Duration::from_secs(15 * 60);

/// What is known so far.
struct Progress {
    /// The push as last seen, and its document.
    seen: Option<(Box<Push>, String)>,
    /// Whether the service has answered at all.
    reached: bool,
    /// Why the last call came to nothing.
    lost: Option<String>,
    /// Push and regions that were told of, and whether the service's time-out was.
    told: (String, BTreeSet<String>, bool),
}

pub(super) async fn run(args: &Args, context: &mut Context) -> Result<ExitCode, Trouble> {
    let began = context.clock.now();
    let (end, appear_end) = (after(began, args.timeout), after(began, args.appear.min(args.timeout)));
    let since = since(args, began);
    let image = args.image.to_string();
    let mut progress = Progress { seen: None, reached: false, lost: None, told: Default::default() };
    let mut pause = PAUSE.0;
    loop {
        let now = context.clock.now();
        let left = until(now, if progress.seen.is_some() { end } else { appear_end });
        let arrived = progress.seen.as_ref().map_or(0, |(push, _)| arrived(&push.custom_status));
        // What was lost is asked at once how things are.
        let back = progress.lost.is_some();
        let hold = if back { Duration::ZERO } else { left.min(hold_max(progress.seen.as_ref(), now)) };
        let seconds = hold.as_secs() + u64::from(hold.subsec_nanos() > 0);
        let (wait, known) = (seconds.to_string(), arrived.to_string());
        let mut query = vec![("image", image.as_str()), ("wait", &wait), ("for", "everywhere"), ("arrived", &known)];
        query.extend(since.as_deref().map(|since| ("since", since)));
        let call = context.client.get_held(&["pushes"], &query, hold);
        let budget = if left.is_zero() { LAST_LOOK } else { left };
        let answer = match within(&*context.clock, budget, call).await {
            Some(answer) => answer.and_then(|answer| Ok(Some((answer.document::<Push>()?, answer.body)))),
            // The time ended first, and the last look is still to come.
            None if !left.is_zero() => continue,
            None => Err(passing(format!("{} did not answer in time.", context.client.shown()))),
        };
        let took = until(now, context.clock.now());
        let answer = match answer {
            Err(trouble) if trouble.kind == Kind::Unknown => Ok(None),
            // An address that has answered is right; a proxy says so while the service behind it starts.
            Err(trouble) if trouble.kind == Kind::Elsewhere && progress.reached => Err(passing(trouble.text)),
            other => other,
        };
        match answer {
            Err(trouble) if trouble.kind != Kind::Passing => return Err(trouble),
            Err(trouble) => {
                if until(context.clock.now(), end).is_zero() {
                    return end_unreached(args, context, progress, trouble);
                }
                if progress.lost.is_none() {
                    let why = trouble.text.trim_end_matches('.');
                    context.screen.note(&format!("{why}; trying again until {}.", time(end)));
                }
                progress.lost = Some(trouble.text);
                context.clock.sleep(pause.min(until(context.clock.now(), end))).await;
                pause = (pause * 2).min(PAUSE.1);
                continue;
            }
            Ok(seen) => {
                if progress.lost.take().is_some() {
                    context.screen.note("The service answers again.");
                }
                (progress.reached, pause) = (true, PAUSE.0);
                progress.seen = seen.map(|(push, document)| (Box::new(push), document));
            }
        }
        let Some((push, document)) = &progress.seen else {
            if left.is_zero() {
                return Ok(never_seen(args, context));
            }
            if took < PAUSE_NO_NEWS && !back {
                context.clock.sleep(PAUSE_NO_NEWS.min(left)).await;
            }
            continue;
        };
        let status = &push.custom_status;
        progress.told = tell(push, progress.told, context);
        let code = match status.state {
            State::Replicated | State::Recovered => 0,
            State::Superseded => 5,
            State::Waiting | State::TimedOut if until(context.clock.now(), end).is_zero() => 3,
            State::Waiting | State::TimedOut => {
                if took < PAUSE_NO_NEWS && !back && self::arrived(status) == arrived {
                    context.clock.sleep(PAUSE_NO_NEWS.min(until(context.clock.now(), end))).await;
                }
                continue;
            }
        };
        let words = words(status, args);
        let document = document.clone();
        return Ok(ended(code, &words, &document, context));
    }
}

/// From when on pushes count, as the service is asked: always the same instant, however long the wait.
fn since(args: &Args, began: Instant) -> Option<String> {
    let ago = |ago| chrono::Duration::from_std(ago).ok().and_then(|ago| began.checked_sub_signed(ago)).map(time);
    match &args.since {
        Some(text) => with_unit(text).map_or_else(|_| Some(text.clone()), ago),
        None if args.image.digest.is_none() => ago(SINCE),
        None => None,
    }
}

/// How long an answer may be held: no longer than until the push times out, which is told too and is no news to the service.
fn hold_max(seen: Option<&(Box<Push>, String)>, now: Instant) -> Duration {
    let waiting = seen.map(|(push, _)| &push.custom_status).filter(|status| status.state == State::Waiting);
    let deadline = waiting.and_then(|status| status.deadline.parse().ok()).map(|deadline| until(now, deadline));
    match deadline {
        Some(left) if !left.is_zero() => HOLD_MAX.min(left + PAUSE_NO_NEWS),
        Some(_) | None => HOLD_MAX,
    }
}

fn passing(text: String) -> Trouble {
    Trouble { kind: Kind::Passing, text }
}

/// How many of the regions that a push waits for have reported.
fn arrived(status: &Status) -> usize {
    status.regions.values().filter(|region| region.arrived.is_some()).count()
}

/// Tells what is new, each thing once, and returns what has been told.
fn tell(
    push: &Push,
    (mut id, mut regions, mut timed_out): (String, BTreeSet<String>, bool),
    context: &mut Context,
) -> (String, BTreeSet<String>, bool) {
    let status = &push.custom_status;
    if id != push.instance_id {
        (id, regions, timed_out) = (push.instance_id.clone(), BTreeSet::new(), false);
        let all: Vec<&str> = status.regions.keys().map(String::as_str).collect();
        context.screen.note(&cell(&format!("Push {id}, opened {}, waits for {}.", push.created_time, all.join(", "))));
    }
    let mut new: Vec<_> =
        status.regions.iter().filter(|(name, report)| report.arrived.is_some() && !regions.contains(*name)).collect();
    new.sort_by_key(|(_, report)| report.lag_ms);
    for (name, report) in new {
        regions.insert(name.clone());
        let lag = report.lag_ms.filter(|_| regions.len() > 1).map(|lag| format!(", {} after the first", millis(lag)));
        let how = if report.by_hand { ", reported by hand" } else { "" };
        let count = format!("({} of {})", regions.len(), status.regions.len());
        context.screen.note(&cell(&format!("{name} has it {count}{}{how}", lag.unwrap_or_default())));
    }
    if status.state == State::TimedOut && !timed_out {
        timed_out = true;
        let missing = status.missing.join(", ");
        context
            .screen
            .note(&cell(&format!("The service's own time-out has passed without {missing}; waiting goes on.")));
    }
    (id, regions, timed_out)
}

/// How it ended, in words.
fn words(status: &Status, args: &Args) -> String {
    let all = status.regions.len();
    match status.state {
        State::Replicated => {
            format!("Replicated: {all} of {all} regions have it, the last {} after the first.", millis(status.lag_ms))
        }
        State::Recovered => {
            format!("Recovered: {all} of {all} regions have it, the last {} after the first.", millis(status.lag_ms))
        }
        State::Superseded => "Superseded: the tag carries another image by now.".to_owned(),
        State::Waiting | State::TimedOut => {
            let (some, missing) = (arrived(status), status.missing.join(", "));
            format!(
                "Not everywhere within {}: {some} of {all} regions have it, missing {missing}.",
                timespan::words(args.timeout)
            )
        }
    }
}

/// The end: words for people, the document for programs.
fn ended(code: u8, words: &str, document: &str, context: &mut Context) -> ExitCode {
    if code == 0 {
        context.screen.note(&cell(words));
    } else {
        context.screen.error(&cell(words));
    }
    if context.json {
        context.show(document, |_| Vec::new());
    }
    ExitCode::from(code)
}

fn never_seen(args: &Args, context: &mut Context) -> ExitCode {
    let within = timespan::words(args.appear.min(args.timeout));
    context.screen.error(&format!(
        "Never seen: no region reported {} within {within}. Registry, repository, tag and digest must be those of the \
         registry's webhooks; `global-webhook list` shows what was reported.",
        args.image
    ));
    ExitCode::from(4)
}

/// The time is over and the service cannot be reached: what was known last.
fn end_unreached(
    args: &Args,
    context: &mut Context,
    progress: Progress,
    trouble: Trouble,
) -> Result<ExitCode, Trouble> {
    match progress.seen {
        Some((push, document)) => {
            let words = format!(
                "{} So it was when the service answered last. {}",
                words(&push.custom_status, args),
                trouble.text
            );
            Ok(ended(3, &words, &document, context))
        }
        None => Err(trouble),
    }
}
