//! `/api/pushes…`: what a push is doing, in the shape of a Durable Functions status query, and what an operator may do to it.

use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Problem;
use super::image_push::STATUS_RETRY_AFTER;
use super::{Web, push_url, query};
use crate::clock::{self, Clock, Instant};
use crate::engine::Done;
use crate::limits;
use crate::push::state::{Delivery, Entry, Outcome, Row, Seen};
use crate::push::{Did, Input, Notice, PushId, Region};
use crate::service::Service;
use crate::store::Which;

/// Pushes of one page when `limit` does not say otherwise, and at most.
const PAGE: (usize, usize) = (50, 1000);

pub(super) async fn handle(request: &HttpRequest, path: &[&str], web: &Web) -> Result<HttpResponse, Problem> {
    let service = web.service.as_ref().map_err(|faults| Problem::misconfigured(faults))?;
    let _place = place(&*web.clock).await?;
    match (path, request.method()) {
        ([], &Method::GET) => list(request, service).await,
        ([], &Method::DELETE) => remove(request, service).await,
        ([], _) => Err(Problem::method("GET, DELETE")),
        ([id], &Method::GET | &Method::HEAD) => {
            let row = find(id, service).await?.ok_or_else(Problem::unknown_push)?;
            Ok(answer(request, &row))
        }
        ([id], &Method::DELETE) => {
            let done = service.apply(named(id, service).await?, Input::Purge).await?;
            if done.did == Did::Purged {
                Ok(HttpResponse::Ok().json(json!({ "instancesDeleted": 1 })))
            } else if done.did == Did::Owing {
                Err(Problem::new(
                    StatusCode::CONFLICT,
                    "push_owing",
                    "This push still waits or owes a notification; terminate it, or let it end, before.",
                ))
            } else {
                Err(Problem::unknown_push())
            }
        }
        ([_], _) => Err(Problem::method("GET, DELETE")),
        ([id, "terminate"], &Method::POST) => {
            let done = service.apply(named(id, service).await?, Input::Terminate).await?;
            operated(request, &done)
        }
        ([id, "redeliver"], &Method::POST) => {
            let target = query(request, "target").into_iter().next();
            let done = service.apply(named(id, service).await?, Input::Redeliver(target)).await?;
            operated(request, &done)
        }
        ([_, "terminate" | "redeliver"], _) => Err(Problem::method("POST")),
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")),
    }
}

/// Places for calls that are worked on, of the whole process.
static PLACES: Semaphore = Semaphore::const_new(limits::OPERATOR_CALLS_MAX);

/// A place to work in, until the answer is made.
async fn place(clock: &dyn Clock) -> Result<SemaphorePermit<'static>, Problem> {
    let place = clock::within(clock, limits::OPERATOR_CALL_BUDGET, PLACES.acquire()).await;
    place.and_then(Result::ok).ok_or_else(|| {
        let message = "Too many calls are being worked on; try again.";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_calls", message)
    })
}

/// The name of a push, also of one that is named by its bare key.
async fn named(id: &str, service: &Service) -> Result<PushId, Problem> {
    if let Ok(push) = id.parse() {
        return Ok(push);
    }
    Ok(find(id, service).await?.ok_or_else(Problem::unknown_push)?.id.clone())
}

/// A push by its id, or the newest round by its bare key: a spilled arrival does not know its round yet.
async fn find(id: &str, service: &Service) -> Result<Option<Arc<Row>>, Problem> {
    let which = match id.parse::<PushId>() {
        Ok(push) => Which::Push(push),
        Err(_) => Which::Newest(id.parse().map_err(|_| Problem::unknown_push())?),
    };
    Ok(service.run(|engine| async move { engine.row(&which).await }).await?)
}

fn operated(request: &HttpRequest, done: &Done) -> Result<HttpResponse, Problem> {
    if done.did == Did::UnknownTarget {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "unknown_target",
            "This push has no notification for a target of that name; its status lists those there are.",
        ));
    }
    let row = done.row.as_ref().ok_or_else(Problem::unknown_push)?;
    Ok(HttpResponse::Accepted()
        .json(json!({ "did": done.did.word(), "statusQueryGetUri": push_url(request, &row.id.to_string()) })))
}

/// Removes what was opened before the query's `until`.
async fn remove(request: &HttpRequest, service: &Service) -> Result<HttpResponse, Problem> {
    // A plus sign that was not escaped has become a blank.
    let until = query(request, "until").first().map(|text| text.replace(' ', "+"));
    let until = until.and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok()).ok_or_else(|| {
        let message = "The query member `until` must be an instant such as `2026-11-01T00:00:00Z`: settled pushes that were opened before it and owe nothing are removed.";
        Problem::bad_request("until", message)
    })?;
    let removed = service.run(|engine| async move { engine.remove_before(until.to_utc()).await }).await?;
    Ok(HttpResponse::Ok().json(json!({ "instancesDeleted": removed.count, "more": removed.next.is_some() })))
}

async fn list(request: &HttpRequest, service: &Service) -> Result<HttpResponse, Problem> {
    let limit = match query(request, "limit").first() {
        None => PAGE.0,
        Some(text) => text.parse().ok().filter(|n| (1..=PAGE.1).contains(n)).ok_or_else(|| {
            Problem::bad_request("limit", format!("The query member `limit` must be a number from 1 to {}.", PAGE.1))
        })?,
    };
    let cursor = query(request, "cursor").into_iter().next();
    let page = service.run(|engine| async move { engine.list(limit, cursor.as_deref()).await }).await?;
    let pushes: Vec<Value> = page
        .rows
        .iter()
        .map(|row| {
            let id = row.id.to_string();
            json!({
                "instanceId": id,
                "runtimeStatus": runtime_status(row.settled().is_some()),
                "createdTime": time(row.opened),
                "lastUpdatedTime": time(row.updated),
                "image": row.subject.image(),
                "outcome": row.settled().map(|s| outcome(s.outcome)),
                "statusQueryGetUri": push_url(request, &id),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "pushes": pushes, "next": page.next })))
}

fn runtime_status(settled: bool) -> &'static str {
    if settled { "Completed" } else { "Running" }
}

fn answer(request: &HttpRequest, row: &Row) -> HttpResponse {
    let body = document(row);
    if row.settled().is_some() {
        return HttpResponse::Ok().json(body);
    }
    HttpResponse::Accepted()
        .insert_header((header::LOCATION, push_url(request, &row.id.to_string())))
        .insert_header((header::RETRY_AFTER, STATUS_RETRY_AFTER))
        .json(body)
}

fn time(at: Instant) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The members of a Durable Functions status query; what is particular to a push stands in `customStatus`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    instance_id: String,
    runtime_status: &'static str,
    created_time: String,
    last_updated_time: String,
    /// The registry's JSON as it came, numbers included.
    input: Option<&'a RawValue>,
    custom_status: Value,
    output: Option<Value>,
}

fn document(row: &Row) -> Document<'_> {
    let settled = row.settled();
    Document {
        instance_id: row.id.to_string(),
        runtime_status: runtime_status(settled.is_some()),
        created_time: time(row.opened),
        last_updated_time: time(row.updated),
        input: serde_json::from_str(&row.payload).ok(),
        custom_status: custom(row),
        output: settled.map(|s| {
            json!({
                "outcome": outcome(s.outcome),
                "settled": time(s.at),
                "terminated": s.terminated,
                "missing": s.missing,
                "recovered": s.recovered.map(time),
                "durationMs": (s.at - row.opened).num_milliseconds(),
            })
        }),
    }
}

fn custom(row: &Row) -> Value {
    let seen = |region: &Region, seen: Option<&Seen>| {
        json!({
            "arrived": seen.map(|s| time(s.at)),
            "late": row.is_late(region),
            "id": seen.map(|s| &s.id),
            "repeats": seen.map_or(0, |s| s.repeats),
            "lastRepeat": seen.and_then(|s| s.repeated).map(time),
            "before": row.before.get(region).map(|at| time(*at)),
        })
    };
    let regions: Map<String, Value> =
        row.regions.iter().map(|region| (region.to_string(), seen(region, row.arrived.get(region)))).collect();
    let unawaited: Map<String, Value> =
        row.unawaited.iter().map(|(region, s)| (region.to_string(), seen(region, Some(s)))).collect();
    let subject = &row.subject;
    json!({
        "outcome": row.settled().map(|s| outcome(s.outcome)),
        "image": subject.image(),
        "registry": subject.registry,
        "action": subject.action,
        "digest": subject.digest,
        "companion": subject.is_companion(),
        "regions": regions,
        "unawaited": unawaited,
        "missing": row.missing(),
        "deadline": time(row.deadline),
        "correlation": row.correlation,
        "correlationKey": row.id.key.as_str(),
        "round": row.id.round,
        "rule": row.rule,
        "idsMatched": row.ids_matched(),
        "notifications": row.settled().map(|s| s.outbox.iter().map(|e| notification(row, e)).collect::<Vec<_>>()),
    })
}

fn notification(row: &Row, entry: &Entry) -> Value {
    let id = row.notification_id(entry.notice);
    let head = json!({ "target": entry.target, "notice": entry.notice.word(), "id": id });
    let state = match &entry.delivery {
        Delivery::Owed { claims, not_before, lease_until, last_error, .. } => json!({
            "state": "owed", "attempts": claims, "notBefore": time(*not_before),
            "leaseUntil": lease_until.map(time), "lastError": last_error,
        }),
        Delivery::Confirmed { attempt, at, status } => {
            json!({ "state": "confirmed", "attempts": attempt, "at": time(*at), "status": status })
        }
        Delivery::Exhausted { attempt, at, reason } => {
            json!({ "state": "exhausted", "attempts": attempt, "at": time(*at), "reason": reason })
        }
        Delivery::Overtaken { attempt, at, .. } => {
            json!({ "state": "overtaken", "attempts": attempt, "at": time(*at) })
        }
    };
    match (head, state) {
        (Value::Object(mut head), Value::Object(state)) => {
            head.extend(state);
            Value::Object(head)
        }
        (head, _) => head,
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    Notice::from(outcome).word()
}
