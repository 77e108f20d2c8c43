//! `webhooks`: gives each region of a registry the webhook that this service needs, by Azure Resource Manager.
//!
//! Guarantees: nothing is changed before it was shown; nothing that is not tagged as ours is touched; what is done already is
//! not done again, so that a command that was killed is run again; no key is printed. A command that takes longer than
//! `--timeout` ends, and says so.

mod args;
mod carry_out;
mod show;

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Url;

use self::args::{ApplyArgs, Command, PlanArgs, RemoveArgs, WantedArgs};
use self::carry_out::Work;
use super::azure::RegistryName;
use super::screen::Screen;
use super::{complain, ended};
use crate::arm::plan::{self, Change, Set, Template};
use crate::arm::registry::Registry;
use crate::arm::webhooks::{self, KEY_VARIABLE, Webhook};
use crate::arm::{Client, Error, Secret};
use crate::clock::{self, Clock as _, SystemClock};
use crate::config::Source;

/// The code of `plan --check` when something would be done.
const CHANGES: u8 = 3;

/// Longest scope, in bytes: far more than a repository's name may have.
const SCOPE_BYTES_MAX: usize = 1024;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

/// Arguments that passed their checks.
struct Task {
    client: Client,
    registry: RegistryName,
    set: Set,
    aim: Aim,
    time: Time,
    json: bool,
}

/// What is left of `--timeout`. It passes during calls only, not while a person thinks.
struct Time(Cell<Duration>);

impl Time {
    /// What `call` returns, if it does so in time.
    async fn within<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let (begun, left) = (SystemClock.now(), self.0.get());
        let end = clock::within(&SystemClock, left, call).await;
        let spent = if end.is_some() { clock::until(begun, SystemClock.now()) } else { left };
        self.0.set(left.saturating_sub(spent));
        end.unwrap_or_else(|| {
            Err(Error::Slow(
                "The time of --timeout is over. What was begun may still be done by Azure; run the command again to see."
                    .into(),
            ))
        })
    }

    fn is_over(&self) -> bool {
        self.0.get().is_zero()
    }
}

enum Aim {
    Plan { template: Template, prune: bool, check: bool },
    Apply { template: Template, prune: bool, yes: bool },
    Remove { url: Option<Url>, yes: bool },
}

pub(super) fn main(args: Args, environment: &Source) -> ExitCode {
    let task = match Task::of(args, environment) {
        Ok(task) => task,
        Err(why) => return ended(2, &why),
    };
    let end = super::runtime().map_err(Error::Odd).and_then(|runtime| runtime.block_on(task.run()));
    end.unwrap_or_else(|error| ended(1, &error.to_string()))
}

impl Task {
    fn of(args: Args, environment: &Source) -> Result<Self, String> {
        let (place, aim) = match args.command {
            Command::Plan(PlanArgs { place, wanted, check }) => {
                let (template, prune) = template(wanted, environment)?;
                (place, Aim::Plan { template, prune, check })
            }
            Command::Apply(ApplyArgs { place, wanted, yes }) => {
                let (template, prune) = template(wanted, environment)?;
                (place, Aim::Apply { template, prune, yes })
            }
            Command::Remove(RemoveArgs { place, url, yes }) => {
                let url = url.as_deref().map(address).transpose().map_err(|why| format!("--url {why}"))?;
                (place, Aim::Remove { url, yes })
            }
        };
        let is_asked = matches!(aim, Aim::Apply { yes: false, .. } | Aim::Remove { yes: false, .. });
        if is_asked && (place.json || !std::io::stdin().is_terminal()) {
            return Err("nobody is there to confirm what will be done: give --yes, after a look at it".into());
        }
        let set = place.access.set()?;
        let registry = place.access.registry(&place.registry)?;
        let client = place.access.client(registry.subscription(), environment)?;
        if let Aim::Plan { template, .. } | Aim::Apply { template, .. } = &aim {
            template.secrets().for_each(|secret| client.hide(&secret));
        }
        Ok(Self { client, registry, set, aim, time: Time(Cell::new(place.timeout)), json: place.json })
    }

    async fn run(&self) -> Result<ExitCode, Error> {
        let (registry, actual, changes) = self.time.within(self.look()).await?;
        if let (Aim::Plan { .. } | Aim::Apply { .. }, Err(why)) = (&self.aim, self.set.fits(&registry)) {
            return Ok(ended(2, &format!("--prefix: {why}")));
        }
        let shown = show::Shown { registry: &registry, set: &self.set, changes: &changes };
        let (template, yes) = match &self.aim {
            Aim::Plan { template, check, .. } => {
                shown.print(Some(template), self.json, None);
                let differs = changes.iter().any(|change| change.kind.is_change() || change.kind.is_obstacle());
                return Ok(if *check && differs { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS });
            }
            Aim::Apply { template, yes, .. } => (Some(template), *yes),
            Aim::Remove { yes, .. } => (None, *yes),
        };
        if !self.json {
            shown.print(template, false, None);
        }
        if shown.is_taken() || !changes.iter().any(|change| change.kind.is_change()) {
            if self.json {
                shown.print(template, true, Some(&[]));
            }
            return Ok(shown.ending(&[]));
        }
        if !yes && !show::confirmed() {
            complain("Nothing was done.");
            return Ok(ExitCode::FAILURE);
        }
        let (wanted, is_json) = (self.wanted(&registry), self.json);
        let said = |line: &str| if is_json { complain(line) } else { Screen::of_the_process().line(line) };
        let Self { client, set, time, .. } = self;
        let work = Work { client, registry: &registry, set, wanted: &wanted, actual: &actual, time };
        let results = work.all(&changes, said).await;
        if self.json {
            shown.print(template, true, Some(&results));
        }
        Ok(shown.ending(&results))
    }

    fn wanted(&self, registry: &Registry) -> Vec<plan::Wanted> {
        match &self.aim {
            Aim::Plan { template, .. } | Aim::Apply { template, .. } => plan::wanted(template, &self.set, registry),
            Aim::Remove { .. } => Vec::new(),
        }
    }

    /// What is there, and what is to be done.
    async fn look(&self) -> Result<(Registry, Vec<Webhook>, Vec<Change>), Error> {
        let registry = self.registry.read(&self.client).await?;
        let (client, set) = (&self.client, &self.set);
        let actual = match &self.aim {
            Aim::Plan { .. } => webhooks::read(client, &registry, set).await?,
            Aim::Apply { .. } | Aim::Remove { .. } => webhooks::settled(client, &registry, set).await?,
        };
        let changes = match &self.aim {
            Aim::Plan { prune, .. } | Aim::Apply { prune, .. } => {
                plan::plan(&self.wanted(&registry), &actual, set, &registry, *prune)
            }
            Aim::Remove { url, .. } => plan::removal(&actual, set, &registry, url.as_ref()),
        };
        Ok((registry, actual, changes))
    }
}

/// What is wanted, and whether orphans go.
fn template(args: WantedArgs, environment: &Source) -> Result<(Template, bool), String> {
    let url = address(&args.url).map_err(|why| format!("--url {why}"))?;
    let coded = url.query_pairs().find(|(name, _)| name == "code").map(|(_, code)| code.into_owned());
    let given = match args.key {
        Some(text) => Some(super::key::parse(&text).map_err(|why| format!("--key: {why}"))?),
        None if args.no_key || coded.is_some() => None,
        None => environment.get(KEY_VARIABLE).map(str::to_owned),
    };
    let key = match (given, coded) {
        (Some(_), Some(_)) => return Err("the URL has a key already (`code`); leave that or --key out".into()),
        (Some(key), None) => {
            super::key::check(&key).map(|()| Some(key)).map_err(|why| format!("{KEY_VARIABLE}: {why}"))?
        }
        (None, Some(code)) if code.is_empty() => return Err("--url: its `code` is empty".into()),
        (None, None) if !args.no_key => {
            return Err(format!(
                "which key opens the service? Give --key @FILE or {KEY_VARIABLE}, or --no-key if it asks for none"
            ));
        }
        (None, _) => None,
    };
    let scope = args.scope;
    if scope.len() > SCOPE_BYTES_MAX || !scope.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("--scope is `repository:*`, `repository:tag` or `repository`, without blanks".into());
    }
    let actions = args.actions.into_iter().collect();
    Ok((Template { url, key: key.map(Secret::new), scope, actions }, args.prune))
}

/// Reads the address of ImagePush. No fault repeats it: a key may stand in it.
pub(super) fn address(text: &str) -> Result<Url, String> {
    let wrong = |why: &str| {
        format!("{why}; it is the address of ImagePush, such as https://app.azurewebsites.net/api/ImagePush")
    };
    let url = Url::parse(text.trim()).map_err(|_| wrong("is no URL"))?;
    if url.scheme() != "https" {
        return Err(wrong("does not begin with https://, and the registry would send the key in the clear"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than host, path and query"));
    }
    // The host's route prefix may be any, and its paths have no case.
    let path = url.path().to_ascii_lowercase();
    if !path.strip_suffix('/').unwrap_or(&path).ends_with("/imagepush") {
        return Err(wrong("does not end in /ImagePush"));
    }
    if url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("region")) {
        return Err(wrong("has a region already, which is added for each webhook"));
    }
    Ok(url)
}
