//! Keys and columns of the table, and the stamp that is a row's version.
//!
//! The row's record goes into columns `Row0`, `Row1`, …, the registry's payload beside it into `Payload0`, `Payload1`, …,
//! each below the service's bound for a column. Apart, because inside the record the payload would be escaped a second
//! time, and the largest one allowed could then outgrow the service's bound for a row. The other columns are for people
//! who look into the table; nothing reads them back.

use serde_json::{Map, Value};

use crate::clock::Instant;
use crate::push::state::{Outcome, Phase, Row};
use crate::push::{PushId, record};
use crate::store::Version;

/// Columns of an entity, as they are sent.
pub(super) type Body = Map<String, Value>;

/// Most UTF-16 units of one text column.
const COLUMN_UNITS_MAX: usize = 32 * 1024;

/// Most write ids a row remembers, its newest included. More commits than this between the loss of an answer and the look
/// at the row would have to happen within a second.
const WRITES_MAX: usize = 16;

/// Counts opening times down. Far enough from both ends of the calendar for 17 digits each way.
const LAST_MILLISECOND: i64 = 9_000_000_000_000_000;

/// RowKey of a round: counted down, so that the newest comes first.
pub(super) fn row_key(round: u32) -> String {
    format!("{:08x}", u32::MAX - round)
}

/// RowKey of a push in the time index.
pub(super) fn index_key(id: &PushId, opened: Instant) -> String {
    format!("{:017}-{id}", LAST_MILLISECOND - opened.timestamp_millis())
}

/// What an index row says; `None` when it is not one of ours.
pub(super) fn parse_index_key(key: &str) -> Option<(PushId, Instant)> {
    let (time, id) = key.split_once('-')?;
    if time.len() != 17 || !time.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let opened = Instant::from_timestamp_millis(LAST_MILLISECOND - time.parse::<i64>().ok()?)?;
    Some((id.parse().ok()?, opened))
}

/// An index row; its key says it all.
pub(super) fn index_entity(partition: &str, key: &str) -> Body {
    [("PartitionKey", partition), ("RowKey", key)]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into_iter()
        .collect()
}

/// A push row to be written as `stamp` says.
pub(super) fn row_entity(row: &Row, stamp: &Stamp) -> Body {
    let mut body = index_entity(row.id.key.as_str(), &row_key(row.id.round));
    let mut set = |name: String, value: &str| {
        body.insert(name, Value::from(value));
    };
    let lean = Row { payload: String::new(), ..row.clone() };
    for (number, chunk) in chunks(&record::encode(&lean)).enumerate() {
        set(format!("Row{number}"), chunk);
    }
    for (number, chunk) in chunks(&row.payload).enumerate() {
        set(format!("Payload{number}"), chunk);
    }
    set("WriteId".into(), stamp.newest().unwrap_or_default());
    set("WritesBefore".into(), &stamp.writes.get(1..).unwrap_or_default().join(" "));
    set("PushId".into(), &row.id.to_string());
    set("Image".into(), &row.subject.image());
    set("OpenedAt".into(), &row.opened.to_rfc3339());
    let (phase, outcome) = match &row.phase {
        Phase::Waiting => ("waiting", ""),
        Phase::Settled(settled) => match settled.outcome {
            Outcome::Replicated => ("settled", "replicated"),
            Outcome::TimedOut => ("settled", "timed_out"),
        },
    };
    set("Phase".into(), phase);
    set("Outcome".into(), outcome);
    body
}

/// Cuts a text into pieces that fit a column, between characters. None of an empty text.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut units = 0;
        let end = rest.char_indices().find(|(_, c)| {
            units += c.len_utf16();
            units > COLUMN_UNITS_MAX
        });
        let (head, tail) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        rest = tail;
        Some(head).filter(|head| !head.is_empty())
    })
}

/// A stored entity.
#[derive(Debug)]
pub(super) struct Entity {
    columns: Map<String, Value>,
    etag: String,
}

impl Entity {
    pub(super) fn new(columns: Map<String, Value>, etag: String) -> Self {
        Self { columns, etag }
    }

    /// An entity of a query, whose ETag is a column.
    pub(super) fn of_query(columns: Map<String, Value>) -> Self {
        let etag = columns.get("odata.etag").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { columns, etag }
    }

    fn text(&self, column: &str) -> Option<&str> {
        self.columns.get(column).and_then(Value::as_str)
    }

    fn joined(&self, column: &str) -> String {
        (0..).map_while(|number: u32| self.text(&format!("{column}{number}"))).collect()
    }

    pub(super) fn row_key(&self) -> Option<&str> {
        self.text("RowKey")
    }

    /// The row.
    ///
    /// # Errors
    /// For the operator: what is stored is not a row.
    pub(super) fn row(&self) -> Result<Row, String> {
        let row = record::decode(&self.joined("Row"))?;
        Ok(Row { payload: self.joined("Payload"), ..row })
    }

    pub(super) fn stamp(&self) -> Stamp {
        let before = self.text("WritesBefore").unwrap_or_default().split(' ');
        let writes = self.text("WriteId").into_iter().chain(before).filter(|w| !w.is_empty());
        Stamp { etag: self.etag.clone(), writes: writes.map(str::to_owned).collect() }
    }
}

/// What a [`Version`] of this store holds: the ETag, and the ids of the newest writes, the last one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    etag: String,
    writes: Vec<String>,
}

impl Stamp {
    pub(super) fn parse(version: &Version) -> Option<Self> {
        let (etag, writes) = version.0.split_once('\n')?;
        Some(Self {
            etag: etag.to_owned(),
            writes: writes.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect(),
        })
    }

    pub(super) fn version(&self) -> Version {
        Version(format!("{}\n{}", self.etag, self.writes.join(" ")))
    }

    /// The stamp of a write on top of `base`, its ETag still to come.
    pub(super) fn after(base: Option<&Self>, write: &str) -> Self {
        let before = base.map(|base| base.writes.as_slice()).unwrap_or_default();
        let writes = std::iter::once(write).chain(before.iter().map(String::as_str)).take(WRITES_MAX);
        Self { etag: String::new(), writes: writes.map(str::to_owned).collect() }
    }

    pub(super) fn at(self, etag: String) -> Self {
        Self { etag, ..self }
    }

    /// The stamp of a write that others have replaced before its ETag was learned: nothing can be written against it.
    pub(super) fn overtaken(write: &str) -> Self {
        Self { etag: String::new(), writes: vec![write.to_owned()] }
    }

    pub(super) fn is_overtaken(&self) -> bool {
        self.etag.is_empty()
    }

    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    pub(super) fn newest(&self) -> Option<&str> {
        self.writes.first().map(String::as_str)
    }

    pub(super) fn knows(&self, write: &str) -> bool {
        self.writes.iter().any(|w| w == write)
    }

    /// Whether the ids go back to the row's first write.
    pub(super) fn complete(&self) -> bool {
        self.writes.len() < WRITES_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::Key;
    use crate::push::record::tests::row;

    fn stored(body: Body, etag: &str) -> Entity {
        Entity::new(serde_json::from_str(&serde_json::to_string(&body).unwrap()).unwrap(), etag.into())
    }

    proptest! {
        #[test]
        fn rows_survive_their_columns(row in row(), stretch in 1usize..3000) {
            let row = Row { payload: row.payload.repeat(stretch), ..row };
            let stamp = Stamp::after(None, "w1");
            let entity = stored(row_entity(&row, &stamp), "e1");
            prop_assert_eq!(entity.row(), Ok(row));
            prop_assert_eq!(entity.stamp(), stamp.at("e1".into()));
        }

        #[test]
        fn chunks_join_and_fit(text in "[a\u{e9}\u{65e5}\u{1f600}]{0,64}", stretch in 1usize..4000) {
            let text = text.repeat(stretch);
            prop_assert_eq!(chunks(&text).collect::<String>(), text.clone());
            prop_assert!(chunks(&text).all(|c| !c.is_empty() && c.encode_utf16().count() <= COLUMN_UNITS_MAX));
            prop_assert!(chunks(&text).count() <= text.encode_utf16().count() / (COLUMN_UNITS_MAX - 1) + 1);
        }

        #[test]
        fn index_keys_survive_and_sort_newest_first(a in 0i64..4_000_000_000_000, b in 0i64..4_000_000_000_000, round in 1u32..) {
            let id = PushId { key: Key::of(&["x"]), round };
            let at = |ms| Instant::from_timestamp_millis(ms).unwrap();
            let (ka, kb) = (index_key(&id, at(a)), index_key(&id, at(b)));
            prop_assert_eq!(parse_index_key(&ka), Some((id, at(a))));
            prop_assert_eq!(a.cmp(&b), kb.cmp(&ka));
        }

        #[test]
        fn any_cursor_is_read_or_refused(text in ".*") {
            if let Some((id, opened)) = parse_index_key(&text) {
                prop_assert_eq!(index_key(&id, opened), text);
            }
        }

        #[test]
        fn newer_rounds_sort_first(a in 1u32.., b in 1u32..) {
            prop_assert_eq!(a.cmp(&b), row_key(b).cmp(&row_key(a)));
        }
    }

    #[test]
    fn the_ends_of_the_calendar_keep_their_place() {
        let id = PushId { key: Key::of(&["x"]), round: 1 };
        for at in [Instant::MIN_UTC, Instant::MAX_UTC, Instant::UNIX_EPOCH] {
            let key = index_key(&id, at);
            assert_eq!(parse_index_key(&key).unwrap().1.timestamp_millis(), at.timestamp_millis(), "{key}");
        }
    }

    #[test]
    fn stamps_remember_the_newest_writes() {
        let mut stamp = Stamp::after(None, "0").at("e".into());
        assert!(stamp.complete());
        for n in 1..40 {
            stamp = Stamp::after(Some(&stamp), &n.to_string()).at(format!("e{n}"));
            assert_eq!(Stamp::parse(&stamp.version()), Some(stamp.clone()));
        }
        assert_eq!((stamp.newest(), stamp.writes.len(), stamp.complete()), (Some("39"), WRITES_MAX, false));
        assert!(stamp.knows("24") && !stamp.knows("23"));
    }
}
