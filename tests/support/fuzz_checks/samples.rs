//! What the checks fill up inputs with: a subject, a policy, and rows as `step` itself makes them.

use std::sync::Arc;
use std::time::Duration;

use global_webhook::clock::Instant;
use global_webhook::limits;
use global_webhook::notify::payload::{self, Format, Message};
use global_webhook::push::arrival::Correlation;
use global_webhook::push::policy::{Filter, Policy, Repeats, Target};
use global_webhook::push::{Answer, Arrival, Change, Decision, Input, Notice, Region, Row, Subject, backoff, step};

pub(super) const FORMATS: [Format; 6] =
    [Format::Acr, Format::Standard, Format::CloudEvents, Format::Slack, Format::Teams, Format::Github];
pub(super) const NOTICES: [Notice; 4] = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded];
pub(super) const ACTIONS: [&str; 5] = ["push", "delete", "quarantine", "chart_push", "chart_delete"];

pub(super) fn region(name: &str) -> Region {
    Region::parse(name).expect("a region")
}

pub(super) fn subject() -> Subject {
    Subject {
        registry: "contoso.azurecr.io".into(),
        repository: "team/web-shop".into(),
        tag: Some("v1".into()),
        digest: "sha256:1".into(),
        action: "push".into(),
    }
}

/// One target, which is told everything.
pub(super) fn policy(regions: Vec<Region>) -> Policy {
    Policy {
        regions,
        timeout: Duration::from_secs(120),
        correlation: Correlation::Content,
        repeats: Repeats::New,
        rules: Vec::new(),
        targets: vec![Target {
            name: "t".into(),
            notices: NOTICES.to_vec(),
            filter: Filter::default(),
            companions: true,
        }],
        schedule: backoff::SCHEDULE.to_vec(),
    }
}

/// The row that an input leaves, where it changes it. Whatever it asks is answered with no.
pub(super) fn stepped(row: Option<&Row>, input: &Input, now: Instant, policy: &Policy) -> Option<Row> {
    let decision = match step(row, input, now, policy, None) {
        Decision::Ask(_) => step(row, input, now, policy, Some(Answer::default())),
        decided @ Decision::Step(_) => decided,
    };
    let Decision::Step(decided) = decision else { panic!("it asked twice") };
    match decided.change {
        Change::Put(row) => Some(row),
        Change::None | Change::Remove => None,
    }
}

/// A push that was opened by this arrival.
pub(super) fn opened(arrival: Arrival, now: Instant, policy: &Policy) -> Row {
    let input = Input::Arrival { arrival: Arc::new(arrival), spilled: true, earlier: false };
    stepped(None, &input, now, policy).expect("a first arrival opens a push")
}

/// A push that timed out with one of two regions.
pub(super) fn timed_out(id: &str, subject: Subject, payload: String) -> Row {
    let policy = policy(vec![region("westus"), region("northeurope")]);
    let (region, received) = (region("northeurope"), Instant::UNIX_EPOCH);
    let arrival = Arrival { region, received, id: id.into(), subject, payload };
    let row = opened(arrival, received, &policy);
    let late = row.deadline + limits::RELEASE_PERIOD;
    stepped(Some(&row), &Input::Timer, late, &policy).expect("its deadline has passed")
}

pub(super) fn message(format: Format, row: &Row, notice: Notice, url: Option<&str>) -> Result<Message, String> {
    payload::message(format, row, notice, url)
}
