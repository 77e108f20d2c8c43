//! Asks the service, and knocks at its receivers' doors.

use std::time::Duration;

use futures_util::future::{join, join_all};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;

use crate::api::{Health, Item, List, Regions, State, Tested, Tests};
use crate::cli::client::{Answer, Client, Kind, Trouble, said};
use crate::clock::{Clock as _, SystemClock};
use crate::doctor::{self, Answered, Connected, Gap, Known, Pushes, Service};
use crate::outgoing;

/// Pushes of a page, and pages of a list.
const PAGE: (&str, usize) = ("1000", 5);

/// Time for a connection to a receiver, and for its first words.
const KNOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks for settings, health and clock.
pub(super) async fn ask(client: &Client) -> Service {
    let sent = SystemClock.now();
    let url = client.url(&["ImagePush"], &[]);
    let answer = client.call(Method::GET, &url, None).await;
    let here = sent + (SystemClock.now() - sent) / 2;
    let date = answer.as_ref().ok().and_then(|answer| answer.date);
    let ahead_ms = date.map(|date| (date - here).num_milliseconds() + 500);
    Service {
        url: client.shown(),
        answered: match answer {
            Ok(answer) => answered(client, &answer),
            Err(trouble) => Answered::Otherwise(trouble.text),
        },
        ahead_ms: ahead_ms.ok_or_else(|| Gap::unasked("There was no answer with a `Date`.", "See service.answers.")),
    }
}

fn answered(client: &Client, answer: &Answer) -> Answered {
    // 503 is also that of a service whose storage is away.
    if matches!(answer.status.as_u16(), 200 | 503)
        && let Ok(health) = answer.document::<Health>()
    {
        return Answered::Health(Box::new(health));
    }
    match said(&answer.body) {
        (Some(code), faults) if code == "misconfigured" => Answered::Misconfigured(faults),
        _ if answer.status.is_success() => Answered::Otherwise(format!(
            "{} answers, and is not this service; its address is all that stands before /api/.",
            client.shown()
        )),
        _ => match client.refusal(answer) {
            Trouble { kind: Kind::Refused, text } => Answered::Refused(text),
            Trouble { text, .. } => Answered::Otherwise(text),
        },
    }
}

/// Asks for pushes and for regions: under the Functions host each function has keys of its own.
pub(super) async fn operators(client: &Client, answered: &Answered) -> (Known<Pushes>, Known<Regions>) {
    match answered {
        Answered::Health(_) | Answered::Refused(_) => join(pushes(client), get(client, "regions", &[])).await,
        Answered::Misconfigured(_) | Answered::Otherwise(_) => {
            let gap = Gap::unasked("The service does not answer.", "See service.answers.");
            (Err(gap.clone()), Err(gap))
        }
    }
}

async fn pushes(client: &Client) -> Known<Pushes> {
    let mut is_cut = false;
    // Together they go back by days; those that wait alone only by little more than the time-out.
    let open = list(client, &[("status", "waiting,owing")], &mut is_cut).await?;
    let (waiting, owing) = open.into_iter().partition(|item| item.status.state == State::Waiting);
    let exhausted = list(client, &[("status", "exhausted"), ("since", "24h")], &mut is_cut).await?;
    Ok(Pushes { waiting, owing, exhausted, is_cut })
}

async fn list(client: &Client, what: &[(&str, &str)], is_cut: &mut bool) -> Known<Vec<Item>> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    for _ in 0..PAGE.1 {
        let mut query = what.to_vec();
        query.push(("limit", PAGE.0));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: List = get(client, "pushes", &query).await?;
        all.extend(page.pushes);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(all);
        }
    }
    *is_cut = true;
    Ok(all)
}

async fn get<T: DeserializeOwned>(client: &Client, what: &str, query: &[(&str, &str)]) -> Known<T> {
    let gap = |trouble: Trouble| {
        let action = if trouble.kind == Kind::Passing { "Run it again." } else { doctor::HOST_KEY };
        Gap::unasked(&format!("/api/{what}: {}", trouble.text), action)
    };
    client.get(&[what], query).await.map_err(gap)?.document().map_err(gap)
}

/// Has the service send a test to each receiver that it names, if that is wanted.
pub(super) async fn test(client: &Client, answered: &Answered, is_wanted: bool) -> Known<Vec<Tested>> {
    if !is_wanted {
        let action = "Give it: the service then sends every receiver a test, which names no image.";
        return Err(Gap::unasked("--test-notification was not given.", action));
    }
    if !matches!(answered, Answered::Health(_) | Answered::Refused(_)) {
        return Err(Gap::unasked("The service does not answer.", "See service.answers."));
    }
    let again = "Run it again.";
    let url = client.url(&["pushes", "test"], &[]);
    let answer = client.call(Method::POST, &url, None).await;
    let answer = answer.map_err(|trouble| Gap::refused(trouble.text, again))?;
    let action = match (answer.status.as_u16(), answer.document::<Tests>()) {
        // 502 is also that of a service one of whose receivers did not take it.
        (200 | 502, Ok(tests)) => return Ok(tests.targets),
        (409, _) if said(&answer.body).0.as_deref() == Some("no_targets") => return Ok(Vec::new()),
        (401 | 403, _) => doctor::HOST_KEY,
        (404 | 405, _) => "Deploy the release that this command is of: a service that is older has no such call.",
        _ => again,
    };
    Err(Gap::refused(client.refusal(&answer).text, action))
}

/// Knocks at the doors of the receivers that the service names.
pub(super) async fn receivers(answered: &Answered) -> Known<Vec<Connected>> {
    let Answered::Health(health) = answered else {
        return Err(Gap::unasked("The receivers are not known.", "See service.answers."));
    };
    let client = reqwest::Client::builder()
        .connect_timeout(KNOCK_TIMEOUT)
        .timeout(KNOCK_TIMEOUT * 2)
        .redirect(reqwest::redirect::Policy::none())
        // As the service does it.
        .no_proxy()
        .build()
        .map_err(|_| Gap::unasked("No HTTPS client can be set up on this machine.", "See to its certificates."))?;
    let targets = doctor::receivers(&health.targets);
    let client = &client;
    let each = targets.into_iter().map(|(target, url)| async move {
        let trouble = knock(client, &url).await;
        Connected { target, origin: url.origin().ascii_serialization(), trouble }
    });
    Ok(join_all(each).await)
}

/// Why there is no connection. It asks for the head of `/`, with nothing of the receiver's own path, headers and secrets; whatever
/// is answered, there is one.
async fn knock(client: &reqwest::Client, url: &Url) -> Option<String> {
    let error = client.head(url.clone()).send().await.err()?;
    // Connected, and not in the mood for a HEAD.
    if !error.is_connect() && !error.is_timeout() {
        return None;
    }
    Some(match error.is_timeout() {
        true => format!("no connection within {} s", KNOCK_TIMEOUT.as_secs()),
        false => outgoing::cause(&error),
    })
}
