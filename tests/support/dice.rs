//! Chance for tests that kill and disturb: drawn from a seed that is printed first and can be given again.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of the seed in `SEED`, or of a fresh one; prints which.
    ///
    /// # Panics
    /// When `SEED` is not a number: other dice than those asked for would repeat nothing.
    pub fn thrown(what: &str) -> Self {
        let seed = match std::env::var("SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("SEED is not a whole number: {text:?}")),
            Err(std::env::VarError::NotPresent) => uuid::Uuid::new_v4().as_u64_pair().0 >> 32,
            Err(unreadable) => panic!("SEED cannot be read: {unreadable}"),
        };
        eprintln!("{what}: SEED={seed}");
        Self(seed)
    }

    /// Dice of their own for a part that runs beside others.
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A number below `end`, for an index.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("an index")
    }

    /// True in `percent` of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Brings `items` into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}
