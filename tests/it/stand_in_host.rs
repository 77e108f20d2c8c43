//! The stand-in host against captures of the real one, with a handler of a few lines.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::net::TcpListener;

use crate::support::eventually;
use crate::support::host::envelope::{self, Call, Message};
use crate::support::host::{Handler, Host, HostOptions, Judgement, Route};
use crate::support::http::{Answer, Head};
use crate::support::recorder::Recorder;
use crate::support::wire;

async fn host(recorder: &Recorder, key: Option<&str>) -> Host {
    let mut options = HostOptions::attached(recorder.listen().await);
    options.routes.push(Route::new("any/{*rest}", &["GET", "POST"]).anonymous());
    options.key = key.map(str::to_owned);
    Host::start(options).await
}

async fn send(host: &Host, head: &str, body: &str) -> Answer {
    let request = format!("{}\r\n\r\n{body}", head.trim().replace('\n', "\r\n"));
    wire::send(&request.bytes().collect::<Vec<_>>(), host.port()).await
}

/// Headers without order, their names without case, the invocation's id without its random part.
fn comparable(head: &Head) -> (String, Vec<(String, String)>) {
    let mut headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let name = name.to_lowercase();
            let value = match value.rsplit_once(", ") {
                Some((before, _)) if name == "x-azure-functions-invocationid" => format!("{before}, <id>"),
                None if name == "x-azure-functions-invocationid" => "<id>".to_owned(),
                _ => value.clone(),
            };
            (name, value)
        })
        .collect();
    headers.sort();
    (head.start.clone(), headers)
}

#[tokio::test]
async fn forwarded_requests_arrive_as_captured() {
    const CURL: &str = "Host: 127.0.0.1:7072\nUser-Agent: curl/7.88.1\nAccept: */*";
    let cases = [
        (
            "forwarded-many-headers.http",
            "POST /api/ImagePush HTTP/1.1\nHost: app.example\nUser-Agent: curl/7.88.1\nAccept: */*\nX-Region: westus\n\
             Authorization: Bearer webhook-secret\nx-functions-key: fn-key\nX-A: 1\nX-A: 2\nCookie: a=b; c=d\n\
             X-Azure-Functions-InvocationId: forged\nX-Azure-Functions-HostVersion: 9\nX-Empty:\n\
             traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nX-Forwarded-For: 203.0.113.7:49152\n\
             X-Forwarded-Proto: https\nDISGUISED-HOST: app.azurewebsites.net\nX-ARR-LOG-ID: 9b0f\n\
             Content-Type: application/json\nContent-Length: 10"
                .to_owned(),
        ),
        (
            "forwarded-odd-url.http",
            format!(
                "GET /api/any/a%2Fb/g%20h/%C3%A9/%25/+?a=1&a=2&A=3&b=%2B+%20&x&y=&%C3%A9=%C3%A9&z=a%2Fb&z=c HTTP/1.1\n{CURL}"
            ),
        ),
        ("forwarded-question-mark-in-path.http", format!("GET /api/any/before%3Fafter/more?q=1 HTTP/1.1\n{CURL}")),
        (
            "forwarded-expect-continue.http",
            format!(
                "POST /api/any/expect HTTP/1.1\n{CURL}\nExpect: 100-continue\nContent-Type: application/json\nContent-Length: 7"
            ),
        ),
        ("forwarded-no-content-type.http", format!("POST /api/any/notype HTTP/1.1\n{CURL}\nContent-Length: 1")),
        ("forwarded-empty-body.http", format!("POST /api/any/empty HTTP/1.1\n{CURL}\nContent-Length: 0")),
        (
            "forwarded-content-encoding-lost.http",
            format!(
                "POST /api/any/encoded HTTP/1.1\n{CURL}\nContent-Encoding: gzip\nContent-Type: application/json\nContent-Length: 2"
            ),
        ),
        (
            "imagepush-second-region.http",
            "POST /api/ImagePush?code=fn-key&region=westus HTTP/1.1\nHost: 127.0.0.1:7072\n\
             User-Agent: AzureContainerRegistry/1.0\nContent-Type: application/json;charset=utf-8\nContent-Length: 461"
                .to_owned(),
        ),
    ];
    let recorder = Recorder::default();
    let host = host(&recorder, Some("fn-key")).await;
    for (name, request) in cases {
        let (expected, body) = wire::parts(name);
        let answer = send(&host, &request, &String::from_utf8(body.clone()).unwrap()).await;
        assert_eq!(answer.status, 200, "{name}");
        let [(head, got)] = &recorder.take()[..] else { panic!("{name}: not one call") };
        assert_eq!(comparable(head), comparable(&expected), "{name}");
        assert_eq!(got, &body, "{name}");
    }
}

#[tokio::test]
async fn what_the_host_answers_itself_never_reaches_the_handler() {
    let recorder = Recorder::default();
    let host = host(&recorder, Some("right")).await;
    let long = "x".repeat(9000);
    let cases = [
        (401, "POST /api/ImagePush HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (401, "POST /api/ImagePush?code=wrong HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (401, "POST /api/ImagePush?code=right HTTP/1.1\nHost: h\nx-functions-key: wrong\nContent-Length: 2".to_owned()),
        (404, "PUT /api/ImagePush?code=right HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (404, "POST /api/Other?code=right HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (404, "POST /TimeoutCheck HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (404, "PUT /api/pushes/?code=right HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (404, "POST /api/pushes/a/b/c/d?code=right HTTP/1.1\nHost: h\nContent-Length: 2".to_owned()),
        (500, "POST /api/ImagePush?code=right HTTP/1.1\nHost: h\nX-A: \u{e9}\nContent-Length: 2".to_owned()),
        (500, "POST /api/ImagePush?code=right HTTP/1.1\nHost: h\nContent-Type: a/b;\nContent-Length: 2".to_owned()),
        (414, format!("POST /api/ImagePush?code=right&x={long} HTTP/1.1\nHost: h\nContent-Length: 2")),
    ];
    for (status, head) in cases {
        let answer = send(&host, &head, "{}").await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{head}");
    }
    let chunked = "POST /api/ImagePush?code=right HTTP/1.1\nHost: h\nTransfer-Encoding: chunked";
    assert_eq!(send(&host, chunked, "2\r\n{}\r\n0\r\n\r\n").await.status, 500);
    assert!(recorder.take().is_empty());
}

#[tokio::test]
async fn routes_ignore_case_and_a_trailing_slash_and_the_handler_gets_the_path_as_written() {
    let recorder = Recorder::default();
    let host = host(&recorder, Some("k")).await;
    for path in ["/api/imagepush/", "/API/IMAGEPUSH", "/api/Pushes/ab-1", "/api/pushes/ab-1/Restart/"] {
        let answer = send(&host, &format!("GET {path} HTTP/1.1\nHost: h\nx-functions-key: k"), "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(recorder.take()[0].0.start, format!("GET {path} HTTP/1.1"));
    }
}

#[tokio::test]
async fn answers_pass_unchanged_but_for_their_chunks() {
    let recorder = Recorder::default();
    let host = host(&recorder, None).await;
    recorder.script(&[
        b"HTTP/1.1 503 Not Now\r\nRetry-After: 7\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nServer: me\r\n\
          Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]);
    let get = "GET /api/ImagePush HTTP/1.1\nHost: h";
    let answer = send(&host, get, "").await;
    let cookies = answer.head.headers.iter().filter(|(name, _)| name == "Set-Cookie").count();
    assert_eq!((answer.status, answer.reason.as_str(), cookies, answer.text().as_str()), (503, "Not Now", 2, "abcd"));
    assert_eq!((answer.header("Retry-After"), answer.header("Content-Length")), (Some("7"), Some("4")));
    assert_eq!(send(&host, get, "").await.header("Location"), Some("/elsewhere"));
    assert_eq!(send(&host, get, "").await.status, 204);
    assert_eq!(recorder.take().len(), 3);
}

#[tokio::test]
async fn calls_without_a_body_are_repeated_when_the_handler_breaks_off() {
    let recorder = Recorder::default();
    let host = host(&recorder, None).await;
    recorder.script(&[&b""[..]; 4]);
    assert_eq!(send(&host, "GET /api/ImagePush HTTP/1.1\nHost: h", "").await.status, 500);
    let seen = recorder.take();
    let ids: Vec<_> = seen.iter().map(|(head, _)| head.get("X-Azure-Functions-InvocationId").unwrap()).collect();
    assert_eq!(ids, [ids[0]; 4]);

    recorder.script(&[b"", b"", b""]);
    assert_eq!(send(&host, "DELETE /api/pushes/a HTTP/1.1\nHost: h", "").await.status, 200);
    assert_eq!(recorder.take().len(), 4);

    recorder.script(&[b""]);
    assert_eq!(send(&host, "POST /api/ImagePush HTTP/1.1\nHost: h\nContent-Length: 2", "{}").await.status, 500);
    assert_eq!(recorder.take().len(), 1);
}

#[tokio::test]
async fn a_handler_that_is_not_there_costs_the_caller_a_500() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = unused.local_addr().unwrap().port();
    let recorder = Recorder::default();
    let host = host(&recorder, None).await;
    drop(unused);
    let pool = Arc::new(crate::support::host::pool::Pool::new(port));
    assert!(pool.call(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", false).await.is_err());
    assert_eq!(host.probe().await, Some(200));
    host.stop().await;
}

/// The parts of a captured envelope that come from the message and the moment, put through the stand-in again.
fn again(name: &str, text: &str) -> Vec<u8> {
    let (head, body) = wire::parts(name);
    let body = String::from_utf8(body).unwrap();
    let envelope: serde_json::Value = serde_json::from_str(body.split("\r\n").nth(1).unwrap()).unwrap();
    let metadata = &envelope["Metadata"];
    let plain = |name: &str| metadata[name].as_str().map(|t| serde_json::from_str::<String>(t).unwrap_or(t.to_owned()));
    let instant = |name: &str| DateTime::parse_from_rfc3339(metadata[name].as_str().unwrap()).unwrap().to_utc();
    let message = Message {
        handle: plain("Id").zip(plain("PopReceipt")),
        dequeue_count: plain("DequeueCount").unwrap().parse().unwrap(),
        inserted: instant("InsertionTime"),
        expires: instant("ExpirationTime"),
        next_visible: instant("NextVisibleTime"),
        raw: String::new(),
    };
    let call = Call {
        function: "TimeoutCheck".into(),
        binding: "message".into(),
        port: head.get("Host").unwrap().split_once(':').unwrap().1.parse().unwrap(),
        invocation: head.get("X-Azure-Functions-InvocationId").unwrap().into(),
        utc_now: metadata["sys"]["UtcNow"].as_str().unwrap_or_default().into(),
        guid: metadata["sys"]["RandGuid"].as_str().unwrap_or_default().into(),
        chunked: true,
    };
    envelope::request(&call, &message, text)
}

#[test]
fn envelopes_are_those_captured_to_the_byte() {
    let object = r#"{"push":"p1","due":1763800000,"nested":{"a":[1,"x"]},"when":"2026-11-22T08:15:30Z","flag":true,"none":null,"list":[1]}"#;
    let overwriting = r#"{"Id":"mine","PopReceipt":"mine","DequeueCount":"99","QueueTrigger":"x","sys":"s"}"#;
    for (name, text) in [
        ("queue-json-object.http", object),
        ("queue-text.http", "plain text \u{e9} \"quoted\" \\ back"),
        ("queue-json-string.http", "\"a json string\""),
        ("queue-json-array.http", "[1,2]"),
        ("queue-empty-text.http", ""),
        ("queue-overwrites-metadata.http", overwriting),
        ("queue-never-expires.http", r#"{"push":"p1"}"#),
        ("queue-run-by-hand.http", r#"{"push":"p1"}"#),
    ] {
        let (made, captured) = (again(name, text), wire::bytes(name));
        assert_eq!(String::from_utf8(made).unwrap(), String::from_utf8(captured).unwrap(), "{name}");
    }
}

#[test]
fn instants_have_no_zeros_at_their_end() {
    for text in ["2026-11-22T08:00:05.1234567Z", "2026-11-23T02:49:42.910054Z", "2026-11-23T02:49:42Z"] {
        assert_eq!(envelope::utc_text(text.parse::<DateTime<Utc>>().unwrap()), text);
    }
}

#[tokio::test]
async fn answers_to_queue_calls_are_judged_as_seen() {
    #[derive(Debug, PartialEq)]
    enum Is {
        Good,
        Bad,
        Fatal,
    }
    let cases = [
        ("200 OK\r\nContent-Type: application/json", "{}", Is::Good),
        ("202 Accepted\r\nContent-Type: text/json; charset=latin1", "{\"Logs\":[\"a\"]}", Is::Good),
        ("201 Created\r\nContent-Type: application/json", "{\"outputs\":{\"a\":1},\"other\":1}", Is::Good),
        ("200 OK\r\nContent-Type: application/json", "", Is::Fatal),
        ("200 OK\r\nContent-Type: text/plain", "", Is::Fatal),
        ("200 OK\r\nContent-Type: application/json", "null", Is::Fatal),
        ("200 OK\r\nContent-Type: application/json", "[]", Is::Bad),
        ("200 OK\r\nContent-Type: application/json", "\"text\"", Is::Bad),
        ("200 OK\r\nContent-Type: application/json", "{\"broken", Is::Bad),
        ("200 OK\r\nContent-Type: application/json", "{\"Logs\":\"a\"}", Is::Bad),
        ("200 OK\r\nContent-Type: text/plain", "{}", Is::Bad),
        ("200 OK", "{}", Is::Bad),
        ("302 Found\r\nLocation: /x", "", Is::Bad),
        ("404 Not Found\r\nContent-Type: application/json", "{}", Is::Bad),
        ("500 Oh\r\nContent-Type: application/json", "{}", Is::Bad),
    ];
    let recorder = Recorder::default();
    let port = recorder.listen().await;
    for (head, body, expected) in cases {
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        recorder.script(&[answer.as_bytes()]);
        let judgement = envelope::judge(&wire::replay("queue-text.http", port).await);
        let is = match judgement {
            Judgement::Success => Is::Good,
            Judgement::Hang(_) => Is::Fatal,
            Judgement::Failure(_) | Judgement::NotCalled(_) => Is::Bad,
        };
        assert_eq!(is, expected, "{head} {body}");
    }
    recorder.script(&[b"HTTP/1.1 204 No Content\r\n\r\n"]);
    let answer = wire::replay("queue-text.http", port).await;
    assert!(matches!(envelope::judge(&answer), Judgement::Hang(_)));
}

/// Not a test of its own: the handler that the next test starts, through a script, in a process of its own.
#[tokio::test]
#[ignore = "started by the tests beside it"]
async fn as_handler() {
    let Ok(port) = std::env::var("FUNCTIONS_CUSTOMHANDLER_PORT") else { return };
    for (name, expected) in [
        ("FUNCTIONS_HTTPWORKER_PORT", port.clone()),
        ("FUNCTIONS_HTTPWORKER_ID", std::env::var("FUNCTIONS_CUSTOMHANDLER_WORKER_ID").unwrap()),
        ("FUNCTIONS_APP_ROOT_PATH", std::env::current_dir().unwrap().display().to_string()),
        ("Setting", "value".into()),
    ] {
        assert_eq!(std::env::var(name).as_ref(), Ok(&expected), "{name}");
    }
    eprintln!("handler on standard error");
    Recorder::default().listen_on(port.parse().unwrap()).await;
    std::future::pending().await
}

fn handler_script(folder: &std::path::Path) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let script = folder.join("handler");
    let binary = std::env::current_exe().unwrap();
    let text =
        format!("#!/bin/sh\nexec '{}' --ignored --exact stand_in_host::as_handler --nocapture\n", binary.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    script
}

#[tokio::test]
async fn a_handler_is_started_killed_started_again_and_orphaned() {
    let folder = tempfile::tempdir().unwrap();
    let handler =
        Handler::Spawned { exe: handler_script(folder.path()), settings: vec![("Setting".into(), "value".into())] };
    for own_parent in [false, true] {
        let mut options = HostOptions::attached(0);
        options.handler = handler.clone();
        options.own_parent = own_parent;
        let mut host = Host::start(options).await;
        let get = "GET /api/ImagePush HTTP/1.1\nHost: h";
        assert_eq!(send(&host, get, "").await.status, 200);
        let (pid, port) = (host.handler_pid().unwrap(), host.handler_port());
        host.kill_handler().await;
        assert_eq!((host.handler_pid(), host.probe().await), (None, None));
        assert_eq!(send(&host, get, "").await.status, 500);
        host.restart_handler().await;
        assert_ne!(host.handler_pid(), Some(pid));
        assert_eq!(host.handler_port(), port);
        assert_eq!(send(&host, get, "").await.status, 200);
        let starts = || host.handler_output().matches("handler on standard error").count();
        eventually("both starts have written", Duration::from_secs(10), async || starts() >= 2).await;
        assert_eq!(starts(), 2, "{}", host.handler_output());
        if own_parent {
            host.kill_host_only().await;
            // This handler does not notice; the drop below ends it.
            assert_eq!(host.probe().await, Some(200));
        }
        drop(host);
        let gone = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err();
        eventually("the handler ends with its host", Duration::from_secs(10), gone).await;
    }
}

#[tokio::test]
#[should_panic(expected = "the handler ended before it listened")]
async fn a_handler_that_ends_at_once_is_reported_at_once() {
    let mut options = HostOptions::attached(0);
    options.handler = Handler::Spawned { exe: "/bin/false".into(), settings: Vec::new() };
    Host::start(options).await;
}
