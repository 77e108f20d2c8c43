//! Real kills at scale: pushes flow in from concurrent senders, in shuffled regions, some twice, some never, while processes
//! are killed and storage is disturbed at random instants. What was accepted must be there at the end, once and right.
//!
//! The senders are the registry: one attempt for each webhook, and only a 2xx counts as accepted. What was refused or cut
//! off may be on record or not. `STORM_PUSHES` and `STORM_SECONDS` for the long form, `SEED` to throw the same dice again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::azurite::{Azurite, azurite};
use crate::support::caller::{Caller, is_at_rest};
use crate::support::dice::Dice;
use crate::support::gate::{Gate, Mode};
use crate::support::recorder::Recorder;
use crate::support::service::{Deployment, Image, Service};
use crate::support::{eventually, number, pause};

const REGIONS: [&str; 3] = ["northeurope", "westus", "eastasia"];

/// How long a push waits. Far above what it takes to send one, so that only refused and missing webhooks make one time out.
const TIMEOUT: Duration = Duration::from_secs(20);

/// From the last webhook until everything is at rest: a deadline, a lease or two, and what a busy machine adds.
const REST_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Processes are killed.
    Kills,
    /// Processes are killed, and table and queue die or hang for a moment.
    KillsAndGates,
    /// Processes are killed, and Azurite is stopped and started again.
    KillsAndRestarts,
}

/// A push as its sender knows it.
struct Sent {
    image: Image,
    /// Regions whose webhook was sent, and those whose webhook was accepted.
    sent: BTreeSet<&'static str>,
    accepted: BTreeSet<&'static str>,
    /// Any id an answer gave for it.
    id: Option<String>,
    took: Duration,
    counts: Counts,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    accepted: u64,
    refused: u64,
    spilled: u64,
}

/// In the long form some pushes hold one region back until the deadline is over.
const LATE_PERCENT: u64 = 3;

async fn send(caller: Caller, image: Image, late_ones: bool, mut dice: Dice) -> Sent {
    let mut plan: Vec<&'static str> = REGIONS.to_vec();
    dice.shuffle(&mut plan);
    if dice.percent(12) {
        plan.pop();
    }
    if dice.percent(20) {
        plan.insert(dice.index(plan.len() + 1), plan[0]);
    }
    let (mut sent, mut accepted) = (BTreeSet::new(), BTreeSet::new());
    let (mut id, mut counts) = (None, Counts::default());
    let begun = Instant::now();
    // A repeat that is held back for so long would be the next push.
    let (last, rest) = plan.split_last().expect("a region");
    let held_back = (late_ones && dice.percent(LATE_PERCENT) && !rest.contains(last)).then_some(rest.len());
    for (n, region) in plan.into_iter().enumerate() {
        let wait = if held_back == Some(n) { TIMEOUT } else { Duration::ZERO };
        pause(wait + Duration::from_millis(dice.below(400))).await;
        sent.insert(region);
        match caller.post(region, image.notification()).await {
            Some((code @ 200..300, answer)) => {
                assert_eq!(code, 202, "{answer}");
                let named = answer["id"].as_str().expect("an id").to_owned();
                counts.spilled += u64::from(!named.contains('-'));
                counts.accepted += 1;
                accepted.insert(region);
                id = Some(named);
            }
            Some((code, answer)) => {
                assert!(code >= 500, "{code}: {answer}");
                counts.refused += 1;
            }
            None => counts.refused += 1,
        }
    }
    Sent { image, sent, accepted, id, took: begun.elapsed(), counts }
}

/// What is between the service and its storage.
struct Storage {
    own: Option<Arc<Azurite>>,
    gates: Option<(Gate, Gate)>,
}

impl Storage {
    async fn of(deployment: Deployment, trouble: Trouble) -> (Self, Option<String>) {
        if deployment == Deployment::ServeEmbedded {
            return (Self { own: None, gates: None }, None);
        }
        let shared = || tokio::task::spawn_blocking(azurite);
        match trouble {
            Trouble::Kills => (Self { own: None, gates: None }, Some(shared().await.expect("Azurite").account())),
            Trouble::KillsAndRestarts => {
                let own = tokio::task::spawn_blocking(Azurite::start_own).await.expect("Azurite");
                let account = own.account();
                (Self { own: Some(Arc::new(own)), gates: None }, Some(account))
            }
            Trouble::KillsAndGates => {
                let azurite = shared().await.expect("Azurite");
                let gates =
                    (Gate::to(azurite.tables(), Mode::Open).await, Gate::to(azurite.queues(), Mode::Open).await);
                let account = azurite.account_at(gates.0.port(), gates.1.port());
                (Self { own: None, gates: Some(gates) }, Some(account))
            }
        }
    }

    /// Disturbs it for a moment, where it can be.
    async fn disturb(&self, dice: &mut Dice) {
        if let Some(own) = &self.own {
            let (stopped, down) = (Arc::clone(own), Duration::from_millis(dice.below(1500)));
            tokio::task::spawn_blocking(move || stopped.stop()).await.expect("stopped");
            pause(down).await;
            let stopped = Arc::clone(own);
            tokio::task::spawn_blocking(move || stopped.restart()).await.expect("started");
        }
        if let Some((tables, queues)) = &self.gates {
            let mode = [Mode::Dead, Mode::Mute][dice.index(2)];
            // Rows alone more often than both: that is where arrivals go by way of the queue.
            let both = dice.percent(25);
            tables.set(mode).await;
            if both {
                queues.set(mode).await;
            }
            pause(Duration::from_millis(500 + dice.below(2000))).await;
            queues.set(Mode::Open).await;
            tables.set(Mode::Open).await;
        }
    }
}

async fn storm(what: &str, deployment: Deployment, trouble: Trouble) {
    let mut dice = Dice::thrown(&format!("storm, {what}"));
    let (pushes, seconds) = (number("STORM_PUSHES", 150), number("STORM_SECONDS", 12));
    let begun = Instant::now();
    let receiver = Recorder::slow(Duration::from_millis(20));
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let outcomes = ["replicated", "timed_out", "recovered"];
    let targets = json!([{ "name": "ops", "url": url, "format": "standard", "outcomes": outcomes }]).to_string();
    let timeout = format!("0:0:{}", TIMEOUT.as_secs());
    let settings =
        [("WebhookRegions", "northeurope,westus,eastasia"), ("WebhookTimeout", &timeout), ("WebhookTargets", &targets)];
    let (storage, account) = Storage::of(deployment, trouble).await;
    let mut service = Service::start_on(deployment, &settings, account.as_deref()).await;
    let caller = service.caller();

    let room = Arc::new(Semaphore::new(64));
    let mut sender_dice = dice.split();
    let senders: JoinHandle<Vec<Sent>> = tokio::spawn({
        let caller = caller.clone();
        async move {
            let pace = Duration::from_secs(seconds) / u32::try_from(pushes).expect("a sane number");
            let started = Instant::now();
            let mut sending = Vec::new();
            for n in 0..pushes {
                let due = pace * u32::try_from(n).expect("a sane number");
                pause(due.saturating_sub(started.elapsed())).await;
                let place = Arc::clone(&room).acquire_owned().await.expect("room");
                let image = Image::new(&format!("team/shop{}", n % 7), &format!("t{n}"));
                let (caller, dice) = (caller.clone(), sender_dice.split());
                sending.push(tokio::spawn(async move {
                    let sent = send(caller, image, seconds >= 60, dice).await;
                    drop(place);
                    sent
                }));
            }
            let mut all = Vec::new();
            for sent in sending {
                all.push(sent.await.expect("a sender"));
            }
            all
        }
    });
    let (mut kills, mut disturbances) = (0, 0);
    let gap = (seconds * 1000 / 60).clamp(400, 3000);
    while !senders.is_finished() {
        pause(Duration::from_millis(gap / 2 + dice.below(gap * 2))).await;
        // The first turn kills and the second one disturbs, so that no storm is without either.
        let disturb = trouble != Trouble::Kills && kills > 0 && (disturbances == 0 || dice.percent(30));
        if disturb {
            storage.disturb(&mut dice).await;
            disturbances += 1;
        } else {
            service.kill_and_restart_one(dice.index(service.processes())).await;
            kills += 1;
        }
    }
    let sent = senders.await.expect("senders");
    let flowed = begun.elapsed();

    let limit = Instant::now() + REST_MAX;
    for push in &sent {
        // An accepted arrival may still be on the queue; then there is no row yet, and there must be one.
        if let Some(id) = &push.id {
            while at_rest(&service, &caller, id, limit).await.is_none() {
                assert!(Instant::now() < limit, "lost: {:?} were accepted as {id}", push.accepted);
            }
        }
    }
    let mut statuses = BTreeMap::new();
    let mut listed = None;
    eventually("all pushes are listed", REST_MAX, async || {
        listed = caller.pushes().await;
        listed.is_some()
    })
    .await;
    for id in listed.expect("a list") {
        statuses.insert(id.clone(), at_rest(&service, &caller, &id, limit).await);
    }
    let mut heard: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut requests = 0;
    for (head, body) in receiver.take() {
        requests += 1;
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let id = head.get("webhook-id").expect("an id").to_owned();
        heard.entry((text(&body["data"]["digest"]), text(&body["type"]))).or_default().insert(id);
    }
    let outcomes = check(&sent, &statuses, &heard);
    let sum = |of: fn(&Counts) -> u64| sent.iter().map(|s| of(&s.counts)).sum::<u64>();
    let distinct: usize = heard.values().map(BTreeSet::len).sum();
    eprintln!(
        "storm, {what}: pushes={pushes} kills={kills} disturbances={disturbances} accepted={} refused={} spilled={} \
         {outcomes} notifications={distinct} duplicates={} flow={:.0}s duration={:.0}s",
        sum(|c| c.accepted),
        sum(|c| c.refused),
        sum(|c| c.spilled),
        requests - distinct,
        flowed.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
    );
    let steps = steps(&service.output());
    if !steps.is_empty() {
        eprintln!("storm, {what}: steps {steps:?}");
    }
    assert!(kills > 0 && (trouble == Trouble::Kills || disturbances > 0), "a storm without trouble");
    drop(service);
    if let Some(own) = storage.own {
        tokio::task::spawn_blocking(move || drop(own)).await.expect("stopped");
    }
}

/// The status of a push once it owes nothing; `None` for an index entry whose row was never written.
async fn at_rest(service: &Service, caller: &Caller, id: &str, limit: Instant) -> Option<Value> {
    let mut unknown = 0;
    loop {
        match caller.look(id).await {
            Some((200 | 202, status)) if is_at_rest(&status) => return Some(status),
            // Nobody kills any more: a row that does not come stays away.
            Some((404, _)) if unknown >= 3 => return None,
            Some((404, _)) => unknown += 1,
            // No answer, or one without the row, says nothing of it.
            other => assert!(Instant::now() < limit, "not at rest: {other:#?}\n{}", service.said_of(id)),
        }
        pause(Duration::from_millis(100)).await;
    }
}

/// How often the processes took each step, from their log where it is JSON: behind the host.
fn steps(output: &str) -> BTreeMap<String, usize> {
    let mut steps = BTreeMap::new();
    for line in output.lines() {
        let Ok(Value::Object(line)) = serde_json::from_str(line) else { continue };
        if let (Some(Value::String(input)), Some(Value::String(outcome))) = (line.get("input"), line.get("outcome")) {
            *steps.entry(format!("{input} {outcome}")).or_default() += 1;
        } else if let Some(Value::String(message)) = line.get("message") {
            *steps.entry(message.chars().take(60).collect()).or_default() += 1;
        }
    }
    steps
}

/// The type of a notification.
fn kind(notice: &str) -> String {
    format!("acr.{}.{notice}", if notice == "timed_out" { "replication" } else { "image" })
}

/// Everything that must hold at the end; the outcomes in words.
fn check(
    sent: &[Sent],
    statuses: &BTreeMap<String, Option<Value>>,
    heard: &BTreeMap<(String, String), BTreeSet<String>>,
) -> String {
    let mut by_digest: BTreeMap<&str, &Value> = BTreeMap::new();
    for status in statuses.values().flatten() {
        let digest = status["customStatus"]["digest"].as_str().expect("a digest");
        assert!(by_digest.insert(digest, status).is_none(), "two pushes of one image: {status:#}");
    }
    let mut expected: BTreeSet<(String, String)> = BTreeSet::new();
    let (mut replicated, mut timed_out, mut recovered) = (0, 0, 0);
    for push in sent {
        let digest = push.image.digest.as_str();
        let Some(status) = by_digest.get(digest) else {
            assert!(push.accepted.is_empty(), "lost: {:?} of {digest} were accepted as {:?}", push.accepted, push.id);
            continue;
        };
        let custom = &status["customStatus"];
        let region = |name: &str| &custom["regions"][name];
        for name in &push.accepted {
            assert!(region(name)["arrived"].is_string(), "lost: {name} was accepted: {status:#}");
        }
        for name in REGIONS {
            assert!(push.sent.contains(name) || region(name)["arrived"].is_null(), "made up: {name}: {status:#}");
        }
        let in_time = |name: &&str| region(name)["arrived"].is_string() && region(name)["late"] == false;
        let complete = REGIONS.iter().all(in_time);
        let outcome = status["output"]["outcome"].as_str().expect("an outcome");
        assert_eq!(outcome, if complete { "replicated" } else { "timed_out" }, "{status:#}");
        // What counts is when it was accepted, however late our storage let us apply it.
        if push.accepted.len() == REGIONS.len() && push.took < TIMEOUT {
            assert_eq!(outcome, "replicated", "all were accepted within {:?}: {status:#}", push.took);
        }
        let is_recovered = status["output"]["recovered"].is_string();
        expected.insert((digest.to_owned(), kind(outcome)));
        replicated += usize::from(complete);
        timed_out += usize::from(!complete);
        if is_recovered {
            recovered += 1;
            expected.insert((digest.to_owned(), kind("recovered")));
        }
        let notifications = custom["notifications"].as_array().expect("notifications");
        assert_eq!(notifications.len(), 1 + usize::from(is_recovered), "{status:#}");
        for n in notifications {
            let kind = kind(n["notice"].as_str().expect("a notice"));
            // Settled so late that all had come by then: the alarm was dropped for the all-clear, with or without an attempt.
            if is_recovered && n["state"] == "overtaken" {
                let whom = (digest.to_owned(), kind);
                assert!(n["notice"] == "timed_out" && (n["attempts"] != 0 || !heard.contains_key(&whom)), "{status:#}");
                if !heard.contains_key(&whom) {
                    expected.remove(&whom);
                }
                continue;
            }
            assert_eq!(n["state"], "confirmed", "{status:#}");
            let ids = heard.get(&(digest.to_owned(), kind)).unwrap_or_else(|| panic!("never sent: {status:#}"));
            assert!(ids.len() == 1 && n["id"] == **ids.first().expect("one"), "{ids:?}: {status:#}");
        }
    }
    let sent_onward: BTreeSet<(String, String)> = heard.keys().cloned().collect();
    assert_eq!(sent_onward, expected, "the receiver was told of something else");
    format!("replicated={replicated} timed_out={timed_out} recovered={recovered}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_handlers_on_azurite() {
    storm("handlers on Azurite", Deployment::Handler, Trouble::Kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_serve_on_the_embedded_store() {
    storm("serve on the embedded store", Deployment::ServeEmbedded, Trouble::Kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_handlers_behind_gates() {
    storm("handlers, rows and queue failing", Deployment::Handler, Trouble::KillsAndGates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_handlers_on_an_azurite_that_is_restarted() {
    storm("handlers, Azurite restarted", Deployment::Handler, Trouble::KillsAndRestarts).await;
}
