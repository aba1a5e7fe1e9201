//! From what was written to what is checked. Never looks at the node.

use super::raw::{RawConfig, RawMode, RawNodes, RawPeer, RawRange, RawRestart, RawSelection, RawSession, RawVxlan};
use super::{Communities, Config, Mode, NodeRule, NodeSelector, PeerRule, RangeRule, SECTION, Template, Tunnel, Who};
use bgp_speaker::config::{
    self as speaker, AddPath, BGP_PORT, Bfd, Hold, ListenRange, LongLived, MaxPrefixes, PeerAddress, PeerConfig,
    PrivateAsns, RemoteAsn, Restart, Selection, TtlSecurity,
};
use bgp_speaker::policy::{Policy, RawPolicy};
use bgp_speaker::types::{Asn, Family, RouterId};
use cni_core::model::{Encapsulation, InterfaceName};
use cni_core::strict::StrictError;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

/// The smallest MTU of a link that carries IPv6, in bytes. RFC 8200, section 5.
pub(crate) const MIN_MTU_V6_BYTES: u32 = 1280;
/// The smallest datagram that every IPv4 host takes, in bytes. RFC 791, section 3.1.
pub(crate) const MIN_MTU_V4_BYTES: u32 = 576;

const ASN: &str = "an AS number from 1 to 4294967295";
const ROUTER_ID: &str = "a BGP identifier like 192.0.2.1, not 0.0.0.0";

type Result<T> = std::result::Result<T, StrictError>;

fn wrong(path: &str, value: impl fmt::Display, right: &str) -> StrictError {
    StrictError { path: path.to_owned(), problem: format!("is {value}; write {right}") }
}

fn missing(path: &str, why: &str) -> StrictError {
    StrictError { path: path.to_owned(), problem: format!("is missing: {why}") }
}

fn at(key: &str) -> String {
    format!("{SECTION}.{key}")
}

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
        let tunnel = match (encapsulation, raw.vxlan) {
            (Encapsulation::Never, None) => None,
            (Encapsulation::Never, Some(_)) => {
                let problem =
                    "is given, but `encapsulation` is Never; set that to CrossSubnet or Always, or remove this";
                return Err(StrictError { path: at("vxlan"), problem: problem.to_owned() });
            }
            (_, raw) => Some(tunnel(raw.unwrap_or_default())?),
        };
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

impl Config {
    /// What a speaker would refuse on some node, refused now. Ranges and addresses of different nodes may be the same.
    fn check_as_speaker(&self) -> Result<()> {
        let own = RouterId::new(Ipv4Addr::new(192, 0, 2, 1)).expect("192.0.2.1 is not 0.0.0.0");
        let check = |peers: BTreeMap<Arc<str>, PeerConfig>, ranges: BTreeMap<Arc<str>, ListenRange>, path: &str| {
            let mut config = speaker::Config::new(self.asn, own);
            (config.restart, config.selection) = (self.restart.clone(), self.selection.clone());
            (config.peers, config.ranges) = (peers, ranges);
            config.check().map_err(|error| {
                let path = if error.at == "speaker" { SECTION } else { path };
                StrictError { path: format!("{path}.{}", error.field), problem: error.why.to_string() }
            })
        };
        let example = |template: &Template| {
            let address = PeerAddress::Ip(Ipv4Addr::new(192, 0, 2, 2).into());
            PeerConfig { address, ..template.config.clone() }
        };
        check([("session".into(), example(&self.session))].into(), BTreeMap::new(), &at("session"))?;
        // Rules that some node has both of for certain have to be apart; those of different selectors may take turns.
        let meet = |one: &NodeSelector, two: &NodeSelector| one == two || [one, two].contains(&&NodeSelector::All);
        // The speaker blames the later of two names: `~` is in no name and after all of them.
        let judged = |name: &str| -> Arc<str> { format!("~{name}").into() };
        let session = |rule: &PeerRule| match &rule.who {
            Who::One { address, asn } => {
                PeerConfig { address: address.clone(), asn: *asn, ..rule.template.config.clone() }
            }
            Who::Nodes(_) => example(&rule.template),
        };
        let is_one = |rule: &&PeerRule| matches!(rule.who, Who::One { .. });
        for (index, rule) in self.peers.iter().enumerate() {
            let path = at(&format!("peers[{index}]"));
            let alone: BTreeMap<_, _> = [(judged(&rule.name), session(rule))].into();
            check(alone.clone(), BTreeMap::new(), &path)?;
            for other in self.peers[..index].iter().filter(|other| is_one(&rule) && is_one(other)) {
                if meet(&rule.nodes, &other.nodes) {
                    let mut both = alone.clone();
                    both.insert(other.name.clone(), session(other));
                    check(both, BTreeMap::new(), &path)?;
                }
            }
        }
        let listen =
            |rule: &RangeRule| ListenRange { range: rule.range, template: example(&rule.template), limit: rule.limit };
        for (index, rule) in self.ranges.iter().enumerate() {
            let path = at(&format!("listenRanges[{index}]"));
            let alone: BTreeMap<_, _> = [(judged(&rule.name), listen(rule))].into();
            check(BTreeMap::new(), alone.clone(), &path)?;
            for other in self.ranges[..index].iter().filter(|other| meet(&rule.nodes, &other.nodes)) {
                let mut both = alone.clone();
                both.insert(other.name.clone(), listen(other));
                check(BTreeMap::new(), both, &path)?;
            }
        }
        Ok(())
    }
}

/// What all sessions have in common.
struct Common<'a> {
    port: u16,
    families: &'a [Family],
    policies: &'a BTreeMap<String, Policies>,
}

/// A policy for both ways. Some actions make sense on the way out only; then the other is why.
struct Policies {
    import: std::result::Result<Arc<Policy>, String>,
    export: Arc<Policy>,
}

impl Common<'_> {
    fn peer(&self, path: &str, raw: RawPeer) -> Result<PeerRule> {
        let name = name(path, &raw.name)?;
        let nodes = selector(path, "nodeSelector", raw.node_selector.as_ref())?;
        let session = raw.session.unwrap_or_default();
        let who = match (raw.address, &raw.interface, &raw.peer_selector) {
            (None, None, Some(peers)) => {
                if raw.asn.is_some() {
                    let problem = "is not for nodes, which say their own; remove it, or set it under `nodes`";
                    return Err(StrictError { path: format!("{path}.asn"), problem: problem.to_owned() });
                }
                Who::Nodes(NodeSelector::read(&format!("{path}.peerSelector"), peers)?)
            }
            (Some(address), _, None) => {
                Who::One { address: PeerAddress::Ip(address), asn: remote_asn(path, raw.asn.as_ref())? }
            }
            (None, Some(device), None) => Who::One {
                address: PeerAddress::Interface(device.as_str().into()),
                asn: remote_asn(path, raw.asn.as_ref())?,
            },
            (None, None, None) => {
                return Err(missing(path, "who is it? write one of address, interface, peerSelector"));
            }
            _ => {
                let problem = "has a peerSelector beside an address or interface; leave one";
                return Err(StrictError { path: path.to_owned(), problem: problem.to_owned() });
            }
        };
        let asn = match who {
            Who::One { asn, .. } => asn,
            // Whether nodes are of one system is known when they are.
            Who::Nodes(_) => RemoteAsn::Internal,
        };
        let mut template = self.template(&format!("{path}.session"), &session, asn)?;
        template.config.reflector_client = raw.reflector_client.unwrap_or(false);
        if let (Some(_), Some(device)) = (raw.address, raw.interface) {
            template.config.interface = Some(device.into());
        }
        Ok(PeerRule { name, nodes, who, template })
    }

    fn range(&self, path: &str, raw: RawRange) -> Result<RangeRule> {
        let asn = remote_asn(path, Some(&raw.asn))?;
        let mut template = self.template(&format!("{path}.session"), &raw.session.unwrap_or_default(), asn)?;
        template.config.reflector_client = raw.reflector_client.unwrap_or(false);
        Ok(RangeRule {
            name: name(path, &raw.name)?,
            nodes: selector(path, "nodeSelector", raw.node_selector.as_ref())?,
            range: raw.range,
            limit: raw.limit.unwrap_or(100),
            template,
        })
    }

    fn template(&self, path: &str, raw: &RawSession, asn: RemoteAsn) -> Result<Template> {
        let key = |key: &str| format!("{path}.{key}");
        let mut config = PeerConfig::new(PeerAddress::Ip(Ipv4Addr::UNSPECIFIED.into()), asn);
        config.port = port(&key("port"), raw.port.unwrap_or(self.port))?.get();
        config.local = raw.local_address;
        config.passive = raw.passive.unwrap_or(false);
        config.shutdown.clone_from(&raw.shutdown);
        config.ttl = match (raw.multihop, raw.gtsm) {
            (None, None) => TtlSecurity::Usual,
            (Some(hops), None) => TtlSecurity::Multihop(hops),
            (None, Some(hops)) => TtlSecurity::AtMost(hops),
            (Some(_), Some(_)) => {
                let problem = "stands beside `multihop`; leave one (gtsm says how many hops, too)";
                return Err(StrictError { path: key("gtsm"), problem: problem.to_owned() });
            }
        };
        config.hold = hold(raw);
        config.families =
            families(&key("families"), raw.families.as_deref().unwrap_or(self.families))?.into_iter().collect();
        config.extended_next_hop = raw.extended_next_hop.unwrap_or(false);
        config.bfd = raw.bfd.as_ref().map(|bfd| Bfd {
            interval: Duration::from_millis(bfd.interval_milliseconds.unwrap_or(300)),
            multiplier: bfd.multiplier.unwrap_or(3),
        });
        config.next_hop_self = raw.next_hop_self.unwrap_or(false);
        config.default_originate = raw.default_originate.iter().flatten().copied().collect();
        config.allow_own_asn = raw.allow_own_asn.unwrap_or(0);
        if raw.remove_private_asns.unwrap_or(false) {
            config.private_asns = PrivateAsns::Remove;
        }
        config.role = raw.role;
        config.strict_role = raw.strict_role.unwrap_or(false);
        if let Some(add_path) = &raw.add_path {
            let add_path = AddPath { mode: add_path.mode, send_max: add_path.send_max.unwrap_or(4) };
            config.add_path = config.families.iter().map(|family| (*family, add_path.clone())).collect();
        }
        if let Some(policies) = self.policy(&key("import"), raw.import.as_ref())? {
            let import = policies.import.clone();
            config.import = Some(import.map_err(|problem| StrictError { path: key("import"), problem })?);
        }
        config.export = self.policy(&key("export"), raw.export.as_ref())?.map(|policies| policies.export.clone());
        if let Some(limit) = &raw.max_prefixes {
            let limit = MaxPrefixes {
                limit: limit.limit,
                warn_percent: limit.warn_percent.unwrap_or(80),
                restart_after: limit.restart_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            };
            config.max_prefixes = config.families.iter().map(|family| (*family, limit.clone())).collect();
        }
        config.long_lived = raw.long_lived_stale_seconds.map(|seconds| LongLived { stale_time_seconds: seconds });
        if let Some(file) = raw.password_file.as_ref().filter(|file| !file.is_absolute()) {
            return Err(wrong(&key("passwordFile"), file.display(), "an absolute path"));
        }
        let says_ttl = config.ttl != TtlSecurity::Usual;
        Ok(Template { config, password_file: raw.password_file.clone(), says_ttl })
    }

    fn policy(&self, path: &str, name: Option<&String>) -> Result<Option<&Policies>> {
        let Some(name) = name else { return Ok(None) };
        self.policies.get(name).map(Some).ok_or_else(|| {
            let known: Vec<&str> = self.policies.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            wrong(path, format_args!("{name:?}"), &format!("the name of one of `policies`: {known}"))
        })
    }
}

fn asn(path: &str, number: u32) -> Result<Asn> {
    Asn::new(number).ok_or_else(|| wrong(path, number, ASN))
}

fn router_id(path: &str, id: Ipv4Addr) -> Result<RouterId> {
    RouterId::new(id).ok_or_else(|| wrong(path, id, ROUTER_ID))
}

fn port(path: &str, number: u16) -> Result<NonZeroU16> {
    NonZeroU16::new(number).ok_or_else(|| wrong(path, number, "a port from 1 to 65535"))
}

fn remote_asn(path: &str, value: Option<&Value>) -> Result<RemoteAsn> {
    const RIGHT: &str = "an AS number from 1 to 4294967295, internal, or external";
    let path = format!("{path}.asn");
    match value {
        None => Err(missing(&path, "of which system is the peer? write a number, internal, or external")),
        Some(Value::String(text)) if text == "internal" => Ok(RemoteAsn::Internal),
        Some(Value::String(text)) if text == "external" => Ok(RemoteAsn::External),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).and_then(Asn::new);
            number.map(RemoteAsn::Exactly).ok_or_else(|| wrong(&path, value, RIGHT))
        }
    }
}

fn families(path: &str, given: &[Family]) -> Result<Vec<Family>> {
    let families: BTreeSet<Family> = given.iter().copied().collect();
    if families.is_empty() || families.len() != given.len() {
        let names: Vec<String> = given.iter().map(ToString::to_string).collect();
        let right = "a list of ipv4 and ipv6, each at most once, not empty";
        return Err(wrong(path, format_args!("[{}]", names.join(", ")), right));
    }
    Ok(families.into_iter().collect())
}

fn selector(path: &str, key: &str, value: Option<&Value>) -> Result<NodeSelector> {
    value.map_or(Ok(NodeSelector::All), |value| NodeSelector::read(&format!("{path}.{key}"), value))
}

fn name(path: &str, name: &str) -> Result<Arc<str>> {
    let fine = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fine {
        return Ok(name.into());
    }
    let right = "1 to 63 letters, digits, `-`, `_` or `.`";
    Err(wrong(&format!("{path}.name"), format_args!("{name:?}"), right))
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

fn policies(raw: BTreeMap<String, RawPolicy>) -> Result<BTreeMap<String, Policies>> {
    let checked = |(name, raw): (String, RawPolicy)| {
        let export = Policy::export(&raw)
            .map_err(|error| StrictError { path: at(&format!("policies.{name}")), problem: error.to_string() })?;
        let import = Policy::import(&raw).map(Arc::new).map_err(|error| error.to_string());
        Ok((name, Policies { import, export: Arc::new(export) }))
    };
    raw.into_iter().map(checked).collect()
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

fn tunnel(raw: RawVxlan) -> Result<Tunnel> {
    let key = |key: &str| at(&format!("vxlan.{key}"));
    let vni = raw.vni.unwrap_or(4096);
    if !(1..1 << 24).contains(&vni) {
        return Err(wrong(&key("vni"), vni, "an integer from 1 to 16777215"));
    }
    let name = raw.device_name.unwrap_or_else(|| "cnidarian.bgp".to_owned());
    let device = InterfaceName::new(&name)
        .map_err(|_| wrong(&key("deviceName"), format_args!("{name:?}"), "an interface name of 1 to 15 bytes"))?;
    let port = port(&key("port"), raw.port.unwrap_or(4789))?;
    Ok(Tunnel { vni, port, device, track_outer: raw.track_outer_packets.unwrap_or(false) })
}

fn hold(raw: &RawSession) -> Hold {
    let usual = Hold::default();
    Hold {
        hold_seconds: raw.hold_seconds.unwrap_or(usual.hold_seconds),
        least_seconds: raw.least_hold_seconds.unwrap_or(usual.least_seconds),
        connect_retry: raw.connect_retry_seconds.map_or(usual.connect_retry, |s| Duration::from_secs(s.into())),
        send_hold: match raw.send_hold_seconds {
            None => usual.send_hold,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        },
    }
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
