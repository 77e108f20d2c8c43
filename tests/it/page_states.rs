//! The page where there is nothing, too much, no key, or nobody who answers.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Client;
use tokio::task::spawn_blocking;

use crate::page::{FOUR, page, pairs, serve, settings};
use crate::proxy::Proxy;
use crate::support::azurite::azurite;
use crate::support::browser::{Browser, Tab};
use crate::support::history::{History, confirmed};
use crate::support::host::{Host, HostOptions, Route, Serves};
use crate::support::service::{Image, Serve};

/// Loads the page anew.
async fn reload(tab: &Tab) {
    tab.value("window.before = true; setTimeout(() => location.reload())").await;
    tab.until("!window.before && document.readyState === 'complete'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_asked_for_and_stands_in_no_address() {
    let Some(browser) = Browser::get() else { return };
    let (registry, operator) = ("key-of-the-registry-0123456789", "key-of-operators-0123456789");
    let serve =
        Serve::start(&[("WebhookRegions", "a,b"), ("WebhookKey", registry), ("WebhookOperatorKey", operator)], &[])
            .await;
    let tab = page(&browser, &serve).await;
    tab.shows("dialog[open]", "Key wanted").await;
    tab.picture("key-wanted").await;
    tab.insert("wrong-key").await;
    tab.press("Enter").await;
    tab.shows("dialog[open]", "This key does not open the pushes (401)").await;
    assert_eq!(tab.value("document.querySelector('#key').value").await, "wrong-key", "what was typed is kept");
    tab.picture("key-refused").await;
    tab.value(&format!("document.querySelector('#key').value = '{registry}'")).await;
    tab.click("dialog[open] [value=go]").await;
    tab.shows("dialog[open]", "This key is the registry's").await;
    tab.value("document.querySelector('#key').value = ''; document.querySelector('#key').focus()").await;
    tab.insert(operator).await;
    tab.press("Enter").await;
    tab.shows("[data-part=table]", "Nothing pushed yet").await;
    tab.shows(".verdict", "Nothing was pushed in the last 24 hours").await;
    let send = format!("global-webhook send --scenario simple --url {}", serve.base_url());
    tab.shows(".command", &send).await;
    tab.shows("[data-part=table]", "It needs a key that opens ImagePush").await;
    tab.shows("[data-part=table]", "az acr webhook ping --registry <registry> --name acrgwa").await;
    tab.picture("empty").await;
    // Kept for the tab until it is forgotten.
    reload(&tab).await;
    tab.shows("[data-part=table]", "Nothing pushed yet").await;
    tab.click("#forget").await;
    tab.shows("dialog[open]", "Key wanted").await;
    reload(&tab).await;
    tab.shows("dialog[open]", "Key wanted").await;
    // A link may bring it, after the sign that no browser sends on.
    let tab = browser.tab(1200, 800).await;
    tab.open(&format!("{}/api/dashboard?status=waiting#key={operator}", serve.base_url())).await;
    tab.shows("[data-part=table]", "Nothing matches").await;
    let address = tab.value("location.href").await;
    assert_eq!(address, format!("{}/api/dashboard?status=waiting", serve.base_url()));
    let asked = tab.value("performance.getEntriesByType('resource').map(e => e.name).join()").await;
    assert!(
        asked.as_str().unwrap().contains("/pushes/page/list?status=waiting")
            && !asked.as_str().unwrap().contains("key"),
        "{asked}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frame_is_for_everybody_and_the_data_is_not() {
    let serve = Serve::start(&[("WebhookRegions", "a,b")], &[]).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let foreign = |path: &str| client.get(format!("{}{path}", serve.base_url())).header("Host", "evil.example").send();
    let answer = foreign("/api/dashboard").await.unwrap();
    assert_eq!(answer.status(), 200);
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("content-type", "text/html; charset=utf-8"),
    ] {
        assert_eq!(answer.headers()[name], value);
    }
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.ends_with("frame-ancestors 'none'"));
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    for path in [
        "list",
        "regions",
        &format!("push/{}-1", "0".repeat(64)),
        &format!("confirm/{}-1?do=terminate", "0".repeat(64)),
    ] {
        assert_eq!(foreign(&format!("/api/pushes/page/{path}")).await.unwrap().status(), 403, "{path}");
    }
    let own = client.get(format!("{}/api/pushes/page/list", serve.base_url())).send().await.unwrap();
    assert_eq!(
        (own.status().as_u16(), own.headers()["content-security-policy"].to_str().unwrap()),
        (200, "default-src 'none'; frame-ancestors 'none'; sandbox")
    );
    let post = client.post(format!("{}/api/dashboard", serve.base_url())).send().await.unwrap();
    assert_eq!(post.status(), 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_away_leaves_what_is_shown_and_comes_back_by_itself() {
    let Some(browser) = Browser::get() else { return };
    let settings = settings(1, 1);
    let mut serve = serve(&pairs(&settings), &[], async |history| {
        let lags = FOUR.map(|region| (region, 1000));
        for (tag, ago) in [("1.3.9", 900), ("1.4.0", 600)] {
            history.push(&Image::new("shop/cart", tag), history.ago(ago), &lags, &confirmed).await;
        }
    })
    .await;
    serve.caller().post(FOUR[0], Image::new("shop/cart", "1.4.2").notification()).await.expect("an answer");
    let tab = page(&browser, &serve).await;
    tab.shows(".matrix", "shop/cart:1.4.2").await;
    tab.press("/").await;
    tab.insert("half a wo").await;
    serve.kill();
    tab.shows(".trouble", "The service has not answered since").await;
    tab.shows(".trouble", "You see what was read at").await;
    tab.shows(".matrix", "shop/cart:1.4.2").await;
    tab.picture("away").await;
    // Meanwhile a row is damaged.
    let rows = rusqlite::Connection::open(serve.folder().join("store.db")).unwrap();
    let damaged = rows.execute("UPDATE pushes SET body = '{' WHERE slot = (SELECT min(slot) FROM pushes)", []).unwrap();
    drop(rows);
    serve.kill_and_restart().await;
    tab.until("document.querySelector('.trouble').innerText === '' && !document.querySelector('main.stale')").await;
    assert_eq!(damaged, 1);
    tab.shows("[data-part=notices]", "1 push is left out").await;
    tab.picture("row-left-out").await;
    assert_eq!(tab.value("document.activeElement.value").await, "half a wo", "what was typed is kept");
    tab.open(&format!("{}/api/dashboard?view=regions", serve.base_url())).await;
    tab.shows("[data-part=pages]", "1 push is left out, since what is stored cannot be read.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_functions_host_it_says_since_when_storage_is_away() {
    let Some(browser) = Browser::get() else { return };
    let (tables, queues) = spawn_blocking(|| (azurite().tables(), azurite().queues())).await.expect("Azurite");
    let tables = Proxy::to(tables).await;
    let account = azurite().account_at(tables.port(), queues.port());
    let settings = [("WebhookRegions", "a,b"), ("AzureWebJobsStorage", account.as_str())];
    let mut options = HostOptions::spawned(&settings).only(Serves::Http).key("key-of-the-function");
    options.routes.push(Route::new("dashboard", &["GET"]).anonymous());
    let host = Host::start(options).await;
    let tab = browser.tab(1200, 800).await;
    tab.open(&format!("{}/api/dashboard", host.base_url())).await;
    tab.shows("dialog[open]", "Key wanted").await;
    tab.insert("key-of-the-function").await;
    tab.press("Enter").await;
    tab.shows("[data-part=table]", "Nothing pushed yet").await;
    tables.lose(0, usize::MAX);
    tab.press("r").await;
    tab.shows(".trouble", "Storage has been away since").await;
    tab.shows(".trouble", "Webhooks that are accepted meanwhile are kept and applied later.").await;
    tab.shows("[data-part=table]", "Nothing pushed yet").await;
    tab.until("document.querySelector('#news').textContent.startsWith('Storage has been away since')").await;
    tab.picture("storage-away").await;
    tables.lose(0, 0);
    tab.until("document.querySelector('.trouble').textContent === ''").await;
    tab.until("document.querySelector('#news').textContent === 'Storage is back'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_forty_regions_those_that_lack_it_are_named() {
    let Some(browser) = Browser::get() else { return };
    let regions: Vec<String> = (1..=40).map(|n| format!("region{n:02}")).collect();
    let named = regions.join(",");
    let settings = [("WebhookRegions", named.as_str())];
    let serve = serve(&settings, &[], async |history| {
        for push in 0..20_i64 {
            let lag = |n: usize| i64::try_from(n).unwrap() * 130 + push * 7;
            let mut lags: Vec<(&str, i64)> =
                regions.iter().enumerate().map(|(n, region)| (region.as_str(), lag(n))).collect();
            if push == 19 {
                lags.retain(|(region, _)| !["region07", "region31"].contains(region));
                lags[37].1 = 55_000;
            }
            history
                .push(&Image::new("shop/web", &format!("1.{push}")), history.ago(7200 - push * 300), &lags, &confirmed)
                .await;
        }
    })
    .await;
    let tab = page(&browser, &serve).await;
    tab.shows(".verdict", "2 regions are silent: region07 and region31").await;
    tab.shows("tr.timed_out .folded", "38 of 40").await;
    for text in ["region07", "region31", "missing", "region40", "54.9 s"] {
        tab.shows("tr.timed_out .folded", text).await;
    }
    tab.shows("tr.replicated .folded", "40 of 40").await;
    tab.picture("forty-list").await;
    tab.click(".matrix tbody th a").await;
    tab.shows("h1", "shop/web:1.19").await;
    tab.shows("svg.line", "other regions").await;
    tab.picture("forty-push").await;
    tab.click("nav a[data-for=regions]").await;
    tab.until("document.querySelectorAll('.strips tbody tr').length === 40").await;
    assert_eq!(tab.said(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_pushes_are_no_slower_to_look_at() {
    let Some(browser) = Browser::get() else { return };
    let settings = settings(1, 1);
    let begun = Instant::now();
    let rules = r#"[{ "repository": "old/**", "regions": ["northeurope"] }]"#;
    let serve = serve(&[pairs(&settings)[0], ("WebhookRules", rules)], &[], many).await;
    let made = begun.elapsed();
    let tab = browser.tab(1440, 1000).await;
    let begun = Instant::now();
    tab.open(&format!("{}/api/dashboard", serve.base_url())).await;
    tab.until("document.querySelectorAll('.matrix tbody tr').length === 50").await;
    let first = begun.elapsed();
    let begun = Instant::now();
    tab.press("/").await;
    tab.insert("shop/web").await;
    tab.press("Enter").await;
    tab.until("location.search && [...document.querySelectorAll('.matrix tbody th > a')].every(a => a.textContent.startsWith('shop/web'))").await;
    let filtered = begun.elapsed();
    let begun = Instant::now();
    tab.click(".pages a[href*=cursor]").await;
    tab.until("location.search.includes('cursor') && document.querySelector('.pages').innerText.includes('Newest')")
        .await;
    let older = begun.elapsed();
    eprintln!(
        "10 000 pushes, made in {made:.1?}: first view {first:.2?}, a filter {filtered:.2?}, older ones {older:.2?}"
    );
    // Many times what it takes on an idle machine, with a build that is not optimised.
    for took in [first, filtered, older] {
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_settles_is_news_and_moves_nobody_who_reads() {
    let Some(browser) = Browser::get() else { return };
    let settings = [("WebhookRegions", "northeurope,westus"), ("WebhookTimeout", "0:0:3")];
    let serve = serve(&settings, &[], async |history| {
        for n in 0..60_i64 {
            let image = Image::new("shop/web", &format!("1.{n}"));
            history.push(&image, history.ago(9000 - n * 60), &[(FOUR[0], 0), (FOUR[1], 900)], &confirmed).await;
        }
    })
    .await;
    let tab = page(&browser, &serve).await;
    tab.shows(
        ".verdict",
        "All 2 regions report, and nothing is owed. The last push, shop/web:1.59, was everywhere after 0.9 s",
    )
    .await;
    tab.picture("all-well").await;
    // The countdown asks by itself when it is over.
    let caller = serve.caller();
    caller.post(FOUR[0], Image::new("shop/cart", "1.4.2").notification()).await.expect("an answer");
    tab.press("r").await;
    tab.shows("tr.waiting .out", "left").await;
    tab.until("document.querySelector('#news').textContent === 'shop/cart:1.4.2 timed out, missing westus'").await;
    tab.shows("tr.timed_out td[data-region=westus]", "missing").await;
    tab.shows(".verdict", "westus has been silent for 1 h 31 min").await;
    tab.until("document.title.startsWith('✕ westus silent')").await;
    // Whoever has scrolled is asked.
    tab.value("scrollTo(0, 900)").await;
    let top = "document.querySelector('.matrix tbody th > a').textContent";
    caller.post(FOUR[0], Image::new("shop/cart", "1.4.3").notification()).await.expect("an answer");
    tab.press("r").await;
    tab.shows("#new", "1 new push").await;
    assert_eq!(tab.value(top).await, "shop/cart:1.4.2");
    assert_eq!(tab.value("scrollY").await, 900);
    tab.click("#new").await;
    tab.until(&format!("{top} === 'shop/cart:1.4.3' && scrollY === 0")).await;
    // And who pauses is left alone.
    tab.click("#pause").await;
    tab.shows("#fresh", "Paused at").await;
    assert_eq!(tab.said(), Vec::<String>::new());
}

/// Nine in ten are from the time when there was one region.
async fn many(history: &History) {
    let repositories = ["shop/web", "shop/cart", "platform/base", "charts/ingress"];
    for chunk in 0..20_i64 {
        let pushes = (0..500_i64).map(|n| async move {
            let at = chunk * 500 + n;
            let now = at >= 9_000;
            let team = if now { "" } else { "old/" };
            let image =
                Image::new(&format!("{team}{}", repositories[usize::try_from(at % 4).unwrap()]), &format!("{at}"));
            let lags = [(FOUR[0], 0), (FOUR[1], 1700), (FOUR[2], 2500), (FOUR[3], 4000)];
            let lags = if now { &lags[..] } else { &lags[..1] };
            history.push(&image, history.ago(100_000 - at * 9), lags, &confirmed).await
        });
        join_all(pushes).await;
    }
}
