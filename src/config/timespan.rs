//! Lengths of time as settings spell them: .NET `TimeSpan` text, as the C# original read it, or an ISO 8601 duration.
//!
//! Source: .NET `TimeSpan.Parse`, invariant culture, as observed on 71 texts (`tests/fixtures/wire/timespan.json`). Two of its
//! rules surprise people and are kept for parity: a bare number is days, and `24:00:00` is 24 *days*, since an hour of 24 does
//! not exist and the text is then read as days:hours:minutes.

use std::time::Duration;

/// Why a text is not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// Not of the form.
    Format,
    /// Of the form, but a number is out of its range (.NET's `OverflowException`).
    Overflow,
}

const TICKS_PER_SECOND: i64 = 10_000_000;
const DAYS_MAX: u64 = 10_675_199;

/// Reads `TimeSpan` text and returns ticks of 100 ns, which may be negative.
///
/// # Errors
/// [`Error`], as .NET tells the two apart.
pub fn ticks(text: &str) -> Result<i64, Error> {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let magnitude = magnitude(digits)?;
    let limit = i128::from(i64::MAX) + i128::from(negative);
    if magnitude > limit {
        return Err(Error::Overflow);
    }
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| Error::Overflow)
}

fn magnitude(text: &str) -> Result<i128, Error> {
    if !text.is_ascii() {
        return Err(Error::Format);
    }
    let colons: Vec<&str> = text.split(':').collect();
    // The first field may hold `days.hours`, the last one `seconds.fraction`; a lone field is days.
    let (days, first) = match colons[0].split_once('.') {
        Some((days, hours)) if colons.len() > 1 => (Some(number(days)?), hours),
        Some(_) => return Err(Error::Format),
        None => (None, colons[0]),
    };
    match (days, &colons[1..]) {
        (None, []) => total(number(first)?, 0, 0, 0, 0),
        (None, [minutes]) => total(0, number(first)?, number(minutes)?, 0, 0),
        (None, [second, third]) => match third.split_once('.') {
            None => {
                let (a, b, c) = (number(first)?, number(second)?, number(third)?);
                total(0, a, b, c, 0).or_else(|_| total(a, b, c, 0, 0))
            }
            Some((seconds, fraction)) => {
                total(0, number(first)?, number(second)?, seconds_before_point(seconds)?, fraction_ticks(fraction)?)
            }
        },
        (Some(days), [minutes]) => total(days, number(first)?, number(minutes)?, 0, 0),
        (Some(days), [minutes, seconds]) => with_seconds(days, number(first)?, minutes, seconds),
        (None, [hours, minutes, seconds]) => with_seconds(number(first)?, number(hours)?, minutes, seconds),
        _ => Err(Error::Format),
    }
}

fn with_seconds(days: u64, hours: u64, minutes: &str, seconds: &str) -> Result<i128, Error> {
    let (seconds, fraction) = match seconds.split_once('.') {
        Some((seconds, fraction)) => (seconds_before_point(seconds)?, fraction_ticks(fraction)?),
        None => (number(seconds)?, 0),
    };
    total(days, hours, number(minutes)?, seconds, fraction)
}

/// `0:1:.5` is accepted: seconds may be left out before a fraction.
fn seconds_before_point(text: &str) -> Result<u64, Error> {
    if text.is_empty() { Ok(0) } else { number(text) }
}

fn number(text: &str) -> Result<u64, Error> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Format);
    }
    // Out of every field's range, but of the form: the caller's range check says so.
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Seven digits are ticks; more are rounded, but only behind a leading zero.
fn fraction_ticks(text: &str) -> Result<u64, Error> {
    let value = number(text)?;
    if value == 0 || text.len() <= 7 {
        let scale = u32::try_from(7usize.saturating_sub(text.len())).unwrap_or(0);
        return Ok(value * 10u64.pow(scale));
    }
    if !text.starts_with('0') {
        return Err(Error::Overflow);
    }
    let kept: u64 = text[..7].parse().map_err(|_| Error::Format)?;
    Ok(kept + u64::from(text.as_bytes()[7] >= b'5'))
}

fn total(days: u64, hours: u64, minutes: u64, seconds: u64, fraction: u64) -> Result<i128, Error> {
    if days > DAYS_MAX || hours > 23 || minutes > 59 || seconds > 59 {
        return Err(Error::Overflow);
    }
    let seconds = ((i128::from(days) * 24 + i128::from(hours)) * 60 + i128::from(minutes)) * 60 + i128::from(seconds);
    Ok(seconds * i128::from(TICKS_PER_SECOND) + i128::from(fraction))
}

/// Reads an ISO 8601 duration of weeks, days, hours, minutes and seconds (`PT1M20S`); months and years have no fixed length
/// and are refused. Only seconds may have a fraction.
fn iso(text: &str) -> Option<Duration> {
    let upper = text.trim().to_ascii_uppercase();
    let body = upper.strip_prefix('P')?;
    let (date, time) = body.split_once('T').map_or((body, None), |(date, time)| (date, Some(time)));
    if time.is_some_and(str::is_empty) || (date.is_empty() && time.is_none()) {
        return None;
    }
    let date = fields(date, &[('W', 604_800), ('D', 86_400)])?;
    let time = fields(time.unwrap_or(""), &[('H', 3600), ('M', 60), ('S', 1)])?;
    date.checked_add(time)
}

fn fields(mut text: &str, units: &[(char, u64)]) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for &(unit, seconds) in units {
        let Some((value, rest)) = text.split_once(unit) else { continue };
        let (whole, fraction) = value.split_once(['.', ',']).unwrap_or((value, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || !digits(whole)
            || !digits(fraction)
            || (value != whole && (unit != 'S' || fraction.is_empty()))
        {
            return None;
        }
        let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let part = Duration::from_secs(whole.parse::<u64>().ok()?.checked_mul(seconds)?)
            .checked_add(Duration::from_nanos(nanos))?;
        sum = sum.checked_add(part)?;
        text = rest;
    }
    text.is_empty().then_some(sum)
}

/// Reads a setting's length of time in either notation.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn parse(text: &str) -> Result<Duration, String> {
    if let Some(duration) = iso(text) {
        return Ok(duration);
    }
    match ticks(text) {
        Ok(ticks) => match u64::try_from(ticks) {
            Ok(ticks) => Ok(Duration::new(ticks / 10_000_000, u32::try_from(ticks % 10_000_000).unwrap_or(0) * 100)),
            Err(_) => Err("must not be negative".into()),
        },
        Err(Error::Overflow) => Err(
            "a number is out of range: hours go to 23, minutes and seconds to 59, for example `0:1:20` or `PT1M20S`"
                .into(),
        ),
        Err(Error::Format) => {
            Err("is not a length of time: write `[days.]hours:minutes[:seconds]`, for example `0:1:20`, or `PT1M20S`"
                .into())
        }
    }
}

/// A length of time for people: `80 days`, `1 min 20 s`, `1.5 s`.
#[must_use]
pub fn words(length: Duration) -> String {
    let seconds = length.as_secs();
    let plural = |n: u64, unit: &str| if n == 1 { format!("{n} {unit}") } else { format!("{n} {unit}s") };
    let mut parts = Vec::new();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        parts.push(plural(days, "day"));
    }
    if hours > 0 {
        parts.push(format!("{hours} h"));
    }
    if minutes > 0 {
        parts.push(format!("{minutes} min"));
    }
    let rest = Duration::new(seconds % 60, length.subsec_nanos());
    if !rest.is_zero() || parts.is_empty() {
        parts.push(format!("{} s", (rest.as_secs_f64() * 1000.0).round() / 1000.0));
    }
    parts.join(" ")
}

/// Reads a length of time as people write one: a number with a unit, such as `250ms`, `1.5s`, `2m`, `1h` or `30d`.
///
/// # Errors
/// Says what would be right.
pub fn with_unit(text: &str) -> Result<Duration, String> {
    let bad = || "a time is a number and a unit, such as 500ms, 1.5s, 2m, 1h or 3d".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 24.0 * 3600.0,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Observed {
        text: String,
        ok: bool,
        ticks: Option<i64>,
        error: Option<String>,
    }

    #[test]
    fn every_observed_text_is_read_as_dotnet_reads_it() {
        let observed: Vec<Observed> =
            serde_json::from_str(include_str!("../../tests/fixtures/wire/timespan.json")).expect("the fixture is JSON");
        assert!(observed.len() > 70);
        for Observed { text, ok, ticks: expected, error } in observed {
            let read = ticks(&text);
            assert_eq!(read.is_ok(), ok, "{text:?} gave {read:?}");
            match read {
                Ok(ticks) => assert_eq!(Some(ticks), expected, "{text:?}"),
                Err(Error::Format) => assert_eq!(error.as_deref(), Some("FormatException"), "{text:?}"),
                Err(Error::Overflow) => assert_eq!(error.as_deref(), Some("OverflowException"), "{text:?}"),
            }
        }
    }

    #[test]
    fn iso_durations() {
        for (text, seconds) in
            [("PT1M20S", 80.0), ("P1DT2H", 93_600.0), ("pt0.5s", 0.5), ("P2W", 1_209_600.0), ("PT90M", 5400.0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for bad in ["P", "PT", "P1Y", "P1M", "PT1.5M", "PT-1S", "PT1S2M", "PT1.S", "PT1S ago"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_in_words() {
        for (seconds, text) in [
            (0.0, "0 s"),
            (80.0, "1 min 20 s"),
            (6_912_000.0, "80 days"),
            (86_400.0, "1 day"),
            (3600.0, "1 h"),
            (1.5, "1.5 s"),
        ] {
            assert_eq!(words(Duration::from_secs_f64(seconds)), text);
        }
    }

    proptest! {
        #[test]
        fn what_dotnet_prints_is_read_back(ticks_in in any::<i64>()) {
            let magnitude = ticks_in.unsigned_abs();
            let (days, rest) = (magnitude / 864_000_000_000, magnitude % 864_000_000_000);
            let (h, m, s, f) = (rest / 36_000_000_000, rest / 600_000_000 % 60, rest / 10_000_000 % 60, rest % 10_000_000);
            let sign = if ticks_in < 0 { "-" } else { "" };
            let day = if days > 0 { format!("{days}.") } else { String::new() };
            let fraction = if f > 0 { format!(".{f:07}") } else { String::new() };
            prop_assert_eq!(ticks(&format!("{sign}{day}{h:02}:{m:02}:{s:02}{fraction}")), Ok(ticks_in));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn near_misses_are_read_or_refused(text in "-?[0-9]{0,9}[.:]{0,2}[0-9]{0,9}[.:]?[0-9]{0,9}[.:]?[0-9]{0,9}[.:]?[0-9]{0,9}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, millis) in
            [("500ms", 500), ("1s", 1000), ("1.5s", 1500), ("2m", 120_000), (" 1h ", 3_600_000), ("1d", 86_400_000)]
        {
            assert_eq!(with_unit(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1w", "-1s", "1.2.3s", "99999999999999999999h", "1 s"] {
            assert!(with_unit(text).is_err(), "{text}");
        }
    }
}
