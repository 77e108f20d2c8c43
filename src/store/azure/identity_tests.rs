use std::sync::Mutex as Shared;

use chrono::TimeZone as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::tests::Set;

fn at(seconds: i64) -> Instant {
    chrono::Utc.timestamp_opt(1_760_000_000 + seconds, 0).unwrap()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads a request and answers it with this status and body; the request's head.
async fn answer(stream: &mut TcpStream, (status, body): &(u16, String)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(head).unwrap()
}

/// Gives these answers (status, body) one after the other, then ends; the heads of what it was asked go to the list.
async fn endpoint(answers: Vec<(u16, String)>) -> (String, Arc<Shared<Vec<String>>>) {
    let (listener, url) = listener().await;
    let asked: Arc<Shared<Vec<String>>> = Arc::default();
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            for one in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = answer(&mut stream, &one).await;
                asked.lock().unwrap().push(head);
            }
        }
    });
    (url, asked)
}

fn token(name: &str, ends: i64, quote: &str) -> (u16, String) {
    let ends = at(ends).timestamp();
    (200, format!(r#"{{"access_token":"{name}","expires_on":{quote}{ends}{quote},"token_type":"Bearer"}}"#))
}

fn credential(endpoint: String, client_id: Option<&str>) -> (Arc<Set>, ManagedIdentity) {
    let clock = Arc::new(Set(Shared::new(at(0))));
    let identity = Identity { client_id: client_id.map(str::to_owned), endpoint, header: "proof".into() };
    let credential = ManagedIdentity::new(identity, Arc::clone(&clock) as Arc<dyn Clock>);
    (clock, credential)
}

async fn get(credential: &ManagedIdentity) -> azure_core::Result<String> {
    Ok(credential.get_token(&["https://storage.azure.com/.default"]).await?.token.secret().to_owned())
}

#[tokio::test]
async fn one_token_serves_until_shortly_before_its_end() {
    let (url, asked) = endpoint(vec![token("one", 3600, "\""), token("two", 7200, "")]).await;
    let (clock, credential) = credential(url, Some("my id"));
    for _ in 0..3 {
        assert_eq!(get(&credential).await.unwrap(), "one");
    }
    *clock.0.lock().unwrap() = at(3600 - 301);
    assert_eq!(get(&credential).await.unwrap(), "one");
    *clock.0.lock().unwrap() = at(3600 - 300);
    while get(&credential).await.unwrap() != "two" {
        tokio::task::yield_now().await;
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    let wanted = "GET /msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fstorage.azure.com&client_id=my+id ";
    assert!(asked[0].starts_with(wanted), "{}", asked[0]);
    assert!(asked[0].to_lowercase().contains("\r\nx-identity-header: proof\r\n"), "{}", asked[0]);
}

#[tokio::test]
async fn the_old_token_serves_while_renewal_fails() {
    let (url, asked) = endpoint(vec![token("one", 3600, "\""), (500, "down".into()), (500, "down".into())]).await;
    let (clock, credential) = credential(url, None);
    assert_eq!(get(&credential).await.unwrap(), "one");
    *clock.0.lock().unwrap() = at(3400);
    let pause = clock::after(at(3400), RENEW_PAUSE);
    while credential.0.state().kept.as_ref().unwrap().renew_at != pause {
        assert_eq!(get(&credential).await.unwrap(), "one");
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&credential).await.unwrap(), "one");
    assert_eq!(asked.lock().unwrap().len(), 2, "a failing endpoint is left alone for a while");
    *clock.0.lock().unwrap() = at(3590);
    assert!(crate::store::azure::connection::is_transient(&get(&credential).await.unwrap_err()));
    assert!(!asked.lock().unwrap()[0].contains("client_id"));
}

#[tokio::test]
async fn an_endpoint_that_hangs_keeps_nobody_who_has_a_token() {
    let (listener, url) = listener().await;
    let (clock, credential) = credential(url, None);
    let hanging = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        answer(&mut stream, &token("one", 3600, "")).await;
        let second = listener.accept().await.unwrap().0;
        (listener, second)
    });
    assert_eq!(get(&credential).await.unwrap(), "one");
    *clock.0.lock().unwrap() = at(3400);
    for _ in 0..3 {
        // Polled once: there is nothing to wait for.
        assert_eq!(get(&credential).now_or_never().unwrap().unwrap(), "one");
    }
    let (listener, _second) = hanging.await.unwrap();
    assert!(listener.accept().now_or_never().is_none(), "one renewal at a time");
}

#[tokio::test]
async fn a_renewal_goes_on_when_those_who_wait_give_up() {
    let (listener, url) = listener().await;
    let (_, credential) = credential(url, None);
    assert!(get(&credential).now_or_never().is_none());
    let mut stream = listener.accept().await.unwrap().0;
    let waiting = get(&credential);
    assert!(get(&credential).now_or_never().is_none());
    answer(&mut stream, &token("one", 3600, "")).await;
    assert_eq!(waiting.await.unwrap(), "one");
    assert!(listener.accept().now_or_never().is_none(), "all waited for the same renewal");
}

#[tokio::test]
async fn what_is_no_token_is_an_error_without_its_text() {
    let bodies = [
        "",
        "{}",
        r#"{"access_token":"secret","expires_on":"soon"}"#,
        r#"{"access_token":"secret","expires_on":9e99}"#,
    ];
    let answers = bodies.iter().map(|b| (200, (*b).to_owned())).chain([(400, "secret".to_owned())]).collect();
    let (url, _) = endpoint(answers).await;
    let (_, credential) = credential(url, None);
    for _ in 0..=bodies.len() {
        let error = get(&credential).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}
