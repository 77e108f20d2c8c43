//! `GET /api/dashboard`, which holds no data and needs no key, and the fragments that its script asks for at
//! `GET /api/pushes/page/…`, behind the operators' door. A push is never called `page`.
//!
//! Guarantees: what a fragment was asked for is read by the code of the interface itself, and a view that cannot be had like that
//! is one that says why, with the form; no answer is kept by a browser, shown
//! inside another page, or told to another one.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};

use super::error::Problem;
use super::pushes::{self, filter, find, listed, summary};
use super::{Web, base_url, only_reads, query};
use crate::api::{Item, List, Push, Status};
use crate::page;
use crate::page::confirm::{Deed, Question};
use crate::page::filters::Filters;
use crate::page::list::Overview;
use crate::page::push::{Detail, Receiver};
use crate::page::regions::Summary;
use crate::push::{Input, Notice, Policy, Region, Row};
use crate::service::Service;

/// Pushes that wait or owe something, and companions, that are looked at for one view.
const BESIDE_MAX: usize = 200;

/// The page without any data.
pub(super) fn shell(request: &HttpRequest) -> Result<HttpResponse, Problem> {
    only_reads(request)?;
    Ok(html(page::policy(), page::shell().to_owned()))
}

fn html(policy: &'static str, text: String) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"))
        .body(text)
}

/// A view, or a question, for the page's script.
pub(super) async fn fragment(request: &HttpRequest, view: &[&str], web: &Web) -> Result<HttpResponse, Problem> {
    let service = web.service()?;
    let _place = pushes::place(&*web.clock).await?;
    let text = match view {
        ["list"] => list(request, service, web).await?,
        ["regions"] => regions(request, service, web).await?,
        ["push", id] => push(id, service, web).await?,
        ["confirm", id] => confirm(request, id, service, web).await?,
        _ => return Err(Problem::nothing_here()),
    };
    // Opened by itself it is a text without style, and nothing in it acts.
    Ok(html("default-src 'none'; frame-ancestors 'none'; sandbox", text))
}

async fn list(request: &HttpRequest, service: &Service, web: &Web) -> Result<String, Problem> {
    let now = web.clock.now();
    let filters = Filters::read(request.query_string());
    // A person asks for images first.
    let asked = if filters.get("companions").is_empty() {
        format!("{}&companions=none", filters.query())
    } else {
        filters.query()
    };
    let list = match filter::search(&asked, now) {
        Ok(search) => listed(request, search, service).await,
        Err(problem) => Err(problem),
    };
    // What the caller must ask otherwise is said beside the form.
    let (list, refused) = match list {
        Ok(list) => (list, None),
        Err(problem) => (List { pushes: Vec::new(), next: None, unreadable: 0 }, Some(problem.refusal()?)),
    };
    let owing =
        listed(request, filter::search(&format!("status=waiting,owing&limit={BESIDE_MAX}"), now)?, service).await?;
    let along = match (list.pushes.last(), list.pushes.first()) {
        (Some(oldest), Some(newest)) if filters.get("companions").is_empty() => {
            let around = |item: &Item, by: chrono::Duration| {
                item.created_time.parse::<crate::clock::Instant>().map_or(now, |at| at + by)
            };
            let span = chrono::Duration::minutes(5);
            let mut search = filter::search(&format!("companions=only&limit={BESIDE_MAX}"), now)?;
            (search.since, search.until) = (Some(around(oldest, -span)), Some(around(newest, span)));
            listed(request, search, service).await?.pushes
        }
        _ => Vec::new(),
    };
    let day = summary("", service, web).await?;
    Ok(Overview {
        now,
        filters: &filters,
        list: &list,
        owing: &owing,
        along: &along,
        day: &day,
        regions: &web.described.regions,
        refused: refused.as_deref(),
        registry: service.registry(),
        address: &base_url(request),
        keyed: request.headers().contains_key("x-functions-key"),
    }
    .render())
}

async fn regions(request: &HttpRequest, service: &Service, web: &Web) -> Result<String, Problem> {
    let now = web.clock.now();
    let (regions, refused) = match summary(request.query_string(), service, web).await {
        Ok(regions) => (regions, None),
        Err(problem) => (summary("", service, web).await?, Some(problem.refusal()?)),
    };
    let filters = Filters::read(request.query_string());
    // Commands for people name the registry of the newest push where none is set.
    let newest = listed(request, filter::search("limit=1", now)?, service).await?.pushes.pop();
    let registry = service.registry().or(newest.as_ref().map(|newest| newest.status.registry.as_str()));
    Ok(Summary { now, filters: &filters, regions: &regions, registry, refused: refused.as_deref() }.render())
}

async fn push(id: &str, service: &Service, web: &Web) -> Result<String, Problem> {
    let row = find(id, service).await?.ok_or_else(Problem::unknown_push)?;
    let day = summary("", service, web).await?;
    let receivers = receivers(&row, service, web).await?;
    let attempts_max = service.run(|engine| async move { Ok(engine.policy().schedule.len()) }).await? + 1;
    Ok(Detail { now: web.clock.now(), push: &Push::of(&row), day: &day, receivers: &receivers, attempts_max }.render())
}

/// The receivers of the settings as a push sees them.
async fn receivers(row: &Row, service: &Service, web: &Web) -> Result<Vec<Receiver>, Problem> {
    let subject = row.subject.clone();
    let heard = move |policy: &Policy| {
        let notices = [Notice::Replicated, Notice::TimedOut, Notice::Recovered, Notice::Superseded];
        let of = |target: &crate::push::policy::Target| {
            let hears =
                notices.into_iter().filter(|notice| target.hears(*notice, &subject)).map(Notice::word).collect();
            (target.name.clone(), hears)
        };
        policy.targets.iter().map(of).collect::<Vec<(String, Vec<&'static str>)>>()
    };
    let heard = service.run(|engine| async move { Ok(heard(engine.policy())) }).await?;
    let format = |name: &String| web.described.formats.get(name).cloned().unwrap_or_default();
    Ok(heard.into_iter().map(|(name, hears)| Receiver { format: format(&name), name, hears }).collect())
}

/// What would happen to this very push.
async fn confirm(request: &HttpRequest, id: &str, service: &Service, web: &Web) -> Result<String, Problem> {
    let row = find(id, service).await?.ok_or_else(Problem::unknown_push)?;
    let one = |name: &str| query(request, name).into_iter().next().unwrap_or_default();
    let missing = row.missing();
    let region = Region::parse(&one("region")).ok().filter(|region| missing.contains(&region));
    let region = region.or_else(|| missing.first().map(|region| (*region).clone()));
    let deed = match (one("do").as_str(), &region) {
        ("redeliver", _) => Deed::Redeliver,
        ("terminate", _) => Deed::Terminate,
        ("report", Some(_)) => Deed::Report,
        ("report", None) => {
            let message = "Every region of this push has reported meanwhile; there is nothing to report by hand.";
            return Err(Problem::new(StatusCode::CONFLICT, "nothing_missing", message));
        }
        _ => {
            return Err(Problem::bad_request(
                "do",
                "The query member `do` must be one of: redeliver, terminate, report.",
            ));
        }
    };
    let input = match (deed, region.clone()) {
        (Deed::Report, Some(region)) => Input::ByHand(region),
        (Deed::Redeliver, _) => Input::Redeliver(None),
        (Deed::Terminate | Deed::Report, _) => Input::Terminate,
    };
    let before = std::sync::Arc::clone(&row);
    let then = service.run(|engine| async move { engine.foresee(&before, input).await }).await?;
    let receivers = receivers(&row, service, web).await?;
    let push = Item::of(&row, String::new());
    let then = then.as_ref().map(Status::of);
    let region = region.as_ref().map_or("", Region::as_str);
    Ok(Question { now: web.clock.now(), deed, region, push: &push, then: then.as_ref(), receivers: &receivers }
        .render())
}
