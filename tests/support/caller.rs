//! A caller that may meet a service that is down: what the registry does, and what an operator asks.

use std::time::Duration;

use serde_json::Value;

/// How long the registry waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client of one service. Each call opens a connection of its own, so that a killed process is never met by way of one
/// that it has left behind.
#[derive(Debug, Clone)]
pub struct Caller {
    client: reqwest::Client,
    base: String,
}

impl Caller {
    /// A caller of the service at `base`.
    pub fn of(base: String) -> Self {
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build();
        Self { client: client.expect("a client"), base }
    }

    /// Posts a webhook once, as the registry does; `None` when there was no whole answer in time.
    pub async fn post(&self, region: &str, body: String) -> Option<(u16, Value)> {
        self.ask(self.client.post(format!("{}/api/ImagePush?region={region}", self.base)).body(body)).await
    }

    /// The status document of a push; `None` when there is none, or no service to ask.
    pub async fn status(&self, id: &str) -> Option<Value> {
        let (code, body) = self.look(id).await?;
        matches!(code, 200 | 202).then_some(body)
    }

    /// Status code and body of the answer to a question for a push; `None` when there was no whole answer in time.
    pub async fn look(&self, id: &str) -> Option<(u16, Value)> {
        self.ask(self.client.get(format!("{}/api/pushes/{id}", self.base))).await
    }

    /// Whether anybody answers there.
    pub async fn is_answered(&self) -> bool {
        self.ask(self.client.get(&self.base)).await.is_some()
    }

    /// What an operator asks for a push: `terminate`, `redeliver`.
    pub async fn operate(&self, id: &str, operation: &str) -> Option<u16> {
        Some(self.ask(self.client.post(format!("{}/api/pushes/{id}/{operation}", self.base))).await?.0)
    }

    /// Status of the answer when an operator removes a push.
    pub async fn delete(&self, id: &str) -> Option<u16> {
        Some(self.ask(self.client.delete(format!("{}/api/pushes/{id}", self.base))).await?.0)
    }

    /// Ids of all pushes.
    pub async fn pushes(&self) -> Option<Vec<String>> {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let request = self.client.get(format!("{}/api/pushes?limit=500{cursor}", self.base));
            let (200, page) = self.ask(request).await? else { return None };
            let of = |push: &Value| push["instanceId"].as_str().map(str::to_owned);
            ids.extend(page["pushes"].as_array()?.iter().filter_map(of));
            match page["next"].as_str() {
                None => return Some(ids),
                Some(next) => {
                    let next: String = reqwest::Url::parse_with_params("http://x/", [("cursor", next)])
                        .expect("a URL")
                        .query()
                        .expect("a query")
                        .to_owned();
                    cursor = format!("&{next}");
                }
            }
        }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
        let answer = request.send().await.ok()?;
        let code = answer.status().as_u16();
        let body = answer.bytes().await.ok()?;
        Some((code, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// Whether a push has settled and owes nothing.
pub fn is_at_rest(status: &Value) -> bool {
    let owed = |n: &Value| n["state"] == "owed";
    status["runtimeStatus"] == "Completed"
        && status["customStatus"]["notifications"].as_array().is_some_and(|all| !all.iter().any(owed))
}
