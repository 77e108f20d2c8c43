//! ImagePush as the registry sees it: what it waits for, and what it answers to a webhook.

use std::fmt;

use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::api::Health;
use crate::cli::client::{Client, said};

/// The answer to one webhook.
#[derive(Debug)]
pub(super) enum Reply {
    /// 202, with the push it belongs to.
    Accepted { id: String, status: Url },
    /// Another success: understood, and nothing comes of it.
    Ignored(String),
    /// An error of this webhook only.
    Refused { status: StatusCode, why: String },
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { id, .. } => write!(f, "202, push {id}"),
            Self::Ignored(why) => write!(f, "200, ignored: {why}"),
            Self::Refused { status, why } => write!(f, "{}: {why}", status.as_u16()),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedBody {
    id: String,
    status_query_get_uri: String,
}

/// Asks for the configured regions.
pub(super) async fn health(service: &Client) -> Result<Health, String> {
    let answer = service.call(Method::GET, &service.url(&["ImagePush"], &[]), None).await?;
    if answer.status != StatusCode::OK {
        return Err(service.refusal(&answer).text);
    }
    let health: Health = answer.document().map_err(|_| {
        format!("{} does not say which regions it waits for; name them with --regions.", service.shown())
    })?;
    if health.regions.is_empty() {
        return Err("The service waits for no region; name some with --regions.".into());
    }
    Ok(health)
}

/// Sends one regional webhook. Fails only where every further one would fail too.
pub(super) async fn post(service: &Client, region: &str, body: String) -> Result<Reply, String> {
    let url = service.url(&["ImagePush"], &[("region", region)]);
    let answer = service.call(Method::POST, &url, Some(body)).await?;
    let status = answer.status;
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
        return Err(service.refusal(&answer).text);
    }
    if !status.is_success() {
        return Ok(Reply::Refused { status, why: said(&answer.body).1 });
    }
    if status != StatusCode::ACCEPTED {
        return Ok(Reply::Ignored(said(&answer.body).1));
    }
    let accepted: AcceptedBody = serde_json::from_str(&answer.body)
        .map_err(|_| format!("{} answered 202 without `id` and `statusQueryGetUri`.", service.shown()))?;
    let status = Url::parse(&accepted.status_query_get_uri)
        .map_err(|e| format!("The service gave a status address that is none: {e}."))?;
    Ok(Reply::Accepted { id: accepted.id, status })
}
