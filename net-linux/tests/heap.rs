//! What a burst leaves free in the heap goes back to the kernel.
#![cfg(target_env = "gnu")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use net_linux::heap;

/// Anonymous memory of this process, in KiB.
fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn holes_beside_what_stays_are_given_back() {
    heap::keep_little();
    let mut burst: Vec<Vec<u8>> = (0..40_000).map(|_| vec![1; 1000]).collect();
    // Every hundredth stays, so the top of the heap never comes free by itself.
    let mut number = 0;
    burst.retain(|_| {
        number += 1;
        number % 100 == 0
    });
    let before = anonymous_kib();
    heap::give_back();
    let after = anonymous_kib();
    assert!(before > 35_000 && after < 15_000, "{before} KiB, then {after} KiB with {} left", burst.len());
}
