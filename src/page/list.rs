//! The view of all pushes: what a person wants to hear first, how much, the filters, and the table.

use maud::{Markup, html};

use super::filters::Filters;
use super::matrix::Frame;
use super::verdict::{self, Verdict};
use super::words::{self, Form};
use super::{Fragment, fragment};
use crate::api::{DeliveryState, Item, List, Regions, State};
use crate::clock::Instant;

/// What was pushed within this time of an image in the same repository came along with it.
const ALONG_MS: i64 = 5 * 60 * 1000;

/// What the view is drawn from.
pub struct Overview<'a> {
    /// The present.
    pub now: Instant,
    /// What the list was asked for.
    pub filters: &'a Filters,
    /// The page of pushes.
    pub list: &'a List,
    /// Pushes that wait or owe something, the newest; companions too.
    pub owing: &'a List,
    /// What was pushed along with pushes of the list.
    pub along: &'a [Item],
    /// The regions over the last 24 hours.
    pub day: &'a Regions,
    /// Regions of the settings, in their order.
    pub regions: &'a [String],
    /// Why the list could not be asked for like that; it is empty then.
    pub refused: Option<&'a str>,
    /// Login server of the registry, where the settings say it.
    pub registry: Option<&'a str>,
    /// Where this service was reached, for commands; empty where it is not known.
    pub address: &'a str,
    /// Whether whoever asks had to give a key.
    pub keyed: bool,
}

impl Overview<'_> {
    /// The view.
    #[must_use]
    pub fn render(&self) -> String {
        let verdicts = verdict::of(self.day, self.owing, self.filters.are_none().then_some(self.list));
        let regions: Vec<&str> = self.regions.iter().map(String::as_str).collect();
        let frame = Frame { now: self.now, regions: self.columns(), day: self.day };
        let busy = !self.owing.pushes.is_empty();
        let body = html! {
            h1.sr { "Pushes" }
            (verdict::list(&verdicts))
            (self.strip())
            (self.filters.form(&regions))
            (self.notices())
            @if let Some(why) = self.refused {
                div.panel data-part="table" { (super::refused(why, "?")) }
            } @else if self.list.pushes.is_empty() {
                div.panel data-part="table" { (self.nothing()) }
            } @else {
                div.frame data-part="table" tabindex="0" role="region" aria-label="Pushes by region" {
                    (frame.table(&self.list.pushes, &|image| self.came_along(image)))
                }
            }
            (self.pages())
        };
        let title = verdicts.first().map_or("Pushes", Verdict::title);
        fragment(&Fragment { view: "list", title, now: self.now, busy }, &body)
    }

    /// Regions of the settings, and those that pushes of the list wait for beside them.
    fn columns(&self) -> Vec<&str> {
        let mut regions: Vec<&str> = self.regions.iter().map(String::as_str).collect();
        for region in self.list.pushes.iter().flat_map(|push| push.status.regions.keys()) {
            if !regions.contains(&region.as_str()) {
                regions.push(region);
            }
        }
        regions
    }

    /// What was pushed along with `image`: in its repository, and nearer to it than to any other of the list.
    fn came_along(&self, image: &Item) -> Vec<Item> {
        let apart = |one: &Item, other: &Item| words::between(&one.created_time, &other.created_time).abs();
        let is_of = |one: &Item, other: &Item| {
            one.status.repository == other.status.repository && one.status.registry == other.status.registry
        };
        let nearest = |companion: &Item| {
            let images = self.list.pushes.iter().filter(|push| !push.status.companion && is_of(push, companion));
            images.min_by_key(|push| apart(push, companion)).map(|push| push.instance_id.clone())
        };
        let of_image = |companion: &&Item| {
            is_of(image, companion)
                && apart(image, companion) <= ALONG_MS
                && nearest(companion).as_ref() == Some(&image.instance_id)
        };
        if image.status.companion { Vec::new() } else { self.along.iter().filter(of_image).cloned().collect() }
    }

    /// How much of what; each number is a filter.
    fn strip(&self) -> Markup {
        let waiting: Vec<&Item> =
            self.owing.pushes.iter().filter(|p| p.status.state == State::Waiting && !p.status.companion).collect();
        let mut awaited: Vec<&str> = waiting.iter().flat_map(|p| p.status.missing.iter().map(String::as_str)).collect();
        awaited.sort_unstable();
        awaited.dedup();
        let notifications = self.owing.pushes.iter().flat_map(|p| p.status.notifications.iter());
        let mut owed: Vec<&str> =
            notifications.filter(|n| n.state == DeliveryState::Owed).map(|n| n.target.as_str()).collect();
        let owed_count = owed.len();
        owed.sort_unstable();
        owed.dedup();
        let more = if self.owing.next.is_some() { "+" } else { "" };
        let slowest = self.day.regions.iter().filter(|r| r.lag_p95_ms.is_some()).max_by_key(|r| r.lag_p95_ms);
        let tally = self.day.tally.clone().unwrap_or_default();
        let of = |status: &str| Filters::default().with("status", status);
        html! {
            dl.strip data-part="strip" {
                div { dt { "Waiting now" } dd { a href=(of("waiting").link()) { (waiting.len()) (more) }
                    @if !awaited.is_empty() { "for " (words::names(&awaited, 3)) } } }
                div { dt { "Timed out in 24 h" } dd { a href=(of("timed_out").with("since", "24h").link()) { (tally.timed_out) }
                    @if tally.recovered > 0 { a.second href=(of("recovered").with("since", "24h").link())
                        { "and " (tally.recovered) " that recovered" } } } }
                div { dt { "Slowest region in 24 h" } dd {
                    @if let Some(region) = slowest {
                        a href="?view=regions" { (region.region) }
                        "p95 " (words::lag(region.lag_p95_ms.unwrap_or(0))) ", max " (words::lag(region.lag_max_ms.unwrap_or(0)))
                    } @else { span.muted { "no report" } }
                } }
                div { dt { "Owed" } dd { a href=(of("owing").with("companions", "all").link()) { (owed_count) (more) }
                    @if !owed.is_empty() { "to " (words::names(&owed, 3)) } } }
                div { dt { "Exhausted in 24 h" } dd
                    { a href=(of("exhausted").with("companions", "all").with("since", "24h").link()) { (tally.exhausted) }
                    @if !tally.exhausted_targets.is_empty() { "for " (words::names(&tally.exhausted_targets, 3)) } } }
            }
        }
    }

    /// What keeps the list from being all there is.
    fn notices(&self) -> Markup {
        let unreadable = self.list.unreadable;
        html! {
            div data-part="notices" {
                @if unreadable > 0 {
                    div.notice { (words::icon("warn"))
                        p { b { (words::count(unreadable, "push is", "pushes are")) " left out: " }
                            "what is stored cannot be read. The log has an ERROR line for each." }
                    }
                }
                @if self.day.cut {
                    p.small.muted { "The numbers of 24 h count the newest " (self.day.pushes) " pushes, since "
                        (words::time(&self.day.since, Form::Short, self.now)) "." }
                }
            }
        }
    }

    fn nothing(&self) -> Markup {
        if self.list.next.is_some() {
            return html! { h2 { "None so far" } p
            { "No push" (self.filters.told()) " among those looked at; older ones may be." } };
        }
        if self.filters.are_none() && self.list.unreadable == 0 {
            return html! {
                h2 { "Nothing pushed yet" }
                p { "No push has come since this service began to keep them. Try it with webhooks like the registry's:" }
                (words::command(&self.send()))
                @if self.keyed { p.small.muted
                    { "It needs a key that opens ImagePush, as " code { "--key" } " or in " code { "GLOBAL_WEBHOOK_KEY" } "." } }
                p { "Or let the registry knock, once for each region:" }
                @for region in self.regions.iter().take(3) {
                    (super::regions::webhook("ping", self.registry, region))
                }
            };
        }
        let repository = self.filters.get("repository");
        let wider = Some(format!("**/*{repository}*")).filter(|_| !repository.is_empty() && !repository.contains('*'));
        html! {
            h2 { "Nothing matches" }
            p { "No push" (self.filters.told()) "." }
            p {
                a href="?" data-escape="" { "Clear the filters" }
                @if let Some(wider) = wider { ", or " a href=(self.filters.with("repository", &wider).link())
                    { "look for names with " (words::foreign(repository)) " in them" } }
                "."
            }
        }
    }

    /// The command that sends webhooks like the registry's to this service.
    fn send(&self) -> String {
        let simple = "global-webhook send --scenario simple";
        // Where it would send to by itself.
        let usual = ["", "http://127.0.0.1:7071", "http://localhost:7071"].contains(&self.address);
        if usual { simple.to_owned() } else { format!("{simple} --url {}", self.address) }
    }

    fn pages(&self) -> Markup {
        let count = words::count(self.list.pushes.len(), "push", "pushes");
        html! {
            p.pages.small data-part="pages" {
                @if !self.list.pushes.is_empty()
                    { span.muted { (count) @if self.filters.get("cursor").is_empty() { ", newest first" } @else
                        { ", older ones" } } }
                @if !self.filters.get("cursor").is_empty() { a href=(self.filters.with("cursor", "").link()) { "Newest" } }
                @if let Some(next) = &self.list.next { a href=(self.filters.with("cursor", next).link()) { "Older" } }
            }
        }
    }
}
