//! How deep the stack of programs is, read from their instructions. Never from a kernel: each counts in its own way, and tells only in
//! a log.

use aya_obj::Object as Elf;
use aya_obj::generated::bpf_insn;
use backend_ebpf::kernel::OBJECT;
use backend_ebpf::kernel::forward::FORWARD_OBJECT;
use backend_ebpf::kernel::masquerade::MASQUERADE_OBJECT;
use backend_ebpf::service;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// `MAX_BPF_STACK` of `include/linux/filter.h`: of a program and all that it calls.
const MOST: u64 = 512;
/// To a multiple of what `check_max_stack_depth` of `kernel/bpf/verifier.c` rounds each frame up, none being empty. Since Linux 6.8 it is
/// 16 with a compiler to machine code.
const ROUNDED_TO: u64 = 32;

/// `BPF_REG_10`, and the classes and codes of instructions that reach the stack through it or a copy of it.
const FRAME_POINTER: u8 = 10;
const LDX: u8 = 0x61;
const MOV64_REG: u8 = 0xbf;
const ADD64_IMM: u8 = 0x07;
/// A call, and `BPF_PSEUDO_CALL`: of a function of the program, so many instructions away.
const CALL: u8 = 0x85;
const OF_THE_PROGRAM: u8 = 1;

/// How far below its frame pointer a program reaches, without what it calls.
pub(crate) fn stack_bytes(object: &[u8], program: &str) -> u64 {
    let elf = Elf::parse(object).unwrap();
    frame_bytes(&elf.functions[&elf.programs[program].function_key()].instructions)
}

/// By addresses that it makes (`mov`, `add`), and loads and stores.
fn frame_bytes(instructions: &[bpf_insn]) -> u64 {
    let mut copies = [false; 16];
    let mut deepest = 0_i64;
    for instruction in instructions {
        let (to, from, code) = (instruction.dst_reg(), instruction.src_reg(), instruction.code);
        let reach: i64 = match code {
            MOV64_REG => {
                copies[usize::from(to)] = from == FRAME_POINTER;
                0
            }
            ADD64_IMM if copies[usize::from(to)] => instruction.imm.into(),
            // Loads (class 1) reach through their source, stores (2, 3) through their target.
            _ if code & 7 == LDX & 7 && from == FRAME_POINTER => instruction.off.into(),
            _ if matches!(code & 7, 2 | 3) && to == FRAME_POINTER => instruction.off.into(),
            _ => 0,
        };
        deepest = deepest.min(reach);
    }
    deepest.unsigned_abs()
}

/// A program with all that it calls, as it is loaded.
struct Linked {
    /// By the place of its first instruction: its frame, and what it calls.
    functions: BTreeMap<usize, (u64, BTreeSet<usize>)>,
}

impl Linked {
    fn new(instructions: &[bpf_insn]) -> Self {
        let calls: Vec<(usize, usize)> = instructions
            .iter()
            .enumerate()
            .filter(|(_, one)| one.code == CALL && one.src_reg() == OF_THE_PROGRAM)
            .map(|(at, one)| (at, at.checked_add_signed(isize::try_from(one.imm).unwrap() + 1).unwrap()))
            .collect();
        let begins: BTreeSet<usize> = calls.iter().map(|(_, to)| *to).chain([0]).collect();
        let ends = begins.iter().copied().skip(1).chain([instructions.len()]);
        let function = |(begin, end): (&usize, usize)| {
            let called = calls.iter().filter(|(at, _)| (*begin..end).contains(at)).map(|(_, to)| *to).collect();
            (*begin, (frame_bytes(&instructions[*begin..end]), called))
        };
        Self { functions: begins.iter().zip(ends).map(function).collect() }
    }

    /// The deepest chain of calls from here, with the frames in it. Programs do not call themselves: the verifier refuses that.
    fn deepest(&self, from: usize) -> (u64, Vec<u64>) {
        let (frame, called) = &self.functions[&from];
        let (below, mut frames) = called.iter().map(|to| self.deepest(*to)).max().unwrap_or_default();
        frames.insert(0, *frame);
        (below + (*frame).max(1).next_multiple_of(ROUNDED_TO), frames)
    }
}

#[test]
fn no_chain_of_calls_is_deeper_than_an_older_verifier_lets_it_be() {
    let mut too_deep = Vec::new();
    for object in [OBJECT, FORWARD_OBJECT, MASQUERADE_OBJECT, service::OBJECT] {
        let mut elf = Elf::parse(object).unwrap();
        let texts: HashSet<usize> = elf.functions.keys().map(|(section, _)| *section).collect();
        elf.relocate_calls(&texts).unwrap();
        for (name, program) in &elf.programs {
            let (deepest, frames) = Linked::new(&elf.functions[&program.function_key()].instructions).deepest(0);
            println!("{name:13} bytes of stack: {deepest} of {MOST}, frames {frames:?}");
            too_deep.extend((deepest > MOST).then_some(name.clone()));
        }
    }
    assert!(too_deep.is_empty(), "{too_deep:?}");
}
