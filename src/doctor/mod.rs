//! What is wrong with a deployment, judged from what was found out about it.
//!
//! Guarantees:
//! - It is pure: no call, no clock, no environment. The same [`Facts`] make the same [`Report`].
//! - Every check of the catalogue is in every report, at least once: one that could not be made says why, and how it can be.
//! - Not knowing is not absence: what could not be read is never judged as if it were not there.
//! - No key, no connection string, and of a URL nothing but what may be shown stands in a report. Texts of strangers may hold
//!   characters that a terminal obeys; whoever prints them takes those out.
//!
//! Knowingly accepted: facts are gathered one after the other, so a push or webhook that changes meanwhile may be told twice or
//! in two ways. A second run tells.
//!
//! In reading order: `catalogue` has the checks, `report` the document, then one file for each group of checks.

mod app;
mod catalogue;
mod pushes;
mod receivers;
mod registry;
mod report;
mod service;
mod settings;
mod storage;
mod webhooks;

pub use app::App;
pub use catalogue::{CHECKS, Entry, Id};
pub use pushes::Pushes;
pub use receivers::{Connected, receivers};
pub use registry::{Awaited, Registered};
pub use report::{Check, Counts, Report, State};
pub use service::{Answered, HOST_KEY, Service};
pub use settings::Here;
pub use storage::Looked;
pub use webhooks::{Ping, Sender, key_of, sends_to};

use crate::api::{Regions, Tested};
use crate::clock::Instant;

/// What was found out, or why not.
pub type Known<T> = Result<T, Gap>;

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// What stood in the way.
    pub why: String,
    /// What the caller can do so that it is known next time.
    pub action: String,
    /// The caller named it, and it could not be read: that alone is worth a warning.
    pub was_asked: bool,
}

impl Gap {
    /// Nobody asked for it.
    #[must_use]
    pub fn unasked(why: &str, action: &str) -> Self {
        Self { why: why.to_owned(), action: action.to_owned(), was_asked: false }
    }

    /// It was asked for, and could not be read.
    #[must_use]
    pub fn refused(why: impl Into<String>, action: &str) -> Self {
        Self { why: why.into(), action: action.to_owned(), was_asked: true }
    }
}

/// All that is judged.
#[derive(Debug)]
pub struct Facts {
    /// When the report is made.
    pub now: Instant,
    /// The service as it answers.
    pub service: Service,
    /// Its pushes, over the operators' interface.
    pub pushes: Known<Pushes>,
    /// Its regions of the last day, likewise.
    pub regions: Known<Regions>,
    /// The settings that lie beside the command.
    pub here: Known<Here>,
    /// The storage account, seen from here.
    pub storage: Known<Looked>,
    /// The receivers, seen from here.
    pub receivers: Known<Vec<Connected>>,
    /// What came of a test at each receiver.
    pub tested: Known<Vec<Tested>>,
    /// The registry, over Azure Resource Manager.
    pub registry: Known<Registered>,
    /// The function app, likewise.
    pub app: Known<App>,
    /// Hosts that the service is called at, by the caller and by the registry, without those that mean this machine.
    pub hosts: Vec<String>,
}

/// Judges. The worst comes first, otherwise the order is the catalogue's.
#[must_use]
pub fn judge(facts: &Facts) -> Report {
    let mut checks = Vec::new();
    let doors = [("Pushes", facts.pushes.is_ok()), ("Regions", facts.regions.is_ok())];
    let opened: Vec<&str> = doors.into_iter().filter(|(_, is_open)| *is_open).map(|(name, _)| name).collect();
    service::judge(&facts.service, &opened, &mut checks);
    settings::judge(&facts.here, &facts.service.answered, &mut checks);
    storage::judge(&facts.storage, &facts.service.answered, &mut checks);
    pushes::judge(&facts.pushes, facts.now, &mut checks);
    pushes::regions(&facts.regions, &mut checks);
    receivers::judge(&facts.receivers, &facts.tested, &mut checks);
    let awaited = Awaited::of(&facts.service.answered, &facts.here);
    registry::judge(&facts.registry, awaited.as_ref(), &mut checks);
    webhooks::judge(&facts.registry, awaited.as_ref(), facts.now, &mut checks);
    app::judge(&facts.app, &facts.hosts, &mut checks);
    Report::new(facts.service.url.clone(), facts.now, checks)
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
