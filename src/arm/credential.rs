//! Tokens for ARM: of the person who is signed in to the Azure CLI, or of the app's managed identity.
//!
//! A token is kept until shortly before its end, or until ARM refuses it. The CLI keeps and renews its own.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::Mutex;

use super::error::{Error, one_line};
use crate::clock::{self, Clock, Instant};
use crate::config::storage::Identity;
use crate::identity::{self, Trouble};
use crate::outgoing::Outgoing;

/// The CLI is a large Python program and may ask Entra; it takes seconds.
const CLI_TIMEOUT: Duration = Duration::from_secs(30);

/// Most that is read of what the CLI says, in bytes of each stream.
const CLI_BYTES_MAX: u64 = 64 * 1024;

/// A token with less than this left is asked for again: it has to last for the request.
const TOKEN_LEFT_MIN: Duration = Duration::from_secs(2 * 60);

/// Without a shell in between, Windows starts the script by its full name only.
const CLI: &str = if cfg!(windows) { "az.cmd" } else { "az" };

/// Where tokens come from.
#[derive(Debug)]
pub enum Credential {
    /// The Azure CLI, for the tenant of this subscription, else of the one that is its default.
    Cli {
        /// Id or name.
        subscription: Option<String>,
    },
    /// The app's managed identity.
    Managed(Identity),
}

/// A credential and its token, for one resource.
pub(super) struct Tokens {
    credential: Credential,
    resource: String,
    endpoint: Outgoing,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    secret: String,
    /// `None` where the issuer does not say.
    ends: Option<Instant>,
}

impl Tokens {
    pub(super) fn new(credential: Credential, resource: String) -> Self {
        Self { credential, resource, endpoint: Outgoing::new(identity::client), kept: Mutex::default() }
    }

    /// A token that is good for a while, and is not `refused`, if there is such a one.
    pub(super) async fn get(&self, refused: Option<&str>, clock: &dyn Clock) -> Result<String, Error> {
        // Held while a token is asked for, so that calls side by side ask once.
        let mut kept = self.kept.lock().await;
        let good = kept.as_ref().filter(|kept| {
            let lasts = kept.ends.is_none_or(|ends| clock::until(clock.now(), ends) > TOKEN_LEFT_MIN);
            lasts && Some(kept.secret.as_str()) != refused
        });
        if let Some(good) = good {
            return Ok(good.secret.clone());
        }
        let new = match &self.credential {
            Credential::Cli { subscription } => self.ask_cli(subscription.as_deref(), clock).await?,
            Credential::Managed(identity) => self.ask_identity(identity).await?,
        };
        Ok(kept.insert(new).secret.clone())
    }

    async fn ask_identity(&self, identity: &Identity) -> Result<Kept, Error> {
        let told = |why: String| {
            let to_do = "see that the app has an identity, and that --client-id names it if it is user-assigned";
            Error::Credential(format!("The managed identity gave no token: {why}; {to_do}."))
        };
        match identity::ask(&self.endpoint, identity, &self.resource).await {
            Ok(token) => Ok(Kept { secret: token.secret, ends: Some(token.ends) }),
            Err(Trouble::Status(status)) => Err(told(format!("its endpoint answered {status}"))),
            Err(Trouble::Connection(error)) if error.is_timeout() => {
                Err(told("its endpoint did not answer in time".into()))
            }
            Err(Trouble::Connection(_)) => Err(told("its endpoint cannot be reached".into())),
            Err(Trouble::Client(why)) => Err(told(why.into())),
            Err(Trouble::Odd | Trouble::TooLarge) => Err(told("its endpoint answered with something else".into())),
        }
    }

    async fn ask_cli(&self, subscription: Option<&str>, clock: &dyn Clock) -> Result<Kept, Error> {
        let mut command = tokio::process::Command::new(CLI);
        command.args(["account", "get-access-token", "--resource", &self.resource, "--output", "json"]);
        if let Some(subscription) = subscription {
            // One argument, so that no text can pass for another option.
            command.arg(format!("--subscription={subscription}"));
        }
        // The key of the webhooks is none of its business.
        command.env_remove(super::webhooks::KEY_VARIABLE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| {
            Error::Credential(if e.kind() == std::io::ErrorKind::NotFound {
                "The Azure CLI (`az`) is not installed, and there is no managed identity here: install the CLI and sign in \
                 with `az login`, or run this where an identity is (IDENTITY_ENDPOINT)."
                    .to_owned()
            } else {
                format!("The Azure CLI (`az`) cannot be started: {e}.")
            })
        })?;
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ended = clock::within(clock, CLI_TIMEOUT, async {
            let read = async {
                if let Some(out) = out {
                    let _ = out.take(CLI_BYTES_MAX).read_to_end(&mut said).await;
                }
            };
            let heard = async {
                if let Some(err) = err {
                    let _ = err.take(CLI_BYTES_MAX).read_to_end(&mut complained).await;
                }
            };
            futures_util::future::join(read, heard).await;
            child.wait().await
        });
        let Some(ended) = ended.await else {
            let seconds = CLI_TIMEOUT.as_secs();
            let words =
                format!("The Azure CLI (`az`) gave no token within {seconds} s: does `az account show` answer?");
            return Err(Error::Credential(words));
        };
        if !ended.is_ok_and(|status| status.success()) {
            let complaint = String::from_utf8_lossy(&complained);
            let complaint = one_line(complaint.trim());
            return Err(Error::Credential(format!("The Azure CLI (`az`) gave no token. It says: {complaint}")));
        }
        let (secret, ends) = identity::issued(&said).ok_or_else(|| {
            Error::Credential(
                "The Azure CLI (`az account get-access-token`) did not print a token that can be used: is `az` the Azure CLI?".into(),
            )
        })?;
        Ok(Kept { secret, ends })
    }
}
