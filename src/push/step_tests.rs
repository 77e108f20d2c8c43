//! `step` as tables: what went before, an input, and what follows. Every rule has its line. How the lines read stands in
//! `step_stories.rs`. The time-out is 100 s, a lease takes 30 s and whatever was spilled 40 s.

use super::*;
use crate::push::arrival::Correlation;
use stories::{Pushes, policy, regions, three};

#[path = "step_orders.rs"]
mod orders;
#[path = "step_sequences.rs"]
mod sequences;
#[path = "step_stories.rs"]
mod stories;

/// The table of the design, section 4: webhooks, what is told, and how many were repeats; and the cases A2 to A6.
/// The time-out is 6 s, of A4 5 s.
#[test]
fn the_table_of_the_design() {
    let told = |timeout: u64, webhooks: &str| {
        let mut pushes = Pushes { on_time: true, ..Pushes::new(policy(timeout)) };
        pushes.play(webhooks);
        pushes.end();
        pushes.told()
    };
    assert_eq!(told(5, "E1 0, E2 1, W1 6, W2 7"), ("A1 timed_out 5 -W, A1 recovered 6".to_owned(), 2));
    for (webhooks, heard, repeats) in [
        ("E1 0, W1 1", "A1 replicated 1", 0),
        ("E1 0, E2 1, W1 2, W2 3", "A1 replicated 2", 2),
        ("E1 0, W1 7, E2 9, W2 11", "A1 timed_out 6 -W, A1 recovered 7", 2),
        ("E1 0, E2 7, W1 8, W2 10", "A1 timed_out 6 -W, A1 recovered 8", 2),
        ("E1 0, W1 1, E2 2", "A1 replicated 1", 1),
        ("E1 0, W1 1, E2 60, W2 61", "A1 replicated 1, A2 replicated 61", 0),
        ("E1 0, W1 1, E2 60", "A1 replicated 1, A2 timed_out 66 -W@1", 0),
        ("A: E 0, W 1; B: E 2, W 3; A: E 4, W 5", "A1 replicated 1, B1 replicated 3, A2 replicated 5", 0),
        ("A: E 0; B: E 2, W 3", "B1 replicated 3, [A1 superseded 6]", 0),
    ] {
        assert_eq!(told(6, webhooks), (heard.to_owned(), repeats), "{webhooks}");
    }
}

/// What went before, an input, and what follows.
macro_rules! table {
    ($policy:expr; $($before:expr, $input:expr => $after:expr;)*) => {
        for (before, input, after) in [$(($before, $input, $after)),*] {
            let mut pushes = Pushes::new($policy);
            pushes.play(before);
            assert_eq!(pushes.play(input), after, "{before} | {input}");
        }
    };
}

#[test]
fn the_first_report_opens() {
    table! { policy(100);
        "", "E1 0" => "opened, wake 100";
        "", "N1 0" => "ignored";
        "", "X1 0" => "unknown_region";
        // What was spilled keeps the instant at which it was received, and may not have been spilled alone.
        "", "E1 0>60" => "opened, wake 100";
        "", "E1 0>60.001" => "opened, wake 100.001";
        "", "E1 0>500" => "opened, wake 540";
    }
    let one = Policy { regions: regions("E"), ..policy(100) };
    table! { one.clone();
        "", "E1 0" => "replicated t1 u1, wake 30";
        "", "E1 0>500" => "replicated t1 u1, wake 530";
    }
}

#[test]
fn a_missing_region_is_in_time_or_late() {
    table! { policy(100);
        "E1 0", "W2 99.999" => "replicated t1 u1, wake 129.999";
        "E1 0", "W2 50>300" => "replicated t1 u1, wake 330";
        // The deadline was not handled yet.
        "E1 0", "W1 100" => "recovered t1:recovered, wake 130";
        "E1 0; B: E2 50", "W1 100" => "superseded u1, wake 130";
        // Nor may it be, while others may still come back from the queue.
        "E1 0>500", "W1 120" => "late, wake 540";
        "E1 0>500", "W1 120>510" => "late, wake 550";
        "E1 0>500, W1 120>510", "timer 550" => "recovered t1:recovered, wake 580";
        "E1 0>500, W1 120>510", "W2 50>520" => "replicated t1 u1, wake 550";
        "E1 0, timer 100, confirmed t1 101", "W1 120" => "recovered t1:recovered, wake 150";
        "E1 0, terminate 50, confirmed t1 51", "W1 60" => "recovered t1:recovered, wake 90";
        "E1 0; B: E2 50; A: timer 100", "W1 120" => "late, wake 130";
    }
    table! { three(100);
        "E1 0", "N1 99.999" => "joined, wake 100";
        "E1 0", "N1 100" => "late, wake 100";
        "E1 0>500", "N1 50>510" => "joined, wake 550";
        "E1 0>500, N1 120>505", "N2 50>510" => "repeated, wake 545";
        "E1 0>500, N1 120>505, N2 130>506", "N3 50>510" => "repeated, wake 545";
        "E1 0>500, N1 120>505, N2 50>510", "W1 60>520" => "replicated t1 u1, wake 550";
        "E1 0, timer 100, confirmed t1 101", "N1 120" => "late, owes nothing";
        "E1 0, timer 100, confirmed t1 101, N1 120", "W1 900" => "recovered t1:recovered, wake 930";
    }
}

#[test]
fn a_region_on_record_is_repeated_or_opens_the_next_round() {
    table! { policy(100);
        "E1 0", "E1 0>9" => "duplicate";
        "E1 0", "E2 5" => "repeated, wake 100";
        "E1 0", "E1 5" => "repeated, wake 100";
        "E1 0, E2 5, E3 7", "E2 5>9" => "duplicate";
        // Replicated at 10 s.
        "E1 0, W1 10", "E2 110" => "repeated, wake 40";
        "E1 0, W1 10", "E2 110.001" => "opened round 2, wake 210.001";
        "E1 0, W1 10>50", "E2 110.001" => "opened round 2, wake 210.001";
        // Timed out at 100 s, or still to be.
        "E1 0", "E2 200" => "repeated, wake 100";
        "E1 0", "E2 200.001" => "opened round 2, wake 300.001";
        "E1 0, timer 100", "E2 200" => "repeated, wake 130";
        "E1 0, timer 100", "E2 200.001" => "opened round 2, wake 300.001";
        // Recovered at 150 s.
        "E1 0, timer 100, confirmed t1 101, W1 150", "E2 250" => "repeated, wake 180";
        "E1 0, timer 100, confirmed t1 101, W1 150", "E2 250.001" => "opened round 2, wake 350.001";
        // Ended at 50 s.
        "E1 0, terminate 50", "E2 150" => "repeated, wake 80";
        "E1 0, terminate 50", "E2 150.001" => "opened round 2, wake 250.001";
        // Superseded at 100 s: its tag has moved.
        "E1 0; B: E2 50; A: timer 100", "E3 110" => "opened round 2, wake 210";
        // The tag moved at 5 s.
        "E1 0; B: E2 5", "E3 5" => "repeated, wake 100";
        "E1 0; B: E2 5", "E3 5.001" => "opened round 2, wake 105.001";
        "E1 0, W1 1; B: E2 5", "E3 6" => "opened round 2, wake 106";
        // What is older than the report on record tells nothing of it.
        "W 0; B: W 5; A: E 7", "E 6>8" => "repeated, wake 37";
    }
    // Something was late at 150 s, so that the rest may be.
    let before = "E1 0, timer 100, N1 150";
    table! { three(100);
        before, "E2 250" => "repeated, wake 130";
        before, "E2 250.001" => "opened round 2, wake 350.001";
    }
}

#[test]
fn older_reports_are_for_earlier_rounds() {
    let moved = "A: E 0, W 1; B: E 2, W 3; A: E 4";
    let timed_out = "E1 0, timer 100, confirmed t1 101, E2 300";
    let gone = "E1 0, W1 1, confirmed t1 2, confirmed u1 2, purge 50, E2 300";
    let moved_on = "E1 0, W1 1, confirmed t1 2, confirmed u1 2, purge 50; B: E2 60; A: E3 62";
    table! { policy(100);
        moved, "W2 2>9" => "repeated round 1, wake 31";
        moved, "W2 2.001>9" => "replicated round 2 t1 u1, wake 39";
        // The first round has it on record, from after the tag had moved.
        "A: E 0; B: E 2, W 3; A: W 4, E 5", "W 4>9" => "duplicate";
        "A: E 0; B: E 2, W 3; A: W 4, E 5", "W2 4.001>9" => "replicated round 2 t1 u1, wake 39";
        timed_out, "E3 200>310" => "repeated round 1, owes nothing";
        timed_out, "W1 200>310" => "recovered round 1 t1:recovered, wake 340";
        timed_out, "W1 200.001>310" => "replicated round 2 t1 u1, wake 340";
        gone, "W2 101>310" => "duplicate";
        gone, "W2 101.001>310" => "replicated round 2 t1 u1, wake 340";
        moved_on, "W2 60>70" => "duplicate";
        moved_on, "W2 60.001>70" => "replicated round 2 t1 u1, wake 100";
    }
}

#[test]
fn regions_that_a_push_does_not_wait_for_are_shown_or_refused() {
    table! { policy(100);
        "E1 0", "N1 5" => "ignored, wake 100";
        "E1 0, N1 5", "N2 6" => "ignored";
        "E1 0, W1 10", "N1 110" => "ignored, wake 40";
        "E1 0, W1 10", "N1 110.001" => "ignored";
        "E1 0", "X1 5" => "unknown_region";
        "E1 0, timer 100", "X1 5" => "unknown_region";
        "E1 0, timer 100", "X1 900" => "unknown_region";
    }
}

#[test]
fn timers() {
    let settled = "E1 0, W1 10, confirmed u1 11";
    table! { policy(100);
        "", "timer 0" => "unknown_push";
        "E1 0", "timer 99.999" => "early";
        "E1 0", "timer 100" => "timed_out t1, wake 130";
        "E1 0; B: E2 99.999", "timer 100" => "superseded u1, wake 130";
        "E1 0; B: E2 100", "timer 100" => "timed_out t1, wake 130";
        "E1 0>500", "timer 539.999" => "early";
        "E1 0>500", "timer 540" => "timed_out t1, wake 570";
        settled, "timer 39.999" => "early";
        settled, "timer 40" => "claimed t2, wake 70";
        "E1 0, W1 10", "timer 40" => "claimed t2 u2, wake 70";
        "E1 0, W1 10, confirmed u1 11, failed:150 t1 11", "timer 160.999" => "early";
        "E1 0, W1 10, confirmed u1 11, failed:150 t1 11", "timer 161" => "claimed t2, wake 191";
        "E1 0, W1 10, confirmed u1 11, confirmed t1 11", "timer 40" => "idle";
        "E1 0, W1 10, confirmed u1 11, refused t1 11", "timer 40" => "idle";
    }
}

#[test]
fn results_of_attempts() {
    let settled = "E1 0, W1 10, confirmed u1 11";
    let retry = "E1 0, W1 10, confirmed u1 11, failed:150 t1 11";
    let last = "E1 0, W1 10, confirmed u1 11, failed t1 11, timer 200, failed t2 201, timer 2000";
    table! { policy(100);
        "", "confirmed t1 0" => "unknown_push";
        "E1 0", "confirmed t1 5" => "stale";
        "E1 0, W1 10", "confirmed t1 11" => "confirmed, wake 40";
        settled, "confirmed t1 11" => "confirmed, owes nothing";
        settled, "confirmed u1 11" => "stale";
        settled, "failed u1 11" => "stale";
        settled, "confirmed x1 11" => "stale";
        settled, "confirmed t1:recovered 11" => "stale";
        settled, "failed t2 11" => "stale";
        settled, "failed t0 11" => "stale";
        settled, "refused t2 11" => "stale";
        settled, "refused t1 11" => "exhausted, owes nothing";
        // The receiver's wish, when it is longer than the schedule's wait, up to an hour.
        settled, "failed:500 t1 11" => "retry, wake 511";
        settled, "failed:999999 t1 11" => "retry, wake 3611";
        // A result that comes twice finds no lease.
        retry, "failed:150 t1 12" => "stale";
        retry, "confirmed t1 12" => "confirmed, owes nothing";
        last, "failed t3 2001" => "exhausted, owes nothing";
        last, "confirmed t1 2001" => "confirmed, owes nothing";
        "E1 0, W1 10, confirmed u1 11, refused t1 11", "confirmed t1 12" => "confirmed, owes nothing";
        "E1 0, W1 10, confirmed u1 11, refused t1 11", "failed t1 12" => "stale";
    }
}

#[test]
fn the_all_clear_overtakes_an_alarm_that_nobody_confirmed() {
    let under_way = "E1 0, timer 100, W1 120";
    let overtaken = "E1 0, timer 100, failed:150 t1 110, W1 120";
    table! { policy(100);
        "E1 0, timer 100", "W1 120" => "recovered, wake 130";
        // It waits for the attempt under way: for its result, or for the end of its lease.
        under_way, "timer 129.999" => "early";
        under_way, "timer 130" => "claimed t1:recovered, wake 160";
        under_way, "failed t1 125" => "claimed t1:recovered, wake 155";
        under_way, "refused t1 125" => "claimed t1:recovered, wake 155";
        under_way, "confirmed t1 125" => "confirmed t1:recovered, wake 155";
        under_way, "failed t2 125" => "stale";
        under_way, "redeliver 129.999" => "idle";
        under_way, "redeliver 130" => "claimed t1:recovered, wake 160";
        "E1 0, timer 100, W1 120, redeliver 125", "confirmed t1 126" => "confirmed t1:recovered, wake 156";
        "E1 0, timer 100", "W1 130" => "recovered t1:recovered, wake 160";
        "E1 0, timer 100, failed:150 t1 110", "W1 120" => "recovered t1:recovered, wake 150";
        overtaken, "failed t1 125" => "stale";
        overtaken, "confirmed t1 125" => "confirmed, wake 150";
        overtaken, "confirmed t1:recovered 125" => "confirmed, owes nothing";
        "E1 0, timer 100, refused t1 110", "W1 120" => "recovered t1:recovered, wake 150";
    }
}

#[test]
fn operators() {
    let done = "E1 0, W1 10, confirmed t1 11, confirmed u1 11";
    let gone = "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 50";
    let all_clear = "E1 0, timer 100, confirmed t1 110, W1 120, confirmed t1:recovered 121";
    let timed_out = "E1 0, timer 100, confirmed t1 101, purge 120";
    let retry = "E1 0, W1 10, confirmed u1 11, failed:150 t1 11";
    table! { policy(100);
        "", "terminate 0" => "unknown_push";
        "E1 0", "terminate 5" => "timed_out t1, wake 35";
        "E1 0>500, W1 120>510", "terminate 520" => "recovered t1:recovered, wake 550";
        "E1 0, W1 10", "terminate 11" => "idle";
        // It says what the deadline would have said.
        "E1 0; B: E2 5; A: N 6", "terminate 10" => "superseded u1, wake 40";
        "E1 0; B: E2 5; A: terminate 10", "W1 20" => "late, wake 40";
        "E1 0, W1 1, E2 200; B: E3 210", "A: terminate 220" => "superseded round 2 u1, wake 250";
        gone, "terminate 60" => "unknown_push";
        "", "redeliver 0" => "unknown_push";
        "E1 0", "redeliver 5" => "idle";
        done, "redeliver 50" => "claimed t2 u2, wake 80";
        done, "redeliver:u 50" => "claimed u2, wake 80";
        done, "redeliver:nosuch 50" => "unknown_target";
        // A confirmation of the first attempt came while the second was under way, which stays counted.
        "E1 0, W1 10, confirmed u1 11, timer 40, confirmed t1 41", "redeliver:t 42" => "claimed t3, wake 72";
        "E1 0, W1 10, confirmed u1 11, timer 40, confirmed t1 41, redeliver:t 42", "refused t2 43" => "stale";
        retry, "redeliver 20" => "claimed t2 u2, wake 50";
        retry, "redeliver:t 20" => "claimed t2, wake 50";
        // An attempt is under way.
        "E1 0, W1 10", "redeliver 20" => "idle";
        "E1 0, W1 10, confirmed u1 11", "redeliver 20" => "claimed u2, wake 40";
        "E1 0, W1 10, confirmed u1 11", "redeliver:t 40" => "claimed t2, wake 70";
        // Exhausted, overtaken, or not true any more.
        "E1 0, W1 10, confirmed u1 11, refused t1 11", "redeliver:t 50" => "claimed t2, wake 80";
        "E1 0, timer 100, failed t1 110, W1 120", "redeliver 130" => "idle";
        all_clear, "redeliver 130" => "claimed t2:recovered, wake 160";
        gone, "redeliver 60" => "unknown_push";
        "", "purge 0" => "unknown_push";
        "E1 0", "purge 5" => "owing";
        "E1 0, W1 10", "purge 11" => "owing";
        retry, "purge 20" => "owing";
        done, "purge 50" => "purged, wake 3650";
        "E1 0, timer 100, refused t1 110", "purge 120" => "purged, wake 3720";
        // An hour after the last of its repeats, and after its last change, nothing of it is left.
        done, "purge 3709.999" => "purged, wake 7309.999";
        done, "purge 3710" => "purged, gone";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 200", "purge 3799.999" => "purged, wake 7399.999";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 200", "purge 3800" => "purged, gone";
        "E1 0, timer 100, refused t1 110", "purge 3799.999" => "purged, wake 7399.999";
        "E1 0, timer 100, refused t1 110", "purge 3800" => "purged, gone";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 3710", "E2 3711" => "opened, wake 3811";
        "E1 0, timer 100, refused t1 110, purge 3800", "W1 3801" => "opened, wake 3901";
        "E1 0, W1 10, confirmed t1 11", "purge 9000" => "owing";
        "E1 0", "purge 9000" => "owing";
        // What is left of it.
        gone, "purge 60" => "unknown_push";
        gone, "confirmed t1 60" => "unknown_push";
        gone, "timer 3649.999" => "early";
        gone, "timer 3650" => "removed, gone";
        gone, "W1 10>60" => "duplicate";
        gone, "N1 60" => "ignored";
        gone, "X1 60" => "unknown_region";
        // Its repeats are repeats for as long as they would have been.
        gone, "E2 110" => "duplicate";
        gone, "E2 110.001" => "opened round 2, wake 210.001";
        gone, "N1 110.001" => "ignored";
        timed_out, "W1 200" => "duplicate";
        timed_out, "W1 200.001" => "opened round 2, wake 300.001";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 50; B: E2 60", "A: E3 60" => "duplicate";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 50; B: E2 60", "A: E3 60.001" => "opened round 2, wake 160.001";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 900", "E2 110>901" => "duplicate";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 900", "E2 111>901" => "opened round 2, wake 941";
        "E1 0, W1 10, confirmed t1 11, confirmed u1 11, purge 50, timer 3650", "E2 3660" => "opened, wake 3760";
    }
}

#[test]
fn known_reports_count_at_the_deadline_where_the_settings_say_so() {
    let known = |policy| Policy { repeats: Repeats::Known, ..policy };
    table! { known(policy(100));
        "E1 0", "timer 100" => "timed_out t1, wake 130";
        "E1 0, W1 1, E2 200", "timer 300" => "replicated round 2 t1 u1, wake 330";
        "E1 0, W1 1, E2 200", "terminate 210" => "replicated round 2 t1 u1, wake 240";
        "E1 0, W1 1, E2 200", "W2 210" => "replicated round 2 t1 u1, wake 240";
        "E1 0, W1 1, E2 200; B: E3 210", "A: timer 300" => "superseded round 2 u1, wake 330";
        // It is a repeat for one time-out after the deadline.
        "E1 0, W1 1, E2 200, timer 300", "E3 400" => "repeated round 2, wake 330";
        "E1 0, W1 1, E2 200, timer 300", "E3 400.001" => "opened round 3, wake 500.001";
        "E1 0, W1 1, E2 200, timer 300", "W2 310" => "late round 2, wake 330";
    }
    let second = "E1 0, W1 1, timer 100, confirmed t1 101, E2 202, timer 302, confirmed t1 303";
    table! { known(three(100));
        second, "N1 310" => "recovered round 2 t1:recovered, wake 340";
        second, "W2 310" => "late round 2, owes nothing";
    }
    table! { three(100); second, "N1 310" => "late round 2, owes nothing"; }
}

#[test]
fn with_ids_as_names_every_id_is_a_push() {
    table! { Policy { correlation: Correlation::Id, ..policy(100) };
        "E1 0", "E2 1" => "opened, wake 101";
        "E1 0, E2 1", "W1 2" => "replicated t1 u1, wake 32";
        "E1 0, W1 1", "E1 101" => "repeated, wake 31";
        "E1 0, W1 1", "E1 101.001" => "opened round 2, wake 201.001";
    }
}

#[test]
fn what_an_operator_has_seen_counts_as_a_report() {
    table! { policy(100);
        "", "hand W 5" => "unknown_push";
        "E1 0", "hand X 5" => "unknown_region";
        "E1 0", "hand E 5" => "idle";
        "E1 0", "hand W 5" => "replicated t1 u1, wake 35";
        "E1 0, timer 100, confirmed t1 101", "hand W 500" => "recovered t1:recovered, wake 530";
        // Its webhook comes after all: a repeat, or later the next push, as of any region on record.
        "E1 0, hand W 5", "W1 6" => "repeated, wake 35";
        "E1 0, timer 100, confirmed t1 101, hand W 500, confirmed t1:recovered 501", "W1 599" => "repeated, owes nothing";
        "E1 0, timer 100, confirmed t1 101, hand W 500, confirmed t1:recovered 501", "W1 601" => "opened round 2, wake 701";
    }
    table! { three(100);
        "E1 0", "hand W 5" => "joined, wake 100";
        "E1 0, timer 100, confirmed t1 101", "hand W 500" => "late, owes nothing";
    }
}
