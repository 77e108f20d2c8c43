//! Where the words go: lines, errors, and one line that is rewritten in place on a terminal.

use std::io::{IsTerminal, Write};

use crate::cli::printable;

/// Longest line that is rewritten in place, in characters: one that wraps could not be taken back.
const REWRITTEN_MAX: usize = 79;

/// Two streams and whether a person watches the first.
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    is_terminal: bool,
    /// What stands in the line that is rewritten; empty when there is none.
    progress: String,
    /// The last progress that counted as news.
    news: String,
}

impl Screen {
    /// Standard output and standard error.
    #[must_use]
    pub fn of_the_process() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        Self::new(Box::new(std::io::stdout()), Box::new(std::io::stderr()), is_terminal)
    }

    /// Any two streams.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self { out, err, is_terminal, progress: String::new(), news: String::new() }
    }

    /// A line that stays. Whoever has closed the other end does not want to hear of it.
    pub(super) fn line(&mut self, text: &str) {
        self.take_back();
        let _ = writeln!(self.out, "{}", printable(text));
        let _ = self.out.flush();
    }

    /// A line on the error stream.
    pub(super) fn error(&mut self, text: &str) {
        self.take_back();
        let _ = writeln!(self.err, "error: {}", printable(text));
    }

    /// How things stand: `news`, and `passing` words that alone are not worth a line of their own where lines stay.
    pub(super) fn progress(&mut self, news: &str, passing: &str) {
        if self.is_terminal {
            let text: String = printable(&format!("{news}{passing}")).chars().take(REWRITTEN_MAX).collect();
            if text != self.progress {
                let _ = write!(self.out, "\r\x1b[2K{text}");
                let _ = self.out.flush();
                self.progress = text;
            }
        } else if news != self.news {
            self.line(&format!("{news}{passing}"));
            news.clone_into(&mut self.news);
        }
    }

    fn take_back(&mut self) {
        if !self.progress.is_empty() {
            let _ = write!(self.out, "\r\x1b[2K");
            self.progress.clear();
        }
    }
}
