//! What the verifier went through and how deep the stack is, against the committed figures. Never a time: `benches`, `policy_ebpf`.

use crate::stack::stack_bytes;
use backend_ebpf::kernel::forward::{FORWARD_OBJECT, Forward, Generation};
use backend_ebpf::kernel::masquerade::{Loaded, MASQUERADE_OBJECT, Masquerade, Room};
use backend_ebpf::kernel::{OBJECT, Object, Sizes, Way};
use backend_ebpf::service::{self, Hook, Programs};

/// Program, instructions that the verifier may go through, bytes of stack: a tenth above what Linux 6.18 needed. Who makes a
/// program dearer raises the figure in the same commit, and says why.
const MOST: [(Way, u32, u64); 4] = [
    (Way::FromPod, 124_000, 400),
    (Way::ToPod, 124_000, 400),
    (Way::FromHost, 95_000, 415),
    (Way::ToHost, 95_000, 415),
];

/// A tenth above what 6.1 needed of the dearest of them, 467,655: it goes on with each word that was read apart, where later ones see that
/// none of them matters any more.
const MOST_ON_6_1: u32 = 515_000;

fn is_stock_kernel() -> bool {
    std::env::var_os("CNIDARIAN_STOCK_KERNEL").is_some()
}

/// Other kernels' verifiers go through others: 6.1 through two and a half times as many of what masquerades on the way out.
fn most_verified(figure: u32) -> u32 {
    if is_stock_kernel() { figure / 2 * 5 } else { figure }
}

/// The same of the programs of forwarding. The verifier goes through the walk over lengths step by step, 129 times; a packet takes as
/// many steps as there are lengths.
const MOST_FORWARD: [(Forward, u32, u64); 4] = [
    (Forward::IntoTunnel, 12_000, 106),
    (Forward::OutOfTunnel, 12_150, 159),
    (Forward::PastStack, 12_350, 132),
    (Forward::FromUnderlay, 12_100, 159),
];

#[test]
fn verifier_costs_of_forwarding_stay_below_the_committed_figures() {
    let loaded = Generation::load((1, 1)).unwrap();
    for (program, most_verified, most_stack) in MOST_FORWARD {
        let (info, most_verified) = (loaded.info(program).unwrap(), self::most_verified(most_verified));
        let verified = info.verified_instruction_count().expect("the kernel tells since 5.16");
        let (name, stack) = (program.name(), stack_bytes(FORWARD_OBJECT, program.name()));
        println!("{name:13} instructions verified: {verified} (at most {most_verified})");
        println!("{name:13} bytes of stack: {stack} (at most {most_stack})");
        println!("{name:13} bytes of machine code: {}", info.size_jitted());
        assert!(verified <= most_verified, "{name}: the verifier went through {verified} instructions");
        assert!(stack <= most_stack, "{name}: {stack} bytes of stack");
    }
}

/// The same of masquerading's. The stack is that of the program's own frame. Since addresses are read in words the verifier goes through a
/// quarter more on the way out, and a third less of policy's.
const MOST_MASQUERADE: [(Masquerade, u32, u64); 2] = [(Masquerade::Out, 235_000, 106), (Masquerade::In, 29_000, 100)];

#[test]
fn verifier_costs_of_masquerading_stay_below_the_committed_figures() {
    let loaded = Loaded::load(Room { connections: 1, prefixes: 1 }).unwrap();
    for (program, most_verified, most_stack) in MOST_MASQUERADE {
        let (info, figure) = (loaded.info(program).unwrap(), self::most_verified(most_verified));
        // A tenth above what 6.1 needed of this one.
        let is_dear = is_stock_kernel() && program == Masquerade::In;
        let most_verified = if is_dear { 91_500 } else { figure };
        let verified = info.verified_instruction_count().expect("the kernel tells since 5.16");
        let (name, stack) = (program.name(), stack_bytes(MASQUERADE_OBJECT, program.name()));
        println!("{name:13} instructions verified: {verified} (at most {most_verified})");
        println!("{name:13} bytes of stack: {stack} (at most {most_stack})");
        println!("{name:13} bytes of machine code: {}", info.size_jitted());
        assert!(verified <= most_verified, "{name}: the verifier went through {verified} instructions");
        assert!(stack <= most_stack, "{name}: {stack} bytes of stack");
    }
}

#[test]
fn verifier_costs_stay_below_the_committed_figures() {
    let object = Object::load(&Sizes::default()).unwrap();
    for (way, figure, most_stack) in MOST {
        let (info, most_verified) = (object.info(way).unwrap(), if is_stock_kernel() { MOST_ON_6_1 } else { figure });
        let verified = info.verified_instruction_count().expect("the kernel tells since 5.16");
        let (name, stack) = (way.program(), stack_bytes(OBJECT, way.program()));
        println!("{name:10} instructions verified: {verified} (at most {most_verified})");
        println!("{name:10} bytes of stack: {stack} (at most {most_stack})");
        println!("{name:10} bytes of machine code: {}", info.size_jitted());
        assert!(verified <= most_verified, "{name}: the verifier went through {verified} instructions");
        assert!(stack <= most_stack, "{name}: {stack} bytes of stack");
    }
}

/// As above, of the programs at sockets: those that lead to a backend, and those that show the service again.
const MOST_FORWARDS: (u32, u64) = (1250, 350);
const MOST_REVERSES: (u32, u64) = (112, 56);

#[test]
fn verifier_costs_at_sockets_stay_below_the_committed_figures() {
    let programs = Programs::load(&service::Sizes::default(), None).unwrap();
    for hook in Hook::ALL {
        let forwards = matches!(hook, Hook::Connect4 | Hook::Connect6 | Hook::SendMsg4 | Hook::SendMsg6);
        let (figure, most_stack) = if forwards { MOST_FORWARDS } else { MOST_REVERSES };
        let (name, stack) = (hook.name(), stack_bytes(service::OBJECT, hook.name()));
        let verified = programs.info(hook).unwrap().verified_instruction_count().expect("the kernel tells since 5.16");
        println!("{name:12} instructions verified: {verified} (at most {})", most_verified(figure));
        println!("{name:12} bytes of stack: {stack} (at most {most_stack})");
        assert!(verified <= most_verified(figure), "{name}: the verifier went through {verified} instructions");
        assert!(stack <= most_stack, "{name}: {stack} bytes of stack");
    }
}
