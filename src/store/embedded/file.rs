//! The embedded store's file: whose it is, what is in it, and what its errors mean.
//!
//! Guarantees: a file of another program, of a newer version of this one, or open in another process is refused before
//! anything in it is changed, and every refusal says which file and what to do. The tables of a new file appear together.
//!
//! Knowingly accepted: opening does not read the whole file, so damage is found, and named, when it is met.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tracing::warn;

use crate::store::Failure;

/// Marks the file as ours (`ACRw`), so that another program's database is never written to.
const APPLICATION_ID: i32 = 0x4143_5277;

/// Version of the tables below; a file with a higher one is refused.
pub(super) const SCHEMA_VERSION: i32 = 2;

/// `slot` orders the table by when pushes were opened without a second index, see [`super::database::slot`]; `wake` is when
/// somebody must look at a push, in milliseconds. Rows are updated in place; they are too big for a table without row ids to
/// pay off.
const SCHEMA: &str = "
    CREATE TABLE pushes (slot INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, digest TEXT NOT NULL, wake INTEGER,
                         body TEXT NOT NULL, payload TEXT NOT NULL);
    CREATE INDEX wakes ON pushes (wake) WHERE wake IS NOT NULL;
";

/// Puts the tables of the first edition out of the way.
const SET_ASIDE: &str = "
    BEGIN IMMEDIATE;
    ALTER TABLE pushes RENAME TO pushes_first_edition;
    ALTER TABLE timers RENAME TO timers_first_edition;
    ALTER TABLE poison RENAME TO poison_first_edition;
    DROP TABLE openings;
    PRAGMA user_version = 0;
    COMMIT;
";

/// How long a statement waits for another program that looks into the file.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// How often, and how far apart, the lock is tried for: one second in all. The owner may be about to end, and a process that
/// it starts holds the lock with it until that has become a program of its own.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Takes the lock file; the operating system gives it up when the process ends, however it ends. Blocks for a second when
/// another process has it.
pub(super) fn own(path: &Path) -> Result<File, Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("-lock");
    let beside = PathBuf::from(beside);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&beside).map_err(|e| {
        Failure::Corrupt(format!(
            "{}: cannot be created: {e}; choose a folder that exists and is writable",
            beside.display()
        ))
    })?;
    let mut tried = file.try_lock();
    for _ in 1..LOCK_TRIES {
        if !matches!(tried, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        tried = file.try_lock();
    }
    match tried {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::Corrupt(format!(
            "{}: another process has this store open; stop that one, or choose another file",
            path.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Failure::Corrupt(format!(
            "{}: cannot be locked: {e}; choose a file system that has file locks",
            beside.display()
        ))),
    }
}

/// A connection to the file, which is created when it is missing.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Makes sure that the file is ours and of our version, and creates the tables of a new one.
pub(super) fn adopt(connection: &Connection, name: &str) -> Result<(), Failure> {
    let fail = |error: rusqlite::Error| at_open(name, &error);
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fail)?;
    let (application, version) = (number("application_id").map_err(fail)?, number("user_version").map_err(fail)?);
    let new = tables == 0 && application == 0 && version == 0;
    let first_edition = application == APPLICATION_ID && version == 1;
    if !new && application != APPLICATION_ID {
        return Err(Failure::Corrupt(format!("{name}: is the database of another program; choose another file")));
    }
    if version > SCHEMA_VERSION {
        return Err(Failure::Corrupt(format!(
            "{name}: was written by a newer version of this program (schema {version}; this one knows {SCHEMA_VERSION}); start that version, or choose another file"
        )));
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(fail)?;
    if mode != "wal" {
        return Err(Failure::Corrupt(format!(
            "{name}: this file system cannot hold a write-ahead log; choose another"
        )));
    }
    if first_edition {
        // Its rows name pushes in another way, so nothing here would ever find them.
        connection.execute_batch(SET_ASIDE).map_err(fail)?;
        warn!("{name}: the pushes of an earlier version were set aside, in tables that end in `_first_edition`");
    }
    if new || first_edition {
        connection
            .execute_batch(&format!(
                "BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))
            .map_err(fail)?;
    }
    Ok(())
}

/// What an error means while the file is being opened: nothing that fails then gets better by itself.
pub(super) fn at_open(name: &str, error: &rusqlite::Error) -> Failure {
    match fault(name, error) {
        Failure::Unavailable(cause) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => Failure::Corrupt(
            format!("{cause}; the file cannot be opened or created, check the path and its permissions"),
        ),
        fault @ (Failure::Unavailable(_) | Failure::Corrupt(_)) => fault,
    }
}

/// Who has to act on an error.
pub(super) fn fault(name: &str, error: &rusqlite::Error) -> Failure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Failure::Corrupt(format!(
            "{name}: the file is damaged ({error}); stop the service, move the file away together with its -wal and -shm, and start with a backup or with an empty one"
        )),
        Some(_) => Failure::Unavailable(format!("{name}: {error}")),
        None => Failure::Corrupt(format!("{name}: holds something unexpected: {error}")),
    }
}
