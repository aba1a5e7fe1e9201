//! ICMP errors pass with the connection that they are about, and open nothing else. Never a random policy.

use crate::bed::judge;
use crate::frames::Frame;
use crate::pod::{ADDRESSES, Pod, open_ports};
use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use std::net::IpAddr;

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const CLIENT: u16 = 40_000;

fn pod(family: usize) -> IpAddr {
    ADDRESSES[family].parse().unwrap()
}

fn peer(family: usize) -> IpAddr {
    ["192.0.2.1", "2001:db8::1"][family].parse().unwrap()
}

/// Whoever is on the way.
fn router(family: usize) -> IpAddr {
    ["198.51.100.1", "2001:db8:1::1"][family].parse().unwrap()
}

fn datagram(from: (IpAddr, u16), to: (IpAddr, u16)) -> Frame {
    let payload = [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0; 8]].concat();
    Frame::new(from.0, to.0, UDP, payload)
}

/// An error with the beginning of a packet: too big.
fn error(from: IpAddr, to: IpAddr, quoted: &Frame) -> Frame {
    let (protocol, kind, code, header) = if from.is_ipv4() { (ICMP, 3, 4, 20) } else { (ICMPV6, 2, 0, 40) };
    let quoted = &quoted.bytes()[14..][..header + 8];
    Frame::new(from, to, protocol, [&[kind, code, 0, 0, 0, 0, 5, 0], quoted].concat())
}

fn out(enforcer: &Enforcer, frame: &Frame) -> Reason {
    judge(enforcer, Way::FromPod, &frame.bytes()).0
}

fn into(enforcer: &Enforcer, frame: &Frame) -> Reason {
    judge(enforcer, Way::ToPod, &frame.bytes()).0
}

fn isolated() -> Enforcer {
    open_ports(&Pod { ingress: Some(&[(UDP, 80)]), egress: Some(&[(UDP, 443)]) })
}

#[test]
fn an_error_about_what_the_pod_sent_reaches_it_while_the_connection_is_open() {
    let mut enforcer = isolated();
    for family in [0, 1] {
        let (own, far) = ((pod(family), CLIENT), (peer(family), 443));
        let sent = datagram(own, far);
        let told = error(router(family), own.0, &sent);
        assert_eq!(into(&enforcer, &told), Reason::Denied, "about nothing");
        assert_eq!(out(&enforcer, &sent), Reason::Allowed);
        assert_eq!(into(&enforcer, &told), Reason::Related);
        assert_eq!(into(&enforcer, &error(far.0, own.0, &sent)), Reason::Related, "from the other end itself");
        // About an answer of the pod's.
        assert_eq!(into(&enforcer, &datagram((far.0, CLIENT), (own.0, 80))), Reason::Allowed);
        let answer = datagram((own.0, 80), (far.0, CLIENT));
        assert_eq!(into(&enforcer, &error(router(family), own.0, &answer)), Reason::Related);
    }
    Pod { ingress: Some(&[]), egress: Some(&[]) }.stage(&mut enforcer);
    enforcer.commit().unwrap();
    let sent = datagram((pod(0), CLIENT), (peer(0), 443));
    assert_eq!(into(&enforcer, &error(router(0), pod(0), &sent)), Reason::Denied, "policy turned");
}

#[test]
fn an_error_of_the_pods_own_goes_back_to_who_sent_and_to_nobody_else() {
    let enforcer = isolated();
    for family in [0, 1] {
        let (own, far) = ((pod(family), 80), (peer(family), CLIENT));
        let got = datagram(far, own);
        assert_eq!(out(&enforcer, &error(own.0, far.0, &got)), Reason::Denied, "about nothing");
        assert_eq!(into(&enforcer, &got), Reason::Allowed);
        assert_eq!(out(&enforcer, &error(own.0, far.0, &got)), Reason::Related);
        assert_eq!(out(&enforcer, &error(own.0, router(family), &got)), Reason::Denied, "to somebody else");
        let own_words = datagram(own, far);
        assert_eq!(out(&enforcer, &error(own.0, far.0, &own_words)), Reason::Denied, "about what it sent itself");
    }
}

#[test]
fn a_forged_error_does_not_pass() {
    let enforcer = isolated();
    for family in [0, 1] {
        let (own, far) = ((pod(family), CLIENT), (peer(family), 443));
        let sent = datagram(own, far);
        assert_eq!(out(&enforcer, &sent), Reason::Allowed);
        let told = |quoted: &Frame| into(&enforcer, &error(router(family), own.0, quoted));
        assert_eq!(told(&datagram((own.0, CLIENT + 1), far)), Reason::Denied, "another port");
        assert_eq!(told(&datagram(own, (far.0, 444))), Reason::Denied, "another port of the other end");
        assert_eq!(told(&datagram(own, (router(family), 443))), Reason::Denied, "another end");
        assert_eq!(told(&datagram((router(family), CLIENT), far)), Reason::Denied, "somebody else's connection");
        assert_eq!(told(&datagram(far, own)), Reason::Denied, "what came to it, not what it sent");
        assert_eq!(told(&Frame { protocol: 6, ..sent.clone() }), Reason::Denied, "another protocol");
        assert_eq!(told(&sent), Reason::Related);
        let whole = error(router(family), own.0, &sent);
        // No prefix of it is more than the whole: what does not reach the ports is judged as a message of its own.
        for length in 8..whole.payload.len() {
            let cut = Frame { payload: whole.payload[..length].to_vec(), ..whole.clone() };
            assert_eq!(into(&enforcer, &cut), Reason::Denied, "{length}");
        }
        let redirect = [if family == 0 { 5 } else { 137 }, 0];
        let payload = [&redirect[..], &whole.payload[2..]].concat();
        assert_eq!(into(&enforcer, &Frame { payload, ..whole }), Reason::Denied, "a redirect");
    }
    // A later fragment is quoted: it has no ports.
    let mut sent = datagram((pod(0), CLIENT), (peer(0), 443));
    sent.fragment = (1, 7);
    assert_eq!(into(&enforcer, &error(router(0), pod(0), &sent)), Reason::Denied);
}

#[test]
fn an_error_about_an_echo_is_of_its_identifier() {
    let enforcer = open_ports(&Pod { ingress: Some(&[]), egress: Some(&[(ICMP, 8 << 8), (ICMPV6, 128 << 8)]) });
    for (family, kind) in [(0, 8), (1, 128)] {
        let protocol = if family == 0 { ICMP } else { ICMPV6 };
        let echo = |id: u8| Frame::new(pod(family), peer(family), protocol, vec![kind, 0, 0, 0, 0, id, 0, 1]);
        assert_eq!(out(&enforcer, &echo(7)), Reason::Allowed);
        assert_eq!(into(&enforcer, &error(router(family), pod(family), &echo(7))), Reason::Related);
        assert_eq!(into(&enforcer, &error(router(family), pod(family), &echo(8))), Reason::Denied);
    }
}
