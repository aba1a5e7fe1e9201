//! Frames that chance makes of well-formed ones. Never random beyond a seed, which is told.

use super::kinds::{FRAGMENT, Kind, shortest, twisted};
use crate::frames::Frame;
use cni_core::testkit::dice::Dice;
use std::net::IpAddr;

/// Frames for each program; `CNIDARIAN_MUTANTS=1000000` for long.
pub(super) fn rounds() -> usize {
    std::env::var("CNIDARIAN_MUTANTS").map_or(20_000, |text| text.parse().unwrap())
}

/// Another seed each time, or the one that `CNIDARIAN_MUTANTS_SEED` says: a test that fails shows which it was.
pub(super) fn dice() -> Dice {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    let seed = std::env::var("CNIDARIAN_MUTANTS_SEED").map_or_else(|_| now(), |text| text.parse().unwrap());
    println!("CNIDARIAN_MUTANTS_SEED={seed}");
    Dice::new(seed)
}

/// Bytes that mean something somewhere: versions and lengths, protocols, fragments, ends of counts.
const TELLING: [u8; 16] = [0, 1, 2, 5, 6, 17, 0x20, 0x40, 0x45, 0x46, 0x4f, 43, 44, 51, 60, 255];
/// Of links: IPv4, IPv6, ARP, tags, MPLS.
const LINKS: [[u8; 2]; 6] = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0x88, 0xa8], [0x88, 0x47]];

/// A frame of some kind between two of these, and up to four changes to it.
pub(super) fn frame(dice: &mut Dice, from: &[IpAddr], to: &[IpAddr]) -> Vec<u8> {
    let from = *dice.pick(from);
    let all: Vec<IpAddr> = to.iter().copied().filter(|to| to.is_ipv4() == from.is_ipv4()).collect();
    let kind = *dice.pick(&Kind::ALL);
    let frames = twisted(kind, from, *dice.pick(&all));
    let mut frame = dice.pick(&frames).clone();
    if dice.once_in(4) {
        // To another port, where there are ports.
        frame.payload[3] ^= 3;
    }
    if dice.once_in(4) {
        fragment(dice, &mut frame);
    }
    let mut bytes = frame.bytes();
    for _ in 0..dice.below(5) {
        change(dice, &mut bytes);
    }
    bytes.resize(bytes.len().max(shortest(&bytes)), 0);
    bytes
}

/// A piece of few packets, so that later ones find a first one.
fn fragment(dice: &mut Dice, frame: &mut Frame) {
    let offset = u16::try_from(dice.below(4)).unwrap();
    let (id, more) = (u8::try_from(dice.below(8)).unwrap(), u16::from(dice.once_in(2)));
    if frame.source.is_ipv4() {
        frame.fragment = (offset | more << 13, id.into());
    } else {
        let [high, low] = (offset << 3 | more).to_be_bytes();
        frame.extensions.push((FRAGMENT, vec![0, high, low, 0, 0, 0, id]));
    }
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let any = |dice: &mut Dice| u8::try_from(dice.below(256)).unwrap();
    // Addresses of links stay: they say whether a packet is for the node.
    let at = 12 + dice.below(bytes.len() - 12);
    match dice.below(12) {
        0..=2 => bytes[at] = any(dice),
        3 | 4 => bytes[at] ^= 1 << dice.below(8),
        5..=7 => bytes[at] = *dice.pick(&TELLING),
        8 => bytes.truncate(at.max(shortest(bytes))),
        9 => {
            let tag = [0x81, 0, 0, any(dice)];
            bytes.splice(12..12, tag);
        }
        10 => {
            let [high, low] = *dice.pick(&LINKS);
            (bytes[12], bytes[13]) = (high, low);
        }
        _ => bytes.extend((0..dice.below(64)).map(|_| 0xa5)),
    }
}
