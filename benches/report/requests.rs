//! Storage requests of one push, counted in Azurite's access log.

use crate::azurite::azurite;
use crate::cost::{cold, warm};
use crate::table::{Line, print};
use crate::{Effort, cost};

/// Regions of a push.
const REGIONS: [usize; 3] = [2, 3, 5];

/// The original Durable Functions sample, for scale: counted on the same emulator before this project, not measured again here.
const ORIGINAL: [usize; 3] = [38, 43, 55];

pub(crate) fn per_push(effort: Effort) {
    for (regions, original) in REGIONS.into_iter().zip(ORIGINAL) {
        let floor = regions + 3;
        let (cold, warm) = (cold(azurite(), regions), warm(azurite(), regions, effort.of(20, 3)));
        for (form, count, target) in [("cold", cold, cost::cold_max(regions)), ("warm", warm, cost::warm_max(regions))]
        {
            print(&Line {
                floor: format!("{floor} (original {original})"),
                ours: count.to_string(),
                ratio: format!("{:.2}", count as f64 / floor as f64),
                met: Some(count <= target),
                ..Line::new(format!("storage requests per push, R = {regions}, {form}"), format!("≤ {target}"))
            });
        }
    }
}
