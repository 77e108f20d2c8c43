//! The registry's webhooks: whether they are there and right, and what became of what they sent.

use reqwest::Url;

use super::catalogue::Id;
use super::registry::{Awaited, Registered};
use super::report::{Check, skip};
use super::{Gap, Known};
use crate::arm::deliveries::Delivery;
use crate::arm::plan::{self, Change, Difference, Kind, Set, Template};
use crate::arm::webhooks::{Callback, Webhook};
use crate::clock::Instant;
use crate::http::query;

/// Deliveries that are looked at, the newest.
const LATEST: usize = 20;

/// A webhook, and what was found out about it.
#[derive(Debug)]
pub struct Sender {
    /// The webhook.
    pub webhook: Webhook,
    /// Whether the service lets its key in.
    pub opens: Known<bool>,
    /// What it sent lately.
    pub deliveries: Known<Vec<Delivery>>,
    /// What came of a ping.
    pub ping: Known<Ping>,
}

/// What came of a ping, by the registry's log. The service keeps nothing of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// Answered with this status.
    Answered(u16),
    /// It stands in the log without an answer.
    Unanswered,
    /// It was not in the log in time.
    Unseen,
}

/// The checks of each webhook.
const EACH: [Id; 8] = [
    Id::WebhooksThere,
    Id::WebhooksEnabled,
    Id::WebhooksUrl,
    Id::WebhooksScope,
    Id::WebhooksKey,
    Id::WebhooksDeliveries,
    Id::WebhooksPing,
    Id::WebhooksExtra,
];

pub(super) fn judge(registered: &Known<Registered>, awaited: Option<&Awaited>, now: Instant, checks: &mut Vec<Check>) {
    let registered = match registered {
        Ok(registered) => registered,
        Err(gap) => return skip(checks, gap, &EACH),
    };
    let senders = match &registered.senders {
        Ok(senders) => senders,
        Err(gap) => return skip(checks, gap, &EACH),
    };
    let mut found = Vec::new();
    let actual: Vec<Webhook> = senders.iter().map(|sender| sender.webhook.clone()).collect();
    let scope = common_scope(registered, &actual);
    for change in changes(registered, &actual, &scope) {
        let sender = senders.iter().find(|sender| sender.webhook.name.eq_ignore_ascii_case(&change.name));
        existence(&change, &actual, awaited, &mut found);
        if let (Kind::Update(_) | Kind::Unchanged | Kind::Replace { .. }, Some(sender)) = (&change.kind, sender) {
            let differences = if let Kind::Update(all) = &change.kind { all.as_slice() } else { &[] };
            properties(&sender.webhook.name, differences, &mut found);
            address(&sender.webhook, &registered.expected, &mut found);
            key(sender, &mut found);
            deliveries(sender, now, &mut found);
            ping(sender, &mut found);
        }
    }
    let all = if scope.is_empty() { "All are for all images.".into() } else { format!("All are for {scope} only.") };
    // What nothing was found about is well.
    for (id, what) in [
        (Id::WebhooksThere, "Every region has its own."),
        (Id::WebhooksEnabled, "All are enabled."),
        (Id::WebhooksUrl, "All send to this service, each as its region."),
        (Id::WebhooksScope, all.as_str()),
        (Id::WebhooksKey, "The service lets all of them in."),
        (Id::WebhooksDeliveries, "What they sent lately was taken."),
        (Id::WebhooksPing, "Every ping was answered with 200."),
        (Id::WebhooksExtra, "There is none."),
    ] {
        if !found.iter().any(|check: &Check| check.id == id.entry().word) {
            let none = senders.iter().all(|sender| !registered.set.has(&sender.webhook, &registered.registry));
            let of_each = !matches!(id, Id::WebhooksThere | Id::WebhooksExtra);
            if none && of_each {
                let gap = Gap::unasked("The registry has no webhook of this service.", "See webhooks.there.");
                skip(&mut found, &gap, &[id]);
            } else {
                found.push(Check::ok(id, what));
            }
        }
    }
    let arguments = arguments(registered, &scope);
    for action in found.iter_mut().filter_map(|check| check.action.as_mut()) {
        *action = action.replace(APPLY, &format!("{APPLY} {arguments}"));
    }
    checks.extend(found);
}

/// The command that mends most of what is found here.
const APPLY: &str = "global-webhook webhooks apply";

/// What is known of its arguments; `scope` is that of all webhooks, which it would set to all images.
fn arguments(registered: &Registered, scope: &str) -> String {
    let Registered { registry, set, expected, .. } = registered;
    let mut arguments = format!("--registry {}", registry.id.name);
    if let Ok(url) = expected {
        arguments += &format!(" --url {}", plan::shown(url.as_str()));
    }
    if *set != Set::default() {
        arguments += &format!(" --prefix {}", set.prefix());
    }
    // What a shell would read in its own way is left to whoever types it.
    if !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_alphanumeric() || b"/:._-*".contains(&b)) {
        arguments += &format!(" --scope '{scope}'");
    }
    arguments
}

/// The scope that all webhooks have which should be there; that of all images where they differ.
fn common_scope(registered: &Registered, actual: &[Webhook]) -> String {
    let Registered { registry, set, .. } = registered;
    let is_wanted =
        |one: &&Webhook| set.has(one, registry) && registry.regions().any(|name| name.as_str() == one.location);
    let mut scopes = actual.iter().filter(is_wanted).map(|webhook| webhook.scope.as_str());
    let first = scopes.next().unwrap_or_default();
    if scopes.all(|scope| scope == first) { first.to_owned() } else { String::new() }
}

/// What `webhooks plan` would say, but for URL and key, which are judged here: the key in another place than a header of its
/// own is no fault.
fn changes(registered: &Registered, actual: &[Webhook], scope: &str) -> Vec<Change> {
    let registry = &registered.registry;
    let nowhere = || Url::parse("https://service.invalid/api/ImagePush");
    let Ok(url) = registered.expected.clone().or_else(|_| nowhere()) else { return Vec::new() };
    let template = Template { url, key: None, scope: scope.to_owned(), actions: ["push".to_owned()].into() };
    let wanted = plan::wanted(&template, &registered.set, registry);
    plan::plan(&wanted, actual, &registered.set, registry, false)
}

fn existence(change: &Change, actual: &[Webhook], awaited: Option<&Awaited>, found: &mut Vec<Check>) {
    let Change { name, region, kind } = change;
    let is_awaited = awaited.is_none_or(|awaited| awaited.regions.iter().any(|one| one.as_str() == region));
    let check = match kind {
        Kind::Create { waits: true } => Check::warning(Id::WebhooksThere, "It has none, and its replica is still being made."),
        Kind::Create { waits: false } => {
            let reports = |webhook: &&Webhook| {
                webhook.location == *region && webhook.status == "enabled" && webhook.actions.contains("push")
            };
            let others: Vec<&str> = actual.iter().filter(reports).map(|webhook| webhook.name.as_str()).collect();
            if !others.is_empty() {
                let what = format!("It has none that `webhooks apply` made, only {}.", others.join(", "));
                Check::warning(Id::WebhooksThere, what).because(
                    "Those may send to this service or elsewhere: what is not tagged as ours is not read.",
                    "Look with `az acr webhook get-config`, or let `global-webhook webhooks apply` make one.",
                )
            } else if is_awaited {
                Check::fault(Id::WebhooksThere, "It has none.")
            } else {
                Check::warning(Id::WebhooksThere, "It has none, and nobody waits for it.")
                    .because("Nobody learns when an image is there.", "See registry.regions.")
            }
        }
        Kind::Broken => Check::fault(Id::WebhooksThere, "It has none, and its replica failed or is offline.")
            .because("The region never reports.", "See registry.replicas, then run `global-webhook webhooks apply`."),
        Kind::Taken => Check::warning(Id::WebhooksThere, format!("{name} does not carry our tag, and was not read.")).because(
            "It may send to this service or elsewhere.",
            "Look with `az acr webhook get-config`; or delete it, and let `global-webhook webhooks apply` make one.",
        ),
        Kind::Replace { location } => {
            Check::fault(Id::WebhooksThere, format!("It has none: {name} is in {location}, which cannot be changed."))
        }
        Kind::Orphan | Kind::Delete => {
            found.push(Check::warning(Id::WebhooksExtra, format!("The registry has no replica in {region}.")).about(name));
            return;
        }
        Kind::Update(_) | Kind::Unchanged | Kind::Foreign { .. } => return,
    };
    found.push(check.about(region));
}

fn properties(name: &str, differences: &[Difference], found: &mut Vec<Check>) {
    for difference in differences {
        let check = match difference {
            Difference::Scope { from, .. } => Check::warning(Id::WebhooksScope, format!("It is for {from} only.")),
            Difference::Actions { from, .. } if !from.contains("push") => {
                let from: Vec<&str> = from.iter().map(String::as_str).collect();
                let instead = if from.is_empty() { "nothing at all".to_owned() } else { from.join(", ") };
                Check::fault(Id::WebhooksEnabled, format!("It does not report pushes, but {instead}."))
            }
            Difference::Status(status) => Check::fault(Id::WebhooksEnabled, format!("It is {status}.")),
            Difference::State(state) => Check::warning(Id::WebhooksEnabled, format!("Its state is {state}.")).because(
                "Azure is at work on it, or a change of it failed.",
                "Wait, then run `global-webhook webhooks apply`.",
            ),
            Difference::Actions { .. }
            | Difference::Url { .. }
            | Difference::UrlSecret
            | Difference::Header(..)
            | Difference::Unreadable => continue,
        };
        found.push(check.about(name));
    }
}

fn address(webhook: &Webhook, expected: &Known<Url>, found: &mut Vec<Check>) {
    let id = Id::WebhooksUrl;
    let check = match &webhook.callback {
        Callback::NotRead | Callback::Unreadable => Check::skipped(id, &unreadable()),
        Callback::Read { uri, .. } => {
            let shown = plan::shown(uri.reveal());
            match wrong_with(uri.reveal(), &webhook.location, expected.as_ref().ok()) {
                Some(why) => Check::fault(id, format!("It sends to {shown}: {why}.")),
                None => match expected {
                    Ok(_) => return,
                    Err(gap) => {
                        Check::skipped(id, &Gap { why: format!("It sends to {shown}. {}", gap.why), ..gap.clone() })
                    }
                },
            }
        }
    };
    found.push(check.about(&webhook.name));
}

fn unreadable() -> Gap {
    Gap::unasked(
        "Its URL and headers may not be read.",
        "Ask for a role with the action Microsoft.ContainerRegistry/registries/webhooks/getCallbackConfig/action.",
    )
}

/// Why a webhook in `location` should not send there.
fn wrong_with(uri: &str, location: &str, expected: Option<&Url>) -> Option<String> {
    let Ok(url) = Url::parse(uri) else { return Some("that is no URL".into()) };
    match expected {
        Some(expected) if !is_same(&url, expected) => {
            return Some(format!("expected is {}", plan::shown(expected.as_str())));
        }
        None if !path(&url).ends_with("/api/imagepush") => {
            return Some("the path of ImagePush is /api/ImagePush".into());
        }
        Some(_) | None => {}
    }
    if url.scheme() != "https" {
        return Some("the key goes in the clear".into());
    }
    match query::region(url.query().unwrap_or_default()) {
        Ok(region) if region.as_str() == location => None,
        Ok(region) => Some(format!("it is in {location}, and reports for {region}")),
        Err(_) => Some(format!("its query has no `region={location}`, without which it is refused")),
    }
}

fn key(sender: &Sender, found: &mut Vec<Check>) {
    let check = match &sender.opens {
        Ok(true) => return,
        Ok(false) => Check::fault(Id::WebhooksKey, "The service does not let its key in."),
        Err(gap) => Check::skipped(Id::WebhooksKey, gap),
    };
    found.push(check.about(&sender.webhook.name));
}

fn deliveries(sender: &Sender, now: Instant, found: &mut Vec<Check>) {
    let id = Id::WebhooksDeliveries;
    let check = match &sender.deliveries {
        Err(gap) => Check::skipped(id, gap),
        Ok(all) => {
            let mut latest: Vec<&Delivery> = all.iter().collect();
            latest.sort_by_key(|delivery| std::cmp::Reverse(delivery.at));
            latest.truncate(LATEST);
            let taken = |one: &Delivery| one.status.is_some_and(|status| (200..300).contains(&status));
            let failed: Vec<&Delivery> = latest.iter().copied().filter(|one| !taken(one)).collect();
            let Some(last) = failed.first() else { return };
            let days = last.at.map_or(0, |at| (now - at).num_days());
            let at = match (last.at.map(crate::api::time), days) {
                (None, _) => "at an unknown time".to_owned(),
                (Some(at), ..1) => format!("at {at}"),
                (Some(at), 1) => format!("at {at}, a day ago"),
                (Some(at), _) => format!("at {at}, {days} days ago"),
            };
            let (meaning, action) = status_means(last.status);
            let status = last.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let image = if last.repository.is_empty() {
                String::new()
            } else {
                format!(" of {}:{}", last.repository, last.tag)
            };
            let what = format!(
                "{} of the last {} were not taken, the latest {at}: {}{image}, {status}.",
                failed.len(),
                latest.len(),
                last.action
            );
            let is_last = latest.first().is_some_and(|newest| !taken(newest));
            // What was mended since shows only once the registry sends again.
            let check = if is_last && days < 1 { Check::fault(id, what) } else { Check::warning(id, what) };
            check.because(&format!("{meaning} {}", id.entry().meaning), action)
        }
    };
    found.push(check.about(&sender.webhook.name));
}

fn ping(sender: &Sender, found: &mut Vec<Check>) {
    let id = Id::WebhooksPing;
    let check = match &sender.ping {
        Err(gap) => Check::skipped(id, gap),
        Ok(Ping::Answered(200)) => return,
        Ok(Ping::Answered(status)) => {
            let (meaning, action) = status_means(Some(*status));
            Check::fault(id, format!("Its ping was answered with {status}.")).because(meaning, action)
        }
        Ok(Ping::Unanswered) => {
            let (meaning, action) = status_means(None);
            Check::fault(id, "Its ping had no answer.").because(meaning, action)
        }
        Ok(Ping::Unseen) => Check::warning(id, "Its ping did not get into the registry's log in time.").because(
            "Whether it arrived is not known.",
            "Look again in some minutes with `az acr webhook list-events`.",
        ),
    };
    found.push(check.about(&sender.webhook.name));
}

/// What a status says of the service, and what to do; `None` is no answer at all.
fn status_means(status: Option<u16>) -> (&'static str, &'static str) {
    match status {
        None => (
            "The registry could not connect, or had no answer.",
            "Check the service's name, certificate and firewall; the registry calls from Azure's public addresses.",
        ),
        Some(400) => (
            "The service does not know that region, or could not read the webhook.",
            "See registry.regions and webhooks.url; the service's log has `webhook refused` with the reason.",
        ),
        Some(401) => ("The webhook's key is none of the service's.", "See webhooks.key."),
        Some(403) => (
            "The app is stopped, restricts who may call, or the key is not for this.",
            "Start the app; allow the service tag AzureContainerRegistry; see webhooks.key.",
        ),
        Some(404) => ("There is no ImagePush at that address.", "See webhooks.url; see that the app was published."),
        Some(408 | 504) => (
            "The answer took longer than the registry's 5 s: a cold start, or storage that is slow.",
            "See app.ready and storage.rows.",
        ),
        Some(429) => ("The platform limits the calls.", "Allow the app more instances, or more calls for each."),
        Some(500..) => (
            "The service or its host could not take it: it was starting, misconfigured, or storage was away.",
            "See service.answers, app.ready and storage.rows; the service's log of that time has the reason.",
        ),
        Some(_) => ("The service or something before it did not take it.", "Look at the service's log of that time."),
    }
}

/// Whether the webhook is known to send to this address, whatever its query: only then its key may be shown to the service there.
#[must_use]
pub fn sends_to(webhook: &Webhook, address: &Url) -> bool {
    let Callback::Read { uri, .. } = &webhook.callback else { return false };
    Url::parse(uri.reveal()).is_ok_and(|url| is_same(&url, address))
}

/// What opens the service to the webhook: the header's key, or the one in its URL; `None` when it has neither.
#[must_use]
pub fn key_of(webhook: &Webhook) -> Option<String> {
    let Callback::Read { uri, headers } = &webhook.callback else { return None };
    let header = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(plan::KEY_HEADER));
    header.map(|(_, key)| key.reveal().to_owned()).or_else(|| {
        let url = Url::parse(uri.reveal()).ok()?;
        url.query_pairs().find(|(name, _)| name.eq_ignore_ascii_case("code")).map(|(_, code)| code.into_owned())
    })
}

fn path(url: &Url) -> String {
    url.path().trim_end_matches('/').to_ascii_lowercase()
}

fn is_same(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin() && path(one) == path(other)
}
