//! Records in Azure Table Storage.
//!
//! Layout of the one table
//! - A push: PartitionKey = the 32 hex digits of its place, RowKey = those of its content and the round counted down, so that
//!   the newest round of a key is the first row of a range (one query), any round is one point read, and one query over the
//!   partition tells whether the tag has moved. Keys need no escaping.
//! - The time index: PartitionKey `index`, RowKey = the instant counted down, then the push id. Newest first.
//! - Notes: PartitionKey `notes`, RowKey = the name.
//!
//! Guarantees
//! - A record changes only against its ETag. Every write carries an id of its own, so that one whose answer was lost is found.
//! - One request per call as long as nothing fails. Entities are never written in groups; entries of the index go in groups, and
//!   one by one where a group fails, as it does for want of one of them.
//!
//! Races
//! - *The answer of a write is lost.* 1. The write is repeated. 2. The repeat meets 409 or 412. 3. The row is read: with our id in
//!   it, it was written; with another, nobody can tell, which is what [`Put::InDoubt`] says.
//! - *The table is deleted while we run.* A read finds nothing, a write creates it and goes on.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::Etag;
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{EntityClient, TableClient};
use azure_data_tables::operations::QueryEntityResponse;
use futures_util::StreamExt as _;

use super::connection::{self, Connection, creating, is_transient, status, unless};
use super::entity::{
    self, Stored, entry_entity, index_key, index_time, moment, note_entity, parse_index_key, record_key,
};
use super::parts::{Entry, Expected, Failure, Opening, Put, Record, Rows, Span, Version, Versioned};
use crate::clock::Instant;
use crate::push::names::half;
use crate::push::{Key, PushId, Row, Subject};

/// The service, for people.
pub(super) const SERVICE: &str = "Table Storage";

const INDEX: &str = "index";
const NOTES: &str = "notes";

/// The columns that say which row it is.
const NAMES: &str = "PartitionKey,RowKey";

/// Most rows of one page of the service.
const PAGE_MAX: usize = 1000;

/// Most entities of one group of the service.
const GROUP_MAX: usize = 100;

/// See the module.
#[derive(Debug, Clone)]
pub struct Table {
    connection: Connection,
    table: TableClient,
    name: String,
}

impl Table {
    /// Records in the table of this name. Sends nothing yet.
    #[must_use]
    pub fn new(connection: &Connection, name: &str) -> Self {
        Self { connection: connection.clone(), table: connection.tables().table_client(name), name: name.to_owned() }
    }

    fn at(&self, partition: &str, row: &str) -> EntityClient {
        self.table.partition_key_client(partition).entity_client(row)
    }

    async fn read(&self, partition: &str, row: &str) -> Result<Option<Stored>, Failure> {
        let read = self.connection.retry(row, || {
            let get = self.at(partition, row).get::<serde_json::Map<String, serde_json::Value>>();
            async { get.await }
        });
        Ok(found(read.await)?.map(|got| Stored::new(got.entity, got.etag.to_string())))
    }

    /// The first `limit` rows that `filter` lets through, in order; none when the table is missing.
    async fn query(&self, filter: String, select: Option<&'static str>, limit: usize) -> Result<Vec<Stored>, Failure> {
        let top = u32::try_from(limit.min(PAGE_MAX)).unwrap_or(1);
        let read = self.connection.retry(&filter, || async {
            let mut query = self.table.query().filter(filter.clone()).top(top);
            if let Some(select) = select {
                query = query.select(select);
            }
            let mut pages = query.into_stream::<serde_json::Map<String, serde_json::Value>>();
            let mut found = Vec::new();
            // A page may be short, or empty, and still not be the last.
            while let Some(page) = pages.next().await {
                let page: QueryEntityResponse<_> = page?;
                found.extend(page.entities);
                if found.len() >= limit {
                    break;
                }
            }
            found.truncate(limit);
            Ok(found)
        });
        Ok(found(read.await)?.into_iter().flatten().map(Stored::of_query).collect())
    }

    /// Up to `limit` rows of the time index within a span, from behind `cursor` on, and where the next page begins.
    async fn walk(
        &self,
        span: Span,
        select: Option<&'static str>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<(Vec<Stored>, Option<String>), Failure> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut filter = format!("PartitionKey eq '{INDEX}'");
        // Later instants sort first. A full stop is the character after the hyphen.
        if let Some(until) = span.until {
            let _ = write!(filter, " and RowKey gt '{}.'", index_time(until));
        }
        if let Some(since) = span.since {
            let _ = write!(filter, " and RowKey lt '{}.'", index_time(since));
        }
        // Only a key of our own making is let into the filter.
        if let Some(after) = cursor.filter(|c| parse_index_key(c).is_some()) {
            let _ = write!(filter, " and RowKey gt '{after}'");
        }
        let mut found = self.query(filter, select, limit + 1).await?;
        let next = found.get(limit - 1).filter(|_| found.len() > limit).and_then(Stored::row_key).map(str::to_owned);
        found.truncate(limit);
        Ok((found, next))
    }

    /// Takes entries out of the index in one request: all, or none.
    async fn unindex_group(&self, keys: &[String]) -> bool {
        let partition = self.table.partition_key_client(INDEX);
        let group = keys.iter().try_fold(partition.transaction(), |group, key| group.delete(key.as_str(), None));
        let Ok(group) = group else { return false };
        let sent = group.into_future().await;
        sent.is_ok_and(|answer| answer.operation_responses.iter().all(|one| one.status_code.is_success()))
    }

    async fn create(&self) -> Result<(), Failure> {
        self.connection.create(SERVICE, &self.name, || async { self.table.create().await }).await
    }

    /// One try of a write: over anything, insert, or replace against a version. Returns the new one.
    async fn write(&self, body: &entity::Body, expected: Option<&Expected>) -> azure_core::Result<Version> {
        let place = |column| body.get(column).and_then(serde_json::Value::as_str).unwrap_or_default();
        let at = || self.at(place("PartitionKey"), place("RowKey"));
        let etag = match expected {
            Some(Expected::Absent) => self.table.insert::<_, serde_json::Value>(body)?.await?.etag,
            Some(Expected::Version(Version(etag))) => {
                at().update(body, IfMatchCondition::Etag(Etag::from(etag.clone())))?.await?.etag
            }
            None => at().insert_or_replace(body)?.await?.etag,
        };
        Ok(Version(etag.to_string()))
    }

    /// Writes an entity that carries an id of its own.
    async fn put_entity(&self, mut body: entity::Body, expected: Option<&Expected>) -> Result<Put, Failure> {
        let write = uuid::Uuid::new_v4().simple().to_string();
        body.insert(entity::WRITE_ID.into(), write.clone().into());
        let mut tries = self.connection.tries(&write);
        let (mut unsure, mut created) = (false, false);
        loop {
            let error = match self.write(&body, expected).await {
                Ok(version) => return Ok(Put::Written(version)),
                Err(error) => error,
            };
            match (status(&error), expected) {
                (Some(409 | 412), _) | (Some(404), Some(Expected::Version(_))) => {
                    return if unsure { self.settle(&body, &write).await } else { Ok(Put::Conflict) };
                }
                (Some(404), Some(Expected::Absent) | None) if !created => {
                    created = true;
                    self.create().await.map_err(|f| in_doubt(f, unsure))?;
                }
                _ if is_transient(&error) => {
                    unsure = true;
                    if !tries.again().await {
                        return Err(failure(&error));
                    }
                }
                _ => return Err(in_doubt(failure(&error), unsure)),
            }
        }
    }

    /// After a write whose earlier try has an unknown outcome met a row that does not fit: was it our own?
    async fn settle(&self, body: &entity::Body, write: &str) -> Result<Put, Failure> {
        let place = |column| body.get(column).and_then(serde_json::Value::as_str).unwrap_or_default();
        let found = self.read(place("PartitionKey"), place("RowKey")).await.map_err(|f| in_doubt(f, true))?;
        Ok(match found.filter(|stored| stored.write_id() == Some(write)) {
            Some(stored) => Put::Written(stored.version()),
            None => Put::InDoubt,
        })
    }
}

fn failure(error: &azure_core::Error) -> Failure {
    connection::failure(SERVICE, error)
}

/// What was found, if anything: that a row is missing, or the whole table, is the same to a reader.
fn found<T>(read: azure_core::Result<T>) -> Result<Option<T>, Failure> {
    unless(SERVICE, read, &[404])
}

fn versioned(stored: &Stored) -> Result<Versioned, Failure> {
    let record = stored.record().map_err(Failure::Corrupt)?;
    Ok(Versioned { record: Arc::new(record), version: stored.version() })
}

/// A refusal says that nothing was written only when no earlier try may have been.
fn in_doubt(failure: Failure, unsure: bool) -> Failure {
    match failure {
        Failure::Corrupt(cause) if unsure => Failure::Unavailable(cause),
        Failure::Corrupt(_) | Failure::Unavailable(_) => failure,
    }
}

#[async_trait]
impl Rows for Table {
    async fn newest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        // A full stop is the character after the hyphen.
        let (place, content) = (key.place(), key.content());
        let filter = format!("PartitionKey eq '{place}' and RowKey gt '{content}-' and RowKey lt '{content}.'");
        let found = self.query(filter, None, 1).await?;
        found.first().map(versioned).transpose()
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        self.read(id.key.place(), &record_key(id)).await?.as_ref().map(versioned).transpose()
    }

    async fn moved(&self, row: &Row, (after, before): (Instant, Instant)) -> Result<Option<Instant>, Failure> {
        let filter = format!(
            "PartitionKey eq '{}' and Opened gt '{}' and Opened lt '{}' and Digest ne '{}'",
            row.id.key.place(),
            moment(after),
            moment(before),
            half(&[&row.subject.digest])
        );
        let found = self.query(filter, Some("PartitionKey,RowKey,Opened"), usize::MAX).await?;
        Ok(found.iter().filter_map(Stored::opened).max())
    }

    async fn put(&self, record: &Record, expected: &Expected) -> Result<Put, Failure> {
        self.put_entity(entity::record_entity(record), Some(expected)).await
    }

    async fn remove(&self, id: &PushId, Version(etag): &Version) -> Result<bool, Failure> {
        let mut tries = self.connection.tries(etag);
        let mut unsure = false;
        loop {
            let matching = IfMatchCondition::Etag(Etag::from(etag.clone()));
            let delete = self.at(id.key.place(), &record_key(id)).delete().if_match(matching);
            match delete.await {
                Ok(_) => return Ok(true),
                // An earlier try may have done it; either way the row is gone.
                Err(error) if status(&error) == Some(404) && unsure => return Ok(true),
                Err(error) if matches!(status(&error), Some(404 | 412)) => return Ok(false),
                Err(error) if is_transient(&error) => {
                    unsure = true;
                    if !tries.again().await {
                        return Err(failure(&error));
                    }
                }
                Err(error) => return Err(failure(&error)),
            }
        }
    }

    async fn newest_at(&self, place: &str, since: Option<Instant>) -> Result<Option<PushId>, Failure> {
        let opened = since.map(|since| format!(" and Opened ge '{}'", moment(since))).unwrap_or_default();
        let filter = format!("PartitionKey eq '{place}'{opened} and Phase ne 'purged'");
        // All of them, since they come in the order of their contents' hashes.
        let found = self.query(filter, Some("PartitionKey,RowKey,Opened,PushId"), usize::MAX).await?;
        Ok(found.iter().max_by_key(|stored| stored.opened()).and_then(Stored::push))
    }

    async fn index(&self, entry: &Entry, subject: Option<&Subject>) -> Result<(), Failure> {
        let key = index_key(entry);
        let body = entry_entity(INDEX, &key, subject);
        let write = || async { self.at(INDEX, &key).insert_or_merge(&body)?.await.map(drop) };
        creating(SERVICE, || self.connection.retry(&key, write), || self.create()).await
    }

    async fn unindex(&self, entries: &[Entry]) -> Result<(), Failure> {
        for group in entries.chunks(GROUP_MAX) {
            let keys: Vec<String> = group.iter().map(index_key).collect();
            if keys.len() > 1 && self.unindex_group(&keys).await {
                continue;
            }
            for key in &keys {
                found(self.connection.retry(key, || async { self.at(INDEX, key).delete().await }).await)?;
            }
        }
        Ok(())
    }

    async fn between(&self, (from, to): (Instant, Instant), limit: usize) -> Result<Vec<Entry>, Failure> {
        let span = Span { since: Some(from), until: Some(to) };
        let (found, _) = self.walk(span, Some(NAMES), limit, None).await?;
        Ok(found.iter().filter_map(Stored::entry).collect())
    }

    async fn entries(&self, limit: usize, cursor: Option<&str>) -> Result<(Vec<Entry>, Option<String>), Failure> {
        let (found, next) = self.walk(Span::default(), Some(NAMES), limit, cursor).await?;
        Ok((found.iter().filter_map(Stored::entry).collect(), next))
    }

    async fn openings(
        &self,
        span: Span,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<(Vec<Opening>, Option<String>), Failure> {
        let (found, next) = self.walk(span, None, limit, cursor).await?;
        Ok((found.iter().filter_map(Stored::opening).collect(), next))
    }

    async fn notes(&self, prefix: &str) -> Result<Vec<(String, String, Version)>, Failure> {
        // A tilde comes after every character of a name.
        let filter = format!("PartitionKey eq '{NOTES}' and RowKey ge '{prefix}' and RowKey lt '{prefix}~'");
        let found = self.query(filter, None, PAGE_MAX).await?;
        Ok(found
            .iter()
            .filter_map(|stored| Some((stored.row_key()?.to_owned(), stored.note()?, stored.version())))
            .collect())
    }

    async fn put_note(&self, name: &str, text: &str, expected: Option<&Expected>) -> Result<Put, Failure> {
        self.put_entity(note_entity(NOTES, name, text), expected).await
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let probe = || {
            let query = self.table.query().filter(format!("PartitionKey eq '{INDEX}'")).top(1);
            let mut pages = query.into_stream::<serde_json::Value>();
            async move { pages.next().await.transpose().map(|_| ()) }
        };
        creating(SERVICE, || self.connection.retry(&self.name, probe), || self.create()).await
    }
}
