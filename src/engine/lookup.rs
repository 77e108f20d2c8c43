//! What the engine tells of pushes: one, the newest of an image, many, and the regions over a span of time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Engine;
use super::news::Listener;
use crate::api::Regions;
use crate::clock::{self, Instant};
use crate::limits;
use crate::push::image::{Image, Sought};
use crate::push::{Row, Subject};
use crate::store::{Failure, Page, Search, Which};

/// The last summary of the regions.
pub(super) struct Summary {
    /// In which words it was asked for.
    asked: String,
    made: Instant,
    /// How long it took to make.
    took: Duration,
    regions: Arc<Regions>,
}

impl Summary {
    /// Whether it is good for whoever asks in these words. Where pushes have settled since, it is `outdated` and made anew
    /// soon: as often as costs a twentieth of the time.
    fn holds(&self, words: &str, now: Instant, outdated: bool) -> bool {
        let (least, most) = (limits::REGIONS_KEPT_LEAST, limits::REGIONS_KEPT);
        let kept = if outdated { (self.took * 20).clamp(least, most) } else { most };
        self.asked == words && clock::until(self.made, now) < kept
    }
}

impl Engine {
    /// The row of a push, or of the newest round of a key.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn row(&self, which: &Which) -> Result<Option<Arc<Row>>, Failure> {
        self.within(limits::OPERATOR_CALL_BUDGET, self.store.get(which)).await
    }

    /// The newest push of an image in a registry, opened at `since` or later. One look-up where tag and digest are known; else
    /// what the pushes of the tag cost. Where [a search is needed](Self::searches), it goes back to `since`, or
    /// [`IMAGE_SEARCHED_BACK`](limits::IMAGE_SEARCHED_BACK).
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn newest_of(
        &self,
        image: &Image,
        registry: &str,
        action: &str,
        since: Option<Instant>,
    ) -> Result<Option<Arc<Row>>, Failure> {
        let fits = |row: &Arc<Row>| {
            since.is_none_or(|since| since <= row.opened)
                && image.is(&row.subject, registry)
                && row.subject.action == action
        };
        let call = async {
            let found = match image.sought(registry, action, self.policy.correlation) {
                Sought::Key(key) => self.store.get(&Which::Newest(key)).await?,
                Sought::Place(place) => self.store.newest_at(&place, since).await?,
            };
            let found = found.filter(fits);
            if !self.searches(image) {
                return Ok(found);
            }
            let (sought, registry, action) = (image.clone(), registry.to_owned(), action.to_owned());
            let is = move |subject: &Subject| subject.action == action && sought.is(subject, &registry);
            let back = self.clock.now() - limits::IMAGE_SEARCHED_BACK;
            let mut search =
                Search { since: since.or(Some(back)), subject: Some(Arc::new(is)), ..Search::all(1, None) };
            let tagged = loop {
                let page = self.store.list(&search).await?;
                let row = page.rows.into_iter().next().map(Arc::new);
                search.cursor = page.next;
                if row.is_some() || search.cursor.is_none() {
                    break row;
                }
            };
            Ok([found, tagged].into_iter().flatten().max_by_key(|row| row.opened))
        };
        self.within(limits::OPERATOR_CALL_BUDGET, call).await
    }

    /// Whether the newest push of an image is found by a search alone: pushes of a digest may be of any tag, and in the mode `id`
    /// nothing but a tag is known of a push before.
    #[must_use]
    pub fn searches(&self, image: &Image) -> bool {
        image.digest.is_some() && (image.tag.is_none() || !self.policy.correlation.is_content())
    }

    /// Listens to what this process does to pushes of an image.
    #[must_use]
    pub fn listen(&self, image: &Image, registry: &str, action: &str) -> Listener {
        match image.sought(registry, action, self.policy.correlation) {
            Sought::Key(key) => self.news.listen(key.place()),
            Sought::Place(place) => self.news.listen(&place),
        }
    }

    /// A page of pushes, newest first. Of those that owe something for longer than one usually does, the store may list no more
    /// than it remembers.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn list(&self, search: &Search) -> Result<Page, Failure> {
        let mut search = search.clone();
        if search.owing {
            let age = if search.waiting { self.policy.waits_at_most() } else { self.policy.owes_at_most() };
            search.remembered = Some(self.clock.now() - age - limits::LIST_OVERDUE);
        }
        self.within(limits::OPERATOR_CALL_BUDGET, self.store.list(&search)).await
    }

    /// Whether a text may be a cursor of the store's own.
    #[must_use]
    pub fn is_cursor(&self, text: &str) -> bool {
        self.store.is_cursor(text)
    }

    /// The regions over the pushes opened from `since` on and before `until`, of the newest
    /// [`REGIONS_COUNTED_MAX`](limits::REGIONS_COUNTED_MAX). Whoever asked in the same words less than
    /// [`REGIONS_KEPT`](limits::REGIONS_KEPT) ago is told the same again; less long where this process has settled pushes since.
    ///
    /// # Errors
    /// The store could not be read in time.
    pub async fn regions(&self, words: &str, since: Instant, until: Instant) -> Result<Arc<Regions>, Failure> {
        let now = self.clock.now();
        let mut last = self.summary.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.holds(words, now, self.outdated.load(Ordering::Relaxed))) {
            return Ok(Arc::clone(&last.regions));
        }
        self.outdated.store(false, Ordering::Relaxed);
        let (mut rows, mut unreadable, mut cursor) = (Vec::new(), 0, None);
        let cut = loop {
            let left = limits::REGIONS_COUNTED_MAX - rows.len();
            let search =
                Search { since: Some(since), until: Some(until), ..Search::all(left.min(200), cursor.as_deref()) };
            let page = self.list(&search).await?;
            unreadable += page.unreadable;
            rows.extend(page.rows.into_iter().map(|row| Row { payload: String::new(), ..row }));
            cursor = page.next;
            if cursor.is_none() || rows.len() >= limits::REGIONS_COUNTED_MAX {
                break cursor.is_some();
            }
        };
        let regions = Arc::new(super::regions::summary(&rows, &self.policy, (since, until), cut, unreadable));
        let made = self.clock.now();
        *last = Some(Summary {
            asked: words.to_owned(),
            made,
            took: clock::until(now, made),
            regions: Arc::clone(&regions),
        });
        Ok(regions)
    }
}
