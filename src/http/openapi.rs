//! The description of the operators' interface, made from the documents' own types.
#![expect(dead_code, reason = "most of what stands here carries the description, and is neither made nor called")]

use std::sync::LazyLock;

use actix_web::HttpResponse;
use utoipa::{IntoResponses, OpenApi, ToSchema};

use crate::api::{List, Operated, Purged, Push, Refusal, Regions, Tests};

/// The answer to `GET /api/pushes/openapi.json`.
pub(super) fn answer() -> HttpResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    HttpResponse::Ok().content_type("application/json").body(TEXT.as_str())
}

/// The description.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Global webhook: operators' interface",
        description = "Pushes to a geo-replicated registry, and which regions have them.",
        license(name = "MIT", identifier = "MIT")
    ),
    paths(pushes, remove, push, purge, terminate, redeliver, report, test, regions),
    components(schemas(Companions, Until, Action, When)),
    security(("header" = []), ("query" = []), ()),
    modifiers(&Keys)
)]
struct Description;

/// What `GET /api/pushes` finds.
#[derive(ToSchema)]
#[serde(untagged)]
enum Found {
    /// A page of pushes.
    List(List),
    /// The newest push of an image.
    Push(Box<Push>),
}

/// What clients push along with images.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum Companions {
    /// Listed like all others.
    All,
    /// Left out.
    None,
    /// Alone.
    Only,
}

/// What is waited for.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum Until {
    /// The push has settled, as whatever.
    Settled,
    /// Every region has it; waiting goes on after a time-out.
    Everywhere,
}

/// What happened in the registry.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    /// An image or an artifact was pushed.
    Push,
    /// A chart was pushed.
    ChartPush,
    /// An image was deleted.
    Delete,
    /// A chart was deleted.
    ChartDelete,
    /// An image was pushed into quarantine.
    Quarantine,
}

/// An instant (RFC 3339), or a length of time before now; empty as if not given.
#[derive(ToSchema)]
#[schema(
    pattern = r"^(|[0-9]{1,6}(ms|s|m|h|d)|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$"
)]
struct When(String);

/// How every call may be refused.
#[derive(IntoResponses)]
enum Refused {
    /// The key is missing or wrong
    #[response(status = 401)]
    Unauthorised(Refusal),
    /// The key opens another door
    #[response(status = 403)]
    OtherDoor(Refusal),
    /// Storage or this service cannot do that now
    #[response(status = 503)]
    NotNow(Refusal),
}

/// How a key is given.
struct Keys;

impl utoipa::Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
        let components = document.components.get_or_insert_default();
        let header = ApiKeyValue::with_description("x-functions-key", "The function's key, or that of the operators");
        let query = ApiKeyValue::with_description("code", "The same in the address, where it may be logged");
        components.add_security_scheme("header", SecurityScheme::ApiKey(ApiKey::Header(header)));
        components.add_security_scheme("query", SecurityScheme::ApiKey(ApiKey::Query(query)));
    }
}

/// Pushes, newest first; with `image`, the newest push of that image.
#[utoipa::path(
    get,
    path = "/api/pushes",
    params(
        ("status" = Option<String>, Query, pattern = r"^((waiting|replicated|timed_out|recovered|superseded|owing|exhausted)(,(?!$)|$))*$", description = "Any of these, comma-separated: waiting, replicated, timed_out, recovered, superseded, owing, exhausted"),
        ("registry" = Option<String>, Query, max_length = 255, description = "Pattern for the registry's login server"),
        ("repository" = Option<String>, Query, max_length = 255, description = "Pattern for the repository; `*` stays within one path segment, `**` crosses them"),
        ("tag" = Option<String>, Query, max_length = 255, description = "Pattern for the tag"),
        ("digest" = Option<String>, Query, pattern = r"^((sha256|sha512):)?[0-9a-fA-F]{0,128}$", description = "Digest, or how it begins, with or without its algorithm"),
        ("region" = Option<String>, Query, pattern = r"^[a-z0-9]{0,64}$", description = "Only pushes that wait for this region, miss it, or had it late"),
        ("companions" = Option<Companions>, Query, description = "What clients push along with images"),
        ("since" = Option<When>, Query, description = "Opened at this instant (RFC 3339) or later, or so long ago at most: 90m, 24h, 3d"),
        ("until" = Option<When>, Query, description = "Opened before this instant, or longer ago"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "Most pushes of the page; 50"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("image" = Option<String>, Query, pattern = r"^$|^[a-z0-9]{1,9}\.azurecr\.io/[a-z0-9]{1,9}(:[a-z0-9]{1,9})?@sha256:[0-9a-f]{64}$", description = "registry/repository:tag@digest; not with the filters above but `since`"),
        ("wait" = Option<u16>, Query, minimum = 0, maximum = 200, description = "With `image`: seconds that the answer is held until the push has settled"),
        ("for" = Option<Until>, Query, description = "With `image`: what is waited for"),
        ("arrived" = Option<u8>, Query, minimum = 0, maximum = 100, description = "With `image`: answer as soon as another number of regions than this has reported; a push that was purged is one that none has"),
        ("action" = Option<Action>, Query, description = "With `image`: what happened in the registry")
    ),
    responses(
        (status = 200, description = "A page of pushes; with `image`, the push, which has settled", body = Found),
        (status = 202, description = "With `image`: the push, which has not settled", body = Push),
        (status = 400, description = "The query cannot be used", body = Refusal),
        (status = 404, description = "With `image`: no push of it is known", body = Refusal),
        Refused
    )
)]
fn pushes() {}

/// Removes pushes that have settled and owe nothing, oldest first, as many as one call has time for.
#[utoipa::path(
    delete,
    path = "/api/pushes",
    params(("until" = String, Query, pattern = r"^([0-9]{1,6}(ms|s|m|h|d)|20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z)$", description = "Opened before this instant, or longer ago")),
    responses(
        (status = 200, description = "How many are gone", body = Purged),
        (status = 400, description = "The query cannot be used", body = Refusal),
        Refused
    )
)]
fn remove() {}

/// One push.
#[utoipa::path(
    get,
    path = "/api/pushes/{id}",
    params(("id" = String, Path, description = "Name of the push, or its key for the newest round")),
    responses(
        (status = 200, description = "It has settled", body = Push),
        (status = 202, description = "It waits", body = Push),
        (status = 400, description = "The query cannot be used", body = Refusal),
        (status = 404, description = "It is not known", body = Refusal),
        Refused
    )
)]
fn push() {}

/// Removes a push that has settled and owes nothing.
#[utoipa::path(
    delete,
    path = "/api/pushes/{id}",
    params(("id" = String, Path, description = "Name of the push")),
    responses(
        (status = 200, description = "It is gone", body = Purged),
        (status = 400, description = "The query cannot be used", body = Refusal),
        (status = 404, description = "It is not known", body = Refusal),
        (status = 409, description = "It waits or owes something", body = Refusal),
        Refused
    )
)]
fn purge() {}

/// Ends the wait of a push, as if its deadline were now.
#[utoipa::path(
    post,
    path = "/api/pushes/{id}/terminate",
    params(("id" = String, Path, description = "Name of the push")),
    responses(
        (status = 202, description = "What was done", body = Operated),
        (status = 400, description = "The query cannot be used", body = Refusal),
        (status = 404, description = "It is not known", body = Refusal),
        Refused
    )
)]
fn terminate() {}

/// Sends notifications of a push now: again what was confirmed or given up, at once what is owed.
#[utoipa::path(
    post,
    path = "/api/pushes/{id}/redeliver",
    params(
        ("id" = String, Path, description = "Name of the push"),
        ("target" = Option<String>, Query, min_length = 1, description = "Only those of this target")
    ),
    responses(
        (status = 202, description = "What was done", body = Operated),
        (status = 400, description = "The query cannot be used", body = Refusal),
        (status = 404, description = "The push or the target is not known", body = Refusal),
        Refused
    )
)]
fn redeliver() {}

/// Reports a region by hand: somebody looked, and the image is there. It is on record as such.
#[utoipa::path(
    post,
    path = "/api/pushes/{id}/regions/{region}",
    params(
        ("id" = String, Path, description = "Name of the push"),
        ("region" = String, Path, pattern = r"^[a-z0-9]{1,64}$", description = "Region that has the image")
    ),
    responses(
        (status = 202, description = "What was done", body = Operated),
        (status = 400, description = "That cannot be a region, or the query cannot be used", body = Refusal),
        (status = 404, description = "The push is not known, or does not wait for the region", body = Refusal),
        Refused
    )
)]
fn report() {}

/// Sends a test notification to receivers, once, to see whether they take it. It belongs to no push and names no image.
#[utoipa::path(
    post,
    path = "/api/pushes/test",
    params(("target" = Option<String>, Query, description = "Only this target; all of them when empty")),
    responses(
        (status = 200, description = "All took it", body = Tests),
        (status = 400, description = "The query cannot be used", body = Refusal),
        (status = 404, description = "The target is not known", body = Refusal),
        (status = 409, description = "There is no receiver", body = Refusal),
        (status = 429, description = "Another test is under way", body = Refusal),
        (status = 502, description = "At least one did not take it", body = Tests),
        Refused
    )
)]
fn test() {}

/// The regions over a span of time, the one that needs somebody first.
#[utoipa::path(
    get,
    path = "/api/regions",
    params(
        ("since" = Option<When>, Query, description = "An instant (RFC 3339), or so long ago: 90m, 24h, 3d; 24h"),
        ("until" = Option<When>, Query, description = "An instant, or so long ago")
    ),
    responses(
        (status = 200, description = "The regions", body = Regions),
        (status = 400, description = "The query cannot be used", body = Refusal),
        Refused
    )
)]
fn regions() {}
