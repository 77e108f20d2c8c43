//! Reading of settings that are JSON: every member is asked for by name, whatever is left over is a fault.
//!
//! Guarantee: no fault made here shows a value, since any of them may hold a secret; faults name the setting, the element
//! and the member. Reading goes on after a fault, so that all are found in one start.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::misspelt::{meant, unfilled};
use super::{Fault, Source, pattern};
use crate::api::ACTIONS;
use crate::limits;
use crate::push::policy::Filter;

/// Elements of the JSON array in `setting`; empty when it is absent or no array.
pub(super) fn elements(source: &Source, setting: &str, max: usize, faults: &mut Vec<Fault>) -> Vec<Value> {
    let Some(text) = source.get(setting) else { return Vec::new() };
    match serde_json::from_str(text).map(|Once(value)| value) {
        Ok(Value::Array(all)) if all.len() <= max => all,
        Ok(Value::Array(all)) => {
            faults.push(Fault::hidden(setting, format!("has {} elements; {max} are allowed", all.len())));
            Vec::new()
        }
        Ok(_) => {
            faults.push(Fault::hidden(setting, "is JSON, but not an array: write `[{…}, {…}]`"));
            Vec::new()
        }
        Err(e) => {
            let place = format!("line {}, column {}", e.line(), e.column());
            let problem = match e.classify() {
                Category::Data => format!("has a member twice in one object, at {place}: leave one"),
                Category::Io | Category::Syntax | Category::Eof => format!("is not JSON: it breaks off at {place}"),
            };
            faults.push(Fault::hidden(setting, problem));
            Vec::new()
        }
    }
}

/// JSON in which no object has a member twice: left to itself, `serde_json` drops all but the last in silence.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Once;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Once, E> {
                Ok(Once(Value::Null))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Once, E> {
                Ok(Once(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Once, E> {
                Ok(Once(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Once, E> {
                Ok(Once(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Once, E> {
                Ok(Once(value.into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Once, E> {
                Ok(Once(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Once, A::Error> {
                let mut all = Vec::new();
                while let Some(Once(element)) = elements.next_element()? {
                    all.push(element);
                }
                Ok(Once(Value::Array(all)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Once, A::Error> {
                let mut all = Map::new();
                while let Some((name, Once(value))) = members.next_entry::<String, Once>()? {
                    if all.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member twice"));
                    }
                }
                Ok(Once(Value::Object(all)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The members of one JSON object that have not been read yet.
pub(super) struct Members<'f> {
    place: String,
    members: Map<String, Value>,
    asked: Vec<&'static str>,
    pub(super) faults: &'f mut Vec<Fault>,
}

impl<'f> Members<'f> {
    /// The object that stands at `place`; `None`, with a fault, when it is none.
    pub(super) fn of(place: String, value: Value, faults: &'f mut Vec<Fault>) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self { place, members, asked: Vec::new(), faults }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                faults.push(Fault::hidden(place, "must be an object: `{…}`"));
                None
            }
        }
    }

    /// Text of `name` without a fault whatever it is, to call the element by.
    pub(super) fn peek(value: &Value, name: &str) -> Option<String> {
        let text = value.get(name)?.as_str()?.trim();
        (!text.is_empty()).then(|| shortened(text))
    }

    /// Where in the settings this object stands.
    pub(super) fn place(&self) -> String {
        self.place.clone()
    }

    /// Where in the settings `name` stands.
    pub(super) fn at(&self, name: &str) -> String {
        format!("{}, `{name}`", self.place)
    }

    /// Reports `problem` with `name`.
    pub(super) fn fault(&mut self, name: &str, problem: impl Into<String>) {
        let at = self.at(name);
        self.faults.push(Fault::hidden(at, problem));
    }

    /// The value of `name`; `null` counts as absent, and so does, with a fault, text that was not filled in.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.asked.push(name);
        let value = self.members.remove(name).filter(|value| !value.is_null())?;
        let texts = value.as_array().map_or(std::slice::from_ref(&value), Vec::as_slice);
        match texts.iter().filter_map(Value::as_str).find_map(unfilled) {
            None => Some(value),
            Some(problem) => {
                self.fault(name, problem);
                None
            }
        }
    }

    /// Text, trimmed and not empty.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        let value = self.take(name)?;
        let text = value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        if text.is_none() {
            self.fault(name, "must be text that is not empty");
        }
        text
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        let flag = self.take(name)?.as_bool();
        if flag.is_none() {
            self.fault(name, "must be `true` or `false`");
        }
        flag
    }

    /// Texts, trimmed and not empty: an array, or one text with commas.
    pub(super) fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let list: Vec<String> = match self.take(name)? {
            Value::String(text) => text.split(',').map(|t| t.trim().to_owned()).collect(),
            Value::Array(all) => all.iter().map(|v| v.as_str().unwrap_or_default().trim().to_owned()).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        if list.is_empty() || list.iter().any(String::is_empty) {
            self.fault(name, "must be an array of texts that are not empty, or one text with commas");
            return None;
        }
        Some(list)
    }

    /// Another object inside.
    pub(super) fn object(&mut self, name: &'static str) -> Option<Members<'_>> {
        let value = self.take(name)?;
        let place = self.at(name);
        Members::of(place, value, self.faults)
    }

    /// All members that are left, as names and texts.
    pub(super) fn rest(&mut self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (name, value) in std::mem::take(&mut self.members) {
            match value {
                Value::String(text) => match unfilled(&text) {
                    None => pairs.push((name, text)),
                    Some(problem) => self.fault(&shortened(&name), problem),
                },
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    self.fault(&shortened(&name), "must be text");
                }
            }
        }
        pairs
    }

    /// A pattern that something can match.
    fn pattern(&mut self, names: pattern::Names) -> Option<String> {
        let text = self.text(names.word())?;
        let Some(problem) = pattern::problem(names, &text) else { return Some(text) };
        let at = self.at(names.word());
        self.faults.push(Fault::of(at, &shortened(&text), problem));
        None
    }

    /// The conditions `repository`, `tag`, `actions` (or `action`) and `tagged`.
    pub(super) fn filter(&mut self) -> Filter {
        let repository = self.pattern(pattern::Names::Repository);
        let tag = self.pattern(pattern::Names::Tag);
        let mut actions = self.texts("actions").unwrap_or_default();
        actions.extend(self.text("action"));
        for action in &actions {
            if !ACTIONS.contains(&action.as_str()) {
                let at = self.at("actions");
                let problem = format!("is no action; the actions are {}", ACTIONS.join(", "));
                self.faults.push(Fault::of(at, &shortened(action), problem));
            }
        }
        let tagged = self.flag("tagged");
        if tag.is_some() && tagged == Some(false) {
            self.fault("tagged", "is false, and no push without a tag matches `tag`: leave one of the two out");
        }
        Filter { repository, tag, actions, tagged }
    }

    /// Reports what nobody asked for: a misspelt member would otherwise be a silent default.
    pub(super) fn finish(self) {
        for name in self.members.keys() {
            let problem = match meant(name, self.asked.iter().copied()) {
                Some(meant) => format!("is misspelt: write `{meant}`"),
                None => {
                    let known = self.asked.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
                    format!("is no member here; the members are {known}")
                }
            };
            self.faults.push(Fault::hidden(format!("{}, `{}`", self.place, shortened(name)), problem));
        }
    }
}

/// `text`, cut to what a name may have, for messages.
pub(super) fn shortened(text: &str) -> String {
    if text.len() <= limits::NAME_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limits::NAME_BYTES_MAX);
    format!("{}…", &text[..end])
}
