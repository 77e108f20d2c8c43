//! What the service promises of every call, however far it gets at once.

use std::sync::Arc;
use std::time::Duration;

use global_webhook::backends;
use global_webhook::clock::{Clock as _, SystemClock};
use global_webhook::config::{self, Source};
use global_webhook::push::{Arrival, Input, Region};
use global_webhook::service::{Service, Taken};
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::{Failure, Search};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A service that acts on a runtime of its own, as beside the web workers.
fn service() -> (Service, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    (service_on(&runtime), runtime)
}

fn service_on(runtime: &Runtime) -> Service {
    let settings = config::load(&Source::new([("WebhookRegions", "east,west")])).unwrap();
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    backends::service(settings, &backends::own(store, "memory".into()), runtime.handle().clone())
}

fn on_a_worker<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

#[test]
fn a_panic_is_a_failure_at_once_and_later() {
    let (service, runtime) = service();
    on_a_worker(async {
        let at_once = service.run(|_| async { panic!("at once") }).await as Result<(), Failure>;
        assert!(matches!(at_once, Err(Failure::Corrupt(_))), "{at_once:?}");
        let later = async {
            tokio::task::yield_now().await;
            panic!("later")
        };
        let later = service.run(|_| later).await as Result<(), Failure>;
        assert!(matches!(later, Err(Failure::Corrupt(_))), "{later:?}");
        assert!(service.run(|_| async { Ok(()) }).await.is_ok());
    });
    drop(runtime);
}

#[test]
fn a_caller_that_goes_away_does_not_cancel_its_call() {
    let (service, runtime) = service();
    let (go_on, wait) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    on_a_worker(async {
        let call = service.run(|_| async move {
            wait.await.unwrap();
            // A timer made after the caller's own runtime is gone must be driven by the other one.
            SystemClock.sleep(Duration::from_millis(1)).await;
            tell.send(()).unwrap();
            Ok(())
        });
        assert!(futures_util::poll!(Box::pin(call)).is_pending());
    });
    go_on.send(()).unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), told).await }).unwrap().unwrap();
    runtime.block_on(service.drain());
}

#[test]
fn what_a_call_starts_at_once_lives_on_the_services_runtime() {
    let (service, runtime) = service();
    let (tell, told) = oneshot::channel();
    on_a_worker(async {
        // The caller's thread runs this call from end to end.
        let begun = service.run(|_| async move {
            tokio::spawn(async move {
                SystemClock.sleep(Duration::from_millis(50)).await;
                tell.send(()).unwrap();
            });
            Ok(())
        });
        begun.await.unwrap();
    });
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), told).await }).unwrap().unwrap();
}

#[test]
fn a_push_is_listed_once_and_only_while_it_is_there() {
    let runtime = Runtime::new().unwrap();
    let service = service_on(&runtime);
    runtime.block_on(async {
        let arrival = |n: u32| {
            let text = crate::support::service::Image::new("team/shop", &format!("t{n}")).notification();
            Arrival::read(Region::parse("east").unwrap(), SystemClock.now(), text, None).unwrap()
        };
        let mut ids = Vec::new();
        for n in 0..5 {
            let Taken::Done(done) = service.arrive(arrival(n), None).await.unwrap() else { panic!("in memory") };
            ids.push(done.row.unwrap().id.clone());
        }
        // One that is gone is listed no more.
        let gone = ids.remove(2);
        service.apply(gone.clone(), Input::Terminate).await.unwrap();
        service.apply(gone, Input::Purge).await.unwrap();
        let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = service
                .run(|engine| async move { engine.list(&Search::all(2, cursor.as_deref())).await })
                .await
                .unwrap();
            listed.extend(page.rows.into_iter().map(|push| push.id));
            pages += 1;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert!(pages >= 2, "{pages} pages");
        listed.sort();
        ids.sort();
        assert_eq!(listed, ids);
    });
}
