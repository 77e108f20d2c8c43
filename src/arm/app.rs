//! The function app as ARM knows it, as far as it decides whether the registry is answered in time. Nothing secret is asked for.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use serde_json::Value;

use super::client::Client;
use super::error::Error;
use super::registry::segments;

/// Version of the app's resources.
const VERSION: &str = "2024-04-01";

const PROVIDER: &str = "Microsoft.Web";

/// Full name of a function app: its resource id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppId(Vec<String>);

impl FromStr for AppId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_slot = |parts: &[&str]| parts.len() == 10 && parts[8].eq_ignore_ascii_case("slots");
        let parts = segments(text, PROVIDER, "sites").filter(|parts| parts.len() == 8 || is_slot(parts));
        parts.map(|parts| Self(parts.into_iter().map(str::to_owned).collect())).ok_or_else(|| {
            "is no id of a function app, which looks like /subscriptions/…/resourceGroups/…/providers/Microsoft.Web/sites/…".into()
        })
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.join("/"))
    }
}

impl AppId {
    /// Id of the subscription.
    #[must_use]
    pub fn subscription(&self) -> &str {
        &self.0[1]
    }

    fn url(&self, client: &Client, rest: &[&str]) -> Url {
        client.url(self.0.iter().map(String::as_str).chain(rest.iter().copied()), VERSION)
    }
}

/// A function app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its host names, its own first.
    pub hosts: Vec<String>,
    /// `Running` or `Stopped`.
    pub state: String,
    /// Public access is disabled.
    pub is_private: bool,
    /// Tier of its plan, such as `FlexConsumption`; empty where it may not be read.
    pub tier: String,
    /// Instances that are always there, by what they are for: `http`, or `function:<name>`.
    pub always_ready: Vec<(String, u64)>,
    /// Whether it stays loaded on a plan of machines of its own; not asked for on others.
    pub always_on: Option<bool>,
}

/// Reads an app and its plan.
///
/// # Errors
/// ARM cannot be asked for the app. That its plan may not be read is no error, but an empty tier.
pub async fn read(client: &Client, id: &AppId) -> Result<App, Error> {
    let site = client.get("read the function app", id.url(client, &[])).await?.body;
    let text = |path: &str| site.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ready = site.pointer("/properties/functionAppConfig/scaleAndConcurrency/alwaysReady").and_then(Value::as_array);
    let always_ready = ready
        .into_iter()
        .flatten()
        .filter_map(|one| Some((one.get("name")?.as_str()?.to_owned(), one.get("instanceCount")?.as_u64()?)))
        .collect();
    let others = site.pointer("/properties/hostNames").and_then(Value::as_array).into_iter().flatten();
    let own = text("/properties/defaultHostName");
    let others: Vec<String> = others.filter_map(Value::as_str).filter(|name| *name != own).map(str::to_owned).collect();
    let mut app = App {
        name: text("/name"),
        hosts: [vec![own], others].concat(),
        state: text("/properties/state"),
        is_private: text("/properties/publicNetworkAccess").eq_ignore_ascii_case("disabled"),
        tier: text("/properties/sku"),
        always_ready,
        always_on: None,
    };
    if let Some(plan) = segments(&text("/properties/serverFarmId"), PROVIDER, "serverfarms") {
        let url = client.url(plan, VERSION);
        match client.get("read the app's plan", url).await {
            Ok(answer) => {
                if let Some(tier) = answer.body.pointer("/sku/tier").and_then(Value::as_str) {
                    tier.clone_into(&mut app.tier);
                }
            }
            Err(error) if matches!(error.status(), Some(403 | 404)) => {}
            Err(error) => return Err(error),
        }
    }
    let tiers = ["flexconsumption", "dynamic", "elasticpremium", ""];
    if !tiers.contains(&app.tier.to_ascii_lowercase().as_str()) {
        match client.get("read the app's configuration", id.url(client, &["config", "web"])).await {
            Ok(answer) => app.always_on = answer.body.pointer("/properties/alwaysOn").and_then(Value::as_bool),
            Err(error) if matches!(error.status(), Some(403 | 404)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_apps_and_slots_are_read() {
        let text = "/subscriptions/0a/resourceGroups/rg-1/providers/Microsoft.Web/sites/app";
        assert_eq!(text.parse::<AppId>().unwrap().to_string(), text);
        assert_eq!(
            format!("{text}/slots/staging/").parse::<AppId>().unwrap().to_string(),
            format!("{text}/slots/staging")
        );
        assert_eq!(text.parse::<AppId>().unwrap().subscription(), "0a");
        for not in [
            "",
            "app",
            "https://app.azurewebsites.net",
            &text.replace("sites", "serverfarms"),
            &text.replace("0a", ".."),
            &text.replace("rg-1", "a?b"),
            &format!("{text}/config/web"),
        ] {
            assert!(not.parse::<AppId>().is_err(), "{not}");
        }
    }
}
