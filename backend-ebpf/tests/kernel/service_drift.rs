//! What somebody takes of services' programs and pins behind our back, in namespaces and cgroups of the test's own.

use crate::place::in_own_place;
use crate::services::{Proxy, V4, items};
use crate::sockets::{client, in_a_namespace};
use backend_ebpf::engine::BPFFS;
use backend_ebpf::service::{Config, EbpfServices, SocketDriver};
use cni_core::backend::{Drift, Engine, ProxyBackend as _};
use net_linux::netns::NetNs;
use nix::mount::{MsFlags, mount};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use testlab::bed::Cgroup;

fn folder() -> PathBuf {
    let number = NetNs::current().unwrap().cookie().unwrap();
    Path::new(BPFFS).join(format!("cnidarian/{number}/services"))
}

fn pins(ends: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_str().unwrap().ends_with(ends)).collect()
}

fn resync(proxy: &mut Proxy) -> Drift {
    let drift = proxy.1.block_on(proxy.0.resync()).unwrap();
    assert!(drift.repair.is_complete(), "{drift:?}");
    let again = proxy.1.block_on(proxy.0.resync()).unwrap();
    assert!(again.is_none(), "{again:?}");
    drift
}

#[test]
fn a_program_that_is_at_no_hook_is_missed_though_its_pin_is_there() {
    let (Some(cgroup), Some(other)) = (Cgroup::new(), Cgroup::new()) else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items("abc"));
        let mut client = client(&cgroup.0);
        let (here, there) = [&cgroup, &other].map(|cgroup| std::fs::metadata(&cgroup.0).unwrap().ino()).into();
        // The same programs at another cgroup, whose pins take the place of ours: so ours are at no hook.
        drop(Proxy::open(&other.0));
        let foreign = pins(&format!("-{there}"));
        assert_eq!(foreign.len(), 8);
        for pin in foreign {
            let name = pin.file_name().unwrap().to_str().unwrap();
            let ours = pin.with_file_name(name.replace(&format!("-{there}"), &format!("-{here}")));
            std::fs::rename(&pin, ours).unwrap();
        }
        assert!(client.ask("tcp", V4).is_err(), "nobody translates");
        assert_eq!(resync(&mut proxy).changed.len(), 8);
        client.ask("tcp", V4).unwrap();
        EbpfServices.clear().unwrap();
    });
}

#[test]
fn pins_that_somebody_removes_are_back_with_the_same_maps() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items("abc"));
        let mut client = client(&cgroup.0);
        let maps =
            || std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
        std::fs::remove_dir_all(maps().unwrap()).unwrap();
        assert_eq!(resync(&mut proxy).changed, ["pins of services' maps"]);
        std::fs::remove_dir_all(folder().parent().unwrap()).unwrap();
        assert!(client.ask("tcp", V4).is_err(), "links go with their pins");
        resync(&mut proxy);
        client.ask("tcp", V4).unwrap();
        drop(proxy);
        let mut next = Proxy::open(&cgroup.0);
        items("abc").into_iter().for_each(|item| next.0.stage(cni_core::backend::Change::Put(item)).unwrap());
        assert!(next.0.plan().steps.is_empty(), "a successor goes on with these maps: {}", next.0.plan());
        EbpfServices.clear().unwrap();
    });
}

#[test]
fn who_is_opened_with_another_bpffs_takes_an_earlier_one_s_programs_away_when_its_own_are_there() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_own_place(|| {
        let bpffs = tempfile::tempdir().unwrap();
        let with =
            |bpffs: &Path| Config { cgroup: Some(cgroup.0.clone()), bpffs: bpffs.to_owned(), ..Config::default() };
        let mut earlier = Proxy::open_with(&with(bpffs.path()));
        earlier.put(items("abc"));
        drop(earlier);
        let pins = bpffs.path().join(folder().strip_prefix(BPFFS).unwrap());
        // The same one by another path is no other.
        let again = tempfile::tempdir().unwrap();
        mount(Some(bpffs.path()), again.path(), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Proxy::open_with(&with(again.path())).put(items("abc"));
        assert!(pins.exists());
        // Who cannot be opened takes nothing away.
        let nowhere = Config { cgroup: Some("/nowhere".into()), ..with(Path::new(BPFFS)) };
        assert!(SocketDriver::open(&nowhere).is_err());
        let inside = bpffs.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let refused = SocketDriver::open(&with(&inside)).err().unwrap();
        assert!(refused.to_string().contains("name the bpffs itself"), "{refused}");
        let mut next = Proxy::open_with(&with(Path::new(BPFFS)));
        assert!(pins.exists(), "its own are not there yet");
        next.put(items("abc"));
        assert!(!pins.exists(), "its programs would lead to backends that are none any more");
        EbpfServices.clear().unwrap();
    });
}
