//! Maps that are full: what has no room is closed, and what was in force stays so. Never a packet that leaves.

use crate::bed::{judge, refused_by};
use crate::frames::Frame;
use crate::pod::{ADDRESSES, Pod};
use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::{Object, Sizes, Way};

const UDP: u8 = 17;

fn reached(enforcer: &Enforcer, port: u16) -> Reason {
    let payload = [&55_555_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8]].concat();
    let frame = Frame::new("192.0.2.1".parse().unwrap(), ADDRESSES[0].parse().unwrap(), UDP, payload);
    judge(enforcer, Way::ToPod, &frame.bytes()).0
}

#[test]
fn a_program_without_room_is_not_in_force_and_the_one_before_it_is() {
    // Room for one port: a prefix for everything, and one for the port of each family's program.
    let mut enforcer = Enforcer::new(Object::load(&Sizes { classes: 4, ..Sizes::default() }).unwrap());
    Pod { ingress: Some(&[(UDP, 53)]), egress: None }.stage(&mut enforcer);
    enforcer.commit().unwrap();
    assert_eq!((reached(&enforcer, 53), reached(&enforcer, 54)), (Reason::Allowed, Reason::Denied));
    Pod { ingress: Some(&[(UDP, 54)]), egress: None }.stage(&mut enforcer);
    for _ in 0..2 {
        assert_eq!(refused_by(enforcer.commit()), "TRAFFIC");
        assert!(enforcer.waiting() > 0);
        assert_eq!((reached(&enforcer, 53), reached(&enforcer, 54)), (Reason::Allowed, Reason::Denied));
    }
}

#[test]
fn an_endpoint_whose_first_program_has_no_room_is_closed() {
    let mut enforcer = Enforcer::new(Object::load(&Sizes { classes: 1, ..Sizes::default() }).unwrap());
    Pod { ingress: Some(&[(UDP, 53)]), egress: None }.stage(&mut enforcer);
    assert_eq!(refused_by(enforcer.commit()), "TRAFFIC");
    assert_eq!(reached(&enforcer, 53), Reason::UnknownEndpoint);
}
