//! Where the words go: lines, errors, and one line that is rewritten in place on a terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use crate::cli::printable;

/// Why something that was written to standard output did not get there.
static LOST: OnceLock<String> = OnceLock::new();

/// Standard output, as every command writes its words and documents to it. What is lost is remembered, so that no command ends
/// as if it had been read; a reader that went away is none of its concern.
pub(super) struct Output(io::Stdout);

impl Output {
    pub(super) fn of_the_process() -> Self {
        Self(io::stdout())
    }

    /// Why something that was written by this process was lost, if it was.
    pub(super) fn lost() -> Option<&'static str> {
        LOST.get().map(String::as_str)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).inspect_err(remember)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().inspect_err(remember)
    }
}

fn remember(error: &io::Error) {
    if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) {
        LOST.get_or_init(|| error.to_string());
    }
}

/// Longest line that is rewritten in place, in characters: one that wraps could not be taken back.
const REWRITTEN_MAX: usize = 79;

/// Two streams and whether a person watches the first.
pub struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    is_terminal: bool,
    /// Whoever read the first stream does so no more.
    is_closed: bool,
    /// How many lines the picture has that is redrawn in place.
    drawn: usize,
    /// What stands in the line that is rewritten; empty when there is none.
    progress: String,
    /// The last progress that counted as news.
    news: String,
}

impl Screen {
    /// Standard output and standard error.
    #[must_use]
    pub fn of_the_process() -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self::new(Box::new(Output::of_the_process()), Box::new(io::stderr()), is_terminal)
    }

    /// Any two streams.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, is_terminal: bool) -> Self {
        Self { out, err, is_terminal, is_closed: false, drawn: 0, progress: String::new(), news: String::new() }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, text: &str) {
        self.block(&printable(text));
    }

    /// Lines that stay and hold nothing that a terminal obeys but what was meant for it.
    pub(super) fn block(&mut self, text: &str) {
        self.take_back();
        let written = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
        self.is_closed |= written.is_err();
    }

    /// Lines in place of those that were drawn last, on a terminal that is wide and high enough for both.
    pub(super) fn redraw(&mut self, lines: &[String]) {
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        // Each line is cleared behind its end, and what is left of the last picture at the end: nothing flickers.
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        let written = write!(self.out, "{up}\r{text}\x1b[J").and_then(|()| self.out.flush());
        self.is_closed |= written.is_err();
        self.drawn = lines.len();
    }

    /// A line on the error stream, as progress is told where the output is for a program.
    pub(super) fn note(&mut self, text: &str) {
        self.take_back();
        // A picture that lines were written below cannot be found again: the next one is drawn anew.
        self.drawn = 0;
        let _ = writeln!(self.err, "{}", printable(text));
    }

    /// A line on the error stream that says why it did not work.
    pub(super) fn error(&mut self, text: &str) {
        self.note(&format!("error: {text}"));
    }

    /// Whether a person watches.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Whether the output has no reader any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
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
