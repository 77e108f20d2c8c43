//! `list`: pushes, newest first, by the API's filters.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Common, Context, Trouble};
use crate::api::{self, DeliveryState, Item, List};
use crate::cli::table::{Table, cell, image, millis, time};

pub(super) const HELP: &str = "\
Patterns: `*` stays within one path segment, `**` crosses them, `{a,b}` is either.
A terminal that is too narrow goes without OPENED, then TOLD, then MISSING; --wide leaves nothing out.

Examples:
  global-webhook list --status waiting,timed_out
  global-webhook list --repository 'shop/**' --since 24h --all
  global-webhook list --region westus --companions none --wide
  global-webhook list --status exhausted --all --json | jq -r '.pushes[].instanceId' |
    xargs -rn1 global-webhook redeliver

Exit codes:
  0  done, also where there is no push
  1  it did not work: no connection, a wrong key, a service that cannot
  2  wrong arguments";

/// Pushes of a page where all are wanted: a page stays well within a call's time.
const PAGE: usize = 200;

/// Pushes that are shown when nobody says how many.
const LIMIT: usize = 50;

/// Which pushes; what is left out does not matter.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filter {
    /// Any of these, comma-separated
    #[arg(long, value_delimiter = ',', ignore_case = true, value_parser = api::STATUSES)]
    status: Vec<String>,
    /// Pattern for the registry's login server
    #[arg(long)]
    registry: Option<String>,
    /// Pattern for the repository
    #[arg(long)]
    repository: Option<String>,
    /// Pattern for the tag
    #[arg(long)]
    tag: Option<String>,
    /// Digest, or how it begins, with or without `sha256:`
    #[arg(long)]
    digest: Option<String>,
    /// Only pushes that wait for this region, miss it, or had it late
    #[arg(long)]
    region: Option<String>,
    /// What clients push along with images: platforms, signatures, attestations
    #[arg(long, value_parser = ["all", "none", "only"])]
    companions: Option<String>,
    /// Opened at this instant (2026-11-27T03:00:00Z) or later, or so long ago at most (90m, 24h, 3d)
    #[arg(long)]
    since: Option<String>,
    /// Opened before this instant, or longer ago
    #[arg(long)]
    until: Option<String>,
}

impl Filter {
    /// Members of the query.
    fn members(&self) -> Vec<(&'static str, String)> {
        let status = (!self.status.is_empty()).then(|| self.status.join(","));
        let members = [
            ("status", &status),
            ("registry", &self.registry),
            ("repository", &self.repository),
            ("tag", &self.tag),
            ("digest", &self.digest),
            ("region", &self.region),
            ("companions", &self.companions),
            ("since", &self.since),
            ("until", &self.until),
        ];
        members.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Most pushes to list [default: 50]
    #[arg(long, conflicts_with = "all", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// List all of them
    #[arg(long)]
    all: bool,
    /// Show lag, digest and id too
    #[arg(long, conflicts_with = "json")]
    wide: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Pushes, and the document or documents that they came in.
pub(super) struct Found {
    pub(super) list: List,
    documents: Vec<String>,
}

/// The newest pushes of a filter, all of them without a `limit`. The service's pages may be short, or empty, before the end.
pub(super) async fn find(filter: &Filter, limit: Option<usize>, context: &Context) -> Result<Found, Trouble> {
    let members = filter.members();
    let mut found = Found { list: List { pushes: Vec::new(), next: None, unreadable: 0 }, documents: Vec::new() };
    loop {
        let wanted = limit.map_or(PAGE, |limit| (limit - found.list.pushes.len()).min(PAGE)).to_string();
        let mut query: Vec<(&str, &str)> = members.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.push(("limit", &wanted));
        if let Some(cursor) = &found.list.next {
            query.push(("cursor", cursor));
        }
        let answer = context.client.get(&["pushes"], &query).await?;
        let page: List = answer.document()?;
        found.list.pushes.extend(page.pushes);
        found.list.unreadable += page.unreadable;
        found.list.next = page.next;
        found.documents.push(answer.body);
        if found.list.next.is_none() || limit.is_some_and(|limit| found.list.pushes.len() >= limit) {
            return Ok(found);
        }
    }
}

impl Found {
    /// One document of the API's shape: the only one as it came, or several put together, each push as it came.
    fn document(&self) -> Result<String, Trouble> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            pushes: Vec<&'a RawValue>,
        }
        if let [only] = self.documents.as_slice() {
            return Ok(only.clone());
        }
        let mut pushes: Vec<&str> = Vec::new();
        for document in &self.documents {
            let page: Result<Page, _> = serde_json::from_str(document);
            pushes.extend(page.iter().flat_map(|page| page.pushes.iter().map(|push| push.get())));
        }
        let next = serde_json::Value::from(self.list.next.clone());
        Ok(format!(r#"{{"pushes":[{}],"next":{next},"unreadable":{}}}"#, pushes.join(","), self.list.unreadable))
    }
}

pub(super) async fn run(args: &Args, context: &mut Context) -> Result<(), Trouble> {
    let limit = (!args.all).then(|| args.limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    let found = find(&args.filter, limit, context).await?;
    let document = found.document()?;
    let list = &found.list;
    if list.pushes.is_empty() && !context.json {
        context.screen.note("No push fits.");
    } else {
        let dispensable = if args.wide { &[][..] } else { &DISPENSABLE };
        context.show(&document, |look| {
            let (head, rows) = look.narrowed(table(&list.pushes, args.wide), dispensable);
            look.unbroken().lines(&head, rows)
        });
    }
    if list.unreadable > 0 {
        context.screen.note(&format!("{} more cannot be read; the service's log says which.", list.unreadable));
    }
    if list.next.is_some() && !context.json {
        context.screen.note("There are more: --all lists them, --limit so many.");
    }
    Ok(())
}

/// Columns that a terminal which is too narrow for all goes without, the first of them first.
pub(super) const DISPENSABLE: [&str; 3] = ["opened", "told", "missing"];

/// A row for each push.
pub(super) fn table(pushes: &[Item], wide: bool) -> Table<'static> {
    let mut head = vec!["state", "image", "regions", "missing", "told", "opened"];
    if wide {
        head.extend(["lag", "digest", "id"]);
    }
    let row = |push: &Item| {
        let status = &push.status;
        let mut row = vec![
            status.state.word().to_owned(),
            image(&status.registry, &status.image),
            format!(
                "{}/{}",
                status.regions.len() - status.missing.len().min(status.regions.len()),
                status.regions.len()
            ),
            or_none(&status.missing.join(", ")),
            told(push),
            time(&push.created_time),
        ];
        if wide {
            row.extend([millis(status.lag_ms), cell(&api::digits(&status.digest)), cell(&push.instance_id)]);
        }
        row
    };
    (head, pushes.iter().map(row).collect())
}

/// A text, or a dash.
pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { cell(text) }
}

/// How far the notifications of a push are.
pub(super) fn told(push: &Item) -> String {
    let notifications = &push.status.notifications;
    let states = [DeliveryState::Confirmed, DeliveryState::Owed, DeliveryState::Exhausted, DeliveryState::Overtaken];
    let counts = states.into_iter().filter_map(|state| {
        let count = notifications.iter().filter(|n| n.state == state).count();
        (count > 0).then(|| format!("{count} {}", state.word()))
    });
    or_none(&counts.collect::<Vec<_>>().join(", "))
}
