//! What a host has, in a kernel of its own.

use super::*;
use cni_core::backend::Known;
use std::net::SocketAddr;

const FORWARD: &str = "net/ipv4/ip_forward";

fn put(key: Key, object: Object) -> Op<Key, Object> {
    Op::Put { key, present: Known::Absent, object }
}

/// A host of a fresh namespace, for a thread that is not in it.
fn elsewhere() -> Host {
    NetNs::new().unwrap().run(|| Host::open().unwrap()).unwrap()
}

fn wanted() -> Vec<(Key, Object)> {
    let tunnel = [SocketAddr::from(([192, 0, 2, 1], 8472))];
    let untracked = untracked::objects(tunnel).into_iter().map(|(key, object)| (Key::Untracked(key), object));
    let ends = tunnel_ends::objects(tunnel).into_iter().map(|(key, object)| (Key::Ends(key), Object::Ends(object)));
    std::iter::once((Key::Sysctl(FORWARD.into()), Object::Sysctl("1".into())))
        .chain(untracked.map(|(key, object)| (key, Object::Untracked(object))))
        .chain(ends)
        .collect()
}

#[test]
fn what_was_written_is_there_in_the_hosts_own_namespace() {
    let (mut host, here) = (elsewhere(), sysctl::read(FORWARD).unwrap());
    host.inside(|| sysctl::write(FORWARD, "0").unwrap()).unwrap();
    let batch: Vec<_> = wanted().into_iter().map(|(key, object)| put(key, object)).collect();
    assert!(host.apply(&batch).iter().all(Result::is_ok));
    assert_eq!(
        host.observe([FORWARD, "net/ipv4/no_such"].map(|path| Key::Sysctl(path.into())).into_iter()).unwrap(),
        wanted()
    );
    assert_eq!(sysctl::read(FORWARD).unwrap(), here);
}

#[test]
fn an_object_of_another_kind_is_refused_and_the_others_are_written() {
    let mut host = elsewhere();
    let setting = || Object::Sysctl("1".into());
    let mut batch: Vec<_> = wanted().into_iter().map(|(key, object)| put(key, object)).collect();
    let end = Key::Ends(tunnel_ends::Key::End([192, 0, 2, 2].into()));
    batch.insert(1, put(Key::Masquerade(masquerade::Key), setting()));
    batch.insert(3, put(end, setting()));
    let results = host.apply(&batch);
    let refused = |result: &Result<()>| matches!(result, Err(error) if error.kind == ErrorKind::Invalid);
    let at: Vec<usize> = (0..results.len()).filter(|at| results[*at].is_err()).collect();
    assert_eq!(at, [1, 3]);
    assert!(refused(&results[1]) && refused(&results[3]));
    assert_eq!(host.observe([Key::Sysctl(FORWARD.into())].into_iter()).unwrap(), wanted());
}
