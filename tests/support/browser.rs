//! A real browser, driven by its own protocol over two pipes.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::eventually;

/// Names under which a browser of this kind is installed.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Time for anything that happens at once on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// The one browser of all tests. It ends with them, since its pipe does.
pub struct Browser {
    send: Mutex<ChildStdin>,
    number: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    said: Mutex<HashMap<String, Vec<String>>>,
}

/// A tab, in a profile of its own.
pub struct Tab {
    browser: Arc<Browser>,
    session: String,
}

fn program() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let all = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.into_iter().find(|path| path.is_file())
}

impl Browser {
    /// The browser; `None` where tests of the page are to be left out, which `PAGE_TESTS=skip` says.
    ///
    /// # Panics
    /// There is none, and nobody has said that the tests are to be left out.
    pub fn get() -> Option<Arc<Self>> {
        static ONE: OnceLock<Arc<Browser>> = OnceLock::new();
        if std::env::var("PAGE_TESTS").is_ok_and(|word| word == "skip") {
            eprintln!("PAGE_TESTS=skip: the tests of the page are LEFT OUT");
            return None;
        }
        Some(Arc::clone(ONE.get_or_init(Self::start)))
    }

    fn start() -> Arc<Self> {
        let program = program().unwrap_or_else(|| {
            panic!("no browser: install one of {NAMES:?} (`apt-get install chromium`), or leave these tests out with PAGE_TESTS=skip")
        });
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{}", std::process::id()));
        // Its protocol is on descriptors 3 and 4; the folder goes when it has ended.
        let script = "\"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1; rm -rf \"$0\"";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(&folder)
            .arg(&program)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-extensions",
            ])
            .args(["--hide-scrollbars", "--force-color-profile=srgb", "--proxy-server=direct://", "--disable-sync"])
            .arg(format!("--user-data-dir={}", folder.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a browser");
        let (send, read) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let browser = Arc::new(Self {
            send: Mutex::new(send),
            number: AtomicU64::new(0),
            waiting: Mutex::default(),
            said: Mutex::default(),
        });
        let listening = Arc::clone(&browser);
        std::thread::spawn(move || {
            for message in BufReader::new(read).split(0) {
                let Ok(message) = message else { break };
                listening.hear(serde_json::from_slice(&message).expect("JSON"));
            }
            let _ = child.wait();
            // Whoever still waits is told.
            listening.waiting.lock().unwrap().clear();
        });
        browser
    }

    fn hear(&self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            if let Some(waiting) = self.waiting.lock().unwrap().remove(&id) {
                let _ = waiting.send(message);
            }
            return;
        }
        let parameters = &message["params"];
        let said = match message["method"].as_str().unwrap_or_default() {
            "Runtime.exceptionThrown" => parameters["exceptionDetails"]["exception"]["description"].to_string(),
            "Runtime.consoleAPICalled" => parameters["args"].to_string(),
            "Log.entryAdded" => format!("{}: {}", parameters["entry"]["text"], parameters["entry"]["url"]),
            "Page.javascriptDialogOpening" => format!("dialog {}", parameters["message"]),
            _ => return,
        };
        let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
        self.said.lock().unwrap().entry(session).or_default().push(said);
    }

    async fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let answer = self.ask(session, method, parameters).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn ask(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let id = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, answer);
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.send.lock().unwrap().write_all(&bytes).expect("a running browser");
        let answer =
            tokio::time::timeout(3 * LIMIT, answered).await.unwrap_or_else(|_| panic!("no answer to {method}"));
        answer.unwrap_or_else(|_| panic!("the browser ended at {method}"))
    }

    /// A tab of this size, light unless told otherwise.
    pub async fn tab(self: &Arc<Self>, width: u32, height: u32) -> Tab {
        let context = self.call(None, "Target.createBrowserContext", json!({})).await["browserContextId"].clone();
        let target = json!({ "url": "about:blank", "browserContextId": context });
        let target = self.call(None, "Target.createTarget", target).await["targetId"].clone();
        let attach = json!({ "targetId": target, "flatten": true });
        let session = self.call(None, "Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        let tab = Tab { browser: Arc::clone(self), session };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), json!({})).await;
        }
        tab.size(width, height).await;
        tab.theme("light").await;
        tab
    }
}

impl Tab {
    async fn call(&self, method: &str, parameters: Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters).await
    }

    /// Another size; below 500 it is a phone.
    pub async fn size(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// `light` or `dark`, as the reader's system says.
    pub async fn theme(&self, theme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Opens an address.
    pub async fn open(&self, address: &str) {
        self.call("Page.navigate", json!({ "url": address })).await;
    }

    /// What an expression of the page's language comes to.
    pub async fn value(&self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of what a selector finds first.
    pub async fn text(&self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub async fn until(&self, expression: &str) {
        // What is asked between two pages, or too early, is not so yet.
        let tried = json!({ "expression": format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"), "returnByValue": true });
        let begun = std::time::Instant::now();
        loop {
            let answer = self.browser.ask(Some(&self.session), "Runtime.evaluate", tried.clone()).await;
            if answer["result"]["result"]["value"] == json!(true) {
                return;
            }
            if begun.elapsed() > LIMIT {
                let last = self.text("body").await;
                panic!("never so: {expression}\n{:?}\n{last}", self.said());
            }
            super::pause(Duration::from_millis(30)).await;
        }
    }

    /// Waits until what a selector finds first holds a text.
    pub async fn shows(&self, selector: &str, text: &str) {
        self.until(&format!(
            "(e => e.innerText ?? e.textContent)(document.querySelector({})).includes({})",
            json!(selector),
            json!(text)
        ))
        .await;
    }

    /// Clicks where what a selector finds first is.
    pub async fn click(&self, selector: &str) {
        let place = format!(
            "(e => {{ e.scrollIntoView({{ block: 'center' }}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({}))",
            json!(selector)
        );
        let place = self.value(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Clicks on what a selector finds first, once it is there.
    pub async fn click_when(&self, selector: &str) {
        self.until(&format!("document.querySelector({})", json!(selector))).await;
        self.click(selector).await;
    }

    /// Types a text where the focus is.
    pub async fn insert(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key and lets it go.
    pub async fn press(&self, key: &str) {
        let text = match key {
            "Enter" => Some("\r"),
            one if one.len() == 1 => Some(one),
            _ => None,
        };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            _ => 0,
        };
        let mut event = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": code });
        if let Some(text) = text {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event).await;
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code }))
            .await;
    }

    /// Keeps a picture of what is to be seen as a product of the tests, for people to look at.
    pub async fn picture(&self, name: &str) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().expect("a picture"));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{name}.png")), bytes.expect("a picture")).expect("a file");
    }

    /// What the page's script and the browser complained of, since the last time.
    pub fn said(&self) -> Vec<String> {
        self.browser.said.lock().unwrap().remove(&self.session).unwrap_or_default()
    }

    /// Waits until the browser has nothing more to complain of; it tells of a failed request a little later.
    pub async fn complains_of(&self, text: &str) {
        let mut all = Vec::new();
        eventually(&format!("the browser says {text}"), LIMIT, async || {
            all.extend(self.said());
            all.iter().any(|said: &String| said.contains(text))
        })
        .await;
    }
}
