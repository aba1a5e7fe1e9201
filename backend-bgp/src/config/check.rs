//! From what was written to what is checked. Never looks at the node.

use super::raw::{RawConfig, RawIpip, RawMode, RawNodes, RawRestart, RawSelection, RawTunnel, RawVxlan};
use super::sessions::{Common, policies};
use super::values::{Result, asn, at, families, missing, port, router_id, wrong};
use super::{Communities, Config, Mode, NodeRule, NodeSelector, PeerRule, RangeRule, Tunnel, TunnelKind};
use bgp_speaker::config::{BGP_PORT, RemoteAsn, Restart, Selection};
use bgp_speaker::types::Family;
use cni_core::model::{Encapsulation, InterfaceName, never_of_pods};
use cni_core::strict::StrictError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The smallest MTU of a link that carries IPv6, in bytes. RFC 8200, section 5.
pub(crate) const MIN_MTU_V6_BYTES: u32 = 1280;
/// The smallest datagram that every IPv4 host takes, in bytes. RFC 791, section 3.1.
pub(crate) const MIN_MTU_V4_BYTES: u32 = 576;

impl TryFrom<RawConfig> for Config {
    type Error = StrictError;

    fn try_from(raw: RawConfig) -> Result<Self> {
        let asn = asn(&at("asn"), raw.asn.unwrap_or(64_512))?;
        let port = port(&at("port"), raw.port.unwrap_or(BGP_PORT))?;
        let families = families(&at("families"), raw.families.as_deref().unwrap_or(&Family::ALL))?;
        let policies = policies(raw.policies.unwrap_or_default())?;
        let common = Common { port: port.get(), families: &families, policies: &policies };
        let mode = mode(raw.mode.unwrap_or_default(), raw.reflectors)?;
        let nodes = raw.nodes.unwrap_or_default().into_iter().enumerate();
        let nodes =
            nodes.map(|(index, rule)| node_rule(&at(&format!("nodes[{index}]")), rule)).collect::<Result<_>>()?;
        let mut among_nodes = raw.session.unwrap_or_default();
        // Nodes start together: whoever is first shall not wait long for the others.
        among_nodes.connect_retry_seconds.get_or_insert(1);
        let session = common.template(&at("session"), &among_nodes, RemoteAsn::Internal)?;
        let peers = raw.peers.unwrap_or_default().into_iter().enumerate();
        let peers: Vec<PeerRule> =
            peers.map(|(index, peer)| common.peer(&at(&format!("peers[{index}]")), peer)).collect::<Result<_>>()?;
        let ranges = raw.listen_ranges.unwrap_or_default().into_iter().enumerate();
        let ranges: Vec<RangeRule> = ranges
            .map(|(index, range)| common.range(&at(&format!("listenRanges[{index}]")), range))
            .collect::<Result<_>>()?;
        names_differ(&peers, &ranges)?;
        let encapsulation = raw.encapsulation.unwrap_or(Encapsulation::Never);
        let tunnel = tunnel(encapsulation, raw.tunnel, raw.vxlan, raw.ipip)?;
        let is_ipip = tunnel.as_ref().is_some_and(|tunnel| tunnel.kind == TunnelKind::Ipip);
        if is_ipip && !families.contains(&Family::Ipv4) {
            let problem = "is ipip, which carries IPv4 only, and `families` has none of it; write vxlan";
            return Err(StrictError { path: at("tunnel"), problem: problem.to_owned() });
        }
        let least = if families.contains(&Family::Ipv6) { MIN_MTU_V6_BYTES } else { MIN_MTU_V4_BYTES };
        if let Some(mtu) = raw.mtu.filter(|mtu| !(least..=65_535).contains(mtu)) {
            return Err(wrong(&at("mtu"), mtu, "an integer from 576 to 65535 (from 1280 with IPv6 pods)"));
        }
        let given = raw.listen_addresses.as_deref().unwrap_or_default();
        if let Some(twice) = (1..given.len()).find(|at| given[..*at].contains(&given[*at])) {
            let path = at(&format!("listenAddresses[{twice}]"));
            return Err(wrong(&path, format_args!("{} again", given[twice]), "each address once"));
        }
        let services = raw.service_advertisement.unwrap_or_default().cluster_ips.unwrap_or_default();
        if let Some(prefix) = services.iter().find(|prefix| prefix.trunc() != **prefix) {
            let right = format!("{} (without host bits)", prefix.trunc());
            return Err(wrong(&at("serviceAdvertisement.clusterIPs"), prefix, &right));
        }
        if let Some((prefix, special)) = services.iter().find_map(|prefix| Some((prefix, never_of_pods(prefix)?))) {
            let found = format!("{prefix}, which overlaps {special}");
            return Err(wrong(&at("serviceAdvertisement.clusterIPs"), found, "prefixes of services"));
        }
        let config = Self {
            asn,
            router_id: raw.router_id.map(|id| router_id(&at("routerId"), id)).transpose()?,
            port,
            listen: raw.listen_addresses,
            mode,
            nodes,
            session,
            peers,
            ranges,
            communities: communities(raw.communities.unwrap_or_default())?,
            encapsulation,
            tunnel,
            families,
            mtu_bytes: raw.mtu,
            services,
            restart: restart(raw.graceful_restart.unwrap_or_default()),
            selection: selection(&raw.selection.unwrap_or_default()),
        };
        config.check_as_speaker()?;
        Ok(config)
    }
}

fn names_differ(peers: &[PeerRule], ranges: &[RangeRule]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let peers = peers.iter().enumerate().map(|(index, rule)| (format!("peers[{index}]"), &rule.name));
    let ranges = ranges.iter().enumerate().map(|(index, rule)| (format!("listenRanges[{index}]"), &rule.name));
    for (path, name) in peers.chain(ranges) {
        if !seen.insert(name) {
            return Err(wrong(&at(&format!("{path}.name")), format_args!("{name:?} again"), "a name of its own"));
        }
    }
    Ok(())
}

fn mode(mode: RawMode, reflectors: Option<super::RawReflectors>) -> Result<Mode> {
    let path = at("reflectors");
    match (mode, reflectors) {
        (RawMode::Mesh, None) => Ok(Mode::Mesh),
        (RawMode::None, None) => Ok(Mode::None),
        (RawMode::Reflectors, Some(raw)) => Ok(Mode::Reflectors {
            selector: NodeSelector::read(&format!("{path}.selector"), &raw.selector)?,
            cluster_id: raw.cluster_id.map(|id| router_id(&format!("{path}.clusterId"), id)).transpose()?,
        }),
        (RawMode::Reflectors, None) => Err(missing(&path, "mode reflectors needs `reflectors: {selector: ..}`")),
        (_, Some(_)) => {
            let problem = "is given, but `mode` is not reflectors; set `mode: reflectors`, or remove this";
            Err(StrictError { path, problem: problem.to_owned() })
        }
    }
}

fn node_rule(path: &str, raw: RawNodes) -> Result<NodeRule> {
    Ok(NodeRule {
        selector: NodeSelector::read(&format!("{path}.selector"), &raw.selector)?,
        asn: raw.asn.map(|number| asn(&format!("{path}.asn"), number)).transpose()?,
        cluster_id: raw.cluster_id.map(|id| router_id(&format!("{path}.clusterId"), id)).transpose()?,
        drain: raw.drain,
    })
}

fn communities(raw: BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, Communities>> {
    let of_pool = |(pool, texts): (String, Vec<String>)| {
        let mut found = Communities::default();
        for (index, text) in texts.iter().enumerate() {
            match (text.parse(), text.parse()) {
                (Ok(standard), _) => found.standard.push(standard),
                (_, Ok(large)) => found.large.push(large),
                (Err(error), Err(_)) => {
                    let path = at(&format!("communities.{pool}[{index}]"));
                    return Err(StrictError { path, problem: format!("{error}; or three numbers for a large one") });
                }
            }
        }
        Ok((pool, found))
    };
    raw.into_iter().map(of_pool).collect()
}

fn tunnel(
    encapsulation: Encapsulation,
    kind: Option<RawTunnel>,
    vxlan: Option<RawVxlan>,
    ipip: Option<RawIpip>,
) -> Result<Option<Tunnel>> {
    let needless = |key: &str, why: &str| Err(StrictError { path: at(key), problem: format!("is given, but {why}") });
    let given = [("tunnel", kind.is_some()), ("vxlan", vxlan.is_some()), ("ipip", ipip.is_some())];
    if encapsulation == Encapsulation::Never {
        let why = "`encapsulation` is Never; set that to CrossSubnet or Always, or remove this";
        return given.iter().find(|(_, given)| *given).map_or(Ok(None), |(key, _)| needless(key, why));
    }
    match (kind.unwrap_or_default(), vxlan, ipip) {
        (RawTunnel::Vxlan, vxlan, None) => vxlan_tunnel(vxlan.unwrap_or_default()).map(Some),
        (RawTunnel::Ipip, None, ipip) => {
            let name = ipip.unwrap_or_default().device_name;
            Ok(Some(Tunnel { device: device("ipip.deviceName", name)?, kind: TunnelKind::Ipip }))
        }
        (RawTunnel::Vxlan, _, Some(_)) => needless("ipip", "`tunnel` is vxlan; set that to ipip, or remove this"),
        (RawTunnel::Ipip, Some(_), _) => needless("vxlan", "`tunnel` is ipip; set that to vxlan, or remove this"),
    }
}

fn device(key: &str, name: Option<String>) -> Result<InterfaceName> {
    let name = name.unwrap_or_else(|| "cnidarian.bgp".to_owned());
    InterfaceName::new(&name)
        .map_err(|_| wrong(&at(key), format_args!("{name:?}"), "an interface name of 1 to 15 bytes"))
}

fn vxlan_tunnel(raw: RawVxlan) -> Result<Tunnel> {
    let vni = raw.vni.unwrap_or(4096);
    if !(1..1 << 24).contains(&vni) {
        return Err(wrong(&at("vxlan.vni"), vni, "an integer from 1 to 16777215"));
    }
    let device = device("vxlan.deviceName", raw.device_name)?;
    let port = port(&at("vxlan.port"), raw.port.unwrap_or(4789))?;
    let track_outer = raw.track_outer_packets.unwrap_or(false);
    Ok(Tunnel { device, kind: TunnelKind::Vxlan { vni, port, track_outer } })
}

fn restart(raw: RawRestart) -> Restart {
    let usual = Restart::default();
    Restart {
        enabled: raw.enabled.unwrap_or(usual.enabled),
        time_seconds: raw.time_seconds.unwrap_or(usual.time_seconds),
        stale_time: raw.stale_time_seconds.map_or(usual.stale_time, |seconds| Duration::from_secs(seconds.into())),
        ..usual
    }
}

fn selection(raw: &RawSelection) -> Selection {
    let usual = Selection::default();
    Selection {
        max_paths: raw.max_paths.unwrap_or(usual.max_paths),
        as_path_relax: raw.as_path_relax.unwrap_or(usual.as_path_relax),
        always_compare_med: raw.always_compare_med.unwrap_or(usual.always_compare_med),
        missing_med_is_worst: raw.missing_med_is_worst.unwrap_or(usual.missing_med_is_worst),
        ..usual
    }
}

/// Where peers may connect to, of a node with these addresses.
pub(crate) fn listen(config: &Config, own: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    config.listen.clone().unwrap_or_else(|| own.collect())
}
