//! What comes back, and who outside speaks to a pod's own address. What is not a pod's is the node's, and never changed; nor
//! dropped, but for the moment in which entries of the programs before these are on their way.

use crate::errors;
use crate::maps;
use crate::rewrite::{self, Change, Side};
use crate::tuple::{self, Kind, kind, of_receiver};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Leaving, Life, Masqueraded, Masquerading, Tuple};
use backend_ebpf_programs::now_seconds;
use backend_ebpf_programs::packet::{self, Packet};

#[inline(always)]
pub fn translate(ctx: &TcContext) -> Masqueraded {
    let Some(settings) = maps::settings() else { return Masqueraded::NotOurs };
    let mut packet = Packet::default();
    if tuple::read(ctx, true, &mut packet) != tuple::READ {
        return Masqueraded::NotOurs;
    }
    if *tuple::node(settings, packet.v4) == packet.destination {
        if packet::is_error(&packet) && !packet.later {
            return errors::back(ctx, settings, &packet);
        }
        return to_node(ctx, settings, &packet);
    }
    if maps::is_pod(&packet.destination) && !maps::keeps(&packet.source) {
        to_pod(settings, &packet);
    }
    Masqueraded::NotOurs
}

#[inline(never)]
fn to_node(ctx: &TcContext, settings: &Masquerading, packet: &Packet) -> Masqueraded {
    let kind = kind(packet);
    let outside = of_receiver(packet, kind);
    if !matches!(kind, Kind::Ports | Kind::Answers) || !settings.has(outside.own_port) {
        return Masqueraded::NotOurs;
    }
    let now = now_seconds();
    // The node's stack would refuse what it does not know, and so end somebody else's connection.
    let unknown = if settings.is_handed_over(now) { Masqueraded::HandedOver } else { Masqueraded::NotOurs };
    let Some(entry) = maps::coming(&outside) else { return unknown };
    let found = tuple::read_coming(entry);
    if !found.life.is_alive(packet.protocol, now) {
        return unknown;
    }
    if !rewrite::is_whole(ctx, packet) {
        return Masqueraded::NotOurs;
    }
    let is_first = tuple::note(tuple::life_of(entry), found.life, tuple::state(packet, true), false, now);
    if found.own == outside.own {
        return Masqueraded::NotOurs;
    }
    if is_first {
        // So that it is not taken for one that is quiet.
        let _ = maps::leaving(&Tuple { own: found.own, own_port: found.own_port, ..outside });
    }
    let change = Change {
        side: Side::Destination,
        old: outside.own,
        new: found.own,
        old_port: outside.own_port,
        port: found.own_port,
    };
    if rewrite::packet(ctx, packet, &change) { Masqueraded::Back } else { Masqueraded::Refused }
}

/// Whether a connection of a pod lives at this port of the node.
#[inline(always)]
fn is_masqueraded(settings: &Masquerading, packet: &Packet, inside: &Tuple, port: u16, now: u32) -> bool {
    let outside = Tuple { own: *tuple::node(settings, packet.v4), own_port: port, ..*inside };
    let Some(entry) = maps::coming(&outside) else { return false };
    let found = tuple::read_coming(entry);
    found.own == inside.own && found.own_port == inside.own_port && found.life.is_alive(packet.protocol, now)
}

/// What answers it leaves as it is.
#[inline(never)]
fn to_pod(settings: &Masquerading, packet: &Packet) {
    let kind = kind(packet);
    if !matches!(kind, Kind::Ports | Kind::Asks) {
        return;
    }
    let (inside, now) = (of_receiver(packet, kind), now_seconds());
    let (state, anew) = (tuple::state(packet, false), tuple::begins_anew(packet));
    if let Some(entry) = maps::leaving(&inside) {
        let found = tuple::read_leaving(entry);
        if found.flags & Leaving::AS_IT_IS != 0 && found.life.is_alive(packet.protocol, now) {
            tuple::note(tuple::life_as_it_is(entry), found.life, state, anew, now);
            return;
        }
        // The pod began one like it, and has it still: whoever is outside does not end it.
        if found.flags & Leaving::AS_IT_IS == 0 && is_masqueraded(settings, packet, &inside, found.port, now) {
            return;
        }
    }
    if !settings.is_handed_over(now) {
        let flags = Leaving::AS_IT_IS;
        maps::set_leaving(&inside, &Leaving { life: Life::new(now, state), port: 0, flags, unused: 0 });
    }
}
