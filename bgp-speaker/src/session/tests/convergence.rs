//! Whatever happens on the way: exactly one connection in the end. RFC 4271, section 6.8.

use super::side;
use super::world::World;
use crate::session::{Config, Event, State};
use crate::speaker::DownReason;
use crate::types::{Notification, OpenSubcode};
use proptest::prelude::*;
use std::time::Duration;

#[test]
fn two_sides_that_connect_at_once_end_with_one_connection() {
    for seed in 0..200 {
        let mut world = World::started([side(1, 64_512, 64_513), side(2, 64_513, 64_512)], seed);
        world.run(Duration::from_secs(20));
        assert_eq!(world.states(), [State::Established; 2], "seed {seed}");
        assert!(world.has_converged(), "seed {seed}");
    }
}

/// Whoever connects, answers or is told first: nobody's session comes, goes and comes again.
#[test]
fn sides_that_begin_at_once_come_up_once() {
    for seed in 0..4000 {
        let mut sides = [side(1, 64_512, 64_513), side(2, 64_513, 64_512)];
        if seed % 2 == 0 {
            sides.iter_mut().for_each(|side| side.restart.time_seconds = 0);
        }
        let mut world = World::new(sides, seed);
        world.tell(0, Event::Start);
        world.run(Duration::from_millis(seed % 120));
        world.tell(1, Event::Start);
        world.run(Duration::from_secs(20));
        assert_eq!((world.ups, world.downs), ([1; 2], [0; 2]), "seed {seed}");
        assert!(world.has_converged(), "seed {seed}");
    }
}

#[derive(Debug, Clone)]
enum Chaos {
    Run(u16),
    Cut,
    Lose,
    Silence(u16),
    Restart(bool),
}

fn chaos() -> impl Strategy<Value = Vec<Chaos>> {
    let one = prop_oneof![
        (1..20_000_u16).prop_map(Chaos::Run),
        (1..200_u16).prop_map(Chaos::Run),
        Just(Chaos::Cut),
        Just(Chaos::Lose),
        (1..60_000_u16).prop_map(Chaos::Silence),
        any::<bool>().prop_map(Chaos::Restart),
    ];
    prop::collection::vec(one, 0..20)
}

/// Two sides with what may differ between them.
fn sides() -> impl Strategy<Value = [Config; 2]> {
    (1..4_u8, 1..4_u8, any::<bool>(), any::<bool>(), prop_oneof![Just(3), Just(90), Just(180_u16)]).prop_map(
        |(a, b, external, passive, hold)| {
            // Inside a system, identifiers differ.
            let b = if external || a != b { b } else { b + 1 };
            let other = if external { 64_513 } else { 64_512 };
            let mut sides = [side(a, 64_512, other), side(b, other, 64_512)];
            sides[0].peer.passive = passive;
            sides[0].peer.hold.hold_seconds = hold;
            sides
        },
    )
}

/// RFC 4271, section 6.2: both sides say the same, and ever more rarely.
#[test]
fn sides_that_expect_other_systems_refuse_each_other_and_slow_down() {
    let mut world = World::started([side(1, 64_512, 64_999), side(2, 64_513, 64_999)], 1);
    world.run(Duration::from_secs(3600));
    assert!(world.states().iter().all(|state| *state < State::OpenConfirm));
    for reasons in &world.failures {
        let is_refusal = |reason: &&DownReason| {
            let (DownReason::Sent(notification) | DownReason::Received(notification)) = reason else { return false };
            matches!(notification, Notification::Open(OpenSubcode::BadPeerAs, _))
        };
        let refusals = reasons.iter().filter(is_refusal).count();
        assert!((1..80).contains(&refusals), "{refusals} in an hour");
    }
}

proptest! {
    #[test]
    fn after_cuts_losses_and_restarts_one_connection_is_left(seed: u64, sides in sides(), chaos in chaos()) {
        let mut world = World::started(sides, seed);
        for event in chaos {
            match event {
                Chaos::Run(milliseconds) => world.run(Duration::from_millis(milliseconds.into())),
                Chaos::Cut => world.cut(),
                Chaos::Lose => world.lose(),
                Chaos::Silence(milliseconds) => {
                    world.is_silent = true;
                    world.run(Duration::from_millis(milliseconds.into()));
                    world.is_silent = false;
                }
                Chaos::Restart(side) => {
                    world.tell(side.into(), Event::Stop { notification: None });
                    world.tell(side.into(), Event::Start);
                }
            }
        }
        // The longest that a dead connection can be held for alive, and the longest wait.
        world.run(Duration::from_secs(240 + 120));
        prop_assert_eq!(world.states(), [State::Established; 2]);
        prop_assert!(world.has_converged());
    }
}
