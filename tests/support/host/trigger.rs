//! The host's queue trigger: receives, calls, judges, and does with the message what the verdict demands.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::envelope::{self, Judgement, Message};
use super::pool::Pool;
use super::queue::{Queue, Refusal};
use crate::support::{now, pause};

/// Settings of the queue trigger. The defaults are the host's own, but for what would make a test wait.
#[derive(Debug, Clone)]
pub struct QueueRules {
    /// Name of the function, which is the path of a call.
    pub function: String,
    /// Name of the trigger's binding.
    pub binding: String,
    /// How long a failed message stays out of sight.
    pub visibility_timeout: Duration,
    /// Tries before the poison queue.
    pub max_dequeue_count: u32,
    /// Longest pause between two looks at an empty queue.
    pub max_polling_interval: Duration,
    /// Messages taken at once.
    pub batch_size: usize,
    /// More are taken while at most this many are in work.
    pub new_batch_threshold: usize,
    /// Lease of a message; renewed at half of it while a call runs. The host's is 10 min.
    pub lease: Duration,
    /// A call without an answer for this long is taken for one that hangs.
    pub function_timeout: Duration,
    /// Envelope in chunks, as in Azure, or with a length, as under `func start`.
    pub chunked: bool,
    /// Every n-th message is put before the handler twice at the same time.
    pub duplicate_every: Option<usize>,
    /// Time between the receipt of a message and its call.
    pub late: Duration,
}

impl Default for QueueRules {
    fn default() -> Self {
        Self {
            function: "TimeoutCheck".into(),
            binding: "timer".into(),
            visibility_timeout: Duration::ZERO,
            max_dequeue_count: 5,
            max_polling_interval: Duration::from_millis(200),
            batch_size: 16,
            new_batch_threshold: 8,
            lease: Duration::from_secs(600),
            function_timeout: Duration::from_secs(60),
            chunked: true,
            duplicate_every: None,
            late: Duration::ZERO,
        }
    }
}

/// One queue call, or one message that was set aside without a call.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Id of the invocation; empty when there was no call.
    pub id: String,
    /// Id of the message.
    pub message: String,
    /// Its text; as stored when it could not be decoded.
    pub text: String,
    /// How often it had been received.
    pub dequeue_count: u32,
    /// Status and body of the answer; `None` when there was none.
    pub answer: Option<(u16, String)>,
    /// The host's verdict.
    pub judgement: Judgement,
}

/// What the trigger has seen.
#[derive(Debug, Default)]
pub struct Log {
    /// Finished invocations, in order of their end.
    pub invocations: Mutex<Vec<Invocation>>,
    /// Unexpected answers of the queue service.
    pub troubles: Mutex<Vec<String>>,
}

impl Log {
    fn add(&self, invocation: Invocation) {
        self.invocations.lock().unwrap_or_else(PoisonError::into_inner).push(invocation);
    }

    fn trouble(&self, what: &str, refusal: &Refusal) {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what}: {refusal:?}"));
    }
}

/// The trigger of one queue.
#[derive(Debug)]
pub struct Trigger {
    /// The queue.
    pub queue: Queue,
    /// Its rules.
    pub rules: QueueRules,
    /// The way to the handler.
    pub pool: Arc<Pool>,
    /// Where its doings are written down.
    pub log: Arc<Log>,
    /// Whether the handler is up; calls wait while the host restarts it.
    pub up: watch::Receiver<bool>,
}

impl Trigger {
    /// Polls until `stopping` says so, then waits for what runs. Dropping it cuts everything off.
    pub async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(self.rules.batch_size + self.rules.new_batch_threshold));
        let batch = u32::try_from(self.rules.batch_size).expect("a small batch");
        let mut running = JoinSet::new();
        let mut empty_looks = 0;
        let mut seen = 0;
        loop {
            drop(room.acquire_many(batch).await);
            if *stopping.borrow() {
                break;
            }
            while running.try_join_next().is_some() {}
            let received = match self.queue.receive(self.rules.batch_size, self.rules.lease).await {
                Ok(received) => received,
                // The host backs off until the queue exists.
                Err(Refusal::Status(404, _)) => Vec::new(),
                Err(refusal) => {
                    self.log.trouble("receive", &refusal);
                    Vec::new()
                }
            };
            if received.is_empty() {
                let wait = Duration::from_millis(100) * if empty_looks == 0 { 1 } else { 1 + (1 << empty_looks) };
                empty_looks = (empty_looks + 1).min(10);
                tokio::select! {
                    () = pause(wait.min(self.rules.max_polling_interval)) => {}
                    _ = stopping.changed() => {}
                }
                continue;
            }
            empty_looks = 0;
            for message in received {
                seen += 1;
                let twice = self.rules.duplicate_every.is_some_and(|n| seen % n == 0);
                let (trigger, room) = (Arc::clone(&self), Arc::clone(&room));
                running.spawn(async move {
                    let _permit = room.acquire().await;
                    trigger.process(message, twice).await;
                });
            }
            // The new tasks take their permits before the next look at how many are left.
            tokio::task::yield_now().await;
        }
        while running.join_next().await.is_some() {}
    }

    /// Calls the handler for a message that stands in no queue, as the portal's "run" does.
    pub async fn run_by_hand(&self, text: &str) -> Judgement {
        let message = Message {
            handle: None,
            dequeue_count: 0,
            inserted: now(),
            expires: never(),
            next_visible: never(),
            raw: text.to_owned(),
        };
        self.call(&message, text).await
    }

    async fn process(&self, message: Message, twice: bool) {
        let Some((id, receipt)) = message.handle.clone() else { return };
        let set_aside = |why: &str| Invocation {
            id: String::new(),
            message: id.clone(),
            text: message.raw.clone(),
            dequeue_count: message.dequeue_count,
            answer: None,
            judgement: Judgement::NotCalled(why.into()),
        };
        let Some(bytes) = message.decoded() else {
            self.log.add(set_aside("not base64"));
            return self.bury(&message.raw, &id, &receipt).await;
        };
        if message.dequeue_count > self.rules.max_dequeue_count {
            self.log.add(set_aside("received too often"));
            return self.bury(&message.raw, &id, &receipt).await;
        }
        let mut receipt = receipt;
        let judgement = match String::from_utf8(bytes) {
            Err(_) => {
                self.log.add(set_aside("not UTF-8"));
                Judgement::Failure("not UTF-8".into())
            }
            Ok(text) if twice => {
                // The second delivery is what another instance makes of it after the first's lease has run out.
                let again = Message { dequeue_count: message.dequeue_count + 1, ..message.clone() };
                let calls = async { tokio::join!(self.call(&message, &text), self.call(&again, &text)).0 };
                self.leased(&id, &mut receipt, calls).await
            }
            Ok(text) => self.leased(&id, &mut receipt, self.call(&message, &text)).await,
        };
        match judgement {
            Judgement::Success => self.forgive("delete", self.queue.delete(&id, &receipt).await),
            // It stays out of sight until its lease ends.
            Judgement::Hang(_) => {}
            Judgement::Failure(_) | Judgement::NotCalled(_) => {
                if message.dequeue_count < self.rules.max_dequeue_count {
                    let shown = self.queue.show_in(&id, &receipt, self.rules.visibility_timeout).await;
                    self.forgive("release", shown.map(drop));
                } else {
                    self.bury(&message.raw, &id, &receipt).await;
                }
            }
        }
    }

    /// Runs a call under a lease that is renewed, with a new receipt each time.
    async fn leased(&self, id: &str, receipt: &mut String, call: impl Future<Output = Judgement>) -> Judgement {
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                judgement = &mut call => return judgement,
                () = pause(self.rules.lease / 2) => {
                    match self.queue.show_in(id, receipt, self.rules.lease).await {
                        Ok(new) => *receipt = new,
                        Err(refusal) => self.forgive("renew", Err(refusal)),
                    }
                }
            }
        }
    }

    async fn call(&self, message: &Message, text: &str) -> Judgement {
        pause(self.rules.late).await;
        // An error means that the host is gone, and with it this call.
        let _ = self.up.clone().wait_for(|up| *up).await;
        let call = envelope::Call {
            function: self.rules.function.clone(),
            binding: self.rules.binding.clone(),
            port: self.pool.port(),
            invocation: Uuid::new_v4().to_string(),
            utc_now: envelope::utc_text(now()),
            guid: Uuid::new_v4().to_string(),
            chunked: self.rules.chunked,
        };
        let request = envelope::request(&call, message, text);
        let (answer, judgement) =
            match tokio::time::timeout(self.rules.function_timeout, self.pool.call(&request, true)).await {
                Ok(Ok(answer)) => (Some((answer.status, answer.text())), envelope::judge(&answer)),
                Ok(Err(error)) => (None, Judgement::Failure(format!("connection: {error}"))),
                Err(_) => (None, Judgement::Hang(format!("no answer within {:?}", self.rules.function_timeout))),
            };
        self.log.add(Invocation {
            id: call.invocation,
            message: message.handle.as_ref().map(|(id, _)| id.clone()).unwrap_or_default(),
            text: text.to_owned(),
            dequeue_count: message.dequeue_count,
            answer,
            judgement: judgement.clone(),
        });
        judgement
    }

    /// Copies a message to the poison queue, which is created when it is missing, and deletes it.
    async fn bury(&self, raw: &str, id: &str, receipt: &str) {
        let poison = self.queue.poison();
        let mut put = poison.put_raw(raw).await;
        if matches!(put, Err(Refusal::Status(404, _))) {
            put = match poison.create().await {
                Ok(()) => poison.put_raw(raw).await,
                Err(refusal) => Err(refusal),
            };
        }
        match put {
            Ok(()) => self.forgive("delete", self.queue.delete(id, receipt).await),
            Err(refusal) => self.log.trouble("poison", &refusal),
        }
    }

    /// A message that is gone, or that has another receipt by now, is somebody else's: no error to the host.
    fn forgive(&self, what: &str, result: Result<(), Refusal>) {
        match result {
            Ok(()) | Err(Refusal::Status(404, _)) => {}
            Err(Refusal::Status(400, text)) if text.contains("PopReceiptMismatch") => {}
            Err(refusal) => self.log.trouble(what, &refusal),
        }
    }
}

fn never() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::parse_from_rfc3339("9999-12-31T23:59:59Z").expect("a date").to_utc()
}
