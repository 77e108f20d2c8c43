//! A life of pushes, written as a short script: what the core's one function makes of any order of inputs.
//!
//! Input: a hex digit with the settings (1: correlation by id, 2: earlier rounds count, 4: one attempt only, 8: a second
//! target), then letters with their numbers, one digit each; whatever is no letter of these is passed over.
//!
//! | letters | numbers | |
//! |---|---|---|
//! | `a` | region, content, id | a webhook comes in now |
//! | `l`, `s` | region, content, id, age | one that was received before is applied late; `s`: from the queue |
//! | `d` | which, from the last | a webhook comes once more, from the queue |
//! | `w` | how long | time passes |
//! | `j`, `t` | | time passes until something is due; what is due is looked at |
//! | `u`, `x`, `r`, `R`, `p` | which push | look, terminate, redeliver all, redeliver one target, purge |
//! | `c`, `f`, `F`, `g`, `b` | which claim, from the last | confirmed, failed, failed and asked to wait, refused, not begun |
//! | `q` | | whether webhooks may wait on the queue, in turns |

use std::time::Duration;

use global_webhook::push::{AttemptResult, Input};

use super::steps_world::{CONTENTS, REGIONS, World};

/// Most letters of a script.
const LETTERS_MAX: usize = 400;

/// Milliseconds.
const WAITS: [u64; 10] = [1, 500, 5_000, 30_000, 59_999, 60_000, 60_001, 120_001, 600_000, 3_600_000];
/// Milliseconds before now; the last is the clock of another machine.
const AGES: [i64; 10] = [0, 1, 500, 1_000, 30_000, 59_999, 60_000, 60_001, 200_000, -2_000];

/// See the module.
pub fn steps(data: &[u8]) -> bool {
    let Some((head, script)) = data.split_first() else { return false };
    let Some(flags) = char::from(*head).to_digit(16) else { return false };
    let mut world = World::new(flags);
    let mut script = Script(script.iter());
    for _ in 0..LETTERS_MAX {
        if script.next(&mut world).is_none() {
            break;
        }
    }
    world.comes_to_rest();
    true
}

struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    /// A number below `count`.
    fn number(&mut self, count: usize) -> Option<usize> {
        self.0.next().map(|byte| usize::from(byte.wrapping_sub(b'0')) % count)
    }

    /// Does the next letter; `None` at the end.
    fn next(&mut self, world: &mut World) -> Option<()> {
        let letter = *self.0.next()?;
        match letter {
            b'a' | b'l' | b's' => {
                let (region, content, id) =
                    (self.number(REGIONS.len())?, self.number(CONTENTS.len())?, self.number(10)?);
                let age = if letter == b'a' { 0 } else { AGES[self.number(AGES.len())?] };
                let arrival = world.webhook(region, content, id, age);
                world.arrive(&arrival, letter == b's');
                world.sent.push(arrival);
            }
            b'd' => {
                let which = self.number(10)?;
                if let Some(arrival) = world.sent.iter().nth_back(which).cloned() {
                    world.arrive(&arrival, true);
                }
            }
            b'w' => world.pass(Duration::from_millis(WAITS[self.number(WAITS.len())?])),
            b'j' => world.wait_for_due(),
            b't' => drop(world.look_at_due()),
            b'u' => world.operate(self.number(10)?, Input::Timer),
            b'x' => world.operate(self.number(10)?, Input::Terminate),
            b'r' => world.operate(self.number(10)?, Input::Redeliver(None)),
            b'R' => world.operate(self.number(10)?, Input::Redeliver(Some("t".into()))),
            b'p' => world.operate(self.number(10)?, Input::Purge),
            b'c' | b'f' | b'F' | b'g' | b'b' => {
                let which = self.number(10)?;
                if let Some((push, claim)) = world.claims.iter().nth_back(which).cloned() {
                    world.attempted(push, claim, result(letter));
                }
            }
            b'q' => world.pending = !world.pending,
            _ => {}
        }
        Some(())
    }
}

pub(super) fn result(letter: u8) -> AttemptResult {
    let reason = "500 Internal Server Error".to_owned();
    match letter {
        b'c' => AttemptResult::Confirmed { status: 204 },
        b'f' => AttemptResult::Failed { reason, retry_after: None },
        b'F' => AttemptResult::Failed { reason, retry_after: Some(Duration::from_secs(600)) },
        b'g' => AttemptResult::Refused { reason },
        _ => AttemptResult::NotBegun { reason },
    }
}
