//! `health` against a running `serve`, and where none runs.

use std::process::{Command, Output};

use crate::support::free_port;
use crate::support::service::Serve;

fn health(url: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_global-webhook");
    Command::new(program).args(["health", "--timeout", "20s", "--url", url]).output().expect("the program")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_says_whether_the_service_is_well() {
    let serve = Serve::start(&[("WebhookRegions", "westus")], &[]).await;
    let well = health(&format!("{}/livez", serve.base_url()));
    assert!(well.status.success() && well.stdout.is_empty() && well.stderr.is_empty(), "{well:?}");
    // Anything but a success is not well, and a secret in the address is not repeated.
    let nothing_there = health(&format!("{}/nothing?code=s3cret", serve.base_url()));
    let nobody = health(&format!("http://user:s3cret@127.0.0.1:{}/livez", free_port()));
    for (not_well, words) in [(nothing_there, "404"), (nobody, "nothing listens")] {
        let said = String::from_utf8_lossy(&not_well.stderr).into_owned();
        assert_eq!(not_well.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && !said.contains("s3cret"), "{said}");
    }
}
