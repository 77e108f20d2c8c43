//! What an operator's word would do to a push, without doing it.

use super::Engine;
use crate::push::{Answer, Change, Decision, Input, Question, Row, step};
use crate::store::Failure;

impl Engine {
    /// The row as it would be if `input` came now; `None` where nothing would change. What the row alone does not tell is looked
    /// up as far as one read goes: whether the newest push of its place carries another digest.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn foresee(&self, row: &Row, input: Input) -> Result<Option<Row>, Failure> {
        let now = self.clock.now();
        let mut decision = step(Some(row), &input, now, &self.policy, None);
        if let Decision::Ask(Question { moved, .. }) = decision {
            let mut answer = Answer::default();
            if let Some((after, before)) = moved {
                let read = self.store.newest_at(row.id.key.place(), Some(after));
                let newest = self.within(crate::limits::OPERATOR_CALL_BUDGET, read).await?;
                let newest = newest.filter(|newest| newest.subject.digest != row.subject.digest);
                answer.moved = newest.map(|newest| newest.opened).filter(|opened| after < *opened && *opened < before);
            }
            decision = step(Some(row), &input, now, &self.policy, Some(answer));
        }
        let Decision::Step(step) = decision else { return Ok(None) };
        Ok(match step.change {
            Change::Put(row) => Some(row),
            Change::None | Change::Remove => None,
        })
    }
}
