//! The storage account, seen from where the command runs: read only.

use super::catalogue::Id;
use super::report::{Check, skip};
use super::service::{Answered, clock};
use super::{Gap, Known};
use crate::store::Failure;
use crate::store::azure::look::Look;

/// What was seen of the account. Nothing was written and no message taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The account and its names, in words.
    pub place: String,
    /// Name of the poison queue.
    pub poison_name: String,
    /// Table, queues and clock.
    pub look: Look,
}

pub(super) fn judge(looked: &Known<Looked>, answered: &Answered, checks: &mut Vec<Check>) {
    let looked = match looked {
        Ok(looked) => looked,
        Err(gap) => {
            checks.push(Check::unread(Id::StorageRead, Id::StorageRead.entry().meaning, gap));
            return skip(checks, gap, &[Id::StorageEncoding, Id::StoragePoison, Id::StorageClock]);
        }
    };
    let (place, look) = (&looked.place, &looked.look);
    let whys: Vec<&Failure> = look.table.as_ref().err().into_iter().chain(look.queue.as_ref().err()).collect();
    match (&look.table, &look.queue) {
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
    let unread = |why: &Failure| Gap::unasked(&format!("It could not be read: {why}"), "See storage.read.");
    checks.push(match &look.odd {
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
    checks.push(match &look.poison {
        Err(why) => Check::skipped(Id::StoragePoison, &unread(why)),
        Ok(0) => Check::ok(Id::StoragePoison, format!("{} is empty.", looked.poison_name)),
        Ok(count) => {
            Check::warning(Id::StoragePoison, format!("About {count} messages lie on {}.", looked.poison_name))
        }
    });
    let ahead_ms = look.ahead_ms.ok_or_else(|| Gap::unasked("The storage did not answer.", "See storage.read."));
    clock(Id::StorageClock, "The storage", &ahead_ms, checks);
}
