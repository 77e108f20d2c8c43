//! `wait`: the real program against a real service that replicates, does not, restarts and is not there.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::command::{Running, lateness, program, run};
use crate::support::free_port;
use crate::support::service::{Image, Serve};

const REGIONS: (&str, &str) = ("WebhookRegions", "northeurope,westus,eastus");

fn named(image: &Image) -> String {
    format!("contoso.azurecr.io/{}:{}@{}", image.repository, image.tag, image.digest)
}

fn wait(serve: &Serve, args: &[&str]) -> Running {
    Running::start(program(&serve.base_url(), &[&["wait"], args].concat()))
}

async fn post(serve: &Serve, image: &Image, regions: &[&str]) {
    for region in regions {
        let (status, body) = serve.caller().post(region, image.notification()).await.expect("an answer");
        assert_eq!(status, 202, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_the_moment_the_last_region_reports() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let mut best = Duration::MAX;
    for n in 0..3 {
        let image = Image::new("shop/cart", &n.to_string());
        let wait = wait(&serve, &[&named(&image), "--timeout", "50s", "--json"]);
        // It waits before the image is there at all.
        post(&serve, &image, &["westus"]).await;
        wait.said("westus has it (1 of 3)\n").await;
        post(&serve, &image, &["northeurope"]).await;
        wait.said("northeurope has it (2 of 3), ").await;
        assert_eq!(wait.out(), "", "nothing but the end is written to standard output");
        let last = Instant::now();
        post(&serve, &image, &["eastus"]).await;
        let ended = wait.ended().await;
        best = best.min(lateness(&ended, last));
        let status = &ended.document()["customStatus"];
        assert_eq!((ended.code, &status["state"], &status["digest"]), (0, &json!("replicated"), &json!(image.digest)));
        assert!(ended.err.contains("Replicated: 3 of 3 regions have it"), "{}", ended.err);
    }
    eprintln!("the last region's webhook to the end of the command: {best:?}");
    assert!(best < Duration::from_secs(1), "{best:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_everywhere_in_time_is_told_with_what_is_missing() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let image = Image::new("shop/cart", "1");
    post(&serve, &image, &["westus"]).await;
    let begun = Instant::now();
    let ended = wait(&serve, &[&named(&image), "--timeout", "1500ms", "--json"]).ended().await;
    assert!(lateness(&ended, begun) >= Duration::from_millis(1500), "{ended:?}");
    assert_eq!((ended.code, &ended.document()["customStatus"]["missing"]), (3, &json!(["northeurope", "eastus"])));
    let words = "error: Not everywhere within 1.5 s: 1 of 3 regions have it, missing northeurope, eastus.";
    assert!(ended.err.contains(words), "{}", ended.err);
    // With no time at all it is a question.
    assert_eq!(wait(&serve, &[&named(&image), "--timeout", "0s"]).ended().await.code, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_on_after_the_services_own_time_out() {
    let serve = Serve::start(&[REGIONS, ("WebhookTimeout", "0:0:1")], &[]).await;
    let image = Image::new("shop/cart", "1");
    let wait = wait(&serve, &["contoso.azurecr.io/shop/cart:1", "--timeout", "50s"]);
    post(&serve, &image, &["westus", "eastus"]).await;
    wait.said("time-out has passed without northeurope; waiting goes on.").await;
    post(&serve, &image, &["northeurope"]).await;
    let ended = wait.ended().await;
    assert!(ended.code == 0 && ended.err.contains("Recovered: 3 of 3 regions") && ended.out.is_empty(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_nobody_reported_is_never_seen() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let image = Image::new("shop/cart", "1");
    post(&serve, &image, &["westus"]).await;
    let other = Image::new("shop/cart", "1");
    let tag = "contoso.azurecr.io/shop/cart:1";
    for args in [
        vec![named(&other), "--timeout".into(), "50s".into(), "--appear".into(), "1s".into()],
        vec![named(&other), "--timeout".into(), "1s".into()],
        // A push of the tag that is too old.
        vec![tag.into(), "--appear".into(), "1s".into(), "--since".into(), "0s".into()],
    ] {
        let ended = wait(&serve, &args.iter().map(String::as_str).collect::<Vec<_>>()).ended().await;
        assert!(ended.code == 4 && ended.err.contains("Never seen") && ended.out.is_empty(), "{args:?}: {ended:?}");
        assert!(ended.err.contains("within 1 s"), "{}", ended.err);
    }
    let ended = wait(&serve, &[tag, "--timeout", "1s", "--since", "1h"]).ended().await;
    assert_eq!(ended.code, 3, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_is_purged_meanwhile_was_seen() {
    let serve = Serve::start(&[REGIONS, ("WebhookTimeout", "0:0:1")], &[]).await;
    for (n, by_digest) in [true, false].into_iter().enumerate() {
        let image = Image::new("shop/cart", &n.to_string());
        let named = if by_digest { named(&image) } else { format!("contoso.azurecr.io/shop/cart:{n}") };
        let wait = wait(&serve, &[&named, "--timeout", "50s", "--json"]);
        post(&serve, &image, &["westus"]).await;
        wait.said("time-out has passed without").await;
        let purged = Instant::now();
        assert_eq!(run(&serve.base_url(), &["purge", &named]).await.code, 0);
        let ended = wait.ended().await;
        assert!(ended.code == 4 && ended.out.is_empty(), "{ended:?}");
        assert!(ended.err.contains("It was purged meanwhile") && !ended.err.contains("Never seen"), "{ended:?}");
        assert!(lateness(&ended, purged) < Duration::from_secs(20), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moved_on_is_superseded() {
    let serve = Serve::start(&[REGIONS, ("WebhookTimeout", "0:0:2")], &[]).await;
    let (first, second) = (Image::new("shop/cart", "1"), Image::new("shop/cart", "1"));
    post(&serve, &first, &["westus"]).await;
    let wait = wait(&serve, &[&named(&first), "--timeout", "50s", "--json"]);
    wait.said("westus has it").await;
    post(&serve, &second, &["westus", "eastus", "northeurope"]).await;
    let ended = wait.ended().await;
    assert_eq!((ended.code, &ended.document()["customStatus"]["state"]), (5, &json!("superseded")), "{}", ended.err);
    assert!(ended.err.contains("Superseded: the tag carries another image by now."), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_push_of_the_tag_is_told_of() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    let (first, second) = (Image::new("shop/cart", "1"), Image::new("shop/cart", "1"));
    post(&serve, &first, &["westus"]).await;
    let wait = wait(&serve, &["contoso.azurecr.io/shop/cart:1", "--timeout", "50s"]);
    wait.said("westus has it (1 of 3)").await;
    let pushed = Instant::now();
    // As many regions have it as had the other, and the wait is told at once.
    post(&serve, &second, &["eastus"]).await;
    wait.said("A newer push of it has come, and is waited for instead.\nPush ").await;
    wait.said("eastus has it (1 of 3)").await;
    assert!(pushed.elapsed() < Duration::from_secs(20), "{:?}", pushed.elapsed());
    post(&serve, &second, &["westus", "northeurope"]).await;
    assert_eq!(wait.ended().await.code, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_image_is_answered_with_what_one_looks_like() {
    let serve = Serve::start(&[REGIONS], &[]).await;
    for (image, words) in [
        ("shop", "registry/repository:tag@digest"),
        ("https://contoso.azurecr.io/shop/cart:1", "registry/repository:tag@digest"),
        ("contoso.azurecr.io/shop/cart@1.4.2", "contoso.azurecr.io/shop/cart:1.4.2@sha256:…"),
        ("shop/cart:1", "names no registry"),
        ("contoso.azurecr.io/shop/cart:1@sha256:9f2c41", "`global-webhook list --digest` takes its beginning"),
        ("contoso.azurecr.io/shop/cart:1@md5:abc", "64 hex digits in lower case"),
        ("contoso.azurecr.io/shop/cart:a:b", "more than one tag"),
        ("contoso.azurecr.io//cart:1", "one `/` between two"),
        ("contoso.azurecr.io/Shop/cart:1", "lower-case letters"),
    ] {
        let ended = wait(&serve, &[image]).ended().await;
        assert!(ended.code == 2 && ended.err.contains(words) && ended.out.is_empty(), "{image}: {ended:?}");
        // What is no image is none for the other commands either, and for the service.
        let shown = run(&serve.base_url(), &["show", image]).await;
        assert!(shown.code == 2 && shown.err.contains(words), "{image}: {shown:?}");
        let url = format!("{}/api/pushes?image={image}", serve.base_url());
        assert_eq!(reqwest::get(url).await.expect("an answer").status().as_u16(), 400, "{image}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_the_service_are_survived() {
    let mut serve = Serve::start(&[REGIONS], &[]).await;
    let image = Image::new("shop/cart", "1");
    let wait = wait(&serve, &[&named(&image), "--timeout", "55s"]);
    post(&serve, &image, &["westus"]).await;
    wait.said("westus has it").await;
    serve.kill();
    wait.said("trying again until").await;
    serve.kill_and_restart().await;
    wait.said("The service answers again.").await;
    // An orderly end answers every call that waits at once, and refuses nothing.
    serve.terminate();
    serve.ended(Duration::from_secs(30)).await;
    serve.kill_and_restart().await;
    post(&serve, &image, &["eastus", "northeurope"]).await;
    let ended = wait.ended().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!((1..=2).contains(&ended.err.matches("trying again").count()), "once for each time: {}", ended.err);
    assert_eq!(ended.err.matches(" has it (").count(), 3, "each region is told of once: {}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_not_there_is_waited_for_and_told_of() {
    let image = Image::new("shop/cart", "1");
    let base = format!("http://127.0.0.1:{}", free_port());
    let begun = Instant::now();
    let ended = run(&base, &["wait", &named(&image), "--timeout", "1s"]).await;
    assert!(ended.code == 1 && lateness(&ended, begun) >= Duration::from_secs(1), "{ended:?}");
    assert_eq!((ended.err.matches("Nothing listens at").count(), ended.err.matches("trying again").count()), (2, 1));
    // Whether an image needs its registry is for the service to say, so it is waited for too, and people are told.
    let ended = run(&base, &["wait", "shop/cart:1", "--timeout", "1s"]).await;
    assert!(ended.code == 1 && ended.err.matches("The image names no registry").count() == 1, "{ended:?}");
    // What was known when it went away is the end that counts.
    let mut serve = Serve::start(&[REGIONS], &[]).await;
    post(&serve, &image, &["westus"]).await;
    let wait = wait(&serve, &[&named(&image), "--timeout", "4s", "--json"]);
    wait.said("westus has it").await;
    serve.kill();
    let ended = wait.ended().await;
    assert_eq!((ended.code, &ended.document()["customStatus"]["state"]), (3, &json!("waiting")), "{}", ended.err);
    assert!(ended.err.contains("So it was when the service answered last."), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_or_address_ends_it_at_once() {
    let serve = Serve::start(&[REGIONS, ("WebhookKey", "registrys"), ("WebhookOperatorKey", "operators")], &[]).await;
    let image = named(&Image::new("shop/cart", "1"));
    let elsewhere = format!("{}/elsewhere", serve.base_url());
    for (args, words) in [
        (vec!["--key", "wrong"], "refused the function key"),
        (vec![], "asks for a function key"),
        (vec!["--key", "registrys"], "operators"),
        (vec!["--key", "operators", "--url", &elsewhere], "is not this service (404)"),
    ] {
        let begun = Instant::now();
        let ended = wait(&serve, &[&[image.as_str(), "--timeout", "55s"], args.as_slice()].concat()).ended().await;
        assert!(ended.code == 1 && ended.err.contains(words), "{args:?}: {ended:?}");
        assert!(lateness(&ended, begun) < Duration::from_secs(20), "{ended:?}");
    }
}
