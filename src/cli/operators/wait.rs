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
use crate::api::{Push, RegionReport, State, Status, time};
use crate::cli::screen::Screen;
use crate::cli::table::millis;
use crate::clock::{Instant, after, until, within};
use crate::config::timespan::{self, with_unit};
use crate::push::Image;

pub(super) const HELP: &str = "\
It goes on after a time-out of the service's own, since a region may be late. By tag alone it waits for the newest push of the
tag since --since; with a digest, a whole one, for that image, whenever it was pushed. Progress goes to standard error.

Examples:
  global-webhook wait contoso.azurecr.io/shop/cart:1.4.2@sha256:9f2c… --timeout 10m
  global-webhook wait contoso.azurecr.io/shop/cart:1.4.2 --timeout 10m --json > push.json

Exit codes:
  0  the image is in every region, in time or late
  1  it did not work: no connection for the whole time, a wrong key
  2  wrong arguments: that is no image, or it names no registry
  3  not everywhere by --timeout; the missing regions are named
  4  never seen: no region reported it within --appear; or purged meanwhile
  5  superseded: the tag carries another image by now";

/// Longest time for which the service is asked to hold an answer: proxies end calls that are silent for a minute.
const HOLD_MAX: Duration = Duration::from_secs(50);

/// Time for the last look, once the time is over.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// Pause before a service that could not be reached is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// Pause after an answer that came at once and says nothing new, as those of a service that is about to end.
const PAUSE_NO_NEWS: Duration = Duration::from_secs(1);

/// Only the service knows whether one registry stands for all its webhooks; so an image without one is no wrong argument before
/// the service has said so.
const NO_REGISTRY: &str = "The image names no registry, which is right only where the service's setting WebhookRegistry \
                           stands for all; it says so once it answers.";

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

/// A wait that is under way, and what it knows.
struct Wait<'a> {
    args: &'a Args,
    context: &'a mut Context,
    /// From when on pushes count.
    since: Option<String>,
    /// When it ends, and when it ends if nothing was seen until then.
    ends: (Instant, Instant),
    /// The push as last seen, and its document.
    seen: Option<(Push, String)>,
    /// Whether the service has answered at all.
    is_reached: bool,
    /// Whether the last call came to nothing, and how long to pause after the next one that does.
    is_lost: bool,
    pause: Duration,
    told: Told,
}

/// What was told of a push.
#[derive(Default)]
struct Told {
    push: String,
    regions: BTreeSet<String>,
    timed_out: bool,
}

pub(super) async fn run(args: &Args, context: &mut Context) -> Result<ExitCode, Trouble> {
    let began = context.clock.now();
    let mut wait = Wait {
        args,
        context,
        since: since(args, began),
        ends: (after(began, args.timeout), after(began, args.appear.min(args.timeout))),
        seen: None,
        is_reached: false,
        is_lost: false,
        pause: PAUSE.0,
        told: Told::default(),
    };
    loop {
        let (now, before, was_lost) = (wait.context.clock.now(), wait.arrived(), wait.is_lost);
        let left = until(now, if wait.seen.is_some() { wait.ends.0 } else { wait.ends.1 });
        match wait.look(now, left).await {
            // The time ended first, and the last look is still to come.
            None => continue,
            Some(Err(trouble)) => {
                if let Some(code) = wait.miss(trouble).await? {
                    return Ok(code);
                }
                continue;
            }
            // What was described before was seen.
            Some(Ok(None)) if wait.seen.is_some() => return Ok(purged(wait.args, wait.context)),
            Some(Ok(seen)) => wait.take(seen),
        }
        if let Some(code) = wait.end(left) {
            return Ok(code);
        }
        let then = wait.context.clock.now();
        if !was_lost && wait.arrived() == before && until(now, then) < PAUSE_NO_NEWS {
            wait.context.clock.sleep(PAUSE_NO_NEWS.min(until(then, wait.ends.0))).await;
        }
    }
}

impl Wait<'_> {
    /// One call for the push, held until there is news: `None` when the time that is `left` ended before it did. Without any
    /// time left it is the last one, and short.
    async fn look(&self, now: Instant, left: Duration) -> Option<Result<Option<(Push, String)>, Trouble>> {
        // What was lost is asked at once how things are.
        let hold = if self.is_lost { Duration::ZERO } else { left.min(self.hold_max(now)) };
        let seconds = (hold.as_secs() + u64::from(hold.subsec_nanos() > 0)).to_string();
        let (image, known) = (self.args.image.to_string(), self.arrived().to_string());
        let mut query = vec![("image", image.as_str()), ("wait", &seconds), ("for", "everywhere"), ("arrived", &known)];
        query.extend(self.since.as_deref().map(|since| ("since", since)));
        let client = &self.context.client;
        let budget = if left.is_zero() { LAST_LOOK } else { left };
        let call = client.get_held(&["pushes"], &query, hold);
        let Some(answer) = within(&*self.context.clock, budget, call).await else {
            let text = format!("{} did not answer in time.", client.shown());
            return left.is_zero().then_some(Err(Trouble { kind: Kind::Passing, text }));
        };
        Some(match answer.and_then(|answer| Ok((answer.document::<Push>()?, answer.body))) {
            Ok(seen) => Ok(Some(seen)),
            Err(trouble) if trouble.kind == Kind::Unknown => Ok(None),
            Err(trouble) => Err(trouble),
        })
    }

    /// How long an answer may be held: no longer than until the push times out, which is told too and is no news to the
    /// service.
    fn hold_max(&self, now: Instant) -> Duration {
        let waiting =
            self.seen.iter().map(|(push, _)| &push.custom_status).find(|status| status.state == State::Waiting);
        let deadline = waiting.and_then(|status| status.deadline.parse().ok()).map(|deadline| until(now, deadline));
        match deadline {
            Some(left) if !left.is_zero() => HOLD_MAX.min(left + PAUSE_NO_NEWS),
            Some(_) | None => HOLD_MAX,
        }
    }

    /// How many regions have reported, as far as is known.
    fn arrived(&self) -> usize {
        self.seen.as_ref().map_or(0, |(push, _)| push.custom_status.arrived())
    }

    /// A call came to nothing: pauses, unless that is the end.
    async fn miss(&mut self, trouble: Trouble) -> Result<Option<ExitCode>, Trouble> {
        match trouble.kind {
            Kind::Passing => {}
            // An address that has answered is right; a proxy says so while the service behind it starts.
            Kind::Elsewhere if self.is_reached => {}
            Kind::Elsewhere | Kind::Asked | Kind::Unknown | Kind::Refused | Kind::Final => return Err(trouble),
        }
        let left = until(self.context.clock.now(), self.ends.0);
        if left.is_zero() {
            let Some((push, document)) = self.seen.take() else { return Err(trouble) };
            let known = words(&push.custom_status, self.args);
            let text = format!("{known} So it was when the service answered last. {}", trouble.text);
            return Ok(Some(ended(3, &text, &document, self.context)));
        }
        if !self.is_lost {
            let why = trouble.text.trim_end_matches('.');
            self.context.screen.note(&format!("{why}; trying again until {}.", time(self.ends.0)));
        }
        if self.args.image.registry.is_none() && !self.is_reached && !self.is_lost {
            self.context.screen.note(NO_REGISTRY);
        }
        self.is_lost = true;
        self.context.clock.sleep(self.pause.min(left)).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(None)
    }

    /// The service has answered: tells what is new.
    fn take(&mut self, seen: Option<(Push, String)>) {
        if self.is_lost {
            self.context.screen.note("The service answers again.");
        }
        (self.is_reached, self.is_lost, self.pause) = (true, false, PAUSE.0);
        self.seen = seen;
        if let Some((push, _)) = &self.seen {
            self.told.tell(push, &mut self.context.screen);
        }
    }

    /// The end, if this is one; `left` is the time there was before the last look.
    fn end(&mut self, left: Duration) -> Option<ExitCode> {
        let Some((push, document)) = &self.seen else {
            return left.is_zero().then(|| never_seen(self.args, self.context));
        };
        let status = &push.custom_status;
        let code = match status.state {
            State::Replicated | State::Recovered => 0,
            State::Superseded => 5,
            State::Waiting | State::TimedOut if until(self.context.clock.now(), self.ends.0).is_zero() => 3,
            State::Waiting | State::TimedOut => return None,
        };
        Some(ended(code, &words(status, self.args), document, self.context))
    }
}

impl Told {
    /// Tells what is new, each thing once.
    fn tell(&mut self, push: &Push, screen: &mut Screen) {
        let status = &push.custom_status;
        if self.push != push.instance_id {
            if !self.push.is_empty() {
                screen.note("A newer push of it has come, and is waited for instead.");
            }
            *self = Self { push: push.instance_id.clone(), ..Self::default() };
            let all: Vec<&str> = status.regions.keys().map(String::as_str).collect();
            let words =
                format!("Push {}, opened {}, waits for {}.", push.instance_id, push.created_time, all.join(", "));
            screen.note(&words);
        }
        let is_new =
            |(name, report): &(&String, &RegionReport)| report.arrived.is_some() && !self.regions.contains(*name);
        let mut new: Vec<_> = status.regions.iter().filter(is_new).collect();
        new.sort_by_key(|(_, report)| report.lag_ms);
        for (name, report) in new {
            self.regions.insert(name.clone());
            let count = self.regions.len();
            let lag = report.lag_ms.filter(|_| count > 1).map(|lag| format!(", {} after the first", millis(lag)));
            let how = if report.by_hand { ", reported by hand" } else { "" };
            let of = status.regions.len();
            screen.note(&format!("{name} has it ({count} of {of}){}{how}", lag.unwrap_or_default()));
        }
        if status.state == State::TimedOut && !self.timed_out {
            self.timed_out = true;
            let missing = status.missing.join(", ");
            screen.note(&format!("The service's own time-out has passed without {missing}; waiting goes on."));
        }
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

/// How it ended, in words.
fn words(status: &Status, args: &Args) -> String {
    let all = status.regions.len();
    match status.state {
        State::Replicated | State::Recovered => {
            let how = if status.state == State::Recovered { "Recovered" } else { "Replicated" };
            format!("{how}: {all} of {all} regions have it, the last {} after the first.", millis(status.lag_ms))
        }
        State::Superseded => "Superseded: the tag carries another image by now.".to_owned(),
        State::Waiting | State::TimedOut => {
            let (some, missing) = (status.arrived(), status.missing.join(", "));
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
        context.screen.note(words);
    } else {
        context.screen.error(words);
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

fn purged(args: &Args, context: &mut Context) -> ExitCode {
    context.screen.error(&format!(
        "It was purged meanwhile: the service knows of no push of {} any more, so nobody can say whether it is in every region.",
        args.image
    ));
    ExitCode::from(4)
}
