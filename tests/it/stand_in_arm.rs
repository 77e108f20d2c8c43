//! A stand-in for Azure Resource Manager, as far as a registry and its webhooks go, with ARM's traps:
//! - a webhook's GET has neither URL nor headers; only `getCallbackConfig` has, and masks `Authorization` alone;
//! - PUT replaces, PATCH takes no location, a location cannot be changed, a region without a complete replica is unknown;
//! - operations whose address changes with each answer, and is good once; errors with and without `error` around them;
//! - lists in pages; tokens that end; every call wants `api-version`, every POST a `Content-Length`.

mod changes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::http::{Connection, Head};

pub const SUBSCRIPTION: &str = "11111111-2222-3333-4444-555555555555";
pub const GROUP: &str = "rg-registry";

/// What the next calls whose method and address fit are answered in place of what they ask for.
pub struct Fault {
    pub method: &'static str,
    /// Part of the address.
    pub part: &'static str,
    pub times: u32,
    pub status: u16,
    pub headers: &'static str,
    pub body: Value,
    /// The call is carried out, and its answer lost in this one.
    pub after: bool,
}

/// A replica, and how many more looks it takes until it is complete.
pub struct Replica {
    pub name: String,
    pub location: String,
    pub looks: u32,
    pub status: &'static str,
    /// What becomes of it once it is looked at no more.
    pub state: &'static str,
}

pub struct Webhook {
    pub name: String,
    pub location: String,
    pub tags: Value,
    pub properties: Value,
    pub state: &'static str,
    /// Looks that are left until what is being done with it is done.
    looks: u32,
}

/// What a webhook sends.
pub struct Delivery {
    pub url: String,
    pub headers: HeaderMap,
}

pub struct State {
    pub sku: &'static str,
    pub home: &'static str,
    pub replicas: Vec<Replica>,
    pub webhooks: BTreeMap<String, Webhook>,
    pub faults: Vec<Fault>,
    /// Looks that an operation takes; none: everything is done at once.
    pub slow: u32,
    pub operation_fails: bool,
    /// How an operation says that it is done, and that it failed.
    pub operation_words: [&'static str; 2],
    /// What answers say of when to look again.
    pub pace: &'static str,
    /// PUTs of a complete replica's region that are answered as if it were unknown.
    pub unknown: u32,
    /// Regions whose webhook is made and the call never answered.
    pub hangs: Option<&'static str>,
    pub page: usize,
    /// The one good token, and after how many calls the next one takes its place.
    pub token: String,
    pub token_ends_after: Option<usize>,
    pub registries: Vec<String>,
    /// Where each page of webhooks says that the next one is.
    pub next_link: Option<Value>,
    /// What else is answered to a GET, by its path.
    pub others: BTreeMap<String, Value>,
    /// What `listEvents` answers.
    pub log: Value,
    /// `METHOD path` of every call, and the body it had.
    pub calls: Vec<(String, Value)>,
    operations: BTreeMap<u32, (String, u32)>,
    signature: u32,
    folder: PathBuf,
    port: u16,
}

pub struct Arm {
    pub port: u16,
    state: Arc<Mutex<State>>,
    folder: tempfile::TempDir,
}

impl Arm {
    /// A Premium registry `contoso` at home in West Europe, with a replica in North Europe.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(Mutex::new(State {
            sku: "Premium",
            home: "westeurope",
            replicas: Vec::new(),
            webhooks: BTreeMap::new(),
            faults: Vec::new(),
            slow: 0,
            operation_fails: false,
            operation_words: ["Succeeded", "Failed"],
            pace: "Retry-After: 0\r\n",
            unknown: 0,
            hangs: None,
            page: 2,
            token: String::new(),
            token_ends_after: None,
            registries: vec![id("contoso")],
            next_link: None,
            others: BTreeMap::new(),
            log: json!({ "value": [] }),
            calls: Vec::new(),
            operations: BTreeMap::new(),
            signature: 0,
            folder: folder.path().to_owned(),
            port,
        }));
        let arm = Self { port, state, folder };
        arm.state().replicate("northeurope");
        arm.state().renew("t0ken-1");
        arm.install_cli();
        let shared = Arc::clone(&arm.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Connection::new(stream), Arc::clone(&shared)));
            }
        });
        arm
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Where a stand-in `az` is, and what it notes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A CLI that prints the good token, and notes what it was asked and whether it was told the key.
    fn install_cli(&self) {
        let folder = self.folder().display();
        let script = format!(
            "#!/bin/sh\necho \"$* ${{WebhookKey-no key}}\" >> {folder}/asked\nread -r token < {folder}/token\n\
             echo '{{\"accessToken\":\"'$token'\",\"expires_on\":4102444800,\"tokenType\":\"Bearer\"}}'\n"
        );
        self.install(&script);
    }

    pub fn install(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.folder().join("az");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where each webhook sends a push, as the registry knows it.
    pub fn deliveries(&self) -> Vec<Delivery> {
        let of = |webhook: &Webhook| Delivery {
            url: webhook.properties["serviceUri"].as_str().unwrap().to_owned(),
            headers: serde_json::from_value::<std::collections::HashMap<String, String>>(
                webhook.properties["customHeaders"].clone(),
            )
            .map(|headers| HeaderMap::try_from(&headers).unwrap())
            .unwrap(),
        };
        self.state().webhooks.values().map(of).collect()
    }

    /// What `az` was asked.
    pub fn asked(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder().join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Resource id of a registry.
pub fn id(name: &str) -> String {
    format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ContainerRegistry/registries/{name}"
    )
}

async fn serve(mut connection: Connection, state: Arc<Mutex<State>>) {
    while let Ok(Some(head)) = connection.head().await {
        let body = connection.body(head.request_framing().unwrap()).await.unwrap();
        let answer = state.lock().unwrap().answer(&head, &body);
        let Some((status, headers, body)) = answer else { std::future::pending().await };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let text = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
        if connection.write(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

type Answer = (u16, String, Value);

fn error(status: u16, code: &str, message: &str) -> Answer {
    (status, String::new(), json!({ "error": { "code": code, "message": message } }))
}

fn folded(location: &str) -> String {
    location.replace(' ', "").to_lowercase()
}

impl State {
    /// Adds a complete replica.
    pub fn replicate(&mut self, region: &str) {
        let (name, location) = (region.into(), region.into());
        self.replicas.push(Replica { name, location, looks: 0, status: "Ready", state: "Succeeded" });
    }

    /// Makes another token the good one; the CLI knows it at once.
    pub fn renew(&mut self, token: &str) {
        self.token = token.to_owned();
        std::fs::write(self.folder.join("token"), format!("{token}\n")).unwrap();
    }

    /// A webhook made by somebody, with tags.
    pub fn add(&mut self, name: &str, location: &str, tags: Value, uri: &str) {
        let headers = json!({ "Authorization": "Bearer 0ld-secret" });
        let properties = json!({ "serviceUri": uri, "customHeaders": headers, "status": "enabled", "scope": "", "actions": ["push"] });
        let (name, location) = (name.to_owned(), location.to_owned());
        self.webhooks
            .insert(name.to_lowercase(), Webhook { name, location, tags, properties, state: "Succeeded", looks: 0 });
    }

    /// How many calls had this method and this in their address.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.calls.iter().filter(|(call, _)| call.starts_with(method) && call.contains(part)).count()
    }

    /// Calls that change something.
    pub fn writes(&self) -> usize {
        ["PUT", "PATCH", "DELETE"].iter().map(|method| self.count(method, "")).sum()
    }

    fn answer(&mut self, head: &Head, body: &[u8]) -> Option<Answer> {
        let mut words = head.start.split(' ');
        let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        self.calls.push((format!("{method} {target}"), body.clone()));
        if self.token_ends_after.is_some_and(|calls| self.calls.len() > calls) {
            self.token_ends_after = None;
            self.renew("t0ken-2");
        }
        if head.get("Authorization") != Some(&format!("Bearer {}", self.token)) {
            return Some(error(401, "ExpiredAuthenticationToken", "The access token has expired."));
        }
        if method == "POST" && head.get("Content-Length") != Some("0") {
            return Some((411, String::new(), Value::Null));
        }
        if !target.contains("api-version=") {
            return Some(error(400, "MissingApiVersionParameter", "The api-version query parameter is required."));
        }
        let fault = self.faults.iter_mut().find(|f| f.times > 0 && f.method == method && target.contains(f.part));
        let fault = fault.map(|fault| {
            fault.times -= 1;
            ((fault.status, fault.headers.to_owned(), fault.body.clone()), fault.after)
        });
        if let Some((answer, false)) = fault {
            return Some(answer);
        }
        let answer = self.carried_out(&method, &target, body);
        fault.map_or(answer, |(answer, _)| Some(answer))
    }

    fn carried_out(&mut self, method: &str, target: &str, body: Value) -> Option<Answer> {
        let (path, query) = target.split_once('?').unwrap();
        let home = id("contoso");
        let rest =
            path.strip_prefix(home.as_str()).map(|rest| rest.trim_start_matches('/').split('/').collect::<Vec<_>>());
        let ok = |body: Value| Some((200, String::new(), body));
        match (method, rest.as_deref()) {
            ("GET", Some([""])) => {
                ok(json!({ "id": home, "name": "contoso", "location": self.home, "sku": { "name": self.sku },
                "properties": { "loginServer": "contoso.azurecr.io", "provisioningState": "Succeeded" } }))
            }
            ("GET", Some(["replications"])) => {
                assert_eq!(self.sku, "Premium", "others have no replicas");
                let all = self.replicas.iter_mut().map(Replica::look).collect();
                self.paged(path, query, all)
            }
            ("GET", Some(["webhooks"])) => {
                self.look();
                let all: Vec<Value> = self.webhooks.values().map(Webhook::json).collect();
                self.paged(path, query, all)
            }
            ("GET", Some(["webhooks", name])) => {
                self.look();
                match self.webhooks.get(&name.to_lowercase()) {
                    Some(webhook) => ok(webhook.json()),
                    None => Some(error(404, "ResourceNotFound", "The webhook was not found.")),
                }
            }
            ("PUT", Some(["webhooks", name])) => self.put(name, body),
            ("PATCH", Some(["webhooks", name])) => Some(self.patch(name, &body)),
            ("DELETE", Some(["webhooks", name])) => Some(self.delete(name)),
            ("POST", Some(["webhooks", name, "getCallbackConfig"])) => {
                let Some(webhook) = self.webhooks.get(&name.to_lowercase()) else {
                    return Some(error(404, "ResourceNotFound", "The webhook was not found."));
                };
                let mut headers = webhook.properties["customHeaders"].clone();
                if headers.get("Authorization").is_some() {
                    headers["Authorization"] = json!("******");
                }
                ok(json!({ "serviceUri": webhook.properties["serviceUri"], "customHeaders": headers }))
            }
            ("POST", Some(["webhooks", _, "ping"])) => ok(json!({ "id": "11110000-0000-4000-8000-000000000001" })),
            ("POST", Some(["webhooks", _, "listEvents"])) => ok(self.log.clone()),
            ("GET", None) if self.others.contains_key(path) => ok(self.others[path].clone()),
            ("GET", None) if path == "/subscriptions" => {
                let one =
                    |id: &str, name: &str| json!({ "subscriptionId": id, "displayName": name, "state": "Enabled" });
                let other = "99999999-2222-3333-4444-555555555555";
                self.paged(path, query, vec![one(other, "Other"), one(SUBSCRIPTION, "Shop Production")])
            }
            ("GET", None) if path == format!("/subscriptions/{SUBSCRIPTION}/resources") => {
                let filter = "$filter=resourceType%20eq%20%27Microsoft.ContainerRegistry/registries%27&";
                assert!(query.starts_with(filter), "{query}");
                let all = self.registries.iter().map(|id| json!({ "id": id })).collect();
                self.paged(path, query, all)
            }
            ("GET", None) if path.ends_with("/resources") => ok(json!({ "value": [] })),
            ("GET", None) if path.contains("/operationStatuses/") => Some(self.operation(query)),
            _ => Some(error(404, "ResourceNotFound", "The resource was not found.")),
        }
    }

    fn paged(&self, path: &str, query: &str, all: Vec<Value>) -> Option<Answer> {
        let skip: usize = query.split("skip=").nth(1).map_or(0, |n| n.parse().unwrap());
        let page: Vec<&Value> = all.iter().skip(skip).take(self.page).collect();
        let mut body = json!({ "value": page });
        let version = query.split('&').find(|pair| pair.starts_with("api-version")).unwrap();
        if skip + self.page < all.len() {
            let filter = query.split('&').find(|pair| pair.starts_with("$filter")).map(|f| format!("{f}&"));
            let (port, to, filter) = (self.port, skip + self.page, filter.unwrap_or_default());
            body["nextLink"] = json!(format!("http://127.0.0.1:{port}{path}?{filter}{version}&skip={to}"));
        }
        if let Some(next) = self.next_link.as_ref().filter(|_| path.ends_with("/webhooks")) {
            body["nextLink"] = next.clone();
        }
        Some((200, String::new(), body))
    }

    /// Time goes on for what is being done.
    fn look(&mut self) {
        for webhook in self.webhooks.values_mut().filter(|webhook| webhook.looks > 0) {
            webhook.looks -= 1;
            if webhook.looks == 0 && webhook.state != "Deleting" {
                webhook.state = "Succeeded";
            }
        }
        self.webhooks.retain(|_, webhook| webhook.state != "Deleting" || webhook.looks > 0);
    }
}

impl Replica {
    fn look(&mut self) -> Value {
        let state = if self.looks > 0 { "Creating" } else { self.state };
        self.looks = self.looks.saturating_sub(1);
        json!({ "name": self.name, "location": self.location,
            "properties": { "provisioningState": state, "status": { "displayStatus": self.status } } })
    }
}

impl Webhook {
    /// As ARM shows it: without URL and headers.
    fn json(&self) -> Value {
        let Self { name, location, tags, properties, state, .. } = self;
        json!({ "id": format!("{}/webhooks/{name}", id("contoso")), "name": name, "location": location, "tags": tags,
            "properties": { "status": properties["status"], "scope": properties["scope"], "actions": properties["actions"],
                "provisioningState": state } })
    }
}
