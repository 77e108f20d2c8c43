//! The view of the regions: which is silent, lacks pushes or is slow, since when, and is that usual? Worst first.

use maud::{Markup, html};

use super::filters::{Filters, choice};
use super::words::{self, Form};
use super::{Fragment, fragment, verdict};
use crate::api::{Condition, RegionSummary, Regions, Slice};
use crate::arm::plan::Set;
use crate::clock::Instant;
use crate::limits;
use crate::push::Region;

const SPANS: [(&str, &str); 5] =
    [("1h", "1 hour"), ("", "24 hours"), ("3d", "3 days"), ("7d", "7 days"), ("30d", "30 days")];

/// Of the drawing of arrivals: width and height of its field.
const FIELD: (f64, f64) = (400.0, 84.0);

/// What the view is drawn from.
pub struct Summary<'a> {
    /// The present.
    pub now: Instant,
    /// What was asked for.
    pub filters: &'a Filters,
    /// The regions over the span asked for.
    pub regions: &'a Regions,
    /// Login server of the registry, as far as it is known.
    pub registry: Option<&'a str>,
    /// Why they could not be asked for like that; `regions` are not looked at then.
    pub refused: Option<&'a str>,
}

impl Summary<'_> {
    /// The view.
    #[must_use]
    pub fn render(&self) -> String {
        if let Some(why) = self.refused {
            return self.refuse(why);
        }
        let since = Some(self.filters.get("since")).filter(|since| !since.is_empty()).unwrap_or(verdict::DAY);
        let verdicts = verdict::regions(self.regions, since);
        let lacking = |r: &&RegionSummary| matches!(r.condition, Condition::Silent | Condition::Incomplete);
        let rows = self.regions.regions.iter();
        let body = html! {
            div.head {
                div {
                    h1.sr { "Regions" }
                    @if verdicts.is_empty() {
                        ul.verdict data-part="verdict"
                            { li { span.ok { (words::icon("check")) } p { b { "No region is silent, incomplete or slow." } " "
                                (verdict::few_missing(self.regions, since)) } } }
                    } @else { (verdict::list(&verdicts)) }
                    div data-part="commands" {
                        @for region in self.regions.regions.iter().filter(lacking).take(2) {
                            p.muted { "What the registry sent for " (region.region) ", and what came back:" }
                            (webhook("list-events", self.registry, &region.region))
                        }
                    }
                }
                (self.form())
            }
            div.frame tabindex="0" role="region" aria-label="Regions" data-part="table" {
                table.strips role="table" {
                    caption.sr { "Lag behind the first region, " (words::count(self.regions.pushes, "push", "pushes")) }
                    thead role="rowgroup" { tr role="row" {
                        th scope="col" role="columnheader" { b { "Region" } "worst first" }
                        th scope="col" role="columnheader" { b { "Lag over time" } "half and slowest of each slice; ✕ missing" }
                        th scope="col" role="columnheader" { b { "p50 to p95, max" } "behind the first region" }
                        @for name in ["p50", "p95", "max", "Arrivals", "Missing", "Late", "Last seen"]
                            { th.n scope="col" role="columnheader" { (name) } }
                    } }
                    tbody role="rowgroup" data-keyed="" { @for region in rows { (self.row(region)) } }
                }
            }
            p.small.muted data-part="pages" {
                (words::count(self.regions.pushes, "push", "pushes")) " since "
                    (words::time(&self.regions.since, Form::Short, self.now)) ". "
                @if self.regions.cut { "Older ones of this time were too many to count. " }
                @if self.regions.unreadable > 0
                    { (words::count(self.regions.unreadable, "push is", "pushes are")) " left out, since what is stored cannot be read. " }
                "A region is silent when the newest pushes that settled never reached it, incomplete when they did but "
                (limits::REGION_MISSES) " did not, or one in " (limits::REGION_MISSES_ONE_IN) ", and slow when one report in twenty comes 10 s or more after the first region's and three times as late as with most."
            }
        };
        let title = verdicts.first().map_or("Regions", verdict::Verdict::title);
        fragment(&Fragment { view: "regions", title, now: self.now, busy: false }, &body)
    }

    fn form(&self) -> Markup {
        html! {
            form.filters method="get" data-part="filters" {
                input type="hidden" name="view" value="regions";
                label { "Time" (choice("since", &SPANS, self.filters.get("since"))) }
                button { "Show" }
            }
        }
    }

    fn refuse(&self, why: &str) -> String {
        let body = html! {
            h1.sr { "Regions" }
            (self.form())
            div.panel data-part="table" { (super::refused(why, "?view=regions")) }
        };
        fragment(&Fragment { view: "regions", title: "Regions", now: self.now, busy: false }, &body)
    }

    fn row(&self, region: &RegionSummary) -> Markup {
        let lag = |ms: Option<i64>| ms.map_or_else(|| "–".to_owned(), words::lag);
        let lacking = Filters::default().with("region", &region.region).with("companions", "all").link();
        let slow = region.condition == Condition::Slow;
        html! {
            tr role="row" data-key=(region.region) {
                th.say scope="row" role="rowheader" {
                    a href=(lacking) { b { (region.region) } }
                    @match region.condition {
                        Condition::Silent => { span.state.bad
                            { (words::icon("stop")) "silent " @if let Some(seen) = &region.last_seen
                                { (words::since(seen)) } } }
                        Condition::Incomplete => { span.state.bad { (words::icon("stop")) "incomplete" } }
                        Condition::Slow => { span.state.warn { (words::icon("warn")) "slow" } }
                        Condition::Ok if region.arrivals == 0 => { span.state.muted { "no report" } }
                        Condition::Ok => { span.state.ok { (words::icon("check")) "as usual" } }
                    }
                    @if region.missed_in_a_row > 0
                        { small { "missed the last " @if region.missed_in_a_row > 1
                            { (region.missed_in_a_row) " pushes" } @else { "push" } } }
                    @if region.waiting > 0 { small { (words::count(region.waiting, "push waits", "pushes wait")) " for it" } }
                }
                td.drawn role="cell" { (self.arrivals(region)) }
                td.drawn role="cell" { (range(region)) }
                td.n role="cell" data-label="p50" { (lag(region.lag_p50_ms)) }
                td.n.warn[slow] role="cell" data-label="p95" { (lag(region.lag_p95_ms)) }
                td.n role="cell" data-label="max" { (lag(region.lag_max_ms)) }
                td.n role="cell" data-label="arrivals" { (region.arrivals) small { "of " (region.expected) } }
                td.n.bad[region.missing > 0] role="cell" data-label="missing" { (region.missing) }
                td.n role="cell" data-label="late" { (region.late) }
                td.n role="cell" data-label="last seen" {
                    @match &region.last_seen { Some(seen) =>
                        { (words::ago(seen)) small { (words::time(seen, Form::Short, self.now)) } }, None => "never" }
                }
            }
        }
    }

    /// Lag of the arrivals over time: for each slice half of them and the slowest.
    fn arrivals(&self, region: &RegionSummary) -> Markup {
        let (width, height) = FIELD;
        let count = f64::from(u32::try_from(region.trend.len().max(1)).unwrap_or(1));
        let x = |slice: usize| (f64::from(u32::try_from(slice).unwrap_or(0)) + 0.5) * width / count;
        let silent = (region.condition == Condition::Silent).then_some(region.last_seen.as_deref()).flatten();
        let told = format!(
            "{}: half of the arrivals within {}, 95 of 100 within {}, {} missing",
            region.region,
            words::lag(region.lag_p50_ms.unwrap_or(0)),
            words::lag(region.lag_p95_ms.unwrap_or(0)),
            region.missing
        );
        html! {
            svg viewBox="0 0 446 100" width="446" height="100" role="img" aria-label=(told) {
                @for (ms, name) in [(1000, "1 s"), (10_000, "10 s"), (120_000, "2 min")] {
                    path.grid d=(format!("M0 {:.1}H{width}", y(ms))) {}
                    text x=(width + 6.0) y=(format!("{:.1}", y(ms) + 4.0)) { (name) }
                }
                @if let Some(seen) = silent {
                    @let from = self.part(seen) * width;
                    rect.hush x=(format!("{from:.1}")) y="0" width=(format!("{:.1}", width - from)) height=(height) {}
                    path.s-bad d=(format!("M{from:.1} 0V{height}")) {}
                }
                @for (at, Slice { lag_p50_ms, lag_max_ms, missing }) in region.trend.iter().enumerate() {
                    @if let (Some(half), Some(most)) = (lag_p50_ms, lag_max_ms) {
                        @if y(*half) - y(*most) > 4.0 { path.reach
                            d=(format!("M{:.1} {:.1}V{:.1}", x(at), y(*half), y(*most))) {} }
                        circle.f-warn[*half >= 10_000].f-ink[*half < 10_000] cx=(format!("{:.1}", x(at)))
                            cy=(format!("{:.1}", y(*half))) r="2.5" {}
                    }
                    @if *missing > 0 { path.s-bad d=(format!("M{:.1} 3l6 6m0-6l-6 6", x(at) - 3.0)) {} }
                }
                path.edge d=(format!("M0 {height}H{width}")) {}
                @for (part, name) in self.ticks()
                    { text x=(format!("{:.1}", part * width)) y="97" text-anchor="middle" { (name) } }
            }
        }
    }

    /// How far into the span an instant is, from 0 to 1.
    fn part(&self, at: &str) -> f64 {
        let share = |ms: i64| f64::from(i32::try_from(ms / 1000).unwrap_or(i32::MAX));
        (share(words::between(&self.regions.since, at))
            / share(words::between(&self.regions.since, &self.regions.until)).max(1.0))
        .clamp(0.0, 1.0)
    }

    /// Names of some instants of the span.
    fn ticks(&self) -> Vec<(f64, String)> {
        let Some((since, until)) = words::instant(&self.regions.since).zip(words::instant(&self.regions.until)) else {
            return Vec::new();
        };
        let span = until - since;
        let form = if span > chrono::Duration::hours(49) { "%-d %b" } else { "%H:%M" };
        [0.1, 0.3, 0.5, 0.7, 0.9]
            .into_iter()
            .zip([1, 3, 5, 7, 9])
            .map(|(part, tenths)| (part, (since + span / 10 * tenths).format(form).to_string()))
            .collect()
    }
}

/// A command about the webhook that a region has where it was made as usual; `registry` is a login server, if it is known.
pub(super) fn webhook(what: &str, registry: Option<&str>, region: &str) -> Markup {
    let registry = registry.and_then(|server| server.split('.').next()).filter(|name| words::is_one_word(name));
    let registry = registry.unwrap_or("<registry>");
    html! {
        @if let Ok(region) = Region::parse(region) {
            (words::command(&format!("az acr webhook {what} --registry {registry} --name {}", Set::default().name(&region))))
        }
    }
}

/// Where a lag stands in a field: tenths of a second at the bottom, minutes at the top.
fn y(ms: i64) -> f64 {
    let seconds = f64::from(i32::try_from(ms.max(0)).unwrap_or(i32::MAX)) / 1000.0;
    (FIELD.1 - 4.0 - (1.0 + seconds * 4.0).ln() / (1.0_f64 + 4.0 * 300.0).ln() * (FIELD.1 - 8.0)).max(2.0)
}

/// From the half to 95 of 100, and on to the slowest.
fn range(region: &RegionSummary) -> Markup {
    let (Some(p50), Some(p95), Some(max)) = (region.lag_p50_ms, region.lag_p95_ms, region.lag_max_ms) else {
        return html! { span.muted { "–" } };
    };
    let x = |ms: i64| 6.0 + (FIELD.1 - 4.0 - y(ms)) / (FIELD.1 - 8.0) * 158.0;
    let told = format!("p50 {}, p95 {}, max {}", words::lag(p50), words::lag(p95), words::lag(max));
    let slow = region.condition == Condition::Slow;
    html! {
        svg viewBox="0 0 176 34" width="176" height="34" role="img" aria-label=(told) {
            @for (ms, name) in [(1000, "1 s"), (10_000, "10 s"), (60_000, "1 min")] {
                path.grid d=(format!("M{:.1} 2V22", x(ms))) {} text x=(format!("{:.1}", x(ms))) y="33"
                    text-anchor="middle" { (name) }
            }
            path.edge d=(format!("M{:.1} 12H{:.1}M{:.1} 8v8", x(p95), x(max), x(max))) {}
            path.range.slow[slow] d=(format!("M{:.1} 12H{:.1}", x(p50), x(p95).max(x(p50) + 1.0))) {}
            path.cut d=(format!("M{:.1} 5v14", x(p50))) {}
        }
    }
}
