//! The web application shared by both hosts: routing, keys, bounds. Handlers call the service; they never see a store.
//!
//! Guarantees: `GET /` answers at once and touches nothing; paths match without regard to case or a trailing slash, since the
//! Functions host forwards what the caller wrote; every body is read to a bound and within a time; every answer has a body
//! (the Functions host hangs on an empty 2xx); no answer repeats a key, a secret or a received body.

mod answers;
pub mod doors;
pub mod envelope;
mod error;
mod image_push;
mod metrics;
pub mod openapi;
mod page;
mod pushes;
pub mod query;
mod refused;
mod timeout_check;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::{ConnectionType, Method, StatusCode, header};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::StreamExt;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tracing::Instrument;

use crate::clock::Clock;
use crate::config::Described;
use crate::limits;
use crate::push::Region;
use crate::service::Service;
use doors::{Door, Doors, is_of_the_host};
use error::Problem;
use refused::Refused;

/// The route prefix of host.json.
pub const PREFIX: &str = "api";

/// Longest time a request's body may take to arrive: twice as long as the registry would wait for the answer.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// Longest time that calls under way get once the server is stopped.
pub const STOP_MAX: Duration = Duration::from_secs(5);

/// What the handlers work with.
pub struct Web {
    service: Result<Service, String>,
    described: Described,
    clock: Arc<dyn Clock>,
    doors: Doors,
    ending: watch::Sender<bool>,
    refused: Refused,
}

impl Web {
    /// What a door leads to: the service, or the text that says what is wrong with the settings; the effective settings, for
    /// people; and the clock by which an arrival is received.
    #[must_use]
    pub fn new(service: Result<Service, String>, described: Described, clock: Arc<dyn Clock>, doors: Doors) -> Self {
        let refused = Refused::new(service.as_ref().ok().map(|service| Arc::clone(service.metrics())));
        Self { service, described, clock, doors, ending: watch::Sender::new(false), refused }
    }

    /// The service, where the settings are right.
    fn service(&self) -> Result<&Service, Problem> {
        self.service.as_ref().map_err(|faults| Problem::misconfigured(faults))
    }

    /// Says that this process is about to end: it still answers, and tells load balancers and callers to go elsewhere.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Whether it is.
    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Ends when this process is about to.
    async fn until_ending(&self) {
        // The sender lives as long as this.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// The clock by which an arrival is received.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

/// A listener on `address` for [`serve`], before which many may queue: [`limits::BACKLOG`].
///
/// # Errors
/// The address is taken, not of this machine, or not ours to take.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // As the standard library does: a process that is started again must not wait for its predecessor's connections to fade.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Inherited by every connection that is taken.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(limits::UNREAD_MAX))?;
    socket.bind(&address.into())?;
    socket.listen(limits::BACKLOG)?;
    Ok(socket.into())
}

/// Serves `web` on `listener` until the server is stopped. `workers` threads parse requests; the work is done elsewhere.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(listener: TcpListener, web: Arc<Web>, workers: usize) -> std::io::Result<Server> {
    let data = web::Data::from(web);
    Ok(HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(dispatch)))
        .workers(workers)
        // Above the 60 to 75 s after which the host closes an idle connection: a close that crosses a POST costs it a 500.
        .keep_alive(Duration::from_secs(120))
        .client_request_timeout(Duration::from_secs(5))
        .h1_write_buffer_size(limits::ANSWER_PIECE_BYTES)
        .shutdown_timeout(STOP_MAX.as_secs())
        .disable_signals()
        .listen(listener)?
        .run())
}

async fn dispatch(request: HttpRequest, body: web::Payload, web: web::Data<Web>) -> HttpResponse {
    let path = request.path().trim_end_matches('/').to_ascii_lowercase();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let span = match invocation_id(&request) {
        Some(invocation) => tracing::info_span!("call", invocation),
        None => tracing::Span::none(),
    };
    let answer = async {
        match segments[..] {
            [] | ["livez"] => probed(&request, Ok(())),
            ["readyz"] => probed(&request, ready(&web)),
            ["metrics"] if !web.doors.are_the_hosts() => {
                web.doors.enter(&request, Door::Pushes, &*web.clock).await?;
                metrics::handle(&request, &web).await
            }
            ["timeoutcheck"] if web.doors.are_the_hosts() && is_of_the_host(&request) => {
                timeout_check::handle(&request, body, &web).await
            }
            ["timeoutcheck"] if web.doors.are_the_hosts() => {
                let what = "a call of /TimeoutCheck was not the Functions host's own and was refused";
                web.refused.note("not_the_host", what, None, None, &web.clock);
                Err(Problem::nothing_here())
            }
            [PREFIX, "imagepush"] if is_event_grid_handshake(&request) => Err(Problem::bad_request(
                "event_grid",
                "This is the handshake of Azure Event Grid, whose events are not read here: give the registry itself a webhook in each region.",
            )),
            [PREFIX, "imagepush"] => {
                web.doors.enter(&request, Door::ImagePush, &*web.clock).await?;
                image_push::handle(&request, body, &web).await
            }
            [PREFIX, "dashboard"] => page::shell(&request),
            [PREFIX, "pushes", "page", ref view @ ..] if *request.method() == Method::GET => {
                web.doors.enter(&request, Door::Pushes, &*web.clock).await?;
                page::fragment(&request, view, &web).await
            }
            [PREFIX, "pushes", ..] => {
                web.doors.enter(&request, Door::Pushes, &*web.clock).await?;
                pushes::handle(&request, &segments[2..], &web).await
            }
            [PREFIX, "regions"] => {
                web.doors.enter(&request, Door::Pushes, &*web.clock).await?;
                pushes::regions(&request, &web).await
            }
            [.., "imagepush" | "pushes" | "regions" | "dashboard"]
            | [.., "pushes", _]
            | [.., "pushes", _, _]
            | [.., "pushes", _, _, _]
                if web.doors.are_the_hosts() =>
            {
                Err(misrouted(&request))
            }
            _ => Err(Problem::nothing_here()),
        }
    };
    let answer = async {
        answer.await.unwrap_or_else(|problem| {
            let operators =
                matches!(segments[..], [PREFIX, "pushes", ..] | [PREFIX, "regions"] | ["timeoutcheck" | "metrics"]);
            // Whoever reads a wrong address sees the answer; a registry that posts to one does not.
            let is_webhook = !operators && *request.method() == Method::POST;
            if problem.is_unauthorised() || is_webhook {
                let region = query::region(request.query_string()).ok();
                problem.log(region.as_ref().map(Region::as_str), is_webhook, &web);
            }
            problem.answer()
        })
    };
    let mut answer = answers::bounded(answer.instrument(span).await);
    if web.is_ending() {
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    answer
}

/// Why a call of one of our functions comes by another path than [`PREFIX`] makes it.
fn misrouted(request: &HttpRequest) -> Problem {
    let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // In a forwarded call the caller's own name stands before the host's. Nor has an envelope a query, or another method.
    let enveloped = agent.trim_start().starts_with("Azure-Functions-Host/") && request.query_string().is_empty();
    let (code, message) = if enveloped && request.method() == Method::POST {
        (
            "not_forwarded",
            "The Functions host sent an envelope instead of the request: set `customHandler.enableForwardingHttpRequest` to true in host.json.",
        )
    } else {
        (
            "route_prefix",
            "The Functions host calls this handler without the prefix `api`, which its links have: set `extensions.http.routePrefix` to `api` in host.json, or leave it out; the app setting AzureFunctionsJobHost__extensions__http__routePrefix counts before that.",
        )
    };
    Problem::new(StatusCode::NOT_FOUND, code, message)
}

/// Whether Azure Event Grid asks, in its own schema or that of CloudEvents, to send its events here.
fn is_event_grid_handshake(request: &HttpRequest) -> bool {
    let origin = request.headers().contains_key("webhook-request-origin");
    request.headers().contains_key("aeg-event-type") || *request.method() == Method::OPTIONS && origin
}

/// The answer to a load balancer's or an orchestrator's question.
fn probed(request: &HttpRequest, state: Result<(), Problem>) -> Result<HttpResponse, Problem> {
    only_reads(request).and(state).map(|()| alive())
}

/// Whether a request wants to read: nothing else can be done there.
fn only_reads(request: &HttpRequest) -> Result<(), Problem> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if reads { Ok(()) } else { Err(Problem::method("GET, HEAD")) }
}

/// Whether new callers should be sent here: settings are right, storage was reached since the start, and the end is not near.
/// Storage that goes away later changes nothing: it would be away for every other process too.
fn ready(web: &Web) -> Result<(), Problem> {
    let service = web.service()?;
    let not = |why: &str| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why));
    if web.is_ending() {
        not("This process is about to end.")
    } else if !service.has_reached_storage() {
        not("The storage was not reached yet; the log says why.")
    } else {
        Ok(())
    }
}

/// The readiness and health ping of the Functions host.
fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "service": "acr-global-webhook", "version": env!("CARGO_PKG_VERSION") }))
}

/// All values of a name of the request's query.
fn query(request: &HttpRequest, name: &str) -> Vec<String> {
    query::values(request.query_string(), name)
}

/// The host's id of this call: the last of a comma list, since a client may have sent values of its own.
fn invocation_id(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get("x-azure-functions-invocationid")?.to_str().ok()?;
    let last = value.rsplit(',').next()?.trim();
    let plain = last.len() <= 64 && last.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then(|| last.to_owned())
}

/// Places for large bodies, of the whole process.
static LARGE_BODIES: Semaphore = Semaphore::const_new(limits::LARGE_BODIES_MAX);

/// A body, and its place among the large ones as long as it is worked on.
struct Body {
    bytes: Vec<u8>,
    place: Option<SemaphorePermit<'static>>,
}

/// Reads a body of at most `max` bytes, within [`BODY_TIME_MAX`].
async fn read(mut body: web::Payload, max: usize) -> Result<Body, Problem> {
    let too_large = || {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("The body is larger than {max} bytes."))
    };
    let all = async {
        let mut bytes = Vec::new();
        let mut place = None;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_| {
                Problem::new(StatusCode::BAD_REQUEST, "body_broken", "The body broke off before its end.")
            })?;
            if bytes.len() + chunk.len() > max {
                return Err(too_large());
            }
            if place.is_none() && bytes.len() + chunk.len() > limits::LARGE_BODY_BYTES {
                place = Some(LARGE_BODIES.try_acquire().map_err(|_| {
                    let message = "Too many large bodies are being worked on; try again.";
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_large_bodies", message)
                })?);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Body { bytes, place })
    };
    tokio::time::timeout(BODY_TIME_MAX, all).await.unwrap_or_else(|_| {
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_slow", "The body did not arrive in time."))
    })
}

/// Scheme and authority by which the caller reached us; empty when the `Host` header is not a plain authority.
fn base_url(request: &HttpRequest) -> String {
    let text = |name| request.headers().get(name).and_then(|v: &header::HeaderValue| v.to_str().ok()).unwrap_or("");
    let host = text(header::HOST);
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    if host.is_empty() || host.len() > 255 || !host.bytes().all(plain) {
        return String::new();
    }
    let forwarded = text(header::X_FORWARDED_PROTO).split(',').next().unwrap_or("").trim();
    let scheme = if forwarded.eq_ignore_ascii_case("https") { "https" } else { "http" };
    format!("{scheme}://{host}")
}

/// The address of a push, with the caller's own `code` if it came in the query and opens that door too.
fn push_url(request: &HttpRequest, id: &str) -> String {
    let [status] = push_urls(request, id, [""], true);
    status
}

/// The addresses of a push and of what can be done to it, likewise; each operation begins with a slash.
fn push_urls<const N: usize>(request: &HttpRequest, id: &str, operations: [&str; N], with_key: bool) -> [String; N] {
    let code = query(request, "code").into_iter().next().filter(|_| with_key);
    let code =
        code.map(|code| format!("?code={}", form_urlencoded::byte_serialize(code.as_bytes()).collect::<String>()));
    let (base, code) = (base_url(request), code.unwrap_or_default());
    operations.map(|operation| format!("{base}/{PREFIX}/pushes/{id}{operation}{code}"))
}
