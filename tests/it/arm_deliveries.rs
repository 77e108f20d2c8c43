//! The registry's log of a webhook, and pings.

use global_webhook::arm::deliveries::{self, Delivery};
use serde_json::json;

use crate::arm_troubles::fault;
use crate::arm_waits::Caller;
use crate::stand_in_arm::Arm;

#[tokio::test]
async fn the_log_is_read_without_its_secrets() {
    let arm = Arm::start().await;
    let push = json!({ "id": "5f0c", "timestamp": "2026-11-22T10:00:00.1234567Z", "action": "push",
        "target": { "digest": "sha256:3b1c", "repository": "shop/cart", "tag": "1.4.2" } });
    let sent = |content: &serde_json::Value| {
        json!({ "content": content, "headers": { "x-functions-key": "0ld-secret" }, "method": "POST",
            "requestUri": "https://fn.example/api/ImagePush?region=westeurope&code=0ld-secret", "version": "1.1" })
    };
    let answered =
        json!({ "content": "0ld-secret", "headers": {}, "reasonPhrase": "Gateway Timeout", "statusCode": "504" });
    let ping = json!({ "id": "9a", "timestamp": "soon", "action": "ping" });
    arm.state().log = json!({ "value": [
        { "id": "5f0c", "eventRequestMessage": sent(&push), "eventResponseMessage": answered },
        { "id": "9a", "eventRequestMessage": sent(&ping) },
        {},
    ] });
    let Caller { client, registry, .. } = Caller::of(&arm).await;
    let log = deliveries::list(&client, &registry, "acrgwwesteurope").await.unwrap();
    let first = Delivery {
        id: "5f0c".into(),
        at: Some("2026-11-22T10:00:00.1234567Z".parse().unwrap()),
        action: "push".into(),
        repository: "shop/cart".into(),
        tag: "1.4.2".into(),
        digest: "sha256:3b1c".into(),
        status: Some(504),
    };
    assert_eq!(log[0], first);
    assert_eq!((log[1].action.as_str(), log[1].at, log[1].status, log[1].digest.as_str()), ("ping", None, None, ""));
    assert_eq!(log.len(), 3);
    assert!(!format!("{log:?}").contains("0ld-secret"));
    arm.state().log = json!({});
    assert!(deliveries::list(&client, &registry, "acrgwwesteurope").await.unwrap_err().to_string().contains("no list"));
}

#[tokio::test]
async fn a_ping_says_what_will_arrive() {
    let arm = Arm::start().await;
    let Caller { client, registry, .. } = Caller::of(&arm).await;
    let id = deliveries::ping(&client, &registry, "acrgwwesteurope").await;
    assert_eq!(id, Ok("11110000-0000-4000-8000-000000000001".into()));
    arm.state().faults = vec![fault("POST", "/ping", 1, 200, json!({}))];
    assert!(deliveries::ping(&client, &registry, "acrgwwesteurope").await.is_err());
}
