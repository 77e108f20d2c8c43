//! What was not meant as it stands: names near a known one, values that something else was to fill in.
//!
//! Guarantee: no text made here shows a value.

use super::{Fault, Source};

/// The known word that `word` is most likely a misspelling of; only letters and digits count, and case does not.
pub(super) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| {
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|b| char::from(b.to_ascii_lowercase())).collect::<String>()
    };
    let word = plain(word);
    let near = known.into_iter().filter(|known| known.len().abs_diff(word.len()) < 8).filter_map(|known| {
        let distance = strsim::osa_distance(&word, &plain(known));
        // In a short word two letters are too much of it.
        (distance <= if known.len() < 12 { 1 } else { 2 }).then_some((distance, known))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// Names that were given and are not `known`: a fault where the known one that is meant is missing, else a warning for those
/// that look like ours.
pub(super) fn names(source: &Source, known: &[&'static str], faults: &mut Vec<Fault>, warnings: &mut Vec<String>) {
    for name in source.names().filter(|name| !known.iter().any(|known| known.eq_ignore_ascii_case(name))) {
        let ours = name.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("webhook"));
        match meant(name, known.iter().copied()) {
            Some(missing) if source.get(missing).is_none() => {
                faults.push(Fault::hidden(missing, format!("is missing, but {name:?} is set: correct that name")));
            }
            Some(known) if ours => warnings.push(format!("the setting {name:?} has no effect beside {known}")),
            None if ours => warnings.push(format!("the setting {name:?} is not known and has no effect")),
            Some(_) | None => {}
        }
    }
}

/// The faults of settings as a whole: two spellings of one that say different things, quotes that came along, and values that
/// something else was to fill in. JSON is left to whoever reads its members.
pub(super) fn values<'a>(source: &'a Source, settings: impl Iterator<Item = &'a str>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for name in settings {
        let Some(value) = source.get(name) else { continue };
        let at_odds = source.at_odds(name);
        if !at_odds.is_empty() {
            let names = at_odds.join(", ");
            faults
                .push(Fault::hidden(name, format!("is set more than once ({names}), to different values: leave one")));
        } else if name == "WebhookLog" {
            // What a level is, the log itself says, and goes on with its default.
        } else if value.len() > 1 && (quoted(value, '"') || quoted(value, '\'')) {
            faults.push(Fault::hidden(name, "stands in quotes, which are taken for a part of it: take them off"));
        } else if !value.starts_with('[') {
            faults.extend(unfilled(value).map(|problem| Fault::hidden(name, problem)));
        }
    }
    faults
}

fn quoted(value: &str, quote: char) -> bool {
    value.starts_with(quote) && value.ends_with(quote)
}

/// What is wrong with a value that the platform, a pipeline or a shell was to fill in and did not.
pub(super) fn unfilled(value: &str) -> Option<&'static str> {
    let lower = value.to_ascii_lowercase();
    if lower.contains("@microsoft.keyvault(") || lower.contains("@microsoft.appconfiguration(") {
        return Some(
            "holds a reference `@Microsoft.…(…)` that was not resolved: the platform resolves one only where it is the whole \
             value of an app setting and the app's identity may read what it names",
        );
    }
    let between = |open: &str, close: char| {
        value.match_indices(open).any(|(at, _)| {
            let inside = value[at + open.len()..].split_once(close).map(|(inside, _)| inside.trim());
            inside.is_some_and(name_of_a_variable)
        })
    };
    if value.strip_prefix('%').and_then(|v| v.strip_suffix('%')).is_some_and(name_of_a_variable) {
        return Some("is a name between `%`, which nothing fills in here: write the value itself");
    }
    // No host begins with a dollar sign.
    if value.contains("://$") || between("$(", ')') || between("${", '}') || between("{{", '}') || between("#{", '}') {
        return Some(
            "holds a placeholder such as `$(NAME)`, `${NAME}`, `#{NAME}#` or `{{NAME}}` that was not filled in",
        );
    }
    value.contains('\u{fffd}').then_some("holds bytes that are not UTF-8 text")
}

fn name_of_a_variable(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '.');
    begins && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
