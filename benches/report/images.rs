//! What the registry sends, as whole HTTP requests made before the clock starts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Regions by number.
pub(crate) fn region(number: usize) -> String {
    format!("region{number}")
}

/// The setting that waits for the first `count` of them.
pub(crate) fn regions(count: usize) -> String {
    (0..count).map(region).collect::<Vec<_>>().join(",")
}

/// A notification about an image that nobody has pushed before, shaped and sized as the registry's own.
pub(crate) fn notification() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    let id = format!("{process:08x}-0000-4000-8000-{number:012x}");
    format!(
        r#"{{"id":"{id}","timestamp":"2026-11-22T08:15:30.1234567Z","action":"push","target":{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","size":1612,"digest":"sha256:{process:032x}{number:032x}","length":1612,"repository":"team/shop","tag":"1.2.{number}"}},"request":{{"id":"{id}","host":"contoso.azurecr.io","method":"PUT","useragent":"docker/27.3.1 go/go1.22.7 git-commit/41ca978 kernel/6.8.0 os/linux arch/amd64 UpstreamClient(Docker-Client/27.3.1)"}}}}"#
    )
}

/// The POST of a notification from a region.
pub(crate) fn request(port: u16, region: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /api/ImagePush?region={region} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json; charset=utf-8\r\nuser-agent: AzureContainerRegistry/1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// `pushes` whole pushes for each of `connections`, the regions of a push one after the other.
pub(crate) fn pushes(port: u16, connections: usize, pushes: usize, regions: usize) -> Vec<Vec<Vec<u8>>> {
    let one = || {
        let body = notification();
        (0..regions).map(move |r| request(port, &region(r), &body)).collect::<Vec<_>>()
    };
    (0..connections).map(|_| (0..pushes).flat_map(|_| one()).collect()).collect()
}
