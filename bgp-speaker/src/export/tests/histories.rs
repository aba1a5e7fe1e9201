//! Whatever happened before, and however slow a peer is: it ends up told what a speaker that knows no history would tell it.

use super::world::{Book, Held, Plain, World, announce, attributes, facts, group, nlri, policy, prefix, withdraw};
use crate::config::Aggregate;
use crate::rib::{NONE, PathState, PeerKind};
use crate::types::{Community, Family, PeerId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Step {
    Announce { peer: u32, prefix: u8, path: u32, attributes: u8 },
    Withdraw { peer: u32, prefix: u8, path: u32 },
    Up { peer: u32, add_path: bool },
    Down { peer: u32, keep: bool },
    BeginRefresh { peer: u32 },
    Sweep { peer: u32 },
    LongLived { peer: u32 },
    Import { peer: u32, policy: u8 },
    Export { peer: u32, policy: u8, drain: bool, default: bool, most: u8 },
    Refresh { peer: u32, enhanced: bool },
    Resolve { last: u8, metric: Option<u32> },
    Own { prefix: u8, is_there: bool },
    Aggregates { which: u8 },
    Ready { peer: u32, is_ready: bool },
    Flush { budget: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0u32..6;
    prop_oneof![
        12 => (peer(), 0u8..6, 0u32..2, any::<u8>())
            .prop_map(|(peer, prefix, path, attributes)| Step::Announce { peer, prefix, path, attributes }),
        6 => (peer(), 0u8..6, 0u32..2).prop_map(|(peer, prefix, path)| Step::Withdraw { peer, prefix, path }),
        4 => (peer(), any::<bool>()).prop_map(|(peer, add_path)| Step::Up { peer, add_path }),
        2 => (peer(), any::<bool>()).prop_map(|(peer, keep)| Step::Down { peer, keep }),
        1 => peer().prop_map(|peer| Step::BeginRefresh { peer }),
        1 => peer().prop_map(|peer| Step::Sweep { peer }),
        1 => peer().prop_map(|peer| Step::LongLived { peer }),
        2 => (peer(), 0u8..4).prop_map(|(peer, policy)| Step::Import { peer, policy }),
        3 => (peer(), 0u8..4, any::<bool>(), any::<bool>(), 1u8..4)
            .prop_map(|(peer, policy, drain, default, most)| Step::Export { peer, policy, drain, default, most }),
        1 => (peer(), any::<bool>()).prop_map(|(peer, enhanced)| Step::Refresh { peer, enhanced }),
        3 => (1u8..3, proptest::option::of(0u32..2)).prop_map(|(last, metric)| Step::Resolve { last, metric }),
        2 => (0u8..6, any::<bool>()).prop_map(|(prefix, is_there)| Step::Own { prefix, is_there }),
        1 => (0u8..5).prop_map(|which| Step::Aggregates { which }),
        4 => (peer(), any::<bool>()).prop_map(|(peer, is_ready)| Step::Ready { peer, is_ready }),
        8 => (1usize..6).prop_map(|budget| Step::Flush { budget }),
    ]
}

fn aggregates(which: u8) -> BTreeMap<ipnet::IpNet, Aggregate> {
    let one = |number, summary_only| (prefix(number), Aggregate { summary_only });
    match which {
        0 => BTreeMap::new(),
        1 => [one(1, false)].into(),
        2 => [one(1, true)].into(),
        3 => [one(1, true), one(2, true)].into(),
        _ => [one(2, false), one(0, true)].into(),
    }
}

/// What a step does, in the tables and in the book.
fn take(world: &mut World, book: &mut Book, step: &Step) {
    match *step {
        Step::Announce { peer, prefix: number, path, attributes: which } => {
            let Some(plain) = book.peers.get_mut(&peer).filter(|plain| plain.is_up) else { return };
            let (nlri, attributes) = (nlri(prefix(number), path), attributes(peer, which));
            world.rib.update(PeerId(peer), &announce(nlri, &attributes)).unwrap();
            plain.routes.insert(nlri, Held { attributes, is_stale: false, is_long_lived: false });
        }
        Step::Withdraw { peer, prefix: number, path } => {
            let Some(plain) = book.peers.get_mut(&peer).filter(|plain| plain.is_up) else { return };
            let nlri = nlri(prefix(number), path);
            world.rib.update(PeerId(peer), &withdraw(nlri)).unwrap();
            plain.routes.remove(&nlri);
        }
        Step::Up { peer, add_path } => up(world, book, peer, add_path),
        Step::Down { peer, keep } => {
            let Some(plain) = book.peers.get_mut(&peer).filter(|plain| plain.is_up) else { return };
            let kept: &[Family] = if keep { &[Family::Ipv4] } else { &[] };
            world.rib.peer_down(PeerId(peer), kept);
            world.leave(peer);
            plain.routes.retain(|nlri, held| kept.contains(&Family::of(&nlri.prefix)) && !held.is_stale);
            plain.routes.values_mut().for_each(|held| held.is_stale = true);
            plain.is_up = false;
            plain.export = None;
            if plain.routes.is_empty() {
                book.peers.remove(&peer);
            }
        }
        Step::BeginRefresh { peer } => {
            let Some(plain) = book.peers.get_mut(&peer) else { return };
            world.rib.begin_refresh(PeerId(peer), Family::Ipv4);
            let routes = plain.routes.iter_mut().filter(|(nlri, _)| Family::of(&nlri.prefix) == Family::Ipv4);
            routes.for_each(|(_, held)| held.is_stale = true);
        }
        Step::Sweep { peer } => {
            let Some(plain) = book.peers.get_mut(&peer) else { return };
            world.rib.sweep(PeerId(peer), Family::Ipv4);
            plain.routes.retain(|nlri, held| Family::of(&nlri.prefix) != Family::Ipv4 || !held.is_stale);
        }
        Step::LongLived { peer } => {
            let Some(plain) = book.peers.get_mut(&peer) else { return };
            world.rib.long_lived(PeerId(peer), Family::Ipv4);
            plain.routes.retain(|nlri, held| {
                let concerned = Family::of(&nlri.prefix) == Family::Ipv4 && held.is_stale;
                held.is_long_lived |= concerned;
                !(concerned && held.attributes.has(Community::NO_LLGR))
            });
        }
        Step::Import { peer, policy: number } => {
            let Some(plain) = book.peers.get_mut(&peer) else { return };
            world.rib.set_import(PeerId(peer), policy(number, false));
            plain.import = number;
        }
        Step::Export { peer, policy: number, drain, default, most } => {
            let Some(plain) = book.peers.get_mut(&peer) else { return };
            let Some(facts) = &mut plain.export else { return };
            facts.policy = policy(number, true);
            facts.drain = drain;
            facts.default_originate = if default { [Family::Ipv4].into() } else { BTreeSet::new() };
            facts.add_path.values_mut().for_each(|paths| *paths = most);
            assert!(world.export.change(&world.rib, PeerId(peer), facts.clone()));
        }
        Step::Refresh { peer, enhanced } => world.export.refresh(PeerId(peer), Family::Ipv4, enhanced),
        Step::Resolve { last, metric } => {
            world.resolve(last, metric);
            match metric {
                Some(metric) => book.ways.insert(last, metric),
                None => book.ways.remove(&last),
            };
        }
        Step::Own { prefix: number, is_there: true } => {
            world.rib.originate(prefix(number), Arc::new(attributes(9, number)));
            book.own.insert(number);
        }
        Step::Own { prefix: number, is_there: false } => {
            world.rib.withdraw(prefix(number));
            book.own.remove(&number);
        }
        Step::Aggregates { which } => {
            book.aggregates = aggregates(which);
            world.rib.set_aggregates(book.aggregates.clone());
        }
        Step::Ready { peer, is_ready } => world.export.set_ready(PeerId(peer), is_ready),
        Step::Flush { budget } => {
            world.flush(budget);
            world.export.reclaim(&mut world.rib);
        }
    }
}

fn up(world: &mut World, book: &mut Book, peer: u32, add_path: bool) {
    let plain: &mut Plain = book.peers.entry(peer).or_default();
    if plain.is_up {
        return;
    }
    plain.is_up = true;
    let mut out = group(facts(peer).kind);
    out.long_lived = out.kind == PeerKind::Client;
    if add_path {
        out.add_path = [(Family::Ipv4, 2)].into();
    }
    world.rib.peer_up(PeerId(peer), facts(peer), policy(plain.import, false));
    world.join(peer, out.clone());
    plain.export = Some(out);
}

/// What everybody was told, and every choice, as a speaker without a past would have it.
fn check(world: &mut World, book: &Book) {
    world.settle();
    let fresh = World::fresh(book);
    for number in 0..6 {
        let states = |world: &World| {
            let paths = world.rib.explain(&prefix(number)).map(|explained| explained.paths).unwrap_or_default();
            let mut states: Vec<String> = paths
                .iter()
                .map(|path| {
                    // The path that another lost to stands elsewhere in another order.
                    let state = match path.state {
                        PathState::Lost { step, .. } => format!("lost by {step}"),
                        other => format!("{other:?}"),
                    };
                    format!("{:?} {:?} {state} {:?} {}", path.source, path.id, path.attributes, path.is_long_lived)
                })
                .collect();
            states.sort();
            states
        };
        assert_eq!(states(world), states(&fresh), "{}", prefix(number));
    }
    for (peer, listener) in &world.listeners {
        assert_eq!(listener.told(), fresh.listeners[peer].told(), "{peer}");
        assert_eq!(listener.ends_of_rib, Family::ALL.into());
        for family in Family::ALL {
            let told = world.export.advertised(&world.rib, *peer, family);
            let heard = listener.routes.keys().filter(|nlri| Family::of(&nlri.prefix) == family);
            assert_eq!(told.iter().map(|(nlri, _)| nlri).collect::<BTreeSet<_>>(), heard.collect());
        }
    }
    for family in Family::ALL {
        assert_eq!(world.rib.unreclaimed(family), 0, "all slots without paths are free again");
        for outs in world.export.groups.iter().flatten().map(|group| &group.outs[family.index()]) {
            let used: BTreeSet<_> =
                outs.told().flat_map(|slot| outs.row(slot).to_vec()).filter(|id| *id != NONE).collect();
            assert_eq!(outs.routes.len(), used.len(), "what nobody is told is forgotten");
        }
    }
    for peer in book.peers.keys() {
        world.rib.forget(PeerId(*peer));
    }
    world.rib.set_aggregates(BTreeMap::new());
    (0..6).for_each(|number| world.rib.withdraw(prefix(number)));
    assert_eq!(world.rib.distinct_attributes(), 0, "what nobody announces is forgotten");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_told_in_the_end_does_not_depend_on_history(steps in proptest::collection::vec(step(), 0..80)) {
        let (mut world, mut book) = (World::new(), Book { ways: [(1, 1), (2, 1)].into(), ..Book::default() });
        for step in &steps {
            take(&mut world, &mut book, step);
            world.watch(&book.ways);
        }
        check(&mut world, &book);
    }
}
