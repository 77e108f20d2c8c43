//! Settings: read once at start, checked as a whole, every fault reported together. Nothing else reads the environment.

pub mod storage;

use std::collections::BTreeMap;

/// All settings as they were given, found by name without regard to case (app settings are environment variables, whose
/// names are case-sensitive on Linux).
#[derive(Clone, Default)]
pub struct Source(BTreeMap<String, String>);

impl Source {
    /// Takes names and values; of two names that differ only in case, the first counts.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            map.entry(name.to_lowercase()).or_insert(value);
        }
        Self(map)
    }

    /// Sets `name` over whatever was given for it.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_lowercase(), value);
    }

    /// The value of `name`, trimmed; `None` when it is absent or blank.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_lowercase()).map(|v| v.trim()).filter(|v| !v.is_empty())
    }
}

/// One thing wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting, as the documentation spells it, with the place inside it where it has several.
    pub setting: String,
    /// Its value; `None` when it is missing or secret.
    pub value: Option<String>,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Fault {
    /// A fault that may show the value.
    pub fn of(setting: impl Into<String>, value: &str, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: Some(value.to_owned()), problem: problem.into() }
    }

    /// A fault of a missing or secret value.
    pub fn hidden(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), value: None, problem: problem.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?}: {}", self.setting, self.problem),
            None => write!(f, "{}: {}", self.setting, self.problem),
        }
    }
}
