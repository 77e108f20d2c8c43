//! `WebhookRegions`, and which regions Azure has.

use std::collections::BTreeSet;

use super::misspelt::meant;
use super::{Fault, Source};
use crate::limits;
use crate::push::Region;

const SETTING: &str = "WebhookRegions";

/// Azure's regions when this was built. There will be more, so that another one is only doubtful.
#[rustfmt::skip]
const AZURE: [&str; 76] = [
    "australiacentral", "australiacentral2", "australiaeast", "australiasoutheast", "austriaeast", "belgiumcentral",
    "brazilsouth", "brazilsoutheast", "canadacentral", "canadaeast", "centralindia", "centralus", "centraluseuap",
    "chilecentral", "chinaeast", "chinaeast2", "chinaeast3", "chinanorth", "chinanorth2", "chinanorth3", "denmarkeast",
    "eastasia", "eastus", "eastus2", "eastus2euap", "eastus3", "francecentral", "francesouth", "germanynorth",
    "germanywestcentral", "indonesiacentral", "israelcentral", "israelnorthwest", "italynorth", "japaneast", "japanwest",
    "jioindiacentral", "jioindiawest", "koreacentral", "koreasouth", "malaysiawest", "mexicocentral", "newzealandnorth",
    "northcentralus", "northeurope", "norwayeast", "norwaywest", "polandcentral", "qatarcentral", "southafricanorth",
    "southafricawest", "southcentralus", "southeastasia", "southindia", "spaincentral", "swedencentral", "swedensouth",
    "switzerlandnorth", "switzerlandwest", "taiwannorth", "taiwannorthwest", "uaecentral", "uaenorth", "uksouth", "ukwest",
    "usdodcentral", "usdodeast", "usgovarizona", "usgovtexas", "usgovvirginia", "westcentralus", "westeurope", "westindia",
    "westus", "westus2", "westus3",
];

/// The regions of the setting, distinct, in their order.
pub(super) fn regions(source: &Source, faults: &mut Vec<Fault>) -> Vec<Region> {
    let Some(text) = source.get(SETTING) else {
        // A name near it may be there, which says more.
        if !faults.iter().any(|fault| fault.setting == SETTING) {
            faults.push(Fault::hidden(
                SETTING,
                "is missing: name the regions of the registry's replicas, for example `northeurope,westus`",
            ));
        }
        return Vec::new();
    };
    let (before, mut seen, mut regions) = (faults.len(), BTreeSet::new(), Vec::new());
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match region(part) {
            Ok(region) if seen.insert(region.clone()) => regions.push(region),
            Ok(_) => {}
            Err(why) => faults.push(Fault::of(SETTING, part, why)),
        }
    }
    if regions.is_empty() && faults.len() == before {
        faults.push(Fault::of(SETTING, text, "names no region, for example `northeurope,westus`"));
    }
    if regions.len() > limits::REGIONS_MAX {
        faults.push(Fault::hidden(
            SETTING,
            format!("names {} regions; {} are allowed", regions.len(), limits::REGIONS_MAX),
        ));
    }
    regions
}

/// One region of a setting.
///
/// # Errors
/// It cannot be one, or is two that had only a blank between them.
pub(super) fn region(text: &str) -> Result<Region, String> {
    let region = Region::parse(text).map_err(|why| format!("{why}; a comma stands between two"))?;
    let mut rests = AZURE.iter().filter_map(|first| region.as_str().strip_prefix(first));
    if rests.any(|second| AZURE.contains(&second)) {
        return Err("is several regions: put a comma between them".into());
    }
    Ok(region)
}

/// The warning about a region that Azure may not have.
pub(super) fn doubt(region: &Region) -> Option<String> {
    let name = region.as_str();
    if AZURE.contains(&name) {
        return None;
    }
    let meant = meant(name, AZURE).map(|meant| format!("; is `{meant}` meant?")).unwrap_or_default();
    Some(format!("`{name}` is no region of Azure that this build knows{meant}"))
}
