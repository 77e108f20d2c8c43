//! Connection strings of storage accounts.
//!
//! Guarantee: every part is used, left to the service it is for (blobs, files), or refused. A fault names a part only where
//! that cannot be a key or a token: by its place, and by its name where it looks like one.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;

use super::misspelt::meant;
use super::storage::{Account, Credential, PUBLIC_SUFFIX, account_name, derived, endpoint};

/// The emulator's account; its name and key are published and the same everywhere.
pub(super) const EMULATOR: &str = "devstoreaccount1";
const EMULATOR_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The parts that are used.
const PARTS: [&str; 9] = [
    "UseDevelopmentStorage",
    "DevelopmentStorageProxyUri",
    "AccountName",
    "AccountKey",
    "SharedAccessSignature",
    "DefaultEndpointsProtocol",
    "EndpointSuffix",
    "TableEndpoint",
    "QueueEndpoint",
];

/// The parts that are for other services; the Functions host uses some.
const OTHERS: [&str; 4] = ["BlobEndpoint", "BlobSecondaryEndpoint", "FileEndpoint", "FileSecondaryEndpoint"];

/// Values by the names of [`PARTS`].
struct Parts<'a>(BTreeMap<&'static str, &'a str>);

impl<'a> Parts<'a> {
    /// The `key=value` parts of a connection string. A value may hold `=`. A misspelt key counts as what is meant, so that
    /// nothing is reported that only follows from it.
    fn of(text: &'a str, wrong: &mut Vec<String>) -> Self {
        let mut parts = BTreeMap::new();
        let filled = text.split(';').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty());
        for (number, part) in filled.map(|(index, part)| (index + 1, part)) {
            let Some((key, value)) = part.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                wrong.push(format!("part {number} has no ="));
                continue;
            };
            if OTHERS.iter().any(|other| other.eq_ignore_ascii_case(key)) {
                continue;
            }
            let known = PARTS.into_iter().find(|known| known.eq_ignore_ascii_case(key));
            let near = meant(key, PARTS);
            if known.is_none() {
                let named = near.is_some() || (key.len() <= 32 && key.bytes().all(|b| b.is_ascii_alphabetic()));
                let name = if named { format!(" ({key:?})") } else { String::new() };
                let right = near.map_or("is not used by this service: take it out".to_owned(), |near| {
                    format!("is misspelt: write {near}")
                });
                wrong.push(format!("part {number}{name} {right}"));
            }
            if let Some(key) = known.or(near)
                && parts.insert(key, value).is_some()
            {
                wrong.push(format!("part {number} repeats the key of an earlier part"));
            }
        }
        Self(parts)
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied().filter(|value| !value.is_empty())
    }

    fn emulator(&self, flag: &str, wrong: &mut Vec<String>) -> Option<Account> {
        if !flag.eq_ignore_ascii_case("true") {
            wrong.push("UseDevelopmentStorage can only be true; leave it out to use a storage account".into());
        }
        for part in &PARTS[2..] {
            if self.get(part).is_some() {
                wrong.push(format!("its {part} has no effect beside UseDevelopmentStorage: leave one of the two out"));
            }
        }
        let at = match self.get("DevelopmentStorageProxyUri").map(endpoint).transpose() {
            Ok(at) => at.unwrap_or_else(|| "http://127.0.0.1".into()),
            Err(problem) => {
                wrong.push(format!("its DevelopmentStorageProxyUri {problem}"));
                return None;
            }
        };
        // The ports are the emulator's, as in .NET, which drops what else there is.
        if Url::parse(&at).is_ok_and(|url| url.port().is_some() || url.path() != "/") {
            wrong.push("its DevelopmentStorageProxyUri holds more than scheme and host, such as http://azurite".into());
        }
        Some(Account {
            name: EMULATOR.into(),
            tables: format!("{at}:10002/{EMULATOR}"),
            queues: format!("{at}:10001/{EMULATOR}"),
            credential: Credential::SharedKey(EMULATOR_KEY.into()),
        })
    }

    fn credential(&self) -> Result<Credential, &'static str> {
        match (self.get("AccountKey"), self.get("SharedAccessSignature")) {
            (Some(_), Some(_)) => Err("it has both AccountKey and SharedAccessSignature: leave one of the two out"),
            (Some(key), None) if STANDARD.decode(key).is_err() => {
                Err("its AccountKey is not base64; copy the whole key, with the = at its end")
            }
            (Some(_), None) if self.get("AccountName").is_none() => Err("it has an AccountKey but no AccountName"),
            (Some(key), None) => Ok(Credential::SharedKey(key.to_owned())),
            (None, Some(sas)) => {
                let sas = sas.trim_start_matches('?');
                let signed = sas.split('&').any(|pair| pair.starts_with("sig="));
                signed
                    .then(|| Credential::Sas(sas.to_owned()))
                    .ok_or("its SharedAccessSignature has no sig=; copy the whole token")
            }
            (None, None) => {
                Err("it has neither AccountKey nor SharedAccessSignature; give a whole connection string, \
                 or UseDevelopmentStorage=true for the emulator")
            }
        }
    }

    /// The protocol and the suffix that endpoints are made with.
    fn cloud(&self, wrong: &mut Vec<String>) -> (&'static str, &'a str) {
        let given = self.get("DefaultEndpointsProtocol").unwrap_or("https");
        let protocol = ["https", "http"].into_iter().find(|known| given.eq_ignore_ascii_case(known));
        if protocol.is_none() {
            wrong.push("its DefaultEndpointsProtocol is neither https nor http".into());
        }
        let given = self.get("EndpointSuffix").unwrap_or(PUBLIC_SUFFIX);
        let host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
        let suffix = Some(given).filter(|suffix| suffix.bytes().all(host));
        if suffix.is_none() {
            wrong.push(format!("its EndpointSuffix is not a host name such as {PUBLIC_SUFFIX}"));
        }
        (protocol.unwrap_or("https"), suffix.unwrap_or(PUBLIC_SUFFIX))
    }

    /// The endpoint that is named by `key`, or the one that follows from account, protocol and suffix.
    fn endpoint(&self, key: &str, service: &str, (protocol, suffix): (&str, &str)) -> Result<String, String> {
        match (self.get(key), self.get("AccountName")) {
            (Some(given), _) => endpoint(given).map_err(|problem| format!("its {key} {problem}")),
            (None, Some(name)) => derived(protocol, name, service, suffix),
            (None, None) => Err(format!("it has neither AccountName nor {key}")),
        }
    }
}

/// Reads a connection string.
///
/// # Errors
/// All that is wrong with it.
pub(super) fn read(text: &str) -> Result<Account, Vec<String>> {
    let mut wrong = Vec::new();
    let parts = Parts::of(text, &mut wrong);
    if parts.0.is_empty() {
        return Err(vec![format!(
            "is no connection string, which looks like AccountName=…;AccountKey=…;EndpointSuffix={PUBLIC_SUFFIX}, \
             or is UseDevelopmentStorage=true for the emulator"
        )]);
    }
    let account = match parts.get("UseDevelopmentStorage") {
        Some(flag) => parts.emulator(flag, &mut wrong),
        None => {
            let cloud = parts.cloud(&mut wrong);
            if parts.get("DevelopmentStorageProxyUri").is_some() {
                wrong.push("its DevelopmentStorageProxyUri has no effect without UseDevelopmentStorage=true".into());
            }
            let mut kept = |problem: String| {
                // The account's name spoils both endpoints alike.
                if !wrong.contains(&problem) {
                    wrong.push(problem);
                }
            };
            let credential = parts.credential().map_err(|problem| kept(problem.into())).ok();
            let tables = parts.endpoint("TableEndpoint", "table", cloud).map_err(&mut kept).ok();
            let queues = parts.endpoint("QueueEndpoint", "queue", cloud).map_err(&mut kept).ok();
            let name = tables.as_ref().and_then(|t| account_name(parts.get("AccountName"), t).map_err(&mut kept).ok());
            credential.zip(tables).zip(queues).zip(name).map(|(((credential, tables), queues), name)| Account {
                name,
                tables,
                queues,
                credential,
            })
        }
    };
    account.filter(|_| wrong.is_empty()).ok_or(wrong)
}
