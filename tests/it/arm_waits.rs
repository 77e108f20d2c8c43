//! That every wait for ARM has an end, in the time of a clock that does not wait.

use std::sync::{Arc, Mutex};

use global_webhook::arm::plan::{self, Set, Template};
use global_webhook::arm::registry::{self, Registry};
use global_webhook::arm::{Client, Credential, Error, Place, webhooks};
use global_webhook::clock::Clock;
use global_webhook::config::storage::Identity;

use crate::arm::URL;
use crate::arm_troubles::fault;
use crate::send::Fast;
use crate::stand_in_arm::{Arm, id};
use crate::support::recorder::Recorder;

pub struct Caller {
    pub client: Client,
    clock: Arc<Fast>,
    pub registry: Registry,
    set: Set,
}

impl Caller {
    pub async fn of(arm: &Arm) -> Self {
        let endpoint = Recorder::default();
        let body = r#"{"access_token":"t0ken-1","expires_on":4102444800}"#;
        endpoint.script(&[format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()]);
        let endpoint = format!("http://127.0.0.1:{}/msi/token", endpoint.listen().await);
        let identity = Identity { client_id: None, endpoint, header: "proof".into() };
        let clock = Arc::new(Fast(Mutex::new("2026-11-22T08:00:00Z".parse().unwrap())));
        let base = format!("http://127.0.0.1:{}", arm.port).parse().unwrap();
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let client = Client::new(Place::Public, Some(&base), Credential::Managed(identity), time, |_| ()).unwrap();
        let registry = registry::read(&client, &id("contoso").parse().unwrap()).await.unwrap();
        Self { client, clock, registry, set: Set::of("acrgw").unwrap() }
    }

    /// Makes the webhook of a region: what came of it, and the seconds that it took.
    async fn create(&self, region: &str) -> (Result<(), Error>, i64) {
        let template = Template {
            url: URL.parse().unwrap(),
            key: None,
            scope: String::new(),
            actions: ["push".to_owned()].into(),
        };
        let all = plan::wanted(&template, &self.set, &self.registry);
        let wanted = all.iter().find(|wanted| wanted.region.as_str() == region).unwrap();
        let tags = self.set.tags(&std::collections::BTreeMap::new());
        let begun = self.clock.now();
        let made = webhooks::create(&self.client, &self.registry, wanted, &tags).await;
        (made, (self.clock.now() - begun).num_seconds())
    }
}

#[tokio::test]
async fn an_operation_without_an_end_is_given_up() {
    let arm = Arm::start().await;
    let caller = Caller::of(&arm).await;
    (arm.state().slow, arm.state().pace) = (u32::MAX, "");
    let (made, seconds) = caller.create("westeurope").await;
    assert!(matches!(made, Err(Error::Slow(_))) && (600..=620).contains(&seconds), "{made:?} after {seconds} s");
    assert_eq!(arm.state().count("GET", "/operationStatuses/"), 60);
    // An answer that says to look again in an hour is not obeyed.
    arm.state().pace = "Retry-After: 3600\r\n";
    let (made, seconds) = caller.create("northeurope").await;
    assert!(matches!(made, Err(Error::Slow(_))) && (600..=660).contains(&seconds), "{made:?} after {seconds} s");
    // What an earlier command left behind.
    let begun = caller.clock.now();
    let settled = webhooks::settled(&caller.client, &caller.registry, &caller.set).await;
    assert!(matches!(settled, Err(Error::Slow(_))), "{settled:?}");
    assert!((600..=620).contains(&(caller.clock.now() - begun).num_seconds()));
}

#[tokio::test]
async fn throttling_without_an_end_is_given_up() {
    let arm = Arm::start().await;
    let caller = Caller::of(&arm).await;
    for (status, waited) in [(429, 40), (503, 15)] {
        arm.state().faults = vec![fault("PUT", "", 99, status, serde_json::Value::Null)];
        let calls = arm.state().count("PUT", "");
        let (made, seconds) = caller.create("westeurope").await;
        assert_eq!((made.unwrap_err().status(), seconds), (Some(status), waited));
        assert_eq!(arm.state().count("PUT", ""), calls + 5);
    }
}

#[tokio::test]
async fn a_replica_that_never_gets_ready_is_given_up() {
    let arm = Arm::start().await;
    arm.state().unknown = u32::MAX;
    let (made, seconds) = Caller::of(&arm).await.create("northeurope").await;
    let error = made.unwrap_err();
    assert_eq!((error.status(), (60..=66).contains(&seconds)), (Some(404), true), "{seconds} s");
    assert!(error.to_string().contains("run the command again in some minutes"), "{error}");
    arm.state().replicate("eastus");
    arm.state().replicas[1].looks = u32::MAX;
    let (made, seconds) = Caller::of(&arm).await.create("eastus").await;
    assert!(matches!(made, Err(Error::Slow(_))) && (600..=606).contains(&seconds), "{made:?} after {seconds} s");
    // It goes away while it is waited for.
    let caller = Caller::of(&arm).await;
    arm.state().replicas.pop();
    assert!(matches!(caller.create("eastus").await.0, Err(Error::Failed(_))));
}
