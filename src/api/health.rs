//! What is told of the service.

use serde::{Deserialize, Serialize};

use crate::store::Failure;

/// What the service answers to somebody who opens its URL.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// The program's name.
    #[serde(default)]
    pub service: String,
    /// The program's version.
    pub version: String,
    /// All regions that some push may wait for.
    pub regions: Vec<String>,
    /// The time-out in words.
    pub timeout: String,
    /// What makes webhooks the same push.
    #[serde(default)]
    pub correlation: String,
    /// The receivers, each in a line for people.
    pub targets: Vec<String>,
    /// Names of the rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// How long pushes are kept, in words.
    #[serde(default)]
    pub retention: String,
    /// Where rows and timers live, in words.
    #[serde(default)]
    pub storage: String,
    /// Whether rows work.
    pub rows: Part,
    /// Whether timers do.
    pub queue: Part,
    /// Name of the app.
    #[serde(default)]
    pub app: String,
    /// Other apps on the same names that are alive.
    #[serde(default)]
    pub other_apps: Vec<String>,
}

/// Whether a part works.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// `ok`, `unavailable` or `operator_needed`.
    pub status: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl Part {
    /// What came of using a part.
    pub(crate) fn of(used: Result<&(), &Failure>) -> Self {
        let (status, cause) = match used {
            Ok(()) => ("ok", None),
            Err(Failure::Unavailable(cause)) => ("unavailable", Some(cause.clone())),
            Err(Failure::Corrupt(cause)) => ("operator_needed", Some(cause.clone())),
        };
        Self { status: status.to_owned(), cause }
    }
}
