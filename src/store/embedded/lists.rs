//! Questions about many pushes, on the reading connection.

use rusqlite::{Connection, params};

use super::database::slot;
use super::packed;
use crate::clock::Instant;
use crate::limits;
use crate::push::{Key, Row, record};
use crate::store::{Page, Search};

/// Marks this store's own cursors.
const CURSOR_PREFIX: &str = "s";

/// The slot that a cursor names.
pub(super) fn parse_cursor(text: &str) -> Option<i64> {
    let slot = text.strip_prefix(CURSOR_PREFIX)?;
    // A sign would be read too; what is written has none, since no push is older than 1970.
    slot.bytes().all(|b| b.is_ascii_digit()).then(|| slot.parse().ok())?
}

/// Reads rows from the newest to the oldest until the page is full, or enough were looked at.
pub(super) fn list(connection: &Connection, search: &Search) -> rusqlite::Result<Page> {
    let limit = search.limit.clamp(1, 1000);
    let first = search.since.map_or(i64::MIN, slot);
    let end = search.until.map_or(i64::MAX, slot);
    let before = search.cursor.as_deref().and_then(parse_cursor).map_or(end, |cursor| cursor.min(end));
    // Few pushes owe something at a time: their own index and a sort cost less than a walk over all.
    let select = if search.owing {
        "SELECT slot, body, payload FROM pushes INDEXED BY wakes WHERE wake IS NOT NULL AND slot < ?1 AND slot >= ?2 ORDER BY slot DESC LIMIT ?3"
    } else {
        "SELECT slot, body, payload FROM pushes WHERE slot < ?1 AND slot >= ?2 ORDER BY slot DESC LIMIT ?3"
    };
    let mut select = connection.prepare_cached(select)?;
    let most = i64::try_from(limits::LIST_LOOKED_AT_MAX + 1).unwrap_or(i64::MAX);
    let mut found = select.query(params![before, first, most])?;
    let mut page = Page::default();
    let (mut looked_at, mut bytes, mut last) = (0, 0, before);
    while let Some(columns) = found.next()? {
        if page.rows.len() == limit || bytes > limits::PAGE_BYTES_MAX || looked_at == limits::LIST_LOOKED_AT_MAX {
            page.next = Some(format!("{CURSOR_PREFIX}{last}"));
            return Ok(page);
        }
        looked_at += 1;
        last = columns.get(0)?;
        let payload: String = columns.get(2)?;
        match record::decode(columns.get_ref(1)?.as_str()?, payload) {
            Ok(row) if search.lists(&row) => {
                bytes += row.payload.len();
                page.rows.push(row);
            }
            Ok(_) => {}
            Err(cause) => {
                tracing::error!(cause, "a row cannot be read and is left out of the list");
                page.unreadable += 1;
            }
        }
    }
    Ok(page)
}

/// The newest push of the place of a key.
pub(super) fn newest_at(
    connection: &Connection,
    key: &Key,
    since: Option<Instant>,
) -> rusqlite::Result<Option<Result<Row, String>>> {
    let (mut first, mut last) = (packed(key, 0), packed(key, u32::MAX));
    first[16..].fill(0);
    last[16..].fill(u8::MAX);
    let mut select = connection.prepare_cached(
        "SELECT body, payload FROM pushes WHERE id BETWEEN ?1 AND ?2 AND slot >= ?3 ORDER BY slot DESC",
    )?;
    let mut found = select.query(params![first, last, since.map_or(i64::MIN, slot)])?;
    while let Some(columns) = found.next()? {
        let row = record::decode(columns.get_ref(0)?.as_str()?, columns.get(1)?);
        // What was purged leaves a trace.
        if row.as_ref().map_or(true, |row| !row.is_purged()) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}
