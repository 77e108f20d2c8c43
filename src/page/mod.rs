//! The page: a frame that holds no data, and fragments that its script puts into it. Everything is drawn from the documents of
//! [`crate::api`]; nothing here reads a row, a store or a setting.
//!
//! Guarantees
//! - *Nothing from elsewhere.* Style and script are named in the page's policy by their hashes; there are no style attributes, no
//!   handlers in markup, and no other origin.
//! - *Text of strangers is text.* `maud` escapes it, and `words` keeps it from steering what stands around it.
//! - *The same data is the same markup*, whatever the time: what counts down or up is filled in by the script.

pub mod confirm;
pub mod filters;
pub mod list;
mod matrix;
pub mod push;
pub mod regions;
mod shell;
mod timeline;
mod verdict;
mod words;

#[cfg(test)]
mod foreign_tests;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use sha2::{Digest, Sha256};

use crate::clock::Instant;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page without any data.
#[must_use]
pub fn shell() -> &'static str {
    static PAGE: LazyLock<String> = LazyLock::new(|| shell::render(STYLE, SCRIPT));
    &PAGE
}

/// The page's content security policy.
#[must_use]
pub fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let [style, script] = [STYLE, SCRIPT].map(|text| STANDARD.encode(Sha256::digest(text)));
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// What the script wants to know of a fragment.
struct Fragment<'a> {
    /// Which view it is.
    view: &'a str,
    /// What the window's title begins with.
    title: &'a str,
    /// The service's time, against which countdowns run.
    now: Instant,
    /// Whether something is under way, so that it is worth asking again soon.
    busy: bool,
}

/// A view as it is sent.
fn fragment(about: &Fragment, body: &Markup) -> String {
    let now = crate::api::time(about.now);
    html! { article data-view=(about.view) data-title=(about.title) data-now=(now) data-busy=(about.busy) { (body) } }
        .into_string()
}

/// Why what was asked for cannot be shown, with `out` as the address that asks for nothing in particular.
fn refused(why: &str, out: &str) -> Markup {
    html! {
        div.notice.bad role="alert" { (words::icon("stop")) p { b { "That cannot be looked for." } " " (words::foreign(why)) } }
        p { a.button href=(out) data-escape="" { "Clear the filters" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_and_script_stand_in_the_page_as_the_policy_names_them() {
        assert!(
            shell().contains(&format!("<style>{STYLE}</style>"))
                && shell().contains(&format!("<script>{SCRIPT}</script>"))
        );
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("</s") && !text.contains("<!--"), "it would end its element");
        }
        for word in [" style=", " onclick=", "http://", "//cdn", "unsafe-", "innerHTML", "eval("] {
            assert!(!shell().contains(word), "{word}");
        }
    }
}
