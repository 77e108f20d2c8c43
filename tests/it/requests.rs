//! What a push costs in storage requests: the one figure of the benchmarks that no noise can change.

use crate::support::azurite::azurite;
use crate::support::cost::{self, Order};

#[test]
fn a_push_costs_no_more_requests_than_promised() {
    for regions in [2, 3, 5] {
        let (cold, warm) = (cost::cold(azurite(), regions), cost::warm(azurite(), regions, Order::Apart, 2));
        assert!(cold <= cost::cold_max(regions), "cold, {regions} regions: {cold}");
        assert!(warm <= cost::warm_max(regions), "warm, {regions} regions: {warm}");
    }
}

#[test]
fn regions_at_the_same_instant_cost_no_more() {
    let most = cost::warm(azurite(), 3, Order::AtOnce, 4);
    assert!(most <= cost::warm_max(3), "at the same instant, 3 regions: {most}");
}
