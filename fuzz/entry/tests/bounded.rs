//! Every target over inputs near its seeds, as often as a CI run can afford. `FUZZ_ITERATIONS` asks for more.

use fuzz_entry::{Mutator, TARGETS};
use std::panic::catch_unwind;

#[test]
fn every_target_takes_its_seeds_and_what_is_near_them() {
    let iterations = std::env::var("FUZZ_ITERATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(5_000_u64);
    for target in TARGETS {
        let mut mutator = Mutator::new(1);
        let near = (0..iterations).map(|_| mutator.input(target.seeds));
        for input in target.seeds.iter().map(|seed| seed.to_vec()).chain(near) {
            let outcome = catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{} broke on b\"{}\"", target.name, input.escape_ascii());
        }
    }
}

#[test]
fn each_target_has_a_binary_for_the_fuzzer() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    let manifest = include_str!("../../Cargo.toml");
    for target in TARGETS {
        assert!(directory.join(format!("{}.rs", target.name)).exists(), "{}", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{}", target.name);
    }
}
