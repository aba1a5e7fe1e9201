//! Configurations and results on disk. Never outside a directory of the test's own.

use crate::support::*;
use cni_core::cni::NetworkName;
use cni_core::model::EndpointId;
use cni_core::runtime::{Cache, CacheError, Cached, ConfDir, LoadError};
use serde_json::json;
use std::fs;
use std::path::Path;

fn write(directory: &Path, name: &str, content: &str) {
    let file = directory.join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

fn name(name: &str) -> NetworkName {
    NetworkName::new(name).unwrap()
}

fn types(list: &cni_core::cni::NetConfList) -> Vec<&str> {
    list.plugins.iter().map(|plugin| plugin.plugin.as_str()).collect()
}

#[test]
fn files_come_in_the_order_of_their_names_whatever_their_form() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "30-c.conflist", r#"{"name": "c", "plugins": [{"type": "p"}]}"#);
    write(
        directory.path(),
        "10-a.conf",
        r#"{"cniVersion": "0.4.0", "name": "a", "type": "p", "capabilities": {"x": true}}"#,
    );
    write(directory.path(), "20-b.json", r#"{"name": "b", "plugins": [{"type": "p"}]}"#);
    write(directory.path(), "00-readme.txt", "no configuration");
    write(directory.path(), "05-broken.conflist", "{");
    write(directory.path(), "06-directory.conf/x", "");
    let all = ConfDir::new(directory.path()).all().unwrap();
    let names: Vec<_> =
        all.iter().map(|loaded| loaded.conf.as_ref().map(|conf| conf.name.to_string()).unwrap_or_default()).collect();
    assert_eq!(names, ["", "a", "b", "c"]);
    let first = ConfDir::new(directory.path()).first().unwrap();
    assert_eq!((first.name.as_str(), first.cni_version.as_str()), ("a", "0.4.0"));
    assert_eq!(first.plugins[0].capabilities.get("x"), Some(&true));
}

#[test]
fn plugins_in_the_directory_of_the_networks_name_are_appended_in_order() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "10-net.conflist", r#"{"name": "net", "plugins": [{"type": "inlined"}]}"#);
    write(directory.path(), "20-bare.conflist", r#"{"name": "bare"}"#);
    write(
        directory.path(),
        "30-own.conflist",
        r#"{"name": "own", "loadOnlyInlinedPlugins": true, "plugins": [{"type": "p"}]}"#,
    );
    for network in ["net", "bare", "own"] {
        write(directory.path(), &format!("{network}/20-b.conf"), r#"{"type": "second"}"#);
        write(directory.path(), &format!("{network}/10-a.conf"), r#"{"type": "first", "x": 1}"#);
        write(directory.path(), &format!("{network}/30-c.conflist"), r#"{"type": "ignored"}"#);
    }
    let conf = ConfDir::new(directory.path());
    assert_eq!(types(&conf.load(&name("net")).unwrap()), ["inlined", "first", "second"]);
    assert_eq!(types(&conf.load(&name("bare")).unwrap()), ["first", "second"]);
    assert_eq!(types(&conf.load(&name("own")).unwrap()), ["p"]);
}

#[test]
fn lists_are_looked_at_before_single_configurations_and_broken_files_hide_no_other() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "10-single.conf", r#"{"name": "net", "type": "single"}"#);
    write(directory.path(), "20-broken.conflist", r#"{"name": "broken", "plugins": []}"#);
    write(directory.path(), "30-list.conflist", r#"{"name": "net", "plugins": [{"type": "list"}]}"#);
    let conf = ConfDir::new(directory.path());
    assert_eq!(types(&conf.load(&name("net")).unwrap()), ["list"]);
    let error = conf.load(&name("other")).unwrap_err();
    assert!(matches!(&error, LoadError::NotFound { broken, .. } if broken.len() == 1), "{error}");
    assert!(error.to_string().contains("20-broken.conflist"), "{error}");
    let nowhere = ConfDir::new(directory.path().join("nowhere"));
    assert!(matches!(nowhere.first(), Err(LoadError::NotFound { .. })));
    write(directory.path(), "net/x.conf", r#"{"type": "../sh"}"#);
    assert!(conf.load(&name("net")).is_ok_and(|list| types(&list) == ["single"]), "the list is broken now");
}

fn cached(network: &str, container: &str) -> Cached {
    Cached {
        network: name(network),
        id: EndpointId::of(container, "eth0").unwrap(),
        netns: Some("/run/netns/blue".into()),
        args: "A=1;B=2".parse().unwrap(),
        capability_args: json!({"mac": "x"}).as_object().unwrap().clone(),
        config: b"{}?".to_vec(),
        result: json!({"cniVersion": "1.1.0"}),
    }
}

#[test]
fn a_result_is_kept_in_the_format_of_libcni() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path());
    cache.store(&cached("net", "c1")).unwrap();
    let file = fs::read_to_string(directory.path().join("results/net-c1-eth0")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&file).unwrap(),
        json!({
            "kind": "cniCacheV1", "containerId": "c1", "config": "e30/", "ifName": "eth0", "networkName": "net",
            "netns": "/run/netns/blue", "cniArgs": [["A", "1"], ["B", "2"]], "capabilityArgs": {"mac": "x"},
            "result": {"cniVersion": "1.1.0"}
        })
    );
    let loaded = cache.load(&name("net"), &cached("net", "c1").id).unwrap().unwrap();
    assert_eq!(loaded, Cached { config: Vec::new(), ..cached("net", "c1") });
}

#[test]
fn base64_is_that_of_rfc_4648_section_10() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path());
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
    {
        cache.store(&Cached { config: bytes.into(), ..cached("net", "c1") }).unwrap();
        let file = fs::read_to_string(directory.path().join("results/net-c1-eth0")).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&file).unwrap()["config"], text);
    }
}

#[test]
fn attachments_whose_file_names_meet_are_not_mixed_up() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path());
    cache.store(&cached("net-a", "b")).unwrap();
    let met = cached("net", "a-b");
    assert!(matches!(cache.load(&met.network, &met.id), Err(CacheError::Taken { .. })));
    let same_network = EndpointId::of("b-eth0", "x").unwrap();
    cache.store(&Cached { id: EndpointId::of("b", "eth0-x").unwrap(), ..cached("net", "b") }).unwrap();
    assert!(matches!(cache.load(&name("net"), &same_network), Err(CacheError::Taken { .. })));
    let (log, list) =
        (Log::default(), list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}]})));
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log)]));
    let error = runtime.add(&list, &attachment("a-b")).unwrap_err();
    assert!(error.to_string().contains("belongs to b/eth0 on network net-a"), "{error}");
    assert_eq!(calls(&log), Vec::<String>::new());
    runtime.del(&list, &attachment("a-b")).unwrap();
    assert!(cache.load(&name("net-a"), &cached("net-a", "b").id).unwrap().is_some(), "the other's result stays");
}

#[test]
fn a_crash_while_writing_leaves_the_old_result() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path());
    cache.store(&cached("net", "c1")).unwrap();
    fs::write(directory.path().join("results/.net-c1-eth0"), "{\"kind\": \"cniC").unwrap();
    fs::write(directory.path().join("results/.net-c2-eth0"), "{").unwrap();
    assert_eq!(cache.list(&name("net")).unwrap().len(), 1);
    assert_eq!(cache.load(&name("net"), &cached("net", "c2").id).unwrap(), None);
    cache.store(&cached("net", "c2")).unwrap();
    assert_eq!(cache.list(&name("net")).unwrap().len(), 2);
    for _ in 0..2 {
        cache.remove(&name("net"), &cached("net", "c2").id).unwrap();
    }
    assert_eq!(cache.list(&name("net")).unwrap().len(), 1);
}

#[test]
fn a_result_that_cannot_be_read_stops_check_and_add_but_not_del() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "results/net-c1-eth0", "{\"kind\": \"other\"}");
    let (log, list) =
        (Log::default(), list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}]})));
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log)]));
    assert!(runtime.check(&list, &attachment("c1")).is_err());
    assert!(runtime.add(&list, &attachment("c1")).is_err());
    assert_eq!(calls(&log), Vec::<String>::new());
    runtime.del(&list, &attachment("c1")).unwrap();
    assert_eq!(calls(&log), ["first DEL"]);
    runtime.add(&list, &attachment("c1")).unwrap();
}

#[test]
fn an_add_that_cannot_be_remembered_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "results", "a file where the directory should be");
    let (log, list) =
        (Log::default(), list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}]})));
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log)]));
    assert!(runtime.add(&list, &attachment("c1")).is_err());
    assert!(matches!(&calls(&log)[..], [] | [_, _]), "either refused before, or undone after");
}
