//! Lengths of time, instants and texts of strangers, as the page shows them.
//!
//! Guarantee: what comes from a registry or a receiver is text and never markup; a character that steers or hides text is shown by
//! its number. What changes with the time alone, such as `9 min ago`, is filled in by the script, so that the same row is
//! always the same markup.

use maud::{Markup, html};

use crate::clock::Instant;

/// The instant of a document.
pub(super) fn instant(text: &str) -> Option<Instant> {
    text.parse().ok()
}

/// From one instant of a document to another, in milliseconds; 0 where one cannot be read.
pub(super) fn between(from: &str, to: &str) -> i64 {
    instant(from).zip(instant(to)).map_or(0, |(from, to)| (to - from).num_milliseconds())
}

/// How far behind: tenths of a second below a minute, then what counts. What would be no tenth is said in milliseconds.
pub(super) fn lag(ms: i64) -> String {
    let ms = ms.max(0);
    if ms < 50 {
        return format!("{ms} ms");
    }
    // What would be rounded to a minute is one.
    if ms < 59_950 { format!("{}.{} s", (ms + 50) / 1000, (ms + 50) % 1000 / 100) } else { units(ms, 1) }
}

/// How far behind, to the millisecond below a minute.
pub(super) fn exact(ms: i64) -> String {
    match ms.max(0) {
        ms @ ..1000 => format!("{ms} ms"),
        ms @ ..60_000 => format!("{}.{:03} s", ms / 1000, ms % 1000),
        ms => units(ms, 2),
    }
}

/// A length of time in its two largest units.
pub(super) fn span(ms: i64) -> String {
    if ms < 59_950 { lag(ms) } else { units(ms, 2) }
}

/// How long something took that ended, if it has, at an instant of a document.
pub(super) fn took(from: &str, end: Option<&str>) -> String {
    span(end.map_or(0, |end| between(from, end)))
}

fn units(ms: i64, most: usize) -> String {
    let seconds = (ms + 500) / 1000;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let from = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let parts = parts.iter().skip(from).take(most).enumerate().filter(|(n, (count, _))| *n == 0 || *count > 0);
    parts.map(|(_, (count, unit))| format!("{count} {unit}")).collect::<Vec<_>>().join(" ")
}

/// How exactly an instant is shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// `02:58:21`, with the day where it is not today.
    Short,
    /// `02:58:21.214`, likewise.
    Exact,
    /// `Fri 27 Nov 02:58:21`.
    Full,
}

/// An instant of a document, in UTC; the script may turn it into the reader's own time.
pub(super) fn time(text: &str, form: Form, now: Instant) -> Markup {
    let Some(at) = instant(text) else { return html! { (text) } };
    let clock = if matches!(form, Form::Exact) { "%H:%M:%S%.3f" } else { "%H:%M:%S" };
    let days = (now.date_naive() - at.date_naive()).num_days();
    let day = match (form, days) {
        (Form::Full, _) => "%a %-d %b ",
        (Form::Short | Form::Exact, 0) => "",
        (Form::Short | Form::Exact, -6..=6) => "%a ",
        (Form::Short | Form::Exact, _) => "%-d %b ",
    };
    let (name, shown) = (form.name(), at.format(&format!("{day}{clock}")).to_string());
    html! { time.nowrap datetime=(text) data-form=(name) { (shown) } }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Exact => "exact",
            Self::Full => "full",
        }
    }
}

/// How long ago an instant was.
pub(super) fn ago(text: &str) -> Markup {
    html! { span.nowrap data-ago=(text) {} }
}

/// How long something has been so.
pub(super) fn since(text: &str) -> Markup {
    html! { span.nowrap data-since=(text) {} }
}

/// The time left until an instant, counted down.
pub(super) fn left(text: &str) -> Markup {
    html! { span.nowrap role="timer" data-left=(text) data-then="a moment" {} }
}

/// The time left until a push settles, counted down.
pub(super) fn left_to_settle(text: &str) -> Markup {
    html! { span.nowrap role="timer" data-left=(text) data-after=" left" data-then="settling…" {} }
}

/// Whether a character steers or hides text rather than being one.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text of strangers as plain text, for places that hold no markup.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { format!("[U+{:04X}]", u32::from(c)) } else { c.to_string() }).collect()
}

/// A text of strangers, kept from steering what stands around it.
pub(super) fn foreign(text: &str) -> Markup {
    let (mut rest, mut parts) = (text, Vec::new());
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
        parts.push((&rest[..at], format!("U+{:04X}", u32::from(c))));
        rest = &rest[at + c.len_utf8()..];
    }
    html! {
        bdi {
            @for (before, hidden) in parts { (before) span.code-point { (hidden) } }
            (rest)
        }
    }
}

/// A state's name in words.
pub(super) fn spoken(word: &str) -> String {
    word.replace('_', " ")
}

/// `one, two and 3 more`, of at most `most` names.
pub(super) fn names<S: AsRef<str>>(all: &[S], most: usize) -> String {
    let all: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
    match &all[..] {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] if all.len() <= most => format!("{} and {last}", first.join(", ")),
        _ => format!("{} and {} more", all[..most - 1].join(", "), all.len() - (most - 1)),
    }
}

/// `1 push`, `2 pushes`: a count and its noun.
pub(super) fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// A mark of the page's own, drawn.
pub(super) fn icon(name: &str) -> Markup {
    let target = format!("#i-{name}");
    html! { svg.i aria-hidden="true" { use href=(target) {} } }
}

/// Whether a text of strangers may be pasted into a shell: there is nothing in it that a shell reads.
pub(super) fn is_one_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// A button that copies a text.
fn copy(text: &str, what: &str) -> Markup {
    let label = format!("Copy {what}");
    html! { button.plain type="button" data-copy=(text) aria-label=(label) { (icon("copy")) "Copy" } }
}

/// A text of strangers that people copy, where that is safe.
pub(super) fn word(text: &str, what: &str) -> Markup {
    html! { code { (foreign(text)) } @if is_one_word(text) { " " (copy(text, what)) } }
}

/// A command to run elsewhere.
pub(super) fn command(text: &str) -> Markup {
    html! { div.command { code { (text) } (copy(text, "command")) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_exact_as_they_need_to_be() {
        let of = |ms: i64| (lag(ms), span(ms));
        assert_eq!(of(-5), ("0 ms".into(), "0 ms".into()));
        assert_eq!([5, 49, 50, 940].map(lag), ["5 ms", "49 ms", "0.1 s", "0.9 s"]);
        assert_eq!(
            [-1, 5, 999, 1000, 31_045, 60_000].map(exact),
            ["0 ms", "5 ms", "999 ms", "1.000 s", "31.045 s", "1 min"]
        );
        assert_eq!(of(1940).0, "1.9 s");
        assert_eq!(of(59_960), ("1 min".into(), "1 min".into()));
        assert_eq!(of(372_000), ("6 min".into(), "6 min 12 s".into()));
        assert_eq!(of(7_200_000), ("2 h".into(), "2 h".into()));
        assert_eq!(of(90_000_000).1, "1 d 1 h");
    }

    #[test]
    fn a_stranger_s_text_is_neither_markup_nor_steers_the_text_around_it() {
        let shown = foreign("<b>\u{202e}gpj\u{0}").into_string();
        let point = |n| format!("<span class=\"code-point\">U+{n}</span>");
        assert_eq!(shown, format!("<bdi>&lt;b&gt;{}gpj{}</bdi>", point("202E"), point("0000")));
        assert_eq!(plain("a\u{200b}b"), "a[U+200B]b");
    }

    #[test]
    fn days_are_named_where_they_are_not_today() {
        let now = instant("2026-11-27T03:07:12Z").unwrap();
        let of = |text: &str, form| time(text, form, now).into_string();
        assert!(of("2026-11-27T02:58:21.214Z", Form::Exact).contains(">02:58:21.214<"));
        assert!(of("2026-11-26T23:54:14Z", Form::Short).contains(">Thu 23:54:14<"));
        assert!(of("2026-10-26T23:54:14Z", Form::Short).contains(">26 Oct 23:54:14<"));
        assert!(of("2026-11-27T02:58:21Z", Form::Full).contains(">Fri 27 Nov 02:58:21<"));
        assert_eq!(of("<", Form::Full), "&lt;");
    }

    #[test]
    fn many_names_are_cut() {
        assert_eq!(names(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(names(&["a", "b", "c", "d"], 3), "a, b and 2 more");
        assert_eq!(names::<&str>(&[], 3), "none");
    }
}
