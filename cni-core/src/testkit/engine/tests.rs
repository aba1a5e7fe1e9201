//! The engine keeps the laws on the fake kernel, and the fake keeps a kernel's.

use super::fake::{self, Errno, FakeBackend, FakeKernel, FakeKey, FakeObject, Mark};
use super::{Settings, conformance};
use crate::backend::{Change, NetworkChange, OpenRequest, Registry};

#[tokio::test]
async fn the_reconciler_keeps_every_law_on_the_fake_kernel() {
    let mut rig = fake::rig(FakeKernel::default());
    let settings = Settings { walks: 60, ..Settings::default() };
    let report =
        conformance(&mut rig, &fake::network_states(Some), settings).await.unwrap_or_else(|law| panic!("{law}"));
    println!("{report}");
    assert_eq!(report.skipped().count(), 0, "{report}");
}

#[tokio::test]
async fn a_fake_in_a_registry_fails_on_demand_and_comes_back() {
    let kernel = FakeKernel::default();
    let registry = Registry::default().with(FakeBackend::new(kernel.clone()));
    let request = OpenRequest {
        node: fake::node(),
        config: serde_json::Value::Null,
        state_dir: "unused".into(),
        host_stack_for: Vec::new(),
    };
    let mut datapath = registry.get("fake").unwrap().open(request).await.unwrap().datapath;
    for item in fake::network_states(Some).swap_remove(1) {
        datapath.stage(NetworkChange::Put(item)).unwrap();
    }
    datapath.stage(Change::InSync).unwrap();

    kernel.fail_writes([0]);
    let report = datapath.commit().await;
    assert_eq!((report.written, report.failed.len()), (0, 1), "everything waits for the device");
    let report = datapath.commit().await;
    assert!(report.is_complete());
    let all = kernel.dump(Mark::Ours);
    assert_eq!(report.written, all.len());

    let victim = kernel.tamper().unwrap();
    let drift = datapath.resync().await.unwrap();
    assert_eq!(drift.missing, [victim.to_string()]);
    assert_eq!(kernel.dump(Mark::Ours), all);
}

#[test]
fn the_fake_refuses_what_a_kernel_refuses() {
    let kernel = FakeKernel::default();
    let object = || FakeObject(String::new());
    let neighbour = || FakeKey::Neighbour([192, 0, 2, 1].into());
    assert_eq!(kernel.create(neighbour(), object(), Mark::Ours), Err(Errno::ENODEV));
    assert_eq!(kernel.replace(&neighbour(), object()), Err(Errno::ENOENT));
    assert_eq!(kernel.delete(&neighbour()), Err(Errno::ENOENT));
    kernel.create(FakeKey::Device, object(), Mark::Ours).unwrap();
    kernel.create(neighbour(), object(), Mark::Ours).unwrap();
    assert_eq!(kernel.create(neighbour(), object(), Mark::Ours), Err(Errno::EEXIST));
    kernel.delete(&FakeKey::Device).unwrap();
    assert!(kernel.dump(Mark::Ours).is_empty(), "what needs the device goes with it");
}
