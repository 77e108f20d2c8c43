//! Names of the queues and the table: one name, that of the queue in `TimeoutCheck/function.json`, which the Functions host
//! reads too, decides all of them.

use std::path::Path;

use serde::Deserialize;

use crate::config::Source;
use crate::push::names::half;

/// The timer queue's name unless the function says otherwise.
pub const QUEUE: &str = "global-webhook-timers";

/// The table's name that goes with [`QUEUE`].
pub const TABLE: &str = "GlobalWebhook";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The timer queue.
    pub queue: String,
    /// Where messages go that nobody can handle; the Functions host makes the same name.
    pub poison: String,
    /// The table.
    pub table: String,
}

impl Default for Names {
    fn default() -> Self {
        Self::of(QUEUE)
    }
}

#[derive(Deserialize)]
struct Function {
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
struct Binding {
    r#type: String,
    #[serde(default, rename = "queueName")]
    queue_name: Option<String>,
}

impl Names {
    /// The names that follow from the queue's.
    #[must_use]
    pub fn of(queue: &str) -> Self {
        let table = if queue == QUEUE { TABLE.to_owned() } else { format!("{TABLE}{}", &half(&[queue])[..16]) };
        Self { queue: queue.to_owned(), poison: format!("{queue}-poison"), table }
    }

    /// The names for the app in `root`: those of its `TimeoutCheck/function.json`, in which `%NAME%` stands for a setting; the
    /// default ones where there is no such file.
    ///
    /// # Errors
    /// The file names no queue that can be, or one that follows from a setting that is missing.
    pub fn read(root: &Path, source: &Source) -> Result<Self, String> {
        let Ok(text) = std::fs::read_to_string(root.join("TimeoutCheck").join("function.json")) else {
            return Ok(Self::default());
        };
        let function: Function = serde_json::from_str(text.trim_start_matches('\u{feff}'))
            .map_err(|_| "is not the JSON of a function with `bindings`".to_owned())?;
        let trigger = function.bindings.into_iter().find(|b| b.r#type.eq_ignore_ascii_case("queueTrigger"));
        let name = trigger.and_then(|b| b.queue_name).ok_or("has no queueTrigger with a `queueName`")?;
        let name = resolved(&name, source)?.to_lowercase();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let edges = |b: Option<char>| b.is_some_and(|c| c.is_ascii_alphanumeric());
        // The poison queue's name is seven longer and must be one too.
        let fits = (3..=56).contains(&name.len()) && name.bytes().all(plain) && !name.contains("--");
        if !fits || !edges(name.chars().next()) || !edges(name.chars().next_back()) {
            return Err(format!(
                "names the queue {name:?}; a queue's name has 3 to 56 lower-case letters, digits and single hyphens between them"
            ));
        }
        Ok(Self::of(&name))
    }
}

/// `text` with every `%NAME%` replaced by the setting of that name, as the host does it.
fn resolved(text: &str, source: &Source) -> Result<String, String> {
    let mut parts = text.split('%');
    let mut result = parts.next().unwrap_or_default().to_owned();
    while let Some(name) = parts.next() {
        let value = source.get(name).ok_or_else(|| format!("names the setting %{name}%, which is missing"))?;
        result += value;
        result += parts.next().unwrap_or_default();
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(binding: &str) -> Result<Names, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("TimeoutCheck")).unwrap();
        let text = format!(r#"{{"bindings":[{{"type":"http"}},{{"type":"queueTrigger"{binding}}}]}}"#);
        std::fs::write(root.path().join("TimeoutCheck/function.json"), text).unwrap();
        Names::read(root.path(), &Source::new([("Slot", "staging")]))
    }

    #[test]
    fn all_names_follow_from_the_queues() {
        let plain = Names { queue: QUEUE.into(), poison: format!("{QUEUE}-poison"), table: TABLE.into() };
        assert_eq!(read(r#","queueName":"global-webhook-timers""#), Ok(plain.clone()));
        assert_eq!(Names::read(Path::new("/nowhere"), &Source::default()), Ok(plain));
        let staging = read(r#","queueName":"timers-%SLOT%""#).unwrap();
        assert_eq!((&*staging.queue, &*staging.poison), ("timers-staging", "timers-staging-poison"));
        assert!(staging.table.len() <= 63 && staging.table.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(staging.table, Names::of("timersstaging").table);
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for (binding, words) in [
            ("", "no queueTrigger"),
            (r#","queueName":"%Nowhere%""#, "%Nowhere%"),
            (r#","queueName":"a_b""#, "a_b"),
            (r#","queueName":"-ab""#, "-ab"),
            (r#","queueName":"ab""#, "3 to 56"),
        ] {
            let why = read(binding).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
