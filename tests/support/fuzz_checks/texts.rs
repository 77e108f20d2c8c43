//! Short texts: lengths of time, query strings, names.

use global_webhook::config::timespan;
use global_webhook::http::query as queries;
use global_webhook::limits;
use global_webhook::push::arrival::login_server;
use global_webhook::push::{Key, PushId, Region};

use super::MARK;

/// A length of time is read or refused; what is read is read again from the way .NET and ISO 8601 write it.
pub fn timespan(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let ticks = timespan::ticks(&text);
    if let Ok(ticks) = ticks {
        let magnitude = ticks.unsigned_abs();
        let (seconds, fraction) = (magnitude / 10_000_000, magnitude % 10_000_000);
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
        let sign = if ticks < 0 { "-" } else { "" };
        let written = format!("{sign}{days}.{hours:02}:{minutes:02}:{:02}.{fraction:07}", seconds % 60);
        assert_eq!(timespan::ticks(&written), Ok(ticks), "{text:?} as {written}");
    }
    match timespan::parse(&text) {
        Ok(length) => {
            let written = format!("PT{}.{:09}S", length.as_secs(), length.subsec_nanos());
            assert_eq!(timespan::parse(&written), Ok(length), "{text:?} as {written}");
            let words = timespan::words(length);
            assert!(!words.is_empty() && words.is_ascii(), "{words}");
            if let Ok(ticks) = ticks {
                assert_eq!(u128::try_from(ticks).map(|t| t * 100), Ok(length.as_nanos()), "{text:?}");
            }
        }
        Err(why) => assert!(why.len() <= 200 && ticks.is_ok_and(|t| t < 0) != ticks.is_err(), "{text:?}: {why}"),
    }
    true
}

/// A query names one region or not; what it names does not depend on how it is written.
pub fn query(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    match queries::region(&text) {
        Ok(region) => {
            in_order(&region);
            let encoded: String = form_urlencoded::byte_serialize(region.as_str().as_bytes()).collect();
            for same in [
                format!("{text}&{text}"),
                format!("{text}&code=k"),
                format!("REGION={encoded}"),
                format!("region=+{encoded}%20&region={encoded},{encoded}"),
            ] {
                assert_eq!(queries::region(&same), Ok(region.clone()), "{text:?} as {same:?}");
            }
            let other = format!("{text}&region={encoded}x");
            assert_eq!(queries::region(&other), Err(queries::NoRegion::Ambiguous), "{other:?}");
        }
        Err(queries::NoRegion::Invalid(why)) => assert!(why.len() <= 200 && !why.contains(MARK), "{why}"),
        Err(queries::NoRegion::Missing | queries::NoRegion::Ambiguous) => {}
    }
    let marked = format!("region={MARK}%01{text}");
    assert!(!format!("{:?}", queries::region(&marked)).to_lowercase().contains(&MARK.to_lowercase()), "{marked:?}");
    for name in ["code", "limit", "cursor", "target"] {
        for value in queries::values(&text, name) {
            let encoded: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            assert_eq!(queries::values(&format!("{name}={encoded}"), name), [value]);
        }
    }
    true
}

/// Names of regions, pushes, keys and registries have one spelling each.
pub fn names(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    match Region::parse(&text) {
        Ok(region) => in_order(&region),
        Err(why) => assert!(why.len() <= 100, "{why}"),
    }
    match text.parse::<PushId>() {
        Ok(id) => {
            assert_eq!((id.to_string(), id.round > 0), (text.clone().into_owned(), true));
            key_in_order(&id.key);
        }
        Err(why) => assert!(why.len() <= 100, "{why}"),
    }
    match text.parse::<Key>() {
        Ok(key) => {
            assert_eq!(key.as_str(), text);
            key_in_order(&key);
        }
        Err(why) => assert!(why.len() <= 100, "{why}"),
    }
    let registry = login_server(&text);
    assert_eq!(registry, registry.to_lowercase(), "{text:?}");
    // Two lists, cut at every line: a key tells whether a part belongs to the place or to the content.
    let parts: Vec<&str> = text.split('\n').take(16).collect();
    let keys: Vec<Key> = (0..=parts.len()).map(|cut| Key::of(&parts[..cut], &parts[cut..])).collect();
    for (number, key) in (1..).zip(&keys) {
        key_in_order(key);
        let id = PushId { key: key.clone(), round: number };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(keys.iter().filter(|other| *other == key).count(), 1, "{text:?}");
    }
    true
}

fn key_in_order(key: &Key) {
    let plain = |half: &str| half.len() == 32 && half.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    assert!(plain(key.place()) && plain(key.content()), "{key:?}");
    assert_eq!([key.place(), key.content()].concat(), key.as_str());
    assert_eq!(key.as_str().parse().as_ref(), Ok(key));
}

pub(super) fn in_order(region: &Region) {
    let name = region.as_str();
    assert!((1..=limits::REGION_BYTES_MAX).contains(&name.len()), "{name:?}");
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name:?}");
    assert_eq!(Region::parse(name).as_ref(), Ok(region), "{name:?}");
    assert_eq!(
        Region::parse(&format!(" {}\t{}", &name[..1], &name[1..].to_uppercase())).as_ref(),
        Ok(region),
        "{name:?}"
    );
}
