//! What would happen to this very push, before an operator does it: foreseen by the step that will decide.

use maud::{Markup, html};

use super::push::Receiver;
use super::words::{self, Form};
use crate::api::{DeliveryState, Item, Notification, State, Status};
use crate::clock::Instant;

/// What an operator is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Send notifications again.
    Redeliver,
    /// End the wait.
    Terminate,
    /// Say that a region has the image.
    Report,
}

/// What the question is made from.
pub struct Question<'a> {
    /// The present.
    pub now: Instant,
    /// What is about to be done.
    pub deed: Deed,
    /// The region it is about, for a report.
    pub region: &'a str,
    /// The push.
    pub push: &'a Item,
    /// What it would be; `None` where nothing would change.
    pub then: Option<&'a Status>,
    /// Receivers of the settings.
    pub receivers: &'a [Receiver],
}

impl Question<'_> {
    /// The dialog's content.
    #[must_use]
    pub fn render(&self) -> String {
        let status = &self.push.status;
        let id = &self.push.instance_id;
        let image = words::foreign(&status.image);
        let (heading, post, stay, go, danger) = match self.deed {
            Deed::Redeliver => {
                (html! { "Redeliver " (image) }, format!("{id}/redeliver"), "Cancel", html! { "Send now" }, false)
            }
            Deed::Terminate => {
                let told = self.told().count();
                let go = html! { "End it" @if told > 0 { " and tell " (words::count(told, "receiver", "receivers")) } };
                (html! { "End the wait for " (image) }, format!("{id}/terminate"), "Keep waiting", go, true)
            }
            Deed::Report => {
                let go = html! { "Report " (self.region) };
                (
                    html! { "Report a region of " (image) " by hand" },
                    format!("{id}/regions/{}", self.region),
                    "Cancel",
                    go,
                    false,
                )
            }
        };
        let changed = format!("{} {}", self.push.last_updated_time, self.region);
        html! {
            form method="dialog" data-post=(post) data-changed=(changed) {
                h2 id="confirm-title" { (heading) }
                div.notice.bad role="alert" data-error="" hidden {}
                @match self.deed {
                    Deed::Redeliver => (self.redeliver()),
                    Deed::Terminate => (self.terminate()),
                    Deed::Report => (self.report()),
                }
                footer {
                    button value="stay" formnovalidate autofocus { (stay) }
                    button.danger[danger].primary[!danger] value="go" disabled[self.then.is_none()] { (go) }
                }
            }
        }
        .into_string()
    }

    /// Notifications that would be owed and are not yet.
    fn told(&self) -> impl Iterator<Item = &Notification> {
        let before = &self.push.status.notifications;
        let then = self.then.map(|then| then.notifications.as_slice()).unwrap_or_default();
        then.iter().filter(|n| before.iter().all(|b| (&b.target, &b.notice) != (&n.target, &n.notice)))
    }

    /// Who would hear what, who would not, and what would be dropped.
    fn consequences(&self) -> Markup {
        let before = &self.push.status.notifications;
        let then = self.then.map(|then| then.notifications.as_slice()).unwrap_or_default();
        let owed = |n: &&Notification| {
            before.iter().any(|b| b.state == DeliveryState::Owed && (&b.target, &b.notice) == (&n.target, &n.notice))
        };
        let dropped: Vec<_> = then.iter().filter(|n| n.state == DeliveryState::Overtaken).filter(owed).collect();
        let plain = |n: &&Notification| self.format(&n.target) == "acr";
        let told: Vec<&str> = self.told().filter(|n| !plain(n)).map(|n| n.target.as_str()).collect();
        let state = self.then.map_or(String::new(), |then| words::spoken(then.state.word()));
        html! {
            @for n in self.told().filter(plain)
                { li { (n.target) " gets the image as a plain push " b { "and may roll it out" } "." } }
            @if !told.is_empty() { li { (words::names(&told, 5)) @if told.len() == 1 { " is" } @else { " are" }
                " told that it is " (state) "." } }
            @if self.told().count() == 0 && self.then.is_some_and(|then| then.state != self.push.status.state)
                { li { "No receiver is told of that." } }
            @for n in dropped { li { "What " (n.target) " is owed, that it " (words::spoken(&n.notice)) ", is dropped." } }
        }
    }

    fn format(&self, target: &str) -> &str {
        self.receivers.iter().find(|r| r.name == target).map_or("", |r| &r.format)
    }

    fn redeliver(&self) -> Markup {
        let notifications = &self.push.status.notifications;
        let mut targets: Vec<&Notification> = Vec::new();
        for n in notifications.iter().rev() {
            if targets.iter().all(|t| t.target != n.target) {
                targets.push(n);
            }
        }
        // What needs it most is chosen.
        targets.sort_by_key(|n| match n.state {
            DeliveryState::Exhausted => 0,
            DeliveryState::Owed => 1,
            DeliveryState::Confirmed | DeliveryState::Overtaken => 2,
        });
        let time =
            |at: &Option<String>| at.as_deref().map(|at| words::time(at, Form::Short, self.now)).unwrap_or_default();
        html! {
            fieldset {
                legend { "To" }
                @for (nth, n) in targets.iter().enumerate() {
                    label.choice {
                        input type="radio" name="target" value=(n.target) checked[nth == 0];
                        span { (n.target) span.muted { @match n.state {
                            DeliveryState::Owed if n.lease_until.is_some() => " · an attempt is under way already",
                            DeliveryState::Owed => { " · owed; tries now instead of at " (time(&n.not_before)) },
                            DeliveryState::Confirmed => { " · confirmed " (time(&n.at)) "; would get it twice" },
                            DeliveryState::Exhausted => { " · exhausted: "
                                (words::foreign(n.reason.as_deref().unwrap_or_default())) },
                            DeliveryState::Overtaken => " · dropped, and stays so",
                        } } }
                    }
                }
                @if targets.len() > 1 { label.choice { input type="radio" name="target" value=""; span { "all of them" } } }
            }
            @if self.then.is_none() { p { b { "Nothing would be sent: " } "what is owed is on its way, or was dropped." } }
            p { "What will happen:" }
            ul {
                li { "The same notification is sent at once, with the same " code { "webhook-id" } "." }
                li { "A receiver that remembers the id takes a repeat for what it is. One that does not acts twice." }
                li { "If it fails, the waits between attempts begin anew." }
            }
        }
    }

    fn terminate(&self) -> Markup {
        let status = &self.push.status;
        html! {
            @match self.then {
                None => { p { b { "It has settled meanwhile." } " There is no wait to end." } },
                Some(then) => {
                    p { "What will happen:" }
                    ul {
                        li { "It settles now as " b { (words::spoken(then.state.word())) } ", as if the deadline had passed"
                            @if then.state == State::TimedOut { ", missing " (words::names(&status.missing, 5)) } "." }
                        (self.consequences())
                        @if then.state == State::TimedOut
                            { li { "If the missing regions report later, it recovers, and that is told too." } }
                        li { "It cannot be undone. By itself the wait ends in " (words::left(&status.deadline)) "." }
                    }
                }
            }
        }
    }

    fn report(&self) -> Markup {
        let status = &self.push.status;
        let server = status.registry.split_once('.').map(|(name, rest)| match rest {
            "azurecr.io" => format!("{name}.{}.geo.azurecr.io", self.region),
            _ => status.registry.clone(),
        });
        let pull = server
            .map(|server| format!("{server}/{}@{}", status.repository, status.digest))
            .filter(|pull| words::is_one_word(pull));
        html! {
            label.field { "Region"
                select name="region" data-ask=""
                    { @for region in &status.missing { option value=(region) selected[region == self.region] { (region) } } }
            }
            p { "You say that " b { (self.region) }
                " holds this image. Look first: pull it by digest from that region. The registry's plain address may answer from another one." }
            @if let Some(pull) = pull { (words::command(&format!("docker pull {pull}"))) }
            p { "What will happen:" }
            ul {
                @match self.then {
                    None => { li { "Nothing: the region has reported meanwhile." } },
                    Some(then) if then.state == status.state =>
                        { li { "It goes on missing " (words::names(&then.missing, 5)) "; nobody is told of this." } },
                    Some(then) => { li { "With that every region has it, so it becomes " b
                        { (words::spoken(then.state.word())) } "." } }
                }
                (self.consequences())
                li { "It stays on record as reported by hand. It cannot be taken back." }
            }
            label.choice { input type="checkbox" name="seen" required; span { "I have looked, and the image is there" } }
        }
    }
}
