//! `watch`: pushes as they come and settle. On a terminal a table that is redrawn in place; elsewhere a line for each change.
//!
//! A service that restarts ends nothing: that there is no connection is said once, and looking goes on.

use std::collections::HashMap;
use std::time::Duration;

use super::list::{self, Filter, told};
use super::{Common, Context, Kind, Trouble};
use crate::api::{Item, List, time};
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

/// Characters of a line that are not the image's where everything else is left out: the longest state, and the regions' count.
const OF_THE_REST: usize = "replicated  ".len() + "  REGIONS".len();

/// Fewest characters of an image that say anything.
const IMAGE_MIN: usize = 8;

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
                context.screen.redraw(&picture(&found.list, room, look, &now));
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

/// As many lines as there is room for, none of which wraps; what there was no room for is told.
fn picture(list: &List, room: usize, look: Look, now: &str) -> Vec<String> {
    let width = look.size.map_or(usize::MAX, |(width, _)| usize::from(width));
    let (head, mut rows) = list::table(&list.pushes, false);
    // With state and regions beside it, and the space between them.
    let most = width.saturating_sub(OF_THE_REST).max(IMAGE_MIN);
    for row in &mut rows {
        row[1] = cut(&row[1], most);
    }
    let (head, rows) = look.narrowed((head, rows), &list::DISPENSABLE);
    let mut table = look.lines(&head, rows);
    // Its first line is the head. A name of wide letters may take more than one.
    let is_cut = list.next.is_some() || table.len() > room + 1;
    table.truncate(room + 1);
    let (which, rest) = if is_cut { ("The newest ", " (not all)") } else { ("", "") };
    let title = format!("{which}{} pushes at {}{rest}; Ctrl-C ends this.", list.pushes.len(), table::time(now));
    let mut lines = vec![title.chars().take(width).collect(), String::new()];
    if list.pushes.is_empty() {
        lines.push("No push fits.".to_owned());
    } else {
        lines.extend(table);
    }
    lines
}

/// The end of a text, which tells more of an image than its beginning, in at most so many characters.
fn cut(text: &str, most: usize) -> String {
    let over = text.chars().count().saturating_sub(most);
    match text.char_indices().nth(over + 1) {
        Some((at, _)) if over > 0 => format!("…{}", &text[at..]),
        Some(_) | None => text.to_owned(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_image_is_kept() {
        for (most, text) in
            [(40, "contoso.azurecr.io/shop/cart:1"), (30, "contoso.azurecr.io/shop/cart:1"), (8, "…cart:1é")]
        {
            let image = if most == 8 { "contoso.azurecr.io/shop/cart:1é" } else { "contoso.azurecr.io/shop/cart:1" };
            assert_eq!(cut(image, most), text);
        }
        assert_eq!(cut("", 3), "");
    }
}
