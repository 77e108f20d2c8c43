//! Each receiver's checks as functions of a request, in our own words. The file and function of its source that each stands for is
//! named in `docs/receivers.md`; where a receiver is not open source, what its pages say.

use serde_json::Value;

use crate::support::http::Head;

/// What a receiver does with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// It looks for a new image in this repository, with this tag where it takes one.
    Acts { repository: String, tag: Option<String> },
    /// It answers 2xx and does nothing, or shows it to people.
    Nothing,
    /// It answers with this status.
    Refuses(u16),
}

pub(super) struct Request {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

impl Request {
    fn json(&self) -> Option<Value> {
        serde_json::from_slice::<Value>(&self.body).ok().filter(Value::is_object)
    }

    fn path_and_query(&self) -> (&str, &str) {
        let target = self.head.start.split(' ').nth(1).expect("a request line");
        target.split_once('?').unwrap_or((target, ""))
    }

    fn header(&self, name: &str) -> &str {
        self.head.get(name).unwrap_or_default()
    }

    fn is_post(&self) -> bool {
        self.head.start.starts_with("POST ")
    }
}

/// Go's reading of a member that is a text: absent or null is empty, any other type fails the whole.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The members that the consumers of ACR webhooks know.
struct Acr {
    action: String,
    repository: String,
    tag: String,
    host: String,
}

fn acr(request: &Request) -> Option<Acr> {
    let body = request.json()?;
    Some(Acr {
        action: text(&body["action"])?,
        repository: text(&body["target"]["repository"])?,
        tag: text(&body["target"]["tag"])?,
        host: text(&body["request"]["host"])?,
    })
}

pub(super) const FLUX_PATH: &str = "/hook/bed6d00b5555b1603e1f59b94d7fbca58089cb5663633fb83f2815dc626d92b8";

/// Flux, receiver of type `acr`: the path is the secret and is compared with its query, then any object will do. The action
/// is not looked at, and what is reconciled stands in the receiver's own resource.
pub(super) fn flux(request: &Request) -> Does {
    let (path, query) = request.path_and_query();
    if path != FLUX_PATH || !query.is_empty() {
        return Does::Refuses(404);
    }
    match acr(request) {
        Some(acr) => Does::Acts { repository: acr.repository, tag: None },
        None => Does::Refuses(400),
    }
}

/// Argo CD Image Updater with `type=acr`.
pub(super) fn argo(request: &Request) -> Does {
    let (path, query) = request.path_and_query();
    let right = path == "/webhook"
        && query == "type=acr"
        && request.is_post()
        && request.header("content-type").contains("application/json")
        && request.header("authorization") == "Bearer of-argo";
    match acr(request) {
        Some(acr) if right && acr.action == "push" && !acr.repository.is_empty() => {
            Does::Acts { repository: format!("{}/{}", acr.host, acr.repository), tag: Some(acr.tag) }
        }
        Some(_) | None => Does::Refuses(400),
    }
}

/// Argo CD Image Updater with `type=cloudevents`, which takes any event whose type names an image or a container.
pub(super) fn argo_cloudevents(request: &Request) -> Does {
    let content_type = request.header("content-type");
    if !content_type.contains("application/json") && !content_type.contains("application/cloudevents+json") {
        return Does::Refuses(400);
    }
    let Some(body) = request.json() else { return Does::Refuses(400) };
    let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, subject, data) = (of(&body["type"]), of(&body["subject"]), &body["data"]);
    if of(&body["specversion"]).is_empty() || !(kind.contains("image") || kind.contains("container")) {
        return Does::Refuses(400);
    }
    let (mut repository, mut tag) =
        subject.split_once(':').map(|(r, t)| (r.to_owned(), t.to_owned())).unwrap_or_default();
    if !of(&data["repository"]).is_empty() {
        repository = of(&data["repository"]);
    }
    if !of(&data["tag"]).is_empty() {
        tag = of(&data["tag"]);
    }
    if repository.is_empty() || tag.is_empty() || of(&data["registry"]).is_empty() {
        return Does::Refuses(400);
    }
    Does::Acts { repository: format!("{}/{repository}", of(&data["registry"])), tag: Some(tag) }
}

/// Kargo, receiver `azure`: tells ACR from Azure DevOps by the agent.
pub(super) fn kargo(request: &Request) -> Does {
    if !request.header("user-agent").starts_with("AzureContainerRegistry") {
        return Does::Refuses(400);
    }
    match acr(request) {
        Some(acr) if acr.action == "push" => {
            Does::Acts { repository: format!("{}/{}", acr.host, acr.repository), tag: Some(acr.tag) }
        }
        Some(acr) if acr.action == "ping" => Does::Nothing,
        Some(_) | None => Does::Refuses(400),
    }
}

/// Keel's `azure` trigger: no action, but a tag.
pub(super) fn keel(request: &Request) -> Does {
    let (path, _) = request.path_and_query();
    if path != "/v1/webhooks/azure" {
        return Does::Refuses(404);
    }
    match acr(request) {
        Some(acr) if !acr.tag.is_empty() => {
            Does::Acts { repository: format!("{}/{}", acr.host, acr.repository), tag: Some(acr.tag) }
        }
        Some(_) | None => Does::Refuses(400),
    }
}

/// Jenkins with the plugin that knows ACR: whatever is wrong with the body is logged there and answered with 200.
pub(super) fn jenkins(request: &Request) -> Does {
    let (path, _) = request.path_and_query();
    if path != "/acr-webhook/tokenOfJenkins/notify" || !request.is_post() {
        return Does::Refuses(403);
    }
    let Some(body) = request.json() else { return Does::Nothing };
    let of = |value: &Value| value.as_str().map(str::to_owned);
    let dated = of(&body["timestamp"]).is_some_and(|at| chrono::DateTime::parse_from_rfc3339(&at).is_ok());
    match (body["action"] == "push", of(&body["request"]["host"]), of(&body["target"]["repository"])) {
        (true, Some(host), Some(repository)) if dated => {
            Does::Acts { repository: format!("{host}/{repository}"), tag: None }
        }
        (_, _, _) => Does::Nothing,
    }
}

/// Jenkins with the generic trigger: who has the token starts the job, whatever the body; the job has to look at it.
pub(super) fn jenkins_generic(request: &Request) -> Does {
    let (path, query) = request.path_and_query();
    let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
    let given = given.or_else(|| request.head.get("token"));
    let given = given.or_else(|| request.header("authorization").strip_prefix("Bearer "));
    if path != "/generic-webhook-trigger/invoke" || given != Some("of-the-job") {
        return Does::Refuses(404);
    }
    let of = |body: &Value, places: [&str; 2]| {
        places.iter().find_map(|place| body.pointer(place)?.as_str().map(str::to_owned))
    };
    let body = request.json().unwrap_or_default();
    let repository = of(&body, ["/data/repository", "/target/repository"]).unwrap_or_default();
    Does::Acts { repository, tag: of(&body, ["/data/tag", "/target/tag"]) }
}

/// Slack's incoming webhook: an object with a text that is not empty.
pub(super) fn slack(request: &Request) -> Does {
    let said = request.json().and_then(|body| body["text"].as_str().map(str::to_owned));
    let json = request.header("content-type").starts_with("application/json");
    if json && said.is_some_and(|said| !said.trim().is_empty()) { Does::Nothing } else { Does::Refuses(400) }
}

/// A Teams workflow: a message whose attachments are Adaptive Cards of a version that every client shows.
pub(super) fn teams(request: &Request) -> Does {
    let Some(body) = request.json() else { return Does::Refuses(400) };
    let card = |attachment: &Value| {
        let content = &attachment["content"];
        let elements = content["body"].as_array().is_some_and(|body| {
            let known = |e: &Value| match e["type"].as_str() {
                Some("TextBlock") => e["text"].is_string(),
                Some("FactSet") => e["facts"].as_array().is_some_and(|facts| {
                    facts.iter().all(|fact| fact["title"].is_string() && fact["value"].is_string())
                }),
                Some(_) | None => false,
            };
            !body.is_empty() && body.iter().all(known)
        });
        attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
            && content["type"] == "AdaptiveCard"
            && content["version"] == "1.4"
            && elements
    };
    let cards = body["attachments"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(card));
    if body["type"] == "message" && cards { Does::Nothing } else { Does::Refuses(400) }
}

/// GitHub's `repository_dispatch`: starts the workflows whose `types` name the event. This one names what is everywhere.
pub(super) fn github(request: &Request) -> Does {
    const TYPES: [&str; 2] = ["image_replicated", "image_recovered"];
    if request.header("user-agent").is_empty() {
        return Does::Refuses(403);
    }
    if request.path_and_query() != ("/repos/octo/shop/dispatches", "") || !request.is_post() {
        return Does::Refuses(404);
    }
    if !request.header("authorization").starts_with("Bearer ") {
        return Does::Refuses(401);
    }
    let Some(body) = request.json() else { return Does::Refuses(400) };
    let known = ["event_type", "client_payload"];
    let members = body.as_object().is_some_and(|body| body.keys().all(|name| known.contains(&name.as_str())));
    let payload = &body["client_payload"];
    let fits = payload.as_object().is_some_and(|payload| payload.len() <= 10) && payload.to_string().len() <= 65_535;
    let kind = body["event_type"].as_str().filter(|kind| !kind.is_empty() && kind.chars().count() <= 100);
    let (true, true, Some(kind)) = (members, fits, kind) else { return Does::Refuses(422) };
    if !TYPES.contains(&kind) {
        return Does::Nothing;
    }
    let of = |name: &str| payload["data"][name].as_str().map(str::to_owned);
    let repository = format!("{}/{}", of("registry").unwrap_or_default(), of("repository").unwrap_or_default());
    Does::Acts { repository, tag: of("tag") }
}
