//! `watch`: pushes as they come and settle. On a terminal a table that is redrawn in place; elsewhere a line for each change.
//!
//! A service that restarts ends nothing: that there is no connection is said once, and looking goes on.

use std::collections::HashMap;
use std::time::Duration;

use super::list::{self, Filter, told};
use super::{Common, Context, Kind, Trouble};
use crate::api::{Item, time};
use crate::cli::table::{self, Look, cell};
use crate::config::timespan::with_unit;

pub(super) const HELP: &str = "\
Ctrl-C ends it. Where standard output is no terminal, each change is a line: when, state, image, regions, what is missing.

Examples:
  global-webhook watch
  global-webhook watch --status waiting,timed_out --repository 'shop/**'
  global-webhook watch --every 10s >> pushes.log

Exit codes:
  0  its reader has gone away
  1  it did not work: a wrong key, a wrong address
  2  wrong arguments";

/// Pushes that are looked at where no terminal says how many there is room for.
const PUSHES: usize = 50;

/// Lines of the picture that are no push: title, head, the cursor's own.
const LINES_BESIDE: usize = 4;

/// Shortest pause between two looks.
const EVERY_MIN: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    filter: Filter,
    /// Pause between two looks, such as 500ms or 10s
    #[arg(long, default_value = "2s", value_parser = parse_pause)]
    every: Duration,
    #[command(flatten)]
    pub(super) common: Common,
}

fn parse_pause(text: &str) -> Result<Duration, String> {
    let pause = with_unit(text)?;
    if pause < EVERY_MIN { Err("the shortest is 200ms".into()) } else { Ok(pause) }
}

pub(super) async fn run(args: &Args, context: &mut Context) -> Result<(), Trouble> {
    if args.common.json {
        let text =
            "`watch` is for people; for a program, `wait --json` waits for one image and `list --json` lists all.";
        return Err(Trouble { kind: Kind::Asked, text: text.to_owned() });
    }
    let mut known = HashMap::new();
    let mut lost = false;
    while !context.screen.is_closed() {
        let look = context.look();
        let room = look.size.map_or(PUSHES, |(_, lines)| usize::from(lines).saturating_sub(LINES_BESIDE).max(1));
        let found = list::find(&args.filter, Some(room), context).await;
        let (now, is_lost) = (time(context.clock.now()), found.is_err());
        match found {
            Ok(found) if context.screen.is_terminal() => {
                context.screen.redraw(&picture(&found.list.pushes, room, look, &now));
            }
            Ok(found) => {
                // Oldest first, as a log is read.
                for push in found.list.pushes.iter().rev() {
                    let line = line(push);
                    if known.get(&push.instance_id) != Some(&line) {
                        context.screen.block(&format!("{now} {line}"));
                        known.insert(push.instance_id.clone(), line);
                    }
                }
                let listed = |id: &String| found.list.pushes.iter().any(|push| push.instance_id == *id);
                known.retain(|id, _| listed(id));
            }
            Err(trouble) if trouble.kind != Kind::Passing => return Err(trouble),
            Err(trouble) if !lost => {
                context.screen.note(&format!("{}; looking goes on.", trouble.text.trim_end_matches('.')));
            }
            Err(_) => {}
        }
        lost = is_lost;
        context.clock.sleep(args.every).await;
    }
    Ok(())
}

/// As many lines as there is room for, none of which wraps.
fn picture(pushes: &[Item], room: usize, look: Look, now: &str) -> Vec<String> {
    let width = look.size.map_or(usize::MAX, |(width, _)| usize::from(width));
    let title = format!("{} pushes at {}; Ctrl-C ends this.", pushes.len(), table::time(now));
    let mut lines = vec![title.chars().take(width).collect(), String::new()];
    if pushes.is_empty() {
        lines.push("No push fits.".to_owned());
    } else {
        lines.extend(look.lines(&list::head(false), list::rows(pushes, false)));
    }
    lines.truncate(room + LINES_BESIDE - 1);
    lines
}

/// What there is to tell of a push, in one line.
fn line(push: &Item) -> String {
    let status = &push.status;
    let all = status.regions.len();
    let missing =
        if status.missing.is_empty() { String::new() } else { format!(" missing {}", status.missing.join(",")) };
    let told = told(push);
    let told = if told == "-" { String::new() } else { format!(" told {told}") };
    let image = table::image(&status.registry, &status.image);
    let has = all - status.missing.len().min(all);
    format!("{} {image} {has}/{all}{}{}", status.state.word(), cell(&missing), cell(&told))
}
