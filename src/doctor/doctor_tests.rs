use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::api::{Health, Part};
use crate::arm::Secret;
use crate::arm::deliveries::Delivery;
use crate::arm::registry::Stage;
use crate::arm::webhooks::Callback;
use crate::store::Failure;
use crate::store::azure::look::Look;

#[path = "doctor_samples.rs"]
mod samples;

use samples::*;

fn changed(change: impl FnOnce(&mut Facts)) -> Report {
    let mut facts = well();
    change(&mut facts);
    let report = judge(&facts);
    let text = serde_json::to_string(&report).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    // Every check is there, whatever is known.
    let ids: BTreeSet<&str> = report.checks.iter().map(|check| check.id.as_str()).collect();
    let all: BTreeSet<&str> = CHECKS.iter().map(|entry| entry.word).collect();
    assert_eq!(ids, all);
    // A command that is advised has the arguments that are known.
    for action in report.checks.iter().filter_map(|check| check.action.as_deref()) {
        let known = facts.registry.as_ref().map(|known| format!(" --registry {}", known.registry.id.name));
        assert!(known.is_err() || !action.contains("webhooks apply") || action.contains(&known.unwrap()), "{action}");
    }
    for check in &report.checks {
        let told = check.meaning.is_some() && check.action.is_some();
        let to_do = check.state == State::Skipped && check.action.is_some();
        assert!(told || to_do || check.state == State::Ok, "{check:?}");
        assert!(!check.what.is_empty(), "{check:?}");
    }
    report
}

/// What a report finds: state, check and thing.
fn found(report: &Report) -> Vec<String> {
    let bad = report.checks.iter().filter(|check| check.state <= State::Warning);
    bad.map(|check| format!("{} {} {}", check.state.word(), check.id, check.about.as_deref().unwrap_or_default()))
        .collect()
}

type Change = Box<dyn FnOnce(&mut Facts)>;

fn in_health(change: impl FnOnce(&mut Health) + 'static) -> Change {
    Box::new(|facts| {
        let mut health = health();
        change(&mut health);
        facts.service.answered = Answered::Health(Box::new(health));
    })
}

fn in_pushes(change: impl FnOnce(&mut Pushes) + 'static) -> Change {
    Box::new(|facts| change(facts.pushes.as_mut().unwrap()))
}

fn in_storage(change: impl FnOnce(&mut Look) + 'static) -> Change {
    Box::new(|facts| change(&mut facts.storage.as_mut().unwrap().look))
}

fn in_registry(change: impl FnOnce(&mut Registered) + 'static) -> Change {
    Box::new(|facts| change(facts.registry.as_mut().unwrap()))
}

/// Changes the webhook of West Europe.
fn in_sender(change: impl FnOnce(&mut Sender) + 'static) -> Change {
    in_registry(|registered| change(&mut registered.senders.as_mut().unwrap()[0]))
}

fn in_app(change: impl FnOnce(&mut App) + 'static) -> Change {
    Box::new(|facts| change(facts.app.as_mut().unwrap()))
}

fn sends(uri: &str) -> Change {
    let uri = Secret::new(uri.to_owned());
    in_sender(|sender| sender.webhook.callback = Callback::Read { uri, headers: BTreeMap::new() })
}

fn answered(statuses: &[(&str, Option<u16>)]) -> Change {
    let all: Vec<_> = statuses.iter().map(|(at, status)| delivery(at, *status)).collect();
    in_sender(|sender| sender.deliveries = Ok(all))
}

#[test]
fn a_deployment_that_is_well_has_nothing_to_do() {
    let report = changed(|_| ());
    assert_eq!((report.state, found(&report)), (State::Ok, vec![]));
    assert_eq!(report.counts, Counts { fault: 0, warning: 0, skipped: 0, ok: CHECKS.len() });
    assert_eq!(report.at, "2026-11-27T12:00:00.000Z");
    let read: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(read, report);
}

#[test]
fn the_catalogue_is_in_the_order_of_the_ids() {
    for (n, entry) in CHECKS.iter().enumerate() {
        assert_eq!(entry.id as usize, n);
        assert!(entry.word.bytes().all(|b| b.is_ascii_lowercase() || b == b'.'), "{}", entry.word);
    }
    let words: BTreeSet<&str> = CHECKS.iter().map(|entry| entry.word).collect();
    assert_eq!(words.len(), CHECKS.len());
}

#[test]
fn each_trouble_is_found_and_nothing_beside_it() {
    let part = |status: &str| Part { status: status.into(), cause: Some("why".into()) };
    let corrupt = part("operator_needed");
    let cases: Vec<(Change, &[&str])> = vec![
        (in_health(|h| h.version = "9.9.9".into()), &["warning service.version "]),
        (Box::new(|f| f.service.ahead_ms = Ok(-2_600)), &["warning service.clock "]),
        (in_health(|h| h.targets.clear()), &["warning settings.targets ", "warning settings.deployed "]),
        (in_health(move |h| h.rows = corrupt), &["fault storage.rows "]),
        (in_health(move |h| h.queue = part("unavailable")), &["fault storage.queue "]),
        (in_health(|h| h.other_apps = vec!["slot".into()]), &["fault storage.apps "]),
        (in_health(|h| h.timeout = "1 min".into()), &["warning settings.deployed "]),
        (
            Box::new(|f| f.here = Ok(Here::Faulty(vec!["a".into(), "b".into()]))),
            &["warning settings.here ", "warning settings.here "],
        ),
        (Box::new(|f| f.here = Ok(here(&["w"]))), &["warning settings.here "]),
        (Box::new(|f| f.here = Err(Gap::refused("x", "y"))), &["warning settings.here "]),
        (in_storage(|s| s.table = Err(Failure::Unavailable("403".into()))), &["warning storage.read "]),
        (in_storage(|s| s.queue = Ok(None)), &["warning storage.read "]),
        (in_storage(|s| s.odd = Ok((2, 0))), &["fault storage.encoding "]),
        (in_storage(|s| s.odd = Ok((0, 1))), &["warning storage.encoding "]),
        (in_storage(|s| s.poison = Ok(4)), &["warning storage.poison "]),
        (in_storage(|s| s.ahead_ms = Some(60_000)), &["warning storage.clock "]),
        (Box::new(|f| f.storage = Err(Gap::refused("x", "y"))), &["warning storage.read "]),
        (in_pushes(|p| p.waiting.push(item("11:55:00", Value::Null))), &["warning timers.deadlines "]),
        (in_pushes(|p| p.waiting.push(item("10:00:00", Value::Null))), &["fault timers.deadlines "]),
        (
            in_pushes(|p| p.owing.push(item("10:00:00", owed("11:50:00", None, None)))),
            &["warning timers.notifications "],
        ),
        (in_pushes(|p| p.owing.push(item("10:00:00", owed("11:00:00", None, None)))), &["fault timers.notifications "]),
        // It is being sent.
        (in_pushes(|p| p.owing.push(item("10:00:00", owed("11:00:00", Some("12:00:20"), None)))), &[]),
        (
            in_pushes(|p| p.owing.push(item("10:00:00", owed("12:05:00", None, Some("500"))))),
            &["warning receivers.told ops"],
        ),
        (
            in_pushes(|p| {
                let mut lost = owed("11:00:00", None, None);
                (lost[0]["state"], lost[0]["reason"]) = (json!("exhausted"), json!("410"));
                p.exhausted = vec![item("10:00:00", lost)];
            }),
            &["warning receivers.told ops"],
        ),
        (Box::new(|f| f.regions = Ok(regions("silent"))), &["warning regions.report westeurope"]),
        (Box::new(|f| f.regions = Ok(regions("incomplete"))), &["warning regions.report westeurope"]),
        (Box::new(|f| f.regions = Ok(regions("slow"))), &["warning regions.report westeurope"]),
        (
            Box::new(|f| f.receivers.as_mut().unwrap()[0].trouble = Some("refused".into())),
            &["warning receivers.reached ops"],
        ),
        (Box::new(|f| f.tested = Ok(vec![tested("standard", Some("400 Bad Request"))])), &["fault receivers.test ops"]),
        (Box::new(|f| f.tested = Ok(vec![tested("acr", Some("404 Not Found"))])), &["fault receivers.test ops"]),
        (Box::new(|f| f.tested = Ok(vec![tested("acr", Some("400 Bad Request"))])), &["warning receivers.test ops"]),
        (Box::new(|f| f.tested = Ok(Vec::new())), &[]),
        (Box::new(|f| f.tested = Err(Gap::refused("429", "wait"))), &["warning receivers.test "]),
        (Box::new(|f| f.registry = Err(Gap::refused("403", "ask"))), &["warning registry.read "]),
        (in_registry(|r| r.registry.sku = "Standard".into()), &["warning registry.sku "]),
        (in_registry(|r| r.registry.replicas[1].stage = Stage::Syncing), &["warning registry.replicas northeurope"]),
        (in_registry(|r| r.registry.replicas[1].stage = Stage::Broken), &["fault registry.replicas northeurope"]),
        (
            in_health(|h| h.regions.push("eastus".into())),
            &["fault registry.regions eastus", "warning settings.deployed "],
        ),
        (in_health(|h| drop(h.regions.pop())), &["warning settings.deployed ", "warning registry.regions northeurope"]),
        (in_registry(|r| drop(r.senders.as_mut().unwrap().pop())), &["fault webhooks.there northeurope"]),
        (
            in_registry(|r| {
                let senders = r.senders.as_mut().unwrap();
                (senders[1].webhook.name, senders[1].webhook.tags) = ("handmade".into(), BTreeMap::new());
            }),
            &["warning webhooks.there northeurope"],
        ),
        (in_sender(|s| s.webhook.tags.clear()), &["warning webhooks.there westeurope"]),
        (
            in_registry(|r| drop(r.registry.replicas.pop())),
            &["fault registry.regions northeurope", "warning webhooks.extra acrgwnortheurope"],
        ),
        (in_sender(|s| s.webhook.status = "disabled".into()), &["fault webhooks.enabled acrgwwesteurope"]),
        (in_sender(|s| s.webhook.actions = ["delete".to_owned()].into()), &["fault webhooks.enabled acrgwwesteurope"]),
        (in_sender(|s| s.webhook.state = "Failed".into()), &["warning webhooks.enabled acrgwwesteurope"]),
        (in_sender(|s| s.webhook.scope = "shop:*".into()), &["warning webhooks.scope acrgwwesteurope"]),
        (
            in_registry(|r| {
                r.senders.as_mut().unwrap().iter_mut().for_each(|sender| sender.webhook.scope = "shop:*".into());
            }),
            &[],
        ),
        (in_sender(|s| s.opens = Ok(false)), &["fault webhooks.key acrgwwesteurope"]),
        (sends("https://app.example/api/imagepush/?code=s3cret-key&region=West%20Europe"), &[]),
        (
            sends("https://old.example/api/ImagePush?code=s3cret-key&region=westeurope"),
            &["fault webhooks.url acrgwwesteurope"],
        ),
        (sends("https://app.example/api/ImagePush?region=northeurope"), &["fault webhooks.url acrgwwesteurope"]),
        (sends("https://app.example/api/ImagePush?code=s3cret-key"), &["fault webhooks.url acrgwwesteurope"]),
        (sends("https://app.example/ImagePush?region=westeurope"), &["fault webhooks.url acrgwwesteurope"]),
        (sends("s3cret-key"), &["fault webhooks.url acrgwwesteurope"]),
        (answered(&[("11:00", Some(202)), ("11:30", Some(504))]), &["fault webhooks.deliveries acrgwwesteurope"]),
        (answered(&[("11:30", Some(200)), ("11:00", None)]), &["warning webhooks.deliveries acrgwwesteurope"]),
        (answered(&[]), &[]),
        (
            in_sender(|s| {
                let old = "2025-11-27T12:00:00Z".parse().ok();
                s.deliveries = Ok(vec![Delivery { at: old, ..delivery("11:00", Some(504)) }]);
            }),
            &["warning webhooks.deliveries acrgwwesteurope"],
        ),
        (in_sender(|s| s.ping = Ok(Ping::Answered(401))), &["fault webhooks.ping acrgwwesteurope"]),
        (in_sender(|s| s.ping = Ok(Ping::Unanswered)), &["fault webhooks.ping acrgwwesteurope"]),
        (in_sender(|s| s.ping = Ok(Ping::Unseen)), &["warning webhooks.ping acrgwwesteurope"]),
        (Box::new(|f| f.app = Err(Gap::refused("403", "ask"))), &["warning app.read "]),
        (in_app(|a| a.hosts.truncate(1)), &["warning app.host "]),
        (Box::new(|f| f.hosts = vec!["gateway.example".into(), "APP.azurewebsites.net".into()]), &[]),
        (Box::new(|f| f.hosts.clear()), &[]),
        (in_app(|a| a.state = "Stopped".into()), &["fault app.runs "]),
        (in_app(|a| a.is_private = true), &["fault app.runs "]),
        (in_app(|a| a.always_ready = vec![("function:TimeoutCheck".into(), 1)]), &["fault app.ready "]),
        (in_app(|a| a.tier = "Dynamic".into()), &["fault app.ready "]),
        (in_app(|a| (a.tier, a.always_on) = ("PremiumV3".into(), Some(false))), &["fault app.ready "]),
        (in_app(|a| (a.tier, a.always_on) = ("PremiumV3".into(), Some(true))), &[]),
        (in_app(|a| a.tier = "ElasticPremium".into()), &[]),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(found(&changed(change)), expected, "case {n}");
    }
}

#[test]
fn a_status_says_what_to_do() {
    for (status, words) in [
        (None, "could not connect"),
        (Some(400), "does not know that region"),
        (Some(401), "none of the service's"),
        (Some(403), "restricts who may call"),
        (Some(404), "no ImagePush"),
        (Some(429), "limits the calls"),
        (Some(503), "could not take it"),
        (Some(504), "longer than the registry's 5 s"),
        (Some(302), "did not take it"),
    ] {
        let report = changed(answered(&[("11:00", status)]));
        let meaning = report.checks[0].meaning.clone().unwrap();
        assert!(meaning.contains(words) && meaning.contains("does not send again"), "{status:?}: {meaning}");
        assert!(report.checks[0].what.contains("shop/cart:1.4.2"), "{:?}", report.checks[0]);
    }
}

/// What a check says.
fn says<'a>(report: &'a Report, id: &str) -> &'a str {
    &report.checks.iter().find(|check| check.id == id).unwrap().what
}

#[test]
fn a_failure_of_long_ago_says_how_old_it_is() {
    let of = |at: &'static str| {
        changed(in_sender(move |s| {
            s.deliveries = Ok(vec![Delivery { at: at.parse().ok(), ..delivery("11:00", Some(504)) }]);
        }))
    };
    for (at, state, words) in [
        ("2026-11-26T12:00:01Z", State::Fault, "at 2026-11-26T12:00:01.000Z: push"),
        ("2026-11-26T11:59:59Z", State::Warning, "at 2026-11-26T11:59:59.000Z, a day ago: push"),
        ("2025-11-27T12:00:00Z", State::Warning, "at 2025-11-27T12:00:00.000Z, 365 days ago: push"),
        ("", State::Fault, "at an unknown time: push"),
    ] {
        let report = of(at);
        assert_eq!((report.state, found(&report).len()), (state, 1), "{at}");
        assert!(says(&report, "webhooks.deliveries").contains(words), "{report:?}");
    }
}

#[test]
fn a_scope_that_all_webhooks_have_is_told_as_well() {
    let report = changed(in_registry(|r| {
        let senders = r.senders.as_mut().unwrap();
        senders.iter_mut().for_each(|sender| sender.webhook.scope = "shop:*".into());
        // One that is left of a region without a replica reports nothing, whatever its scope.
        senders.push(sender("eastus"));
    }));
    assert_eq!(says(&report, "webhooks.scope"), "All are for shop:* only.");
    assert_eq!(found(&report), ["warning webhooks.extra acrgweastus"]);
}

#[test]
fn a_key_that_opens_some_doors_is_told_with_them_and_not_as_lost_webhooks() {
    let refused = |f: &mut Facts| f.service.answered = Answered::Refused("It refused the key.".into());
    let some = changed(refused);
    assert_eq!(found(&some), ["warning service.answers "]);
    assert!(says(&some, "service.answers").starts_with("The key opens Pushes and Regions, and not ImagePush"));
    assert!(says(&some, "timers.deadlines").contains("none is overdue"));
    let none = changed(|f| {
        refused(f);
        let gap = || Gap::unasked("/api/…: refused", HOST_KEY);
        (f.pushes, f.regions) = (Err(gap()), Err(gap()));
    });
    assert_eq!(found(&none), ["fault service.answers "]);
    for report in [some, none] {
        let check = &report.checks[0];
        assert!(!check.meaning.as_ref().unwrap().contains("lost"), "{check:?}");
        assert!(check.action.as_ref().unwrap().contains("--key-name operators"), "{check:?}");
    }
}

#[test]
fn what_is_not_known_is_no_fault() {
    let gap = || Gap::unasked("not given", "give it");
    let report = changed(|facts| {
        (facts.pushes, facts.here, facts.storage) = (Err(gap()), Err(gap()), Err(gap()));
        (facts.receivers, facts.tested, facts.regions) = (Err(gap()), Err(gap()), Err(gap()));
        (facts.registry, facts.app) = (Err(gap()), Err(gap()));
        facts.service.ahead_ms = Err(gap());
    });
    assert_eq!((report.state, found(&report)), (State::Ok, vec![]));
    // Without rights for the secrets of a webhook, and without its service's public address.
    let report = changed(in_registry(move |registered| {
        registered.expected = Err(gap());
        let senders = registered.senders.as_mut().unwrap();
        senders[0].webhook.callback = Callback::Unreadable;
        for sender in senders {
            (sender.opens, sender.deliveries, sender.ping) = (Err(gap()), Err(gap()), Err(gap()));
        }
    }));
    assert_eq!((report.counts.fault, report.counts.warning, report.counts.skipped), (0, 0, 8));
    // The service is down: the settings here say for what regions it waits.
    let report = changed(|facts| facts.service.answered = Answered::Otherwise("nothing listens".into()));
    assert_eq!(found(&report), ["fault service.answers "]);
    let regions = report.checks.iter().find(|check| check.id == "registry.regions").unwrap();
    assert!(regions.what.contains("the settings here"), "{regions:?}");
    // And what is wrong here may be why.
    let report = changed(|facts| {
        facts.service.answered = Answered::Otherwise("nothing listens".into());
        facts.here = Ok(Here::Faulty(vec!["WebhookRegions: is missing".into()]));
        facts.storage.as_mut().unwrap().look.table = Err(Failure::Unavailable("403".into()));
    });
    assert_eq!(found(&report), ["fault service.answers ", "fault settings.here ", "fault storage.read "]);
    let report = changed(|facts| facts.service.answered = Answered::Misconfigured("WebhookRegions: is missing".into()));
    assert!(report.checks[0].what.contains("WebhookRegions"), "{:?}", report.checks[0]);
}
