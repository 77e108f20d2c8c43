//! `doctor`: says what is wrong with a deployment. What it means is decided in [`crate::doctor`]; here facts are gathered, with
//! whatever the caller was given, and the report is printed.
//!
//! Guarantees: nothing is changed, neither in the deployment nor in Azure; with `--ping` the registry is asked to send pings, and with
//! `--test-notification` the service to send tests. It ends, since every call has a time and calls to Azure together have `--timeout`. No key is printed; the key of a webhook is
//! shown to no other service than the one that the webhook sends it to.

mod azure;
mod here;
mod service;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::azure::Access;
use super::client::{Client, Connection};
use super::screen::Screen;
use super::webhooks::address;
use super::{ended, table};
use crate::arm::app::AppId;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Source;
use crate::doctor::{self, Check, Facts, Gap, Known, Report, State};
use crate::notify::guard::is_loopback;

pub(super) const HELP: &str = "\
Each finding says what it means and what to do. What could not be looked at is said too, with what is missing for it.

Examples:
  global-webhook doctor --url https://app.azurewebsites.net --key @key.txt
  global-webhook doctor --url … --key @key.txt --registry contoso --ping
  global-webhook doctor --url … --key @key.txt --registry contoso --app /subscriptions/…/sites/app --json

Exit codes:
  0  no fault; warnings do not count unless --strict
  1  a fault, or with --strict a warning
  2  wrong arguments";

/// Arguments of `doctor`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    /// Print the report as JSON, for programs
    #[arg(long)]
    json: bool,
    /// End with code 1 for warnings too
    #[arg(long)]
    strict: bool,
    /// The settings of an app in this file, as `func` reads them; the environment counts before it [default: where --url is this
    /// machine, local.settings.json, if there is one]
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Have the service send every receiver a test, which names no image, and see what it answers
    #[arg(long)]
    test_notification: bool,
    #[command(flatten)]
    azure: AzureArgs,
}

/// What to ask of Azure, and how.
#[derive(clap::Args)]
#[command(next_help_heading = "Azure")]
struct AzureArgs {
    /// The registry: its name, its login server, or its resource id
    #[arg(long)]
    registry: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Resource id of the function app
    #[arg(long)]
    app: Option<AppId>,
    /// Where the webhooks should send to, if not to --url
    #[arg(long)]
    webhook_url: Option<String>,
    /// Have every webhook send a ping, and see in the registry's log how it was answered
    #[arg(long)]
    ping: bool,
    /// Longest time for all that is asked of Azure, such as 90s or 5m
    #[arg(long, default_value = "2m", value_parser = crate::config::timespan::with_unit)]
    timeout: Duration,
}

/// Arguments that passed their checks.
struct Task {
    client: Client,
    azure: azure::Azure,
    settings: Option<PathBuf>,
    wants_test: bool,
    hosts: Vec<String>,
}

pub(super) fn main(args: Args, environment: &Source) -> ExitCode {
    let (is_json, is_strict) = (args.json, args.strict);
    let task = match Task::of(args, environment) {
        Ok(task) => task,
        Err(why) => return ended(2, &why),
    };
    let runtime = match super::runtime() {
        Ok(runtime) => runtime,
        Err(why) => return ended(1, &why),
    };
    let report = doctor::judge(&runtime.block_on(task.gather(environment)));
    // What still runs by now is a look-up of a name that is not answered.
    runtime.shutdown_background();
    print(&report, is_json);
    let worst = if is_strict { State::Warning } else { State::Fault };
    if report.state <= worst { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Task {
    fn of(args: Args, environment: &Source) -> Result<Self, String> {
        let Args { mut connection, settings, test_notification: wants_test, azure, .. } = args;
        connection.complete(environment)?;
        let client = Client::new(&connection)?;
        let set = azure.access.set()?;
        let webhook_url = azure.webhook_url.as_deref().map(address).transpose();
        let webhook_url = webhook_url.map_err(|why| format!("--webhook-url {why}"))?;
        let own = client.url(&["ImagePush"], &[]);
        // What `func start` reads in this folder is no measure for a service elsewhere.
        let settings =
            settings.or_else(|| is_loopback(&own).then(|| here::FILE.into()).filter(|file: &PathBuf| file.exists()));
        let addresses = [Some(&own).filter(|own| !is_loopback(own)), webhook_url.as_ref()];
        let hosts = addresses.into_iter().flatten().filter_map(|url| Some(url.host_str()?.to_owned())).collect();
        let expected = webhook_url.or_else(|| Some(own).filter(|url| url.scheme() == "https")).ok_or_else(|| {
            Gap::unasked(
                "The registry cannot call the address of --url, which is not https.",
                "Give --webhook-url, the address that the webhooks should send to.",
            )
        });
        let azure = azure::Azure::of(azure, set, expected, connection, environment)?;
        Ok(Self { client, azure, settings, wants_test, hosts })
    }

    async fn gather(&self, environment: &Source) -> Facts {
        let source = here::source(self.settings.as_deref(), environment);
        let here = source.as_ref().map_err(Clone::clone).and_then(here::settings);
        let storage = async {
            match &source {
                Ok(source) => here::storage(source).await,
                Err(gap) => Err(gap.clone()),
            }
        };
        let service = async {
            let service = service::ask(&self.client).await;
            let (pushes, regions) = service::operators(&self.client, &service.answered).await;
            let tested = service::test(&self.client, &service.answered, self.wants_test);
            let (receivers, tested) = tokio::join!(service::receivers(&service.answered), tested);
            (service, pushes, regions, receivers, tested)
        };
        let azure = self.azure.ask(&self.client);
        let (storage, service, (registry, app)) = tokio::join!(storage, service, azure);
        let (service, pushes, regions, receivers, tested) = service;
        let (now, hosts) = (SystemClock.now(), self.hosts.clone());
        Facts { now, service, pushes, regions, here, storage, receivers, tested, registry, app, hosts }
    }
}

/// What was found, or why it was not, with words for what it was for.
fn told<T>(found: Result<T, impl std::fmt::Display>, action: &str) -> Known<T> {
    found.map_err(|why| Gap::refused(why.to_string(), action))
}

fn print(report: &Report, is_json: bool) {
    let mut screen = Screen::of_the_process();
    if is_json {
        match serde_json::to_string(report) {
            Ok(text) => screen.block(&table::json(&text)),
            Err(why) => screen.error(&format!("The report cannot be written: {why}")),
        }
        return;
    }
    for check in report.checks.iter().filter(|check| check.state <= State::Warning) {
        screen.line(&format!("{}  {}", check.state.word().to_uppercase(), named(check)));
        for (head, text) in
            [("", Some(&check.what)), ("Means: ", check.meaning.as_ref()), ("Do: ", check.action.as_ref())]
        {
            if let Some(text) = text {
                screen.line(&format!("  {head}{}", text.replace('\n', "\n    ")));
            }
        }
        screen.line("");
    }
    skipped(report, &mut screen);
    let well: Vec<&Check> = report.checks.iter().filter(|check| check.state == State::Ok).collect();
    if !well.is_empty() {
        screen.line("OK");
        for check in well {
            screen.line(&format!("  {}: {}", named(check), check.what.replace('\n', " ")));
        }
        screen.line("");
    }
    let counts = report.counts;
    screen.line(&format!(
        "{}: {}, {}, {} not looked at, {} ok.",
        report.service,
        several(counts.fault, "fault"),
        several(counts.warning, "warning"),
        counts.skipped,
        counts.ok
    ));
}

/// Those that could not be made, one line for each reason.
fn skipped(report: &Report, screen: &mut Screen) {
    let mut reasons: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for check in report.checks.iter().filter(|check| check.state == State::Skipped) {
        let (why, action) = (check.what.as_str(), check.action.as_deref().unwrap_or_default());
        match reasons.iter_mut().find(|(other, to_do, _)| (*other, *to_do) == (why, action)) {
            Some((_, _, names)) => names.push(named(check)),
            None => reasons.push((why, action, vec![named(check)])),
        }
    }
    if reasons.is_empty() {
        return;
    }
    screen.line("NOT LOOKED AT");
    for (why, action, names) in reasons {
        screen.line(&format!("  {}", names.join(", ")));
        screen.line(&format!("    {}", why.replace('\n', "\n      ")));
        screen.line(&format!("    {}", action.replace('\n', "\n      ")));
    }
    screen.line("");
}

fn named(check: &Check) -> String {
    let cell = table::cell(check.about.as_deref().unwrap_or_default());
    if cell.is_empty() { check.id.clone() } else { format!("{} ({cell})", check.id) }
}

fn several(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
