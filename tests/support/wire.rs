//! Requests captured from the real Functions host, sent again byte for byte. A test that composes its own requests only
//! proves that it agrees with itself.

use std::path::PathBuf;
use std::time::Duration;

use super::http::{Answer, Connection, Head, parse_head};

const LIMIT: Duration = Duration::from_secs(10);

/// The folder of the captures.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wire")
}

/// Names of all captured requests, in order.
pub fn all() -> Vec<String> {
    let names = std::fs::read_dir(folder()).expect("the captures").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> =
        names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n.ends_with(".http")).collect();
    names.sort();
    names
}

/// The bytes of one capture, by file name.
pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// One capture taken apart at its first empty line: the head, and the bytes after it as they stand (chunk sizes included).
pub fn parts(name: &str) -> (Head, Vec<u8>) {
    let bytes = bytes(name);
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("{name} has no end of head"));
    let head: String = bytes[..end].iter().copied().map(char::from).collect();
    (parse_head(&head).expect("a head"), bytes[end + 4..].to_vec())
}

/// Sends one capture to a port of the loopback and reads the answer.
///
/// # Panics
/// When there is no whole answer within 10 s.
pub async fn replay(name: &str, port: u16) -> Answer {
    send(&bytes(name), port).await
}

/// Sends the bytes of a request to a port of the loopback and reads the answer.
///
/// # Panics
/// When there is no whole answer within 10 s.
pub async fn send(request: &[u8], port: u16) -> Answer {
    let exchange = async {
        let mut connection = Connection::open(port).await?;
        connection.write(request).await?;
        connection.answer(request.starts_with(b"HEAD ")).await
    };
    match tokio::time::timeout(LIMIT, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => panic!("no answer from port {port}: {error}"),
        Err(_) => panic!("no answer from port {port} within {LIMIT:?}"),
    }
}
