//! `/api/pushes…` and `/api/regions`: what pushes are doing, and what an operator may do to them. The documents are those of
//! [`crate::api`], in the shape of a Durable Functions status query.

pub(super) mod filter;
mod wait;

use std::sync::Arc;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::filter::{IMAGE_MEMBERS, LIST_MEMBERS, Members};
use super::error::Problem;
use super::image_push::STATUS_RETRY_AFTER;
use super::{Web, openapi, push_url, query};
use crate::api::{Item, List, Operated, Purged, Push, Regions, Tests};
use crate::clock::{self, Clock};
use crate::engine::Done;
use crate::limits;
use crate::push::{Did, Input, PushId, Region, Row};
use crate::service::Service;
use crate::store::{Search, Which};

/// A call below `/api/pushes`.
enum Call<'p> {
    /// The newest push of an image.
    Newest,
    /// A page of pushes.
    List,
    /// Pushes that are old are removed.
    RemoveOld,
    /// Receivers are sent a test.
    Test,
    /// What follows is about one push, of this id.
    Show(&'p str),
    Purge(&'p str),
    Terminate(&'p str),
    Redeliver(&'p str),
    /// With the region that is reported by hand.
    Report(&'p str, &'p str),
}

impl<'p> Call<'p> {
    /// The call of a method and what follows `/api/pushes` in the path.
    fn of(method: &Method, path: &[&'p str], names_image: bool) -> Result<Self, Problem> {
        match (path, method) {
            ([], &Method::GET) if names_image => Ok(Self::Newest),
            ([], &Method::GET) => Ok(Self::List),
            ([], &Method::DELETE) => Ok(Self::RemoveOld),
            ([], _) => Err(Problem::method("GET, DELETE")),
            (["test"], &Method::POST) => Ok(Self::Test),
            (["test"], _) => Err(Problem::method("POST")),
            ([id], &Method::GET | &Method::HEAD) => Ok(Self::Show(id)),
            ([id], &Method::DELETE) => Ok(Self::Purge(id)),
            ([_], _) => Err(Problem::method("GET, DELETE")),
            ([id, "terminate"], &Method::POST) => Ok(Self::Terminate(id)),
            ([id, "redeliver"], &Method::POST) => Ok(Self::Redeliver(id)),
            ([id, "regions", region], &Method::POST) => Ok(Self::Report(id, region)),
            ([_, "terminate" | "redeliver"] | [_, "regions", _], _) => Err(Problem::method("POST")),
            _ => Err(Problem::nothing_here()),
        }
    }

    /// Members that its query may have. A misspelt one must not do more than was asked for, so there is no call without.
    fn members(&self) -> &'static [&'static str] {
        match self {
            Self::Newest => IMAGE_MEMBERS,
            Self::List => LIST_MEMBERS,
            Self::RemoveOld => &["until"],
            Self::Test | Self::Redeliver(_) => &["target"],
            Self::Show(_) | Self::Purge(_) | Self::Terminate(_) | Self::Report(..) => &[],
        }
    }
}

/// Answers a call below `/api/pushes`; `path` is what follows it.
pub(super) async fn handle(request: &HttpRequest, path: &[&str], web: &Web) -> Result<HttpResponse, Problem> {
    if let (["openapi.json"], &Method::GET) = (path, request.method()) {
        Members::read(request.query_string(), &[])?;
        return Ok(openapi::answer());
    }
    let call = Call::of(request.method(), path, !query(request, "image").is_empty())?;
    let members = Members::read(request.query_string(), call.members())?;
    let service = web.service()?;
    // A call that waits has a place of another kind.
    let _place = if matches!(call, Call::Newest) { None } else { Some(place(&*web.clock).await?) };
    match call {
        Call::Newest => wait::handle(request, &members, service, web).await,
        Call::List => list(request, &members, service, web).await,
        Call::RemoveOld => remove(&members, service, web).await,
        Call::Test => test(&members, service).await,
        Call::Show(id) => {
            let row = find(id, service).await?.ok_or_else(Problem::unknown_push)?;
            Ok(shown(request, &row, row.settled().is_some()))
        }
        Call::Purge(id) => purge(id, service).await,
        Call::Terminate(id) => operate(request, id, Input::Terminate, service).await,
        Call::Redeliver(id) => {
            let target = members.named("target")?.map(str::to_owned);
            operate(request, id, Input::Redeliver(target), service).await
        }
        Call::Report(id, region) => {
            let region = Region::parse(region).map_err(|why| {
                Problem::bad_request("region_invalid", format!("The region in the path is not usable: {why}."))
            })?;
            operate(request, id, Input::ByHand(region), service).await
        }
    }
}

/// Answers `GET /api/regions`.
pub(super) async fn regions(request: &HttpRequest, web: &Web) -> Result<HttpResponse, Problem> {
    let service = web.service()?;
    if *request.method() != Method::GET {
        return Err(Problem::method("GET"));
    }
    let _place = place(&*web.clock).await?;
    Ok(HttpResponse::Ok().json(&*summary(request.query_string(), service, web).await?))
}

/// The regions over the span that a query asks for.
pub(super) async fn summary(query: &str, service: &Service, web: &Web) -> Result<Arc<Regions>, Problem> {
    let (since, until, words) = Members::read(query, &["since", "until"])?.window(web.clock.now())?;
    Ok(service.run(|engine| async move { engine.regions(&words, since, until).await }).await?)
}

/// Places for calls that are worked on, of the whole process.
static PLACES: Semaphore = Semaphore::const_new(limits::OPERATOR_CALLS_MAX);

/// A place to work in, until the answer is made.
pub(super) async fn place(clock: &dyn Clock) -> Result<SemaphorePermit<'static>, Problem> {
    let place = clock::within(clock, limits::OPERATOR_CALL_BUDGET, PLACES.acquire()).await;
    place.and_then(Result::ok).ok_or_else(Problem::too_many_calls)
}

/// The name of a push, also of one that is named by its bare key.
async fn named(id: &str, service: &Service) -> Result<PushId, Problem> {
    if let Ok(push) = id.parse() {
        return Ok(push);
    }
    Ok(find(id, service).await?.ok_or_else(Problem::unknown_push)?.id.clone())
}

/// A push by its id, or the newest round by its bare key: a spilled arrival does not know its round yet.
pub(super) async fn find(id: &str, service: &Service) -> Result<Option<Arc<Row>>, Problem> {
    let which = match id.parse::<PushId>() {
        Ok(push) => Which::Push(push),
        Err(_) => Which::Newest(id.parse().map_err(|_| Problem::unknown_push())?),
    };
    Ok(service.run(|engine| async move { engine.row(&which).await }).await?)
}

/// Removes what was opened before the query's `until`.
async fn remove(members: &Members, service: &Service, web: &Web) -> Result<HttpResponse, Problem> {
    let until = members.instant("until", web.clock.now())?.ok_or_else(|| {
        let message = "The query member `until` is missing: settled pushes that were opened before this instant, such as 2026-11-27T03:00:00Z, or longer ago than such as 30d, and owe nothing, are removed.";
        Problem::bad_request("until", message)
    })?;
    let removed = service.run(|engine| async move { engine.remove_before(until).await }).await?;
    Ok(HttpResponse::Ok().json(Purged { instances_deleted: removed.count, more: removed.next.is_some() }))
}

async fn purge(id: &str, service: &Service) -> Result<HttpResponse, Problem> {
    let done = service.apply(named(id, service).await?, Input::Purge).await?;
    if done.did == Did::Purged {
        return Ok(HttpResponse::Ok().json(Purged { instances_deleted: 1, more: false }));
    }
    if done.did == Did::Owing {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "push_owing",
            "This push still waits or owes a notification; terminate it, or let it end, before.",
        ));
    }
    Err(Problem::unknown_push())
}

async fn operate(request: &HttpRequest, id: &str, input: Input, service: &Service) -> Result<HttpResponse, Problem> {
    let Done { did, row, .. } = service.apply(named(id, service).await?, input).await?;
    if did == Did::UnknownTarget {
        let message = "This push has no notification for a target of that name; its status lists those there are.";
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_target", message));
    }
    if did == Did::UnknownRegion {
        let message = "This push does not wait for a region of that name; its status lists those it waits for.";
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_region", message));
    }
    let row = row.ok_or_else(Problem::unknown_push)?;
    let address = push_url(request, &row.id.to_string());
    Ok(HttpResponse::Accepted().json(Operated { did: did.word().to_owned(), status_query_get_uri: address }))
}

/// Sends a test to one receiver, or to each.
async fn test(members: &Members, service: &Service) -> Result<HttpResponse, Problem> {
    let target = members.get("target").map(str::to_owned);
    let is_named = target.is_some();
    let Some(targets) = service.test(target).await? else {
        let message = "Another test is under way; try again once it has ended, after 10 s at most.";
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "test_under_way", message));
    };
    if targets.is_empty() && is_named {
        let message = "The settings have no target of that name; `GET /api/ImagePush` lists those there are.";
        return Err(Problem::new(StatusCode::NOT_FOUND, "unknown_target", message));
    }
    if targets.is_empty() {
        let message = "There is no receiver to test: the setting WebhookTargets names none.";
        return Err(Problem::new(StatusCode::CONFLICT, "no_targets", message));
    }
    let all = targets.iter().all(|tested| tested.confirmed);
    let status = if all { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    Ok(HttpResponse::build(status).json(Tests { targets }))
}

async fn list(request: &HttpRequest, members: &Members, service: &Service, web: &Web) -> Result<HttpResponse, Problem> {
    let search = filter::searched(members, web.clock.now())?;
    Ok(HttpResponse::Ok().json(listed(request, search, service).await?))
}

/// A page of pushes.
pub(super) async fn listed(request: &HttpRequest, search: Search, service: &Service) -> Result<List, Problem> {
    if let Some(cursor) = search.cursor.clone()
        && !service.run(|engine| async move { Ok(engine.is_cursor(&cursor)) }).await?
    {
        return Err(Problem::bad_request(
            "cursor",
            "The query member `cursor` is not one that this service gave out: take `next` of the page before, or leave it out.",
        ));
    }
    let page = service.run(|engine| async move { engine.list(&search).await }).await?;
    let item = |row: &Row| Item::of(row, push_url(request, &row.id.to_string()));
    let pushes = page.rows.iter().map(item).collect();
    Ok(List { pushes, next: page.next, unreadable: page.unreadable })
}

/// The document of a push; 202 as long as there is something to wait for.
fn shown(request: &HttpRequest, row: &Row, done: bool) -> HttpResponse {
    let body = Push::of(row);
    if done {
        return HttpResponse::Ok().json(body);
    }
    HttpResponse::Accepted()
        .insert_header((header::LOCATION, push_url(request, &row.id.to_string())))
        .insert_header((header::RETRY_AFTER, STATUS_RETRY_AFTER))
        .json(body)
}
