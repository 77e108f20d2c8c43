//! The settings and the storage account that the command itself is given.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::told;
use crate::config::storage as account;
use crate::config::{self, Fault, Source};
use crate::doctor::{Gap, Here, Known, Looked};
use crate::store::azure::{Names, look};

/// The file that `func` reads.
const FILE: &str = "local.settings.json";

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Settings that are given to the command for itself, and say nothing of a deployment.
const OWN: [&str; 2] = ["webhookkey", "webhookoperatorkey"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    #[serde(default)]
    is_encrypted: bool,
    #[serde(default)]
    values: BTreeMap<String, String>,
}

/// The environment, and the file behind it.
pub(super) fn source(file: Option<&Path>, environment: &Source) -> Known<Source> {
    let path = file.unwrap_or(Path::new(FILE));
    let correct = "Correct the file, or name another one with --settings.";
    let text = match std::fs::metadata(path) {
        Err(_) if file.is_none() => return Ok(environment.clone()),
        Ok(about) if about.len() > FILE_BYTES_MAX => Err("it has more than 1 MiB".to_owned()),
        _ => std::fs::read_to_string(path).map_err(|why| why.to_string()),
    };
    let shown = path.display();
    let text = told(text.map_err(|why| format!("{shown} cannot be read: {why}")), correct)?;
    // What serde would say of it may repeat a value.
    let wrong = |_| format!("{shown} is not JSON with `Values` that are all texts");
    let read: File = told(serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(wrong), correct)?;
    if read.is_encrypted {
        return Err(Gap::refused(format!("{shown} is encrypted."), "Decrypt it with `func settings decrypt`."));
    }
    let mut source = environment.clone();
    for (name, value) in read.values {
        if environment.get(&name).is_none() {
            source.set(&name, value);
        }
    }
    Ok(source)
}

/// Whether they can be used.
pub(super) fn settings(source: &Source) -> Known<Here> {
    let of_a_service = |name: &str| {
        let name = name.to_lowercase();
        name.starts_with("webhook") && !OWN.contains(&name.as_str())
    };
    if !source.names().any(of_a_service) {
        return Err(Gap::unasked(
            "There are no settings here.",
            "Run it where the service's environment is, or beside its local.settings.json, or with --settings.",
        ));
    }
    Ok(match config::load(source) {
        Err(faults) => Here::Faulty(faults.iter().map(ToString::to_string).collect()),
        Ok(settings) => Here::Good { described: Box::new(settings.described), warnings: settings.warnings },
    })
}

/// What is seen of the storage account, where one is given.
pub(super) async fn storage(source: &Source) -> Known<Looked> {
    let mut faults: Vec<Fault> = Vec::new();
    let given = account::account(source, &mut faults);
    let Some(account) = given else {
        let Some(fault) = faults.first() else {
            return Err(Gap::unasked(
                "No storage account is given.",
                "Set AzureWebJobsStorage here as the service has it; its own word for its storage is storage.rows and storage.queue.",
            ));
        };
        return Err(Gap::refused(fault.to_string(), "Correct AzureWebJobsStorage."));
    };
    let correct = "Correct queueName in TimeoutCheck/function.json.";
    let names =
        told(Names::read(Path::new("."), source).map_err(|why| format!("TimeoutCheck/function.json {why}")), correct)?;
    let look = told(look::look(&account, &names).await, "Correct AzureWebJobsStorage.")?;
    let place = format!("{account}, queue {}, table {}", names.queue, names.table);
    Ok(Looked { place, poison_name: names.poison, look })
}
