//! Where the storage account is and how to be let in: the setting `AzureWebJobsStorage` in all its forms.
//!
//! As in the Functions host, a connection string wins over the identity form. No fault and no `Debug` text ever holds a
//! key, a token, or the connection string they came in.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;

use super::{Fault, Source};

const SETTING: &str = "AzureWebJobsStorage";
const PUBLIC_SUFFIX: &str = "core.windows.net";

/// The emulator's account; its name and key are published and the same everywhere.
const EMULATOR: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

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

/// Reads the account from the settings. `None` without a fault when nothing is given; `None` with faults added when what is
/// given cannot work.
pub fn account(source: &Source, faults: &mut Vec<Fault>) -> Option<Account> {
    let read = match source.get(SETTING) {
        Some(text) => from_connection_string(text),
        None => from_identity_settings(source)?,
    };
    match read {
        Ok(account) => Some(account),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

fn fault(problem: impl Into<String>) -> Fault {
    Fault::hidden(SETTING, problem)
}

fn from_connection_string(text: &str) -> Result<Account, Fault> {
    let parts = parts(text)?;
    let get = |key: &str| parts.get(key).copied().filter(|v| !v.is_empty());
    if let Some(flag) = get("usedevelopmentstorage") {
        return if flag.eq_ignore_ascii_case("true") {
            Ok(emulator())
        } else {
            Err(fault("UseDevelopmentStorage can only be true; leave it out to use a storage account"))
        };
    }
    let name = get("accountname");
    let credential = match (get("accountkey"), get("sharedaccesssignature")) {
        (Some(key), _) => {
            if STANDARD.decode(key).is_err() {
                return Err(fault("its AccountKey is not base64; copy the whole key, with the = at its end"));
            }
            if name.is_none() {
                return Err(fault("it has an AccountKey but no AccountName"));
            }
            Credential::SharedKey(key.to_owned())
        }
        (None, Some(sas)) => {
            let sas = sas.trim_start_matches('?');
            if !sas.split('&').any(|pair| pair.starts_with("sig=")) {
                return Err(fault("its SharedAccessSignature has no sig=; copy the whole token"));
            }
            Credential::Sas(sas.to_owned())
        }
        (None, None) => {
            return Err(fault(
                "it has neither AccountKey nor SharedAccessSignature; give a whole connection string, \
                 or UseDevelopmentStorage=true for the emulator",
            ));
        }
    };
    let tables = part_endpoint(&parts, "TableEndpoint", "table", name)?;
    let queues = part_endpoint(&parts, "QueueEndpoint", "queue", name)?;
    let name = account_name(name, &tables)?;
    Ok(Account { name, tables, queues, credential })
}

/// The `key=value` parts of a connection string, keys in lower case. A value may hold `=`.
fn parts(text: &str) -> Result<BTreeMap<String, &str>, Fault> {
    let mut parts = BTreeMap::new();
    for (number, part) in text.split(';').enumerate().filter(|(_, part)| !part.trim().is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(fault(format!(
                "part {} has no =; a connection string looks like AccountName=…;AccountKey=…;EndpointSuffix={PUBLIC_SUFFIX}",
                number + 1
            )));
        };
        if parts.insert(key.trim().to_lowercase(), value.trim()).is_some() {
            return Err(fault(format!("part {} repeats the key of an earlier part", number + 1)));
        }
    }
    Ok(parts)
}

/// The endpoint a connection string names, or the one that follows from account, protocol and suffix.
fn part_endpoint(
    parts: &BTreeMap<String, &str>,
    key: &str,
    service: &str,
    name: Option<&str>,
) -> Result<String, Fault> {
    let get = |key: &str| parts.get(&key.to_lowercase()).copied().filter(|v| !v.is_empty());
    if let Some(given) = get(key) {
        return endpoint(given).map_err(|problem| fault(format!("its {key} {problem}")));
    }
    let Some(name) = name else {
        return Err(fault(format!("it has neither AccountName nor {key}")));
    };
    let protocol = get("DefaultEndpointsProtocol").unwrap_or("https");
    if !protocol.eq_ignore_ascii_case("https") && !protocol.eq_ignore_ascii_case("http") {
        return Err(fault("its DefaultEndpointsProtocol is neither https nor http"));
    }
    let suffix = get("EndpointSuffix").unwrap_or(PUBLIC_SUFFIX);
    derived(protocol, name, service, suffix).map_err(fault)
}

/// The endpoint of `service` of the account `name`.
fn derived(protocol: &str, name: &str, service: &str, suffix: &str) -> Result<String, String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !plain || name.len() < 3 || name.len() > 63 {
        return Err("the account's name is not made of 3 to 24 lower-case letters and digits".into());
    }
    let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    if !suffix.bytes().all(host) {
        return Err(format!("its EndpointSuffix is not a host name such as {PUBLIC_SUFFIX}"));
    }
    endpoint(&format!("{}://{name}.{service}.{suffix}", protocol.to_lowercase()))
        .map_err(|problem| format!("the {service} endpoint that follows from it {problem}"))
}

/// Checks an endpoint and spells it as URLs are spelt, so that no blank or capital letter inside it hides its scheme from a
/// later look. Cuts the slashes off its end: with one behind a path the service answers 400 to everything.
fn endpoint(text: &str) -> Result<String, &'static str> {
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
fn account_name(given: Option<&str>, tables: &str) -> Result<String, Fault> {
    let url = Url::parse(tables).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let name = given.or_else(|| host.split('.').next()).unwrap_or_default();
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fault("the account's name is not made of visible ASCII characters"));
    }
    Ok(name.to_owned())
}

fn emulator() -> Account {
    Account {
        name: EMULATOR.into(),
        tables: format!("http://127.0.0.1:10002/{EMULATOR}"),
        queues: format!("http://127.0.0.1:10001/{EMULATOR}"),
        credential: Credential::SharedKey(EMULATOR_KEY.into()),
    }
}

/// The identity form; `None` when no part of it is given.
fn from_identity_settings(source: &Source) -> Option<Result<Account, Fault>> {
    let get = |part: &str| source.get(&format!("{SETTING}__{part}"));
    let (name, tables, queues) = (get("accountName"), get("tableServiceUri"), get("queueServiceUri"));
    if [name, tables, queues, get("credential"), get("clientId")].iter().all(Option::is_none) {
        return None;
    }
    Some(identity_account(source, name, tables, queues))
}

fn identity_account(
    source: &Source,
    name: Option<&str>,
    tables: Option<&str>,
    queues: Option<&str>,
) -> Result<Account, Fault> {
    let one = |service: &str, part: &str, given: Option<&str>| {
        let setting = format!("{SETTING}__{part}");
        let url = match (given, name) {
            (Some(given), _) => endpoint(given).map_err(|problem| Fault::hidden(&setting, format!("it {problem}")))?,
            (None, Some(name)) => derived("https", name, service, PUBLIC_SUFFIX)
                .map_err(|problem| Fault::hidden(format!("{SETTING}__accountName"), problem))?,
            (None, None) => {
                return Err(Fault::hidden(
                    &setting,
                    format!("is missing; set it, or {SETTING}__accountName for an account of the public cloud"),
                ));
            }
        };
        if url.starts_with("http:") && !is_loopback(&url) {
            return Err(Fault::hidden(&setting, "must begin with https://: a token sent in the clear can be stolen"));
        }
        Ok(url)
    };
    let tables = one("table", "tableServiceUri", tables)?;
    let queues = one("queue", "queueServiceUri", queues)?;
    let kind = format!("{SETTING}__credential");
    if let Some(given) = source.get(&kind).filter(|c| !c.eq_ignore_ascii_case("managedidentity")) {
        return Err(Fault::of(kind, given, "only managedidentity is known here; a connection string is the other way"));
    }
    let (Some(token_endpoint), Some(header)) = (source.get("IDENTITY_ENDPOINT"), source.get("IDENTITY_HEADER")) else {
        return Err(fault(format!(
            "the settings {SETTING}__… ask for a managed identity, but IDENTITY_ENDPOINT and IDENTITY_HEADER are not both set: \
             Azure sets them once the app has an identity; elsewhere give a connection string"
        )));
    };
    if Url::parse(token_endpoint).is_err() {
        return Err(Fault::hidden("IDENTITY_ENDPOINT", "is not a URL; Azure sets it, leave it alone"));
    }
    let credential = Credential::Identity(Identity {
        client_id: source.get(&format!("{SETTING}__clientId")).map(str::to_owned),
        endpoint: token_endpoint.to_owned(),
        header: header.to_owned(),
    });
    let name = account_name(name, &tables)?;
    Ok(Account { name, tables, queues, credential })
}

/// Whether the endpoint is on this machine.
pub(crate) fn is_loopback(endpoint: &str) -> bool {
    let url = Url::parse(endpoint).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
