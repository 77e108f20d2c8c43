//! What is planned and what was done, in words for an administrator who has never seen this project, and as JSON.
//!
//! Names, tags and messages come from strangers: none of them can move the cursor or begin a line of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::arm::plan::{self, Change, Difference, Kind, Set, Template, Turn, Whose};
use crate::arm::registry::{Registry, Replica, Stage};
use crate::cli::printable;
use crate::cli::screen::Screen;
use crate::cli::table::{self, Look, cell};

/// Most webhooks of others that are named.
const OTHERS_MAX: usize = 10;

/// What became of one change.
pub(super) struct Result {
    pub(super) change: Change,
    /// Why it was not done.
    pub(super) error: Option<String>,
}

/// A registry and what is planned for it.
pub(super) struct Shown<'a> {
    pub(super) registry: &'a Registry,
    pub(super) set: &'a Set,
    pub(super) changes: &'a [Change],
}

impl Shown<'_> {
    /// Prints it; `template` is what is wanted, if not nothing, and `results` what was done, if anything could have been.
    pub(super) fn print(&self, template: Option<&Template>, is_json: bool, results: Option<&[Result]>) {
        let text =
            if is_json { table::json(&format!("{:#}", self.json(template, results))) } else { self.text(template) };
        Screen::of_the_process().line(&text);
    }

    fn text(&self, template: Option<&Template>) -> String {
        let Registry { id, sku, home, replicas } = self.registry;
        let mut text = format!(
            "Registry {} ({}, subscription {}, resource group {})\n",
            cell(&id.name),
            cell(sku),
            cell(&id.subscription),
            cell(&id.group)
        );
        let (homes, others): (Vec<&Replica>, Vec<_>) = replicas.iter().partition(|replica| replica.region == *home);
        let list = |all: Vec<&Replica>| all.into_iter().map(named).collect::<Vec<_>>().join(", ");
        text += &if others.is_empty() {
            format!("It has one region: {}.\n", list(homes))
        } else {
            format!("Its home region is {}; its replicas are in {}.\n", list(homes), list(others))
        };
        if let Some(template) = template {
            let regions: Vec<&str> = self.registry.regions().map(crate::push::Region::as_str).collect();
            let url = plan::shown(template.url.as_str());
            let and = if url.contains('?') { '&' } else { '?' };
            text += &format!(
                "Each region shall have one webhook, which reports {} of {} to {}{and}region=<region>.\n\
                 The service there must wait for the same regions: WebhookRegions={}\n",
                listed(&template.actions),
                scoped(&template.scope),
                cell(&url),
                regions.join(",")
            );
        }
        let ours = self.changes.iter().filter(|change| !matches!(change.kind, Kind::Foreign { .. }));
        let rows: Vec<Vec<String>> = ours
            .map(|change| vec![cell(&change.region), cell(&change.name), words(change, self.set, template.is_none())])
            .collect();
        if !rows.is_empty() {
            let lines = Look::PLAIN.lines(&["region", "webhook", "what will be done"], rows);
            text += &format!("\n{}\n\n", lines.join("\n"));
        }
        text += &self.others();
        text += &self.summary();
        text
    }

    /// The webhooks that nothing is done with.
    fn others(&self) -> String {
        let of = |whose: Whose| {
            let named = self.changes.iter().filter(move |change| change.kind == Kind::Foreign { whose });
            named.map(|change| cell(&change.name)).collect::<Vec<_>>()
        };
        let mut text = String::new();
        for (names, why) in [
            (of(Whose::Strangers), "not made by this command, and left alone"),
            (of(Whose::AnotherService), "of another service (--prefix, --url), and left alone"),
            (of(Whose::Unknown), "left alone, since you may not read where they send to"),
        ] {
            if names.is_empty() {
                continue;
            }
            let shown = names.iter().take(OTHERS_MAX).cloned().collect::<Vec<_>>().join(", ");
            let more = names.len().saturating_sub(OTHERS_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            text += &format!("Other webhooks, {why}: {shown}{more}.\n");
        }
        text
    }

    fn summary(&self) -> String {
        let counts = self.counts();
        if self.is_taken() {
            return "Names are taken: nothing will be done.".into();
        }
        let some: Vec<String> =
            [("create", "to create"), ("update", "to change"), ("replace", "to replace"), ("delete", "to delete")]
                .iter()
                .filter_map(|(action, words)| counts.get(*action).map(|count| format!("{count} {words}")))
                .collect();
        match (some.is_empty(), self.changes.iter().any(|change| change.kind.is_obstacle())) {
            (true, true) => "Nothing can be done.".into(),
            (true, false) => "Nothing to do.".into(),
            (false, _) => format!("{}.", some.join(", ")),
        }
    }

    /// A name that is wanted is taken.
    pub(super) fn is_taken(&self) -> bool {
        self.changes.iter().any(|change| change.kind == Kind::Taken)
    }

    /// What stands in the way of what was asked for, and who must do what.
    fn obstacles(&self) -> Vec<&'static str> {
        let stands = |kind: &Kind| self.changes.iter().any(|change| change.kind == *kind);
        let words = [
            (
                Kind::Taken,
                "Nothing was done: a name that is wanted is taken. Delete that webhook, or choose other names with --prefix.",
            ),
            (
                Kind::Broken,
                "A region has no webhook, since its replica failed or is offline: see the registry's geo-replications in the \
                 portal, and run the command again once it works.",
            ),
            (
                Kind::Foreign { whose: Whose::Unknown },
                "Which webhooks send to --url could not be told, and those stay: an owner of the registry must give you the role \
                 \"Container Registry Contributor and Data Access Configuration Administrator\" \
                 (3bc748fc-213d-45c1-8d91-9da5725539b9), which has webhooks/getCallbackConfig/action.",
            ),
        ];
        words.into_iter().filter(|(kind, _)| stands(kind)).map(|(_, words)| words).collect()
    }

    /// Says how it went, and what stood in the way; the exit code.
    pub(super) fn ending(&self, results: &[Result]) -> ExitCode {
        let (all, failed) = (results.len(), results.iter().filter(|result| result.error.is_some()).count());
        let obstacles = self.obstacles();
        for words in &obstacles {
            super::complain(&format!("error: {words}"));
        }
        if failed > 0 {
            super::complain(&format!(
                "error: {failed} of {all} changes were not made. Run the command again once the reason is gone: it goes on \
                 from here."
            ));
        }
        if failed == 0 && obstacles.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for change in self.changes {
            *counts.entry(action(&change.kind)).or_default() += 1;
        }
        counts
    }

    fn json(&self, template: Option<&Template>, results: Option<&[Result]>) -> Value {
        let changes: Vec<Value> = self.changes.iter().map(change_json).collect();
        let replica = |replica: &Replica| json!({ "region": replica.region, "state": state(replica.stage) });
        let Registry { id, sku, home, replicas } = self.registry;
        let mut json = json!({
            "registry": { "id": id.to_string(), "name": id.name, "sku": sku, "home": home },
            "regions": replicas.iter().map(replica).collect::<Vec<_>>(),
            "prefix": self.set.prefix(),
            "changes": changes,
            "counts": self.counts(),
            "changed": self.changes.iter().any(|change| change.kind.is_change()),
        });
        if let Some(Template { url, scope, actions, .. }) = template {
            json["wanted"] = json!({ "url": plan::shown(url.as_str()), "scope": scope, "actions": actions });
        }
        if let Some(results) = results {
            let result = |result: &Result| {
                let Change { name, region, kind } = &result.change;
                json!({ "name": name, "region": region, "action": action(kind), "done": result.error.is_none(), "error": result.error })
            };
            json["results"] = results.iter().map(result).collect();
        }
        json
    }
}

fn named(replica: &Replica) -> String {
    let region = &replica.region;
    match replica.stage {
        Stage::Complete => region.to_string(),
        Stage::Syncing => format!("{region} (still copying)"),
        Stage::New => format!("{region} (still being made)"),
        Stage::Broken => format!("{region} (failed or offline)"),
    }
}

fn state(stage: Stage) -> &'static str {
    match stage {
        Stage::Complete => "complete",
        Stage::Syncing => "syncing",
        Stage::New => "new",
        Stage::Broken => "broken",
    }
}

/// What is done with a webhook, one thing a line.
fn words(change: &Change, set: &Set, is_removal: bool) -> String {
    match &change.kind {
        Kind::Create { waits: false } => "create".into(),
        Kind::Create { waits: true } => "create, once the replica there is complete".into(),
        Kind::Update(differences) => {
            let each: Vec<String> = differences.iter().map(difference).collect();
            format!("change\n  {}", each.join("\n  "))
        }
        Kind::Replace { location } => format!(
            "replace: it is in {}, which cannot be changed\n(deleted and made anew; a push in that moment is not reported)",
            cell(location)
        ),
        Kind::Delete if is_removal => "delete".into(),
        Kind::Delete => "delete: the registry has no replica there".into(),
        Kind::Orphan => "nothing: an orphan, since the registry has no replica there\n(--prune deletes it)".into(),
        Kind::Unchanged => "nothing: it is as it should be".into(),
        Kind::Taken => {
            let (name, value) = set.tag();
            format!(
                "NOT POSSIBLE: a webhook of this name is there that does\nnot have the tag {name}={value}; it is left alone"
            )
        }
        Kind::Broken => "NOT POSSIBLE until the replica there works:\nit failed, or is offline".into(),
        Kind::Foreign { .. } => "nothing: left alone".into(),
    }
}

/// Which images a scope is for.
fn scoped(scope: &str) -> String {
    if scope.is_empty() { "all images".to_owned() } else { cell(scope) }
}

fn listed(actions: &BTreeSet<String>) -> String {
    let all: Vec<String> = actions.iter().map(|action| cell(action)).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}

fn difference(difference: &Difference) -> String {
    match difference {
        Difference::Url { from, to } => {
            format!("URL: from {}\n       to   {}", cell(from), cell(to))
        }
        Difference::UrlSecret => "key in the URL: is another one (neither is shown)".into(),
        Difference::Header(name, turn) => {
            let name = cell(name);
            let is_key = name.eq_ignore_ascii_case(plan::KEY_HEADER);
            let what = if is_key { format!("key (header {name})") } else { format!("header {name}") };
            match turn {
                Turn::Added => format!("{what}: is missing"),
                Turn::Changed => format!("{what}: is another one (neither is shown)"),
                Turn::Removed => format!("{what}: will be removed"),
            }
        }
        Difference::Unreadable => "URL and key: may differ; you may not read them".into(),
        Difference::Scope { from, to } => format!("scope: from {} to {}", scoped(from), scoped(to)),
        Difference::Actions { from, to } => format!("actions: from {} to {}", listed(from), listed(to)),
        Difference::Status(from) => format!("status: from {} to enabled", cell(from)),
        Difference::State(from) => format!("state: from {} to complete", cell(from)),
    }
}

fn action(kind: &Kind) -> &'static str {
    match kind {
        Kind::Create { .. } => "create",
        Kind::Update(_) => "update",
        Kind::Replace { .. } => "replace",
        Kind::Delete => "delete",
        Kind::Orphan => "orphan",
        Kind::Unchanged => "unchanged",
        Kind::Taken => "taken",
        Kind::Broken => "broken",
        Kind::Foreign { whose: Whose::Strangers | Whose::AnotherService } => "foreign",
        Kind::Foreign { whose: Whose::Unknown } => "unknown",
    }
}

fn change_json(change: &Change) -> Value {
    let mut json = json!({ "name": change.name, "region": change.region, "action": action(&change.kind) });
    match &change.kind {
        Kind::Update(differences) => json["differences"] = differences.iter().map(difference_json).collect(),
        Kind::Replace { location } => json["location"] = json!(location),
        Kind::Create { .. }
        | Kind::Delete
        | Kind::Orphan
        | Kind::Unchanged
        | Kind::Taken
        | Kind::Broken
        | Kind::Foreign { .. } => {}
    }
    json
}

/// A property and its values; for one that is not shown what becomes of it.
fn difference_json(difference: &Difference) -> Value {
    match difference {
        Difference::Url { from, to } => json!({ "property": "url", "from": from, "to": to }),
        Difference::UrlSecret => json!({ "property": "urlSecret", "secret": "changed" }),
        Difference::Header(name, turn) => {
            let turn = match turn {
                Turn::Added => "added",
                Turn::Changed => "changed",
                Turn::Removed => "removed",
            };
            json!({ "property": "header", "name": name, "secret": turn })
        }
        Difference::Unreadable => json!({ "property": "urlAndHeaders", "secret": "unknown" }),
        Difference::Scope { from, to } => json!({ "property": "scope", "from": from, "to": to }),
        Difference::Actions { from, to } => json!({ "property": "actions", "from": from, "to": to }),
        Difference::Status(from) => json!({ "property": "status", "from": from, "to": "enabled" }),
        Difference::State(from) => json!({ "property": "provisioningState", "from": from, "to": "Succeeded" }),
    }
}

impl Result {
    pub(super) fn line(&self) -> String {
        let (name, region) = (cell(&self.change.name), cell(&self.change.region));
        match (&self.error, &self.change.kind) {
            (Some(error), _) => printable(&format!("{region}: {name} NOT DONE: {error}")),
            (None, Kind::Create { .. }) => format!("{region}: {name} created."),
            (None, Kind::Update(_)) => format!("{region}: {name} changed."),
            (None, Kind::Replace { .. }) => format!("{region}: {name} replaced."),
            (None, Kind::Delete) => format!("{region}: {name} deleted."),
            (None, Kind::Orphan | Kind::Unchanged | Kind::Taken | Kind::Broken | Kind::Foreign { .. }) => {
                format!("{region}: {name} left.")
            }
        }
    }
}

/// Asks whoever sits at the terminal.
pub(super) fn confirmed() -> bool {
    let mut error = std::io::stderr();
    let _ = write!(error, "Do this? Only `yes` does it: ");
    let _ = error.flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
