//! `receive` as a process of its own.

use std::process::{Command, Stdio};

use crate::support::service::LIMIT;
use crate::support::{eventually, free_port};

#[tokio::test]
async fn what_is_sent_is_printed() {
    let port = free_port();
    let mut child = Command::new(env!("CARGO_BIN_EXE_global-webhook"))
        .args(["receive", "--listen", &format!("127.0.0.1:{port}")])
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .expect("receive starts");
    let client = reqwest::Client::new();
    let mut status = 0;
    eventually("receive listens", LIMIT, async || {
        let request = client.post(format!("http://127.0.0.1:{port}/")).header("webhook-id", "msg_1");
        status = request.body(r#"{"type":"acr.image.replicated"}"#).send().await.map_or(0, |a| a.status().as_u16());
        status != 0
    })
    .await;
    assert_eq!(status, 204);
    child.kill().expect("killed");
    let printed = child.wait_with_output().expect("its output").stdout;
    assert_eq!(String::from_utf8_lossy(&printed), "global webhook msg_1\n{\n  \"type\": \"acr.image.replicated\"\n}\n");
}
