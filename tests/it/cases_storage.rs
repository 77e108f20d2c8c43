//! Small inputs that are easily got wrong, each with its number: those about storage that is away, slow or shared, and
//! about what lies in it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cases::Stage;
use crate::proxy::Proxy;
use crate::raw::Raw;
use crate::strict::Strict;
use crate::support::azurite::{Azurite, azurite};
use crate::support::caller::Caller;
use crate::support::gate::{Gate, Mode};
use crate::support::service::{Deployment, Image, LIMIT, QUEUE};
use crate::support::{eventually, pause};

const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";

/// The table that goes with the queue.
const TABLE: &str = "GlobalWebhook";

async fn on_azurite<T: Send + 'static>(work: impl FnOnce(&'static Azurite) -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(|| work(azurite())).await.expect("Azurite")
}

/// Once, as the registry does; it must be accepted. The push's id, or its key.
async fn accepted(caller: &Caller, region: &str, image: &Image) -> String {
    let (code, answer) = caller.post(region, image.notification()).await.expect("an answer within the registry's 5 s");
    assert_eq!(code, 202, "{answer}");
    answer["id"].as_str().expect("an id").to_owned()
}

/// The table refuses for longer and for less than the time-out, from the beginning and from the middle of a push on, and the
/// queue works: whatever was accepted in time counts.
async fn a1(deployment: Deployment) {
    const AWAY: Duration = Duration::from_secs(30);
    let (table_address, queue_port) = on_azurite(|a| (a.tables(), a.queues().port())).await;
    let tables = Gate::to(table_address, Mode::Open).await;
    let account = azurite().account_at(tables.port(), queue_port);
    let rule = json!([{ "tag": "*long-*", "timeout": "0:1:0" }]).to_string();
    let mut stage = Stage::on(deployment, Some(&account), "e,w", "0:0:20", &[("WebhookRules", &rule)]).await;
    let caller = stage.service.caller();
    let images = |(tag, count): (&str, usize)| -> Vec<Image> {
        (0..count).map(|n| Image::new("team/shop", &format!("{tag}-{n}"))).collect()
    };
    let begun = [("begun-short", 3), ("begun-long", 3)].map(images).concat();
    let new = [("short", 10), ("long", 3)].map(images).concat();
    let warm = Image::new("team/shop", "warm");
    for region in ["e", "w"] {
        stage.push(region, &warm).await;
    }
    for image in &begun {
        stage.push("e", image).await;
    }
    tables.set(Mode::Dead).await;
    let away = Instant::now();
    let arrivals = begun.iter().map(|image| ("w", image)).chain(new.iter().flat_map(|i| [("e", i), ("w", i)]));
    let arrivals = arrivals.map(|(region, image)| accepted(&caller, region, image));
    let ids = futures_util::future::join_all(arrivals).await;
    // The short time-outs are over meanwhile, the long ones not.
    pause(AWAY.saturating_sub(away.elapsed())).await;
    tables.set(Mode::Open).await;
    for image in begun.iter().chain(&new) {
        stage.told(image, &["replicated"]).await;
    }
    for id in &ids {
        assert_eq!(stage.service.at_rest(id).await["output"]["outcome"], "replicated");
    }
    assert_eq!(stage.heard().len(), 1 + begun.len() + new.len(), "nothing else is told");
}

/// DELETE of a settled push in the moment in which its next round is opened: one push waits, never two.
async fn purged_while_the_next_round_opens(stages: &mut [Stage]) {
    const IMAGES: usize = 6;
    const ROUNDS: u64 = 4;
    const TIMEOUT: Duration = Duration::from_secs(4);
    let callers: Vec<Caller> = stages.iter().map(|stage| stage.service.caller()).collect();
    let other = callers.last().expect("a caller");
    let service = &stages[0].service;
    let images = (0..IMAGES).map(async |n| {
        let image = Image::new("team/shop", &format!("a8-{n}"));
        let mut id = String::new();
        for round in 0..=ROUNDS {
            // The last push is settled, and so long ago that this is the next one.
            let purge = async {
                if round > 0 {
                    pause(Duration::from_micros(n as u64 * 700)).await;
                    let purged = callers[0].delete(&id).await;
                    assert_eq!(purged, Some(200), "{id}");
                }
            };
            let arrive = async |caller: &Caller, region: &str, later: u64| {
                pause(Duration::from_micros(later * 500)).await;
                accepted(caller, region, &image.again()).await
            };
            let (e, w, ()) = tokio::join!(arrive(&callers[0], "e", round), arrive(other, "w", (round * 7) % 4), purge);
            assert_eq!(e.split('-').next(), w.split('-').next(), "one content");
            let status = service.at_rest(if e.contains('-') { &e } else { &w }).await;
            assert_eq!(status["output"]["outcome"], "replicated", "{status:#}");
            id = status["instanceId"].as_str().expect("an id").to_owned();
            pause(TIMEOUT + Duration::from_millis(200)).await;
        }
        (image, id)
    });
    let images = futures_util::future::join_all(images).await;
    let mut left = stages[0].pushes().await;
    let mut right: Vec<String> = images.iter().map(|(_, id)| id.clone()).collect();
    left.sort();
    right.sort();
    assert_eq!(left, right, "the last round of each image is there, and nothing else");
    for (image, _) in &images {
        let mut told = Vec::new();
        eventually("every round is told once", LIMIT, async || {
            told = stages.iter_mut().flat_map(|stage| stage.outcomes(image)).collect();
            told.len() as u64 > ROUNDS
        })
        .await;
        assert_eq!(told, vec!["replicated"; usize::try_from(ROUNDS).expect("small") + 1]);
    }
}

async fn a8(deployment: Deployment) {
    let stage = Stage::new(deployment, "e,w", "0:0:4", &[]).await;
    purged_while_the_next_round_opens(&mut [stage]).await;
}

/// The same, with the regions' webhooks and the DELETE at two processes of one app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_across_processes() {
    let account = on_azurite(Azurite::account).await;
    let mut stages = Vec::new();
    for _ in 0..2 {
        let app = [("WebhookApp", "one")];
        stages.push(Stage::on(Deployment::ServeAzure, Some(&account), "e,w", "0:0:4", &app).await);
    }
    purged_while_the_next_round_opens(&mut stages).await;
}

/// The queue is cleared while pushes wait and while notifications are owed: operators can act, and a start makes good.
async fn a9(deployment: Deployment) {
    let account = on_azurite(Azurite::account).await;
    let raw = Raw::of(&account);
    let clear = async || {
        let (code, answer) = raw.queue("DELETE", &format!("{QUEUE}/messages"), "", "").await;
        assert_eq!(code, 204, "{answer}");
        assert_eq!(raw.count(QUEUE).await, 0);
    };
    let rules = json!([{ "tag": "far", "timeout": "0:5:0" }]).to_string();
    let more = [("WebhookRetrySchedule", "PT12S,PT1S"), ("WebhookRules", rules.as_str())];
    let mut stage = Stage::on(deployment, Some(&account), "e,w", "0:0:12", &more).await;
    stage.ops.script(&[BUSY, BUSY]);
    let [owed, owed_by_hand] = ["owed", "owed-by-hand"].map(|tag| Image::new("team/shop", tag));
    let mut owing = Vec::new();
    for image in [&owed, &owed_by_hand] {
        stage.push("e", image).await;
        let id = stage.push("w", image).await;
        let failed = |status: &Value| status["customStatus"]["notifications"][0]["lastError"].is_string();
        stage.status("the first attempt fails", &id, failed).await;
        owing.push(id);
    }
    let [waiting, far] = ["waiting", "far"].map(|tag| Image::new("team/shop", tag));
    let (waits, ends) = (stage.push("e", &waiting).await, stage.push("e", &far).await);
    clear().await;
    let caller = stage.service.caller();
    assert_eq!(caller.operate(&ends, "terminate").await, Some(202));
    stage.told(&far, &["timed_out"]).await;
    assert_eq!(caller.operate(&owing[1], "redeliver").await, Some(202));
    stage.told(&owed_by_hand, &["replicated", "replicated"]).await;
    for id in [&ends, &owing[1]] {
        stage.service.at_rest(id).await;
        assert_eq!(caller.delete(id).await, Some(200), "{id}");
    }
    clear().await;
    stage.service.kill_do_and_restart(async |_| clear().await).await;
    let status = stage.service.at_rest(&waits).await;
    let lasted = status["output"]["durationMs"].as_u64().expect("a duration");
    assert!((12_000..20_000).contains(&lasted), "{status}");
    stage.told(&waiting, &["timed_out"]).await;
    stage.service.at_rest(&owing[0]).await;
    stage.told(&owed, &["replicated", "replicated"]).await;
}

/// Two apps that share an account and all names, each with receivers of its own. Each takes the other's timers and puts them
/// back; one that finds something looks again the sooner, so the other may have to wait for its own.
async fn a12(deployment: Deployment) {
    const PUSHES: usize = 8;
    let account = on_azurite(Azurite::account).await;
    let app = async |name| Stage::on(deployment, Some(&account), "e,w", "0:0:3", &[("WebhookApp", name)]).await;
    let health = async |stage: &Stage| -> Value {
        let answer = reqwest::get(format!("{}/api/ImagePush", stage.service.base_url())).await.expect("an answer");
        crate::support::service::json_of(answer).await
    };
    let mut one = app("production").await;
    // It has looked for others, and has seen none.
    eventually("the first app is alone", LIMIT, async || health(&one).await["otherApps"] == json!([])).await;
    let mut other = app("staging").await;
    let reached = "rows and queue work";
    eventually("the second app has signed", LIMIT, async || other.service.output().contains(reached)).await;
    let (mut of_one, mut of_other) = (Vec::new(), Vec::new());
    for n in 0..PUSHES {
        for (stage, images, name) in [(&one, &mut of_one, "one"), (&other, &mut of_other, "other")] {
            let image = Image::new("team/shop", &format!("{name}-{n}"));
            let id = stage.push("e", &image).await;
            if n % 4 == 0 {
                stage.push("w", &image).await;
            }
            images.push((image, id));
        }
    }
    for (stage, images) in [(&mut one, &of_one), (&mut other, &of_other)] {
        for (n, (image, id)) in images.iter().enumerate() {
            let outcome = if n % 4 == 0 { "replicated" } else { "timed_out" };
            eventually("each push is told", LIMIT * 3, async || !stage.outcomes(image).is_empty()).await;
            stage.told(image, &[outcome]).await;
            stage.service.at_rest(id).await;
        }
        assert_eq!(stage.heard().len(), PUSHES, "told of its own, and of nothing else");
    }
    // The first one trusts for a minute that it is alone; the second one has looked since.
    let seen = health(&other).await;
    assert_eq!((&seen["app"], &seen["otherApps"]), (&json!("staging"), &json!(["production"])));
    let output = one.service.output() + &other.service.output();
    let named = |line: &&str| {
        line.contains("ERROR") && line.contains("two apps") && line.contains("production") && line.contains("staging")
    };
    assert!(output.lines().any(|line| named(&line)), "{output}");
}

/// The same image through both apps, whose webhooks reach one row: whoever opened it tells of it, once.
async fn a12_with_the_same_image(deployment: Deployment) {
    let account = on_azurite(Azurite::account).await;
    let app = async |name| Stage::on(deployment, Some(&account), "e,w", "0:0:5", &[("WebhookApp", name)]).await;
    let mut stages = [app("production").await, app("staging").await];
    let images = [0, 1]
        .map(|opener| ["complete", "missing"].map(|tag| (opener, Image::new("team/shop", &format!("{tag}-{opener}")))));
    let images = images.as_flattened();
    let mut ids = Vec::new();
    for (opener, image) in images {
        let id = stages[*opener].push("e", image).await;
        assert_eq!(stages[1 - opener].push("e", image).await, id, "one push");
        if image.tag.starts_with("complete") {
            // The other app completes it, and leaves it to the one that opened it to tell.
            stages[1 - opener].push("w", image).await;
            stages[*opener].push("w", image).await;
        }
        ids.push(id);
    }
    for ((opener, image), id) in images.iter().zip(&ids) {
        let outcome = if image.tag.starts_with("complete") { "replicated" } else { "timed_out" };
        stages[*opener].told(image, &[outcome]).await;
        for stage in &stages {
            assert_eq!(stage.service.at_rest(id).await["output"]["outcome"], outcome);
        }
    }
    for (opener, stage) in stages.iter_mut().enumerate() {
        assert_eq!(stage.heard().len(), images.len() / 2, "told of what it opened, and of nothing else");
        assert!(images.iter().all(|(by, image)| *by == opener || stage.outcomes(image).is_empty()));
    }
}

/// Every answer of the storage takes 0.65 s.
async fn a13(deployment: Deployment) {
    let (tables, queues) = on_azurite(|a| (a.tables(), a.queues())).await;
    let (tables, queues) = (Proxy::to(tables).await, Proxy::to(queues).await);
    let account = azurite().account_at(tables.port(), queues.port());
    let mut stage = Stage::on(deployment, Some(&account), "e,w", "0:5:0", &[]).await;
    for proxy in [&tables, &queues] {
        proxy.slow(Duration::from_millis(650));
    }
    let caller = stage.service.caller();
    for n in 0..3 {
        let image = Image::new("team/shop", &format!("a13-{n}"));
        let (e, w) = tokio::join!(accepted(&caller, "e", &image), accepted(&caller, "w", &image));
        for id in [e, w] {
            assert_eq!(stage.service.at_rest(&id).await["output"]["outcome"], "replicated");
        }
        stage.told(&image, &["replicated"]).await;
    }
}

/// The first token of the app's managed identity comes two seconds after the first arrival.
async fn a13_with_a_late_token(deployment: Deployment) {
    const LATE: Duration = Duration::from_secs(2);
    let strict = Strict::before(on_azurite(|azurite| azurite).await).await;
    let mut stage = Stage::on(deployment, Some(strict.account()), "e,w", "0:5:0", &strict.identity()).await;
    let (caller, image) = (stage.service.caller(), Image::new("team/shop", "a13"));
    let sent = Instant::now();
    strict.issue_in(LATE);
    let e = accepted(&caller, "e", &image).await;
    assert!(sent.elapsed() >= LATE, "nothing is on record without a token");
    let w = accepted(&caller, "w", &image).await;
    for id in [e, w] {
        assert_eq!(stage.service.at_rest(&id).await["output"]["outcome"], "replicated");
    }
    stage.told(&image, &["replicated"]).await;
}

/// A row with members that this build does not know, changed by this build: in the table while it runs, in the file before it
/// starts again.
async fn a16(deployment: Deployment) {
    let account = on_azurite(Azurite::account).await;
    let raw = Raw::of(&account);
    let on = (deployment != Deployment::ServeEmbedded).then_some(account.as_str());
    let mut stage = Stage::on(deployment, on, "e,w", "0:5:0", &[]).await;
    let image = Image::new("team/shop", "a16");
    let id = stage.push("e", &image).await;
    let newer = |text: &str| {
        let mut row: Value = serde_json::from_str(text).expect("JSON");
        row["row"]["newer"] = json!({ "deep": [1, null] });
        row["row"]["subject"]["platform"] = json!("linux/arm64");
        row["row"]["phase"]["waiting"]["hint"] = json!(7);
        row.to_string()
    };
    let (place, content) = id.split_at(32);
    let (content, _round) = content.split_at(32);
    let entity = format!("{TABLE}(PartitionKey='{place}',RowKey='{content}-fffffffe')");
    let stored = async || -> Value {
        let (code, body) = raw.table("GET", &entity, "", "").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    if on.is_some() {
        let change = json!({ "Row0": newer(stored().await["Row0"].as_str().expect("a row")) });
        let (code, body) = raw.table("MERGE", &entity, "", &change.to_string()).await;
        assert_eq!(code, 204, "{body}");
    }
    let in_file = async |file: &std::path::Path, change: bool| {
        let file = rusqlite::Connection::open(file).expect("the file");
        let body: String = file.query_row("SELECT body FROM pushes", [], |row| row.get(0)).expect("a row");
        if change {
            file.execute("UPDATE pushes SET body = ?1", [newer(&body)]).expect("a change");
        }
        body
    };
    stage
        .service
        .kill_do_and_restart(async |file| {
            if let Some(file) = file.filter(|_| on.is_none()) {
                in_file(file, true).await;
            }
        })
        .await;
    stage.push("w", &image).await;
    stage.told(&image, &["replicated"]).await;
    stage.service.at_rest(&id).await;
    let mut left = String::new();
    if on.is_some() {
        stored().await["Row0"].as_str().expect("a row").clone_into(&mut left);
    }
    stage
        .service
        .kill_do_and_restart(async |file| {
            if let Some(file) = file.filter(|_| on.is_none()) {
                left = in_file(file, false).await;
            }
        })
        .await;
    let left: Value = serde_json::from_str(&left).expect("JSON");
    let members = (&left["row"]["newer"], &left["row"]["subject"]["platform"]);
    assert_eq!(members, (&json!({ "deep": [1, null] }), &json!("linux/arm64")), "{left}");
    // What it belonged to is gone with it.
    assert!(left["row"]["phase"]["settled"].is_object() && left["row"]["phase"].get("waiting").is_none(), "{left}");
}

/// One test for each case and deployment.
macro_rules! in_deployments {
    ($($module:ident, $deployment:ident: $($case:ident)*;)*) => {$(
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::Deployment::$deployment).await;
                }
            )*
        }
    )*};
}

in_deployments! {
    handlers, Handler: a1 a8 a9 a12 a12_with_the_same_image a13 a13_with_a_late_token a16;
    serve_on_azurite, ServeAzure: a1 a8 a9 a12 a12_with_the_same_image a13 a13_with_a_late_token a16;
    serve_on_the_embedded_store, ServeEmbedded: a8 a16;
}
