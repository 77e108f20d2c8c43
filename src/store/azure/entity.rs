//! Keys and columns of the table.
//!
//! The row's text goes into columns `Row0`, `Row1`, …, the registry's payload beside it into `Payload0`, `Payload1`, …,
//! each below the service's bound for a column. `Opened` and `Digest` are what a query asks for whether the tag has moved;
//! `Phase` and `PushId` tell which push of a tag is the newest; `Revision`, `Timer` and `App` are what the table's side of a push
//! is made of. The other columns are for people who look into the table; nothing reads them back.

use serde_json::{Map, Value};

use super::parts::{Entry, Opening, Record, Version};
use crate::clock::Instant;
use crate::push::names::half;
use crate::push::{Notice, Phase, PushId, Subject, record};

/// Columns of an entity, as they are sent.
pub(super) type Body = Map<String, Value>;

/// The column that tells one write from another.
pub(super) const WRITE_ID: &str = "WriteId";

/// Most UTF-16 units of one text column.
const COLUMN_UNITS_MAX: usize = 32 * 1024;

/// Counts instants down. Far enough from both ends of the calendar for 17 digits each way.
const LAST_MILLISECOND: i64 = 9_000_000_000_000_000;

/// RowKey of a push: its content, and the round counted down, so that the newest comes first.
pub(super) fn record_key(id: &PushId) -> String {
    format!("{}-{:08x}", id.key.content(), u32::MAX - id.round)
}

/// An instant as a text that sorts as it does.
pub(super) fn moment(at: Instant) -> String {
    format!("{:017}", LAST_MILLISECOND + at.timestamp_millis())
}

/// RowKey of an entry of the time index.
pub(super) fn index_key(entry: &Entry) -> String {
    format!("{}-{}", index_time(entry.at), entry.push)
}

/// The part of it that is the instant. With a full stop behind it, it stands before the RowKeys of all entries that are older
/// than the instant, and behind all others.
pub(super) fn index_time(at: Instant) -> String {
    format!("{:017}", LAST_MILLISECOND - at.timestamp_millis())
}

/// What an index row says; `None` when it is not one of ours.
pub(super) fn parse_index_key(key: &str) -> Option<Entry> {
    let (time, id) = key.split_once('-')?;
    if time.len() != 17 || !time.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let at = Instant::from_timestamp_millis(LAST_MILLISECOND - time.parse::<i64>().ok()?)?;
    Some(Entry { at, push: id.parse().ok()? })
}

/// An entity of nothing but its name.
pub(super) fn index_entity(partition: &str, key: &str) -> Body {
    [("PartitionKey", partition), ("RowKey", key)]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into_iter()
        .collect()
}

/// An entry of the time index. Its other columns are the subject of a push that is opened, so that a list need not read rows
/// that do not belong into it.
pub(super) fn entry_entity(partition: &str, key: &str, subject: Option<&Subject>) -> Body {
    let mut body = index_entity(partition, key);
    if let Some(subject) = subject {
        set_chunks(&mut body, "Subject", &serde_json::to_string(subject).unwrap_or_default());
    }
    body
}

/// A small text under a name.
pub(super) fn note_entity(partition: &str, name: &str, text: &str) -> Body {
    let mut body = index_entity(partition, name);
    set_chunks(&mut body, "Text", text);
    body
}

/// A record to be written.
pub(super) fn record_entity(record: &Record) -> Body {
    let Record { row, revision, timer, app } = record;
    let mut body = index_entity(row.id.key.place(), &record_key(&row.id));
    set_chunks(&mut body, "Row", &record::encode(row));
    set_chunks(&mut body, "Payload", &row.payload);
    let mut set = |name: &str, value: String| {
        body.insert(name.to_owned(), Value::from(value));
    };
    set("Revision", revision.to_string());
    set("App", app.clone());
    set("Opened", moment(row.opened));
    set("Digest", half(&[&row.subject.digest]));
    if let Some(timer) = timer {
        set("Timer", serde_json::to_string(timer).unwrap_or_default());
    }
    set("PushId", row.id.to_string());
    set("Image", row.subject.image());
    set("OpenedAt", row.opened.to_rfc3339());
    let (phase, outcome) = match &row.phase {
        Phase::Waiting { .. } => ("waiting", ""),
        Phase::Settled(settled) => ("settled", Notice::from(settled.outcome).word()),
        Phase::Purged { .. } => ("purged", ""),
    };
    set("Phase", phase.to_owned());
    set("Outcome", outcome.to_owned());
    body
}

fn set_chunks(body: &mut Body, column: &str, text: &str) {
    body.extend(chunks(text).enumerate().map(|(number, chunk)| (format!("{column}{number}"), chunk.into())));
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
pub(super) struct Stored {
    columns: Map<String, Value>,
    etag: String,
}

impl Stored {
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

    pub(super) fn version(&self) -> Version {
        Version(self.etag.clone())
    }

    pub(super) fn write_id(&self) -> Option<&str> {
        self.text(WRITE_ID)
    }

    /// The text of a note.
    pub(super) fn note(&self) -> Option<String> {
        self.text("Text0").map(|_| self.joined("Text"))
    }

    /// An entry of the time index.
    pub(super) fn entry(&self) -> Option<Entry> {
        parse_index_key(self.row_key()?)
    }

    /// What an entry of the time index says of a push that was opened.
    pub(super) fn opening(&self) -> Option<Opening> {
        let cursor = self.row_key()?.to_owned();
        let Entry { at, push } = self.entry()?;
        let subject = self.text("Subject0").and_then(|_| serde_json::from_str(&self.joined("Subject")).ok());
        Some(Opening { at, push, subject, cursor })
    }

    /// Name of a push, from its columns for people.
    pub(super) fn push(&self) -> Option<PushId> {
        self.text("PushId")?.parse().ok()
    }

    /// When a push was opened.
    pub(super) fn opened(&self) -> Option<Instant> {
        Instant::from_timestamp_millis(self.text("Opened")?.parse::<i64>().ok()? - LAST_MILLISECOND)
    }

    /// The record.
    ///
    /// # Errors
    /// For the operator: what is stored is not a record.
    pub(super) fn record(&self) -> Result<Record, String> {
        let row = record::decode(&self.joined("Row"), self.joined("Payload"))?;
        let timer = self.text("Timer").map(serde_json::from_str).transpose();
        let timer = timer.map_err(|_| "the stored timer cannot be read".to_owned())?;
        let revision = self.text("Revision").and_then(|text| text.parse().ok());
        let revision = revision.ok_or("the stored revision is not a number")?;
        Ok(Record { row, revision, timer, app: self.text("App").unwrap_or_default().to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::push::Key;
    use crate::push::record::tests::row;
    use crate::store::azure::parts::{Handle, Ticket, TimerRef};

    fn stored(body: Body) -> Stored {
        Stored::new(serde_json::from_str(&serde_json::to_string(&body).unwrap()).unwrap(), "e".into())
    }

    fn entry(millis: i64, round: u32) -> Entry {
        let at = Instant::from_timestamp_millis(millis).unwrap();
        Entry { at, push: PushId { key: Key::of(&["x"], &["y"]), round } }
    }

    proptest! {
        #[test]
        fn records_survive_their_columns(row in row(), revision in any::<u64>(), stretch in 1usize..3000, timed in any::<bool>()) {
            let handle = Handle { id: row.payload.clone(), receipt: "r".into() };
            let timer = TimerRef { ticket: Ticket { revision, writer: revision }, handle, due: row.deadline };
            let row = crate::push::Row { payload: row.payload.repeat(stretch), ..row };
            let record = Record { row, revision, timer: timed.then_some(timer), app: "a".into() };
            let stored = stored(record_entity(&record));
            prop_assert_eq!(stored.opened(), Some(record.row.opened));
            prop_assert_eq!(stored.record(), Ok(record));
        }

        #[test]
        fn chunks_join_and_fit(text in "[a\u{e9}\u{65e5}\u{1f600}]{0,64}", stretch in 1usize..4000) {
            let text = text.repeat(stretch);
            prop_assert_eq!(chunks(&text).collect::<String>(), text.clone());
            prop_assert!(chunks(&text).all(|c| !c.is_empty() && c.encode_utf16().count() <= COLUMN_UNITS_MAX));
            prop_assert!(chunks(&text).count() <= text.encode_utf16().count() / (COLUMN_UNITS_MAX - 1) + 1);
        }

        #[test]
        fn keys_survive_and_sort(a in 0i64..4_000_000_000_000, b in 0i64..4_000_000_000_000, round in 1u32..) {
            let (one, other) = (entry(a, round), entry(b, round));
            let (ka, kb) = (index_key(&one), index_key(&other));
            prop_assert_eq!(parse_index_key(&ka), Some(one.clone()));
            prop_assert_eq!(a.cmp(&b), kb.cmp(&ka), "newest first");
            prop_assert_eq!(a.cmp(&b), moment(one.at).cmp(&moment(other.at)));
            prop_assert_eq!(a < b, format!("{}.", index_time(other.at)) < ka);
        }

        #[test]
        fn any_cursor_is_read_or_refused(text in ".*") {
            if let Some(entry) = parse_index_key(&text) {
                prop_assert_eq!(index_key(&entry), text);
            }
        }

        #[test]
        fn newer_rounds_sort_first(a in 1u32.., b in 1u32..) {
            let key = |round| record_key(&entry(0, round).push);
            prop_assert_eq!(a.cmp(&b), key(b).cmp(&key(a)));
        }
    }

    #[test]
    fn the_ends_of_the_calendar_keep_their_place() {
        for at in [Instant::MIN_UTC, Instant::MAX_UTC, Instant::UNIX_EPOCH] {
            let key = index_key(&Entry { at, ..entry(0, 1) });
            assert_eq!(parse_index_key(&key).unwrap().at.timestamp_millis(), at.timestamp_millis(), "{key}");
        }
    }

    #[test]
    fn entries_of_the_first_edition_are_not_ours() {
        assert_eq!(parse_index_key("08998236400000000-0123456789abcdef0123456789abcdef01234567-1"), None);
    }
}
