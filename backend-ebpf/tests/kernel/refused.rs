//! What the kernel refuses: named with its kind and what would be right, nothing of it is left, and it is in force when the kernel
//! takes it. Never a limit of anybody else's process.

use crate::attached::SERVER;
use crate::conformance::{config, place};
use crate::engine::{items, pods};
use crate::place::{block_on, in_own_place};
use aya_obj::Object as Elf;
use backend_ebpf::engine::{self, Config, Hook, probe};
use backend_ebpf::kernel::{KernelError, OBJECT, Object, Sizes, Way};
use cni_core::backend::{Change, Error, ErrorKind, Retry};
use cni_core::policy::program::PolicyEngine;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn open(maps: Sizes) -> Box<dyn PolicyEngine> {
    let mut engine = engine::open_at(&Config { maps, ..config() }, probe(), Hook::probe()).unwrap();
    items().into_iter().for_each(|item| engine.stage(Change::Put(item)).unwrap());
    engine.stage(Change::InSync).unwrap();
    engine
}

/// What the commit fails for; nothing is pinned then.
fn refused(engine: &mut dyn PolicyEngine, pins: &Path) -> Error {
    let report = block_on(engine.commit());
    let [failure] = <[_; 1]>::try_from(report.failed).unwrap();
    assert_eq!(fs::read_dir(pins).unwrap().count(), 0, "pins are left");
    failure.error
}

fn is_attached() -> bool {
    let index = nix::net::if_::if_nametoindex(SERVER.0).unwrap();
    let is_at = |way| Hook::probe().open().unwrap().has_ours(way, index).unwrap();
    let all = Way::PODS.map(is_at);
    assert_eq!(all[0], all[1]);
    all[0]
}

#[test]
fn who_lacks_the_right_is_told_which_and_enforces_when_it_has_it() {
    in_own_place(|| {
        let _pods = pods();
        let mut engine = open(config().maps);
        let (all, pins) = (capabilities(None).unwrap(), place());
        let mut few = all;
        few.effective -= CapabilitySet::BPF | CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON;
        set_capabilities(None, few).unwrap();
        let error = refused(&mut *engine, &pins);
        set_capabilities(None, all).unwrap();
        assert_eq!((error.kind, error.retry), (ErrorKind::Denied, Retry::AfterChange), "{error}");
        assert!(error.detail.contains("CAP_SYS_ADMIN"), "{error}");
        assert!(!is_attached());
        assert!(block_on(engine.commit()).is_complete());
        assert!(is_attached());
    });
}

#[test]
fn a_map_larger_than_the_kernel_takes_is_named_with_its_key() {
    in_own_place(|| {
        let _pods = pods();
        let mut engine = open(Sizes { verdicts: u32::MAX, ..config().maps });
        let error = refused(&mut *engine, &place());
        assert_eq!((error.kind, error.retry), (ErrorKind::Invalid, Retry::AfterChange), "{error}");
        assert!(error.detail.contains("VERDICTS") && error.detail.contains("policy.maps"), "{error}");
        assert!(!is_attached());
    });
}

/// The process that is to run short of memory finds here its control group.
const GROUP: &str = "CNIDARIAN_EBPF_MEMORY_GROUP";
/// Enough for a process, and too little for maps of the usual sizes.
const LIMIT: &str = "67108864";

/// Where groups with a limit of memory are made, and the name of the limit: cgroup v1, or v2.
fn limits() -> Option<(PathBuf, &'static str)> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let of_v1 = own.lines().find_map(|line| line.split_once(":memory:"));
    if let Some((_, own)) = of_v1 {
        let own = Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/'));
        return own.is_dir().then_some((own, "memory.limit_in_bytes"));
    }
    let root = PathBuf::from("/sys/fs/cgroup");
    let has = fs::read_to_string(root.join("cgroup.subtree_control")).is_ok_and(|all| all.contains("memory"));
    has.then_some((root, "memory.max"))
}

/// A group that goes with its last process.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The process in the group; without being asked to, it does nothing.
#[test]
fn an_enforcer_with_little_memory() {
    let Some(group) = std::env::var_os(GROUP).map(PathBuf::from) else { return };
    let (_, limit) = limits().unwrap();
    in_own_place(|| {
        let _pods = pods();
        let mut engine = open(Sizes::default());
        fs::write(group.join(limit), LIMIT).unwrap();
        fs::write(group.join("cgroup.procs"), "0").unwrap();
        let error = refused(&mut *engine, &place());
        assert_eq!((error.kind, error.retry), (ErrorKind::Busy, Retry::Soon), "{error}");
        assert!(error.detail.contains("memory.max") && error.detail.contains("policy.maps"), "{error}");
        assert!(!is_attached());
        fs::write(group.join(limit), "4294967296").unwrap();
        assert!(block_on(engine.commit()).is_complete());
        assert!(is_attached());
    });
}

#[test]
fn a_control_group_without_memory_is_named_and_policy_is_in_force_when_it_has_more() {
    let Some((above, limit)) = limits() else {
        println!("skipped: this process may make no control group with a limit of memory");
        return;
    };
    let group = Group(above.join(format!("cnidarian-test-{}", std::process::id())));
    match fs::create_dir(&group.0) {
        Ok(()) => assert!(group.0.join(limit).exists()),
        Err(error) => {
            println!("skipped: {}: {error}", group.0.display());
            return;
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["refused::an_enforcer_with_little_memory", "--exact", "--nocapture"]).env(GROUP, &group.0);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{}\n{said}\n{cried}", output.status);
}

/// The object with one instruction of a program changed: it reads a register that no value is in.
fn broken(program: &str) -> Vec<u8> {
    /// A call of a helper, after which registers 1 to 5 hold nothing; `r0 = r1`.
    const CALL: u8 = 0x85;
    const READ: [u8; 8] = [0xbf, 0x10, 0, 0, 0, 0, 0, 0];
    let elf = Elf::parse(OBJECT).unwrap();
    let instructions = &elf.functions[&elf.programs[program].function_key()].instructions;
    let bytes = |instruction: &aya_obj::generated::bpf_insn| {
        let mut bytes = vec![instruction.code, instruction.dst_reg() | instruction.src_reg() << 4];
        bytes.extend(instruction.off.to_le_bytes());
        bytes.extend(instruction.imm.to_le_bytes());
        bytes
    };
    let whole: Vec<u8> = instructions.iter().flat_map(bytes).collect();
    let begin = OBJECT.windows(whole.len()).position(|window| window == whole).unwrap();
    let call = instructions.iter().position(|one| one.code == CALL && one.src_reg() == 0).unwrap();
    let mut object = OBJECT.to_vec();
    object[begin + 8 * (call + 1)..][..8].copy_from_slice(&READ);
    object
}

#[test]
fn a_program_that_the_verifier_refuses_is_named_with_the_end_of_its_log() {
    let few = config().maps;
    Object::load_of(OBJECT, &few).unwrap();
    let Err(error) = Object::load_of(&broken("to_pod"), &few) else { panic!("it is loaded") };
    let KernelError::Refused { program, log, .. } = &error else { panic!("{error}") };
    assert_eq!(*program, "to_pod");
    assert!(log.contains("R1 !read_ok") && log.contains("processed "), "{log}");
    assert!(log.contains("lines left out"), "{log}");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        assert!(error.to_string().len() < 2200, "{error}");
        cause = error.source();
    }
}
