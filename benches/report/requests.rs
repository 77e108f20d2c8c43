//! Storage requests of one push, counted in Azurite's access log.

use crate::azurite::azurite;
use crate::cost::{Order, cold, warm};
use crate::table::{Line, print};
use crate::{Effort, cost};

/// Regions of a push.
const REGIONS: [usize; 3] = [2, 3, 5];

/// The original Durable Functions sample, for scale: counted on the same emulator before this project, not measured again here.
const ORIGINAL: [usize; 3] = [38, 43, 55];

pub(crate) fn per_push(effort: Effort) {
    for (regions, original) in REGIONS.into_iter().zip(ORIGINAL) {
        // A write of the row for each region and one for the confirmation; the timer armed and deleted.
        let floor = regions + 3;
        let pushes = effort.of(20, 3);
        let of = |order| warm(azurite(), regions, order, pushes);
        for (form, count, target) in [
            ("cold", cold(azurite(), regions), cost::cold_max(regions)),
            ("warm", of(Order::Apart), cost::warm_max(regions)),
            ("warm, all at the same instant", of(Order::AtOnce), cost::warm_max(regions)),
        ] {
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
