//! Where the storage account is and how to be let in: the setting `AzureWebJobsStorage` in all its forms.
//!
//! As in the Functions host, a connection string wins over the identity form. No fault and no `Debug` text ever holds a
//! key, a token, or the connection string they came in.

use std::fmt;

use reqwest::Url;

use super::misspelt::meant;
use super::{Fault, Source, connection_string};
use crate::notify::guard;

pub(super) const SETTING: &str = "AzureWebJobsStorage";
pub(super) const PUBLIC_SUFFIX: &str = "core.windows.net";

/// The names that say where the storage is, as the platform writes them. The last one is the Functions host's own.
pub(super) const NAMES: [&str; 7] = [
    SETTING,
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__tableServiceUri",
    "AzureWebJobsStorage__queueServiceUri",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__blobServiceUri",
];

/// A storage account: both endpoints and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Name of the account; of the first label of the table endpoint's host where the setting names none.
    pub name: String,
    /// Table endpoint without a trailing slash.
    pub tables: String,
    /// Queue endpoint without a trailing slash.
    pub queues: String,
    /// How to be let in.
    pub credential: Credential,
}

/// How to be let in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// Account key, in base64.
    SharedKey(String),
    /// Shared access signature: a query string without its question mark.
    Sas(String),
    /// The app's managed identity.
    Identity(Identity),
}

/// The app's managed identity, as App Service and Functions offer it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Client id of a user-assigned identity; `None` for the system-assigned one.
    pub client_id: Option<String>,
    /// Where tokens are handed out (`IDENTITY_ENDPOINT`).
    pub endpoint: String,
    /// Proof that the caller is the app (`IDENTITY_HEADER`).
    pub header: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedKey(_) => "account key",
            Self::Sas(_) => "shared access signature",
            Self::Identity(Identity { client_id: None, .. }) => "system-assigned identity",
            Self::Identity(Identity { client_id: Some(_), .. }) => "user-assigned identity",
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (tables {}, queues {}, {:?})", self.name, self.tables, self.queues, self.credential)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({self})")
    }
}

/// The names of all storage settings that are given.
pub(super) fn names(source: &Source) -> impl Iterator<Item = &str> {
    let ours = |name: &str| {
        let name = name.to_ascii_lowercase().replace(':', "__");
        name.strip_prefix("azurewebjobsstorage")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic()))
    };
    source.names().filter(move |name| ours(name))
}

/// Whether anything is said about a storage account, be it right or wrong.
#[must_use]
pub fn is_given(source: &Source) -> bool {
    names(source).next().is_some()
}

/// Reads the account from the settings. `None` without a fault when nothing is given; `None` with faults added when what is
/// given cannot work.
pub fn account(source: &Source, faults: &mut Vec<Fault>) -> Option<Account> {
    let before = faults.len();
    let whole = source.get(SETTING);
    let mut misspelt = false;
    for name in names(source).filter(|name| name.len() > SETTING.len()) {
        let part = name[SETTING.len()..].trim_start_matches(['_', ':']);
        let whole_name = name.replace(':', "__");
        let known = NAMES.iter().any(|known| whole_name.eq_ignore_ascii_case(known));
        let parts = NAMES.iter().filter_map(|name| name.strip_prefix(SETTING)?.strip_prefix("__"));
        let problem = match meant(part, parts.clone()) {
            _ if known && whole.is_none() => continue,
            _ if whole.is_some() => format!("has no effect beside {SETTING}: leave one of the two out"),
            Some(meant) => {
                misspelt = true;
                format!("is misspelt: write {SETTING}__{meant}")
            }
            None => {
                let parts = parts.collect::<Vec<_>>().join(", ");
                format!("is not used by this service, which knows {SETTING}__ with {parts}")
            }
        };
        faults.push(Fault::hidden(name, problem));
    }
    let read = match whole {
        Some(text) => connection_string::read(text).map_err(|wrong| wrong.into_iter().map(fault).collect()),
        // What is missing then only follows from that.
        None if misspelt => return None,
        None => from_identity_settings(source)?,
    };
    read.map_err(|wrong| faults.extend(wrong)).ok().filter(|_| faults.len() == before)
}

fn fault(problem: String) -> Fault {
    Fault::hidden(SETTING, problem)
}

/// The endpoint of `service` of the account `name`.
pub(super) fn derived(protocol: &str, name: &str, service: &str, suffix: &str) -> Result<String, String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !plain || name.len() < 3 || name.len() > 63 {
        return Err("the account's name is not made of 3 to 24 lower-case letters and digits".into());
    }
    endpoint(&format!("{protocol}://{name}.{service}.{suffix}"))
        .map_err(|problem| format!("the {service} endpoint that follows from it {problem}"))
}

/// Checks an endpoint and spells it as URLs are spelt, so that no blank or capital letter inside it hides its scheme from a
/// later look. Cuts the slashes off its end: with one behind a path the service answers 400 to everything.
pub(super) fn endpoint(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL such as https://account.table.core.windows.net")?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("does not begin with https:// or http:// and a host");
    }
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("holds more than scheme, host and path; a token belongs into SharedAccessSignature");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The name given, or the first label of the table endpoint's host. Where both endpoints are given, an emulator may call its
/// accounts what it likes, but the name stands in a header of every request.
pub(super) fn account_name(given: Option<&str>, tables: &str) -> Result<String, String> {
    let url = Url::parse(tables).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let name = given.or_else(|| host.split('.').next()).unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("the account's name is not made of visible ASCII characters".into());
    }
    Ok(name.to_owned())
}

/// The identity form; `None` when no part of it is given.
fn from_identity_settings(source: &Source) -> Option<Result<Account, Vec<Fault>>> {
    if !is_given(source) {
        return None;
    }
    let setting = |part: &str| format!("{SETTING}__{part}");
    let get = |part: &str| source.get(&setting(part));
    let name = get("accountName");
    let endpoint = |service: &str, part: &str| match (get(part), name) {
        (None, None) => Err(Fault::hidden(
            setting(part),
            format!("is missing; set it, or {SETTING}__accountName for an account of the public cloud"),
        )),
        (None, Some(name)) => derived("https", name, service, PUBLIC_SUFFIX)
            .map_err(|problem| Fault::hidden(setting("accountName"), problem)),
        (Some(given), _) => match endpoint(given) {
            Ok(url) if url.starts_with("http:") && !is_loopback(&url) => {
                Err(Fault::hidden(setting(part), "must begin with https://: a token sent in the clear can be stolen"))
            }
            Ok(url) => Ok(url),
            Err(problem) => Err(Fault::hidden(setting(part), problem)),
        },
    };
    let (tables, queues) = (endpoint("table", "tableServiceUri"), endpoint("queue", "queueServiceUri"));
    let kind = match get("credential") {
        Some(given) if !given.eq_ignore_ascii_case("managedidentity") => Err(Fault::of(
            setting("credential"),
            given,
            "only managedidentity is known here; a connection string is the other way",
        )),
        Some(_) | None => Ok(()),
    };
    let token = match (source.get("IDENTITY_ENDPOINT"), source.get("IDENTITY_HEADER")) {
        (Some(endpoint), Some(_)) if Url::parse(endpoint).is_err() => {
            Err(Fault::hidden("IDENTITY_ENDPOINT", "is not a URL; Azure sets it, leave it alone"))
        }
        (Some(endpoint), Some(header)) => Ok((endpoint.to_owned(), header.to_owned())),
        _ => Err(fault(format!(
            "the settings {SETTING}__… ask for a managed identity, but IDENTITY_ENDPOINT and IDENTITY_HEADER are not both \
             set: Azure sets them once the app has an identity; elsewhere give a connection string"
        ))),
    };
    let account = tables.as_ref().ok().map(|tables| account_name(name, tables).map_err(fault)).transpose();
    Some(match (tables, queues, kind, token, account) {
        (Ok(tables), Ok(queues), Ok(()), Ok((endpoint, header)), Ok(Some(name))) => {
            let client_id = get("clientId").map(str::to_owned);
            let credential = Credential::Identity(Identity { client_id, endpoint, header });
            Ok(Account { name, tables, queues, credential })
        }
        (tables, queues, kind, token, account) => {
            let mut wrong: Vec<Fault> =
                [tables.err(), queues.err(), kind.err(), token.err(), account.err()].into_iter().flatten().collect();
            // The account's name spoils both endpoints alike.
            wrong.dedup();
            Err(wrong)
        }
    })
}

/// Whether the endpoint is on this machine.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    Url::parse(endpoint).is_ok_and(|url| guard::is_loopback(&url))
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
