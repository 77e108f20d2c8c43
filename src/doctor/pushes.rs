//! Pushes that should have moved on, and regions that do not report: what the operators' interface tells.

use std::collections::BTreeMap;

use super::Known;
use super::catalogue::Id;
use super::report::{Check, skip};
use crate::api::{Condition, DeliveryState, Item, Regions};
use crate::clock::Instant;

/// Seconds after which something that is due is worth a look. A queue trigger may poll once a minute, and an arrival that may
/// be on the queue holds a deadline up for two.
const LATE_S: i64 = 180;

/// Seconds after which timers do not fire any more; upkeep, every 14 minutes, makes good for one that was lost.
const DEAD_S: i64 = 900;

/// Ids that are named at most.
const NAMED_MAX: usize = 3;

/// Pushes, as far as they were read.
#[derive(Debug, Clone)]
pub struct Pushes {
    /// Those that wait.
    pub waiting: Vec<Item>,
    /// Those that owe a notification.
    pub owing: Vec<Item>,
    /// Those of the last day that gave one up.
    pub exhausted: Vec<Item>,
    /// There were more than were read, in some of the lists.
    pub is_cut: bool,
}

pub(super) fn judge(pushes: &Known<Pushes>, now: Instant, checks: &mut Vec<Check>) {
    let pushes = match pushes {
        Ok(pushes) => pushes,
        Err(gap) => {
            return skip(checks, gap, &[Id::TimersDeadlines, Id::TimersNotifications, Id::ReceiversTold]);
        }
    };
    let late = |text: &str| text.parse::<Instant>().map_or(0, |at| (now - at).num_seconds());
    let deadlines: Vec<_> = pushes.waiting.iter().map(|item| (item, late(&item.status.deadline))).collect();
    checks.push(overdue(Id::TimersDeadlines, "push waits", "pushes wait", "its deadline", &deadlines, pushes.is_cut));
    let owed: Vec<_> = pushes.owing.iter().map(|item| (item, owed_for(item, &late))).collect();
    checks.push(overdue(
        Id::TimersNotifications,
        "push owes a notification",
        "pushes owe a notification",
        "its time",
        &owed,
        pushes.is_cut,
    ));
    told(pushes, checks);
}

/// How many seconds the notification of a push that is longest overdue has been so.
fn owed_for(item: &Item, late: &impl Fn(&str) -> i64) -> i64 {
    let notifications = item.status.notifications.iter();
    let owed = notifications.filter(|n| n.state == DeliveryState::Owed);
    // One that is being sent is not late before its lease is over.
    let each =
        owed.map(|n| [&n.not_before, &n.lease_until].into_iter().flatten().map(|at| late(at)).min().unwrap_or(0));
    each.max().unwrap_or(0)
}

fn overdue(id: Id, one: &str, many: &str, what: &str, all: &[(&Item, i64)], is_cut: bool) -> Check {
    let least = if is_cut { "at least " } else { "" };
    let mut late: Vec<&(&Item, i64)> = all.iter().filter(|(_, late)| *late > LATE_S).collect();
    late.sort_by_key(|(_, late)| -late);
    let Some((_, longest)) = late.first() else {
        return Check::ok(id, format!("{least}{} looked at, none is overdue.", all.len()));
    };
    let verb = if late.len() == 1 { one } else { many };
    let named: Vec<&str> = late.iter().take(NAMED_MAX).map(|(item, _)| item.instance_id.as_str()).collect();
    let more = if late.len() > NAMED_MAX { " and more" } else { "" };
    let text = format!(
        "{least}{} {verb} past {what}, the longest for {} min: {}{more}.",
        late.len(),
        longest / 60,
        named.join(", ")
    );
    if *longest > DEAD_S { Check::fault(id, text) } else { Check::warning(id, text) }
}

/// What receivers were not told, or are not told at the first attempt, by receiver.
fn told(pushes: &Pushes, checks: &mut Vec<Check>) {
    let mut failing: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut lost: BTreeMap<String, (usize, String)> = BTreeMap::new();
    // One push may be in both lists.
    let items = pushes.owing.iter().chain(&pushes.exhausted).map(|item| (&item.instance_id, item));
    for item in items.collect::<BTreeMap<_, _>>().into_values() {
        for notification in item.status.notifications.iter() {
            let (gone, why) = match notification.state {
                DeliveryState::Owed => (&mut failing, &notification.last_error),
                DeliveryState::Exhausted => (&mut lost, &notification.reason),
                DeliveryState::Confirmed | DeliveryState::Overtaken => continue,
            };
            if let Some(why) = why {
                let named = format!("{} ({why})", item.instance_id);
                gone.entry(notification.target.clone()).or_insert((0, named)).0 += 1;
            }
        }
    }
    let before = checks.len();
    let least = if pushes.is_cut { "At least " } else { "" };
    for (target, (count, named)) in lost {
        let what = format!("{least}{count} notifications were given up, such as that of {named}.");
        checks.push(Check::warning(Id::ReceiversTold, what).about(&target));
    }
    for (target, (count, named)) in failing {
        let what = format!("{least}{count} notifications failed and will be tried again, such as that of {named}.");
        checks.push(Check::warning(Id::ReceiversTold, what).about(&target).because(
            "The receiver is not told until it answers with 2xx, or the schedule is over.",
            "Mend the receiver; nothing need be sent again by hand as long as it is owed.",
        ));
    }
    if checks.len() == before {
        checks.push(Check::ok(Id::ReceiversTold, "None was given up, and none fails."));
    }
}

pub(super) fn regions(regions: &Known<Regions>, checks: &mut Vec<Check>) {
    let regions = match regions {
        Ok(regions) => regions,
        Err(gap) => return skip(checks, gap, &[Id::RegionsReport]),
    };
    let before = checks.len();
    for region in &regions.regions {
        let what = match region.condition {
            Condition::Ok => continue,
            Condition::Silent => format!("It missed the newest {} pushes.", region.missed_in_a_row),
            Condition::Incomplete => {
                format!(
                    "It misses {} of {} pushes to this day; the newest reached it.",
                    region.missing, region.expected
                )
            }
            Condition::Slow => {
                let lag = region.lag_p95_ms.unwrap_or_default() / 1000;
                format!("One report in twenty is {lag} s or more behind the first region's.")
            }
        };
        checks.push(Check::warning(Id::RegionsReport, what).about(&region.region));
    }
    if checks.len() == before {
        let what = match regions.pushes {
            0 => "No push in the last day.".to_owned(),
            1 => "All regions report, by one push.".to_owned(),
            count => format!("All regions report, by {count} pushes."),
        };
        checks.push(Check::ok(Id::RegionsReport, what));
    }
}
