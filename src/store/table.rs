//! Rows in Azure Table Storage.
//!
//! Layout of the one table
//! - A push: PartitionKey = the key's 40 hex digits, RowKey = the round counted down, so that the newest round of a key is
//!   the first row of its partition (one query) and any round is one point read. Keys need no escaping.
//! - The time index: PartitionKey `index`, RowKey = the opening time counted down, then the push id. Newest first.
//!
//! Guarantees
//! - A row changes only against its ETag; `Written` and `Conflict` are always true. Every write carries an id of its own,
//!   and the ids of the writes before it, so that a write whose answer was lost is found even when others have built on it.
//! - One request per call as long as nothing fails; entities are never written in groups.
//!
//! Races handled
//! - The answer of a write is lost and the repeat meets its own result: 409 or 412, then read and compare (`settle`).
//! - The table is deleted while we run: a read finds nothing, a write creates it and goes on.
//! - An index row without a push row (a process died in between) stays; whoever lists skips it.

mod entity;

use async_trait::async_trait;
use azure_core::Etag;
use azure_data_tables::IfMatchCondition;
use azure_data_tables::clients::{EntityClient, TableClient};
use azure_data_tables::operations::QueryEntityResponse;
use futures_util::StreamExt as _;

use self::entity::{Entity, Stamp, index_entity, index_key, parse_index_key, row_key};
use super::azure::{self, Connection, is_transient, status};
use super::{Expected, Failure, Page, Put, Store, Version, Versioned};
use crate::clock::Instant;
use crate::push::state::Row;
use crate::push::{Key, PushId};

/// Name of the table in the storage account.
pub const TABLE: &str = "GlobalWebhook";

const INDEX: &str = "index";

/// Most rows of one page of the service.
const PAGE_MAX: usize = 1000;

/// See the module.
#[derive(Debug, Clone)]
pub struct TableStore {
    connection: Connection,
    table: TableClient,
}

impl TableStore {
    /// Rows in the table [`TABLE`] of an account. Sends nothing yet.
    #[must_use]
    pub fn new(connection: &Connection) -> Self {
        Self { connection: connection.clone(), table: connection.tables().table_client(TABLE) }
    }

    fn at(&self, partition: &str, row: &str) -> EntityClient {
        self.table.partition_key_client(partition).entity_client(row)
    }

    async fn read(&self, id: &PushId) -> Result<Option<Entity>, Failure> {
        let (partition, row) = (id.key.as_str(), row_key(id.round));
        let read = self.connection.retry(&row, || {
            let get = self.at(partition, &row).get::<serde_json::Map<String, serde_json::Value>>();
            async { get.await }
        });
        match read.await {
            Ok(got) => Ok(Some(Entity::new(got.entity, got.etag.to_string()))),
            // The row or the whole table is missing; it is the same to a reader.
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(&error)),
        }
    }

    /// The first `limit` rows that `filter` lets through, in order; none when the table is missing.
    async fn query(&self, filter: String, select: Option<&'static str>, limit: usize) -> Result<Vec<Entity>, Failure> {
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
        match read.await {
            Ok(found) => Ok(found.into_iter().map(Entity::of_query).collect()),
            Err(error) if status(&error) == Some(404) => Ok(vec![]),
            Err(error) => Err(failure(&error)),
        }
    }

    /// Creates the table. One that exists, or is still being deleted, is no error: the next request tells them apart.
    async fn create(&self) -> Result<(), Failure> {
        match self.connection.retry(TABLE, || async { self.table.create().await }).await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(409) => Ok(()),
            Err(error) => Err(failure(&error)),
        }
    }

    /// One try of a write: insert, or replace against `etag`. Returns the new ETag.
    async fn write(&self, id: &PushId, body: &entity::Body, etag: Option<&str>) -> azure_core::Result<String> {
        let etag = match etag {
            None => self.table.insert::<_, serde_json::Value>(body)?.await?.etag,
            Some(etag) => {
                let matching = IfMatchCondition::Etag(Etag::from(etag.to_owned()));
                self.at(id.key.as_str(), &row_key(id.round)).update(body, matching)?.await?.etag
            }
        };
        Ok(etag.to_string())
    }

    /// After a write whose earlier try has an unknown outcome met a row that does not fit: was it our own?
    async fn settle(&self, id: &PushId, write: &str, base: Option<&str>) -> Result<Put, Failure> {
        let unknown = || Failure::Unavailable("the answer to a write was lost and its outcome cannot be told".into());
        let stamp = self.read(id).await?.ok_or_else(unknown)?.stamp();
        if stamp.newest() == Some(write) {
            Ok(Put::Written(stamp.version()))
        } else if stamp.knows(write) {
            Ok(Put::Written(Stamp::overtaken(write).version()))
        } else if stamp.complete() || base.is_some_and(|base| stamp.knows(base)) {
            Ok(Put::Conflict)
        } else {
            Err(unknown())
        }
    }
}

fn failure(error: &azure_core::Error) -> Failure {
    azure::failure("Table Storage", error)
}

fn versioned(entity: &Entity) -> Result<Versioned, Failure> {
    let row = entity.row().map_err(Failure::Corrupt)?;
    Ok(Versioned { row, version: entity.stamp().version() })
}

/// A refusal says that nothing was written only when no earlier try may have been.
fn in_doubt(failure: Failure, unsure: bool) -> Failure {
    match failure {
        Failure::Corrupt(cause) if unsure => Failure::Unavailable(cause),
        Failure::Corrupt(_) | Failure::Unavailable(_) => failure,
    }
}

#[async_trait]
impl Store for TableStore {
    async fn latest(&self, key: &Key) -> Result<Option<Versioned>, Failure> {
        let found = self.query(format!("PartitionKey eq '{}'", key.as_str()), None, 1).await?;
        found.first().map(versioned).transpose()
    }

    async fn get(&self, id: &PushId) -> Result<Option<Versioned>, Failure> {
        self.read(id).await?.as_ref().map(versioned).transpose()
    }

    async fn index(&self, id: &PushId, opened: Instant) -> Result<(), Failure> {
        let key = index_key(id, opened);
        let body = index_entity(INDEX, &key);
        let mut created = false;
        loop {
            let write = self.connection.retry(&key, || async {
                self.at(INDEX, &key).insert_or_merge(&body)?.await?;
                Ok(())
            });
            match write.await {
                Ok(()) => return Ok(()),
                Err(error) if status(&error) == Some(404) && !created => {
                    created = true;
                    self.create().await?;
                }
                Err(error) => return Err(failure(&error)),
            }
        }
    }

    async fn put(&self, row: &Row, expected: &Expected) -> Result<Put, Failure> {
        let base = match expected {
            Expected::Absent => None,
            Expected::Version(version) => match Stamp::parse(version) {
                Some(stamp) if !stamp.is_overtaken() => Some(stamp),
                Some(_) | None => return Ok(Put::Conflict),
            },
        };
        let write = uuid::Uuid::new_v4().simple().to_string();
        let next = Stamp::after(base.as_ref(), &write);
        let body = entity::row_entity(row, &next);
        let etag = base.as_ref().map(Stamp::etag);
        let base_write = base.as_ref().and_then(Stamp::newest);
        let mut tries = self.connection.tries(&write);
        let (mut unsure, mut created) = (false, false);
        loop {
            let error = match self.write(&row.id, &body, etag).await {
                Ok(etag) => return Ok(Put::Written(next.at(etag).version())),
                Err(error) => error,
            };
            match (status(&error), expected) {
                (Some(409 | 412), _) | (Some(404), Expected::Version(_)) => {
                    if !unsure {
                        return Ok(Put::Conflict);
                    }
                    return self.settle(&row.id, &write, base_write).await.map_err(|f| in_doubt(f, unsure));
                }
                (Some(404), Expected::Absent) if !created => {
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

    async fn remove(&self, row: &Row, version: &Version) -> Result<bool, Failure> {
        let Some(stamp) = Stamp::parse(version).filter(|s| !s.is_overtaken()) else { return Ok(false) };
        let mut tries = self.connection.tries(stamp.etag());
        let mut unsure = false;
        loop {
            let matching = IfMatchCondition::Etag(Etag::from(stamp.etag().to_owned()));
            let delete = self.at(row.id.key.as_str(), &row_key(row.id.round)).delete().if_match(matching);
            match delete.await {
                Ok(_) => break,
                // An earlier try may have done it; either way the row is gone.
                Err(error) if status(&error) == Some(404) && unsure => break,
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
        let key = index_key(&row.id, row.opened);
        let unindexed = self.connection.retry(&key, || async { self.at(INDEX, &key).delete().await });
        match unindexed.await {
            Ok(_) => {}
            Err(error) if status(&error) == Some(404) => {}
            Err(error) => {
                let cause = failure(&error);
                tracing::warn!(push.id = %row.id, %cause, "a removed push stays in the time index; whoever lists skips it");
            }
        }
        Ok(true)
    }

    async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page, Failure> {
        let limit = limit.clamp(1, PAGE_MAX);
        // Only a key of our own making is let into the filter.
        let after = cursor.filter(|c| parse_index_key(c).is_some()).map(|c| format!(" and RowKey gt '{c}'"));
        let filter = format!("PartitionKey eq '{INDEX}'{}", after.unwrap_or_default());
        let found = self.query(filter, Some("PartitionKey,RowKey"), limit + 1).await?;
        let next = found.get(limit - 1).filter(|_| found.len() > limit).and_then(Entity::row_key).map(str::to_owned);
        let keys = found.iter().take(limit).filter_map(Entity::row_key);
        Ok(Page { pushes: keys.filter_map(parse_index_key).collect(), next })
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let mut created = false;
        loop {
            let filter = format!("PartitionKey eq '{INDEX}'");
            let probe = self.connection.retry(TABLE, || {
                let mut pages = self.table.query().filter(filter.clone()).top(1).into_stream::<serde_json::Value>();
                async move { pages.next().await.transpose().map(|_| ()) }
            });
            match probe.await {
                Ok(()) => return Ok(()),
                Err(error) if status(&error) == Some(404) && !created => {
                    created = true;
                    self.create().await?;
                }
                Err(error) => return Err(failure(&error)),
            }
        }
    }
}
