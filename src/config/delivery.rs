//! Settings of delivery that are not a target's own: how often it is tried, and where people look a push up.

use std::time::Duration;

use reqwest::Url;

use super::targets::shown;
use super::{Fault, Source, timespan};
use crate::limits;
use crate::notify::guard;
use crate::push::backoff;

/// Waits between the attempts at one notification, from `WebhookRetrySchedule`: a comma list of lengths of time, at most
/// [`limits::RETRY_WAITS_MAX`], each from 1 second to [`limits::RETRY_WAIT_MAX`]; [`backoff::SCHEDULE`] when absent.
pub fn schedule(source: &Source, faults: &mut Vec<Fault>) -> Vec<Duration> {
    const SETTING: &str = "WebhookRetrySchedule";
    let Some(text) = source.get(SETTING) else { return backoff::SCHEDULE.to_vec() };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > limits::RETRY_WAITS_MAX {
        let problem = format!("has {} waits; {} are allowed", parts.len(), limits::RETRY_WAITS_MAX);
        faults.push(Fault::hidden(SETTING, problem));
        return Vec::new();
    }
    let mut waits = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let at = format!("{SETTING}, wait {}", index + 1);
        // Everywhere else a bare number is days; between two attempts nobody means that.
        let wait = if part.bytes().all(|b| b.is_ascii_digit()) {
            Err("give a unit: `0:00:05` or `PT5S` is five seconds".to_owned())
        } else {
            timespan::parse(part)
        };
        match wait {
            Ok(wait) if (Duration::from_secs(1)..=limits::RETRY_WAIT_MAX).contains(&wait) => waits.push(wait),
            Ok(_) => faults.push(Fault::of(at, part, "must be between 1 second and 7 days")),
            Err(problem) => faults.push(Fault::of(at, part, problem)),
        }
    }
    waits
}

/// Where this service is reached from outside, without a slash at the end, for links in notifications:
/// `WebhookPublicUrl`, else what the Functions platform says of itself in `WEBSITE_HOSTNAME`; `None` when neither is given.
pub fn public_url(source: &Source, faults: &mut Vec<Fault>) -> Option<String> {
    const SETTING: &str = "WebhookPublicUrl";
    if let Some(text) = source.get(SETTING) {
        return match Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                faults.push(Fault::hidden(SETTING, "must begin with `https://` or `http://`"));
                None
            }
            // Whoever reads a notification reads its link, so nothing that opens a door may stand in it.
            Ok(url) if bare(&url) => Some(url.as_str().trim_end_matches('/').to_owned()),
            Ok(url) => {
                faults.push(Fault::of(
                    SETTING,
                    &shown(&url),
                    "must have no user, query or fragment: it is sent to receivers",
                ));
                None
            }
            Err(e) => {
                faults.push(Fault::hidden(SETTING, format!("is not a URL: {e}")));
                None
            }
        };
    }
    // Set by the platform, not by the operator: unusable is the same as absent.
    let host = source.get("WEBSITE_HOSTNAME")?;
    let url = Url::parse(&format!("https://{host}")).ok().filter(|url| bare(url) && url.path() == "/")?;
    let scheme = if guard::is_loopback(&url) { "http" } else { "https" };
    let url = Url::parse(&format!("{scheme}://{host}")).ok()?;
    Some(url.as_str().trim_end_matches('/').to_owned())
}

fn bare(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_read_and_bounded() {
        let read = |text: &str| {
            let mut faults = Vec::new();
            (schedule(&Source::new([("WebhookRetrySchedule", text)]), &mut faults), faults)
        };
        assert_eq!(read(""), (backoff::SCHEDULE.to_vec(), vec![]));
        assert_eq!(read("PT1S, 0:0:20"), (vec![Duration::from_secs(1), Duration::from_secs(20)], vec![]));
        let (_, faults) = read("5,soon,PT0S,PT604801S,PT2S");
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert_eq!(
            faults[0],
            r#"WebhookRetrySchedule, wait 1 = "5": give a unit: `0:00:05` or `PT5S` is five seconds"#
        );
        assert_eq!(read(&vec!["PT1S"; 20].join(",")).1, vec![]);
        assert_eq!(read(&vec!["PT1S"; 21].join(",")).1.len(), 1);
    }

    #[test]
    fn the_public_url_carries_no_key() {
        let read = |pairs: &[(&str, &str)]| {
            let mut faults = Vec::new();
            (public_url(&Source::new(pairs.iter().copied()), &mut faults), faults.len())
        };
        assert_eq!(read(&[]), (None, 0));
        assert_eq!(read(&[("WebhookPublicUrl", "https://a.example/x/")]), (Some("https://a.example/x".into()), 0));
        let site = ("WEBSITE_HOSTNAME", "app.azurewebsites.net");
        assert_eq!(read(&[site]), (Some("https://app.azurewebsites.net".into()), 0));
        assert_eq!(read(&[site, ("webhookpublicurl", "http://b:81")]), (Some("http://b:81".into()), 0));
        assert_eq!(read(&[("WEBSITE_HOSTNAME", "localhost:7071")]), (Some("http://localhost:7071".into()), 0));
        assert_eq!(read(&[("WEBSITE_HOSTNAME", "App.example/")]), (Some("https://app.example".into()), 0));
        for bad in ["https://a/?code=k", "https://u:p@a/", "https://a/#f", "ftp://a", "a"] {
            assert_eq!(read(&[("WebhookPublicUrl", bad)]), (None, 1), "{bad}");
        }
    }
}
