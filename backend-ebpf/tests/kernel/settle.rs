//! Programs of pods begin at clsact and are moved to TCX. Never without TCX.

use crate::attached::{CLIENT, SERVER, pod, staged};
use crate::place::{in_own_place, index};
use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact};
use aya::programs::{SchedClassifier, TcAttachType};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::forward::{FORWARD_OBJECT, Forward, Generation};
use backend_ebpf::kernel::{Attached, Hook, Hooks, Known, OBJECT, Program, Side, Way};
use net_linux::netlink::Socket;
use net_linux::netns::NetNs;
use net_linux::tc;
use std::os::fd::AsFd as _;
use std::process::Command;

const UDP: u8 = 17;

/// A node with two pods and these hooks, where the kernel has TCX.
fn at_tcx(work: impl FnOnce(&mut Hooks, u32) + Send) {
    if Hook::probe() == Hook::Clsact {
        println!("this kernel has no TCX");
        return;
    }
    in_own_place(|| {
        let node = NetNs::current().unwrap();
        let _pods = [CLIENT, SERVER].map(|one| pod(&node, one));
        work(&mut Hook::Tcx.open().unwrap(), index(CLIENT.0));
    });
}

/// Those of policy or of forwarding at one side, and where.
fn found<P: Program>(hooks: &mut Hooks, interface: u32, side: Side) -> Vec<(&'static str, Hook)> {
    let found: Vec<Attached<P>> = hooks.find(interface, side).unwrap();
    found.iter().map(|at| (at.program.name(), at.hook)).collect()
}

/// All at one side, in the order in which they are asked.
fn names(hooks: &mut Hooks, interface: u32, side: Side) -> Vec<String> {
    let ids = hooks.ids(interface, side).unwrap();
    ids.into_iter().map(|id| Known::of(id).unwrap().unwrap().name).collect()
}

fn filters(interface: u32, side: Side) -> usize {
    tc::Filter::dump(&mut Socket::route().unwrap(), interface, side).unwrap().len()
}

#[test]
fn what_takes_packets_away_comes_to_tcx_behind_what_judges_them() {
    at_tcx(|hooks, interface| {
        let forwarding = Generation::load((1, 1)).unwrap();
        let program = forwarding.program(Forward::PastStack).unwrap();
        hooks.attach(Forward::PastStack, interface, program.as_fd(), None).unwrap();
        let mut enforcer = staged((UDP, 80));
        enforcer.object.attach(hooks, Way::FromPod, interface).unwrap();
        assert_eq!(found::<Way>(hooks, interface, Side::Ingress), [("from_pod", Hook::Clsact)]);
        assert_eq!(found::<Forward>(hooks, interface, Side::Ingress), [("past_stack", Hook::Clsact)]);
        assert_eq!(names(hooks, interface, Side::Ingress), ["from_pod", "past_stack"]);
        hooks.settle(interface, Side::Ingress).unwrap();
        assert_eq!(found::<Way>(hooks, interface, Side::Ingress), [("from_pod", Hook::Tcx)]);
        assert_eq!(found::<Forward>(hooks, interface, Side::Ingress), [("past_stack", Hook::Tcx)]);
        assert_eq!(names(hooks, interface, Side::Ingress), ["from_pod", "past_stack"]);
        assert_eq!(filters(interface, Side::Ingress), 0);
    });
}

#[test]
fn what_is_put_at_tcx_at_once_takes_along_what_is_to_be_moved() {
    at_tcx(|hooks, interface| {
        let mut enforcer = staged((UDP, 80));
        enforcer.object.attach(hooks, Way::ToPod, interface).unwrap();
        // One that nobody waits for.
        enforcer.object.attach(hooks, Way::FromHost, interface).unwrap();
        assert_eq!(names(hooks, interface, Side::Egress), ["from_host", "to_pod"]);
        assert_eq!(found::<Way>(hooks, interface, Side::Egress), [("from_host", Hook::Tcx), ("to_pod", Hook::Tcx)]);
        // With somebody there already, nothing waits at clsact, where it would not be asked.
        let index = index(SERVER.0);
        enforcer.object.attach(hooks, Way::FromHost, index).unwrap();
        enforcer.object.attach(hooks, Way::ToPod, index).unwrap();
        assert_eq!(names(hooks, index, Side::Egress), ["to_pod", "from_host"]);
        assert_eq!(filters(index, Side::Egress), 0);
    });
}

#[test]
fn of_an_agent_that_ended_between_the_two_steps_no_old_policy_is_left() {
    at_tcx(|hooks, interface| {
        let [mut old, mut new, mut newest] = [0; 3].map(|_| staged((UDP, 80)));
        old.object.attach(hooks, Way::FromPod, interface).unwrap();
        hooks.settle(interface, Side::Ingress).unwrap();
        // What the first step leaves.
        let both = |enforcer: &mut Enforcer| {
            enforcer.object.attach(&mut Hook::Clsact.open().unwrap(), Way::FromPod, interface).unwrap();
            assert_eq!(filters(interface, Side::Ingress), 1);
        };
        both(&mut old);
        new.object.attach(hooks, Way::FromPod, interface).unwrap();
        assert_eq!((hooks.ids(interface, Side::Ingress).unwrap().len(), filters(interface, Side::Ingress)), (1, 0));
        both(&mut new);
        hooks.settle(interface, Side::Ingress).unwrap();
        assert_eq!((hooks.ids(interface, Side::Ingress).unwrap().len(), filters(interface, Side::Ingress)), (1, 0));
        both(&mut new);
        newest.object.attach(hooks, Way::FromPod, interface).unwrap();
        both(&mut newest);
        hooks.take_off(Way::FromPod, interface).unwrap();
        assert_eq!((hooks.ids(interface, Side::Ingress).unwrap().len(), filters(interface, Side::Ingress)), (0, 0));
    });
}

#[test]
fn what_was_found_at_clsact_is_replaced_and_taken_off_where_it_was_moved_to() {
    at_tcx(|hooks, interface| {
        let [mut first, second] = [0; 2].map(|_| staged((UDP, 80)));
        first.object.attach(hooks, Way::ToPod, interface).unwrap();
        let at: Vec<Attached<Way>> = hooks.find(interface, Side::Egress).unwrap();
        hooks.settle(interface, Side::Egress).unwrap();
        let id = second.object.program_ids([Way::ToPod, Way::FromPod]).unwrap()[0];
        let fd = Known::of(id).unwrap().unwrap().fd().unwrap();
        hooks.attach(Way::ToPod, interface, fd.as_fd(), Some(&at[0])).unwrap();
        assert_eq!((hooks.ids(interface, Side::Egress).unwrap(), filters(interface, Side::Egress)), (vec![id], 0));
    });
}

#[test]
fn a_foreign_program_that_comes_in_between_hides_no_old_policy_and_is_asked_behind_ours() {
    at_tcx(|hooks, interface| {
        let [mut old, mut new] = [0; 2].map(|_| staged((UDP, 80)));
        old.object.attach(hooks, Way::ToPod, interface).unwrap();
        let mut theirs = Ebpf::load(OBJECT).unwrap();
        let program: &mut SchedClassifier = theirs.program_mut("to_pod").unwrap().try_into().unwrap();
        program.load().unwrap();
        let last = TcAttachOptions::TcxOrder(LinkOrder::default());
        program.attach_with_options(CLIENT.0, TcAttachType::Egress, last).unwrap();
        let theirs = program.info().unwrap().id();
        new.object.attach(hooks, Way::ToPod, interface).unwrap();
        hooks.settle(interface, Side::Egress).unwrap();
        let ours = new.object.program_ids([Way::ToPod, Way::FromPod]).unwrap()[0];
        assert_eq!(hooks.ids(interface, Side::Egress).unwrap(), [ours, theirs]);
    });
}

#[test]
fn beside_somebodys_filter_or_where_clsact_is_left_to_others_nothing_waits_there() {
    at_tcx(|hooks, interface| {
        let mut enforcer = staged((UDP, 80));
        let theirs = NlOptions { priority: 1, handle: 1.into(), ..NlOptions::default() };
        let mut foreign = Ebpf::load(OBJECT).unwrap();
        let program: &mut SchedClassifier = foreign.program_mut("to_pod").unwrap().try_into().unwrap();
        program.load().unwrap();
        qdisc_add_clsact(CLIENT.0).unwrap();
        program.attach_with_options(CLIENT.0, TcAttachType::Ingress, TcAttachOptions::Netlink(theirs)).unwrap();
        enforcer.object.attach(hooks, Way::FromPod, interface).unwrap();
        assert_eq!(found::<Way>(hooks, interface, Side::Ingress), [("from_pod", Hook::Tcx)]);
        let other = index(SERVER.0);
        hooks.leave_clsact(true);
        enforcer.object.attach(hooks, Way::FromPod, other).unwrap();
        assert_eq!(found::<Way>(hooks, other, Side::Ingress), [("from_pod", Hook::Tcx)]);
        let bare = Command::new("tc").args(["qdisc", "add", "dev", SERVER.0, "ingress"]).status().unwrap();
        assert!(bare.success(), "as the bandwidth plugin does");
    });
}

#[test]
fn each_state_that_a_crash_leaves_is_put_right_by_other_programs_and_nothing_outlives_them() {
    at_tcx(|hooks, interface| {
        let side = Side::Ingress;
        for (state, [policy_moved, policy_left, forwarding_moved, forwarding_left]) in [
            [false, true, false, true],
            [true, true, false, true],
            [true, false, false, true],
            [true, false, true, true],
            [true, false, true, false],
        ]
        .into_iter()
        .enumerate()
        {
            let (mut old, forwarding) = (staged((UDP, 80)), Generation::load((1, 1)).unwrap());
            let past_stack = forwarding.program(Forward::PastStack).unwrap();
            let mut at_clsact = Hook::Clsact.open().unwrap();
            let put =
                |hooks: &mut Hooks| hooks.attach(Forward::PastStack, interface, past_stack.as_fd(), None).unwrap();
            // Of those with nobody before them the second would be at clsact only.
            hooks.leave_clsact(true);
            policy_moved.then(|| old.object.attach(hooks, Way::FromPod, interface).unwrap());
            forwarding_moved.then(|| put(hooks));
            hooks.leave_clsact(false);
            policy_left.then(|| old.object.attach(&mut at_clsact, Way::FromPod, interface).unwrap());
            forwarding_left.then(|| put(&mut at_clsact));
            let (mut new, next) = (staged((UDP, 80)), Generation::load((1, 1)).unwrap());
            let program = next.program(Forward::PastStack).unwrap();
            let former: Vec<Attached<Forward>> = hooks.find(interface, side).unwrap();
            hooks.attach(Forward::PastStack, interface, program.as_fd(), former.first()).unwrap();
            new.object.attach(hooks, Way::FromPod, interface).unwrap();
            hooks.settle(interface, side).unwrap();
            let ids = [
                new.object.program_ids([Way::FromPod, Way::ToPod]).unwrap()[0],
                next.info(Forward::PastStack).unwrap().id(),
            ];
            assert_eq!(hooks.ids(interface, side).unwrap(), ids, "state {state}");
            hooks.take_off(Way::FromPod, interface).unwrap();
            let left: Vec<Attached<Forward>> = hooks.find(interface, side).unwrap();
            left.iter().for_each(|at| hooks.detach(at).unwrap());
            assert_eq!(hooks.ids(interface, side).unwrap(), [0; 0], "state {state}");
        }
    });
}

/// The most programs at one hook: `BPF_MPROG_MAX` of `include/linux/bpf_mprog.h`, of which one is the end.
const MOST: usize = 64 - 1;

#[test]
fn where_there_is_room_for_one_only_what_judges_is_moved() {
    at_tcx(|hooks, interface| {
        let mut enforcer = staged((UDP, 80));
        let forwarding = Generation::load((1, 1)).unwrap();
        let program = forwarding.program(Forward::PastStack).unwrap();
        enforcer.object.attach(hooks, Way::FromPod, interface).unwrap();
        hooks.attach(Forward::PastStack, interface, program.as_fd(), None).unwrap();
        let mut theirs: Vec<Ebpf> = (0..MOST.div_ceil(4)).map(|_| Ebpf::load(FORWARD_OBJECT).unwrap()).collect();
        let all = theirs.iter_mut().flat_map(|object| object.programs_mut().map(|(_, program)| program));
        for program in all.take(MOST - 1) {
            let program: &mut SchedClassifier = program.try_into().unwrap();
            program.load().unwrap();
            let last = TcAttachOptions::TcxOrder(LinkOrder::default());
            program.attach_with_options(CLIENT.0, TcAttachType::Ingress, last).unwrap();
        }
        hooks.settle(interface, Side::Ingress).unwrap_err();
        assert_eq!(found::<Way>(hooks, interface, Side::Ingress), [("from_pod", Hook::Tcx)]);
        let ours: Vec<Attached<Forward>> = hooks.find(interface, Side::Ingress).unwrap();
        let ours: Vec<_> = ours.iter().filter(|at| !at.linked).map(|at| (at.program.name(), at.hook)).collect();
        assert_eq!(ours, [("past_stack", Hook::Clsact)]);
    });
}
