//! The storage account, seen from where the command runs: read only.

use super::catalogue::Id;
use super::report::{Check, skip};
use super::service::{Answered, clock};
use super::{Gap, Known};

/// What was seen of the account. Nothing was written and no message taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The account and its names, in words.
    pub place: String,
    /// Whether the table could be read; `false` when there is none yet.
    pub table: Result<bool, String>,
    /// Messages on the timer queue, about; `None` when there is none yet.
    pub queue: Result<Option<usize>, String>,
    /// Of the messages that have fired and wait to be taken, up to 32: how many are not in the queue's encoding, and how many are
    /// none of this service's.
    pub odd: Result<(usize, usize), String>,
    /// Messages on the poison queue, about.
    pub poison: Result<usize, String>,
    /// Name of the poison queue.
    pub poison_name: String,
    /// How far the storage's clock is ahead, in milliseconds; 0 when it agrees.
    pub ahead_ms: Known<i64>,
}

pub(super) fn judge(looked: &Known<Looked>, answered: &Answered, checks: &mut Vec<Check>) {
    let looked = match looked {
        Ok(looked) => looked,
        Err(gap) => {
            checks.push(Check::unread(Id::StorageRead, Id::StorageRead.entry().meaning, gap));
            return skip(checks, gap, &[Id::StorageEncoding, Id::StoragePoison, Id::StorageClock]);
        }
    };
    let place = &looked.place;
    let whys: Vec<&String> = looked.table.as_ref().err().into_iter().chain(looked.queue.as_ref().err()).collect();
    match (&looked.table, &looked.queue) {
        (Ok(true), Ok(Some(count))) => {
            checks.push(Check::ok(Id::StorageRead, format!("{place}: about {count} messages on the timer queue.")));
        }
        (Ok(_), Ok(_)) => checks.push(
            Check::warning(Id::StorageRead, format!("{place}: there is no such table or queue yet.")).because(
                "No service has run on it under these names.",
                "See that this is the account and the queueName of the service.",
            ),
        ),
        _ => checks.extend(whys.iter().map(|why| answered.here(Id::StorageRead, format!("{place}: {why}")))),
    }
    let unread = |why: &String| Gap::unasked(&format!("It could not be read: {why}"), "See storage.read.");
    checks.push(match &looked.odd {
        Err(why) => Check::skipped(Id::StorageEncoding, &unread(why)),
        Ok((0, 0)) => Check::ok(Id::StorageEncoding, "Nothing else lies there."),
        Ok((coded, 0)) => {
            Check::fault(Id::StorageEncoding, format!("Of those that have fired, {coded} are not in base64."))
        }
        Ok((coded, foreign)) => Check::warning(
            Id::StorageEncoding,
            format!("Of those that have fired, {coded} are not in base64, {foreign} are none of this service's."),
        ),
    });
    checks.push(match &looked.poison {
        Err(why) => Check::skipped(Id::StoragePoison, &unread(why)),
        Ok(0) => Check::ok(Id::StoragePoison, format!("{} is empty.", looked.poison_name)),
        Ok(count) => {
            Check::warning(Id::StoragePoison, format!("About {count} messages lie on {}.", looked.poison_name))
        }
    });
    clock(Id::StorageClock, "The storage", &looked.ahead_ms, checks);
}
