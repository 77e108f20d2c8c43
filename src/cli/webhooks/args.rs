//! The arguments of `webhooks`. Key and URL are read later: what is wrong with a value of clap's is told with the value.

use std::time::Duration;

use clap::Subcommand;

use crate::api::ACTIONS;
use crate::cli::azure::Access;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Show what `apply` would do, and change nothing
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// Create and correct the webhooks, one for each region of the registry, after showing what will be done
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(ApplyArgs),
    /// Delete the webhooks that `apply` made
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(RemoveArgs),
}

const PLAN_EXAMPLES: &str = "Examples:
  global-webhook webhooks plan --registry contoso --key @key.txt --url https://app.azurewebsites.net/api/ImagePush
  global-webhook webhooks plan … --check     in a pipeline: the exit code is 3 if anything differs

Exit codes: 0 shown, 1 it failed, 2 wrong arguments, 3 something would be done (with --check only).";

const APPLY_EXAMPLES: &str = "Examples:
  global-webhook webhooks apply --registry contoso --key @key.txt --url https://app.azurewebsites.net/api/ImagePush
  WebhookKey=… global-webhook webhooks apply --registry contoso --url … --yes       in a pipeline
  global-webhook webhooks apply --registry contoso --url … --key @key.txt --prune           after a replica was removed

Exit codes: 0 done, or nothing to do; 1 it failed or was not confirmed; 2 wrong arguments.";

const REMOVE_EXAMPLES: &str = "Examples:
  global-webhook webhooks remove --registry contoso
  global-webhook webhooks remove --registry contoso --prefix staging --yes

Exit codes: 0 done, or nothing to do; 1 it failed or was not confirmed; 2 wrong arguments.";

#[derive(clap::Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    #[command(flatten)]
    pub(super) wanted: WantedArgs,
    /// End with code 3 if anything would be done or stands in the way
    #[arg(long)]
    pub(super) check: bool,
}

#[derive(clap::Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    #[command(flatten)]
    pub(super) wanted: WantedArgs,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    pub(super) yes: bool,
}

#[derive(clap::Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    /// Only webhooks that send to this address, whatever its query [default: all that `apply` made]
    #[arg(long)]
    pub(super) url: Option<String>,
    /// Do not ask; needed where nobody can answer
    #[arg(long, short)]
    pub(super) yes: bool,
}

/// Which registry, and how to get at it.
#[derive(clap::Args)]
pub(super) struct PlaceArgs {
    /// The registry: its name, its login server, or its resource id
    #[arg(long)]
    pub(super) registry: String,
    #[command(flatten)]
    pub(super) access: Access,
    /// Longest time for the whole command, such as 90s or 15m, without the time for your answer
    #[arg(long, default_value = "15m", value_parser = crate::config::timespan::with_unit)]
    pub(super) timeout: Duration,
    /// Print JSON for scripts in place of the table
    #[arg(long)]
    pub(super) json: bool,
}

/// What is wanted of each webhook.
#[derive(clap::Args)]
pub(super) struct WantedArgs {
    /// Address of ImagePush, without `region`; a function key may stand in it as `code`
    #[arg(long)]
    pub(super) url: String,
    /// Function key of ImagePush, or @FILE to read it from one; sent as the header x-functions-key [default:
    /// WebhookKey of the environment]
    // A key may begin with a hyphen, and what clap does not take for a value it prints.
    #[arg(long, allow_hyphen_values = true)]
    pub(super) key: Option<String>,
    /// The service asks for no key
    #[arg(long, conflicts_with = "key")]
    pub(super) no_key: bool,
    /// Which images: `repository:*`, `repository:tag`, or `repository`, which is its tag `latest` only [default: all]
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) scope: String,
    /// What is reported, separated by commas
    #[arg(long, value_parser = ACTIONS, value_delimiter = ',', default_value = "push")]
    pub(super) actions: Vec<String>,
    /// Delete the webhooks of regions where the registry has no replica any more; without it they are only shown
    #[arg(long)]
    pub(super) prune: bool,
}
