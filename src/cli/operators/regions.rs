//! `regions`: how the regions are doing, the one that needs somebody first.

use super::{Common, Context, Trouble};
use crate::api::{Condition, RegionSummary, Regions};
use crate::cli::table::{cell, maybe, millis, time};

pub(super) const HELP: &str = "\
`silent`: the newest settled push, or more of them, never reached the region. `incomplete`: the newest did, but five of the span
or one in twenty did not to this day. `slow`: one report in twenty was 10 s or more behind, and three times as far as with most
regions. Lag is how far a region is behind the first one of each push.

Examples:
  global-webhook regions
  global-webhook regions --since 7d --json

Exit codes:
  0  done, whatever the regions' condition
  1  it did not work: no connection, a wrong key, a service that cannot
  2  wrong arguments";

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Args {
    /// Pushes opened at this instant (2026-11-27T03:00:00Z) or later, or so long ago at most [default: 24h]
    #[arg(long)]
    since: Option<String>,
    /// Pushes opened before this instant, or longer ago
    #[arg(long)]
    until: Option<String>,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) async fn run(args: &Args, context: &mut Context) -> Result<(), Trouble> {
    let members = [("since", &args.since), ("until", &args.until)];
    let query: Vec<(&str, &str)> =
        members.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let answer = context.client.get(&["regions"], &query).await?;
    let regions: Regions = answer.document()?;
    context.show(&answer.body, |look| {
        let head = [
            "condition",
            "region",
            "expected",
            "arrived",
            "late",
            "missing",
            "waiting",
            "last seen",
            "lag p50",
            "p95",
            "max",
        ];
        let mut lines = look.lines(&head, regions.regions.iter().map(row).collect());
        let cut = if regions.cut { "; older ones were left out" } else { "" };
        lines.push(String::new());
        lines.push(format!("{} pushes since {}{cut}.", regions.pushes, time(&regions.since)));
        lines
    });
    if regions.unreadable > 0 {
        context.screen.note(&format!("{} more cannot be read; the service's log says which.", regions.unreadable));
    }
    Ok(())
}

fn row(summary: &RegionSummary) -> Vec<String> {
    let condition = match summary.condition {
        Condition::Silent => "silent",
        Condition::Incomplete => "incomplete",
        Condition::Slow => "slow",
        Condition::Ok => "ok",
    };
    vec![
        condition.to_owned(),
        cell(&summary.region),
        summary.expected.to_string(),
        summary.arrivals.to_string(),
        summary.late.to_string(),
        summary.missing.to_string(),
        summary.waiting.to_string(),
        maybe(summary.last_seen.as_deref(), time),
        maybe(summary.lag_p50_ms, millis),
        maybe(summary.lag_p95_ms, millis),
        maybe(summary.lag_max_ms, millis),
    ]
}
