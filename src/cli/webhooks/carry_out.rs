//! Doing what was planned.
//!
//! First what adds and corrects, then what replaces, then what deletes: a command that ends half-way has taken away the least.
//! One webhook that fails does not keep the others from being done, unless they would fail too. Where the time ends in the
//! middle, what was done and what is open is told like any other end.

use super::Time;
use super::show::Result;
use crate::arm::plan::{Change, Difference, Kind, Set, Wanted};
use crate::arm::registry::Registry;
use crate::arm::webhooks::{self, Webhook};
use crate::arm::{Client, Error};

/// What was planned, and what it takes to do it.
pub(super) struct Work<'a> {
    pub(super) client: &'a Client,
    pub(super) registry: &'a Registry,
    pub(super) set: &'a Set,
    pub(super) wanted: &'a [Wanted],
    pub(super) actual: &'a [Webhook],
    pub(super) time: &'a Time,
}

impl Work<'_> {
    /// Does all that is to be done, as far as the time goes; `said` gets a line for each.
    pub(super) async fn all(&self, changes: &[Change], said: impl Fn(&str)) -> Vec<Result> {
        let mut ordered: Vec<&Change> = changes.iter().filter(|change| change.kind.is_change()).collect();
        ordered.sort_by_key(|change| match change.kind {
            Kind::Replace { .. } => 1,
            Kind::Delete => 2,
            Kind::Create { .. }
            | Kind::Update(_)
            | Kind::Orphan
            | Kind::Unchanged
            | Kind::Taken
            | Kind::Broken
            | Kind::Foreign { .. } => 0,
        });
        let (mut results, mut is_over) = (Vec::new(), false);
        for change in ordered {
            let error = if is_over {
                Some("not tried, since it would fail the same way".to_owned())
            } else {
                let done = self.time.within(self.one(change)).await;
                is_over = self.time.is_over() || done.as_ref().is_err_and(Error::is_of_all_calls);
                done.err().map(|error| error.to_string())
            };
            let result = Result { change: change.clone(), error };
            said(&result.line());
            results.push(result);
        }
        results
    }

    async fn one(&self, change: &Change) -> std::result::Result<(), Error> {
        let Self { client, registry, set, wanted, actual, .. } = self;
        let named = |name: &str| name.eq_ignore_ascii_case(&change.name);
        let before = actual.iter().find(|webhook| named(&webhook.name));
        let tags = set.tags(&before.map(|webhook| webhook.tags.clone()).unwrap_or_default());
        let wanted = wanted.iter().find(|one| named(&one.name));
        match (&change.kind, wanted) {
            (Kind::Create { .. }, Some(wanted)) => webhooks::create(client, registry, wanted, &tags).await,
            (Kind::Update(differences), Some(wanted)) if differences.iter().any(Difference::empties) => {
                webhooks::create(client, registry, wanted, &tags).await
            }
            (Kind::Update(_), Some(wanted)) => webhooks::update(client, registry, wanted).await,
            (Kind::Replace { .. }, Some(wanted)) => {
                webhooks::delete(client, registry, &change.name).await?;
                webhooks::create(client, registry, wanted, &tags).await
            }
            (Kind::Delete, _) => webhooks::delete(client, registry, &change.name).await,
            // A change is planned for what is wanted only, and the rest is no change.
            (
                Kind::Create { .. }
                | Kind::Update(_)
                | Kind::Replace { .. }
                | Kind::Orphan
                | Kind::Unchanged
                | Kind::Taken
                | Kind::Broken
                | Kind::Foreign { .. },
                _,
            ) => Ok(()),
        }
    }
}
