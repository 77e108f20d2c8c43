//! The page in a real browser, on the real `serve` with real rows. Pictures of what was seen are kept in `page/` of the folder for
//! temporary files of the target.

use std::sync::Arc;

use serde_json::json;

use crate::support::browser::{Browser, Tab};
use crate::support::history::{History, confirmed, failed};
use crate::support::now;
use crate::support::recorder::Recorder;
use crate::support::service::{Image, Serve};

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
pub(crate) const FOUR: [&str; 4] = ["northeurope", "westus", "southeastasia", "brazilsouth"];

/// Settings of a registry with four regions and three receivers.
pub(crate) fn settings(ops: u16, others: u16) -> Vec<(&'static str, String)> {
    let url = |port: u16| format!("http://127.0.0.1:{port}/");
    let targets = json!([
        { "name": "deploy", "url": url(others), "format": "acr" },
        { "name": "ops", "url": url(ops), "format": "standard", "outcomes": ["replicated", "timed_out", "recovered"] },
        { "name": "oncall", "url": url(others), "format": "slack", "outcomes": ["timed_out", "recovered"] },
    ]);
    let rules = json!([{ "name": "north", "repository": "charts/**", "regions": ["northeurope", "westus"] }]);
    vec![
        ("WebhookRegions", FOUR.join(",")),
        ("WebhookTargets", targets.to_string()),
        ("WebhookRules", rules.to_string()),
    ]
}

pub(crate) fn pairs<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// `serve` on a file with a past.
pub(crate) async fn serve(settings: &[(&str, &str)], arguments: &[&str], past: impl AsyncFnOnce(&History)) -> Serve {
    let mut serve = Serve::start(settings, arguments).await;
    serve.kill();
    let history = History::open(&serve.folder().join("store.db"), settings, now());
    past(&history).await;
    history.close().await;
    serve.kill_and_restart().await;
    serve
}

pub(crate) async fn page(browser: &Arc<Browser>, serve: &Serve) -> Tab {
    let tab = browser.tab(1440, 1000).await;
    tab.open(&format!("{}/api/dashboard", serve.base_url())).await;
    tab
}

/// A registry's night: a region that went silent, one that became slow, a receiver that refuses.
pub(crate) async fn night(history: &History) {
    let (north, west, south, brazil) = (FOUR[0], FOUR[1], FOUR[2], FOUR[3]);
    let minutes = |n: i64| history.ago(n * 60);
    for n in 0..34_i64 {
        let image = Image::new(["shop/web", "shop/cart", "platform/base"][n as usize % 3], &format!("2026.11.26-{n}"));
        let first = if n % 4 == 0 { [1900 + n * 13, 0] } else { [0, 1700 + n * 17] };
        let slow = if n > 27 { 38_000 + n * 200 } else { 6_000 + n * 90 };
        let lags = [(north, first[0]), (west, first[1]), (south, 4_300 + n * 61), (brazil, slow)];
        history.push(&image, minutes(1300 - n * 31), &lags, &confirmed).await;
    }
    let charts = Image::new("charts/ingress", "0.9.1");
    history.push(&charts, minutes(34), &[(north, 0), (west, 2400)], &confirmed).await;
    let gone = |claim: &_| refused_by(claim, "oncall", "410 Gone");
    let cart = Image::new("shop/cart", "1.4.1");
    history.push(&cart, minutes(151), &[(north, 0), (west, 1800), (brazil, 44_900)], &gone).await;
    let base = Image::new("platform/base", "24.04");
    let id = history.push(&base, minutes(74), &[(north, 0), (west, 2600), (brazil, 38_900)], &confirmed).await;
    history.by_hand(&id, south, minutes(47), &confirmed).await;
    let hostile = Image::new("shop/web", "\"><script>alert(1)</script>\u{202e}gpj");
    history.push(&hostile, minutes(63), &[(north, 0), (west, 1600), (south, 6800), (brazil, 19_600)], &confirmed).await;
    // The newer one first, so that the older one meets it at its deadline.
    let edge = [9, 10].map(|_| Image::new("shop/web", "edge"));
    let busy = |claim: &_| answered(claim, "ops", "503 Service Unavailable");
    history.push(&edge[0], minutes(9), &[(north, 2200), (west, 0), (brazil, 31_000)], &busy).await;
    history.push(&edge[1], minutes(10), &[(north, 0), (west, 1700), (brazil, 28_800)], &confirmed).await;
}

fn refused_by(claim: &global_webhook::push::Claim, target: &str, reason: &str) -> global_webhook::push::AttemptResult {
    if claim.target == target {
        return global_webhook::push::AttemptResult::Refused { reason: reason.into() };
    }
    confirmed(claim)
}

fn answered(claim: &global_webhook::push::Claim, target: &str, reason: &str) -> global_webhook::push::AttemptResult {
    if claim.target == target { failed(reason) } else { confirmed(claim) }
}

/// What a client pushes before the image that it belongs to.
fn untagged(repository: &str) -> String {
    Image::new(repository, "-").notification().replace(",\"tag\":\"-\"", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_what_a_person_wants_to_know_at_night() {
    let Some(browser) = Browser::get() else { return };
    let (ops, others) = (Recorder::default(), Recorder::default());
    ops.script(&[BUSY; 40]);
    let settings = settings(ops.listen().await, others.listen().await);
    let serve = serve(&pairs(&settings), &[], night).await;
    let caller = serve.caller();
    for body in [untagged("shop/cart"), Image::new("shop/cart", "1.4.2").notification()] {
        for region in [FOUR[0], FOUR[1], FOUR[3]] {
            assert_eq!(caller.post(region, body.clone()).await.expect("an answer").0, 202);
        }
    }

    let tab = page(&browser, &serve).await;
    tab.shows(".verdict li", "southeastasia has been silent for 1 h").await;
    tab.shows(".verdict li:nth-child(3)", "ops does not take notifications: 503 Service Unavailable, 4 attempts").await;
    assert!(tab.value("document.title").await.as_str().unwrap().starts_with("✕ southeastasia silent · 127.0.0.1"));
    for (nth, text) in
        [(1, "1\nfor southeastasia"), (2, "2"), (3, "brazilsouth"), (4, "1\nto ops"), (5, "1\nfor oncall")]
    {
        tab.shows(&format!(".strip > div:nth-child({nth}) dd"), text.split('\n').next().unwrap()).await;
        tab.shows(&format!(".strip > div:nth-child({nth})"), text.split('\n').next_back().unwrap()).await;
    }
    tab.shows(".matrix thead th:nth-child(5)", "silent 1 h").await;
    tab.shows(".matrix thead th:nth-child(6)", "slow, p95 44.4 s").await;
    tab.shows("tr.waiting td[data-region=southeastasia]", "not yet").await;
    tab.shows("tr.timed_out td[data-region=southeastasia]", "missing").await;
    tab.shows("tr.timed_out td.told", "ops owed: 503 Service Unavailable, 4 attempts, next try in").await;
    tab.shows("tr.superseded td[data-region=southeastasia]", "not waited for").await;
    tab.shows("tr.recovered td[data-region=southeastasia]", "27 min by hand").await;
    tab.shows("tr.replicated td[data-region=brazilsouth]", "–").await;
    // A tag is text, and steers nothing.
    tab.until("[...document.querySelectorAll('.matrix bdi')].some(e => e.textContent === 'shop/web:\"><script>alert(1)</script>U+202Egpj')").await;
    all_targets_are_large_enough(&tab).await;
    tab.picture("list-light").await;
    tab.theme("dark").await;
    tab.picture("list-dark").await;

    // Time goes on without the service, and what came along is folded away.
    let left = "document.querySelector('tr.waiting [data-left]').textContent";
    let before = tab.value(left).await;
    tab.until(&format!("{left} !== {before}")).await;
    assert_eq!(tab.value("document.querySelector('tr.along').offsetHeight").await, 0);
    tab.click("tr.waiting [data-fold]").await;
    tab.shows("tr.along th", "along with shop/cart:1.4.2").await;
    // It stays unfolded, and the focus where it is, when the row has changed.
    caller.post(FOUR[0], untagged("shop/cart")).await.expect("an answer");
    tab.press("r").await;
    tab.shows("tr.waiting [data-fold]", "+ 2 along").await;
    tab.until(
        "document.activeElement.dataset.fold && document.querySelectorAll('tr.along:not([hidden])').length === 2",
    )
    .await;

    keys_lead_through_it(&tab).await;

    tab.open(&format!("{}/api/dashboard?view=regions", serve.base_url())).await;
    tab.shows(".strips tbody tr:nth-child(1)", "southeastasia").await;
    tab.shows(".strips tbody tr:nth-child(2) td[data-label=p95]", "44.4 s").await;
    tab.shows(".command", "az acr webhook list-events --registry contoso --name acrgwsoutheastasia").await;
    all_targets_are_large_enough(&tab).await;
    tab.picture("regions").await;
    assert_eq!(tab.value("document.querySelectorAll('[style], [onclick]').length").await, 0);

    tab.size(390, 1100).await;
    for (name, query) in [("regions", "?view=regions"), ("list", ""), ("push", "?repository=shop/web&status=timed_out")]
    {
        tab.open(&format!("{}/api/dashboard{query}", serve.base_url())).await;
        tab.shows("main", "southeastasia").await;
        if name == "push" {
            tab.until("document.querySelectorAll('.matrix tbody tr').length === 1").await;
            tab.click(".matrix tbody th a").await;
            tab.shows("h1", "shop/web:edge").await;
        }
        assert_eq!(tab.value("document.documentElement.scrollWidth").await, 390, "{name} is wider than a phone");
        all_targets_are_large_enough(&tab).await;
        if name == "push" {
            // What is cut says so.
            tab.until("document.querySelector('.scroll').scrollWidth > document.querySelector('.scroll').clientWidth")
                .await;
            tab.until("document.querySelector('.hint').offsetHeight > 0").await;
        }
        tab.picture(&format!("phone-{name}")).await;
    }
    assert_eq!(tab.said(), Vec::<String>::new(), "nothing was refused, and nothing ran that is not the page's own");
}

async fn keys_lead_through_it(tab: &Tab) {
    tab.value("document.activeElement.blur()").await;
    tab.press("j").await;
    tab.until("document.activeElement.textContent === 'shop/cart:1.4.2'").await;
    for key in ["j", "j", "j", "k"] {
        tab.press(key).await;
    }
    tab.until("document.activeElement.textContent === 'manifest without a tag'").await;
    tab.press("j").await;
    tab.press("Enter").await;
    tab.shows("h1", "shop/web:edge").await;
    tab.shows(".verdict", "Timed out: southeastasia is missing. 3 regions have it since").await;
    tab.shows(".verdict", "ops has not been told: 503 Service Unavailable, 4 attempts. Next try at").await;
    tab.until("document.querySelectorAll('svg.line .t-p-warn').length === 4").await;
    tab.until("document.querySelector('svg.line title').textContent.includes('westus first, northeurope 2.2 s later, brazilsouth 31.0 s later, southeastasia missing, ops owed after 4 attempts')").await;
    tab.shows(".columns", "hears only when it is replicated or recovered").await;
    tab.until("document.querySelector('.hint').offsetHeight === 0").await;
    all_targets_are_large_enough(tab).await;
    tab.picture("push").await;
    tab.press("Escape").await;
    tab.shows(".matrix", "charts/ingress").await;
    // Whoever comes back goes on where the row was left.
    tab.until("document.activeElement.textContent === 'shop/web:edge'").await;
    tab.press("j").await;
    tab.press("k").await;
    tab.until("document.activeElement.textContent === 'shop/web:edge'").await;
    tab.press("/").await;
    tab.until("document.activeElement.name === 'repository'").await;
    // Typed, not obeyed.
    tab.press("?").await;
    tab.until("document.activeElement.value === '?' && !document.querySelector('dialog[open]')").await;
    tab.press("Escape").await;
    tab.press("?").await;
    tab.shows("dialog[open]", "Keys").await;
    tab.press("Escape").await;
    tab.until("!document.querySelector('dialog[open]')").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_are_addresses_and_back_works() {
    let Some(browser) = Browser::get() else { return };
    let settings = settings(1, 1);
    let serve = serve(&pairs(&settings), &[], night).await;
    let tab = page(&browser, &serve).await;
    let images = "[...document.querySelectorAll('.matrix tbody th > a')].map(a => a.textContent)";
    tab.until(&format!("{images}.length > 20")).await;
    tab.press("/").await;
    tab.insert("shop/cart").await;
    tab.press("Enter").await;
    tab.until(&format!("{images}.length > 5 && {images}.every(name => name.startsWith('shop/cart:'))")).await;
    assert_eq!(tab.value("location.search").await, "?repository=shop%2Fcart");
    assert_eq!(tab.value("document.activeElement.name").await, "repository");
    tab.click(".strip a[href*=exhausted]").await;
    tab.until(&format!("{images}.join() === 'shop/cart:1.4.1'")).await;
    tab.until("document.querySelector('select[name=status]').value === 'exhausted'").await;
    tab.value("history.back()").await;
    tab.until(&format!("{images}.length > 5 && {images}.every(name => name.startsWith('shop/cart:'))")).await;
    tab.until("document.querySelector('[name=repository]').value === 'shop/cart'").await;
    tab.click("[data-part=clear] a").await;
    tab.until(&format!("{images}.length > 20")).await;
    // The same words as those of the interface, and what it refuses is said.
    tab.open(&format!("{}/api/dashboard?repository=crat&since=3d", serve.base_url())).await;
    tab.shows("[data-part=table]", "Nothing matches").await;
    tab.picture("nothing-matches").await;
    tab.open(&format!("{}/api/dashboard?repository=car&region=brazilsouth", serve.base_url())).await;
    tab.shows("[data-part=table]", "look for names with car in them").await;
    for (query, why) in [
        ("?status=lost", "The query member `status` has a word that it does not know"),
        ("?cursor=abc", "The query member `cursor` is not one that this service gave out"),
        ("?tag={a", "The query member `tag`"),
        ("?colour=red", "The query has a member that means nothing here"),
    ] {
        tab.open(&format!("{}/api/dashboard{query}", serve.base_url())).await;
        tab.shows("[data-part=table]", why).await;
        // The form is there with what was asked, and so is a way out.
        tab.until("document.querySelector('form.filters [name=status]').value === (new URLSearchParams(location.search).get('status') ?? '')").await;
        tab.click_when("[data-part=table] a").await;
        tab.until(&format!("!location.search && {images}.length > 20")).await;
    }
    tab.open(&format!("{}/api/dashboard?tag={{a", serve.base_url())).await;
    tab.until("document.querySelector('form.filters [name=tag]').value === '{a'").await;
    tab.picture("refused").await;
    tab.press("Escape").await;
    tab.until(&format!("!location.search && {images}.length > 20")).await;
    tab.open(&format!("{}/api/dashboard?view=regions&since=soon", serve.base_url())).await;
    tab.shows("[data-part=table]", "neither an instant such as").await;
    tab.press("Escape").await;
    tab.until("location.search === '?view=regions' && document.querySelectorAll('.strips tbody tr').length === 4")
        .await;
    assert_eq!(tab.said(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_region_lacks_is_said_first_though_its_newest_push_is_there() {
    let Some(browser) = Browser::get() else { return };
    let settings = [("WebhookRegions", "northeurope,westus")];
    let serve = serve(&settings, &[], async |history| {
        let both = [(FOUR[0], 0), (FOUR[1], 5)];
        for n in 0..10_i64 {
            let lags = if (4..9).contains(&n) { &both[..1] } else { &both[..] };
            let image = Image::new("shop/pay", &format!("1.{n}"));
            history.push(&image, history.ago(7200 - n * 300), lags, &confirmed).await;
        }
    })
    .await;
    let tab = page(&browser, &serve).await;
    tab.shows(
        ".verdict li:nth-child(1)",
        "5 of 10 pushes are missing in westus. The newest of them was pushed 1 h 20 min ago.",
    )
    .await;
    tab.until("document.title.startsWith('✕ 5 missing in westus')").await;
    tab.shows(".matrix thead th:nth-child(4)", "misses 5 of 10").await;
    let told = "fetch('/api/regions').then(r => r.json()).then(all => all.regions.map(r => [r.region, r.condition, r.missing]))";
    assert_eq!(tab.value(told).await, json!([["westus", "incomplete", 5], ["northeurope", "ok", 0]]));
    tab.picture("incomplete").await;
    tab.click(".verdict a").await;
    tab.until("document.querySelectorAll('.matrix tbody tr').length === 5 && document.querySelectorAll('tr.timed_out').length === 5").await;
    // In one push a lag of some milliseconds is no 0.0 s.
    tab.open(&format!("{}/api/dashboard?tag=1.9", serve.base_url())).await;
    tab.click_when(".matrix tbody th a").await;
    tab.shows("[data-part=regions]", "5 ms").await;
    tab.shows(".verdict", "Everywhere after 5 ms.").await;
    tab.open(&format!("{}/api/dashboard?view=regions", serve.base_url())).await;
    tab.shows(".verdict", "5 of 10 pushes are missing in westus.").await;
    tab.shows(".strips tbody tr:nth-child(1)", "incomplete").await;
    tab.shows(".command", "az acr webhook list-events --registry contoso --name acrgwwestus").await;
    tab.picture("regions-incomplete").await;
    assert_eq!(tab.said(), Vec::<String>::new());
}

/// Whatever is clicked in the view is 24 px high and wide, or more; a box to tick by its label.
async fn all_targets_are_large_enough(tab: &Tab) {
    let small = "[...document.querySelectorAll('a, button, select, input, summary')]\
        .filter(e => e.checkVisibility() && !e.closest('dialog'))\
        .map(e => [e.closest('label.choice') ?? e, e.outerHTML.slice(0, 90)])\
        .map(([e, name]) => [name, e.getBoundingClientRect().width, e.getBoundingClientRect().height])\
        .filter(([, width, height]) => width < 23.9 || height < 23.9)";
    assert_eq!(tab.value(small).await, json!([]));
}
