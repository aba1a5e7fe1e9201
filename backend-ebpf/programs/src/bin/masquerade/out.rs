//! What leaves. Never a packet between pods: destinations that are kept are left alone.

use crate::maps;
use crate::rewrite::{self, Change, Side};
use crate::tuple::{self, Kind, kind, of_sender};
use crate::{choose, errors};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Coming, Leaving, Life, Masqueraded, Masquerading, Reason};
use backend_ebpf_programs::now_seconds;
use backend_ebpf_programs::packet::{self, Packet};

#[inline(always)]
pub fn translate(ctx: &TcContext) -> Masqueraded {
    let Some(settings) = maps::settings() else { return Masqueraded::NotOurs };
    let mut packet = Packet::default();
    let stop = tuple::read(ctx, false, &mut packet);
    if [Reason::Arp, Reason::Vlan, Reason::NotIp, Reason::NeighbourDiscovery]
        .map(|reason| reason as u32)
        .contains(&stop)
    {
        return Masqueraded::NotOurs;
    }
    let node = tuple::node(settings, packet.v4);
    if *node == packet.source {
        return if stop != tuple::READ {
            Masqueraded::NotOurs
        } else if packet::is_error(&packet) && !packet.later {
            errors::out(ctx, &packet, node, false)
        } else {
            of_node(settings, &packet)
        };
    }
    if !maps::is_pod(&packet.source) || maps::keeps(&packet.destination) || is_multicast(&packet) {
        return Masqueraded::NotOurs;
    }
    if stop == Reason::UnknownFragment as u32 {
        Masqueraded::UnknownFragment
    } else if stop != tuple::READ {
        Masqueraded::Malformed
    } else if *node == [0; 16] {
        Masqueraded::NoAddress
    } else if packet::is_error(&packet) && !packet.later {
        errors::out(ctx, &packet, node, true)
    } else {
        of_pod(ctx, settings, &packet)
    }
}

/// 224.0.0.0/4 (RFC 5771) and ff00::/8 (RFC 4291, section 2.7).
#[inline(always)]
fn is_multicast(packet: &Packet) -> bool {
    if packet.v4 { packet.destination[12] & 0xf0 == 0xe0 } else { packet.destination[0] == 0xff }
}

#[inline(never)]
fn of_pod(ctx: &TcContext, settings: &Masquerading, packet: &Packet) -> Masqueraded {
    let (kind, now) = (kind(packet), now_seconds());
    let inside = of_sender(packet, kind);
    if let Some(entry) = maps::leaving(&inside) {
        let found = tuple::read_leaving(entry);
        if found.flags & Leaving::AS_IT_IS != 0 && found.life.is_alive(packet.protocol, now) {
            tuple::note(tuple::life_as_it_is(entry), found.life, tuple::state(packet, true), false, now);
            return Masqueraded::NotOurs;
        }
    }
    if !matches!(kind, Kind::Ports | Kind::Asks) {
        return Masqueraded::Protocol;
    }
    if !rewrite::is_whole(ctx, packet) {
        return Masqueraded::Malformed;
    }
    let port = choose::port(settings, packet, &inside, now);
    if port == choose::NONE {
        return Masqueraded::NoPort;
    }
    if port == choose::LATER {
        return Masqueraded::HandedOver;
    }
    let new = *tuple::node(settings, packet.v4);
    let change = Change { side: Side::Source, old: inside.own, new, old_port: inside.own_port, port: port as u16 };
    if rewrite::packet(ctx, packet, &change) { Masqueraded::Out } else { Masqueraded::Refused }
}

/// The node's own packets stay as they are. One from a port of ours, which the node was not given but may have chosen, takes it
/// as pods do.
#[inline(never)]
fn of_node(settings: &Masquerading, packet: &Packet) -> Masqueraded {
    let kind = kind(packet);
    if !settings.has(packet.source_port) || !matches!(kind, Kind::Ports | Kind::Asks) || packet.later {
        return Masqueraded::NotOurs;
    }
    let (outside, now) = (of_sender(packet, kind), now_seconds());
    if let Some(entry) = maps::coming(&outside) {
        let found = tuple::read_coming(entry);
        if found.life.is_alive(packet.protocol, now) {
            if found.own != outside.own {
                return Masqueraded::PortOfPod;
            }
            let (state, anew) = (tuple::state(packet, false), tuple::begins_anew(packet));
            tuple::note(tuple::life_of(entry), found.life, state, anew, now);
            return Masqueraded::NotOurs;
        }
    }
    if settings.is_handed_over(now) {
        return Masqueraded::HandedOver;
    }
    let life = Life::new(now, tuple::state(packet, false));
    let own = Coming { own: outside.own, life, own_port: outside.own_port, unused: [0; 3] };
    if choose::take(&own, &outside, now) { Masqueraded::NotOurs } else { Masqueraded::PortOfPod }
}
