//! Settings as they were given, and faults of theirs.

use std::collections::BTreeMap;

/// All settings as they were given, found by name without regard to case (app settings are environment variables, whose
/// names are case-sensitive on Linux) and whether parts of the name are set apart by `__` or, as .NET does it, by a colon.
#[derive(Clone, Default)]
pub struct Source(BTreeMap<String, Vec<(String, String)>>);

fn folded(name: &str) -> String {
    name.to_lowercase().replace(':', "__")
}

impl Source {
    /// Takes names and values.
    pub fn new<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut map: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, value) in pairs {
            let name = name.into();
            map.entry(folded(&name)).or_default().push((name, value.into()));
        }
        Self(map)
    }

    /// The process's environment; bytes that are not Unicode become `U+FFFD`, which is a fault in every setting.
    #[must_use]
    pub fn from_environment() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self::new(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    /// Sets `name` over whatever was given for it.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.insert(folded(name), vec![(name.to_owned(), value)]);
    }

    /// One spelling of each name whose value is not blank, as it was given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter_map(|given| filled(given).next()).map(|(name, _)| name)
    }

    /// The value of `name`, trimmed; `None` when it is absent or blank. Of several spellings the first counts.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        filled(self.0.get(&folded(name))?).next().map(|(_, value)| value)
    }

    /// The spellings of `name` with values that differ from the first one's; empty when there are none.
    pub(super) fn at_odds(&self, name: &str) -> Vec<&str> {
        let given: Vec<_> = self.0.get(&folded(name)).into_iter().flat_map(|given| filled(given)).collect();
        let differ = given.iter().any(|(_, value)| *value != given[0].1);
        if differ { given.into_iter().map(|(name, _)| name).collect() } else { Vec::new() }
    }
}

/// Names and trimmed values that are not blank.
fn filled(given: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    given.iter().map(|(name, value)| (name.as_str(), value.trim())).filter(|(_, value)| !value.is_empty())
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
