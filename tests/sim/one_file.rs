//! The other kind of store: a step, its row and its timer in one transaction, under calls that take time, fail, and lose their
//! answers. What is in the file outlives its process.

use std::sync::Arc;

use async_trait::async_trait;
use global_webhook::clock::Instant;
use global_webhook::push::{Arrival, Row};
use global_webhook::store::memory::MemoryStore;
use global_webhook::store::{Applied, Decide, Failure, Health, Page, Removed, Search, Store, Which};

use crate::hands::{Call, Hands};

/// The store of a process, see the module.
pub(crate) struct OneFile(pub(crate) Hands);

impl OneFile {
    /// One transaction.
    async fn write<R: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&MemoryStore) -> R + Send + 'static,
    ) -> Result<R, Failure> {
        let (process, writer) = (self.0.process, self.0.world.lock().polled);
        self.0
            .call_unlocked(Call::WriteTable(name), move |world| {
                // The step asks for the time, and so for the world.
                let file = Arc::clone(&world.lock().file);
                let before = file.rows();
                let result = work(&file);
                let mut state = world.lock();
                for (id, row) in file.rows() {
                    if before.get(&id) != Some(&row) {
                        state.committed(&row, process, writer, None);
                    }
                }
                for id in before.into_keys().filter(|id| !file.rows().contains_key(id)) {
                    state.removed(&id);
                }
                state.schedule_file();
                result
            })
            .await
    }
}

#[async_trait]
impl Store for OneFile {
    async fn apply(&self, which: &Which, step: Arc<dyn Decide>) -> Result<Applied, Failure> {
        let which = which.clone();
        self.write("apply", move |file| file.step(&which, &*step)).await
    }

    async fn spill(&self, _: &Arrival) -> Result<(), Failure> {
        Err(Failure::Unavailable("no other place".into()))
    }

    async fn get(&self, _: &Which) -> Result<Option<Arc<Row>>, Failure> {
        Ok(None)
    }

    async fn newest_at(&self, _: &str, _: Option<Instant>) -> Result<Option<Arc<Row>>, Failure> {
        unreachable!("nobody looks for images in the simulation")
    }

    async fn list(&self, _: &Search) -> Result<Page, Failure> {
        unreachable!("nobody lists in the simulation")
    }

    fn is_cursor(&self, _: &str) -> bool {
        false
    }

    async fn remove_settled(
        &self,
        span: (Instant, Instant),
        _: usize,
        step: Arc<dyn Decide>,
    ) -> Result<Removed, Failure> {
        // Few at a time, so that a removal has several.
        self.write("remove", move |file| file.remove_oldest(span, 2, &*step)).await
    }

    async fn prepare(&self) -> Health {
        Health { rows: Ok(()), queue: Ok(()), others: Vec::new() }
    }
}
