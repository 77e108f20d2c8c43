//! One push: what is wrong with it, what can be done, what happened when, and the facts.

use maud::{Markup, html};

use super::filters::Filters;
use super::matrix::{self, Cell};
use super::verdict::{self, Severity, Verdict};
use super::words::{self, Form};
use super::{Fragment, fragment, timeline};
use crate::api::{DeliveryState, Notification, Push, Regions, State, Status};
use crate::clock::Instant;

/// A receiver of the settings, seen from one push.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// The format it is told in.
    pub format: String,
    /// What it would be told of this push: `replicated`, `timed_out`, …
    pub hears: Vec<&'static str>,
}

/// What the view is drawn from.
pub struct Detail<'a> {
    /// The present.
    pub now: Instant,
    /// The push.
    pub push: &'a Push,
    /// The regions over the last 24 hours, for what is usual.
    pub day: &'a Regions,
    /// Receivers of the settings.
    pub receivers: &'a [Receiver],
    /// Attempts at one notification before it is given up.
    pub attempts_max: usize,
}

/// What an operator may do, and why not now.
struct Action {
    name: &'static str,
    words: &'static str,
    why_not: Option<&'static str>,
}

/// What can be done to a push in this state.
fn actions(status: &Status) -> [Action; 3] {
    let waits = status.state == State::Waiting;
    let nobody = status.notifications.is_empty();
    let redeliver =
        if waits { Some("Nobody was told yet.") } else { nobody.then_some("No receiver is told of this push.") };
    [
        Action { name: "redeliver", words: "Redeliver…", why_not: redeliver },
        Action {
            name: "report",
            words: "Report a region…",
            why_not: status.missing.is_empty().then_some("Every region has reported."),
        },
        Action {
            name: "terminate",
            words: "End the wait…",
            why_not: (!waits).then_some("It has settled, so there is no wait to end."),
        },
    ]
}

impl Detail<'_> {
    fn status(&self) -> &Status {
        &self.push.custom_status
    }

    /// The view.
    #[must_use]
    pub fn render(&self) -> String {
        let status = self.status();
        let owes = status.notifications.iter().any(|n| n.state == DeliveryState::Owed);
        let busy = status.state == State::Waiting || owes;
        let repository = Filters::default().with("repository", &status.repository);
        let heading = if status.state == State::Waiting { "So far" } else { "What happened" };
        let body = html! {
            p.small { a href="?" { "Pushes" } " / " a href=(repository.link()) { (words::foreign(&status.repository)) } }
            div.head {
                div { h1 { (words::foreign(&status.image)) } (verdict::list(&self.verdicts())) }
                div.actions data-part="actions" { @for action in actions(status) { (self.button(&action)) } }
            }
            section.panel {
                h2 { (heading) }
                p.hint.small.muted { "Scroll it sideways for the deadline and the attempts. The panels below tell the same." }
                div.scroll tabindex="0" role="region" aria-label="Time-line, scrolls sideways" {
                    div data-part="timeline" { (timeline::draw(self.push, self.now)) }
                }
                p.small.muted
                    { "Left: from the first webhook to settling. Right: after it. Each half counts seconds first and minutes later." }
            }
            div.columns {
                section.panel.flush { h2 { "Regions" } div data-part="regions" { (self.regions()) } }
                section.panel.flush { h2 { "Receivers" } div data-part="receivers" { (self.told()) } }
                section.panel { h2 { "Facts" } div data-part="facts" { (self.facts()) } }
            }
        };
        let title = format!("{} {}", words::plain(&status.image), words::spoken(status.state.word()));
        fragment(&Fragment { view: "push", title: &title, now: self.now, busy }, &body)
    }

    fn button(&self, action: &Action) -> Markup {
        let address = format!("{}?do={}", self.push.instance_id, action.name);
        let why = format!("why-{}", action.name);
        html! {
            @match action.why_not {
                None => { button type="button" data-confirm=(address) { (action.words) } },
                Some(reason) => {
                    span.why {
                        button type="button" aria-disabled="true" aria-describedby=(why) { (action.words) }
                        span.sr id=(why) { (reason) }
                    }
                }
            }
        }
    }

    /// Worst first, the push itself before its receivers.
    fn verdicts(&self) -> Vec<Verdict> {
        let status = self.status();
        let have = status.regions.len() - status.missing.len();
        let missing = words::names(&status.missing, 5);
        let last = status.regions.values().filter_map(|r| r.arrived.as_deref()).max();
        let others = html! {
            @if have == 0 { "No region has it." } @else { (words::count(have, "region has", "regions have")) " it"
                @if let Some(last) = last { " since " (words::time(last, Form::Short, self.now)) } "." }
        };
        let ended = self.push.output.as_ref().is_some_and(|output| output.terminated);
        let of = |severity, bold, rest| Verdict::new(severity, "", bold, rest);
        let mut all = vec![match status.state {
            State::TimedOut => of(
                Severity::Bad,
                html! { "Timed out: " (missing) @if status.missing.len() == 1 { " is missing." } @else { " are missing." } },
                html! { @if ended { "An operator ended the wait. " } (others) },
            ),
            State::Waiting => of(
                Severity::Wait,
                html! { "Waiting for " (missing) ", " (words::left_to_settle(&status.deadline)) "." },
                html! { (others) " Nobody is told before it settles." },
            ),
            State::Replicated => of(
                Severity::Ok,
                html! { "Everywhere after " (words::span(status.lag_ms)) "." },
                html! { (words::count(have, "region", "regions")) @if let Some(last) = last
                { ", the last at " (words::time(last, Form::Short, self.now)) } "." },
            ),
            State::Recovered => of(
                Severity::Warn,
                html! { "Everywhere at last, after " (words::took(&self.push.created_time, status.recovered.as_deref())) "." },
                html! { "It had timed out without "
                (words::names(self.push.output.as_ref().map_or(&[][..], |o| &o.missing), 5)) "." },
            ),
            State::Superseded => of(
                Severity::Ok,
                html! { "Superseded: its tag carries another image by now." },
                html! { (others) " Whoever pulls the tag gets the newer one." },
            ),
        }];
        for n in status.notifications.iter() {
            let error = n.reason.as_deref().or(n.last_error.as_deref()).unwrap_or_default();
            let cause = html! { (words::foreign(error)) ", " (matrix::attempts(n.attempts)) };
            match n.state {
                DeliveryState::Exhausted => all.push(of(
                    Severity::Bad,
                    html! { (n.target) " was not told:" },
                    html! { (cause) ". Given up; redeliver when it is mended." },
                )),
                DeliveryState::Owed if n.last_error.is_some() => all.push(of(
                    Severity::Warn,
                    html! { (n.target) " has not been told:" },
                    html! { (cause) @if let (Some(at), None) = (&n.not_before, &n.lease_until)
                    { ". Next try at " (words::time(at, Form::Short, self.now)) ", in " (words::left(at)) } "." },
                )),
                DeliveryState::Owed | DeliveryState::Confirmed | DeliveryState::Overtaken => {}
            }
        }
        all
    }

    fn regions(&self) -> Markup {
        let status = self.status();
        let usual = |region: &str| self.day.regions.iter().find(|r| r.region == region);
        let mut cells: Vec<_> =
            status.regions.iter().map(|(name, report)| (name, report, Cell::of(status, name, usual(name)))).collect();
        cells.sort_by_key(|(name, report, _)| (report.lag_ms, name.as_str()));
        html! {
            table {
                thead { tr { th scope="col" { "Region" } th.n scope="col" { "Received" } th.n scope="col" { "Lag" } } }
                tbody {
                    @for (name, report, cell) in cells {
                        tr {
                            th scope="row" { (name)
                                @if report.repeats > 0 { small { (words::count(report.repeats as usize, "repeat", "repeats"))
                                    @if let Some(at) = &report.last_repeat
                                        { ", last " (words::time(at, Form::Short, self.now)) } } }
                                @if let Some(before) = &report.before
                                    { small { "reported this image before, " (words::time(before, Form::Short, self.now)) } }
                                @if report.arrived.is_none() && let Some(seen) =
                                    usual(name).and_then(|r| r.last_seen.as_deref()) {
                                    small { "last heard of " (words::time(seen, Form::Short, self.now)) ", for another push" }
                                }
                            }
                            td.n { @match &report.arrived { Some(at) => (words::time(at, Form::Exact, self.now)), None
                                => { span.muted { "–" } } } }
                            td.n { (matrix::boxed(cell, words::exact)) }
                        }
                    }
                    @for (name, report) in &status.unawaited {
                        tr { th scope="row" { (name) small { "reported, but is not waited for" } }
                            td.n { @if let Some(at) = &report.arrived { (words::time(at, Form::Exact, self.now)) } }
                                td.n { (matrix::boxed(Cell::None, words::exact)) } }
                    }
                }
            }
        }
    }

    fn format(&self, target: &str) -> &str {
        self.receivers.iter().find(|r| r.name == target).map_or("no longer in the settings", |r| &r.format)
    }

    fn told(&self) -> Markup {
        let notifications = &self.status().notifications;
        let untold = self.receivers.iter().filter(|r| notifications.iter().all(|n| n.target != r.name));
        if notifications.is_empty() && self.receivers.is_empty() {
            return html! { p.none { "The settings name no receiver, so nobody is told." } };
        }
        html! {
            table {
                thead { tr { th scope="col" { "Receiver" } th scope="col" { "State" } th scope="col" { "Attempts" } } }
                tbody {
                    @for n in notifications { (self.notification(n)) }
                    @for receiver in untold {
                        tr { th scope="row" { (receiver.name) small { (receiver.format) } }
                            td.muted.nowrap { "not told" }
                            td.muted { @match &receiver.hears[..] {
                                [] => "hears nothing of such a push",
                                hears => { "hears only when it is " (words::spoken(&hears.join(" or "))) }
                            } } }
                    }
                }
            }
        }
    }

    fn notification(&self, n: &Notification) -> Markup {
        let (class, icon) = match n.state {
            DeliveryState::Owed if n.last_error.is_none() => ("wait", "wait"),
            DeliveryState::Owed => ("warn", "wait"),
            DeliveryState::Confirmed => ("ok", "check"),
            DeliveryState::Exhausted => ("bad", "cross"),
            DeliveryState::Overtaken => ("muted", "on"),
        };
        let first = |n: &Notification| n.failed.last().map(|last| words::plain(&last.reason));
        html! {
            tr {
                th scope="row" { (n.target) small { (self.format(&n.target)) } }
                td {
                    span.state.(class) { (words::icon(icon)) (n.state.word()) }
                    small { "that it is " (words::spoken(&n.notice)) }
                    @if n.state == DeliveryState::Owed {
                        small { @if let Some(until) = &n.lease_until
                            { "attempt under way, until " (words::time(until, Form::Short, self.now)) }
                            @else if let Some(at) = &n.not_before
                                { "try " (n.attempts + 1) " of " (self.attempts_max) " at "
                                    (words::time(at, Form::Short, self.now)) } }
                    } @else if let Some(at) = &n.at { small { (words::time(at, Form::Short, self.now)) } }
                }
                td {
                    @if let Some(status) = n.status { (n.attempts) ": " (status) }
                    @else if n.failed.is_empty() { span.muted { @if n.attempts == 0 { "none yet" } @else { (n.attempts) } } }
                    @if !n.failed.is_empty() {
                        details data-keep=(format!("failed {} {}", n.target, n.notice)) {
                            summary { (n.failed.len()) " failed, last: " (first(n).unwrap_or_default()) }
                            ol.plain { @for f in &n.failed
                                { li { (f.attempt) ". " (words::time(&f.at, Form::Short, self.now)) " · "
                                    (words::foreign(&f.reason)) } } }
                        }
                    }
                }
            }
        }
    }

    fn facts(&self) -> Markup {
        let (push, status) = (self.push, self.status());
        let registry = Some(&status.registry).filter(|registry| !registry.is_empty());
        let pull = registry.map_or_else(|| status.image.clone(), |registry| format!("{registry}/{}", status.image));
        let same_tag = status.tag.as_ref().map(|tag| {
            Filters::default().with("repository", &status.repository).with("tag", tag).with("companions", "all")
        });
        html! {
            dl.facts {
                dt { "Digest" } dd { (words::word(&status.digest, "digest")) }
                dt { "Image" } dd { (words::word(&pull, "image")) }
                dt { "Opened" } dd { (words::time(&push.created_time, Form::Full, self.now)) }
                dt { "Deadline" } dd { (words::time(&status.deadline, Form::Short, self.now)) ", after "
                    (words::span(words::between(&push.created_time, &status.deadline))) }
                @if let Some(output) = &push.output
                    { dt { "Settled" } dd { (words::time(&output.settled, Form::Short, self.now)) ", after "
                        (words::span(output.duration_ms)) @if output.terminated { ", by an operator" } } }
                dt { "Rule" } dd { @match &status.rule { Some(rule) => (words::foreign(rule)), None =>
                    "none: the regions of the settings" } }
                @if status.action != "push" { dt { "Action" } dd { (words::foreign(&status.action)) } }
                dt { "Push id" } dd { (words::word(&push.instance_id, "push id")) }
                @if let Some(n) = status.notifications.iter().last() { dt { "webhook-id" } dd { code { (n.id) } } }
                @if status.round > 1 { dt { "Round" } dd { (status.round) ": this content was pushed before" } }
                dt { "See also" } dd {
                    @if let Some(same) = same_tag { a href=(same.link()) { "pushes of this tag" } ", " }
                    a href=(Filters::default().with("repository", &status.repository).with("companions",
                        "only").link()) { "what came along" }
                }
            }
        }
    }
}
