//! Any row at all, for the tests of everything that stores or shows one; and what of it survives.

use std::collections::BTreeMap;

use chrono::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::clock::Instant;
use crate::push::arrival::Correlation;
use crate::push::{Delivery, Entry, Failed, Key, Notice, Outcome, Phase, PushId, Region, Seen, Settled, Subject};

fn instant() -> impl Strategy<Value = Instant> {
    (0i64..4_000_000_000_000).prop_map(|ms| chrono::Utc.timestamp_millis_opt(ms).unwrap())
}

fn arrivals() -> impl Strategy<Value = BTreeMap<Region, Seen>> {
    let seen = (instant(), ".{0,20}", any::<bool>(), 0u32..3, prop::option::of(instant()))
        .prop_map(|(at, id, by_hand, repeats, repeated)| Seen { at, id, by_hand, repeats, repeated });
    prop::collection::btree_map("[a-z]{1,12}".prop_map(|r| Region::parse(&r).unwrap()), seen, 0..4)
}

fn delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![
        (any::<u32>(), any::<u32>(), any::<u32>(), instant(), prop::option::of(instant()), prop::option::of(".*"))
            .prop_map(|(claims, failures, lapses, not_before, lease_until, last_error)| Delivery::Owed {
                claims,
                failures,
                lapses,
                not_before,
                lease_until,
                last_error
            }),
        (any::<u32>(), instant(), 200u16..300).prop_map(|(attempt, at, status)| Delivery::Confirmed {
            attempt,
            at,
            status
        }),
        (any::<u32>(), instant(), ".*").prop_map(|(attempt, at, reason)| Delivery::Exhausted { attempt, at, reason }),
        (any::<u32>(), instant(), prop::option::of(instant()))
            .prop_map(|(attempt, at, lease_until)| Delivery::Overtaken { attempt, at, lease_until }),
    ]
}

fn failed() -> impl Strategy<Value = Failed> {
    (instant(), any::<u32>(), ".*").prop_map(|(at, attempt, reason)| Failed { at, attempt, reason })
}

fn phase() -> impl Strategy<Value = Phase> {
    let notice = prop_oneof![
        Just(Notice::Replicated),
        Just(Notice::TimedOut),
        Just(Notice::Recovered),
        Just(Notice::Superseded)
    ];
    let outcome = prop_oneof![Just(Outcome::Replicated), Just(Outcome::TimedOut), Just(Outcome::Superseded)];
    let entry = (".{1,9}", notice, delivery(), prop::collection::vec(failed(), 0..3))
        .prop_map(|(target, notice, delivery, failed)| Entry { target, notice, delivery, failed });
    prop_oneof![
        prop::option::of(instant()).prop_map(|held| Phase::Waiting { held }),
        (instant(), instant()).prop_map(|(at, until)| Phase::Purged { at, until }),
        (
            outcome,
            instant(),
            any::<bool>(),
            arrivals(),
            prop::option::of(instant()),
            prop::collection::vec(entry, 0..4)
        )
            .prop_map(|(outcome, at, terminated, missing, recovered, outbox)| {
                let missing = missing.into_keys().collect();
                Phase::Settled(Settled { outcome, at, missing, terminated, recovered, outbox })
            }),
    ]
}

prop_compose! {
    /// Any row at all.
    pub(crate) fn row()(
        parts in (".*", ".*", prop::option::of(".*"), ".*", ".*"), round in 1u32..,
        times in (instant(), instant(), instant(), prop::option::of(instant())),
        arrived in arrivals(), unawaited in arrivals(), phase in phase(), id_mode in any::<bool>(),
        rule in prop::option::of(".*"),
    ) -> Row {
        let (registry, repository, tag, digest, payload) = parts;
        Row {
            id: PushId { key: Key::of(&[&repository], &[&digest]), round },
            correlation: if id_mode { Correlation::Id } else { Correlation::Content },
            subject: Subject { registry, repository, tag, digest, action: "push".into() },
            payload, rule, phase,
            opened: times.0, deadline: times.1, updated: times.2, since: times.3,
            regions: arrived.keys().cloned().chain([Region::parse("x").unwrap()]).collect(),
            before: unawaited.iter().map(|(region, seen)| (region.clone(), seen.at)).collect(),
            arrived, unawaited, unknown: None,
        }
    }
}

proptest! {
    #[test]
    fn rows_survive_their_text(row in row()) {
        prop_assert_eq!(decode(&encode(&row), row.payload.clone()), Ok(row.clone()));
        prop_assert!(decode(&format!("{} [", encode(&row)), String::new()).is_err(), "what stands behind it would be dropped");
    }

    #[test]
    fn members_of_a_newer_build_survive(row in row()) {
        let mut stored: Value = serde_json::from_str(&encode(&row)).unwrap();
        let mut places = Vec::new();
        objects(&stored["row"], "/row", &mut places);
        // An object of names rather than members takes any name for one of its own; the tag of an enum is its only member.
        places.retain(|place| !["arrived", "unawaited", "before", "phase", "delivery"].iter().any(|p| place.ends_with(p)));
        for place in &places {
            stored.pointer_mut(place).unwrap()["of/tomorrow~"] = serde_json::json!({ "deep": [1, { "x": null }] });
        }
        let read = decode(&stored.to_string(), String::new()).unwrap();
        prop_assert_eq!(serde_json::from_str::<Value>(&encode(&read)).unwrap(), stored);
        // What they belonged to may go; the row stays readable.
        let later = Row { phase: Phase::Waiting { held: None }, arrived: BTreeMap::new(), ..read };
        prop_assert!(decode(&encode(&later), String::new()).is_ok());
    }
}

/// Every object in `value`, as a JSON pointer.
fn objects(value: &Value, place: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.push(place.to_owned());
            for (name, member) in members {
                objects(member, &format!("{place}/{name}"), found);
            }
        }
        Value::Array(members) => {
            for (at, member) in members.iter().enumerate() {
                objects(member, &format!("{place}/{at}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn other_texts_are_told_apart() {
    let read = |text| decode(text, String::new()).unwrap_err();
    assert!(read("{}").contains("not a record"));
    assert!(read(r#"{"v":99,"row":{}}"#).contains("version 99"));
    assert!(read(r#"{"v":1,"row":{"id":"x"}}"#).contains("version 1;"));
    assert!(read(r#"{"v":2,"row":{}}"#).contains("cannot be read"));
}
