//! How documents look to people: tables, times, lengths of time, and colour where a terminal shows it.
//!
//! Guarantee: no cell, whatever a stranger called an image, breaks its line or moves the cursor.

use std::time::Duration;

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, presets};

use super::printable;
use crate::config::Source;

/// Most of a text that is shown in a cell, in characters: whole images with their digests fit, and long URLs; what was made to
/// flood does not. Documents have everything.
const CELL_MAX: usize = 300;

/// Size of a terminal that does not say its own.
const USUAL: (u16, u16) = (80, 24);

/// Titles of the columns, and the cells of each row.
pub(super) type Table<'t> = (Vec<&'t str>, Vec<Vec<String>>);

/// What the output can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Columns and lines of the terminal; `None` where the output is none.
    pub(super) size: Option<(u16, u16)>,
    colour: bool,
}

impl Look {
    /// That of a text which is the same everywhere.
    pub(super) const PLAIN: Self = Self { size: None, colour: false };

    /// That of standard output, if a person watches it.
    pub(super) fn of_the_process(is_terminal: bool, environment: &Source) -> Self {
        let is_dumb = environment.get("TERM").is_none_or(|term| term == "dumb");
        Self {
            size: is_terminal.then(|| {
                let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
                size.map(|size| (size.ws_col, size.ws_row)).filter(|size| size.0 > 0 && size.1 > 0).unwrap_or(USUAL)
            }),
            colour: is_terminal && !is_dumb && environment.get("NO_COLOR").is_none(),
        }
    }

    /// A text in its colour.
    fn paint(self, text: &str, tone: Tone) -> String {
        match (self.colour, tone) {
            (true, Tone::Good) => format!("\x1b[32m{text}\x1b[0m"),
            (true, Tone::Bad) => format!("\x1b[31m{text}\x1b[0m"),
            (true, Tone::Open) => format!("\x1b[33m{text}\x1b[0m"),
            (true, Tone::Plain) | (false, _) => text.to_owned(),
        }
    }

    /// A table without those of the `dispensable` columns for which the terminal is too narrow; the first of them goes first.
    pub(super) fn narrowed<'t>(self, table: Table<'t>, dispensable: &[&str]) -> Table<'t> {
        let Some((width, _)) = self.size else { return table };
        let (mut head, mut rows) = table;
        for title in dispensable {
            let is_too_wide = width_of(&head, &rows) > usize::from(width);
            let Some(n) = head.iter().position(|t| t == title).filter(|_| is_too_wide) else { continue };
            head.remove(n);
            for row in &mut rows {
                row.remove(n);
            }
        }
        (head, rows)
    }

    /// The same look, but that lines go over the edge of the terminal instead of being broken: what is copied stays whole.
    pub(super) fn unbroken(self) -> Self {
        Self { size: None, ..self }
    }

    /// Lines of a table. What stands in its first column is a word of ours, and has its colour.
    pub(super) fn lines(self, head: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if !head.is_empty() {
            table.set_header(head.iter().map(|title| Cell::new(title.to_uppercase())));
        }
        if let Some((width, _)) = self.size {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        let words: Vec<String> = rows.iter().filter_map(|row| row.first().cloned()).collect();
        table.add_rows(rows);
        for (n, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if n == 0 {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut words = words.iter().peekable();
        let painted = table.lines().map(|line| {
            let line = line.trim_end().to_owned();
            match words.next_if(|word| !word.is_empty() && line.split(' ').next() == Some(word.as_str())) {
                Some(word) => self.paint(word, Tone::of(word)) + &line[word.len()..],
                None => line,
            }
        });
        painted.collect()
    }
}

/// Columns of the terminal that a table takes without a break: what a cell has, and two before the next.
fn width_of(head: &[&str], rows: &[Vec<String>]) -> usize {
    let column = |n: usize| {
        let cells = rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count());
        cells.chain([head[n].len()]).max().unwrap_or_default() + 2
    };
    (0..head.len()).map(column).sum()
}

/// What a word means to whoever looks after the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Bad,
    Open,
    Plain,
}

impl Tone {
    fn of(word: &str) -> Self {
        match word {
            "replicated" | "recovered" | "ok" | "confirmed" => Self::Good,
            "timed_out" | "exhausted" | "silent" | "incomplete" => Self::Bad,
            "waiting" | "owed" | "slow" => Self::Open,
            _ => Self::Plain,
        }
    }
}

/// A stranger's text in one line of bounded length, with nothing that a terminal obeys.
pub(super) fn cell(text: &str) -> String {
    let line = printable(text).replace('\n', "\u{fffd}");
    match line.char_indices().nth(CELL_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A document's instant, to the second.
pub(super) fn time(text: &str) -> String {
    match text.parse::<crate::clock::Instant>() {
        Ok(at) => at.format("%Y-%m-%d %H:%M:%SZ").to_string(),
        Err(_) => cell(text),
    }
}

/// What may be missing, or a dash.
pub(super) fn maybe<T>(value: Option<T>, shown: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), shown)
}

/// A length of time for people.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 1 {
        format!("{} ms", time.as_millis())
    } else if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else if seconds < 3600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
    }
}

/// The same for a document's milliseconds.
pub(super) fn millis(millis: i64) -> String {
    span(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

/// A document with nothing in it that a terminal obeys: escaped as JSON escapes it, so that it is the same document.
pub(super) fn json(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.trim_end().chars() {
        // Outside of texts a document has ASCII only, and line ends.
        if printable(c.encode_utf8(&mut [0; 4])).starts_with('\u{fffd}') && c != '\u{fffd}' && c != '\r' && c != '\t' {
            let mut units = [0; 2];
            text.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            text.push(c);
        }
    }
    text
}

/// The image of a push, as it is given to commands.
pub(super) fn image(registry: &str, image: &str) -> String {
    cell(&if registry.is_empty() { image.to_owned() } else { format!("{registry}/{image}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_leaves_its_cell(texts in prop::collection::vec("(?s).{0,40}", 1..4)) {
            let rows = texts.iter().map(|text| vec!["waiting".into(), cell(text), "end".into()]).collect();
            let lines = Look::PLAIN.lines(&["state", "image", "end"], rows);
            prop_assert_eq!(lines.len(), texts.len() + 1);
            for line in &lines[1..] {
                prop_assert!(line.starts_with("waiting  ") && line.ends_with("end"), "{line:?}");
                prop_assert!(!line.contains(char::is_control), "{line:?}");
            }
        }

        #[test]
        fn any_document_is_shown_as_it_is(text in "(?s).{0,40}") {
            let document = serde_json::to_string(&[text.as_str()]).unwrap();
            let shown = json(&document);
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
            prop_assert!(!shown.contains(char::is_control), "{shown:?}");
        }
    }

    #[test]
    fn spans_are_short() {
        for (millis, text) in
            [(7, "7 ms"), (1234, "1.2 s"), (59_000, "59.0 s"), (61_000, "1 min 1 s"), (3_660_000, "1 h 1 min")]
        {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn texts_of_strangers_stay_in_their_cells() {
        let hostile = "a\nreplicated\u{1b}[2J\u{9b}31m\u{202e}\tb";
        let lines = Look::PLAIN.lines(&["state", "image"], vec![vec!["waiting".into(), cell(hostile)]]);
        assert_eq!(lines, ["STATE    IMAGE", "waiting  a�replicated�[2J�31m��b"]);
        assert_eq!(cell(&"x".repeat(5000)).chars().count(), CELL_MAX + 1);
    }

    #[test]
    fn only_the_first_column_is_painted() {
        let colour = Look { size: Some((30, 10)), colour: true };
        let rows = vec![
            vec!["replicated".into(), "waiting and some more words that do not fit".into()],
            vec!["waiting".into(), "b".into()],
        ];
        let lines = colour.lines(&["state", "image"], rows);
        assert_eq!(lines[1], "\u{1b}[32mreplicated\u{1b}[0m  waiting and some");
        assert_eq!(lines.last().unwrap(), "\u{1b}[33mwaiting\u{1b}[0m     b");
        assert_eq!(lines.iter().filter(|line| line.contains('\u{1b}')).count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_left_out_in_its_order() {
        let head = ["state", "image", "missing", "opened"];
        let image = "contoso.azurecr.io/shop/cart:1.4.2";
        let rows = vec![vec!["waiting".into(), image.into(), "westus".into(), "2026-11-27 14:40:40Z".into()]];
        for (width, titles) in [(100, 4), (60, 3), (50, 2), (20, 2)] {
            let look = Look { size: Some((width, 10)), colour: false };
            let (head, rows) = look.narrowed((head.to_vec(), rows.clone()), &["opened", "missing"]);
            let lines = look.unbroken().lines(&head, rows);
            assert_eq!((lines.len(), lines[0].split_whitespace().count()), (2, titles), "{width}: {lines:?}");
            assert!(lines[1].contains(image), "{width}: {lines:?}");
        }
    }

    #[test]
    fn a_document_stays_the_same_and_moves_nothing() {
        let document = "{\"tag\":\"a\u{9b}31m\u{7f}\u{202e}\\u001b é\",\n \"n\":1.50}\n";
        let shown = json(document);
        assert_eq!(shown, "{\"tag\":\"a\\u009b31m\\u007f\\u202e\\u001b é\",\n \"n\":1.50}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(document));
    }
}
