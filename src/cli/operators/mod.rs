//! Commands of operators and pipelines, over the service's API. Each is a few calls and a way to show what they say.
//!
//! Exit codes, the same for all: 0 done; 1 it did not work; 2 what was asked for cannot be asked for; 3 and 5 are
//! [`wait`]'s; 4 there is no such push, target or region.

mod list;
mod operate;
mod regions;
mod show;
mod wait;
mod watch;

use std::process::ExitCode;
use std::str::FromStr;

use clap::CommandFactory as _;

use super::client::{Answer, Client, Connection, Kind, Trouble};
use super::screen::Screen;
use super::table::{self, Look};
use crate::api::Push;
use crate::clock::{Clock, SystemClock};
use crate::config::Source;
use crate::push::{Image, Key, PushId};

/// The end of the program's help.
pub(super) const HELP: &str = "\
Examples:
  global-webhook serve --print --regions northeurope,westus
  global-webhook list --status waiting,timed_out
  global-webhook wait contoso.azurecr.io/shop/cart:1.4.2 --timeout 10m

Environment: GLOBAL_WEBHOOK_URL and GLOBAL_WEBHOOK_KEY stand for --url and --key.

Exit codes:
  0  done
  1  it did not work
  2  wrong arguments or settings
  3  `wait`: not everywhere in time
  4  there is no such push, target or region; `wait`: never seen, or purged meanwhile
  5  `wait`: the tag carries another image by now";

/// The commands.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List pushes, newest first
    #[command(after_help = list::HELP)]
    List(list::Args),
    /// Show what is known of a push
    #[command(after_help = show::HELP)]
    Show(show::Args),
    /// Watch pushes as they come and settle
    #[command(after_help = watch::HELP)]
    Watch(watch::Args),
    /// Wait until an image is in every region
    #[command(after_help = wait::HELP)]
    Wait(wait::Args),
    /// Send the notifications of a push again
    #[command(after_help = operate::REDELIVER_HELP)]
    Redeliver(operate::RedeliverArgs),
    /// End the wait of a push, as if its deadline were now
    #[command(after_help = operate::TERMINATE_HELP)]
    Terminate(operate::Args),
    /// Remove a push that has settled and owes nothing, or all such that are old
    #[command(after_help = operate::PURGE_HELP)]
    Purge(operate::PurgeArgs),
    /// Report a region by hand: you looked, and the image is there
    #[command(after_help = operate::REPORT_HELP)]
    Report(operate::ReportArgs),
    /// Say how the regions are doing
    #[command(after_help = regions::HELP)]
    Regions(regions::Args),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

const COMPLETIONS_HELP: &str = "\
Examples:
  source <(global-webhook completions bash)
  global-webhook completions zsh > \"${fpath[1]}/_global-webhook\"
  global-webhook completions fish > ~/.config/fish/completions/global-webhook.fish";

/// What all these commands are given.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// Print the service's own document, for programs
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connection: Connection,
}

/// What a command works with.
struct Context {
    client: Client,
    clock: Box<dyn Clock>,
    screen: Screen,
    environment: Source,
    json: bool,
}

impl Context {
    /// What the output can show now.
    fn look(&self) -> Look {
        Look::of_the_process(self.screen.is_terminal(), &self.environment)
    }

    /// A document as it came, or what people are to see of it.
    fn show(&mut self, document: &str, lines: impl FnOnce(Look) -> Vec<String>) {
        let text = if self.json { table::json(document) } else { lines(self.look()).join("\n") };
        self.screen.block(&text);
    }

    /// Asks for a push.
    async fn push(&self, named: &Named) -> Result<(Push, Answer), Trouble> {
        let answer = match named {
            Named::Id(id) => self.client.get(&["pushes", id], &[]).await?,
            Named::Image(image) => self.client.get(&["pushes"], &[("image", &image.to_string())]).await?,
        };
        Ok((answer.document()?, answer))
    }
}

/// How a push is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    /// By its id, or its key for the newest round.
    Id(String),
    /// By its image: the newest push of it.
    Image(Image),
}

impl FromStr for Named {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.parse::<PushId>().is_ok() || text.parse::<Key>().is_ok() {
            return Ok(Self::Id(text.to_owned()));
        }
        text.parse()
            .map(Self::Image)
            .map_err(|why| format!("{why}; or give the push's id, 64 hex digits and its round"))
    }
}

impl Kind {
    /// The exit code.
    fn code(self) -> ExitCode {
        match self {
            Self::Passing | Self::Elsewhere | Self::Refused | Self::Final => ExitCode::FAILURE,
            Self::Asked => ExitCode::from(2),
            Self::Unknown => ExitCode::from(4),
        }
    }
}

/// Runs a command.
pub(super) fn main(command: Command, environment: Source) -> ExitCode {
    let common = match &command {
        Command::List(args) => &args.common,
        Command::Show(args) => &args.common,
        Command::Watch(args) => &args.common,
        Command::Wait(args) => &args.common,
        Command::Redeliver(args) => &args.push.common,
        Command::Terminate(args) => &args.common,
        Command::Purge(args) => &args.common,
        Command::Report(args) => &args.push.common,
        Command::Regions(args) => &args.common,
        Command::Completions { shell } => return completions(*shell),
    };
    let mut connection = common.connection.clone();
    let client = match connection.complete(&environment).and_then(|()| Client::new(&connection)) {
        Ok(client) => client,
        Err(why) => return super::ended(2, &why),
    };
    let (screen, json) = (Screen::of_the_process(), common.json);
    let mut context = Context { client, clock: Box::new(SystemClock), screen, environment, json };
    let ended = match super::runtime() {
        Ok(runtime) => runtime.block_on(run(command, &mut context)),
        Err(text) => Err(Trouble { kind: Kind::Final, text }),
    };
    ended.unwrap_or_else(|trouble| {
        context.screen.error(&trouble.text);
        trouble.kind.code()
    })
}

async fn run(command: Command, context: &mut Context) -> Result<ExitCode, Trouble> {
    match command {
        Command::List(args) => list::run(&args, context).await?,
        Command::Show(args) => show::run(&args, context).await?,
        Command::Watch(args) => watch::run(&args, context).await?,
        Command::Wait(args) => return wait::run(&args, context).await,
        Command::Redeliver(args) => operate::redeliver(&args, context).await?,
        Command::Terminate(args) => operate::terminate(&args, context).await?,
        Command::Purge(args) => operate::purge(&args, context).await?,
        Command::Report(args) => operate::report(&args, context).await?,
        Command::Regions(args) => regions::run(&args, context).await?,
        Command::Completions { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut super::Cli::command(), "global-webhook", &mut text);
    Screen::of_the_process().block(String::from_utf8_lossy(&text).trim_end());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_named_by_its_id_or_its_image() {
        let key = "0123456789abcdef".repeat(4);
        for id in [key.clone(), format!("{key}-2")] {
            assert_eq!(id.parse(), Ok(Named::Id(id)));
        }
        let image = "contoso.azurecr.io/shop/cart:1.4.2";
        assert_eq!(image.parse(), Ok(Named::Image(image.parse().unwrap())));
        let why = "shop".parse::<Named>().unwrap_err();
        assert!(why.contains("registry/repository:tag@digest") && why.contains("64 hex digits"), "{why}");
    }
}
