//! What an operator does by way of the page, on the real `serve` with real receivers.

use global_webhook::push::{AttemptResult, Claim};
use serde_json::Value;

use crate::page::{FOUR, page, pairs, serve, settings};
use crate::support::browser::{Browser, Tab};
use crate::support::history::{History, confirmed};
use crate::support::recorder::Recorder;
use crate::support::service::{Image, LIMIT, Serve};
use crate::support::{eventually, now};

/// A push whose on-call receiver has said that it wants none of it.
async fn given_up(history: &History, image: &Image) {
    let answers = |claim: &Claim| match claim.target.as_str() {
        "oncall" => AttemptResult::Refused { reason: "410 Gone".into() },
        _ => confirmed(claim),
    };
    let lags = [(FOUR[0], 0), (FOUR[1], 1800), (FOUR[3], 9_000)];
    history.push(image, history.ago(3600), &lags, &answers).await;
}

async fn status(serve: &Serve, id: &str) -> Value {
    serve.caller().status(id).await.expect("a push")["customStatus"].clone()
}

async fn id_on(tab: &Tab) -> String {
    let id = tab.value("new URLSearchParams(location.search).get('push')").await;
    id.as_str().expect("a push").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_is_asked_for_first() {
    let Some(browser) = Browser::get() else { return };
    let (ops, others) = (Recorder::default(), Recorder::default());
    let settings = settings(ops.listen().await, others.listen().await);
    let image = Image::new("shop/cart", "1.4.1");
    let serve = serve(&pairs(&settings), &[], async |history| given_up(history, &image).await).await;
    let tab = page(&browser, &serve).await;
    tab.shows(".verdict", "oncall was not told: 1 notification was given up in 24 h").await;
    tab.click(".matrix tbody th a").await;
    tab.shows(".verdict", "oncall was not told: 410 Gone, 1 attempt").await;
    let id = id_on(&tab).await;
    let before = status(&serve, &id).await["notifications"][1]["id"].clone();

    tab.click("[data-confirm*=redeliver]").await;
    tab.shows("dialog[open]", "with the same webhook-id").await;
    assert_eq!(tab.value("document.activeElement.value").await, "stay", "the harmless button has the focus");
    assert_eq!(tab.value("document.querySelector('dialog [name=target]:checked').value").await, "oncall");
    tab.picture("confirm-redeliver").await;
    tab.press("Enter").await;
    tab.until("!document.querySelector('dialog[open]')").await;
    assert!(others.take().is_empty() && ops.take().is_empty(), "nothing was sent");

    tab.click("[data-confirm*=redeliver]").await;
    tab.shows("dialog[open]", "oncall · exhausted: 410 Gone").await;
    tab.click("dialog [value=go]").await;
    tab.until("!document.querySelector('dialog[open]')").await;
    tab.until("!document.querySelector('.verdict').innerText.includes('oncall')").await;
    let mut sent = Vec::new();
    eventually("it is sent", LIMIT, async || {
        sent.extend(others.take());
        !sent.is_empty()
    })
    .await;
    tab.shows(".columns", "confirmed").await;
    let [(head, _)] = &sent[..] else { panic!("one notification: {sent:?}") };
    assert_eq!(head.get("webhook-id"), before.as_str());
    assert!(ops.take().is_empty() && others.take().is_empty(), "the others are left alone");
    assert_eq!(tab.said(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_by_hand_says_who_may_roll_it_out() {
    let Some(browser) = Browser::get() else { return };
    let (ops, others) = (Recorder::default(), Recorder::default());
    let settings = settings(ops.listen().await, others.listen().await);
    let image = Image::new("shop/cart", "1.4.1");
    let serve = serve(&pairs(&settings), &[], async |history| given_up(history, &image).await).await;
    let tab = page(&browser, &serve).await;
    tab.click_when(".matrix tbody th a").await;
    tab.click_when("[data-confirm*=report]").await;
    tab.shows("dialog[open]", "You say that southeastasia holds this image").await;
    tab.shows("dialog[open]", &format!("docker pull contoso.southeastasia.geo.azurecr.io/shop/cart@{}", image.digest))
        .await;
    tab.shows("dialog[open]", "With that every region has it, so it becomes recovered").await;
    tab.shows("dialog[open]", "deploy gets the image as a plain push and may roll it out").await;
    tab.shows("dialog[open]", "ops and oncall are told that it is recovered").await;
    tab.picture("confirm-report").await;
    // Not before somebody has looked.
    tab.click("dialog [value=go]").await;
    tab.until("document.querySelector('dialog[open] [name=seen]:invalid')").await;
    tab.click("dialog [name=seen]").await;
    tab.click("dialog [value=go]").await;
    tab.shows(".verdict", "Everywhere at last, after 1 h").await;
    tab.shows(".columns", "by hand").await;
    let id = id_on(&tab).await;
    let status = status(&serve, &id).await;
    assert_eq!((&status["state"], &status["regions"][FOUR[2]]["byHand"]), (&"recovered".into(), &true.into()));
    let mut sent = Vec::new();
    eventually("everybody is told", LIMIT, async || {
        sent.extend(ops.take().into_iter().chain(others.take()));
        sent.len() == 3
    })
    .await;
    assert_eq!(tab.said(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_ended_as_the_push_is_by_then() {
    let Some(browser) = Browser::get() else { return };
    let (ops, others) = (Recorder::default(), Recorder::default());
    let settings = settings(ops.listen().await, others.listen().await);
    let serve = serve(&pairs(&settings), &[], async |_| {}).await;
    let image = Image::new("shop/cart", "1.4.2");
    let caller = serve.caller();
    for region in &FOUR[..2] {
        caller.post(region, image.notification()).await.expect("an answer");
    }
    let tab = page(&browser, &serve).await;
    tab.shows(".verdict", "All is well so far: 1 push waits").await;
    tab.click_when(".matrix tbody th a").await;
    tab.shows(".verdict", "Waiting for southeastasia and brazilsouth").await;
    tab.picture("push-waiting").await;
    // What cannot be done is in reach, and says why.
    tab.value("document.querySelector('.actions button[aria-disabled]').focus({ focusVisible: true })").await;
    tab.until("(e => e.textContent === 'Nobody was told yet.' && e.offsetWidth > 50)(document.querySelector('.actions .why .sr'))").await;
    tab.click("[data-confirm*=terminate]").await;
    tab.shows(
        "dialog[open]",
        "It settles now as timed out, as if the deadline had passed, missing southeastasia and brazilsouth",
    )
    .await;
    tab.shows("dialog[open]", "End it and tell 2 receivers").await;
    tab.picture("confirm-end").await;
    // What has changed since the question is asked again.
    caller.post(FOUR[2], image.notification()).await.expect("an answer");
    tab.click("dialog [value=go]").await;
    tab.shows("dialog[open]", "The push has changed meanwhile").await;
    tab.shows("dialog[open]", "missing brazilsouth.").await;
    assert!(ops.take().is_empty());
    tab.click("dialog [value=go]").await;
    tab.shows(".verdict", "Timed out: brazilsouth is missing. An operator ended the wait.").await;
    let clock = now();
    eventually("it is told", LIMIT, async || !ops.take().is_empty()).await;
    assert!((now() - clock).num_seconds() < 30);
    assert_eq!(tab.said(), Vec::<String>::new());
}
