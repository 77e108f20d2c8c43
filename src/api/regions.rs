//! What is told of the regions over a span of time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// All regions, the one that needs somebody first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Regions {
    /// From when on pushes were counted, by when they were opened; later than asked for when there were too many.
    #[schema(format = DateTime)]
    pub since: String,
    /// Up to when.
    #[schema(format = DateTime)]
    pub until: String,
    /// How many pushes were counted.
    pub pushes: usize,
    /// Whether older pushes of the span were left out, since there were too many.
    pub cut: bool,
    /// Pushes that were left out since what is stored of them cannot be read.
    pub unreadable: usize,
    /// By their condition, and the worst first among equals.
    pub regions: Vec<RegionSummary>,
    /// What became of the pushes that were counted.
    #[serde(default)]
    pub tally: Option<Tally>,
}

/// What became of the pushes of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Images that timed out and that regions miss to this day; companions are not counted.
    pub timed_out: usize,
    /// Images that timed out and are everywhere by now; companions are not counted.
    pub recovered: usize,
    /// Notifications that were given up.
    pub exhausted: usize,
    /// Targets of those, by name.
    pub exhausted_targets: Vec<String>,
}

/// A region over a span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegionSummary {
    /// Name of the region.
    pub region: String,
    /// Whether somebody should look at it.
    pub condition: Condition,
    /// Pushes that waited for it.
    pub expected: usize,
    /// Pushes that it reported, in time or late.
    pub arrivals: usize,
    /// When it last reported.
    #[schema(format = DateTime)]
    pub last_seen: Option<String>,
    /// How far half of its reports were at most behind the first region's.
    pub lag_p50_ms: Option<i64>,
    /// How far 95 of 100 were at most.
    pub lag_p95_ms: Option<i64>,
    /// How far the last one was.
    pub lag_max_ms: Option<i64>,
    /// Settled pushes that it has not reported to this day.
    pub missing: usize,
    /// When the newest of those was opened.
    #[serde(default)]
    #[schema(format = DateTime)]
    pub last_missed: Option<String>,
    /// Pushes that it reported after they had settled without it.
    pub late: usize,
    /// Pushes that wait for it now.
    pub waiting: usize,
    /// How many of the newest pushes it has missed in a row.
    pub missed_in_a_row: usize,
    /// The span in slices of the same length, oldest first, for a drawing; no part of the document.
    #[serde(skip)]
    #[schema(ignore)]
    pub trend: Vec<Slice>,
}

/// A region over a part of a span of time, by when pushes were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slice {
    /// How far half of its reports were at most behind the first region's.
    pub lag_p50_ms: Option<i64>,
    /// How far the last one was.
    pub lag_max_ms: Option<i64>,
    /// Settled pushes that it has not reported to this day.
    pub missing: usize,
}

/// Whether somebody should look at a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The newest push that settled, or more of them, never reached it.
    Silent,
    /// The newest push reached it, but it misses five of the span to this day, or one in twenty of those that waited for it.
    Incomplete,
    /// One report in twenty was 10 s or more behind, and three times as far as with most regions.
    Slow,
    /// Nothing to see.
    Ok,
}
