//! The filters of the list as the address has them, under the interface's own names: echoed into the form and into links. What they
//! mean is read by the same code as for the interface itself.

use maud::{Markup, html};

use super::words;
use crate::api;

/// Members that the form shows, and where a list begins; the others are sent along.
const FIELDS: [&str; 7] = ["repository", "tag", "status", "region", "since", "companions", "cursor"];
const SPANS: [(&str, &str); 6] =
    [("", "ever"), ("1h", "1 hour"), ("24h", "24 hours"), ("3d", "3 days"), ("7d", "7 days"), ("30d", "30 days")];

/// The members of an address that are not empty, in their order, each once.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads the members of a query, without those of the host.
    #[must_use]
    pub fn read(query: &str) -> Self {
        let members = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()));
        Self(
            members
                .filter(|(name, value)| !value.is_empty() && !matches!(name.as_str(), "code" | "clientid"))
                .collect(),
        )
    }

    /// The value of a member, or nothing.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str())
    }

    /// The same with one member set, or without it where the value is empty. Another filter begins at the newest push.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut members: Vec<_> = self.0.iter().filter(|(n, _)| n != name && n != "cursor").cloned().collect();
        if !value.is_empty() {
            members.push((name.to_owned(), value.to_owned()));
        }
        Self(members)
    }

    /// As a query.
    #[must_use]
    pub fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish()
    }

    /// As a link within the page.
    pub(super) fn link(&self) -> String {
        format!("?{}", self.query())
    }

    /// Whether all pushes are shown, from the newest on.
    pub(super) fn are_none(&self) -> bool {
        self.0.iter().all(|(name, _)| matches!(name.as_str(), "companions" | "limit"))
    }

    /// In words, for somebody who finds nothing.
    pub(super) fn told(&self) -> Markup {
        let of = |name| Some(self.get(name)).filter(|value| !value.is_empty());
        html! {
            @if let Some(repository) = of("repository") { " of " b { (words::foreign(repository)) } }
            @if let Some(tag) = of("tag") { " with the tag " b { (words::foreign(tag)) } }
            @if let Some(digest) = of("digest") { " with the digest " b { (words::foreign(digest)) } }
            @if let Some(status) = of("status") { " that is " b { (words::spoken(&words::plain(status))) } }
            @if let Some(region) = of("region") { " that " b { (words::foreign(region)) } " lacks or had late" }
            @if let Some(since) = of("since") {
                @match SPANS.iter().find(|(value, _)| *value == since) {
                    Some((_, span)) => { " in the last " b { (span) } },
                    None => { " since " b { (words::foreign(since)) } }
                }
            }
        }
    }

    /// The form; `regions` are those to choose from.
    pub(super) fn form(&self, regions: &[&str]) -> Markup {
        let spoken = api::STATUSES.map(words::spoken);
        let statuses = api::STATUSES.into_iter().zip(spoken.iter().map(String::as_str));
        let statuses: Vec<_> = [("", "any")].into_iter().chain(statuses).collect();
        let regions = [("", "any")].into_iter().chain(regions.iter().map(|region| (*region, *region)));
        html! {
            form.filters method="get" role="search" aria-label="Filter pushes" data-part="filters" {
                label.wide { "Repository"
                    input name="repository" type="search" value=(self.get("repository"))
                        placeholder="shop/cart or shop/**" autocomplete="off" spellcheck="false" aria-keyshortcuts="/";
                }
                label { "Tag"
                    input name="tag" type="search" value=(self.get("tag")) placeholder="1.4.*" autocomplete="off"
                        spellcheck="false";
                }
                label { "Status" (choice("status", &statuses, self.get("status"))) }
                label { "Missing or late in" (choice("region", &regions.collect::<Vec<_>>(), self.get("region"))) }
                label { "Since" (choice("since", &SPANS, self.get("since"))) }
                button { "Filter" }
                label.choice { input type="checkbox" name="companions" value="all"
                    checked[self.get("companions") == "all"]; span { "with what came along" } }
                span data-part="clear" { @if !self.are_none() { a.button href="?" { "Clear" } } }
                @for (name, value) in self.0.iter().filter(|(name, _)| !FIELDS.contains(&name.as_str()))
                    { input type="hidden" name=(name) value=(value); }
            }
        }
    }
}

/// A choice among words, and the one of the address even where it is none of them.
pub(super) fn choice(name: &str, words: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        select name=(name) {
            @for (value, word) in words { option value=(value) selected[*value == chosen] { (word) } }
            @if !words.iter().any(|(value, _)| *value == chosen) { option value=(chosen) selected { (words::plain(chosen)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_the_other_filters_and_begins_anew() {
        let filters = Filters::read("Repository=shop%2F**&status=&cursor=s1&code=secret");
        assert_eq!(filters.with("status", "owing").link(), "?repository=shop%2F**&status=owing");
        assert_eq!(filters.with("repository", "").link(), "?");
        assert!(!filters.are_none() && Filters::read("companions=all").are_none());
    }

    #[test]
    fn what_the_form_does_not_offer_is_offered_all_the_same() {
        let form = Filters::read("since=90m&status=%3Cb%3E").form(&["westus"]).into_string();
        assert!(form.contains("<option value=\"90m\" selected>90m</option>"), "{form}");
        assert!(form.contains("<option value=\"&lt;b&gt;\" selected>"), "{form}");
    }
}
