//! How long changes are gathered before they are told, with sessions that were made of bytes.

use super::bed::{address, config, peer};
use crate::config::{Config, ListenRange, PeerConfig, RemoteAsn};
use crate::speaker::{Beginning, ConnId, Input, Origination, Output, Speaker};
use crate::types::{Asn, Capabilities, Family, Open, RouterId};
use crate::wire::Encoder;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// A speaker that has told everything to so many peers, and a second after that.
fn with_peers(count: u32) -> (Speaker, Instant) {
    let now = Instant::now();
    let mut hub: Config = config(1, 65_001);
    let template = PeerConfig { asn: RemoteAsn::External, ..peer(1, 65_001) };
    let range = "10.0.0.0/8".parse().unwrap();
    hub.ranges.insert("all".into(), ListenRange { range, template, limit: count });
    let mut speaker = Speaker::new(now, hub, &Beginning::Fresh, 1).unwrap();
    let mut out = Vec::new();
    speaker.handle(now, Input::Tick, &mut out);
    let capabilities =
        Capabilities { families: [Family::Ipv4].into(), asn: Asn::new(65_002), ..Capabilities::default() };
    for number in 1..=count {
        let (conn, id) = (ConnId::In(number.into()), Ipv4Addr::from(0x0a00_0000 + number));
        let (local, remote) = ((address(1), 179).into(), (id, 179).into());
        let capabilities = capabilities.clone();
        let open = Open { asn: 65_002, hold_time_seconds: 0, id: RouterId::new(id).unwrap(), capabilities };
        speaker.handle(now, Input::Accepted { conn, local, remote, interface: None }, &mut out);
        for bytes in [Encoder::open(&open), Encoder::keepalive()] {
            speaker.handle(now, Input::Received { conn, bytes: &bytes }, &mut out);
        }
    }
    let later = now + Duration::from_secs(1);
    speaker.handle(later, Input::Tick, &mut out);
    assert_eq!(speaker.peers().iter().filter(|peer| peer.session.is_some()).count(), count as usize);
    (speaker, later + Duration::from_secs(1))
}

/// Announces a prefix; how many pieces are sent at once.
fn announce(speaker: &mut Speaker, now: Instant, prefix: &str) -> usize {
    speaker.announce(now, prefix.parse().unwrap(), &Origination::default());
    let mut out = Vec::new();
    speaker.handle(now, Input::Tick, &mut out);
    out.iter().filter(|output| matches!(output, Output::Send { .. })).count()
}

/// When changes that come soon after others are told, from those on.
fn gathered(count: u32) -> Duration {
    let (mut speaker, now) = with_peers(count);
    assert_eq!(announce(&mut speaker, now, "10.0.0.0/24"), count as usize, "the first change is told at once");
    let soon = now + Duration::from_millis(1);
    assert_eq!(announce(&mut speaker, soon, "10.0.1.0/24"), 0, "one soon after it waits");
    let due = speaker.deadline().unwrap();
    assert_eq!(announce(&mut speaker, due, "10.0.2.0/24"), count as usize, "with all that came meanwhile");
    due - now
}

#[test]
fn few_peers_are_told_again_after_ten_milliseconds_and_many_after_the_longer_the_more_they_are() {
    assert_eq!(gathered(1), Duration::from_millis(10));
    assert_eq!(gathered(400), Duration::from_millis(10));
    assert_eq!(gathered(600), Duration::from_millis(15));
    assert_eq!(gathered(1200), Duration::from_millis(30));
}
