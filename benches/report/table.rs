//! What a measure comes to, and how it is printed.

use std::time::Duration;

/// One line of the report.
pub(crate) struct Line {
    pub(crate) measure: String,
    pub(crate) floor: String,
    pub(crate) ours: String,
    pub(crate) ratio: String,
    pub(crate) target: String,
    /// Whether the target is met; `None` for a figure without one.
    pub(crate) met: Option<bool>,
}

impl Line {
    pub(crate) fn new(measure: impl Into<String>, target: impl Into<String>) -> Self {
        let (floor, ours, ratio) = Default::default();
        Self { measure: measure.into(), floor, ours, ratio, target: target.into(), met: None }
    }
}

/// Prints one line as soon as it is known, so that a long run shows where it is.
pub(crate) fn print(line: &Line) {
    let Line { measure, floor, ours, ratio, target, met } = line;
    let met = match met {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "–",
    };
    println!("| {measure} | {floor} | {ours} | {ratio} | {target} | {met} |");
}

pub(crate) fn print_head() {
    println!("| measure | floor | ours | ratio | target | met |");
    println!("|---|---|---|---|---|---|");
}

/// The middle one.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
    sorted[sorted.len() / 2]
}

/// Of the rounds of a measure, each its floor and ours: the one whose ratio, ours over floor, is the middle one; and that
/// ratio. So the three figures of a line belong together.
pub(crate) fn middle(rounds: &[(f64, f64)]) -> (f64, f64, f64) {
    let mut rounds: Vec<(f64, f64, f64)> = rounds.iter().map(|&(floor, ours)| (floor, ours, ours / floor)).collect();
    rounds.sort_by(|a, b| a.2.total_cmp(&b.2));
    rounds[rounds.len() / 2]
}

pub(crate) fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 1000.0 { format!("{:.1} k/s", per_second / 1e3) } else { format!("{per_second:.0}/s") }
}
