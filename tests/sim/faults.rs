//! Chance, and what it may do: one struct of options, drawn from the seed so that seeds differ in kind and not only in order.

/// Chance from a seed (SplitMix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `range`, the end excluded.
    pub(crate) fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// Whether something happens whose chance is `mille` in a thousand.
    pub(crate) fn chance(&mut self, mille: u64) -> bool {
        self.within(0..1000) < mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.within(0..items.len() as u64)).unwrap()]
    }
}

/// Largest difference between a process's clock and the true one that nobody sets right, in milliseconds. Any two differ by
/// twice that at most, which a lease's margin must bear.
pub(crate) const SKEW_MAX: i64 = 2400;

/// Longest time from a request to its effect and from there to its answer, in milliseconds, whether or not anybody still
/// waits for it: what the clients of table and queue promise by their time-outs.
pub(crate) const FLIGHT_MAX: u64 = 7000;

/// Chances are in a thousand calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Rows and timers share a file: no fault, but another store.
    pub(crate) one_file: bool,
    /// Nothing at all goes wrong.
    pub(crate) none: bool,
    /// The call fails without an effect.
    pub(crate) fails_before: u64,
    /// The call has its effect, and its answer is lost.
    pub(crate) fails_after: u64,
    /// The call takes up to [`FLIGHT_MAX`] to its effect, and as long again to its answer.
    pub(crate) slow: u64,
    /// The calling process dies while the call is under way.
    pub(crate) crash: u64,
    /// Out of a minute, the seconds in which no call to the table, or the queue, gets through.
    pub(crate) table_outage: u64,
    pub(crate) queue_outage: u64,
    /// A long time in which no call to the table gets through, and the queue works.
    pub(crate) table_away: Option<(u64, u64)>,
    /// While the table is out, rows can be read all the same.
    pub(crate) reads_work: bool,
    /// A message is taken for so short that others take it while it is being handled.
    pub(crate) short_lease: u64,
    /// A fired message is handed over late.
    pub(crate) late: u64,
    /// The host cannot delete a message that was handled.
    pub(crate) undeleted: u64,
    /// A message is in the queue twice.
    pub(crate) doubled: u64,
    /// Somebody clears the queue of everything but arrivals, so often.
    pub(crate) cleared: u64,
    /// The processes belong to two apps.
    pub(crate) two_apps: bool,
    /// A process that comes back has a clock that is wrong by up to an hour.
    pub(crate) wrong_clock: u64,
    /// A receiver fails, is slow, refuses, or does what it was told but says it failed.
    pub(crate) receiver: u64,
    /// A delivery waits before it begins.
    pub(crate) tardy: u64,
}

impl Faults {
    /// Some kinds of fault, each at a strength of its own; one seed in eight has none.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let one_file = rng.chance(300);
        if rng.chance(125) {
            return Self { one_file, none: true, ..Self::default() };
        }
        let mut some = |strengths: &[u64]| if rng.chance(450) { rng.pick(strengths) } else { 0 };
        Self {
            one_file,
            none: false,
            fails_before: some(&[10, 50, 200]),
            fails_after: some(&[10, 50, 200]),
            slow: some(&[10, 50, 300]),
            crash: some(&[2, 10, 30]),
            table_outage: some(&[5, 20, 40, 60]),
            queue_outage: some(&[5, 20, 40]),
            short_lease: some(&[20, 200, 500]),
            late: some(&[50, 300]),
            undeleted: some(&[50, 300]),
            doubled: some(&[10, 50]),
            receiver: some(&[100, 500, 900]),
            tardy: some(&[100, 500]),
            wrong_clock: some(&[300, 1000]),
            cleared: if rng.chance(150) { rng.within(1..4) } else { 0 },
            table_away: rng.chance(250).then(|| {
                let from = rng.within(0..90_000);
                (from, from + rng.pick(&[5_000, 30_000, 120_000, 600_000]))
            }),
            reads_work: rng.chance(300),
            two_apps: !one_file && rng.chance(120),
        }
    }

    /// Whether the table, or the queue, cannot be reached.
    pub(crate) fn out(&self, now: u64, table: bool, read: bool) -> bool {
        if table && read && self.reads_work {
            return false;
        }
        let each_minute = if table { self.table_outage } else { self.queue_outage };
        let away = table && self.table_away.is_some_and(|(from, to)| (from..to).contains(&now));
        (now / 1000 % 60) < each_minute || away
    }
}
