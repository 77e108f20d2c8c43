//! Several apps on one storage account that use the same names: a staging slot beside production, a copied configuration.
//!
//! Guarantees: each row says whose it is. One of an app that is alive is left to that app, so nobody's receivers are told of
//! another's pushes; one of an app that left no sign of life for an hour is taken over. Whoever meets another app's row says
//! so in the log, once an hour, and the health answer names it.
//!
//! Knowingly accepted: a webhook that reaches the wrong app is applied as that app's settings say. Where it completes the push,
//! the targets are those of these settings, and the app whose push it is tells only those that it has too.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::error;

use super::parts::{Failure, Record, Rows};
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::names::half;

/// Names of the notes that are signs of life.
const PREFIX: &str = "app-";

/// How long a look at the other apps' signs of life is trusted: far below the hour after which an app counts as gone.
const TRUST: std::time::Duration = std::time::Duration::from_secs(60);

/// See the module.
pub(super) struct Apps {
    own: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When each other app left its last sign of life.
    seen: BTreeMap<String, Instant>,
    looked: Option<Instant>,
    told: BTreeMap<String, Instant>,
}

impl Apps {
    pub(super) fn new(own: String) -> Self {
        Self { own, known: Mutex::default() }
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a sign of life.
    pub(super) async fn sign(&self, rows: &dyn Rows, now: Instant) -> Result<(), Failure> {
        let text = format!("{} {}", now.timestamp_millis(), self.own);
        rows.put_note(&format!("{PREFIX}{}", half(&[&self.own])), &text, None).await.map(drop)
    }

    /// The app that a record must be left to, if there is one. That it wrote the record is a sign of life too.
    pub(super) async fn other(
        &self,
        rows: &dyn Rows,
        record: &Record,
        now: Instant,
    ) -> Result<Option<String>, Failure> {
        let app = record.app.as_str();
        if app == self.own {
            return Ok(None);
        }
        let wrote = clock::until(record.row.updated, now) < limits::APP_SILENT_MAX;
        if !wrote && !self.lives(rows, app, now).await? {
            return Ok(None);
        }
        let hour = limits::APP_SILENT_MAX;
        let due = self.with(|known| {
            let due = known.told.get(app).is_none_or(|told| clock::until(*told, now) >= hour);
            if due {
                known.told.insert(app.to_owned(), now);
            }
            due
        });
        if due {
            error!(
                app = self.own,
                other = app,
                "two apps use the same queue and table; each leaves the other's pushes alone. Give one of them another queueName in TimeoutCheck/function.json, or a storage account of its own"
            );
        }
        Ok(Some(app.to_owned()))
    }

    /// Whether an app of this name is another one, and alive.
    pub(super) async fn lives(&self, rows: &dyn Rows, app: &str, now: Instant) -> Result<bool, Failure> {
        if app == self.own {
            return Ok(false);
        }
        let among = |others: Vec<String>| others.iter().any(|other| other == app);
        if among(self.others(rows, now).await?) {
            return Ok(true);
        }
        // It may have come, or come back, since the last look.
        self.with(|known| known.looked = None);
        Ok(among(self.others(rows, now).await?))
    }

    /// Names of other apps that are alive.
    pub(super) async fn others(&self, rows: &dyn Rows, now: Instant) -> Result<Vec<String>, Failure> {
        let fresh = |known: &mut Known| known.looked.is_some_and(|at| clock::until(at, now) < TRUST);
        if !self.with(fresh) {
            let notes = rows.notes(PREFIX).await?;
            let signs = notes.iter().filter_map(|(_, text, _)| {
                let (millis, app) = text.split_once(' ')?;
                Some((app.to_owned(), Instant::from_timestamp_millis(millis.parse().ok()?)?))
            });
            let seen = signs.filter(|(app, _)| *app != self.own).collect();
            self.with(|known| (known.seen, known.looked) = (seen, Some(now)));
        }
        let alive = |at: &Instant| clock::until(*at, now) < limits::APP_SILENT_MAX;
        Ok(self.with(|known| known.seen.iter().filter(|(_, at)| alive(at)).map(|(app, _)| app.clone()).collect()))
    }
}
