//! What an operator does to a push: `redeliver`, `terminate`, `purge`, `report`.

use reqwest::Method;

use super::{Common, Context, Named, Trouble};
use crate::api::{Operated, Purged};
use crate::cli::table::cell;
use crate::push::Region;

pub(super) const REDELIVER_HELP: &str = "\
What was confirmed or given up is sent again under the same webhook-id; what waits for its next attempt is sent now.

Examples:
  global-webhook redeliver contoso.azurecr.io/shop/cart:1.4.2
  global-webhook redeliver 4be07d…-1 --target deploy

Exit codes:
  0  done
  1  it did not work: no connection, a wrong key, a service that cannot
  2  wrong arguments
  4  there is no such push or target";

pub(super) const TERMINATE_HELP: &str = "\
Receivers get what the deadline would have told them: that it timed out, or nothing where the tag has moved on.

Examples:
  global-webhook terminate contoso.azurecr.io/shop/cart:1.4.2

Exit codes:
  0  done, also where it had settled before
  1  it did not work: no connection, a wrong key, a service that cannot
  2  wrong arguments
  4  there is no such push";

pub(super) const PURGE_HELP: &str = "\
Of many, those that still wait or owe a notification stay.

Examples:
  global-webhook purge contoso.azurecr.io/shop/cart:1.4.2
  global-webhook purge --until 30d

Exit codes:
  0  done
  1  it did not work: it still waits or owes a notification, no connection, a wrong key, a service that cannot
  2  wrong arguments
  4  there is no such push";

pub(super) const REPORT_HELP: &str = "\
The push goes on as if the region's webhook had come; the record says that it was reported by hand. Look first:
  az acr manifest show --name cart:1.4.2 --registry contoso

Examples:
  global-webhook report contoso.azurecr.io/shop/cart:1.4.2 westus

Exit codes:
  0  done, also where the region was on record
  1  it did not work: no connection, a wrong key, a service that cannot
  2  wrong arguments
  4  there is no such push, or it does not wait for the region";

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Args {
    /// Id of the push, or registry/repository:tag@digest for the newest push of an image; tag or digest may be left out
    #[arg(value_name = "PUSH")]
    pub(super) push: Named,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct PurgeArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    pub(super) common: Common,
}

/// One push, or all that are old.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Id of the push, or registry/repository:tag@digest for the newest push of an image; tag or digest may be left out
    #[arg(value_name = "PUSH")]
    push: Option<Named>,
    /// All that were opened before this instant (2026-11-01T00:00:00Z), or longer ago (30d)
    #[arg(long)]
    until: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct RedeliverArgs {
    #[command(flatten)]
    pub(super) push: Args,
    /// Only the notifications of this target
    #[arg(long)]
    target: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct ReportArgs {
    #[command(flatten)]
    pub(super) push: Args,
    /// Region that has the image
    #[arg(value_parser = Region::parse)]
    region: Region,
}

pub(super) async fn redeliver(args: &RedeliverArgs, context: &mut Context) -> Result<(), Trouble> {
    let query: Vec<(&str, &str)> = args.target.iter().map(|target| ("target", target.as_str())).collect();
    post(&args.push, "redeliver", &["redeliver"], &query, context).await
}

pub(super) async fn terminate(args: &Args, context: &mut Context) -> Result<(), Trouble> {
    post(args, "terminate", &["terminate"], &[], context).await
}

pub(super) async fn report(args: &ReportArgs, context: &mut Context) -> Result<(), Trouble> {
    post(&args.push, "report", &["regions", args.region.as_str()], &[], context).await
}

pub(super) async fn purge(args: &PurgeArgs, context: &mut Context) -> Result<(), Trouble> {
    if let Some(until) = &args.what.until {
        return purge_before(until, context).await;
    }
    let Some(named) = &args.what.push else { return Ok(()) };
    let id = id(named, context).await?;
    let answer = context.client.operate(Method::DELETE, &["pushes", &id], &[]).await?;
    context.show(&answer.body, |_| vec![format!("purge {}: purged", cell(&id))]);
    Ok(())
}

/// Removes what is old, in as many calls as that takes.
async fn purge_before(until: &str, context: &mut Context) -> Result<(), Trouble> {
    let mut sum = 0;
    loop {
        let answer = context.client.operate(Method::DELETE, &["pushes"], &[("until", until)]).await?;
        let purged: Purged = answer.document()?;
        sum += purged.instances_deleted;
        // One that removes nothing has met what cannot be removed.
        if !purged.more || purged.instances_deleted == 0 {
            let all = Purged { instances_deleted: sum, more: purged.more };
            let document = serde_json::to_string(&all).unwrap_or_default();
            context.show(&document, |_| vec![format!("purge: {sum} purged")]);
            return Ok(());
        }
    }
}

/// One operation on a push, and what came of it in the service's word.
async fn post(
    args: &Args,
    name: &str,
    path: &[&str],
    query: &[(&str, &str)],
    context: &mut Context,
) -> Result<(), Trouble> {
    let id = id(&args.push, context).await?;
    let path = [&["pushes", id.as_str()], path].concat();
    let answer = context.client.operate(Method::POST, &path, query).await?;
    let operated: Operated = answer.document()?;
    let words = match operated.did.as_str() {
        "idle" | "duplicate" => "nothing had to be done",
        "claimed" => "on its way",
        other => other,
    };
    context.show(&answer.body, |_| vec![format!("{name} {}: {}", cell(&id), cell(words))]);
    Ok(())
}

/// The id of a push: the newest one where an image is named.
async fn id(named: &Named, context: &Context) -> Result<String, Trouble> {
    match named {
        Named::Id(id) => Ok(id.clone()),
        Named::Image(_) => Ok(context.push(named).await?.0.instance_id),
    }
}
