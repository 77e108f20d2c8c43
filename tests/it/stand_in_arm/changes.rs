//! What changes webhooks, and the operations that it begins.

use serde_json::{Value, json};

use super::{Answer, Replica, SUBSCRIPTION, State, Webhook, error, folded};

impl State {
    pub(super) fn put(&mut self, name: &str, body: Value) -> Option<Answer> {
        let location = folded(body["location"].as_str().unwrap_or_default());
        let complete = |replica: &Replica| {
            folded(&replica.location) == location && replica.looks == 0 && replica.state == "Succeeded"
        };
        if location != folded(self.home) && (!self.replicas.iter().any(complete) || self.unknown > 0) {
            self.unknown = self.unknown.saturating_sub(1);
            return Some(error(404, "RegistryResourceNotFound", "The registry could not be found in this location."));
        }
        if self.webhooks.get(&name.to_lowercase()).is_some_and(|there| folded(&there.location) != location) {
            let message = format!("The resource '{name}' already exists in another location.");
            return Some((409, String::new(), json!({ "code": "InvalidResourceLocation", "message": message })));
        }
        let url = body["properties"]["serviceUri"].as_str().unwrap_or_default();
        let plain = (5..=50).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || !url.starts_with("https://") || body["properties"]["actions"].as_array().is_none_or(Vec::is_empty)
        {
            // As some services do, with what they were sent.
            return Some((
                400,
                String::new(),
                json!({ "code": "InvalidRequest", "message": format!("not valid: {body}") }),
            ));
        }
        let state = if self.slow > 0 || self.hangs.is_some() { "Creating" } else { "Succeeded" };
        let (tags, properties) = (body["tags"].clone(), body["properties"].clone());
        let looks = if self.hangs.is_some() { 2 } else { self.slow };
        let region = location.clone();
        let webhook = Webhook { name: name.to_owned(), location, tags, properties, state, looks };
        self.webhooks.insert(name.to_lowercase(), webhook);
        if self.hangs == Some(region.as_str()) {
            return None;
        }
        Some(self.begun(name, 201))
    }

    pub(super) fn patch(&mut self, name: &str, body: &Value) -> Answer {
        let Some(webhook) = self.webhooks.get_mut(&name.to_lowercase()) else {
            return error(404, "ResourceNotFound", "The webhook was not found.");
        };
        if body.get("location").is_some() {
            return error(400, "InvalidRequest", "location cannot be patched");
        }
        for (member, value) in body["properties"].as_object().unwrap() {
            match value.as_object() {
                // Nobody promises whether a map takes the place of the one before or is added to it: the worse of the two.
                Some(map) => webhook.properties[member].as_object_mut().unwrap().extend(map.clone()),
                // Nor that nothing takes the place of something.
                None if value == "" => {}
                None => webhook.properties[member] = value.clone(),
            }
        }
        if let Some(tags) = body.get("tags") {
            webhook.tags = tags.clone();
        }
        webhook.state = if self.slow > 0 { "Updating" } else { "Succeeded" };
        webhook.looks = self.slow;
        self.begun(name, 201)
    }

    pub(super) fn delete(&mut self, name: &str) -> Answer {
        let slow = self.slow;
        match self.webhooks.get_mut(&name.to_lowercase()) {
            None => (204, String::new(), Value::Null),
            Some(webhook) if slow > 0 => {
                (webhook.state, webhook.looks) = ("Deleting", slow);
                self.begun(name, 202)
            }
            Some(_) => {
                self.webhooks.remove(&name.to_lowercase());
                (200, String::new(), Value::Null)
            }
        }
    }

    /// The answer to what may take long.
    fn begun(&mut self, name: &str, status: u16) -> Answer {
        let body = self.webhooks[&name.to_lowercase()].json();
        if self.slow == 0 {
            return (200, String::new(), body);
        }
        self.signature += 1;
        self.operations.insert(self.signature, (name.to_lowercase(), self.slow));
        (status, self.pointer(status == 202), if status == 202 { Value::Null } else { body })
    }

    /// The header that says where to ask next.
    fn pointer(&self, by_location: bool) -> String {
        let (name, way) = if by_location { ("Location", "location") } else { ("Azure-AsyncOperation", "status") };
        let (port, signature) = (self.port, self.signature);
        let path = format!(
            "/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerRegistry/locations/x/operationStatuses/o"
        );
        format!(
            "{name}: http://127.0.0.1:{port}{path}?api-version=2025-11-01&way={way}&s={signature}%2B\r\n{}",
            self.pace
        )
    }

    pub(super) fn operation(&mut self, query: &str) -> Answer {
        let by_location = query.contains("way=location");
        let signature =
            query.split("s=").last().and_then(|s| s.strip_suffix("%2B")).and_then(|s| s.parse::<u32>().ok());
        let Some((name, left)) = signature.and_then(|signature| self.operations.remove(&signature)) else {
            return error(400, "InvalidSignature", "The address of the operation is not the last one.");
        };
        self.look();
        let left = left - 1;
        if left == 0 {
            let ended = self.operation_words[usize::from(self.operation_fails)];
            if let Some(webhook) = self.webhooks.get_mut(&name).filter(|_| self.operation_fails) {
                (webhook.state, webhook.looks) = (ended, 0);
            }
            let why = self
                .operation_fails
                .then(|| json!({ "code": "InternalError", "message": "The name did not resolve." }));
            return if by_location {
                (204, String::new(), Value::Null)
            } else {
                (200, String::new(), json!({ "status": ended, "error": why }))
            };
        }
        self.signature += 1;
        self.operations.insert(self.signature, (name, left));
        let status = if by_location { 202 } else { 200 };
        (status, self.pointer(by_location), json!({ "status": "Creating" }))
    }
}
