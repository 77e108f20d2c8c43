//! Tokens of the app's managed identity, from the endpoint that App Service and Functions offer to the app.
//!
//! The crates ask for a token before every request, so the last one is kept here and renewed early, beside the requests: as
//! long as the old token serves, nobody waits for an endpoint that fails or hangs. Where there is none to serve, all who need
//! it wait for one and the same renewal, which goes on when they give up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::StatusCode;
use azure_core::auth::{AccessToken, Secret, TokenCredential};
use azure_core::error::{Error, ErrorKind};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::task::AbortHandle;

use super::connection::{connection_trouble, io};
use crate::clock::{self, Clock, Instant};
use crate::config::storage::Identity;
use crate::identity::{self, Token, Trouble};
use crate::outgoing::Outgoing;

/// A token is renewed this long before its end.
const RENEW_EARLY: Duration = Duration::from_secs(5 * 60);

/// A token with less than this left is not used any more: clocks differ.
const TOKEN_LEFT_MIN: Duration = Duration::from_secs(30);

/// After a failed renewal the endpoint is left alone for this long, as long as the old token serves.
const RENEW_PAUSE: Duration = Duration::from_secs(30);

/// The one resource that both services accept tokens for.
const RESOURCE: &str = "https://storage.azure.com";

/// See the module.
pub(super) struct ManagedIdentity(Arc<Inner>);

struct Inner {
    identity: Identity,
    client: Outgoing,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// The last renewal: its task, and its end for all who wait.
    renewal: Option<(AbortHandle, Renewed)>,
}

/// The token, or the error that all who waited for it share.
type Renewed = Shared<BoxFuture<'static, Result<AccessToken, Arc<Error>>>>;

struct Kept {
    token: AccessToken,
    ends: Instant,
    renew_at: Instant,
}

impl std::fmt::Debug for ManagedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ManagedIdentity").field(&self.0.identity).finish()
    }
}

impl ManagedIdentity {
    pub(super) fn new(identity: Identity, clock: Arc<dyn Clock>) -> Self {
        let (client, state) = (Outgoing::new(identity::client), Mutex::default());
        Self(Arc::new(Inner { identity, client, clock, state }))
    }

    /// The end of the renewal under way, or of a new one.
    fn renewal(&self, state: &mut State) -> Renewed {
        if let Some((_, running)) = state.renewal.as_ref().filter(|(task, _)| !task.is_finished()) {
            return running.clone();
        }
        let inner = Arc::clone(&self.0);
        // A task, since those who wait for it may go away.
        let task = tokio::spawn(async move { inner.renew().await });
        let handle = task.abort_handle();
        let ended = async { task.await.map_err(|_| Arc::new(io("the request for a token broke off")))? };
        let ended = ended.boxed().shared();
        state.renewal = Some((handle, ended.clone()));
        ended
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(&self) -> Result<AccessToken, Arc<Error>> {
        let asked = self.ask().await;
        let mut state = self.state();
        match asked {
            Ok(new) => Ok(state.kept.insert(new).token.clone()),
            Err(cause) => {
                if let Some(old) = &mut state.kept {
                    old.renew_at = clock::after(self.clock.now(), RENEW_PAUSE);
                }
                Err(Arc::new(cause))
            }
        }
    }

    async fn ask(&self) -> azure_core::Result<Kept> {
        let Token { secret, ends } = identity::ask(&self.client, &self.identity, RESOURCE).await.map_err(trouble)?;
        let expires_on = azure_core::date::parse_rfc3339(&ends.to_rfc3339()).map_err(|_| odd())?;
        let token = AccessToken::new(Secret::new(secret), expires_on);
        let renew_at = (ends - RENEW_EARLY).max(clock::after(self.clock.now(), RENEW_PAUSE));
        Ok(Kept { token, ends, renew_at })
    }
}

fn odd() -> Error {
    Error::message(ErrorKind::DataConversion, "not a token")
}

/// What went wrong, as the crates tell what may be tried again from what may not.
fn trouble(trouble: Trouble) -> Error {
    match trouble {
        Trouble::Client(why) => io(why),
        Trouble::Connection(error) => connection_trouble(error),
        Trouble::TooLarge => io("the answer is too large"),
        Trouble::Status(status) => match StatusCode::try_from(status) {
            Ok(status) => ErrorKind::http_response(status, None).into_error(),
            Err(_) => io("a status that does not exist"),
        },
        Trouble::Odd => odd(),
    }
}

#[async_trait]
impl TokenCredential for ManagedIdentity {
    async fn get_token(&self, _scopes: &[&str]) -> azure_core::Result<AccessToken> {
        let now = self.0.clock.now();
        let renewal = {
            let mut state = self.0.state();
            let serves = state.kept.as_ref().filter(|k| clock::until(now, k.ends) > TOKEN_LEFT_MIN);
            match serves.map(|k| (k.token.clone(), now >= k.renew_at)) {
                Some((token, false)) => return Ok(token),
                Some((token, true)) => {
                    drop(self.renewal(&mut state));
                    return Ok(token);
                }
                None => self.renewal(&mut state),
            }
        };
        renewal.await.map_err(|cause| Error::new(cause.kind().clone(), cause))
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        self.0.state().kept = None;
        Ok(())
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
