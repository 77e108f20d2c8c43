//! Who waits for something to happen to an image, in this process.
//!
//! Guarantee: whoever listens before it looks at the row misses nothing that this process does after that. What other processes
//! do is not told; a listener looks by itself from time to time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Listeners by [place](crate::push::Key::place).
#[derive(Default)]
pub(super) struct News {
    places: Mutex<HashMap<String, Heard>>,
}

struct Heard {
    listeners: usize,
    notify: Arc<Notify>,
}

/// Listens as long as it lives.
pub struct Listener {
    news: Arc<News>,
    place: String,
    notify: Arc<Notify>,
}

impl News {
    /// Listens to what happens at a place.
    pub(super) fn listen(self: &Arc<Self>, place: &str) -> Listener {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = places.entry(place.to_owned()).or_insert_with(|| Heard { listeners: 0, notify: Arc::default() });
        heard.listeners += 1;
        Listener { news: Arc::clone(self), place: place.to_owned(), notify: Arc::clone(&heard.notify) }
    }

    /// Wakes whoever listens to a place, or to others that are worked out only when there is anybody.
    pub(super) fn tell(&self, place: &str, others: impl FnOnce() -> Option<String>) {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.is_empty() {
            return;
        }
        for place in [Some(place.to_owned()), others()].into_iter().flatten() {
            if let Some(heard) = places.get(&place) {
                heard.notify.notify_waiters();
            }
        }
    }
}

impl Listener {
    /// Ends when something has happened since this was called.
    pub fn heard(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut places = self.news.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = places.get_mut(&self.place) {
            heard.listeners -= 1;
            if heard.listeners == 0 {
                places.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_listener_hears_of_its_place_only_and_leaves_nothing_behind() {
        let news = Arc::new(News::default());
        let (one, other) = (news.listen("a"), news.listen("b"));
        let again = news.listen("a");
        let (heard, not, too) = (one.heard(), other.heard(), again.heard());
        news.tell("a", || Some("d".into()));
        news.tell("c", || None);
        assert!(heard.now_or_never().is_some() && too.now_or_never().is_some());
        assert!(not.now_or_never().is_none());
        assert!(one.heard().now_or_never().is_none(), "what was before is past");
        drop((one, other));
        assert_eq!(news.places.lock().unwrap().len(), 1);
        drop(again);
        assert!(news.places.lock().unwrap().is_empty());
    }
}
