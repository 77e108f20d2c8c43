//! What runs did, added up.

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) pushes: u64,
    pub(crate) modelled: u64,
    pub(crate) replicated: u64,
    pub(crate) timed_out: u64,
    pub(crate) superseded: u64,
    pub(crate) recovered: u64,
    pub(crate) later_rounds: u64,
    pub(crate) repeats: u64,
    pub(crate) purged: u64,
    /// Removed without a trace.
    pub(crate) gone: u64,
    pub(crate) confirmed: u64,
    pub(crate) exhausted: u64,
    pub(crate) overtaken: u64,
    pub(crate) attempts: u64,
    pub(crate) spilled: u64,
    pub(crate) held: u64,
    pub(crate) crashes: u64,
    pub(crate) cleared: u64,
    pub(crate) timers: u64,
    pub(crate) timers_alive: u64,
    /// Webhooks on the queue that two rounds counted.
    pub(crate) counted_twice: u64,
    pub(crate) steps: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            pushes,
            modelled,
            replicated,
            timed_out,
            superseded,
            recovered,
            later_rounds,
            repeats,
            purged,
            gone,
            confirmed,
            exhausted,
            overtaken,
            attempts,
            spilled,
            held,
            crashes,
            cleared,
            timers,
            timers_alive,
            counted_twice,
            steps,
        } = other;
        for (sum, more) in [
            (&mut self.pushes, pushes),
            (&mut self.modelled, modelled),
            (&mut self.replicated, replicated),
            (&mut self.timed_out, timed_out),
            (&mut self.superseded, superseded),
            (&mut self.recovered, recovered),
            (&mut self.later_rounds, later_rounds),
            (&mut self.repeats, repeats),
            (&mut self.purged, purged),
            (&mut self.gone, gone),
            (&mut self.confirmed, confirmed),
            (&mut self.exhausted, exhausted),
            (&mut self.overtaken, overtaken),
            (&mut self.attempts, attempts),
            (&mut self.spilled, spilled),
            (&mut self.held, held),
            (&mut self.crashes, crashes),
            (&mut self.cleared, cleared),
            (&mut self.timers, timers),
            (&mut self.counted_twice, counted_twice),
            (&mut self.steps, steps),
        ] {
            *sum += more;
        }
        self.timers_alive = self.timers_alive.max(*timers_alive);
    }
}
