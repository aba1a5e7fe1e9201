//! What other proxies of services left on this node. Never changes it: whoever runs them removes it.

use cni_core::backend::Result;
use net_linux::ipvs::Ipvs;
use net_linux::link::{Link, LinkId};
use net_linux::netlink::Socket;
use net_linux::nft::Nft;

/// kube-proxy's device of service addresses in its mode `ipvs`.
const KUBE_DEVICE: &str = "kube-ipvs0";
/// kube-proxy's table in its mode `nftables`.
const KUBE_TABLE: &str = "kube-proxy";
/// kube-proxy's entrance in its modes `iptables` and `ipvs`, as iptables on nftables shows it.
const KUBE_CHAIN: &str = "KUBE-SERVICES";

/// What is in the way, each with what removes it. iptables of the old kind (`iptables-legacy`) is not looked at.
pub(crate) fn leftovers() -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut say = |what: String| {
        found.push(format!(
            "{what}: it would translate services beside us; stop kube-proxy, then run kube-proxy --cleanup"
        ));
    };
    if Link::get(&mut Socket::route()?, &LinkId::Name(KUBE_DEVICE))?.is_some() {
        say(format!("device {KUBE_DEVICE} of kube-proxy is there"));
    }
    let mut nft = Nft::open()?;
    for table in nft.tables()? {
        let table = table.object.id;
        let mut has_chain =
            || nft.chains(&table).map(|all| all.iter().any(|chain| chain.object.id.name.as_str() == KUBE_CHAIN));
        if table.name.as_str() == KUBE_TABLE {
            say(format!("table {table} of kube-proxy is there"));
        } else if table.name.as_str() == "nat" && has_chain()? {
            say(format!("chain {KUBE_CHAIN} of kube-proxy is in table {table}"));
        }
    }
    let foreign: Vec<String> =
        Ipvs::open()?.services()?.iter().filter(|(one, _)| !one.ours).map(|(one, _)| one.id.to_string()).collect();
    if let Some(first) = foreign.first() {
        let count = foreign.len();
        found.push(format!(
            "{count} services of IPVS are not ours ({first}, ...): where one is at an address and port of a service, ours \
             fails; ipvsadm -D takes one away"
        ));
    }
    Ok(found)
}
