//! Laws of the configuration: what is refused says where, what and what would be right.

use super::*;
use crate::types::{Family, Role};
use std::net::IpAddr;

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn config() -> Config {
    Config::new(asn(64_512), RouterId::new([192, 0, 2, 1].into()).unwrap())
}

fn peer(address: &str) -> PeerConfig {
    let address: IpAddr = address.parse().unwrap();
    PeerConfig::new(PeerAddress::Ip(address), RemoteAsn::Exactly(asn(64_513)))
}

fn refusal(change: impl FnOnce(&mut Config)) -> String {
    let mut config = config();
    config.peers.insert("tor".into(), peer("192.0.2.254"));
    change(&mut config);
    config.check().unwrap_err().to_string()
}

fn refused_peer(change: impl FnOnce(&mut PeerConfig)) -> String {
    refusal(|config| change(config.peers.get_mut("tor").unwrap()))
}

#[test]
fn usual_peers_are_taken() {
    let mut config = config();
    config.peers.insert("tor".into(), peer("192.0.2.254"));
    config.peers.insert("link".into(), PeerConfig { interface: Some("eth1".into()), ..peer("fe80::1") });
    config.peers.insert("other-link".into(), PeerConfig { interface: Some("eth2".into()), ..peer("fe80::1") });
    config
        .peers
        .insert("unnumbered".into(), PeerConfig::new(PeerAddress::Interface("eth3".into()), RemoteAsn::External));
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn each_bad_value_names_object_field_value_and_what_is_right() {
    let message = refused_peer(|peer| peer.hold.hold_seconds = 2);
    assert_eq!(message, "peer tor.hold.holdSeconds: is 2 s; must be 0, or 3 to 65535 s (RFC 4271, section 4.2)");
    let message = refused_peer(|peer| peer.port = 0);
    assert_eq!(message, "peer tor.port: is 0; must be 1 to 65535");
    let message = refused_peer(|peer| peer.hold.send_hold = Some(Duration::from_secs(90)));
    assert_eq!(message, "peer tor.hold.sendHoldSeconds: is 90 s; must be 91 to 86400 s");
    let message = refused_peer(|peer| peer.families.clear());
    assert_eq!(message, "peer tor.families: is empty; must have at least one");
    let message = refused_peer(|peer| peer.reflector_client = true);
    assert_eq!(message, "peer tor.reflectorClient: needs an internal peer");
    let message = refused_peer(|peer| peer.address = PeerAddress::Ip([224, 0, 0, 1].into()));
    assert_eq!(message, "peer tor.address: 224.0.0.1 is no unicast address");
    let message = refused_peer(|peer| peer.address = PeerAddress::Ip("fe80::1".parse().unwrap()));
    assert_eq!(message, "peer tor.interface: is needed beside the link-local address fe80::1");
    let message = refused_peer(|peer| peer.local = Some("2001:db8::1".parse().unwrap()));
    assert!(message.starts_with("peer tor.local: "), "{message}");
    let message = refused_peer(|peer| peer.shutdown = Some("x".repeat(256)));
    assert_eq!(message, "peer tor.shutdown: has 256 bytes; at most 255 (RFC 9003)");
    let message = refused_peer(|peer| peer.strict_role = true);
    assert_eq!(message, "peer tor.strictRole: needs role");
    let message = refused_peer(|peer| {
        peer.asn = RemoteAsn::Internal;
        peer.role = Some(Role::Peer);
    });
    assert_eq!(message, "peer tor.role: needs an external peer");
    let message = refused_peer(|peer| {
        peer.families.remove(&Family::Ipv6);
        peer.default_originate.insert(Family::Ipv6);
    });
    assert!(message.starts_with("peer tor.defaultOriginate: names ipv6"), "{message}");
}

#[test]
fn a_reserved_asn_our_own_address_and_a_least_hold_time_above_the_hold_time_are_refused_by_field() {
    for number in [23_456, u32::MAX] {
        let why = format!("asn: {number} is reserved (RFC 6793, section 9; RFC 7300, section 2)");
        assert_eq!(refusal(|config| config.asn = asn(number)), format!("speaker.{why}"));
        assert_eq!(refused_peer(|peer| peer.asn = RemoteAsn::Exactly(asn(number))), format!("peer tor.{why}"));
    }
    let own = "peer tor.address: 192.0.2.254 is our own address";
    assert_eq!(refusal(|config| config.next_hop_v4 = Some([192, 0, 2, 254].into())), own);
    assert_eq!(refusal(|config| config.listen = vec!["192.0.2.254:179".parse().unwrap()]), own);
    let message = refused_peer(|peer| (peer.hold.hold_seconds, peer.hold.least_seconds) = (30, 31));
    assert_eq!(message, "peer tor.hold.leastSeconds: is 31 s; must be 0 to 30 s");
}

#[test]
fn two_peers_with_one_address_are_refused_by_name() {
    let message = refusal(|config| {
        config.peers.insert("spine".into(), peer("192.0.2.254"));
    });
    assert_eq!(
        message,
        "peer tor.address: 192.0.2.254 is also that of peer spine; each peer needs an address of its own"
    );
}

#[test]
fn overlapping_listen_ranges_are_refused() {
    let range = |text: &str| ListenRange { range: text.parse().unwrap(), template: peer("192.0.2.9"), limit: 10 };
    let message = refusal(|config| {
        config.ranges.insert("a".into(), range("10.0.0.0/8"));
        config.ranges.insert("b".into(), range("10.1.0.0/16"));
    });
    assert!(message.starts_with("range b.range: 10.1.0.0/16 overlaps 10.0.0.0/8 of range a"), "{message}");
    let message = refusal(|config| {
        config.ranges.insert("a".into(), range("10.0.0.1/8"));
    });
    assert_eq!(message, "range a.range: 10.0.0.1/8 has host bits; write 10.0.0.0/8");
}

#[test]
fn a_password_has_one_to_eighty_bytes_and_is_never_printed() {
    assert_eq!(Secret::new(b""), None);
    assert_eq!(Secret::new(&[b'x'; 81]), None);
    let secret = Secret::new(b"hunter2").unwrap();
    assert!(!format!("{secret:?}").contains("hunter2"));
}

/// RFC 5082, section 3.
#[test]
fn gtsm_sends_255_and_takes_no_less_than_the_distance_allows() {
    let own = asn(64_512);
    let peer = |ttl| PeerConfig { ttl, ..peer("192.0.2.254") }.hops(own);
    assert_eq!(peer(TtlSecurity::Usual), (1, None));
    assert_eq!(peer(TtlSecurity::AtMost(1)), (255, Some(255)));
    assert_eq!(peer(TtlSecurity::AtMost(254)), (255, Some(2)));
    assert_eq!(peer(TtlSecurity::Multihop(7)), (7, None));
    let internal = PeerConfig { asn: RemoteAsn::Internal, ..self::peer("192.0.2.254") };
    assert_eq!(internal.hops(own), (64, None));
}
