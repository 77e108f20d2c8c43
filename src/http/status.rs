//! `/api/pushes…`: what a push is doing, in the shape of a Durable Functions status query, and what an operator may do to it.

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::error::Problem;
use super::image_push::STATUS_RETRY_AFTER;
use super::{Web, push_url, query};
use crate::clock::Instant;
use crate::engine::{Done, Purge};
use crate::push::PushId;
use crate::push::state::{Delivery, Entry, Outcome, Row};
use crate::service::Service;

/// Pushes of one page when `limit` does not say otherwise, and at most.
const PAGE: (usize, usize) = (50, 1000);

pub(super) async fn handle(request: &HttpRequest, path: &[&str], web: &Web) -> Result<HttpResponse, Problem> {
    let service = web.service.as_ref().map_err(|faults| Problem::misconfigured(faults))?;
    match (path, request.method()) {
        ([], &Method::GET) => list(request, service).await,
        ([], _) => Err(Problem::method("GET")),
        ([id], &Method::GET | &Method::HEAD) => {
            let row = find(id, service).await?.ok_or_else(Problem::unknown_push)?;
            Ok(answer(request, &row))
        }
        ([id], &Method::DELETE) => match purge(named(id, service).await?, service).await? {
            None => Err(Problem::unknown_push()),
            Some(Purge::Purged) => Ok(HttpResponse::Ok().json(json!({ "instancesDeleted": 1 }))),
            Some(Purge::Owing) => Err(Problem::new(
                StatusCode::CONFLICT,
                "push_owing",
                "This push still waits or owes a notification, or is the first of several of the same content; terminate it first, let it end, or remove the later ones before.",
            )),
        },
        ([_], _) => Err(Problem::method("GET, DELETE")),
        ([id, "terminate"], &Method::POST) => {
            let done = service.terminate(named(id, service).await?).await?;
            operated(request, &done)
        }
        ([id, "redeliver"], &Method::POST) => {
            let target = query(request, "target").into_iter().next();
            let done = service.redeliver(named(id, service).await?, target).await?;
            operated(request, &done)
        }
        ([_, "terminate" | "redeliver"], _) => Err(Problem::method("POST")),
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "not_found", "There is nothing at this path.")),
    }
}

/// The name of a push, also of one that is named by its bare key.
async fn named(id: &str, service: &Service) -> Result<PushId, Problem> {
    if let Ok(push) = id.parse() {
        return Ok(push);
    }
    Ok(find(id, service).await?.ok_or_else(Problem::unknown_push)?.id)
}

/// A push by its id, or the newest round by its bare key: a spilled arrival does not know its round yet.
async fn find(id: &str, service: &Service) -> Result<Option<Row>, Problem> {
    if let Ok(push) = id.parse::<PushId>() {
        return Ok(service.run(|engine| async move { engine.row(&push).await }).await?);
    }
    let first = format!("{id}-1").parse::<PushId>().map_err(|_| Problem::unknown_push())?;
    Ok(service.run(|engine| async move { engine.newest(&first.key).await }).await?)
}

async fn purge(id: PushId, service: &Service) -> Result<Option<Purge>, Problem> {
    Ok(service.run(|engine| async move { engine.purge(&id).await }).await?)
}

fn operated(request: &HttpRequest, done: &Done) -> Result<HttpResponse, Problem> {
    let row = done.row.as_ref().ok_or_else(Problem::unknown_push)?;
    Ok(HttpResponse::Accepted()
        .json(json!({ "did": done.what.word(), "statusQueryGetUri": push_url(request, &row.id.to_string()) })))
}

async fn list(request: &HttpRequest, service: &Service) -> Result<HttpResponse, Problem> {
    let limit = match query(request, "limit").first() {
        None => PAGE.0,
        Some(text) => text.parse().ok().filter(|n| (1..=PAGE.1).contains(n)).ok_or_else(|| {
            Problem::bad_request("limit", format!("The query member `limit` must be a number from 1 to {}.", PAGE.1))
        })?,
    };
    let cursor = query(request, "cursor").into_iter().next();
    let (pushes, next) = service.run(|engine| async move { engine.list(limit, cursor.as_deref()).await }).await?;
    let pushes: Vec<Value> = pushes
        .iter()
        .map(|push| {
            let id = push.id.to_string();
            json!({
                "instanceId": id,
                "runtimeStatus": runtime_status(push.outcome.is_some()),
                "createdTime": time(push.opened),
                "lastUpdatedTime": time(push.updated),
                "image": push.image,
                "outcome": push.outcome.map(outcome),
                "statusQueryGetUri": push_url(request, &id),
            })
        })
        .collect();
    Ok(HttpResponse::Ok().json(json!({ "pushes": pushes, "next": next })))
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
                "missing": names(&row.missing_at_settling()),
                "recovered": s.recovered.map(time),
                "durationMs": (s.at - row.opened).num_milliseconds(),
            })
        }),
    }
}

fn custom(row: &Row) -> Value {
    let mut regions = Map::new();
    for region in row.regions.iter().chain(row.settled().into_iter().flat_map(|s| s.late.keys())) {
        let late = !row.arrived.contains_key(region) && row.arrival_of(region).is_some();
        let arrival = row.arrival_of(region);
        let entry = json!({ "arrived": arrival.map(|a| time(a.at)), "late": late, "id": arrival.map(|a| &a.id) });
        regions.insert(region.to_string(), entry);
    }
    let subject = &row.subject;
    json!({
        "outcome": row.settled().map(|s| outcome(s.outcome)),
        "image": subject.image(),
        "registry": subject.registry,
        "action": subject.action,
        "digest": subject.digest,
        "regions": regions,
        "repeated": row.repeated.iter().map(|(region, at)| json!({ "region": region, "arrived": time(at.at), "id": at.id })).collect::<Vec<_>>(),
        "missing": names(&row.missing()),
        "deadline": time(row.deadline),
        "correlation": row.correlation,
        "correlationKey": row.id.key.as_str(),
        "round": row.id.round,
        "rule": row.rule,
        "idsMatched": row.ids_matched(),
        "superseded": row.settled().is_some_and(|s| s.superseded),
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
    crate::push::Notice::from(outcome).word()
}

fn names(regions: &[&crate::push::Region]) -> Vec<String> {
    regions.iter().map(ToString::to_string).collect()
}
