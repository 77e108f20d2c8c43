//! Asks Azure Resource Manager of the registry, its webhooks and the app.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join;
use reqwest::{Method, Url};

use super::AzureArgs;
use crate::arm::app::{self, App, AppId};
use crate::arm::deliveries::{self, Delivery};
use crate::arm::plan::Set;
use crate::arm::registry::Registry;
use crate::arm::webhooks::{self, Webhook};
use crate::arm::{Client as Arm, Error};
use crate::cli::azure::RegistryName;
use crate::cli::client::{Client, Connection};
use crate::clock::{self, Clock as _, Instant, SystemClock};
use crate::config::Source;
use crate::doctor::{self, Gap, Known, Ping, Registered, Sender};
use crate::notify::guard::is_loopback;

/// Webhooks that are looked at side by side: ARM allows an identity 10 writes a second, and reading a log counts as one.
const SIDE_BY_SIDE: usize = 4;

/// How long a ping may take to get into the registry's log, and the time between two looks.
const PING_MAX: Duration = Duration::from_secs(30);
const PING_EVERY: Duration = Duration::from_secs(2);

const TO_READ: &str = "Check --registry, --subscription and `az account show`; ask for the role Container Registry Configuration Reader and Data Access Configuration Reader.";

/// What is asked of Azure.
pub(super) struct Azure {
    arm: Arm,
    registry: Option<RegistryName>,
    app: Option<AppId>,
    set: Set,
    expected: Known<Url>,
    connection: Connection,
    wants_ping: bool,
    timeout: Duration,
}

impl Azure {
    pub(super) fn of(
        args: AzureArgs,
        set: Set,
        expected: Known<Url>,
        connection: Connection,
        environment: &Source,
    ) -> Result<Self, String> {
        let registry = args.registry.as_deref().map(|text| args.access.registry(text)).transpose()?;
        if registry.is_none() && args.ping {
            return Err("--ping needs --registry".into());
        }
        let of_the_app = args.app.as_ref().map(AppId::subscription);
        let subscription = registry.as_ref().and_then(RegistryName::subscription).or(of_the_app);
        let arm = args.access.client(subscription, environment)?;
        Ok(Self {
            arm,
            registry,
            app: args.app,
            set,
            expected,
            connection,
            wants_ping: args.ping,
            timeout: args.timeout,
        })
    }

    /// Asks for the registry and the app, as far as they are named.
    pub(super) async fn ask(&self, service: &Client) -> (Known<Registered>, Known<App>) {
        let until = clock::after(SystemClock.now(), self.timeout);
        join(self.registered(service, until), self.app(until)).await
    }

    async fn app(&self, until: Instant) -> Known<App> {
        let Some(id) = &self.app else {
            return Err(Gap::unasked(
                "No --app was given.",
                "Give the resource id of the function app: `az functionapp show --query id`.",
            ));
        };
        let action = doctor::Id::AppRead.entry().action;
        in_time(until, app::read(&self.arm, id)).await.map_err(|error| Gap::refused(error.to_string(), action))
    }

    async fn registered(&self, service: &Client, until: Instant) -> Known<Registered> {
        let Some(named) = &self.registry else {
            return Err(Gap::unasked("No --registry was given.", "Give the registry's name or its resource id."));
        };
        let gap = |error: Error| Gap::refused(error.to_string(), TO_READ);
        let registry = in_time(until, named.read(&self.arm)).await.map_err(gap)?;
        let senders = self.senders(service, &registry, until).await;
        Ok(Registered { registry, set: self.set.clone(), senders, expected: self.expected.clone() })
    }

    async fn senders(&self, service: &Client, registry: &Registry, until: Instant) -> Known<Vec<Sender>> {
        let gap = |error: Error| Gap::refused(error.to_string(), TO_READ);
        let all = in_time(until, webhooks::read(&self.arm, registry, &self.set)).await.map_err(gap)?;
        let ours: Vec<&Webhook> = all.iter().filter(|webhook| self.set.has(webhook, registry)).collect();
        let pings = self.pings(registry, &ours, until).await;
        let each = all.iter().map(|webhook| {
            let ping = pings.get(&webhook.name).cloned();
            async move {
                let is_ours = self.set.has(webhook, registry);
                let foreign = || Gap::unasked("It is none of this service's.", "--prefix says how those begin.");
                let unasked = || Gap::unasked("--ping was not given.", "Give --ping.");
                Sender {
                    webhook: webhook.clone(),
                    opens: if is_ours { self.opens(service, webhook, until).await } else { Err(foreign()) },
                    deliveries: if is_ours { self.log(registry, webhook, until).await } else { Err(foreign()) },
                    ping: ping.unwrap_or_else(|| Err(if is_ours { unasked() } else { foreign() })),
                }
            }
        });
        Ok(futures_util::stream::iter(each.collect::<Vec<_>>()).buffered(SIDE_BY_SIDE).collect().await)
    }

    /// Whether the service lets the webhook's own key in: asked with it, and only where the webhook sends it anyway.
    async fn opens(&self, service: &Client, webhook: &Webhook, until: Instant) -> Known<bool> {
        let url = service.url(&["ImagePush"], &[]);
        if !doctor::sends_to(webhook, &url) {
            return Err(Gap::unasked(
                "It is not known to send to the address of --url, which was not shown its key.",
                "See webhooks.url; give --url the address that the webhooks send to.",
            ));
        }
        if url.scheme() != "https" && !is_loopback(&url) {
            return Err(Gap::unasked("Its key is not sent in the clear.", "Give --url with https."));
        }
        let unknown = |why: String| Gap::unasked(&why, "See service.answers.");
        let mut connection = Connection { key: doctor::key_of(webhook), ..self.connection.clone() };
        // A key in the service's own address would count in its place.
        connection.url = Some(url.clone());
        let caller = Client::new(&connection).map_err(unknown)?;
        let left = clock::until(SystemClock.now(), until);
        let asked = clock::within(&SystemClock, left, caller.call(Method::GET, &url, None)).await;
        match asked.ok_or_else(|| unknown("The service was too slow.".into()))? {
            Ok(answer) => match answer.status.as_u16() {
                401 => Ok(false),
                200 | 503 => Ok(true),
                status => Err(unknown(format!("The service answered {status}."))),
            },
            Err(trouble) => Err(unknown(trouble.text)),
        }
    }

    async fn log(&self, registry: &Registry, webhook: &Webhook, until: Instant) -> Known<Vec<Delivery>> {
        let action =
            "Ask for a role with the action Microsoft.ContainerRegistry/registries/webhooks/listEvents/action.";
        let read = in_time(until, deliveries::list(&self.arm, registry, &webhook.name)).await;
        read.map_err(|error| Gap::unasked(&error.to_string(), action))
    }

    /// Has webhooks send pings, and waits until the registry's log says how they were answered.
    async fn pings(&self, registry: &Registry, ours: &[&Webhook], until: Instant) -> BTreeMap<String, Known<Ping>> {
        let mut ended = BTreeMap::new();
        if !self.wants_ping {
            return ended;
        }
        let action = "Ask for a role with the actions Microsoft.ContainerRegistry/registries/webhooks/ping/action and …/listEvents/action.";
        let gap = |error: Error| Gap::unasked(&error.to_string(), action);
        let mut sent = BTreeMap::new();
        for webhook in ours {
            match in_time(until, deliveries::ping(&self.arm, registry, &webhook.name)).await {
                Ok(id) => drop(sent.insert(webhook.name.clone(), id)),
                Err(error) => drop(ended.insert(webhook.name.clone(), Err(gap(error)))),
            }
        }
        let end = clock::after(SystemClock.now(), PING_MAX).min(until);
        while !sent.is_empty() {
            let mut left = BTreeMap::new();
            for (name, id) in sent {
                let seen = match in_time(until, deliveries::list(&self.arm, registry, &name)).await {
                    Ok(log) => {
                        Ok(log.into_iter().find(|one| one.id == id && one.action == "ping").map(|one| one.status))
                    }
                    Err(error) => Err(gap(error)),
                };
                let is_over = SystemClock.now() >= end;
                let ping = match seen {
                    Err(gap) => Some(Err(gap)),
                    Ok(Some(Some(status))) => Some(Ok(Ping::Answered(status))),
                    Ok(Some(None)) if is_over => Some(Ok(Ping::Unanswered)),
                    Ok(None) if is_over => Some(Ok(Ping::Unseen)),
                    Ok(_) => None,
                };
                match ping {
                    Some(ping) => drop(ended.insert(name, ping)),
                    None => drop(left.insert(name, id)),
                }
            }
            sent = left;
            if !sent.is_empty() {
                SystemClock.sleep(PING_EVERY).await;
            }
        }
        ended
    }
}

async fn in_time<T>(until: Instant, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let left = clock::until(SystemClock.now(), until);
    let ended = clock::within(&SystemClock, left, call).await;
    ended.unwrap_or_else(|| Err(Error::Slow("Azure was too slow: the time of --timeout is over.".into())))
}
