//! The function app: whether it runs, can be reached, and has an instance ready before the registry calls.

use super::catalogue::Id;
use super::report::{Check, skip};
use super::{Gap, Known};
pub use crate::arm::app::App;

pub(super) fn judge(app: &Known<App>, hosts: &[String], checks: &mut Vec<Check>) {
    let app = match app {
        Ok(app) => app,
        Err(gap) => {
            checks.push(Check::unread(Id::AppRead, Id::AppRead.entry().meaning, gap));
            return skip(checks, gap, &[Id::AppHost, Id::AppRuns, Id::AppReady]);
        }
    };
    let (name, own) = (&app.name, app.hosts.join(", "));
    checks.push(Check::ok(Id::AppRead, format!("{name} is {own}.")));
    checks.push(if hosts.is_empty() {
        let gap = Gap::unasked("The address of --url is one of this machine.", "Give --webhook-url.");
        Check::skipped(Id::AppHost, &gap)
    } else if app.hosts.iter().any(|own| hosts.iter().any(|host| own.eq_ignore_ascii_case(host))) {
        Check::ok(Id::AppHost, format!("{name} is where the service is."))
    } else {
        Check::warning(Id::AppHost, format!("{name} is {own}, and the service is asked at {}.", hosts.join(", ")))
    });
    checks.push(if !app.state.eq_ignore_ascii_case("running") {
        Check::fault(Id::AppRuns, format!("{name} is {}.", app.state))
    } else if app.is_private {
        Check::fault(Id::AppRuns, format!("{name} runs, and takes no calls from public addresses."))
    } else {
        Check::ok(Id::AppRuns, format!("{name} runs."))
    });
    checks.push(ready(app));
}

fn ready(app: &App) -> Check {
    let id = Id::AppReady;
    let tier = app.tier.as_str();
    match tier.to_ascii_lowercase().as_str() {
        "flexconsumption" => {
            let each = app.always_ready.iter();
            let http: u64 = each.filter(|(name, _)| name.eq_ignore_ascii_case("http")).map(|(_, count)| count).sum();
            if http == 0 {
                Check::fault(id, "On Flex Consumption, no instance of `http` is always ready.")
            } else {
                Check::ok(id, format!("On Flex Consumption, `http` has {http} always ready."))
            }
        }
        "dynamic" => Check::fault(id, "On the Consumption plan no instance can be always ready."),
        "elasticpremium" | "elasticisolated" | "workflowstandard" => {
            Check::ok(id, format!("{tier} keeps an instance ready."))
        }
        "" => Check::skipped(
            id,
            &Gap::unasked("The app's plan may not be read.", "Ask for the role Reader on the app's plan."),
        ),
        _ => match app.always_on {
            Some(true) => Check::ok(id, format!("On {tier} with `alwaysOn`.")),
            Some(false) => {
                Check::fault(id, format!("On {tier}, `alwaysOn` is off: the app is unloaded when nothing happens."))
            }
            None => Check::skipped(
                id,
                &Gap::unasked(
                    "Whether `alwaysOn` is on may not be read.",
                    "Ask for a role with the action Microsoft.Web/sites/config/read.",
                ),
            ),
        },
    }
}
