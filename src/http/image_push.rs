//! `/api/ImagePush`: one region's webhook comes in (POST), or a person opens the address (GET).

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;

use super::error::Problem;
use super::query::{self, NoRegion};
use super::{Body, Web, push_urls, read};
use crate::limits;
use crate::push::arrival::{self, Arrival, Webhook};
use crate::push::{Did, Region, Subject};
use crate::service::Taken;

/// Seconds after which a status is worth asking for again.
pub(super) const STATUS_RETRY_AFTER: &str = "5";

pub(super) async fn handle(request: &HttpRequest, body: web::Payload, web: &Web) -> Result<HttpResponse, Problem> {
    let service = web.service();
    match *request.method() {
        Method::GET | Method::HEAD => {
            let health = service?.run(|engine| async move { Ok(engine.health().await) }).await?;
            let works = health.as_ref().is_ok_and(|health| health.rows.is_ok() && health.queue.is_ok());
            let status = if works { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            Ok(HttpResponse::build(status).json(web.described.health(health.as_ref())))
        }
        Method::POST => {
            let service = service?;
            let received = web.clock.now();
            let region = region(request, web)?;
            let Body { bytes, place: _place } = read(body, limits::WEBHOOK_BYTES_MAX).await?;
            let (id, subject) = match arrival::parse(&bytes)? {
                Webhook::Ping if !web.described.knows(&region) => return Err(unknown_region(&region, web)),
                Webhook::Ping => {
                    return Ok(HttpResponse::Ok().json(json!({ "ping": "ok", "region": region.as_str() })));
                }
                Webhook::Unknown => {
                    let what = "webhook ignored: its action is none that this service knows";
                    web.refused.count("action_unknown", Some(region.as_str()));
                    web.refused.note("action_unknown", what, Some(region.as_str()), None, &web.clock);
                    return Ok(ignored("this action starts nothing"));
                }
                Webhook::FanIn { id, subject } => (id, subject),
            };
            let payload = String::from_utf8(bytes)
                .map_err(|_| Problem::bad_request("body_not_json", "The body is not UTF-8 text."))?;
            let registry = service.registry().map_or_else(|| subject.registry.clone(), str::to_owned);
            let subject = Subject { registry, ..subject };
            // For what is refused below; of what the storage refuses, the engine's line says it.
            let image = (!web.described.knows(&region)).then(|| subject.image());
            let arrival = Arrival { region: region.clone(), received, id, subject, payload };
            let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
            match service.arrive(arrival, service.caller(traceparent)).await? {
                Taken::Spilled(key) => Ok(accepted(request, web, key.as_str())),
                Taken::Done(done) => match (done.did, done.row) {
                    (Did::UnknownRegion, _) => Err(unknown_region(&region, web).about(image)),
                    (Did::Ignored(reason), _) => Ok(ignored(&reason)),
                    (_, Some(row)) => Ok(accepted(request, web, &row.id.to_string())),
                    (_, None) => Ok(ignored("nothing waits for it")),
                },
            }
        }
        _ => Err(Problem::method("GET, POST")),
    }
}

/// The one region of the query.
fn region(request: &HttpRequest, web: &Web) -> Result<Region, Problem> {
    query::region(request.query_string()).map_err(|why| match why {
        NoRegion::Missing => {
            let known = web.described.regions.join(", ");
            let message = format!(
                "The query member `region` is missing or empty: add `region=<name>` to the webhook's URL, one of: {known}."
            );
            Problem::bad_request("region_missing", message)
        }
        NoRegion::Invalid(why) => {
            Problem::bad_request("region_invalid", format!("The query member `region` is not usable: {why}."))
        }
        NoRegion::Ambiguous => Problem::bad_request(
            "region_ambiguous",
            "The query member `region` stands more than once with different values; a webhook is for one region.",
        ),
    })
}

fn unknown_region(region: &Region, web: &Web) -> Problem {
    let known = web.described.regions.join(", ");
    Problem::bad_request(
        "region_unknown",
        format!(
            "The region `{region}` is not configured; configured are: {known}. Correct the webhook's URL or the setting WebhookRegions."
        ),
    )
}

fn ignored(reason: &str) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "ignored": reason }))
}

/// The document the Durable Functions original answered with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Accepted<'a> {
    id: &'a str,
    status_query_get_uri: &'a str,
    purge_history_delete_uri: &'a str,
    terminate_post_uri: &'a str,
}

fn accepted(request: &HttpRequest, web: &Web, id: &str) -> HttpResponse {
    let [status, terminate] = push_urls(request, id, ["", "/terminate"], web.doors.key_follows_links());
    HttpResponse::Accepted()
        .insert_header((header::LOCATION, status.as_str()))
        .insert_header((header::RETRY_AFTER, STATUS_RETRY_AFTER))
        .json(Accepted {
            id,
            status_query_get_uri: &status,
            purge_history_delete_uri: &status,
            terminate_post_uri: &terminate,
        })
}
