//! Routes in a pod that take its traffic away from its interface. Pure; never reads the kernel.
//!
//! A pod may have other interfaces with networks of their own, so a further route is no fault by itself. It is one when it
//! takes what is this interface's:
//!
//! - a second default route, whole or in halves (`0.0.0.0/1` wins over `0.0.0.0/0`);
//! - one that covers the pod's gateway and leads elsewhere;
//! - one through this interface to another gateway.
//!
//! Looked at are the tables that every packet meets, `local` and `main`; policy routing is the pod's own affair.

use super::pod::PodSide;
use crate::route::{MAIN_TABLE, Route, RouteKind};
use cni_core::cni;
use std::net::IpAddr;

/// The table of a host's own addresses (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;
/// `RTPROT_KERNEL`: follows from an address or from a device that is up.
const KERNEL_PROTOCOL: u8 = 2;
/// A route that is at most this long is a default route, or one of its two halves.
const HALF_OF_ALL: u8 = 1;

/// Whether a route that is there leads elsewhere, and nobody said that it would be there.
pub(super) fn leads(route: &Route, side: &PodSide, index: u32, listed: &[cni::Route]) -> bool {
    if side.routes.iter().any(|wanted| wanted.same_place(route)) || is_listed(route, side, index, listed) {
        return false;
    }
    let gateways = side.neighbours.iter().map(|neighbour| neighbour.address);
    let covers_gateway = gateways.into_iter().any(|gateway| covers(route, gateway));
    let stays = route.index == Some(index) && route.via.is_none() && route.kind == RouteKind::Unicast;
    match route.table {
        LOCAL_TABLE => covers_gateway && route.kind == RouteKind::Local,
        MAIN_TABLE if stays => route.destination.prefix_len() <= HALF_OF_ALL,
        MAIN_TABLE if route.protocol == KERNEL_PROTOCOL => covers_gateway && !is_link_local(route),
        MAIN_TABLE => route.destination.prefix_len() <= HALF_OF_ALL || covers_gateway || route.index == Some(index),
        _ => false,
    }
}

fn covers(route: &Route, gateway: IpAddr) -> bool {
    route.destination.contains(&gateway)
}

/// `fe80::/64` is on every IPv6 interface, and means that interface's link.
fn is_link_local(route: &Route) -> bool {
    matches!(route.destination.addr(), IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Whether `prevResult` has it. What that says of our own gateway is said of this interface.
fn is_listed(route: &Route, side: &PodSide, index: u32, listed: &[cni::Route]) -> bool {
    listed.iter().any(|known| {
        let ours = known.gw.is_some_and(|gateway| side.neighbours.iter().any(|ours| ours.address == gateway));
        known.dst.trunc() == route.destination
            && known.gw.is_none_or(|gateway| route.via == Some(gateway))
            && known.table.unwrap_or(MAIN_TABLE) == route.table
            && known.priority.is_none_or(|priority| priority == route.metric)
            && (!ours || route.index == Some(index))
    })
}

/// The route by what tells it from a wanted one to the same destination.
pub(super) fn named(route: &Route) -> String {
    let via = route.via.map_or_else(String::new, |via| format!(" via {via}"));
    format!("{route}{via} metric {}", route.metric)
}

/// Where it leads.
pub(super) fn shown(route: &Route, index: u32) -> &'static str {
    match (route.kind, route.index) {
        (RouteKind::Unicast, Some(device)) if device == index => "there, on this interface",
        (RouteKind::Unicast, _) => "there, on another interface",
        (RouteKind::Local, _) => "there, to the pod itself",
        _ => "there, and drops packets",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::AttachRequest;
    use cni_core::model::EndpointId;

    const ETH0: u32 = 7;
    const NET1: u32 = 8;

    fn side() -> PodSide {
        let addresses = vec!["10.1.2.3".parse().unwrap(), "2001:db8::3".parse().unwrap()];
        PodSide::new(&AttachRequest::new(EndpointId::of("a", "eth0").unwrap(), addresses, 1450), ETH0)
    }

    fn via(destination: &str, via: &str, index: u32) -> Route {
        Route { protocol: 3, ..Route::via_on_link(destination.parse().unwrap(), via.parse().unwrap(), index) }
    }

    fn on_link(destination: &str, index: u32, protocol: u8) -> Route {
        Route { protocol, ..Route::on_link(destination.parse().unwrap(), index) }
    }

    fn local(destination: &str) -> Route {
        let plain = on_link(destination, 1, KERNEL_PROTOCOL);
        Route { kind: RouteKind::Local, table: LOCAL_TABLE, ..plain }
    }

    #[test]
    fn what_takes_this_interfaces_traffic_leads_elsewhere() {
        let side = side();
        for route in [
            Route { metric: 100, ..via("0.0.0.0/0", "10.9.9.1", NET1) },
            Route { metric: 1, ..via("::/0", "fe80::1", NET1) },
            Route { metric: 7, ..on_link("0.0.0.0/0", ETH0, 3) },
            via("0.0.0.0/1", "10.9.9.1", NET1),
            via("169.254.0.0/16", "10.9.9.1", NET1),
            on_link("169.254.1.0/24", NET1, KERNEL_PROTOCOL),
            via("10.96.0.0/12", "10.1.2.9", ETH0),
            local("169.254.1.1/32"),
            local("fe80::1/128"),
            Route { protocol: 3, ..Route::refusing("169.254.1.1/32".parse().unwrap(), RouteKind::Blackhole) },
            Route { metric: 9, protocol: 3, ..Route::refusing("::/0".parse().unwrap(), RouteKind::Unreachable) },
        ] {
            assert!(leads(&route, &side, ETH0, &[]), "{route:?}");
        }
    }

    #[test]
    fn another_interfaces_own_network_and_what_the_kernel_makes_do_not() {
        let side = side();
        let mut fine = side.routes.clone();
        fine.extend([
            via("10.96.0.0/12", "10.9.9.1", NET1),
            on_link("10.9.9.0/24", NET1, KERNEL_PROTOCOL),
            on_link("fe80::/64", NET1, KERNEL_PROTOCOL),
            on_link("fe80::/64", ETH0, KERNEL_PROTOCOL),
            on_link("10.1.2.9/32", ETH0, 3),
            local("10.1.2.3/32"),
            local("127.0.0.0/8"),
            Route { table: 100, ..via("0.0.0.0/0", "10.9.9.1", NET1) },
        ]);
        for route in fine {
            assert!(!leads(&route, &side, ETH0, &[]), "{route:?}");
        }
    }

    #[test]
    fn what_prev_result_lists_is_known_but_nothing_like_it() {
        let side = side();
        let known =
            |dst: &str, gw: Option<&str>| cni::Route::new(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()));
        let listed = [
            known("0.0.0.0/0", Some("169.254.1.1")),
            known("10.96.0.0/12", Some("10.1.2.9")),
            cni::Route { priority: Some(50), ..known("0.0.0.0/0", Some("10.9.9.1")) },
            known("169.254.0.0/16", None),
        ];
        let metric = |metric, route| Route { metric, ..route };
        for route in [
            via("10.96.0.0/12", "10.1.2.9", ETH0),
            metric(50, via("0.0.0.0/0", "10.9.9.1", NET1)),
            via("169.254.0.0/16", "10.9.9.1", NET1),
        ] {
            assert!(!leads(&route, &side, ETH0, &listed), "{route:?}");
        }
        for route in [
            via("10.96.0.0/12", "10.1.2.8", ETH0),
            metric(51, via("0.0.0.0/0", "10.9.9.1", NET1)),
            metric(5, via("0.0.0.0/0", "169.254.1.1", NET1)),
        ] {
            assert!(leads(&route, &side, ETH0, &listed), "{route:?}");
        }
    }
}
