//! The stored form of a row: one line of versioned JSON. A version once written stays readable.

use serde::{Deserialize, Serialize};

use super::Row;

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Out<'a> {
    v: u32,
    row: &'a Row,
}

#[derive(Deserialize)]
struct In {
    row: Row,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

/// The text to store for `row`.
#[must_use]
pub fn encode(row: &Row) -> String {
    #[expect(
        clippy::expect_used,
        reason = "a Row holds only strings, numbers and string-keyed maps, all of which JSON can hold"
    )]
    serde_json::to_string(&Out { v: VERSION, row }).expect("a row is JSON")
}

/// Reads a stored row.
///
/// # Errors
/// For the operator: the text is not a row, or was written by a newer version of this program.
pub fn decode(text: &str) -> Result<Row, String> {
    let head: Head = serde_json::from_str(text).map_err(|e| format!("the stored row is not a record: {e}"))?;
    if head.v != VERSION {
        return Err(format!("the stored row has version {}; this program reads version {VERSION}", head.v));
    }
    serde_json::from_str::<In>(text).map(|r| r.row).map_err(|e| format!("the stored row cannot be read: {e}"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Instant;
    use crate::push::arrival::Correlation;
    use crate::push::state::{Arrived, Settled};
    use crate::push::{Delivery, Entry, Key, Notice, Outcome, Phase, PushId, Region, Subject, TimerRef};

    fn instant() -> impl Strategy<Value = Instant> {
        (0i64..4_000_000_000_000).prop_map(|ms| chrono::Utc.timestamp_millis_opt(ms).unwrap())
    }

    fn arrivals() -> impl Strategy<Value = BTreeMap<Region, Arrived>> {
        prop::collection::btree_map(
            "[a-z]{1,12}".prop_map(|r| Region::parse(&r).unwrap()),
            (instant(), ".{0,20}").prop_map(|(at, id)| Arrived { at, id }),
            0..4,
        )
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
            (any::<u32>(), instant(), ".*").prop_map(|(attempt, at, reason)| Delivery::Exhausted {
                attempt,
                at,
                reason
            }),
        ]
    }

    fn phase() -> impl Strategy<Value = Phase> {
        let notice = prop_oneof![Just(Notice::Replicated), Just(Notice::TimedOut), Just(Notice::Recovered)];
        let outcome = prop_oneof![Just(Outcome::Replicated), Just(Outcome::TimedOut)];
        let entry =
            (".{1,9}", notice, delivery()).prop_map(|(target, notice, delivery)| Entry { target, notice, delivery });
        prop_oneof![
            Just(Phase::Waiting),
            (
                outcome,
                instant(),
                any::<bool>(),
                arrivals(),
                prop::option::of(instant()),
                any::<bool>(),
                prop::collection::vec(entry, 0..4)
            )
                .prop_map(|(outcome, at, terminated, late, recovered, superseded, outbox)| {
                    Phase::Settled(Settled { outcome, at, terminated, late, recovered, superseded, outbox })
                }),
        ]
    }

    prop_compose! {
        /// Any row at all.
        pub(crate) fn row()(
            parts in (".*", ".*", prop::option::of(".*"), ".*", ".*"),
            round in 1u32.., times in (instant(), instant(), instant()), arrived in arrivals(), phase in phase(),
            timer in prop::option::of((".*", ".*", instant())), id_mode in any::<bool>(), rule in prop::option::of(".*"),
            revision in any::<u64>(),
        ) -> Row {
            let (registry, repository, tag, digest, payload) = parts;
            Row {
                id: PushId { key: Key::of(&[&repository]), round },
                correlation: if id_mode { Correlation::Id } else { Correlation::Content },
                subject: Subject { registry, repository, tag, digest, action: "push".into() },
                payload, rule, phase, revision,
                opened: times.0, deadline: times.1, updated: times.2,
                regions: arrived.keys().cloned().chain([Region::parse("x").unwrap()]).collect(),
                repeated: arrived.clone().into_iter().collect(),
                earlier: arrived.values().map(|a| a.id.clone()).collect(),
                arrived,
                timer: timer.map(|(id, receipt, due)| TimerRef { id, receipt, due }),
            }
        }
    }

    proptest! {
        #[test]
        fn rows_survive_their_text(row in row()) {
            prop_assert_eq!(decode(&encode(&row)), Ok(row));
        }
    }

    #[test]
    fn other_texts_are_told_apart() {
        assert!(decode("{}").unwrap_err().contains("not a record"));
        assert!(decode(r#"{"v":99,"row":{}}"#).unwrap_err().contains("version 99"));
        assert!(decode(r#"{"v":1,"row":{}}"#).unwrap_err().contains("cannot be read"));
    }
}
