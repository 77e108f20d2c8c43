//! What a person wants to hear first: a few sentences, the worst first, each with one link.

use maud::{Markup, html};

use super::filters::Filters;
use super::words;
use crate::api::{Condition, DeliveryState, List, Notification, RegionSummary, Regions, State};

/// More sentences are not read at night.
const SENTENCES_MAX: usize = 3;

/// The span that is told of where nobody asks for another, as filters have it.
pub(super) const DAY: &str = "24h";

/// One sentence, and the page's title where it is the first.
pub(super) struct Verdict {
    severity: Severity,
    title: String,
    bold: Markup,
    rest: Markup,
    link: Option<(String, &'static str)>,
}

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Somebody is needed.
    Bad,
    /// It may need somebody.
    Warn,
    /// It is under way.
    Wait,
    /// Nothing to do.
    Ok,
}

impl Verdict {
    /// A sentence; the title in plain words, with its mark.
    pub(super) fn new(severity: Severity, title: impl Into<String>, bold: Markup, rest: Markup) -> Self {
        let mark = match severity {
            Severity::Bad => "✕ ",
            Severity::Warn => "▲ ",
            Severity::Wait => "◌ ",
            Severity::Ok => "",
        };
        Self { severity, title: format!("{mark}{}", title.into()), bold, rest, link: None }
    }

    /// With a link to where more is to be seen.
    pub(super) fn to(self, address: impl Into<String>, words: &'static str) -> Self {
        Self { link: Some((address.into(), words)), ..self }
    }

    /// The title of a page that it stands on first.
    pub(super) fn title(&self) -> &str {
        &self.title
    }
}

/// Sentences, the worst first.
pub(super) fn list(verdicts: &[Verdict]) -> Markup {
    html! {
        ul.verdict data-part="verdict" {
            @for verdict in verdicts {
                @let (class, icon) = match verdict.severity {
                    Severity::Bad => ("bad", "stop"),
                    Severity::Warn => ("warn", "warn"),
                    Severity::Wait => ("wait", "wait"),
                    Severity::Ok => ("ok", "check"),
                };
                li { span.(class) { (words::icon(icon)) } p { b { (verdict.bold) } " " (verdict.rest)
                    @if let Some((address, words)) = &verdict.link { " " a href=(address) { (words) } } } }
            }
        }
    }
}

/// What is to be said of everything; `list` has the newest pushes, where it has all.
pub(super) fn of(day: &Regions, owing: &List, list: Option<&List>) -> Vec<Verdict> {
    // Who is not told comes before who is slow.
    let mut all = refusing(owing);
    all.extend(regions(day, DAY).into_iter().map(|verdict| match verdict.link {
        Some(_) => verdict,
        None => verdict.to("?view=regions", "Regions"),
    }));
    let tally = day.tally.clone().unwrap_or_default();
    if tally.exhausted > 0 {
        let targets = words::names(&tally.exhausted_targets, 3);
        let gave_up = words::count(tally.exhausted, "notification was", "notifications were");
        let link = Filters::default().with("status", "exhausted").with("companions", "all").with("since", DAY).link();
        let title = format!("{targets} not told");
        let bold = html! { (targets) " was not told:" };
        let rest = html! { (gave_up) " given up in 24 h. Nobody tries again but you." };
        all.push(Verdict::new(Severity::Bad, title, bold, rest).to(link, "What was given up"));
    }
    let waiting = owing.pushes.iter().filter(|p| p.status.state == State::Waiting && !p.status.companion).count();
    all.sort_by_key(|verdict| verdict.severity);
    all.truncate(SENTENCES_MAX);
    if all.is_empty() {
        all.push(well(day, list, waiting));
    }
    all
}

/// One calm sentence.
fn well(day: &Regions, list: Option<&List>, waiting: usize) -> Verdict {
    let reporting = day.regions.iter().filter(|r| r.arrivals > 0).count();
    let last = list.into_iter().flat_map(|list| &list.pushes).find(|p| p.status.state == State::Replicated);
    let bold = match (day.pushes, waiting) {
        (0, _) => html! { "Nothing was pushed in the last 24 hours, and nothing is owed." },
        (_, 0) => {
            html! { @if reporting == day.regions.len() { "All " (reporting) " regions report" } @else
            { (reporting) " of " (day.regions.len()) " regions report" } ", and nothing is owed." }
        }
        (_, n) => html! { "All is well so far: " (words::count(n, "push waits", "pushes wait")) " for its regions." },
    };
    let rest = html! {
        (few_missing(day, DAY))
        @if let Some(push) = last.filter(|_| day.pushes > 0) {
            "The last push, " (words::foreign(&push.status.image)) ", was everywhere after "
                (words::span(push.status.lag_ms)) ", "
            (words::ago(&push.created_time)) "."
        }
    };
    Verdict::new(Severity::Ok, "Pushes", bold, rest)
}

/// Pushes that a region misses, so that they can be seen.
fn missed(region: &str, since: &str) -> String {
    let filters = Filters::default().with("region", region).with("status", "timed_out").with("companions", "all");
    filters.with("since", since).link()
}

/// `5 of 10 pushes are`
fn missing(region: &RegionSummary) -> String {
    let pushes = words::count(region.expected, "push", "pushes");
    format!("{} of {pushes} {}", region.missing, if region.missing == 1 { "is" } else { "are" })
}

/// What regions miss without being silent or incomplete: nobody is woken by it, and nobody is told that there is nothing.
pub(super) fn few_missing(day: &Regions, since: &str) -> Markup {
    let few = |r: &&RegionSummary| r.missing > 0 && !matches!(r.condition, Condition::Silent | Condition::Incomplete);
    html! {
        @for region in day.regions.iter().filter(few).take(2) {
            a href=(missed(&region.region, since)) { (missing(region)) " missing" } " in " (region.region) ". "
        }
    }
}

/// What is to be said of regions: the silent ones, those that lack many pushes, then the slow ones. `since` is the span as filters
/// have it.
pub(super) fn regions(day: &Regions, since: &str) -> Vec<Verdict> {
    let of = |condition| day.regions.iter().filter(move |region| region.condition == condition).collect::<Vec<_>>();
    let names = |all: &[&RegionSummary]| {
        let mut names: Vec<&str> = all.iter().map(|r| r.region.as_str()).collect();
        names.sort_unstable();
        words::names(&names, 4)
    };
    let mut all = Vec::new();
    match &of(Condition::Silent)[..] {
        [] => {}
        [one] => {
            let missed = words::count(one.missed_in_a_row, "push", "pushes");
            let bold = html! { (one.region) " " @match &one.last_seen {
                Some(seen) => { "has been silent for " (words::since(seen)) "." },
                None => "was not heard of in this time.",
            } };
            let rest = html! {
                (missed) " reached other regions meanwhile. Its webhook does not come, or the replica is behind."
                @if one.missing > one.missed_in_a_row { " In all, " (missing(one)) " missing there." }
            };
            all.push(Verdict::new(Severity::Bad, format!("{} silent", one.region), bold, rest));
        }
        many => {
            let bold = html! { (many.len()) " regions are silent: " (names(many)) "." };
            let rest = html! { "The newest pushes never reached them, or their webhooks do not come." };
            all.push(Verdict::new(Severity::Bad, format!("{} regions silent", many.len()), bold, rest));
        }
    }
    let incomplete = of(Condition::Incomplete);
    match &incomplete[..] {
        [] => {}
        [one] => {
            let bold = html! { (missing(one)) " missing in " (one.region) "." };
            let rest = html! {
                @if let Some(at) = &one.last_missed { "The newest of them was pushed " (words::ago(at)) ". " }
                "What came after reached the region, but these did not, or their webhooks got lost."
            };
            let title = format!("{} missing in {}", one.missing, one.region);
            all.push(Verdict::new(Severity::Bad, title, bold, rest).to(missed(&one.region, since), "Which ones"));
        }
        [worst, ..] => {
            let many = incomplete.len();
            let bold = html! { "Pushes are missing in " (many) " regions: " (names(&incomplete)) "." };
            let rest = html! { "In " (worst.region) ", " (missing(worst)) " missing." };
            let title = format!("pushes missing in {many} regions");
            all.push(Verdict::new(Severity::Bad, title, bold, rest));
        }
    }
    match &of(Condition::Slow)[..] {
        [] => {}
        slow => {
            let p95 = slow.iter().filter_map(|r| r.lag_p95_ms).max().unwrap_or(0);
            let bold = html! { (names(slow)) @if slow.len() == 1 { " is slow:" } @else { " are slow:" } };
            let rest = html! { "one report in twenty comes " (words::lag(p95))
            " after the first region's, three times as late as with most." };
            all.push(Verdict::new(Severity::Warn, format!("{} slow", names(slow)), bold, rest));
        }
    }
    all
}

/// Receivers that do not take what they are owed; the one with most attempts stands for a receiver.
fn refusing(owing: &List) -> Vec<Verdict> {
    let failing = owing.pushes.iter().flat_map(|p| p.status.notifications.iter());
    let failing = failing.filter(|n| n.state == DeliveryState::Owed && n.last_error.is_some());
    let mut targets: Vec<(&str, usize, &Notification)> = Vec::new();
    for n in failing {
        match targets.iter_mut().find(|(target, ..)| *target == n.target) {
            Some((_, count, worst)) => {
                *count += 1;
                if worst.attempts < n.attempts {
                    *worst = n;
                }
            }
            None => targets.push((&n.target, 1, n)),
        }
    }
    let link = Filters::default().with("status", "owing").with("companions", "all").link();
    let verdict = |(target, count, worst): (&str, usize, &Notification)| {
        let error = worst.last_error.as_deref().unwrap_or_default();
        let bold = html! { (target) " does not take notifications:" };
        let rest = html! {
            (words::foreign(error)) ", " (super::matrix::attempts(worst.attempts))
            @if count > 1 { ", " (count) " pushes" }
            @if let (Some(at), None) = (&worst.not_before, &worst.lease_until) { ", next try in " (words::left(at)) } "."
        };
        Verdict::new(Severity::Warn, format!("{target} refuses"), bold, rest).to(link.clone(), "What it is owed")
    };
    targets.into_iter().map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Tally;

    /// A region of this condition that misses so many of so many pushes.
    fn region(name: &str, condition: Condition, missing: usize, expected: usize) -> RegionSummary {
        let at = "2026-11-27T03:00:00.000Z".to_owned();
        RegionSummary {
            region: name.into(),
            condition,
            expected,
            arrivals: expected - missing,
            last_seen: Some(at.clone()),
            lag_p50_ms: Some(900),
            lag_p95_ms: Some(1900),
            lag_max_ms: Some(2900),
            missing,
            last_missed: (missing > 0).then_some(at),
            late: 0,
            waiting: 0,
            missed_in_a_row: if condition == Condition::Silent { 1 } else { 0 },
            trend: Vec::new(),
        }
    }

    fn day(regions: Vec<RegionSummary>) -> Regions {
        let (since, until) = ("2026-11-26T03:07:12.000Z".to_owned(), "2026-11-27T03:07:12.000Z".to_owned());
        Regions { since, until, pushes: 300, cut: false, unreadable: 0, regions, tally: Some(Tally::default()) }
    }

    /// The title, and all that is said, as it is read.
    fn said(regions: Vec<RegionSummary>) -> (String, String) {
        let nothing = List { pushes: Vec::new(), next: None, unreadable: 0 };
        let verdicts = of(&day(regions), &nothing, None);
        (verdicts[0].title().to_owned(), list(&verdicts).into_string())
    }

    #[test]
    fn what_a_region_lacks_is_said_though_its_newest_push_is_there() {
        let ok = region("northeurope", Condition::Ok, 0, 10);
        let (title, text) = said(vec![region("westus", Condition::Incomplete, 5, 10), ok.clone()]);
        assert_eq!(title, "✕ 5 missing in westus");
        assert!(text.contains("<b>5 of 10 pushes are missing in westus.</b>"), "{text}");
        assert!(text.contains("region=westus&amp;status=timed_out&amp;companions=all&amp;since=24h"), "{text}");
        assert!(!text.contains("All 2 regions report"), "{text}");
        let many = ["westus", "eastasia"].map(|name| region(name, Condition::Incomplete, 5, 10));
        let (title, text) = said(many.into_iter().chain([ok]).collect());
        assert_eq!(title, "✕ pushes missing in 2 regions");
        assert!(text.contains("Pushes are missing in 2 regions: eastasia and westus."), "{text}");
    }

    #[test]
    fn a_silent_region_says_what_it_lacks_beside() {
        let (title, text) = said(vec![region("westus", Condition::Silent, 40, 80)]);
        assert_eq!(title, "✕ westus silent");
        assert!(text.contains("In all, 40 of 80 pushes are missing there."), "{text}");
        assert!(!said(vec![region("westus", Condition::Silent, 1, 80)]).1.contains("In all"));
    }

    #[test]
    fn one_old_miss_wakes_nobody_and_is_not_kept_back() {
        let (title, text) =
            said(vec![region("westus", Condition::Ok, 1, 300), region("northeurope", Condition::Ok, 0, 300)]);
        assert_eq!(title, "Pushes");
        assert!(text.contains("All 2 regions report") && text.contains("1 of 300 pushes is missing</a> in westus."));
        assert!(!said(vec![region("westus", Condition::Ok, 0, 300)]).1.contains("missing"));
    }
}
