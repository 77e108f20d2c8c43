//! `send`: plays the registry. Sends the regional webhooks of one or more pushes to ImagePush and follows what becomes of
//! them; takes the place of the test scripts of the C# original.
//!
//! What it sends has the registry's shape, with fresh ids and digests, so that two runs do not correlate with each other unless
//! they are given one digest. The exit code says whether every push settled as its scenario expects.

mod follow;
mod plan;
mod webhooks;

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Url;

use super::client::{Client, Connection};
pub use super::screen::Screen;
use crate::clock::{Clock, SystemClock};
use crate::config::Source;
use crate::config::timespan::with_unit;
use crate::push::Region;
use crate::push::image::is_digest;
use plan::Plan;
use webhooks::Reply;

/// The registry gives up on an answer after this long.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);

/// The end of the command's help.
pub(super) const HELP: &str = "\
With --digest, --image and --tag of an earlier run its pushes are gone on with, as by a region that reports later.

Examples:
  global-webhook send --scenario simple
  global-webhook send --scenario timeout --image shop/cart --tag 1.4.2 --no-follow
  global-webhook send --scenario timeout --count 20 --no-follow --digest sha256:…
  global-webhook send --regions westus --count 20 --digest sha256:…
  global-webhook send --url https://app.azurewebsites.net --key @key --count 10 --scenario interleaved

Exit codes:
  0  every push settled as the scenario expects
  1  one did not, or it did not work
  2  wrong arguments";

/// Arguments of `send`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to.
    #[command(flatten)]
    pub service: Connection,

    /// What to send.
    #[arg(long, value_enum, default_value_t = Scenario::Simple)]
    pub scenario: Scenario,

    /// Regions to send for, separated by commas [default: those the service is set to wait for].
    #[arg(long, value_delimiter = ',', value_parser = parse_region)]
    pub regions: Vec<String>,

    /// Pause between two webhooks, such as 500ms, 1s or 2m.
    #[arg(long, default_value = "0s", value_parser = with_unit)]
    pub delay: Duration,

    /// Number of pushes [default: 1; 3 when interleaved].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: Option<u32>,

    /// Repository of the image.
    #[arg(long, default_value = "samples/hello-world")]
    pub image: String,

    /// Tag of the image; with several pushes, each has its number behind it.
    #[arg(long, default_value = "1.0")]
    pub tag: String,

    /// Digest of the image, `sha256:` and 64 hex digits: that of an earlier run completes its pushes, unless the service tells
    /// pushes apart by id [default: a new one for each push].
    #[arg(long, value_parser = parse_digest)]
    pub digest: Option<String>,

    /// Login server of the registry.
    #[arg(long, default_value = "contoso.azurecr.io")]
    pub registry: String,

    /// Only send; do not wait for the outcome.
    #[arg(long)]
    pub no_follow: bool,

    /// Longest time to wait for the outcomes, such as 90s [default: a minute beyond the pushes' deadlines].
    #[arg(long, value_parser = with_unit, conflicts_with = "no_follow")]
    pub timeout: Option<Duration>,
}

/// What to send, and what should come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// Every region of the first push, then of the next; each push should replicate.
    Simple,
    /// The webhooks of all pushes in a shuffled order; each push should replicate.
    Interleaved,
    /// Every region but the last; each push should time out.
    Timeout,
}

impl Scenario {
    /// The outcome of a push as the status answer spells it.
    fn expected(self) -> &'static str {
        match self {
            Self::Simple | Self::Interleaved => "replicated",
            Self::Timeout => "timed_out",
        }
    }
}

/// A push while it is sent and followed.
struct Push {
    image: plan::Image,
    /// Where its status is; `None` until a webhook of it has been accepted.
    status: Option<Url>,
    /// Its id as the first answer gave it.
    id: Option<String>,
    /// What went wrong with its webhooks.
    problems: u32,
}

/// Runs the command in a runtime of its own.
#[must_use]
pub fn main(mut args: Args, environment: &Source) -> ExitCode {
    if let Err(why) = args.service.complete(environment) {
        return super::ended(2, &why);
    }
    match super::runtime() {
        Ok(runtime) => runtime.block_on(run_on(&args, &SystemClock, &mut Screen::of_the_process())),
        Err(why) => super::ended(1, &why),
    }
}

/// Sends, follows and prints. The exit code is 0 when every push settled as the scenario expects (with `--no-follow`: when
/// every webhook was accepted), 1 otherwise.
pub async fn run_on(args: &Args, clock: &dyn Clock, screen: &mut Screen) -> ExitCode {
    match send(args, clock, screen).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            screen.error(&problem);
            ExitCode::FAILURE
        }
    }
}

async fn send(args: &Args, clock: &dyn Clock, screen: &mut Screen) -> Result<bool, String> {
    let service = Client::new(&args.service)?;
    let regions = if args.regions.is_empty() {
        let health = webhooks::health(&service).await?;
        let (regions, wait) = (health.regions.join(", "), &health.timeout);
        screen.line(&format!("The service waits for {regions}; a push waits {wait}."));
        health.regions
    } else {
        args.regions.clone()
    };
    let Plan { images, arrivals } = Plan::of(args, &regions, plan::seed())?;
    if args.scenario == Scenario::Interleaved {
        let order: Vec<String> = arrivals.iter().map(|a| format!("{} {}", a.push + 1, a.region)).collect();
        screen.line(&format!("Order (push, region): {}.", order.join(", ")));
    }
    let mut pushes: Vec<Push> =
        images.into_iter().map(|image| Push { image, status: None, id: None, problems: 0 }).collect();
    for (n, arrival) in arrivals.iter().enumerate() {
        if n > 0 && !args.delay.is_zero() {
            clock.sleep(args.delay).await;
        }
        let push = &mut pushes[arrival.push];
        let begun = clock.now();
        let reply = webhooks::post(&service, &arrival.region, push.image.body(begun)).await?;
        let took = (clock.now() - begun).to_std().unwrap_or_default();
        screen.line(&format!("{} from {}: {reply} ({} ms)", push.image, arrival.region, took.as_millis()));
        if took > REGISTRY_PATIENCE {
            screen.line("  That was too slow: the registry gives up after 5 s and does not try again.");
        }
        push.take(&reply, screen);
    }
    if args.no_follow {
        return Ok(pushes.iter().all(|p| p.problems == 0));
    }
    follow::until_settled(args, &service, &pushes, clock, screen).await
}

impl Push {
    fn take(&mut self, reply: &Reply, screen: &mut Screen) {
        match reply {
            Reply::Accepted { id, status } => match &self.id {
                None => {
                    self.id = Some(id.clone());
                    self.status = Some(status.clone());
                }
                Some(first) if !is_same_push(first, id) => {
                    self.problems += 1;
                    screen.line(&format!("  Taken for another push than the webhooks before: {id}, not {first}."));
                }
                Some(_) => {}
            },
            Reply::Ignored(_) | Reply::Refused { .. } => self.problems += 1,
        }
    }
}

/// Whether two ids name one push: a webhook that could not be written at once is answered with the push's key, which has no
/// round yet.
fn is_same_push(first: &str, second: &str) -> bool {
    let key = |id: &str| id.split_once('-').map_or(id.to_owned(), |(key, _)| key.to_owned());
    first == second || (key(first) == key(second) && !(first.contains('-') && second.contains('-')))
}

/// Checks a region and keeps its spelling: the service has to cope with any case.
fn parse_region(text: &str) -> Result<String, String> {
    Region::parse(text).map(|_| text.trim().to_owned())
}

/// Checks a digest.
fn parse_digest(text: &str) -> Result<String, String> {
    let text = text.trim();
    let form = "a digest is `sha256:` and 64 hex digits in lower case, or `sha512:` and 128";
    if is_digest(text) { Ok(text.to_owned()) } else { Err(form.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_any_round_of_it() {
        assert!(is_same_push("ab-1", "ab-1") && is_same_push("ab", "ab-2") && is_same_push("ab-2", "ab"));
        assert!(!is_same_push("ab-1", "ab-2") && !is_same_push("ab", "cd-1") && !is_same_push("ab", "cd"));
    }

    #[test]
    fn regions_keep_their_case() {
        assert_eq!(parse_region(" WestUS "), Ok("WestUS".to_owned()));
        assert!(parse_region(" ").is_err());
    }
}
