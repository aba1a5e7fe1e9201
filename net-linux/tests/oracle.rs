//! Two independent codecs agree: what `rtnetlink` writes we read, and what we write `rtnetlink` reads. In fresh network
//! namespaces.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::model::MacAddr;
use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use net_linux::addr::Address;
use net_linux::link::{Link, LinkFilter, LinkKind, NewLink, NewLinkKind, Vxlan};
use net_linux::marks;
use net_linux::neigh::{Neighbour, NeighbourState};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::route::{Route, RouteFilter};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkInfo};
use netlink_packet_route::neighbour::NeighbourAttribute;
use netlink_packet_route::route::{RouteAttribute, RouteProtocol};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 0);

/// Runs a test on a runtime inside a fresh namespace, with both codecs.
fn with_both<F: Future<Output = ()>>(test: impl FnOnce(Socket, Handle) -> F + Send) {
    let inside = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            handle.link().set(LinkUnspec::new_with_index(1).up().build()).execute().await.unwrap();
            test(Socket::route().unwrap(), handle).await;
        });
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

#[test]
fn what_rtnetlink_writes_we_read() {
    with_both(|mut socket, handle| async move {
        let vxlan =
            LinkVxlan::new("x0", 4096).port(8472).learning(false).address(MAC.0.to_vec()).mtu(1400).up().build();
        handle.link().add(vxlan).execute().await.unwrap();
        let found = Link::dump(&mut socket, &LinkFilter { kind: Some("vxlan"), ..LinkFilter::default() }).unwrap();
        let link = &found[0];
        assert_eq!((link.name.as_str(), link.mac, link.mtu_bytes, link.up), ("x0", Some(MAC), 1400, true));
        assert_eq!(link.kind, LinkKind::Vxlan(Vxlan::new(4096, 8472)));

        handle.address().add(link.index, Ipv4Addr::new(10, 0, 0, 1).into(), 24).execute().await.unwrap();
        let addresses = Address::dump(&mut socket, Some(link.index)).unwrap();
        assert!(addresses.contains(&Address::new(link.index, "10.0.0.1/24".parse().unwrap())), "{addresses:?}");

        handle.neighbours().add(link.index, GATEWAY.into()).link_layer_address(&MAC.0).execute().await.unwrap();
        let neighbours = Neighbour::dump(&mut socket, Some(link.index)).unwrap();
        let state = NeighbourState::Permanent;
        let wanted = Neighbour { index: link.index, address: GATEWAY.into(), mac: Some(MAC), state, protocol: 0 };
        assert!(neighbours.contains(&wanted), "{neighbours:?}");

        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(DESTINATION, 16)
            .gateway(GATEWAY)
            .output_interface(link.index)
            .onlink()
            .priority(77)
            .table_id(1000)
            .protocol(RouteProtocol::Other(marks::PROTOCOL))
            .build();
        handle.route().add(route).execute().await.unwrap();
        let destination = Ipv4Net::new(DESTINATION, 16).unwrap();
        let plain = Route::via_on_link(destination.into(), GATEWAY.into(), link.index);
        let found = Route::dump(&mut socket, &RouteFilter::ours()).unwrap();
        assert_eq!(found, [Route { metric: 77, table: 1000, ..plain }]);
    });
}

#[test]
fn what_we_write_rtnetlink_reads() {
    with_both(|mut socket, handle| async move {
        let kind = NewLinkKind::Vxlan(Vxlan { ttl: 9, ..Vxlan::new(4096, 8472) });
        let index = NewLink { mac: Some(MAC), up: true, ..NewLink::new("x0", kind) }.create(&mut socket).unwrap();
        let neighbour = Neighbour::permanent(index, IpAddr::V4(GATEWAY), MAC);
        let destination = Ipv4Net::new(DESTINATION, 16).unwrap();
        let plain = Route::via_on_link(destination.into(), GATEWAY.into(), index);
        let mut batch = Batch::new();
        neighbour.create(&mut batch);
        Route { metric: 77, table: 1000, ..plain }.create(&mut batch);
        socket.run_all(&mut batch).unwrap();

        let link = handle.link().get().match_name("x0").execute().try_next().await.unwrap().unwrap();
        assert_eq!(link.header.index, index);
        assert!(link.attributes.contains(&LinkAttribute::Address(MAC.0.to_vec())));
        let info = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info),
            _ => None,
        });
        let data = info.unwrap().iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vxlan(data)) => Some(data),
            _ => None,
        });
        let data = data.unwrap();
        for wanted in [
            InfoVxlan::Id(4096),
            InfoVxlan::Port(8472),
            InfoVxlan::Learning(false),
            InfoVxlan::Ttl(9),
            InfoVxlan::UDPCsum(true),
        ] {
            assert!(data.contains(&wanted), "{wanted:?} is not in {data:?}");
        }

        let mut neighbours = handle.neighbours().get().set_address_family(AddressFamily::Inet).execute();
        let found = neighbours.try_next().await.unwrap().unwrap();
        assert_eq!(found.header.ifindex, index);
        assert!(found.attributes.contains(&NeighbourAttribute::LinkLayerAddress(MAC.0.to_vec())));
        assert!(found.attributes.contains(&NeighbourAttribute::Protocol(RouteProtocol::Other(marks::PROTOCOL))));

        let mut routes = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let mut found = None;
        while let Some(route) = routes.try_next().await.unwrap() {
            if route.header.protocol == RouteProtocol::Other(marks::PROTOCOL) {
                assert!(found.replace(route).is_none(), "one route of ours");
            }
        }
        let found = found.unwrap();
        assert_eq!(found.header.destination_prefix_length, 16);
        for wanted in [RouteAttribute::Oif(index), RouteAttribute::Priority(77), RouteAttribute::Table(1000)] {
            assert!(found.attributes.contains(&wanted), "{wanted:?} is not in {:?}", found.attributes);
        }
    });
}
