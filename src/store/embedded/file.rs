//! The embedded store's file: whose it is, what is in it, and what its errors mean.
//!
//! Guarantees: a file of another program, of a newer version of this one, or open in another process is refused before
//! anything in it is changed, and every refusal says which file and what to do. The tables of a new file appear together.
//! Nobody but the owner of this process may read or write the file and those beside it, and none of them is a link: one
//! that somebody else has put there would lead the writing elsewhere, and a second name of the file would escape its lock.
//!
//! Knowingly accepted: opening does not read the whole file, so damage is found, and named, when it is met.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _};
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

/// Where the file is, by the one name that every process finds for it. Only its folder may be reached over links.
pub(super) fn place(path: &Path) -> Result<PathBuf, Failure> {
    let no_folder =
        |why: &str| Failure::Corrupt(format!("{}: {why}; choose a folder that exists and is writable", path.display()));
    let name = path.file_name().ok_or_else(|| no_folder("names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(std::fs::canonicalize(folder).map_err(|e| no_folder(&e.to_string()))?.join(name))
}

/// The same name with an ending: of the lock, the write-ahead log, and its index.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Endings of what SQLite keeps beside a file.
const OF_SQLITE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Opens one of the files, which is created, for its owner only, when it is missing and `create`.
fn plain(path: &Path, create: bool) -> Result<Option<File>, Failure> {
    let refused = |why: &str| Failure::Corrupt(format!("{}: {why}", path.display()));
    let is_link = || std::fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink());
    const LINK: &str = "is a symbolic link; give the file itself with --data, or remove the link";
    if is_link() {
        return Err(refused(LINK));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(OWNER_ONLY).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound && !create => return Ok(None),
        // It has become one since.
        Err(_) if is_link() => return Err(refused(LINK)),
        Err(e) => {
            let why = format!(
                "cannot be created or opened: {e}; choose a folder that exists and is writable, or another file"
            );
            return Err(refused(&why));
        }
    };
    let about = file.metadata().map_err(|e| refused(&e.to_string()))?;
    if !about.is_file() {
        return Err(refused("is not a file; choose another"));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&about) > 1 {
        return Err(refused(
            "has a second name (a hard link), by which another process could open it; remove that one",
        ));
    }
    Ok(Some(file))
}

/// Mode of every file: read and written by its owner, and by nobody else.
#[cfg(unix)]
const OWNER_ONLY: u32 = 0o600;

/// Takes from others the access that an earlier version left them to the file and those beside it. By name, since to open
/// and close the file here would give up SQLite's locks; that the names are no links was seen when they were opened.
pub(super) fn tighten(path: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    for path in ["", "-lock"].into_iter().chain(OF_SQLITE).map(|ending| beside(path, ending)) {
        use std::os::unix::fs::PermissionsExt as _;
        let about = std::fs::symlink_metadata(&path);
        if about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o077 != 0) {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(OWNER_ONLY)).map_err(|e| {
                let why = "others may read it, and that cannot be changed";
                Failure::Corrupt(format!("{}: {why}: {e}; run as its owner", path.display()))
            })?;
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Makes the file, or makes sure that it and those beside it are plain files, and it a database or empty. Must be called
/// before SQLite has the file open: closing it here would give up SQLite's locks.
pub(super) fn prepare(path: &Path) -> Result<(), Failure> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    for ending in OF_SQLITE {
        plain(&beside(path, ending), false)?;
    }
    let Some(file) = plain(path, true)? else { return Ok(()) };
    let mut head = Vec::new();
    file.take(MAGIC.len() as u64)
        .read_to_end(&mut head)
        .map_err(|e| Failure::Corrupt(format!("{}: cannot be read: {e}", path.display())))?;
    if !head.is_empty() && head != MAGIC {
        return Err(Failure::Corrupt(format!(
            "{}: is no SQLite database; choose another file, or, if this one was the service's, it is damaged: move the file away together with its -wal and -shm, and start with a backup or with an empty one",
            path.display()
        )));
    }
    Ok(())
}

/// Takes the lock file; the operating system gives it up when the process ends, however it ends. Blocks for a second when
/// another process has it.
pub(super) fn own(path: &Path) -> Result<File, Failure> {
    let beside = beside(path, "-lock");
    let cannot = || Failure::Corrupt(format!("{}: cannot be created", beside.display()));
    let file = plain(&beside, true)?.ok_or_else(cannot)?;
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

/// A connection to the file, which [`prepare`] has made. The files beside it get its mode from SQLite.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
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
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Failure::Unavailable(format!(
            "{name}: {error}; the disk may be full, or a limit of file sizes reached: make room"
        )),
        Some(_) => Failure::Unavailable(format!("{name}: {error}")),
        None => Failure::Corrupt(format!("{name}: holds something unexpected: {error}")),
    }
}

/// Moves all that is in the write-ahead log into the file, so that the file alone is complete, and says so when it is not.
pub(super) fn complete(connection: &Connection, name: &str) {
    let rest = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    let why = match rest {
        Ok(0) => return,
        Ok(_) => "another program reads it".to_owned(),
        Err(e) => e.to_string(),
    };
    warn!(why, "{name}: is not complete without the file beside it that ends in -wal; the next start needs both");
}
