//! What a client writes: results to standard output, everything else to standard error.

use crate::cli::Format;
use std::io::{self, IsTerminal, Write};

/// Writes a line about what happens to standard error; nothing can be done where that fails.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "carillon: {}", visible(text));
}

/// Writes lines to standard error without saying whose they are.
pub(super) fn plain_note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", visible(text));
}

/// Where results go, and in which form.
pub(super) struct Output {
    /// How results are written; whoever makes them asks.
    pub(super) format: Format,
    sink: Box<dyn Write>,
    terminal: bool,
}

impl Output {
    /// Standard output.
    pub(super) fn standard(format: Format) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { format, sink: Box::new(io::BufWriter::new(stdout)), terminal }
    }

    /// Writes one line as it is, control characters escaped where a terminal would act on them.
    pub(super) fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.terminal {
            self.sink.write_all(visible(&String::from_utf8_lossy(line)).as_bytes())?;
        } else {
            self.sink.write_all(line)?;
        }
        self.sink.write_all(b"\n")
    }

    /// Writes one JSON value as a line.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.sink, value)?;
        self.sink.write_all(b"\n")
    }

    /// Hands over what was written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// `text` with its control characters as escapes, but for line ends and tabs: what strangers push must not be able to
/// move the cursor, change the window's title or answer in the user's name.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' && c != '\t' {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(visible("a\x1b]0;b\x07\tс\n"), "a\\u{1b}]0;b\\u{7}\tс\n");
    }
}
