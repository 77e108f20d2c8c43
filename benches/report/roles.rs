//! What this program is when it runs itself: the floors, and the service on stores that live in memory only.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use global_webhook::backends;
use global_webhook::clock::SystemClock;
use global_webhook::config::{self, Source};
use global_webhook::http::doors::Doors;
use global_webhook::http::{self, Web};
use global_webhook::store::memory::MemoryStore;
use global_webhook::telemetry;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

/// Most inserts of one transaction.
const BATCH_MAX: usize = 512;

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed for the sake of parsing")]
struct Body {
    id: String,
    action: String,
    target: Target,
    request: Request,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed for the sake of parsing")]
struct Target {
    repository: String,
    digest: String,
    tag: Option<String>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed for the sake of parsing")]
struct Request {
    host: String,
}

type Insert = (String, String, oneshot::Sender<()>);

/// Threads that parse requests: as many as `serve` takes.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Runs as `role` until killed.
pub(crate) fn run(role: &str, port: u16, folder: &Path) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port");
    match role {
        "bare" => bare(listener, None),
        "bare-sqlite" => bare(listener, Some(inserter(folder))),
        "memory" => memory(listener),
        other => panic!("no role {other:?}"),
    }
}

/// A route that parses the body and, with `inserts`, answers once it is on disk.
fn bare(listener: TcpListener, inserts: Option<mpsc::Sender<Insert>>) {
    let inserts = web::Data::new(inserts);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(inserts.clone())
            .route("/", web::get().to(async || HttpResponse::Ok().json(json!({ "service": "bare" }))))
            .route("/api/ImagePush", web::post().to(arrive))
            .default_service(web::to(async || HttpResponse::Ok().json(json!({}))))
    })
    .workers(workers())
    .listen(listener)
    .expect("a listener")
    .run();
    actix_web::rt::System::new().block_on(server).expect("a server");
}

async fn arrive(
    request: actix_web::HttpRequest,
    bytes: web::Bytes,
    inserts: web::Data<Option<mpsc::Sender<Insert>>>,
) -> HttpResponse {
    let text = std::str::from_utf8(&bytes).expect("text");
    let body: Body = serde_json::from_str(text).expect("a notification");
    if let Some(inserts) = inserts.as_ref() {
        let (reply, answer) = oneshot::channel();
        let id = format!("{} {}", body.target.digest, request.query_string());
        inserts.send((id, text.to_owned(), reply)).await.expect("the inserting thread");
        answer.await.expect("the inserting thread");
    }
    HttpResponse::Accepted().json(json!({ "id": body.id }))
}

/// One thread that commits what is queued in one transaction, flushed.
fn inserter(folder: &Path) -> mpsc::Sender<Insert> {
    let connection = rusqlite::Connection::open(folder.join("bare.db")).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (id TEXT PRIMARY KEY, body TEXT)",
        )
        .expect("a table");
    let (send, mut receive) = mpsc::channel::<Insert>(1024);
    std::thread::spawn(move || {
        let mut batch = Vec::new();
        while receive.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            connection.execute_batch("BEGIN").expect("a transaction");
            for (id, body, _) in &batch {
                let mut insert = connection.prepare_cached("INSERT INTO t VALUES (?1, ?2)").expect("a statement");
                insert.execute([id, body]).expect("an insert");
            }
            connection.execute_batch("COMMIT").expect("a commit");
            for (.., reply) in batch.drain(..) {
                let _ = reply.send(());
            }
        }
    });
    send
}

/// The service as its parts, on a store in memory.
fn memory(listener: TcpListener) {
    let source = Source::from_environment();
    telemetry::install(true, source.get("WebhookLog")).expect("a log");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let settings = config::load(&source).expect("settings");
    let described = settings.described.clone();
    let clock = Arc::new(SystemClock);
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let storage = Arc::new(backends::own(store, "memory".into()));
    let service = backends::service(settings, &storage, runtime.handle().clone());
    let (_go_on, stop) = watch::channel(false);
    runtime.spawn(Arc::clone(&storage).drive(service.clone(), stop));
    let web = Web::new(Ok(service), described, clock, Doors::Host);
    runtime.block_on(async { http::serve(listener, Arc::new(web), workers())?.await }).expect("a server");
}
