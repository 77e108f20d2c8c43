//! Every text of strangers, in every view, is text.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::confirm::{Deed, Question};
use super::filters::Filters;
use super::list::Overview;
use super::push::{Detail, Receiver};
use super::words;
use crate::api::{Item, List, Push, Regions};

/// Times are the service's own words.
const AT: &str = "2026-11-27T03:00:00.000Z";

/// What is known of a push whose every text is `text`.
fn status(text: &str, state: &str) -> Value {
    let report = |arrived: Option<&str>, lag: Option<i64>| json!({ "arrived": arrived, "lagMs": lag, "late": false, "id": text, "repeats": 1, "lastRepeat": AT, "before": AT });
    let attempt = json!({ "attempt": 1, "at": AT, "reason": text });
    let told = |state: &str| {
        json!({ "target": "ops", "notice": "timed_out", "id": "msg_1", "state": state, "attempts": 2, "at": AT, "notBefore": AT,
                "lastError": text, "reason": text, "failed": [attempt] })
    };
    json!({
        "state": state, "outcome": null, "image": text, "registry": text, "repository": text, "tag": text, "action": text, "digest": text,
        "companion": false, "regions": { "west": report(Some(AT), Some(0)), "east": report(None, None) },
        "unawaited": { "north": report(Some(AT), Some(1)) }, "missing": ["east"], "deadline": AT, "settled": AT,
        "recovered": AT, "lagMs": 1, "correlation": "content", "correlationKey": "k", "round": 2, "rule": text, "idsMatched": null,
        "notifications": [told("owed"), told("exhausted"), told("confirmed"), told("overtaken")],
    })
}

/// All views of such a push.
fn views(text: &str, state: &str) -> Vec<String> {
    let now = words::instant("2026-11-27T03:07:12Z").unwrap();
    let envelope = json!({ "instanceId": "p-1", "runtimeStatus": "Running", "createdTime": AT, "lastUpdatedTime": AT });
    let with = |more: Value| {
        let mut all = envelope.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let mut listed = with(status(text, state));
    listed["statusQueryGetUri"] = json!("");
    let item: Item = serde_json::from_value(listed).unwrap();
    let push = with(json!({ "input": null, "customStatus": status(text, state), "output": null }));
    let push: Push = serde_json::from_str(&push.to_string()).unwrap();
    let day = json!({ "since": AT, "until": AT, "pushes": 1, "cut": true, "unreadable": 1, "regions": [] });
    let day: Regions = serde_json::from_value(day).unwrap();
    let list = List { pushes: vec![item.clone()], next: None, unreadable: 1 };
    let empty = List { pushes: Vec::new(), next: None, unreadable: 0 };
    let mut companion = item.clone();
    companion.status.companion = true;
    let receivers = [Receiver { name: "ops".into(), format: "acr".into(), hears: vec!["replicated"] }];
    // What is typed stands in a field as it was typed; in words it is shown like all others.
    let filters = Filters::read("region=east");
    let regions = ["west", "east"].map(str::to_owned);
    let overview = |list, refused| Overview {
        now,
        filters: &filters,
        list,
        owing: list,
        along: std::slice::from_ref(&companion),
        day: &day,
        regions: &regions,
        refused,
        registry: Some(text),
        address: "http://127.0.0.1:8080",
        keyed: true,
    };
    let mut views = vec![
        overview(&list, None).render(),
        overview(&empty, None).render(),
        overview(&empty, Some(text)).render(),
        Detail { now, push: &push, day: &day, receivers: &receivers, attempts_max: 3 }.render(),
    ];
    for deed in [Deed::Redeliver, Deed::Terminate, Deed::Report] {
        let then = Some(&item.status);
        views.push(Question { now, deed, region: "east", push: &item, then, receivers: &receivers }.render());
    }
    views
}

proptest! {
    #[test]
    fn no_text_of_strangers_is_markup_or_steers(name in "[a-z]{4,9}", hidden in any::<char>(), state in 0..5_usize) {
        let state = ["waiting", "replicated", "timed_out", "recovered", "superseded"][state];
        let text = format!("'\"><{name} onload=x>{hidden}\u{202e}\u{7}&lt;");
        let calm = views("calm", state);
        for (view, calm) in views(&text, state).into_iter().zip(calm) {
            let opened = format!("<{name} ");
            prop_assert!(!view.contains(&opened), "{view}");
            prop_assert!(!view.contains(['\u{202e}', '\u{7}']), "{view}");
            // Attributes keep what they are compared by; nothing of it gets out of its quotes.
            let elements = |html: &str| html.matches('<').count() - html.matches("<span class=\"code-point\">").count() * 2;
            prop_assert!(elements(&view) <= elements(&calm), "{view}");
        }
    }
}
