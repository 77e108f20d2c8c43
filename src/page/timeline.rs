//! What happened to a push when, drawn: arrivals up to settling on the left, notifications after it on the right.
//!
//! Guarantees: no colour or place by style attributes, which the page's policy refuses; the title says the same in words; however
//! many regions there are, those that somebody asks for have a line of their own.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::matrix::Cell;
use super::words;
use crate::api::{DeliveryState, Notification, Push, State, Status};
use crate::clock::Instant;

/// Lines for regions; the others share one.
const LANES_MAX: usize = 12;

const WIDTH: i64 = 1120;
const LEFT: f64 = 150.0;
const CUT: f64 = 572.0;
const RIGHT: f64 = 1090.0;
const LANE: i64 = 30;
const TOP: i64 = 49;

/// Instants that the axes name, in seconds.
const NAMED: [i64; 14] =
    [1, 5, 15, 30, 60, 120, 300, 900, 3600, 4 * 3600, 86_400, 3 * 86_400, 10 * 86_400, 30 * 86_400];

/// One half's scale: seconds count first, and minutes and hours later.
struct Scale {
    from: f64,
    to: f64,
    longest: f64,
}

impl Scale {
    fn x(&self, ms: i64) -> f64 {
        let part = (1.0 + seconds(ms)).ln() / (1.0 + self.longest).ln();
        self.from + (self.to - self.from) * part.clamp(0.0, 1.0)
    }

    /// Instants to name, at least so far apart.
    fn named(&self) -> Vec<(f64, i64)> {
        let mut named: Vec<(f64, i64)> = Vec::new();
        for at in NAMED {
            let x = self.x(at * 1000);
            if x - self.from > 34.0 && x < self.to - 34.0 && named.last().is_none_or(|(last, _)| x - last > 62.0) {
                named.push((x, at));
            }
        }
        named
    }
}

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1000.0
}

/// A coordinate, short.
fn n(x: f64) -> String {
    format!("{x:.1}")
}

/// The drawing.
pub(super) fn draw(push: &Push, now: Instant) -> Markup {
    let status = &push.custom_status;
    let since_opened = |text: &str| words::between(&push.created_time, text);
    let present = words::instant(&push.created_time).map_or(0, |opened| (now - opened).num_milliseconds());
    let end = since_opened(status.settled.as_deref().unwrap_or(&status.deadline)).max(1000);
    let cut = if status.settled.is_some() { CUT } else { 1000.0 };
    let left = Scale { from: LEFT, to: cut - 12.0, longest: seconds(end) };
    let after = |text: &str| since_opened(text) - end;
    let open_end =
        status.notifications.iter().any(|n| n.state == DeliveryState::Owed) || status.state == State::TimedOut;
    let last = events(status).into_iter().map(after).chain(open_end.then_some(present - end)).max().unwrap_or(0);
    let right = Scale { from: cut + 12.0, to: RIGHT - 40.0, longest: seconds(last.max(30_000)) * 1.1 };
    let drawing = Drawing { push, status, left, right, end, present, cut, open_end };
    let (lanes, more) = drawing.lanes();
    let targets = drawing.targets();
    let rows = i64::try_from(lanes.len() + usize::from(more.is_some())).unwrap_or(0);
    let told = TOP + rows * LANE + 18;
    let bottom = told + i64::try_from(targets.len()).unwrap_or(0) * LANE - if targets.is_empty() { 30 } else { 12 };
    html! {
        svg.line viewBox=(format!("0 0 {WIDTH} {}", bottom + 32)) role="img" aria-labelledby="timeline-title" {
            title id="timeline-title" { (drawing.spoken()) }
            (drawing.grid(bottom))
            @for (row, (region, cell)) in lanes.iter().enumerate()
                { (drawing.lane(region, *cell, TOP + i64::try_from(row).unwrap_or(0) * LANE)) }
            @if let Some((count, first, last)) = more { (drawing.others(count, first, last, TOP + (rows - 1) * LANE)) }
            @for (row, (target, notifications)) in targets.iter().enumerate()
                { (drawing.receiver(target, notifications, told + i64::try_from(row).unwrap_or(0) * LANE)) }
            (drawing.marks(bottom))
        }
    }
}

/// Everything that the right half shows.
fn events(status: &Status) -> Vec<&str> {
    let notifications = status.notifications.iter();
    let told = notifications
        .flat_map(|n| n.failed.iter().map(|f| f.at.as_str()).chain(n.at.as_deref()).chain(n.not_before.as_deref()));
    told.chain(status.regions.values().filter(|r| r.late || r.by_hand).filter_map(|r| r.arrived.as_deref())).collect()
}

/// How many regions share a line, and the lags of the first and the last of them.
type Others = (usize, i64, i64);

struct Drawing<'a> {
    push: &'a Push,
    status: &'a Status,
    left: Scale,
    right: Scale,
    /// From the first webhook to settling, or to the deadline.
    end: i64,
    present: i64,
    cut: f64,
    /// Whether something is still to come.
    open_end: bool,
}

impl<'a> Drawing<'a> {
    /// The regions with a line of their own; how many share one, and between which lags they are.
    fn lanes(&self) -> (Vec<(&'a str, Cell)>, Option<Others>) {
        let mut all: Vec<(&str, Cell, Option<i64>)> = self
            .status
            .regions
            .iter()
            .map(|(name, r)| (name.as_str(), Cell::of(self.status, name, None), r.lag_ms))
            .collect();
        // By arrival; those that never came last.
        all.sort_by_key(|(name, _, lag)| (lag.unwrap_or(i64::MAX), *name));
        let mut more = None;
        if all.len() > LANES_MAX {
            let plain = |cell: &Cell| matches!(cell, Cell::Lag(_));
            let named = all.iter().filter(|(_, cell, _)| !plain(cell)).count();
            let (kept, rest): (Vec<_>, Vec<_>) = {
                let room = (LANES_MAX - 1).saturating_sub(named);
                let plain_count = all.len() - named;
                let mut seen = 0;
                all.into_iter().partition(|(_, cell, _)| {
                    // Of those that came in time, the slowest.
                    seen += usize::from(plain(cell));
                    !plain(cell) || seen > plain_count.saturating_sub(room)
                })
            };
            let lags: Vec<i64> = rest.iter().filter_map(|(_, _, lag)| *lag).collect();
            more = lags.iter().min().zip(lags.iter().max()).map(|(first, last)| (rest.len(), *first, *last));
            all = kept;
        }
        (all.into_iter().map(|(name, cell, _)| (name, cell)).collect(), more)
    }

    fn targets(&self) -> Vec<(&'a str, Vec<&'a Notification>)> {
        let mut targets: Vec<(&str, Vec<&Notification>)> = Vec::new();
        for n in self.status.notifications.iter() {
            match targets.iter_mut().find(|(target, _)| *target == n.target) {
                Some((_, all)) => all.push(n),
                None => targets.push((&n.target, vec![n])),
            }
        }
        targets
    }

    fn grid(&self, bottom: i64) -> Markup {
        let y = bottom + 18;
        html! {
            path.grid d=(format!("M{LEFT} 28V{bottom}")) {}
            text x=(n(LEFT)) y=(y) text-anchor="middle" { "0" }
            @for (x, at) in self.left.named()
                { path.grid d=(format!("M{} 28V{bottom}", n(x))) {} text x=(n(x)) y=(y) text-anchor="middle"
                    { (words::span(at * 1000).replace(".0", "")) } }
            @if self.status.settled.is_some() {
                @for (x, at) in self.right.named()
                    { path.grid d=(format!("M{} 28V{bottom}", n(x))) {} text x=(n(x)) y=(y) text-anchor="middle"
                        { "+" (words::span(at * 1000).replace(".0", "")) } }
            }
            text x="0" y=(y) { "after the first" }
        }
    }

    fn lane(&self, region: &str, cell: Cell, y: i64) -> Markup {
        let arrived = |ms: i64| if ms > self.end { self.right.x(ms - self.end) } else { self.left.x(ms) };
        let (base, label) = (y - 4, y + 4);
        let stop = if self.status.settled.is_some() { RIGHT } else { self.cut };
        let to_now = self.left.x(self.present.min(self.end));
        html! {
            path.lane d=(format!("M{LEFT} {y}H{stop}")) {}
            text.strong x="0" y=(label) { (short(region)) }
            @match cell {
                Cell::First => { path.f-ink d=(format!("M{LEFT} {}l7 7-7 7-7-7z", y - 7)) {} text.strong
                    x=(n(LEFT + 12.0)) y=(base) { "first" } }
                Cell::Lag(ms) | Cell::Slow(ms) => {
                    path.s-ink d=(format!("M{LEFT} {y}H{}", n(arrived(ms)))) {}
                    circle.f-ink cx=(n(arrived(ms))) cy=(y) r="5" {}
                    text.strong x=(n(arrived(ms) + 10.0)) y=(base) { (words::lag(ms)) }
                }
                Cell::Late(ms) | Cell::ByHand(ms) => {
                    path.s-bad d=(format!("M{LEFT} {y}H{}", n(arrived(ms)))) {}
                    circle.f-warn cx=(n(arrived(ms))) cy=(y) r="5" {}
                    text.f-warn x=(n(arrived(ms) - 10.0)) y=(base) text-anchor="end"
                        { (words::lag(ms)) @if matches!(cell, Cell::ByHand(_)) { ", by hand" } @else { " late" } }
                }
                Cell::Open => { path.s-wait d=(format!("M{LEFT} {y}H{}", n(to_now))) {} circle.p-wait cx=(n(to_now))
                    cy=(y) r="5" {} text.f-wait x=(n(to_now + 12.0)) y=(base) { "not yet" } }
                Cell::Missing => {
                    path.s-bad d=(format!("M{LEFT} {y}H{}", n(self.cut - 12.0))) {}
                    rect.b-bad x=(n(self.cut + 12.0)) y=(y - 11) width=(n(RIGHT - self.cut - 12.0)) height="22" rx="3" {}
                    text.t-on x=(n(self.cut + 22.0)) y=(label) { "✕ missing, and still not seen" }
                }
                Cell::Let => { text x=(n(LEFT + 12.0)) y=(base) { "not waited for any more" } }
                Cell::Known => { text x=(n(LEFT + 12.0)) y=(base) { "reported the same image before" } }
                Cell::None => {}
            }
        }
    }

    fn others(&self, count: usize, first: i64, last: i64, y: i64) -> Markup {
        let [from, to] = [first, last].map(|ms| self.left.x(ms));
        html! {
            path.lane d=(format!("M{LEFT} {y}H{}", n(self.cut))) {}
            text x="0" y=(y + 4) { (count) " other regions" }
            path.range d=(format!("M{} {y}H{}", n(from), n(to.max(from + 6.0)))) {}
            text.strong x=(n(to.max(from + 6.0) + 10.0)) y=(y - 4) { (words::lag(first)) " to " (words::lag(last)) }
        }
    }

    fn receiver(&self, target: &str, notifications: &[&Notification], y: i64) -> Markup {
        let since = |text: &str| words::between(&self.push.created_time, text) - self.end;
        let mut chips: Vec<(f64, &str, String)> = Vec::new();
        for one in notifications {
            for failed in &one.failed {
                chips.push((self.right.x(since(&failed.at)), "p-warn", code(&failed.reason)));
            }
            let at = one.at.as_deref().map_or(0, since);
            match one.state {
                DeliveryState::Confirmed => {
                    chips.push((self.right.x(at), "p-ok", one.status.map_or("ok".into(), |s| s.to_string())))
                }
                DeliveryState::Exhausted => chips.push((self.right.x(at) + 30.0, "p-bad", "given up".into())),
                DeliveryState::Overtaken => chips.push((self.right.x(at), "p-wait", "dropped".into())),
                DeliveryState::Owed => {
                    let next = one.not_before.as_deref().unwrap_or_default();
                    let shown = if one.lease_until.is_some() {
                        "now".into()
                    } else {
                        words::instant(next).map_or(String::new(), |at| at.format("%H:%M").to_string())
                    };
                    chips.push((self.right.x(since(next)), "p-wait", shown));
                }
            }
        }
        // Side by side, in their order, where they would lie upon each other.
        let mut free = self.cut + 16.0;
        let chips: Vec<_> = chips
            .into_iter()
            .map(|(x, class, text)| {
                let width = 12.0 + 7.0 * f64::from(u32::try_from(text.chars().count()).unwrap_or(1));
                let from = (x - width / 2.0).max(free);
                free = from + width + 3.0;
                (from, width, class, text)
            })
            .collect();
        html! {
            text.strong x="0" y=(y + 4) { (short(target)) }
            path.lane d=(format!("M{} {y}H{RIGHT}", n(self.cut + 12.0))) {}
            @for (x, width, class, text) in chips {
                rect class=(class) x=(n(x)) y=(y - 10) width=(n(width)) height="20" rx="3" {}
                text class=(format!("t-{class}")) x=(n(x + width / 2.0)) y=(y + 4) text-anchor="middle" { (text) }
            }
        }
    }

    /// The deadline or the end, and the present.
    fn marks(&self, bottom: i64) -> Markup {
        let clock = |text: &str| words::instant(text).map_or(String::new(), |at| at.format("%H:%M:%S").to_string());
        let deadline = clock(&self.status.deadline);
        let state = words::spoken(self.status.outcome.as_deref().unwrap_or_default());
        html! {
            path.cut d=(format!("M{} 18V{bottom}", self.cut)) {}
            @match &self.status.settled {
                Some(settled) => {
                    text.strong x=(n(self.cut - 8.0)) y="18" text-anchor="end"
                        { @if words::between(&self.status.deadline, settled) >= 0 { "deadline, " (deadline) } @else
                            { "settled, " (clock(settled)) } }
                    text.strong x=(n(self.cut + 10.0)) y="18" { (state) }
                    @if self.open_end {
                        @let x = self.right.x(self.present - self.end);
                        path.now d=(format!("M{} 26V{bottom}", n(x))) {} text.f-wait x=(n(x)) y="20"
                            text-anchor="middle" { "now" }
                    }
                }
                None => {
                    @let x = self.left.x(self.present.min(self.end));
                    text.strong x=(n(self.cut)) y="12" text-anchor="middle" { "deadline, " (deadline) }
                    path.now d=(format!("M{} 26V{bottom}", n(x))) {} text.f-wait x=(n(x)) y="20" text-anchor="middle" { "now" }
                }
            }
        }
    }

    /// The drawing in words.
    fn spoken(&self) -> String {
        let (lanes, more) = self.lanes();
        let mut said = String::from("Time-line: ");
        for (region, cell) in lanes {
            let _ = match cell {
                Cell::First => write!(said, "{region} first, "),
                Cell::Lag(ms) | Cell::Slow(ms) => write!(said, "{region} {} later, ", words::lag(ms)),
                Cell::Late(ms) => write!(said, "{region} late, after {}, ", words::lag(ms)),
                Cell::ByHand(ms) => write!(said, "{region} reported by hand after {}, ", words::lag(ms)),
                Cell::Open => write!(said, "{region} not yet, "),
                Cell::Missing => write!(said, "{region} missing, "),
                Cell::Let | Cell::Known | Cell::None => write!(said, "{region} not waited for, "),
            };
        }
        if let Some((count, first, last)) = more {
            let _ = write!(said, "{count} others between {} and {}, ", words::lag(first), words::lag(last));
        }
        for n in self.status.notifications.iter() {
            let _ = write!(said, "{} {} after {}, ", n.target, n.state.word(), super::matrix::attempts(n.attempts));
        }
        format!("{}.", said.trim_end_matches(", "))
    }
}

/// A name that fits beside its line.
fn short(name: &str) -> String {
    let name = words::plain(name);
    if name.chars().count() <= 20 { name } else { name.chars().take(19).chain(['…']).collect() }
}

/// What a failed attempt is called: its status, if it begins with one.
fn code(reason: &str) -> String {
    let first = reason.split_whitespace().next().unwrap_or_default();
    if first.len() == 3 && first.bytes().all(|b| b.is_ascii_digit()) { first.to_owned() } else { "failed".to_owned() }
}
