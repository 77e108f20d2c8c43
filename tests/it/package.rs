//! The package that is published: what is in it, that it comes out the same twice, and that the zip runs where the program's C
//! library is older than that of the machine that built it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::azurite::azurite;
use crate::support::caller::Caller;
use crate::support::eventually;
use crate::support::host::{Handler, Host, HostOptions};
use crate::support::recorder::Recorder;
use crate::support::service::{Image, LIMIT, QUEUE};

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `scripts/package` with a program that is there already.
fn package(program: &Path, out: &Path) -> PathBuf {
    let arguments = ["--binary".as_ref(), program.as_os_str(), "--out".as_ref(), out.as_os_str()];
    let done = Command::new(source().join("scripts/package")).args(arguments).output().expect("Python 3");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let version = env!("CARGO_PKG_VERSION");
    out.join(format!("global-webhook-{version}-x86_64.zip"))
}

/// The files of a zip by name, with their modes, read from its directory.
fn entries(zip: &[u8]) -> BTreeMap<String, u32> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
    let u32_at = |at: usize| u32::from_le_bytes([zip[at], zip[at + 1], zip[at + 2], zip[at + 3]]);
    let end = zip.len() - 22;
    assert_eq!(&zip[end..end + 4], b"PK\x05\x06", "a zip without a comment");
    let mut at = u32_at(end + 16) as usize;
    let mut found = BTreeMap::new();
    for _ in 0..u16_at(end + 10) {
        assert_eq!(&zip[at..at + 4], b"PK\x01\x02");
        assert_eq!(zip[at + 5], 3, "made on Unix, or its modes are not looked at");
        let (name, extra, comment) = (u16_at(at + 28), u16_at(at + 30), u16_at(at + 32));
        let text = String::from_utf8(zip[at + 46..at + 46 + name].to_vec()).expect("a name");
        found.insert(text, u32_at(at + 38) >> 16);
        at += 46 + name + extra + comment;
    }
    found
}

#[test]
fn a_package_holds_what_the_host_reads_and_nothing_else_and_comes_out_the_same_twice() {
    // The logic does not look into the program; a small one keeps this short.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("program");
    std::fs::write(&program, b"\x7fELF, as far as this test goes").expect("a file");
    let zips: Vec<_> =
        ["one", "two"].map(|out| std::fs::read(package(&program, &folder.path().join(out))).expect("a zip")).into();
    assert_eq!(zips[0], zips[1]);
    let host: Value = serde_json::from_str(include_str!("../../host.json")).expect("JSON");
    let name = host["customHandler"]["description"]["defaultExecutablePath"].as_str().expect("a name");
    let expected = [
        ("Dashboard/function.json", 0o100_644),
        ("ImagePush/function.json", 0o100_644),
        ("Pushes/function.json", 0o100_644),
        ("Regions/function.json", 0o100_644),
        ("TimeoutCheck/function.json", 0o100_644),
        ("host.json", 0o100_644),
        (name, 0o100_755),
    ];
    assert_eq!(entries(&zips[0]), expected.map(|(name, mode)| (name.to_owned(), mode)).into());
    // The folder beside it is what `func azure functionapp publish` sends.
    let published = folder.path().join("one/x86_64");
    assert_eq!(
        std::fs::read(published.join(name)).expect("the program"),
        std::fs::read(&program).expect("the program")
    );
    assert_eq!(published.join(name).metadata().expect("the program").permissions().mode() & 0o777, 0o755);
}

/// The newest glibc that a program asks for.
fn glibc(program: &[u8]) -> Option<(u32, u32)> {
    let texts = program.split(|b| *b == 0).filter_map(|text| std::str::from_utf8(text).ok()?.strip_prefix("GLIBC_"));
    texts
        .filter_map(|version| version.split_once('.'))
        .filter_map(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))
        .max()
}

/// `scripts/package-check` runs it.
#[tokio::test]
#[ignore = "needs a release package in PACKAGE_ZIP, and root for the older Debian in OLD_ROOT"]
async fn the_zip_runs_under_a_host_on_an_older_system() {
    let zip = PathBuf::from(std::env::var_os("PACKAGE_ZIP").expect("PACKAGE_ZIP names the zip"));
    let root = std::env::var("OLD_ROOT").ok().filter(|root| !root.is_empty());
    // An app folder of its own, unpacked by a program that is not ours.
    let folder = tempfile::tempdir_in(root.as_deref().unwrap_or("/tmp")).expect("a folder");
    let unpacked = Command::new("unzip").arg("-q").arg(&zip).arg("-d").arg(folder.path()).status().expect("unzip");
    assert!(unpacked.success());
    let program = std::fs::read(folder.path().join("global-webhook")).expect("the program");
    assert!(glibc(&program) <= Some((2, 28)), "{:?}", glibc(&program));

    // The stand-in host starts a program without arguments; this one goes into the older system first.
    let app = match &root {
        Some(root) => format!("/{}", folder.path().strip_prefix(root).expect("inside").display()),
        None => folder.path().display().to_string(),
    };
    let enter = root.map_or_else(|| "exec".to_owned(), |root| format!("exec chroot '{root}'"));
    let start = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
    let script = format!(
        "#!/bin/sh\nFUNCTIONS_APP_ROOT_PATH={app}\nexport FUNCTIONS_APP_ROOT_PATH\n{enter} /bin/sh -c 'cd {app} && exec ./global-webhook'\n"
    );
    std::fs::write(&start, script).expect("a script");
    std::fs::set_permissions(&start, std::fs::Permissions::from_mode(0o755)).expect("its mode");

    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let account = tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite");
    let settings = [
        ("WebhookRegions", "northeurope,westus"),
        ("WebhookTargetUrl", &url),
        ("WebhookTargetFormat", "acr"),
        ("AzureWebJobsStorage", &account),
    ];
    let mut options = HostOptions::spawned(&settings).queue(&account, QUEUE);
    let Handler::Spawned { exe, .. } = &mut options.handler else { panic!("spawned") };
    *exe = start.to_path_buf();
    let host = Host::start(options).await;
    let caller = Caller::of(host.base_url());
    let image = Image::new("samples/packaged", "1.0");
    for region in ["northeurope", "westus"] {
        eventually("storage takes the arrival", LIMIT, async || {
            caller.post(region, image.notification()).await.is_some_and(|(code, _)| code == 202)
        })
        .await;
    }
    let mut told = Vec::new();
    eventually("the receiver is told", LIMIT, async || {
        told.extend(receiver.take());
        !told.is_empty()
    })
    .await;
    let body: Value = serde_json::from_slice(&told[0].1).expect("JSON");
    assert_eq!((told.len(), &body["target"]["digest"]), (1, &Value::from(image.digest)));
}
