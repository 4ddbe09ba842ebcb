//! What the benches share: medians of nine, histograms of waiting times, tables. Nothing here asserts anything about time.
#![allow(dead_code, clippy::print_stdout, missing_docs)]

pub(crate) mod counting;

use std::time::{Duration, Instant};

/// `cargo test` and `cargo bench -- --test` run every bench once, quickly.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--test") || !std::env::args().any(|argument| argument == "--bench")
}

/// The median of nine runs, or of one when it has to be quick.
pub(crate) fn median(mut run: impl FnMut() -> Duration) -> Duration {
    middle((0..if is_quick() { 1 } else { 9 }).map(|_| run()))
}

/// The median of what was measured.
pub(crate) fn middle(measured: impl IntoIterator<Item = Duration>) -> Duration {
    let mut measured: Vec<_> = measured.into_iter().collect();
    measured.sort();
    measured[measured.len() / 2]
}

/// How long one call takes, over as many calls as make a run long enough to be timed.
pub(crate) fn per_call(mut call: impl FnMut()) -> Duration {
    let calls = if is_quick() { 100 } else { 200_000 };
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed() / calls
}

pub(crate) fn ratio(ours: Duration, base: Duration) -> String {
    format!("{:.2}", ours.as_secs_f64() / base.as_secs_f64().max(f64::MIN_POSITIVE))
}

/// Durations counted in steps of a sixteenth of their power of two.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    most: Duration,
}

const STEPS: u64 = 16;

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; 64 * STEPS as usize],
            most: Duration::ZERO,
        }
    }

    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(STEPS);
        let power = u64::from(nanos.ilog2());
        let step = (nanos >> (power - 4)) - STEPS;
        self.counts[(power * STEPS + step) as usize] += 1;
        self.most = self.most.max(duration);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(mine, theirs)| *mine += theirs);
        self.most = self.most.max(other.most);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn most(&self) -> Duration {
        self.most
    }

    /// The lower end of the step in which the quantile lies.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        let wanted = (self.calls() as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                let (power, step) = (index as u64 / STEPS, index as u64 % STEPS);
                return Duration::from_nanos((STEPS + step) << (power - 4));
            }
        }
        self.most
    }

    /// How many took at least this long.
    pub(crate) fn at_least(&self, limit: Duration) -> u64 {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(STEPS);
        let power = u64::from(nanos.ilog2());
        let first = power * STEPS + (nanos >> (power - 4)) - STEPS;
        self.counts[first as usize..].iter().sum()
    }
}

/// Prints a table, its columns as wide as they have to be.
pub(crate) fn table(title: &str, rows: &[Vec<String>]) {
    println!("\n{title}\n");
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        println!("| {} |", cells.join(" | "));
        if index == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            println!("| {} |", rule.join(" | "));
        }
    }
}

/// A row of a table.
#[macro_export]
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($cell.to_string()),*] };
}
