//! What a push costs in storage requests: the one figure of the benchmarks that no noise can change.

use crate::support::azurite::azurite;
use crate::support::cost;

#[test]
fn a_push_costs_no_more_requests_than_promised() {
    for regions in [2, 3, 5] {
        let (cold, warm) = (cost::cold(azurite(), regions), cost::warm(azurite(), regions, 2));
        assert!(cold <= cost::cold_max(regions), "cold, {regions} regions: {cold}");
        assert!(warm <= cost::warm_max(regions), "warm, {regions} regions: {warm}");
    }
}
