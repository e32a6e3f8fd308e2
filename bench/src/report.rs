//! What was measured, as Markdown.

use crate::histogram::Quantiles;
use std::fmt;
use std::time::Duration;

/// One measurement's table.
pub struct Table {
    title: &'static str,
    how: String,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one, with a sentence that says how the figures came about.
    pub fn new(title: &'static str, how: String, columns: &'static [&'static str]) -> Self {
        Self { title, how, columns, rows: Vec::new() }
    }

    /// Adds a row, with a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}\n", self.title, self.how)?;
        writeln!(f, "| {} |", self.columns.join(" | "))?;
        // The first column is words, the others are figures.
        writeln!(f, "|---|{}", "---:|".repeat(self.columns.len() - 1))?;
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

/// Time for each of so many, in microseconds.
pub fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// Microseconds with two digits.
pub fn micros(micros: f64) -> String {
    format!("{micros:.2} µs")
}

/// Bytes as KB of 1,000.
pub fn kilobytes(bytes: f64) -> String {
    format!("{:.2} KB", bytes / 1e3)
}

/// Bytes as MB of 1,000,000.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A quantile in milliseconds; a dash without values.
pub fn quantile(quantiles: &Quantiles, share: f64) -> String {
    quantiles.at(share).map_or_else(|| "–".to_owned(), |nanos| format!("{:.3} ms", nanos as f64 / 1e6))
}

/// A number with its thousands set apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// How many of what was owed did not come; below zero where more came than was owed.
pub fn lost(owed: u64, came: u64) -> String {
    let sign = if came > owed { "−" } else { "" };
    format!("{sign}{}", count(owed.abs_diff(came)))
}

/// So many in a time, for each second.
pub fn rate(number: u64, time: Duration) -> String {
    count((number as f64 / time.as_secs_f64()).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surplus_is_told_from_a_loss() {
        assert_eq!([lost(5, 5), lost(1_005, 5), lost(5, 6)], ["0", "1,000", "−1"]);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
