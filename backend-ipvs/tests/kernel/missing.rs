//! A kernel without IPVS, such as the one that most tests run on natively. Never one that has it.

use backend_ipvs::config::Config;
use cni_core::backend::ErrorKind;
use net_linux::ipvs::Ipvs;
use net_linux::netns::NetNs;
use testlab::bed::run;

/// The reason is in the error, and nothing was touched.
#[test]
fn a_kernel_without_ipvs_is_refused_with_the_reason_before_anything_is_touched() {
    if Ipvs::open_loading().is_ok() {
        println!("skipped: this kernel has IPVS");
        return;
    }
    let look = || [run("ip -o link"), run("ip -o address"), run("nft list ruleset"), run("sysctl net.ipv4.ip_forward")];
    let fresh = NetNs::new().unwrap();
    fresh
        .run(|| {
            let before = look();
            let error = backend_ipvs::open(&Config::default()).err().unwrap();
            assert_eq!(error.kind, ErrorKind::Unsupported);
            assert!(error.to_string().contains("this kernel has no IPVS"), "{error}");
            assert_eq!(look(), before);
        })
        .unwrap();
}
