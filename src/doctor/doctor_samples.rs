//! A deployment that is well, in parts that tests change.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::*;
use crate::api::{Health, Item, Part, Regions};
use crate::arm::Secret;
use crate::arm::deliveries::Delivery;
use crate::arm::plan::Set;
use crate::arm::registry::{Registry, Replica, Stage};
use crate::arm::webhooks::{Callback, Webhook};
use crate::config::Described;
use crate::push::Region;
use crate::store::azure::look::Look;

/// What must be in no report.
pub(super) const SECRET: &str = "s3cret-key";

pub(super) fn now() -> Instant {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

pub(super) fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

pub(super) fn health() -> Health {
    let works = Part { status: "ok".into(), cause: None };
    Health {
        version: env!("CARGO_PKG_VERSION").into(),
        regions: vec!["westeurope".into(), "northeurope".into()],
        timeout: "2 min".into(),
        targets: vec!["ops: standard to https://ops.example/…, signed, of replicated".into()],
        rows: works.clone(),
        queue: works,
        app: "app".into(),
        ..Health::default()
    }
}

pub(super) fn here(warnings: &[&str]) -> Here {
    let Health { regions, timeout, targets, .. } = health();
    let described = Described { regions, timeout, targets, ..Described::default() };
    Here::Good { described: Box::new(described), warnings: warnings.iter().map(|text| (*text).to_owned()).collect() }
}

pub(super) fn sender(location: &str) -> Sender {
    let uri = format!("https://app.example/api/ImagePush?region={location}");
    let headers = BTreeMap::from([("X-Functions-Key".to_owned(), Secret::new(SECRET.into()))]);
    let webhook = Webhook {
        name: format!("acrgw{location}"),
        location: location.into(),
        tags: BTreeMap::from([("managed-by".into(), "acr-global-webhook/acrgw".into())]),
        status: "enabled".into(),
        scope: String::new(),
        actions: ["push".to_owned()].into(),
        state: "Succeeded".into(),
        callback: Callback::Read { uri: Secret::new(uri), headers },
    };
    Sender {
        webhook,
        opens: Ok(true),
        deliveries: Ok(vec![delivery("11:00", Some(202))]),
        ping: Ok(Ping::Answered(200)),
    }
}

pub(super) fn delivery(at: &str, status: Option<u16>) -> Delivery {
    Delivery {
        id: at.into(),
        at: format!("2026-11-27T{at}:00Z").parse().ok(),
        action: "push".into(),
        repository: "shop/cart".into(),
        tag: "1.4.2".into(),
        digest: "sha256:3b1c".into(),
        status,
    }
}

pub(super) fn item(deadline: &str, notifications: Value) -> Item {
    serde_json::from_value(json!({
        "instanceId": format!("push-{deadline}"), "runtimeStatus": "Running", "createdTime": "2026-11-27T11:00:00Z",
        "lastUpdatedTime": "2026-11-27T11:00:00Z", "statusQueryGetUri": "", "state": "waiting", "outcome": null,
        "image": "shop/cart:1", "registry": "", "repository": "shop/cart", "tag": "1", "action": "push", "digest": "",
        "companion": false, "regions": {}, "unawaited": {}, "missing": [], "deadline": format!("2026-11-27T{deadline}Z"),
        "lagMs": 0, "correlation": "content", "correlationKey": "", "round": 1, "rule": null, "idsMatched": null,
        "notifications": notifications,
    }))
    .unwrap()
}

pub(super) fn owed(not_before: &str, lease_until: Option<&str>, last_error: Option<&str>) -> Value {
    let at = |time: &str| format!("2026-11-27T{time}Z");
    json!([{ "target": "ops", "notice": "replicated", "id": "x", "state": "owed", "attempts": 1, "notBefore": at(not_before),
        "leaseUntil": lease_until.map(at), "lastError": last_error }])
}

pub(super) fn regions(condition: &str) -> Regions {
    serde_json::from_value(json!({ "since": "", "until": "", "pushes": 7, "cut": false, "unreadable": 0, "regions": [{
        "region": "westeurope", "condition": condition, "expected": 7, "arrivals": 5, "lastSeen": null, "lagP50Ms": 1,
        "lagP95Ms": 12_000, "lagMaxMs": 1, "missing": 2, "late": 0, "waiting": 0, "missedInARow": 2 }] }))
    .unwrap()
}

/// A test that was taken, or was not for this reason.
pub(super) fn tested(format: &str, reason: Option<&str>) -> Tested {
    Tested {
        target: "ops".into(),
        format: format.into(),
        id: "test_1".into(),
        confirmed: reason.is_none(),
        status: reason.is_none().then_some(204),
        reason: reason.map(Into::into),
        duration_ms: 12,
    }
}

/// Facts of a deployment that is well.
pub(super) fn well() -> Facts {
    let replica = |name| Replica { region: region(name), stage: Stage::Complete };
    let id = "/subscriptions/0a/resourceGroups/rg/providers/Microsoft.ContainerRegistry/registries/contoso";
    let registry = Registry {
        id: id.parse().unwrap(),
        sku: "Premium".into(),
        home: region("westeurope"),
        replicas: vec![replica("westeurope"), replica("northeurope")],
    };
    Facts {
        now: now(),
        service: Service {
            url: "https://app.example".into(),
            answered: Answered::Health(Box::new(health())),
            ahead_ms: Ok(900),
        },
        pushes: Ok(Pushes {
            waiting: vec![item("11:59:30", Value::Null)],
            owing: vec![item("11:00:00", owed("12:10:00", None, None))],
            exhausted: Vec::new(),
            is_cut: false,
        }),
        regions: Ok(regions("ok")),
        here: Ok(here(&[])),
        storage: Ok(Looked {
            place: "account".into(),
            poison_name: "timers-poison".into(),
            look: Look { table: Ok(true), queue: Ok(Some(3)), odd: Ok((0, 0)), poison: Ok(0), ahead_ms: Some(0) },
        }),
        receivers: Ok(vec![Connected { target: "ops".into(), origin: "https://ops.example".into(), trouble: None }]),
        tested: Ok(vec![tested("standard", None)]),
        registry: Ok(Registered {
            registry,
            set: Set::of("acrgw").unwrap(),
            senders: Ok(vec![sender("westeurope"), sender("northeurope")]),
            expected: Ok("https://app.example/api/ImagePush".parse().unwrap()),
        }),
        app: Ok(App {
            name: "app".into(),
            hosts: vec!["app.azurewebsites.net".into(), "app.example".into()],
            state: "Running".into(),
            is_private: false,
            tier: "FlexConsumption".into(),
            always_ready: vec![("http".into(), 1)],
            always_on: None,
        }),
        hosts: vec!["app.example".into()],
    }
}
