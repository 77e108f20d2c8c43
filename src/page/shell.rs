//! The frame: what is there before there is any data.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::words;

/// Marks, each drawn in a square of 16.
const ICONS: [(&str, &str); 10] = [
    ("check", "M14 4.2 6.4 12 2 7.8l1.4-1.4 3 2.9 6.200-6.500z"),
    (
        "cross",
        "M3.500 2 8 6.500 12.500 2 14 3.500 9.500 8l4.500 4.500-1.500 1.500L8 9.500 3.500 14 2 12.500 6.500 8 2 3.500z",
    ),
    ("stop", "M1 1h14v14H1zM5 3.800 3.800 5l3 3-3 3L5 12.200l3-3 3 3 1.200-1.200-3-3 3-3L11 3.800l-3 3z"),
    (
        "wait",
        "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.800a5.200 5.200 0 1 1 0 10.400A5.200 5.200 0 0 1 8 2.800zM7.100 4.400v4.200l3.100 1.900.9-1.400-2.300-1.400V4.400z",
    ),
    ("warn", "M8 1 15.600 14.600H.4zM7.100 6v4.200h1.800V6zm0 5.400v1.700h1.800v-1.700z"),
    ("back", "M8 2a6 6 0 0 1 6 6h2l-3 3.600L10 8h2.200A4.200 4.200 0 1 0 8 12.200V14A6 6 0 1 1 8 2z"),
    ("on", "M9 3.400 14.600 8 9 12.600V9H6a3 3 0 0 0-3 3v2H1.200v-2A4.800 4.800 0 0 1 6 7.200h3z"),
    ("first", "M8 2.500 13.500 8 8 13.500 2.500 8z"),
    ("hand", "m11.400 1.400 3.200 3.200-9 9-4.200.9 1-4.200zm0 2.500L4 11.200l-.3 1.200 1.200-.3 7.300-7.300z"),
    ("copy", "M5 1h9v10h-3v4H2V5h3zm1.500 1.500V5H11v4.500h1.500v-7zm-3 4v7h6v-7z"),
];

const KEYS: [(&str, &str); 7] = [
    ("/", "find a repository"),
    ("j", "next push"),
    ("k", "push before"),
    ("Enter", "open"),
    ("r", "refresh"),
    ("?", "these keys"),
    ("Escape", "back, close, or clear filters that find nothing"),
];

pub(super) fn render(style: &str, script: &str) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Global webhook" }
                link rel="icon" href="data:,";
                style { (PreEscaped(style)) }
            }
            body {
                svg.sr width="0" height="0" aria-hidden="true" {
                    @for (name, path) in ICONS { symbol id=(format!("i-{name}")) viewBox="0 0 16 16"
                        { path d=(path) fill-rule="evenodd" {} } }
                }
                a.skip.button href="#main" { "Skip to content" }
                header.bar {
                    strong { "global-webhook " span.muted #host {} }
                    nav aria-label="Views" { a href="?" data-for="list" { "Pushes" } a href="?view=regions"
                        data-for="regions" { "Regions" } }
                    div.fresh {
                        span #fresh {}
                        button #pause type="button" aria-pressed="false" { "Pause" }
                        button #theme type="button" { "Theme: auto" }
                        button #forget type="button" hidden { "Forget the key" }
                    }
                }
                div.trouble #trouble {}
                p.sr #news role="status" aria-live="polite" {}
                button.new #new type="button" hidden {}
                main #main tabindex="-1" {
                    noscript { p {
                        "This page needs its script, which is its own and comes with it. Without one there is the command line of this program, and " code { "/api/pushes" } "." } }
                }
                footer {
                    "Times in " button.plain #zone type="button" { "UTC" } " · "
                    kbd { "/" } " find · " kbd { "j" } " " kbd { "k" } " next, previous push · " kbd { "Enter" }
                        " open · " kbd { "r" } " refresh · " kbd { "?" } " "
                    button.plain #keys type="button" { "all keys" }
                }
                dialog #confirm aria-labelledby="confirm-title" {}
                (help())
                (key())
                script { (PreEscaped(script)) }
            }
        }
    }
    .into_string()
}

fn help() -> Markup {
    html! {
        dialog #help aria-labelledby="help-title" {
            form method="dialog" {
                h2 id="help-title" { "Keys" }
                dl.facts { @for (key, what) in KEYS { dt { kbd { (key) } } dd { (what) } } }
                label.choice { input #keyed type="checkbox" checked; span { "Keys are on" } }
                p.muted { "None acts while you type, and none alone does harm." }
                footer { button autofocus { "Close" } }
            }
        }
    }
}

fn key() -> Markup {
    html! {
        dialog #ask aria-labelledby="ask-title" {
            form method="dialog" {
                h2 id="ask-title" { "Key wanted" }
                div.notice.bad #refused role="alert" hidden {}
                p { "This page holds no data. To read some, it needs the operators' key." }
                label.field { "Key" input #key type="password" autocomplete="off" spellcheck="false" required; }
                p.small.muted
                    { "Kept for this tab only, sent as a header, never part of an address. A link may bring it after "
                        code { "#key=" } "." }
                details {
                    summary { "Where is it?" }
                    p { "Under the Functions host it is that of the function Pushes:" }
                    (words::command("az functionapp function keys list -g <group> -n <app> --function-name Pushes --query default -o tsv"))
                    p { "Alone, it is what " code { "WebhookOperatorKey" } " was set to." }
                }
                footer { button.primary value="go" { "Open" } }
            }
        }
    }
}
