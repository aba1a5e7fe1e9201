//! Whatever happens on the way: exactly one connection in the end. RFC 4271, section 6.8.

use super::side;
use super::world::World;
use crate::session::{Event, State};
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

proptest! {
    #[test]
    fn after_cuts_losses_and_restarts_one_connection_is_left(seed: u64, ids in (1..3_u8, 3..5_u8), swap: bool, passive: bool, chaos in chaos()) {
        let (a, b) = if swap { (ids.1, ids.0) } else { (ids.0, ids.1) };
        let mut configs = [side(a, 64_512, 64_512), side(b, 64_512, 64_512)];
        configs[0].peer.passive = passive;
        let mut world = World::started(configs, seed);
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
