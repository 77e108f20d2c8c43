//! Pushes as a table, push by region: who has it how long after the first, who does not, and whether it was told.
//!
//! Guarantee: a row is named by its push and drawn from its documents alone, so that the script replaces what has changed and
//! leaves the rest alone. Never colour alone: each state has a mark and a word.

use maud::{Markup, html};

use super::words::{self, Form};
use crate::api::{
    self, Condition, DeliveryState, Item, Notification, RegionReport, RegionSummary, Regions, State, Status,
};
use crate::clock::Instant;

/// More regions than this are no columns any more.
const COLUMNS_MAX: usize = 8;

/// Names of regions in one cell.
const NAMED_MAX: usize = 6;

/// An arrival so far behind is slow where the region usually needs a third of that at most.
const SLOW_MS: i64 = 10_000;

/// What the table is drawn from beside the pushes.
pub(super) struct Frame<'a> {
    /// The present.
    pub(super) now: Instant,
    /// Columns, in the settings' order.
    pub(super) regions: Vec<&'a str>,
    /// What is usual.
    pub(super) day: &'a Regions,
}

/// What a push is to a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// It reported first.
    First,
    /// It reported so much later.
    Lag(i64),
    /// Likewise, much later than it usually does.
    Slow(i64),
    /// It is waited for.
    Open,
    /// It never reported.
    Missing,
    /// It reported after the push had settled without it.
    Late(i64),
    /// An operator said that the image is there.
    ByHand(i64),
    /// It need not report any more.
    Let,
    /// It reported the same image before, and that counted.
    Known,
    /// The push does not wait for it.
    None,
}

impl Cell {
    /// What `status` is to `region`, for which `usual` is known.
    pub(super) fn of(status: &Status, region: &str, usual: Option<&RegionSummary>) -> Self {
        let Some(report) = status.regions.get(region) else { return Self::None };
        let RegionReport { lag_ms: Some(lag), .. } = *report else {
            return match status.state {
                State::Waiting => Self::Open,
                State::Superseded => Self::Let,
                State::Replicated => Self::Known,
                State::TimedOut | State::Recovered if report.before.is_some() && status.recovered.is_some() => {
                    Self::Known
                }
                State::TimedOut | State::Recovered => Self::Missing,
            };
        };
        let slow = usual.and_then(|usual| usual.lag_p50_ms).is_some_and(|p50| lag >= SLOW_MS && lag >= 3 * p50);
        match report {
            RegionReport { by_hand: true, .. } => Self::ByHand(lag),
            RegionReport { late: true, .. } => Self::Late(lag),
            _ if lag == 0 => Self::First,
            _ if slow => Self::Slow(lag),
            _ => Self::Lag(lag),
        }
    }

    /// Whether somebody wants to know which region it is.
    fn is_named(self) -> bool {
        matches!(self, Self::Open | Self::Missing | Self::Late(_) | Self::ByHand(_) | Self::Slow(_))
    }

    /// Its class.
    fn class(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Lag(_) => "lag",
            Self::Slow(_) => "slow",
            Self::Open => "open",
            Self::Missing => "missing",
            Self::Late(_) | Self::ByHand(_) => "late",
            Self::Let | Self::Known | Self::None => "none",
        }
    }

    /// Its mark and words, with lags as `lag` writes them.
    fn shown(self, lag: fn(i64) -> String) -> Markup {
        html! {
            @match self {
                Self::First => { (words::icon("first")) "first" }
                Self::Lag(ms) => { (lag(ms)) }
                Self::Slow(ms) => { (words::icon("warn")) (lag(ms)) span.sr { " slow" } }
                Self::Open => { (words::icon("wait")) "not yet" }
                Self::Missing => { (words::icon("cross")) "missing" }
                Self::Late(ms) => { (words::icon("back")) (lag(ms)) " late" }
                Self::ByHand(ms) => { (words::icon("hand")) (lag(ms)) " by hand" }
                Self::Let => "not waited for",
                Self::Known => "known before",
                Self::None => { span aria-hidden="true" { "–" } span.sr { "not expected" } }
            }
        }
    }
}

/// A cell's box, with its lag as `lag` writes it.
pub(super) fn boxed(cell: Cell, lag: fn(i64) -> String) -> Markup {
    let class = format!("cell {}", cell.class());
    html! { span class=(class) { (cell.shown(lag)) } }
}

impl Frame<'_> {
    fn folded(&self) -> bool {
        self.regions.len() > COLUMNS_MAX
    }

    fn usual(&self, region: &str) -> Option<&RegionSummary> {
        self.day.regions.iter().find(|summary| summary.region == region)
    }

    /// The whole table; `along` says which pushes came along with which.
    pub(super) fn table(&self, pushes: &[Item], along: &dyn Fn(&Item) -> Vec<Item>) -> Markup {
        html! {
            table.matrix role="table" {
                caption.sr { "Pushes by region: how far each arrival was behind the first region" }
                thead role="rowgroup" data-keyed="" { (self.heading()) }
                tbody role="rowgroup" data-keyed="" {
                    @for push in pushes {
                        @let companions = along(push);
                        (self.row(push, None, companions.len()))
                        @for companion in &companions { (self.row(companion, Some(push), 0)) }
                    }
                }
            }
        }
    }

    fn heading(&self) -> Markup {
        html! {
            tr role="row" data-key="heading" {
                th scope="col" role="columnheader" { b { "Push" } "digest · first webhook" }
                th scope="col" role="columnheader" { b { "Outcome" } "regions in time" }
                @if self.folded() {
                    th scope="col" role="columnheader" { b { "Regions" } "missing and slow ones by name" }
                } @else {
                    @for region in &self.regions {
                        th.r scope="col" role="columnheader" { b { (region) } (self.usually(region)) }
                    }
                }
                th scope="col" role="columnheader" { b { "Receivers" } "told, owed, exhausted" }
            }
        }
    }

    /// What a region's heading says of it.
    fn usually(&self, region: &str) -> Markup {
        let Some(usual) = self.usual(region) else { return html! { small { "not in the settings" } } };
        let p95 = usual.lag_p95_ms.map(words::lag);
        html! {
            @match (usual.condition, p95) {
                (Condition::Silent, _) => {
                    small.bad { (words::icon("cross")) " silent " @if let Some(seen) = &usual.last_seen { (words::since(seen)) } }
                }
                (Condition::Incomplete, _) => {
                    small.bad { (words::icon("cross")) " misses " (usual.missing) " of " (usual.expected) }
                }
                (Condition::Slow, p95) => { small.warn { (words::icon("warn")) " slow, p95 " (p95.unwrap_or_default()) } }
                (Condition::Ok, Some(p95)) => { small { "p95 " (p95) } }
                (Condition::Ok, None) => { small { "no report in 24 h" } }
            }
        }
    }

    /// A push, or what was pushed along with `image`, folded away.
    fn row(&self, push: &Item, image: Option<&Item>, companions: usize) -> Markup {
        let status = &push.status;
        let class = if image.is_some() { "along" } else { status.state.word() };
        let address = format!("?push={}", push.instance_id);
        let along = image.map(|image| image.instance_id.as_str());
        html! {
            tr role="row" class=(class) data-key=(push.instance_id) data-state=(status.state.word()) data-news=(news(status))
                data-along=[along] hidden[along.is_some()] {
                th scope="row" role="rowheader" {
                    a href=(address) { @if image.is_some() { (name_along(status)) } @else { (words::foreign(&status.image)) } }
                    small {
                        code { (words::foreign(&api::digits(&status.digest))) } " · "
                        @if let Some(image) = image { "along with " (words::foreign(&image.status.image)) }
                        @else { (words::time(&push.created_time, Form::Short, self.now)) " · " (words::ago(&push.created_time)) }
                        @if status.action != "push" { " · " (words::foreign(&status.action)) }
                        @if status.round > 1 { " · pushed " (status.round) " times" }
                        @if companions > 0 {
                            " · "
                            button.plain type="button" aria-expanded="false" data-fold=(push.instance_id) {
                                "+ " (companions) " along"
                            }
                        }
                    }
                }
                td.out role="cell" { (outcome(push)) }
                @if self.folded() {
                    td.folded role="cell" { (self.named(status)) }
                } @else {
                    @for region in &self.regions {
                        td.r role="cell" data-region=(region) { (boxed(Cell::of(status, region, self.usual(region)), words::lag)) }
                    }
                }
                td.told role="cell" { (told(status)) }
            }
        }
    }

    /// How many regions have it, and those that somebody asks for.
    fn named(&self, status: &Status) -> Markup {
        let cells = status.regions.keys().map(|region| (region, Cell::of(status, region, self.usual(region))));
        let mut named: Vec<_> = cells.filter(|(_, cell)| cell.is_named()).collect();
        named.sort_by_key(|(_, cell)| match cell {
            Cell::Missing => (0, 0),
            Cell::Open => (1, 0),
            Cell::ByHand(ms) | Cell::Late(ms) => (2, -ms),
            Cell::Slow(ms) | Cell::Lag(ms) => (3, -ms),
            Cell::First | Cell::Let | Cell::Known | Cell::None => (4, 0),
        });
        let have = status.regions.len() - status.missing.len();
        html! {
            b { (have) " of " (status.regions.len()) }
            @if named.is_empty() { small { "slowest " (words::lag(status.lag_ms)) } }
            ul.names {
                @for (region, cell) in named.iter().take(NAMED_MAX) { li { (region) " " (boxed(*cell, words::lag)) } }
                @if named.len() > NAMED_MAX { li.muted { "and " (named.len() - NAMED_MAX) " more" } }
            }
        }
    }
}

/// A companion's own name: its tag, if it has one, says what it is.
fn name_along(status: &Status) -> Markup {
    let tag = status.tag.as_deref().unwrap_or_default();
    let kind = match tag.rsplit_once('.').map(|(_, end)| end) {
        Some("sig") => "signature",
        Some("att") => "attestation",
        Some("sbom") => "list of contents",
        Some(_) => "artifact",
        None if tag.is_empty() => "manifest without a tag",
        None => "artifact",
    };
    html! { (kind) }
}

/// What is told when a push comes to this state.
fn news(status: &Status) -> String {
    let image = words::plain(&status.image);
    match status.state {
        State::Waiting => format!("{image} was pushed"),
        State::Replicated => format!("{image} is everywhere"),
        State::Recovered => format!("{image} is everywhere at last"),
        State::TimedOut => format!("{image} timed out, missing {}", words::names(&status.missing, 3)),
        State::Superseded => format!("{image} was superseded"),
    }
}

/// A state with its mark.
pub(super) fn state(state: State) -> Markup {
    let (class, icon) = match state {
        State::Waiting => ("wait", "wait"),
        State::Replicated => ("ok", "check"),
        State::TimedOut => ("bad", "stop"),
        State::Recovered => ("warn", "back"),
        State::Superseded => ("muted", "on"),
    };
    html! { span.state.(class) { (words::icon(icon)) (words::spoken(state.word())) } }
}

fn outcome(push: &Item) -> Markup {
    let status = &push.status;
    let regions = status.regions.len();
    let in_time = status.regions.values().filter(|r| r.arrived.is_some() && !r.late).count();
    let took = |end: &Option<String>| words::took(&push.created_time, end.as_deref());
    html! {
        (state(status.state))
        small {
            @match status.state {
                State::Waiting => { (in_time) " of " (regions) " · " (words::left_to_settle(&status.deadline)) }
                State::Replicated => { (in_time) " of " (regions) " in " (took(&status.settled)) }
                State::TimedOut => { (in_time) " of " (regions) " in " (took(&status.settled)) }
                State::Recovered => { "after " (took(&status.recovered)) }
                State::Superseded => "its tag has moved on",
            }
            @if let Some(rule) = &status.rule { ", rule " i { (words::foreign(rule)) } }
        }
    }
}

/// What receivers know of a push, worst first.
fn told(status: &Status) -> Markup {
    let none = |text: &str| html! { span.muted { (text) } };
    if status.state == State::Waiting {
        return none("after it settles");
    }
    let notifications = &status.notifications;
    if notifications.is_empty() {
        return none(if status.companion { "on record only" } else { "nobody asks for this" });
    }
    let of = |state: DeliveryState| notifications.iter().filter(move |n| n.state == state);
    let mut confirmed: Vec<&str> = of(DeliveryState::Confirmed).map(|n| n.target.as_str()).collect();
    confirmed.sort_unstable();
    confirmed.dedup();
    html! {
        ul {
            @for n in of(DeliveryState::Exhausted) {
                li.bad { (words::icon("cross")) span
                    { (n.target) " exhausted: " (words::foreign(n.reason.as_deref().unwrap_or_default())) ", "
                        (attempts(n.attempts)) } }
            }
            @for n in of(DeliveryState::Owed) {
                li.warn[n.last_error.is_some()].wait[n.last_error.is_none()] { (words::icon("wait")) span { (owed(n)) } }
            }
            @if !confirmed.is_empty() {
                li.done { (words::icon("check")) span { (words::names(&confirmed, 5)) } }
            }
            @if of(DeliveryState::Overtaken).count() == notifications.len() { li.done { "dropped: the opposite is true" } }
        }
    }
}

/// `1 attempt`.
pub(super) fn attempts(n: u32) -> String {
    words::count(n as usize, "attempt", "attempts")
}

/// What keeps a notification from being confirmed.
pub(super) fn owed(n: &Notification) -> Markup {
    html! {
        (n.target)
        @if n.lease_until.is_some() { ": being sent" } @else { " owed" }
        @if let Some(error) = &n.last_error { ": " (words::foreign(error)) ", " (attempts(n.attempts)) }
        @if let (Some(at), None) = (&n.not_before, &n.lease_until) { ", next try in " (words::left(at)) }
    }
}
