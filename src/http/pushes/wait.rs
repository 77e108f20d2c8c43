//! `GET /api/pushes?image=…`: the newest push of an image, and a call that waits until it has settled.
//!
//! Guarantees
//! - *Woken at once* by what this process does to the push. What other processes do is seen at the next look at the row; looks
//!   come after [`WAIT_LOOK_MIN`](limits::WAIT_LOOK_MIN) at first and at most [`WAIT_LOOK_MAX`](limits::WAIT_LOOK_MAX) apart.
//! - *Bounded.* So many wait, for so long, and each costs a task of the web server and no thread.
//! - *The end of this process* is answered at once, so that the caller asks the next one.
//! - *Storage that is away* ends no wait; what cannot be read at the end is told as such.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};
use tokio::sync::Semaphore;

use super::filter::Members;
use super::{place, shown};
use crate::api::{ACTIONS, State};
use crate::clock::{self, Instant};
use crate::http::Web;
use crate::http::error::Problem;
use crate::limits;
use crate::push::{Image, PushId, Row};
use crate::service::Service;
use crate::store::Failure;

/// Places for calls that wait, of the whole process.
static WAITERS: Semaphore = Semaphore::const_new(limits::WAITERS_MAX);

/// What a caller wants to know.
struct Wanted {
    image: Image,
    registry: String,
    action: &'static str,
    since: Option<Instant>,
    /// How long the answer may be held.
    wait: Duration,
    /// Until every region has it, not only until the push has settled.
    everywhere: bool,
    /// The caller knows of so many regions that have reported, and is told of one more.
    arrived: Option<usize>,
}

impl Wanted {
    fn read(members: &Members, service: &Service, now: Instant) -> Result<Self, Problem> {
        let image: Image =
            members.get("image").unwrap_or_default().parse().map_err(|why| {
                Problem::bad_request("image", format!("The query member `image` cannot be used: {why}."))
            })?;
        let registry = match (service.registry(), &image.registry) {
            (Some(all), Some(named)) if all != named => {
                return Err(Problem::bad_request(
                    "image",
                    format!(
                        "The query member `image` names another registry than the one that this service is for: {all}."
                    ),
                ));
            }
            (Some(all), _) => all.to_owned(),
            (None, Some(named)) => named.clone(),
            (None, None) => {
                return Err(Problem::bad_request(
                    "image",
                    "The query member `image` names no registry: begin with its login server, such as `contoso.azurecr.io/`.",
                ));
            }
        };
        let most = usize::try_from(limits::WAIT_MAX.as_secs()).unwrap_or(usize::MAX);
        let wait = members.number("wait", (0, most))?.unwrap_or(0);
        Ok(Self {
            image,
            registry,
            action: members.word("action", &ACTIONS)?.unwrap_or("push"),
            since: members.instant("since", now)?,
            wait: Duration::from_secs(wait as u64),
            everywhere: members.word("for", &["settled", "everywhere"])? == Some("everywhere"),
            arrived: members.number("arrived", (0, limits::REGIONS_MAX))?,
        })
    }

    /// Whether there is nothing more to wait for.
    fn is_over(&self, row: &Row) -> bool {
        match State::of(row) {
            State::Waiting => false,
            State::Replicated | State::Recovered | State::Superseded => true,
            State::TimedOut => !self.everywhere,
        }
    }

    /// Whether a row is news to the caller, or that there is none any more; `first` is the push that was there when it called.
    fn is_news(&self, row: Option<&Row>, first: Option<&PushId>) -> bool {
        let moved = || row.is_some_and(|row| first.is_some_and(|first| row.id != *first));
        row.is_some_and(|row| self.is_over(row))
            || self.arrived.is_some_and(|known| row.map_or(0, |row| row.arrived.len()) != known || moved())
    }

    async fn look(&self, service: &Service) -> Result<Option<Arc<Row>>, Failure> {
        let (image, registry, action, since) = (self.image.clone(), self.registry.clone(), self.action, self.since);
        service.run(|engine| async move { engine.newest_of(&image, &registry, action, since).await }).await
    }
}

/// Answers with the newest push of an image: 200 when it is over, 202 while it waits.
pub(super) async fn handle(
    request: &HttpRequest,
    members: &Members,
    service: &Service,
    web: &Web,
) -> Result<HttpResponse, Problem> {
    let began = web.clock.now();
    let wanted = Wanted::read(members, service, began)?;
    // A look that waits for nothing is a call like any other, and so is each look of a search.
    let _look = if wanted.wait.is_zero() { Some(place(&*web.clock).await?) } else { None };
    let _waits =
        if wanted.wait.is_zero() { None } else { Some(WAITERS.try_acquire().map_err(|_| Problem::too_many_calls())?) };
    let (image, registry, action) = (wanted.image.clone(), wanted.registry.clone(), wanted.action);
    let listener = service.run(|engine| async move { Ok(engine.listen(&image, &registry, action)) }).await?;
    let end = clock::after(began, wanted.wait);
    let image = wanted.image.clone();
    let searches = service.run(|engine| async move { Ok(engine.searches(&image)) }).await?;
    let mut pause = if searches { limits::WAIT_LOOK_MAX } else { limits::WAIT_LOOK_MIN };
    let mut first = None;
    let found = loop {
        // Before the look, so that nothing is missed between the two.
        let heard = listener.heard();
        let busy = searches && !wanted.wait.is_zero();
        let _search = if busy { Some(place(&*web.clock).await?) } else { None };
        let found = wanted.look(service).await;
        drop(_search);
        if let Ok(Some(row)) = &found {
            first.get_or_insert_with(|| row.id.clone());
        }
        let left = clock::until(web.clock.now(), end);
        let is_news = |row: &Option<Arc<Row>>| wanted.is_news(row.as_deref(), first.as_ref());
        if left.is_zero() || web.is_ending() || found.as_ref().is_ok_and(is_news) {
            break found?;
        }
        tokio::select! {
            () = heard => {}
            () = web.clock.sleep(pause.min(left)) => {}
            () = web.until_ending() => {}
        }
        pause = (pause * 3 / 2).min(limits::WAIT_LOOK_MAX);
    };
    let row = found.ok_or_else(Problem::unknown_image)?;
    Ok(shown(request, &row, wanted.is_over(&row)))
}
