//! The service as users run it, in each of its three deployments, behind one face.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::azurite::azurite;
use super::caller::{Caller, is_at_rest};
use super::host::{Host, HostOptions, Serves};
use super::{eventually, free_port};

/// Time for anything that happens at once on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The queue of TimeoutCheck's function.json.
pub const QUEUE: &str = "global-webhook-timers";

/// host.json's `maxDequeueCount`: a message that fails comes again for ever.
pub const MAX_DEQUEUE_COUNT: u32 = 2_147_483_647;

/// Where HTTP calls, timers and rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// Two Functions hosts, one for HTTP and one for the queue, on Azurite.
    Handler,
    /// `serve` on Azurite.
    ServeAzure,
    /// `serve` on its embedded store.
    ServeEmbedded,
}

/// A running service.
pub struct Service {
    parts: Parts,
    caller: Caller,
}

enum Parts {
    Hosts { http: Box<Host>, queue: Box<Host> },
    Serve(Serve),
}

impl Service {
    /// Starts a deployment with these settings on storage of its own.
    pub async fn start(deployment: Deployment, settings: &[(&str, &str)]) -> Self {
        let account = match deployment {
            Deployment::ServeEmbedded => None,
            Deployment::Handler | Deployment::ServeAzure => {
                Some(tokio::task::spawn_blocking(|| azurite().account()).await.expect("Azurite"))
            }
        };
        Self::start_on(deployment, settings, account.as_deref()).await
    }

    /// Starts a deployment on this storage account. Settings that name it by themselves are how the service gets in; the hosts
    /// always have the account's key.
    pub async fn start_on(deployment: Deployment, settings: &[(&str, &str)], account: Option<&str>) -> Self {
        let mut settings = settings.to_vec();
        if !settings.iter().any(|(name, _)| name.starts_with("AzureWebJobsStorage")) {
            settings.extend(account.map(|account| ("AzureWebJobsStorage", account)));
        }
        let parts = match deployment {
            Deployment::Handler => {
                let account = account.expect("an account");
                let host = |serves| {
                    let mut options = HostOptions::spawned(&settings).queue(account, QUEUE).only(serves);
                    options.rules.max_polling_interval = Duration::from_millis(500);
                    options.rules.visibility_timeout = Duration::from_secs(2);
                    // As host.json has it: an outage must not poison what waits for its end.
                    options.rules.max_dequeue_count = MAX_DEQUEUE_COUNT;
                    options.rules.lease = Duration::from_secs(10);
                    options
                };
                Parts::Hosts {
                    http: Box::new(Host::start(host(Serves::Http)).await),
                    queue: Box::new(Host::start(host(Serves::Queue)).await),
                }
            }
            Deployment::ServeAzure | Deployment::ServeEmbedded => Parts::Serve(Serve::start(&settings, &[]).await),
        };
        let caller = match &parts {
            Parts::Hosts { http, .. } => Caller::of(http.base_url()),
            Parts::Serve(serve) => serve.caller(),
        };
        Self { parts, caller }
    }

    /// Where callers reach it.
    pub fn base_url(&self) -> String {
        match &self.parts {
            Parts::Hosts { http, .. } => http.base_url(),
            Parts::Serve(serve) => serve.base_url(),
        }
    }

    /// SIGKILL to every process of it, and a new start on the same ports and storage.
    pub async fn kill_and_restart(&mut self) {
        match &mut self.parts {
            Parts::Hosts { http, queue } => {
                tokio::join!(http.restart_handler(), queue.restart_handler());
            }
            Parts::Serve(serve) => serve.kill_and_restart().await,
        }
    }

    /// Changes a setting for the next start of its processes.
    pub fn set(&mut self, name: &str, value: &str) {
        match &mut self.parts {
            Parts::Hosts { http, queue } => {
                http.set(name, value);
                queue.set(name, value);
            }
            Parts::Serve(serve) => serve.set(name, value),
        }
    }

    /// SIGKILL to every process of it, something done meanwhile, and a new start on the same ports and storage.
    pub async fn kill_do_and_restart(&mut self, meanwhile: impl AsyncFnOnce(Option<&Path>)) {
        match &mut self.parts {
            Parts::Hosts { http, queue } => {
                tokio::join!(http.kill_handler(), queue.kill_handler());
                meanwhile(None).await;
            }
            Parts::Serve(serve) => {
                serve.kill();
                meanwhile(Some(&serve.folder.path().join("store.db"))).await;
            }
        }
        self.kill_and_restart().await;
    }

    /// Number of its processes.
    pub fn processes(&self) -> usize {
        match &self.parts {
            Parts::Hosts { .. } => 2,
            Parts::Serve(_) => 1,
        }
    }

    /// SIGKILL to one of its processes, and a new start of it. The first one takes the HTTP calls.
    pub async fn kill_and_restart_one(&mut self, index: usize) {
        match &mut self.parts {
            Parts::Hosts { http, queue } => if index == 0 { http } else { queue }.restart_handler().await,
            Parts::Serve(serve) => serve.kill_and_restart().await,
        }
    }

    /// A caller that outlives its processes.
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Everything its processes have written.
    pub fn output(&self) -> String {
        match &self.parts {
            Parts::Hosts { http, queue } => http.handler_output() + &queue.handler_output(),
            Parts::Serve(serve) => serve.output(),
        }
    }

    /// What its processes wrote about a push, and how its queue host's calls about it ended.
    pub fn said_of(&self, id: &str) -> String {
        let output = self.output();
        let mut said: Vec<String> = output.lines().filter(|line| line.contains(id)).map(str::to_owned).collect();
        if let Parts::Hosts { queue, .. } = &self.parts {
            let calls = queue.invocations().into_iter().filter(|call| call.text.contains(id));
            said.extend(calls.map(|call| format!("{call:?}")));
        }
        said.join("\n")
    }

    /// Posts a webhook of `image` from `region` until there is another answer than 503; status and body of it. An emulator
    /// that shares two cores with other tests may be slower than the four seconds an arrival has, which is not what the
    /// caller's test is about.
    pub async fn push_until_taken(&self, region: &str, image: &Image) -> (u16, Value) {
        let mut last = None;
        eventually("storage takes the arrival", LIMIT, async || {
            last = self.caller.post(region, image.notification()).await.filter(|(code, _)| *code != 503);
            last.is_some()
        })
        .await;
        last.expect("an answer")
    }

    /// Waits until a push has settled and owes nothing.
    pub async fn at_rest(&self, id: &str) -> Value {
        let mut last = None;
        eventually(&format!("push {id} comes to rest"), LIMIT, async || {
            last = self.caller.status(id).await.filter(is_at_rest);
            last.is_some()
        })
        .await;
        last.expect("a status")
    }
}

/// The JSON body of an answer.
pub async fn json_of(answer: reqwest::Response) -> Value {
    let bytes = answer.bytes().await.expect("a body");
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&bytes)))
}

/// An image and the id its notifications carry.
#[derive(Debug, Clone)]
pub struct Image {
    /// Repository.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// Digest.
    pub digest: String,
    /// `id` of its notifications.
    pub id: String,
}

impl Image {
    /// A fresh digest and id.
    pub fn new(repository: &str, tag: &str) -> Self {
        let hex = || uuid::Uuid::new_v4().simple().to_string();
        Self {
            repository: repository.into(),
            tag: tag.into(),
            digest: format!("sha256:{}{}", hex(), hex()),
            id: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// The same content under another id: pushed again.
    pub fn again(&self) -> Self {
        Self { id: uuid::Uuid::new_v4().to_string(), ..self.clone() }
    }

    /// What the registry posts.
    pub fn notification(&self) -> String {
        json!({
            "id": self.id, "timestamp": "2026-11-22T08:15:30.1234567Z", "action": "push",
            "target": {
                "mediaType": "application/vnd.oci.image.index.v1+json", "size": 1612, "length": 1612,
                "digest": self.digest, "repository": self.repository, "tag": self.tag,
            },
            "request": { "id": self.id, "host": "contoso.azurecr.io", "method": "PUT", "useragent": "docker/27.3.1" },
        })
        .to_string()
    }
}

/// A `serve` process. Dropping it kills it.
pub struct Serve {
    port: u16,
    folder: tempfile::TempDir,
    settings: Vec<(String, String)>,
    arguments: Vec<String>,
    child: Child,
    caller: Caller,
}

impl Serve {
    /// Starts `serve` on a free port with an embedded store of its own, and waits until it listens.
    pub async fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let settings: Vec<_> = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let child = spawn(folder.path(), port, &settings, &arguments);
        let caller = Caller::of(format!("http://127.0.0.1:{port}"));
        let mut serve = Self { port, folder, settings, arguments, child, caller };
        serve.listening().await;
        serve
    }

    async fn listening(&mut self) {
        eventually("serve listens", LIMIT, async || {
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "serve ended: {ended:?}\n{}", self.output());
            self.caller.is_answered().await
        })
        .await;
    }

    /// Where callers reach it.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A caller that outlives the process.
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder; the store is `store.db` in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(n, _)| n != name);
        self.settings.push((name.into(), value.into()));
    }

    /// SIGKILL, and a new start on the same port and file.
    pub async fn kill_and_restart(&mut self) {
        self.kill();
        self.child = spawn(self.folder.path(), self.port, &self.settings, &self.arguments);
        self.listening().await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// A signal of this name.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// How it ended, waited for.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        eventually("serve ends", limit, async || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("an end")
    }

    /// Everything it has written, over all starts.
    pub fn output(&self) -> String {
        std::fs::read_to_string(log(self.folder.path())).unwrap_or_default()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- output of serve ---\n{}", self.output());
        }
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn spawn(folder: &Path, port: u16, settings: &[(String, String)], arguments: &[String]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log(folder)).expect("a log");
    // With fewer descriptors than the tests need: it has to ask for more itself, as in a shell that allows 1024.
    Command::new("sh")
        .args(["-c", "ulimit -Sn 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_global-webhook")])
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
        .arg(folder.join("store.db"))
        .args(arguments)
        .env_clear()
        .envs(settings.iter().map(|(n, v)| (n, v)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("serve starts")
}
