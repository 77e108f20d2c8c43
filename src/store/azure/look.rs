//! A look at a storage account from outside, for somebody who asks what is wrong with it.
//!
//! Guarantee: nothing is written, created or taken; messages are only peeked at, and nothing of them is kept.

use std::sync::Arc;

use azure_storage_queues::QueueClient;
use futures_util::StreamExt as _;
use futures_util::future::join4;

use super::Names;
use super::connection::{Connection, unless};
use super::message::Message;
use super::queue::{self, decode};
use super::table;
use crate::clock::{Clock as _, StorageClock, SystemClock};
use crate::config::storage::Account;
use crate::store::Failure;

/// Messages that are peeked at: the most that the service shows at once.
const PEEKED: u8 = 32;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Whether there is the table.
    pub table: Result<bool, Failure>,
    /// Messages of the timer queue, those that wait for their time included, about; `None` when there is no queue.
    pub queue: Result<Option<usize>, Failure>,
    /// Of the messages that have fired, up to 32: how many are not in the queue's encoding, and how many of the others are not
    /// this service's.
    pub odd: Result<(usize, usize), Failure>,
    /// Messages of the poison queue, about. Nobody has made it before there was one.
    pub poison: Result<usize, Failure>,
    /// How far the storage's clock is ahead of this machine's, in milliseconds, where that is more than
    /// [`CLOCK_DIFFERENCE_MAX`](crate::limits::CLOCK_DIFFERENCE_MAX); else 0. `None` when it did not answer.
    pub ahead_ms: Option<i64>,
}

/// Looks.
///
/// # Errors
/// `Corrupt` when no client can be made from the account's settings.
pub async fn look(account: &Account, names: &Names) -> Result<Look, Failure> {
    let clock = Arc::new(StorageClock::new(Arc::new(SystemClock)));
    let connection = Connection::open(account, Arc::clone(&clock))?;
    let (queues, tables) = (connection.queues(), connection.tables());
    let (live, poison) = (queues.queue_client(&names.queue), queues.queue_client(&names.poison));
    let table = tables.table_client(&names.table);
    let rows = async {
        let read = connection.retry(&names.table, || {
            let mut pages = table.query().top(1).into_stream::<serde_json::Value>();
            async move { pages.next().await.transpose().map(|_| ()) }
        });
        unless(table::SERVICE, read.await, &[404]).map(|found| found.is_some())
    };
    let peeked = async {
        let peek = connection.retry(&names.queue, || async { live.peek_messages().number_of_messages(PEEKED).await });
        let texts = unless(queue::SERVICE, peek.await, &[404])?.map(|peeked| peeked.messages).unwrap_or_default();
        let now = clock.now();
        let (mut coded, mut foreign) = (0, 0);
        for message in texts {
            match decode(&message.message_text) {
                None => coded += 1,
                Some(text) if Message::parse(&text, now).is_err() => foreign += 1,
                Some(_) => {}
            }
        }
        Ok((coded, foreign))
    };
    let (table, queue, odd, poison) = join4(rows, count(&connection, &live), peeked, count(&connection, &poison)).await;
    let answered = table.is_ok() || queue.is_ok();
    let ahead = (clock.now() - clock.base_now()).num_milliseconds();
    let poison = poison.map(Option::unwrap_or_default);
    Ok(Look { table, queue, odd, poison, ahead_ms: answered.then_some(ahead) })
}

async fn count(connection: &Connection, queue: &QueueClient) -> Result<Option<usize>, Failure> {
    let read = connection.retry(queue.queue_name(), || async { queue.get_metadata().await });
    Ok(unless(queue::SERVICE, read.await, &[404])?.map(|answer| answer.approximate_messages_count))
}
