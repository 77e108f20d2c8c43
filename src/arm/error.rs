//! What can go wrong with a call, told so that a reader knows who must act.

use std::fmt;

use serde_json::Value;

/// Most characters of a stranger's message that are kept.
const MESSAGE_CHARS_MAX: usize = 2000;

/// See the module. The texts hold words of strangers, control characters included, and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No token: whoever runs the command must sign in.
    Credential(String),
    /// ARM refused a call.
    Refused {
        /// HTTP status; of the answer that told it.
        status: u16,
        /// ARM's word, such as `AuthorizationFailed`; empty where it gave none.
        code: String,
        /// ARM's sentence.
        message: String,
        /// What was asked, in a few words, such as "read the registry".
        call: String,
        /// ARM's id of the call, for a support request; empty where it gave none.
        correlation: String,
    },
    /// No answer, or not a whole one. Whether a change was made is not known.
    Unreachable(String),
    /// An answer that nothing can be made of, or that points to another host.
    Odd(String),
    /// It took too long. Whether a change was made is not known.
    Slow(String),
    /// What ARM had accepted failed.
    Failed(String),
    /// There is no such registry, or it is not unambiguous.
    NoRegistry(String),
}

impl Error {
    /// Whether ARM refused with this status and code.
    pub(super) fn is(&self, wanted: u16, words: &str) -> bool {
        matches!(self, Self::Refused { status, code, .. } if *status == wanted && code.eq_ignore_ascii_case(words))
    }

    /// The status with which ARM refused.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let Self::Refused { status, .. } = self else { return None };
        Some(*status)
    }

    /// Whether every further call will fail the same way, so that there is no use in going on.
    #[must_use]
    pub fn is_of_all_calls(&self) -> bool {
        match self {
            Self::Credential(_) | Self::Unreachable(_) => true,
            Self::Refused { status, .. } => matches!(status, 401 | 403 | 429),
            Self::Odd(_) | Self::Slow(_) | Self::Failed(_) | Self::NoRegistry(_) => false,
        }
    }
}

/// Code and message of an error, which most services wrap in `error` and some do not. `hide` takes secrets out, before anything
/// is cut: half a key is one too.
pub(super) fn code_and_message(body: &Value, hide: impl Fn(String) -> String) -> (String, String) {
    let error = body.get("error").filter(|error| error.is_object()).unwrap_or(body);
    let text = |name: &str| {
        let said = error.get(name).and_then(Value::as_str).unwrap_or_default();
        one_line(&hide(said.to_owned()))
    };
    let (mut code, mut message) = (text("code"), text("message"));
    if code.is_empty() {
        // A bare word: {"error":"…","error_description":"…"}.
        let said = body.get("error").and_then(Value::as_str).unwrap_or_default();
        code = one_line(&hide(said.to_owned()));
    }
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten().take(3);
    for detail in details.filter_map(|detail| detail.get("message").and_then(Value::as_str)) {
        let detail = hide(detail.to_owned());
        if !message.contains(&detail) {
            message = one_line(format!("{message} {detail}").trim());
        }
    }
    (code, message)
}

/// A stranger's sentence, cut, and on one line, so that no part of it can pass for one of ours.
pub(super) fn one_line(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS_MAX).map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Refused { status, code, message, call, correlation } = self else {
            let (Self::Credential(text)
            | Self::Unreachable(text)
            | Self::Odd(text)
            | Self::Slow(text)
            | Self::Failed(text)
            | Self::NoRegistry(text)
            | Self::Refused { message: text, .. }) = self;
            return f.write_str(text);
        };
        let code = if code.is_empty() { String::new() } else { format!(" {code}") };
        write!(f, "Azure refused to {call} ({status}{code})")?;
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        if let Some(to_do) = to_do(*status, code.trim()) {
            write!(f, "\n  {to_do}")?;
        }
        if !correlation.is_empty() {
            write!(f, "\n  Azure's id of this call: {correlation}")?;
        }
        Ok(())
    }
}

/// Who must do what.
fn to_do(status: u16, code: &str) -> Option<&'static str> {
    Some(match (status, code) {
        (401, _) => {
            "The token was refused: sign in again (`az login`), to the tenant of the registry's subscription; \
             --subscription names it, --cloud another Azure than the public one."
        }
        (403, _) => {
            "An owner of the registry must give you a role on it:\n  \
             - to apply and to remove: \"Container Registry Contributor and Data Access Configuration Administrator\" \
             (3bc748fc-213d-45c1-8d91-9da5725539b9)\n  \
             - for `plan` alone: \"Container Registry Configuration Reader and Data Access Configuration Reader\" \
             (69b07be0-09bf-439a-b9a6-e73de851bd59)\n  \
             or a custom role with the action that is named above. A new role takes some minutes to be seen."
        }
        (404, "RegistryResourceNotFound") => {
            "The registry does not know this region yet: if its replica was just made, run the command again in some minutes."
        }
        (404, "SubscriptionNotFound" | "ResourceGroupNotFound" | "ResourceNotFound" | "NotFound") => {
            "Check --registry, --subscription and --resource-group; what you may not see looks as if it were not there."
        }
        (409, "MissingSubscriptionRegistration") => {
            "An owner of the subscription must register the provider: `az provider register --namespace \
             Microsoft.ContainerRegistry`."
        }
        (409, "InvalidResourceLocation") => {
            "A webhook of that name has come into being in another region meanwhile; run the command again to see it."
        }
        (429, _) => "Azure limits the calls of each identity: run the command again in some minutes.",
        (500.., _) => "That is Azure's own trouble: run the command again later; nothing is done twice.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_come_in_several_shapes() {
        for (body, code, message) in [
            (json!({"error":{"code":"C","message":"m"}}), "C", "m"),
            (json!({"code":"C","message":"m"}), "C", "m"),
            (json!({"error":{"code":"C","message":"m","details":[{"message":"d"},{"message":"m"}]}}), "C", "m d"),
            (json!({"error":"invalid_request"}), "invalid_request", ""),
            (json!("text"), "", ""),
            (json!(null), "", ""),
        ] {
            assert_eq!(code_and_message(&body, |text| text), (code.to_owned(), message.to_owned()), "{body}");
        }
        let lines = json!({"code":"C","message":"m\r\nerror: x"});
        assert_eq!(code_and_message(&lines, |text| text).1, "m  error: x");
        let long = json!({"error":{"code":"C","message":"x".repeat(10_000)}});
        assert_eq!(code_and_message(&long, |text| text).1.len(), MESSAGE_CHARS_MAX);
        let at_the_end = json!({"error":{"code":"C","message":format!("{}s3cret", "x".repeat(MESSAGE_CHARS_MAX - 3))}});
        let (_, message) = code_and_message(&at_the_end, |text| text.replace("s3cret", "-"));
        assert!(message.ends_with("x-"), "{message}");
    }
}
