//! What every [`Store`] must do when it is listed, and when a step asks it something.

use std::collections::BTreeSet;
use std::sync::Arc;

use global_webhook::clock::{Clock as _, Instant, SystemClock};
use global_webhook::push::{Answer, Change, Decision, Did, PushId, Question, Row, Subject};
use global_webhook::store::search::Test;
use global_webhook::store::{Search, Store};

use crate::samples::{asking, content, decided, id, instant, purged, row, settled, with_digest};
use crate::store_contract::{in_every_store, listed, named, push, put};

async fn the_list_is_newest_first_whatever_the_page(store: Arc<dyn Store>) {
    assert_eq!(store.list(&Search::all(10, None)).await.unwrap().next, None, "an empty store has one empty page");
    let mut all = BTreeSet::new();
    for n in 0..23 {
        // Written out of order; some opened at the same instant, and some changed since.
        let (push, opened) = (id(&format!("push {n}"), 1), instant((n * 7 % 23) / 2));
        put(&*store, &row(push.clone(), opened, "{}")).await;
        if n % 3 == 0 {
            put(&*store, &settled(row(push.clone(), opened, "{}"), Vec::new())).await;
        }
        all.insert((push, opened));
    }
    for limit in [1, 5, 22, 23, 24, 1000] {
        let pushes = listed(&*store, limit).await;
        assert!(pushes.is_sorted_by(|a, b| a.1 >= b.1), "pages of {limit}: {pushes:?}");
        assert_eq!(pushes.into_iter().collect::<BTreeSet<_>>(), all, "pages of {limit}");
    }
}

/// Instants of this minute: a push that was opened long before it is written is entered a second time, for upkeep, and a page
/// then holds fewer.
fn recent() -> impl Fn(i64) -> Instant {
    let now = SystemClock.now();
    move |seconds| now + chrono::Duration::seconds(seconds)
}

async fn a_page_stays_while_pushes_come_and_go(store: Arc<dyn Store>) {
    let recent = recent();
    for n in 0..10 {
        put(&*store, &row(id(&format!("push {n}"), 1), recent(n), "{}")).await;
    }
    let first = store.list(&Search::all(4, None)).await.unwrap();
    assert_eq!(named(&first).into_iter().map(|p| p.1).collect::<Vec<_>>(), [9, 8, 7, 6].map(&recent));
    let last_of_page = id("push 6", 1);
    store.apply(&push(&last_of_page), asking(|_, _| decided(Did::Removed, Change::Remove))).await.unwrap();
    put(&*store, &row(id("newer", 1), recent(100), "{}")).await;
    let second = store.list(&Search::all(100, first.next.as_deref())).await.unwrap();
    assert_eq!(named(&second).into_iter().map(|p| p.1).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0].map(&recent));
    assert_eq!(second.next, None);
}

async fn a_foreign_cursor_begins_at_the_newest(store: Arc<dyn Store>) {
    let recent = recent();
    for n in 0..3 {
        put(&*store, &row(id(&format!("push {n}"), 1), recent(n), "{}")).await;
    }
    let newest = named(&store.list(&Search::all(2, None)).await.unwrap());
    assert_eq!(newest.len(), 2);
    for cursor in ["", " ", "nonsense", "12 nonsense", "🙂", "\0", "'; --", &"9".repeat(10_000)] {
        let page = store.list(&Search::all(2, Some(cursor))).await.unwrap();
        assert_eq!(named(&page), newest, "{:?}", cursor.get(..20).unwrap_or(cursor));
    }
}

async fn a_question_is_answered(store: Arc<dyn Store>) {
    let place = "shop/cart:v1";
    let asked = with_digest(row(content(place, "A", 1), instant(0), "{}"), "A");
    put(&*store, &asked).await;
    for (n, (place, digest, round, opened)) in
        [(place, "A", 2, 5), ("elsewhere", "B", 1, 6), (place, "B", 1, 10), (place, "B", 2, 20), (place, "C", 1, 30)]
            .into_iter()
            .enumerate()
    {
        let other = with_digest(row(content(place, digest, round), instant(opened), &n.to_string()), digest);
        put(&*store, &other).await;
    }
    let answer = async |span: Option<(i64, i64)>| {
        let moved = span.map(|(after, before)| (instant(after), instant(before)));
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let step = asking({
            let heard = Arc::clone(&heard);
            move |row, answer: Option<Answer>| {
                assert_eq!(row.map(|row| row.id.round), Some(1));
                heard.lock().unwrap().push(answer);
                match answer {
                    None => Decision::Ask(Question { moved, pending: false }),
                    Some(_) => decided(Did::Idle, Change::None),
                }
            }
        });
        store.apply(&push(&asked.id), step).await.unwrap();
        let heard = heard.lock().unwrap();
        let last = heard.last().copied().flatten().expect("an answer");
        assert!(!last.pending, "nothing waits");
        last.moved
    };
    for (span, moved) in [
        (Some((0, 100)), Some(30)),
        (Some((0, 30)), Some(20)),
        (Some((10, 20)), None),
        (Some((9, 11)), Some(10)),
        (Some((30, 100)), None),
        (Some((0, 10)), None),
        (Some((20, 10)), None),
        (None, None),
    ] {
        assert_eq!(answer(span).await, moved.map(instant), "{span:?}");
    }
}

async fn an_answer_counts_what_is_there_when_the_step_is_applied(store: Arc<dyn Store>) {
    let place = "shop/cart:v1";
    let asked = with_digest(row(content(place, "A", 1), instant(0), "{}"), "A");
    put(&*store, &asked).await;
    let settle = || {
        asking(|row, answer| match answer {
            None => Decision::Ask(Question { moved: Some((instant(0), instant(99))), pending: false }),
            Some(Answer { moved, .. }) => {
                let rule = Some(moved.is_some().to_string());
                decided(Did::Joined, Change::Put(Row { rule, ..row.unwrap().clone() }))
            }
        })
    };
    let applied = store.apply(&push(&asked.id), settle()).await.unwrap();
    assert_eq!(applied.row.unwrap().rule.as_deref(), Some("false"));
    put(&*store, &with_digest(row(content(place, "B", 1), instant(1), "{}"), "B")).await;
    let applied = store.apply(&push(&asked.id), settle()).await.unwrap();
    assert_eq!(applied.row.unwrap().rule.as_deref(), Some("true"));
}

/// Ids of everything that a search finds, page by page.
async fn all_of(store: &dyn Store, search: Search) -> Vec<PushId> {
    let (mut all, mut cursor) = (Vec::new(), None);
    for _ in 0..1000 {
        let page = store.list(&Search { cursor, ..search.clone() }).await.unwrap();
        assert!(page.rows.len() <= search.limit && page.unreadable == 0);
        all.extend(named(&page).into_iter().map(|(id, _)| id));
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
    panic!("the list has no end");
}

async fn a_search_finds_what_it_asks_for(store: Arc<dyn Store>) {
    let recent = recent();
    let mut all = Vec::new();
    for n in 0..30 {
        let plain = row(id(&format!("push {n}"), 1), recent(n), "{}");
        let repository = if n % 3 == 0 { "shop/cart" } else { "shop/web" };
        let row = Row { subject: Subject { repository: repository.into(), ..plain.subject.clone() }, ..plain };
        put(&*store, &row).await;
        // Those of even number settle and owe nothing.
        if n % 2 == 0 {
            put(&*store, &settled(row.clone(), Vec::new())).await;
        }
        all.push(row.id);
    }
    let ids = |wanted: fn(usize) -> bool| {
        all.iter().enumerate().rev().filter(|(n, _)| wanted(*n)).map(|(_, id)| id.clone()).collect::<Vec<_>>()
    };
    const fn owed(n: usize) -> bool {
        n % 2 == 1 && n.is_multiple_of(3) && n >= 4
    }
    for limit in [1, 4, 30, 1000] {
        let any = Search::all(limit, None);
        assert_eq!(all_of(&*store, any.clone()).await, ids(|_| true));
        let cart: Test<Subject> = Arc::new(|subject| subject.repository == "shop/cart");
        let carts = Search { subject: Some(Arc::clone(&cart)), ..any.clone() };
        assert_eq!(all_of(&*store, carts).await, ids(|n| n % 3 == 0), "pages of {limit}");
        let done: Test<Row> = Arc::new(|row| row.settled().is_some());
        let done = Search { row: Some(done), ..any.clone() };
        assert_eq!(all_of(&*store, done).await, ids(|n| n % 2 == 0), "pages of {limit}");
        let span = Search { since: Some(recent(5)), until: Some(recent(9)), ..any.clone() };
        assert_eq!(all_of(&*store, span).await, ids(|n| (5..9).contains(&n)), "pages of {limit}");
        let owing = Search { owing: true, subject: Some(cart), since: Some(recent(4)), ..any };
        assert_eq!(all_of(&*store, owing.clone()).await, ids(owed), "pages of {limit}");
        // What is older than is usual may be forgotten, and is still no older than asked for.
        let found = all_of(&*store, Search { remembered: Some(recent(20)), ..owing.clone() }).await;
        assert!(found.iter().all(|id| ids(owed).contains(id)), "pages of {limit}");
        assert!(ids(|n| owed(n) && n >= 20).iter().all(|id| found.contains(id)), "pages of {limit}");
    }
    for cursor in ["", "nonsense", "\0", "s-5", "s+5", "s"] {
        assert!(!store.is_cursor(cursor), "{cursor:?}");
    }
    let next = store.list(&Search::all(1, None)).await.unwrap().next.unwrap();
    assert!(store.is_cursor(&next));
}

async fn the_newest_of_a_place_is_found_whatever_its_content(store: Arc<dyn Store>) {
    let recent = recent();
    let place = content("shop/cart:v1", "A", 1).key.place().to_owned();
    assert_eq!(store.newest_at(&place, None).await.unwrap(), None);
    for (digest, round, opened) in [("A", 1, 0), ("B", 1, 10), ("A", 2, 20), ("C", 1, 15)] {
        put(&*store, &row(content("shop/cart:v1", digest, round), recent(opened), "{}")).await;
    }
    put(&*store, &row(content("elsewhere", "A", 1), recent(30), "{}")).await;
    let newest = async |since: Option<i64>| {
        let found = store.newest_at(&place, since.map(&recent)).await.unwrap();
        found.map(|row| (row.id.clone(), row.opened))
    };
    let second = (content("shop/cart:v1", "A", 2), recent(20));
    assert_eq!(newest(None).await, Some(second.clone()));
    assert_eq!(newest(Some(20)).await, Some(second.clone()));
    assert_eq!(newest(Some(21)).await, None);
    // One that was purged is no push any more.
    let gone = purged(row(second.0, second.1, ""), recent(31));
    put(&*store, &gone).await;
    assert_eq!(newest(None).await, Some((content("shop/cart:v1", "C", 1), recent(15))));
}

in_every_store! {
    the_list_is_newest_first_whatever_the_page
    a_page_stays_while_pushes_come_and_go
    a_foreign_cursor_begins_at_the_newest
    a_question_is_answered
    a_search_finds_what_it_asks_for
    the_newest_of_a_place_is_found_whatever_its_content
    an_answer_counts_what_is_there_when_the_step_is_applied
}
