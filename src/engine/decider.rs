//! A step, with what it needs beside the row.
//!
//! An arrival may wake the process: then it was received before the storage's first answer, by a clock that may be wrong, and would
//! open a push whose deadline is as far off. The step corrects that by what is known when it decides.
//!
//! Knowingly accepted: what is put onto the queue before the storage has answered anything keeps its instant. Beside a row it is a
//! repeat, or set aside as of the future; without one, its push has the wrong deadline.

use std::borrow::Cow;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::clock::{self, Clock};
use crate::push::{Answer, Arrival, Decision, Input, Policy, Row, step};
use crate::store::Decide;

/// See the module.
pub(super) struct Decider {
    pub(super) policy: Arc<Policy>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) input: Input,
    /// [`Clock::ahead`] when the input came.
    pub(super) ahead: Option<TimeDelta>,
}

impl Decider {
    /// See [`learnt`].
    pub(super) fn learnt(&self) -> TimeDelta {
        learnt(&*self.clock, self.ahead)
    }

    /// The input. What waited on the queue keeps its instant.
    pub(super) fn input(&self) -> Cow<'_, Input> {
        let Input::Arrival { arrival, spilled: false, earlier } = &self.input else {
            return Cow::Borrowed(&self.input);
        };
        match received(arrival, self.learnt()) {
            Cow::Borrowed(_) => Cow::Borrowed(&self.input),
            Cow::Owned(arrival) => Cow::Owned(Input::Arrival { arrival, spilled: false, earlier: *earlier }),
        }
    }
}

/// How much later it was than `clock` said when nobody had told it what time it is, as it knows by now; `ahead` is what
/// [`Clock::ahead`] was then.
pub(super) fn learnt(clock: &dyn Clock, ahead: Option<TimeDelta>) -> TimeDelta {
    clock.ahead().filter(|_| ahead.is_none()).unwrap_or_default()
}

/// The arrival, received so much later than the clock said.
pub(super) fn received(arrival: &Arc<Arrival>, later: TimeDelta) -> Cow<'_, Arc<Arrival>> {
    if later.is_zero() {
        return Cow::Borrowed(arrival);
    }
    Cow::Owned(Arc::new(Arrival { received: clock::moved(arrival.received, later), ..Arrival::clone(arrival) }))
}

impl Decide for Decider {
    fn decide(&self, row: Option<&Row>, answer: Option<Answer>) -> Decision {
        step(row, &self.input(), self.clock.now(), &self.policy, answer)
    }

    fn is_report(&self) -> bool {
        matches!(self.input, Input::Arrival { .. })
    }

    fn comes_again(&self) -> bool {
        matches!(self.input, Input::Arrival { spilled: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::tests::Set;
    use crate::clock::{Instant, StorageClock};
    use crate::config::{self, Source};
    use crate::push::{Change, Region};

    #[test]
    fn what_wakes_the_process_is_received_by_the_storages_time() {
        let at = |minutes: i64| Instant::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let settings = [("WebhookRegions", "e,w"), ("WebhookTimeout", "0:5:0")];
        let policy = Arc::new(config::load(&Source::new(settings)).unwrap().policy);
        let body = r#"{"id":"1","action":"push","target":{"repository":"r","tag":"t","digest":"d"}}"#;
        for (spilled, deadline) in [(false, 125), (true, 65)] {
            // The machine's clock is an hour behind.
            let clock = Arc::new(StorageClock::new(Arc::new(Set(Mutex::new(at(60))))));
            let arrival = Arrival::read(Region::parse("e").unwrap(), clock.now(), body.into(), None).unwrap();
            let input = Input::Arrival { arrival: Arc::new(arrival), spilled, earlier: false };
            let decider =
                Decider { policy: Arc::clone(&policy), ahead: clock.ahead(), clock: Arc::clone(&clock) as _, input };
            clock.observe(at(120) - TimeDelta::milliseconds(500), at(60));
            let Decision::Step(step) = decider.decide(None, None) else { panic!("nothing is asked") };
            let Change::Put(row) = step.change else { panic!("a row is opened") };
            assert_eq!(row.deadline, at(deadline), "{row:?}");
        }
    }
}
