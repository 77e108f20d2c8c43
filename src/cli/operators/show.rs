//! `show`: what is known of one push.

use super::list::or_none;
use super::{Context, Trouble};
use crate::api::{DeliveryState, Notification, Push, RegionReport, Status};
use crate::cli::table::{self, Look, cell, maybe, millis, time};

pub(super) const HELP: &str = "\
Examples:
  global-webhook show contoso.azurecr.io/shop/cart:1.4.2
  global-webhook show contoso.azurecr.io/shop/cart@sha256:9f2c… --json
  global-webhook show 4be07d…-1

Exit codes:
  0  done
  1  it did not work: no connection, a wrong key, a service that cannot
  2  wrong arguments
  4  there is no such push";

pub(in crate::cli) use super::operate::Args;

pub(super) async fn run(args: &Args, context: &mut Context) -> Result<(), Trouble> {
    let (push, answer) = context.push(&args.push).await?;
    context.show(&answer.body, |look| lines(&push, look));
    Ok(())
}

fn lines(push: &Push, look: Look) -> Vec<String> {
    let status = &push.custom_status;
    let mut lines = look.lines(&[], about(push));
    lines.push(String::new());
    let head = ["region", "arrived", "lag", "repeats", "remarks"];
    let regions = status.regions.iter().map(|(name, report)| region(name, report, status));
    let unawaited = status.unawaited.iter().map(|(name, report)| {
        let mut row = region(name, report, status);
        row[4] = "not waited for".to_owned();
        row
    });
    lines.extend(look.lines(&head, regions.chain(unawaited).collect()));
    let notifications = &status.notifications;
    if !notifications.is_empty() {
        lines.push(String::new());
        let head = ["state", "target", "told", "attempts", "when", "remarks"];
        lines.extend(look.lines(&head, notifications.iter().map(notification).collect()));
    }
    let failed: Vec<Vec<String>> = notifications
        .iter()
        .flat_map(|n| n.failed.iter().map(move |f| (n, f)))
        .map(|(n, f)| vec![cell(&n.target), f.attempt.to_string(), time(&f.at), cell(&f.reason)])
        .collect();
    if !failed.is_empty() {
        lines.push(String::new());
        lines.extend(look.lines(&["target", "attempt", "failed", "reason"], failed));
    }
    lines
}

fn about(push: &Push) -> Vec<Vec<String>> {
    let status = &push.custom_status;
    let mut rows = vec![
        ("push", cell(&push.instance_id)),
        ("image", table::image(&status.registry, &status.image)),
        ("digest", cell(&status.digest)),
        ("action", cell(&status.action)),
        ("state", status.state.word().to_owned()),
        ("missing", or_none(&status.missing.join(", "))),
        ("opened", time(&push.created_time)),
        ("deadline", time(&status.deadline)),
    ];
    if let Some(output) = &push.output {
        let by = if output.terminated { ", ended by an operator" } else { "" };
        rows.push(("settled", format!("{}, after {}{by}", time(&output.settled), millis(output.duration_ms))));
    }
    if let Some(recovered) = &status.recovered {
        rows.push(("recovered", time(recovered)));
    }
    if status.round > 1 {
        rows.push(("round", status.round.to_string()));
    }
    if let Some(rule) = &status.rule {
        rows.push(("rule", cell(rule)));
    }
    if status.companion {
        rows.push(("companion", "yes".to_owned()));
    }
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}

fn region(name: &str, report: &RegionReport, status: &Status) -> Vec<String> {
    let mut remarks = Vec::new();
    if status.missing.iter().any(|missing| missing == name) {
        remarks.push("missing".to_owned());
    }
    if report.late {
        remarks.push("late".to_owned());
    }
    if report.by_hand {
        remarks.push("reported by hand".to_owned());
    }
    if let Some(before) = &report.before {
        remarks.push(format!("reported the same image at {}", time(before)));
    }
    vec![
        cell(name),
        maybe(report.arrived.as_deref(), time),
        maybe(report.lag_ms, millis),
        report.repeats.to_string(),
        remarks.join(", "),
    ]
}

fn notification(n: &Notification) -> Vec<String> {
    let (when, remarks) = match n.state {
        DeliveryState::Owed => {
            let next = n.not_before.as_deref().map(|at| format!("next {}", time(at))).unwrap_or_default();
            (next, n.last_error.clone().unwrap_or_default())
        }
        DeliveryState::Confirmed => (maybe(n.at.as_deref(), time), n.status.map(|s| s.to_string()).unwrap_or_default()),
        DeliveryState::Exhausted | DeliveryState::Overtaken => {
            (maybe(n.at.as_deref(), time), n.reason.clone().unwrap_or_default())
        }
    };
    vec![n.state.word().to_owned(), cell(&n.target), cell(&n.notice), n.attempts.to_string(), when, cell(&remarks)]
}
