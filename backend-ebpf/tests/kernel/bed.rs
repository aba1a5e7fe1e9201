//! The programs with the policies of a random cluster. Never a check.

use backend_ebpf::abi::{Reason, Verdict};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::{Judgement, KernelError, Object, Sizes, Way};
use cni_core::backend::Change;
use cni_core::policy::compile::Compiler;
use cni_core::policy::program::PolicyItem;
use cni_core::testkit::policy::Scene;

/// The loopback interface of whatever namespace: a program that is only tried has to be told one that exists.
pub(crate) const INTERFACE: u32 = 1;

/// `TC_ACT_UNSPEC` and `TC_ACT_SHOT`.
const NEXT: i32 = -1;
const DROP: i32 = 2;

pub(crate) fn enforcer() -> Enforcer {
    let sizes = Sizes { identities: 4096, connections: 4096, ..Sizes::default() };
    Enforcer::new(Object::load(&sizes).expect("needs root, and a kernel with BPF"))
}

/// Stages what the compiler has to say.
pub(crate) fn stage(enforcer: &mut Enforcer, compiler: &mut Compiler) {
    for change in compiler.drain() {
        if let Change::Put(PolicyItem::Endpoint(program)) = &change {
            enforcer.tables.set_interface(&program.host_interface, Some(INTERFACE));
        }
        enforcer.tables.apply(change);
    }
}

/// Programs with all policies of a scene.
pub(crate) fn enforce(scene: &Scene) -> (Enforcer, Compiler) {
    let (mut enforcer, mut compiler) = (enforcer(), Compiler::new(&scene.node));
    scene.load(&mut compiler);
    enforcer.tables.set_node_addresses(Scene::interfaces().into_values().flatten().collect());
    stage(&mut enforcer, &mut compiler);
    enforcer.commit().unwrap();
    (enforcer, compiler)
}

/// What the program says; the action must fit the reason.
pub(crate) fn judge(enforcer: &Enforcer, way: Way, frame: &[u8]) -> (Reason, Verdict) {
    let Judgement { action, reason, verdict, .. } = enforcer.object.judge(way, INTERFACE, frame, 1).unwrap();
    let reason = reason.expect("the program leaves a reason");
    assert_eq!(action, if reason.passes() { NEXT } else { DROP }, "{reason:?}");
    (reason, verdict)
}

/// The kernel's clock that the programs read, in seconds: `CLOCK_MONOTONIC`, which starts with the machine.
pub(crate) fn seconds_since_boot() -> u32 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u32::try_from(time.tv_sec).unwrap()
}

/// The map that refused a write.
pub(crate) fn refused_by(result: Result<(), KernelError>) -> &'static str {
    match result {
        Err(KernelError::Map { map, .. }) => map,
        other => panic!("{other:?}"),
    }
}
