//! What operators do: end a wait, send again, remove, look.

use std::sync::Arc;

use super::{Done, Engine};
use crate::limits;
use crate::push::{Input, PushId, Row};
use crate::store::{Failure, Health, Page, Which};

impl Engine {
    /// Ends the wait of a push as if its deadline were now.
    ///
    /// # Errors
    /// The row could not be read or written in time; the change may have been made all the same. Asking again is safe.
    pub async fn terminate(&self, id: &PushId) -> Result<Done, Failure> {
        self.operate(id, Input::Terminate).await
    }

    /// Owes notifications of a settled push again, or makes due now what is owed.
    ///
    /// # Errors
    /// The row could not be read or written in time; the change may have been made all the same, and asking again would then send
    /// once more.
    pub async fn redeliver(&self, id: &PushId, target: Option<String>) -> Result<Done, Failure> {
        self.operate(id, Input::Redeliver(target)).await
    }

    /// Removes a push that owes nothing.
    ///
    /// # Errors
    /// The row could not be read or written in time; it may be gone all the same.
    pub async fn purge(&self, id: &PushId) -> Result<Done, Failure> {
        self.operate(id, Input::Purge).await
    }

    async fn operate(&self, id: &PushId, input: Input) -> Result<Done, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, self.run(&Which::Push(id.clone()), input)).await
    }

    /// The row of a push, or of the newest round of a key.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn row(&self, which: &Which) -> Result<Option<Arc<Row>>, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, self.store.get(which)).await
    }

    /// A page of pushes, newest first, and where the next page begins; `None` at the end. At most `limit` (1 to 1000); there
    /// may be fewer, or none, before the end.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn list(&self, limit: usize, cursor: Option<&str>) -> Result<Page, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, self.store.list(limit, cursor)).await
    }

    /// Creates what is missing in the storage, and tells what can be reached.
    ///
    /// # Errors
    /// `Unavailable` after two seconds without an answer.
    pub async fn health(&self) -> Result<Health, Failure> {
        self.within(std::time::Duration::from_secs(2), async { Ok(self.store.prepare().await) }).await
    }
}
