//! The package that is published: what is in it, that it comes out the same twice, that the zip runs where the program's C
//! library is older than that of the machine that built it, and the whole way from there to a notification.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::stand_in_arm::{Arm, id};
use crate::support::azurite::azurite;
use crate::support::command::Running;
use crate::support::eventually;
use crate::support::host::{Handler, Host, HostOptions};
use crate::support::recorder::Recorder;
use crate::support::service::{Image, LIMIT, QUEUE};

/// The program's name, as host.json has it.
const PROGRAM: &str = "global-webhook";
/// Address and key of ImagePush, as the registry is told them.
const URL: &str = "https://app.example/api/ImagePush";
const KEY: &str = "k3y-of-the-function-app-0123456789";

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
async fn the_zip_goes_from_an_empty_folder_to_a_notification_on_an_older_system() {
    let zip = PathBuf::from(std::env::var_os("PACKAGE_ZIP").expect("PACKAGE_ZIP names the zip"));
    let root = std::env::var("OLD_ROOT").ok().filter(|root| !root.is_empty());
    let app = unpacked(&zip, root.as_deref());
    let program = std::fs::read(app.path().join(PROGRAM)).expect("the program");
    assert!(glibc(&program) <= Some((2, 28)), "{:?}", glibc(&program));
    rehearse(app.path(), root.as_deref()).await;
}

#[tokio::test]
async fn a_package_goes_from_an_empty_folder_to_a_notification() {
    let folder = tempfile::tempdir().expect("a folder");
    let zip = package(Path::new(env!("CARGO_BIN_EXE_global-webhook")), folder.path());
    rehearse(unpacked(&zip, None).path(), None).await;
}

/// An app folder of its own, inside `root`, unpacked by a program that is not ours.
fn unpacked(zip: &Path, root: Option<&str>) -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(root.unwrap_or("/tmp")).expect("a folder");
    let done = Command::new("python3").args(["-c", UNZIP]).arg(zip).arg(folder.path()).status().expect("Python 3");
    assert!(done.success());
    folder
}

/// What unpacks a zip with its modes, which Python's own call leaves out.
const UNZIP: &str = "
import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as zip:
    for entry in zip.infolist():
        os.chmod(zip.extract(entry, sys.argv[2]), entry.external_attr >> 16)
";

/// What starts the program in `app` as the host does, without arguments, and inside `root`.
fn start(app: &Path, root: Option<&str>) -> tempfile::TempPath {
    let inside = match root {
        Some(root) => format!("/{}", app.strip_prefix(root).expect("inside").display()),
        None => app.display().to_string(),
    };
    let enter = root.map_or_else(|| "exec".to_owned(), |root| format!("exec chroot '{root}'"));
    let script = format!(
        "#!/bin/sh\nFUNCTIONS_APP_ROOT_PATH={inside}\nexport FUNCTIONS_APP_ROOT_PATH\n{enter} /bin/sh -c 'cd {inside} && exec ./{PROGRAM}'\n"
    );
    let file = tempfile::NamedTempFile::new().expect("a file").into_temp_path();
    std::fs::write(&file, script).expect("a script");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    file
}

/// The way of docs/deploy.md, with a stand-in for each part of Azure: 1. the package runs under the host. 2. `webhooks apply`
/// gives the registry its webhooks. 3. The registry sends a push to where they point, with the headers that they have. 4. The
/// receiver is told. 5. `doctor` finds nothing wrong.
async fn rehearse(app: &Path, root: Option<&str>) {
    let start = start(app, root);
    let receiver = Recorder::default();
    let url = format!("http://127.0.0.1:{}/", receiver.listen().await);
    let account = tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite");
    let settings = [
        ("WebhookRegions", "westeurope,northeurope"),
        ("WebhookTargetUrl", &url),
        ("WebhookTargetFormat", "acr"),
        ("AzureWebJobsStorage", &account),
    ];
    let mut options = HostOptions::spawned(&settings).queue(&account, QUEUE).key(KEY);
    let Handler::Spawned { exe, .. } = &mut options.handler else { panic!("spawned") };
    *exe = start.to_path_buf();
    let host = Host::start(options).await;

    let arm = Arm::start().await;
    let command = |line: &[&str]| {
        let mut command = Command::new(app.join(PROGRAM));
        command.args(line).args(["--registry", &id("contoso")]);
        command.args(["--arm-endpoint", &format!("http://127.0.0.1:{}", arm.port)]);
        // Not in a folder with somebody's settings.
        command.current_dir(app).env_clear().env("PATH", arm.folder()).env("WebhookKey", KEY).stdin(Stdio::null());
        Running::start(command).ended()
    };
    let ended = command(&["webhooks", "plan", "--check", "--url", URL]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    let ended = command(&["webhooks", "apply", "--yes", "--url", URL]).await;
    assert!(ended.code == 0 && ended.out.contains("2 to create."), "{ended:?}");
    let ended = command(&["webhooks", "plan", "--check", "--url", URL]).await;
    assert_eq!(ended.code, 0, "{ended:?}");

    // The public address is the host's, and its TLS ends before it.
    let image = Image::new("samples/packaged", "1.0");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for webhook in arm.deliveries() {
        let to = webhook.url.replacen("https://app.example", &host.base_url(), 1);
        eventually("storage takes the arrival", LIMIT, async || {
            let request = client.post(&to).headers(webhook.headers.clone()).body(image.notification());
            request.send().await.is_ok_and(|answer| answer.status() == 202)
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

    let ended = command(&["doctor", "--webhook-url", URL, "--url", &host.base_url(), "--key", KEY]).await;
    assert!(ended.code == 0 && ended.out.contains("0 faults, 0 warnings"), "{ended:?}");
}
