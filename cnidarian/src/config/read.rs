//! From the configuration as it is written to the one that was checked. Never touches the system.

use super::raw::{KEYS, RawConfig, RawIpam, RawMode, RawPool, RawStore, RawUnderlay};
use super::{
    IpamConfig, IpamMode, MasqueradeConfig, NodeConfig, PoolConfig, ServicesConfig, StateConfig, StoreConfig,
    UnderlayConfig,
};
use cni_core::backend::Registry;
use cni_core::ipam::IpamError;
use cni_core::ipam::pools::{IpPool, RawIpPoolSpec};
use cni_core::model::NodeName;
use cni_core::rpc::{DEFAULT_SOCKET, DEFAULT_STATE_DIR};
use cni_core::strict::{self, StrictError, nearest};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The smallest MTU that IPv6 works with, in bytes (RFC 8200, section 5).
const MTU_MIN_BYTES: u32 = 1280;
/// The largest MTU that the kernel takes on a veth, in bytes (`ETH_MAX_MTU`, `include/uapi/linux/if_ether.h`).
const MTU_MAX_BYTES: u32 = 65_535;

/// A configuration that is not acceptable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigError {
    /// A key of ours.
    #[error(transparent)]
    Key(#[from] StrictError),
    /// The backend refuses its section.
    #[error("backend {backend}: {source}")]
    Backend {
        /// The backend's name.
        backend: String,
        /// Its own words.
        source: Box<cni_core::backend::Error>,
    },
}

/// A configuration that was checked: the node's part and the process's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadConfig {
    /// What [`crate::Node`] is opened with.
    pub node: NodeConfig,
    /// Where to listen.
    pub socket: PathBuf,
    /// Where to serve metrics; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// The filter of log messages, as `tracing-subscriber` reads it.
    pub log: Option<String>,
}

pub(super) fn wrong(path: impl Display, problem: impl Display) -> ConfigError {
    ConfigError::Key(StrictError { path: path.to_string(), problem: problem.to_string() })
}

pub(super) fn refused(backend: &str, source: cni_core::backend::Error) -> ConfigError {
    ConfigError::Backend { backend: backend.to_owned(), source: Box::new(source) }
}

/// Checks a whole document.
///
/// Each backend of the registry may have a section under its own name; all of them are checked, and that of the backend
/// that `backend` names is used, so that one line changes the backend. `backendConfig` is another way to write the
/// section of the chosen backend. `host_name` is the node's name when the document has none.
///
/// # Errors
/// [`ConfigError`] for the first thing that is not acceptable: it names the key's path, the value, and what would be right.
pub fn read_config(document: Value, registry: &Registry, host_name: &str) -> Result<ReadConfig, ConfigError> {
    let Value::Object(mut map) = document else {
        return Err(wrong("", "the document must be a map of keys, beginning with `backend: vxlan`"));
    };
    super::preset::expand(&mut map, registry)?;
    let mut sections = std::collections::BTreeMap::new();
    for name in registry.names() {
        if let Some(section) = map.remove(name) {
            sections.insert(name.to_owned(), section);
        }
    }
    let mut known: Vec<&str> = KEYS.to_vec();
    known.extend(registry.names());
    if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(match nearest(key, &known) {
            Some(right) => wrong(key, format_args!("no such key; did you mean `{right}`?")),
            None => wrong(key, format_args!("no such key; there are: {}", known.join(", "))),
        });
    }
    let raw: RawConfig = strict::from_value(Value::Object(map), "")?;
    let chosen = registry.get(&raw.backend).map_err(|_| {
        let names: Vec<&str> = registry.names().collect();
        let hint = nearest(&raw.backend, &names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        wrong(
            "backend",
            format_args!("this build has no backend {:?}, it has: {}{hint}", raw.backend, names.join(", ")),
        )
    })?;
    for (name, section) in &sections {
        registry.get(name).and_then(|backend| backend.check(section)).map_err(|source| refused(name, source))?;
    }
    let backend_config = match (raw.backend_config, sections.remove(&raw.backend)) {
        (Some(_), Some(_)) => {
            return Err(wrong(
                "backendConfig",
                format_args!("stands beside a section `{}`; keep one of them", raw.backend),
            ));
        }
        (one, other) => one.or(other).unwrap_or(Value::Null),
    };
    chosen.check(&backend_config).map_err(|source| refused(&raw.backend, source))?;

    let policy = super::policy::read(raw.policy, registry)?;

    // Nobody looks at services, as without a word.
    let services = raw.services.filter(|written| written.as_str() != Some(ServicesConfig::NONE));

    let name = raw.node_name.as_deref().unwrap_or(host_name);
    let node = NodeConfig {
        policy,
        name: NodeName::new(name).map_err(|error| wrong("nodeName", error))?,
        backend: raw.backend,
        backend_config,
        underlay: underlay(raw.underlay)?,
        ipam: ipam(raw.ipam)?,
        masquerade: MasqueradeConfig {
            enabled: raw.masquerade.enabled.unwrap_or(true),
            keep: raw
                .masquerade
                .keep
                .iter()
                .enumerate()
                .map(|(index, text)| network(&format!("masquerade.nonMasqueradeCIDRs[{index}]"), text))
                .collect::<Result<_, _>>()?,
        },
        services: services.map(|written| super::services::read(written, registry)).transpose()?,
        mtu_bytes: match raw.mtu {
            Some(mtu) if !(MTU_MIN_BYTES..=MTU_MAX_BYTES).contains(&mtu) => {
                return Err(wrong("mtu", format_args!("{mtu} is outside {MTU_MIN_BYTES} to {MTU_MAX_BYTES} bytes")));
            }
            mtu => mtu,
        },
        store: match raw.store {
            None | Some(RawStore::Memory) => StoreConfig::Memory,
            Some(RawStore::Files(files)) => {
                StoreConfig::Files { directory: absolute("store.files.directory", files.directory)? }
            }
        },
        state: StateConfig::Directory(absolute("stateDir", raw.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()))?),
        resync_interval: seconds("resyncSeconds", raw.resync_seconds, 60, 1..=86_400)?,
    };
    let metrics = match raw.metrics {
        None => None,
        Some(metrics) => Some(metrics.address.parse().map_err(|_| {
            wrong(
                "metrics.address",
                format_args!("{:?} is no address with port, as in 127.0.0.1:9475", metrics.address),
            )
        })?),
    };
    let socket = absolute("socket", raw.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()))?;
    Ok(ReadConfig { node, socket, metrics, log: raw.log })
}

/// Why no node can have this address on its underlay; `None` when one can. RFC 1122, section 3.2.1.3; RFC 4291, section 2.5.
fn no_hosts(net: IpNet) -> Option<&'static str> {
    let address = net.addr();
    let whole = net.prefix_len() < net.max_prefix_len() - 1;
    let special = match net {
        IpNet::V4(v4) if whole && v4.addr() == v4.network() => Some("is the network's own address"),
        IpNet::V4(v4) if whole && v4.addr() == v4.broadcast() => Some("is the network's broadcast address"),
        IpNet::V4(v4) if v4.addr().octets()[0] == 0 || v4.addr().is_broadcast() => Some("is no host's address"),
        // The anycast address of the network's routers.
        IpNet::V6(v6) if whole && v6.addr() == v6.network() => Some("is the network's own address"),
        IpNet::V6(v6) if v6.addr().is_unicast_link_local() => Some("is link-local"),
        _ => None,
    };
    let general = [
        (address.is_unspecified(), "is no host's address"),
        (address.is_loopback(), "is a loopback address"),
        (address.is_multicast(), "is a multicast address"),
    ];
    general.into_iter().find_map(|(is, why)| is.then_some(why)).or(special)
}

fn underlay(raw: RawUnderlay) -> Result<UnderlayConfig, ConfigError> {
    let interface = raw.interface.as_deref().map(str::parse).transpose();
    let v4 = raw.v4.as_deref().map(|text| {
        text.parse::<Ipv4Net>().map_err(|_| {
            wrong("underlay.v4", format_args!("{text:?} is no IPv4 address with prefix length, as in 192.0.2.7/24"))
        })
    });
    let v6 = raw.v6.as_deref().map(|text| {
        text.parse::<Ipv6Net>().map_err(|_| {
            wrong("underlay.v6", format_args!("{text:?} is no IPv6 address with prefix length, as in 2001:db8::7/64"))
        })
    });
    let (v4, v6) = (v4.transpose()?, v6.transpose()?);
    for (field, net) in [("underlay.v4", v4.map(IpNet::V4)), ("underlay.v6", v6.map(IpNet::V6))] {
        if let Some((net, why)) = net.and_then(|net| Some((net, no_hosts(net)?))) {
            return Err(wrong(field, format_args!("{net}: {} {why}; write the node's own address", net.addr())));
        }
    }
    Ok(UnderlayConfig { interface: interface.map_err(|error| wrong("underlay.interface", error))?, v4, v6 })
}

fn ipam(raw: RawIpam) -> Result<IpamConfig, ConfigError> {
    let pools: Vec<PoolConfig> =
        raw.pools.into_iter().enumerate().map(|(index, raw)| pool(index, raw)).collect::<Result<_, _>>()?;
    let mut names = BTreeSet::new();
    for (index, pool) in pools.iter().enumerate() {
        if !names.insert(&pool.name) {
            return Err(wrong(
                format_args!("ipam.pools[{index}].name"),
                format_args!("{:?} is there twice", pool.name),
            ));
        }
        let earlier =
            pools[..index].iter().find(|other| pool.cidr.contains(&other.cidr) || other.cidr.contains(&pool.cidr));
        if let Some(other) = earlier {
            let problem =
                format!("{} overlaps {} of pool {:?}; pools must be disjoint", pool.cidr, other.cidr, other.name);
            return Err(wrong(format_args!("ipam.pools[{index}].cidr"), problem));
        }
    }
    let mode = match raw.mode {
        None | Some(RawMode::Pools) => IpamMode::Pools,
        Some(RawMode::PodCidr) if pools.is_empty() => IpamMode::PodCidr,
        Some(RawMode::PodCidr) => {
            return Err(wrong("ipam.pools", "means nothing with `mode: pod-cidr`; remove one of them"));
        }
    };
    Ok(IpamConfig {
        mode,
        pools,
        cool_down: seconds("ipam.coolDownSeconds", raw.cool_down_seconds, 30, 0..=86_400)?,
        strict_affinity: raw.strict_affinity.unwrap_or(false),
        max_blocks_per_node: match raw.max_blocks_per_node {
            Some(0) => return Err(wrong("ipam.maxBlocksPerNode", "0 leaves no address; leave it out for no limit")),
            limit => limit,
        },
        leak_grace: seconds("ipam.leakGraceSeconds", raw.leak_grace_seconds, 60, 1..=86_400)?,
    })
}

fn pool(index: usize, raw: RawPool) -> Result<PoolConfig, ConfigError> {
    let at = |field: &str| format!("ipam.pools[{index}].{field}");
    // A pool's name becomes the name of an object: the same alphabet as a node's.
    let rule = "use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253";
    if NodeName::new(&raw.name).is_err() {
        return Err(wrong(at("name"), format_args!("{:?} is no pool name: {rule}", raw.name)));
    }
    let cidr = network(&at("cidr"), &raw.cidr)?;
    let (length, most) = (cidr.prefix_len(), cidr.max_prefix_len());
    // The rule for blocks is the pools' own, their default too.
    let spec = RawIpPoolSpec { cidr: raw.cidr.clone(), block_size: raw.block_size, ..RawIpPoolSpec::default() };
    if let Err(error) = IpPool::new(&raw.name, spec) {
        if let IpamError::Invalid { field: "spec.cidr", problem, .. } = &error {
            return Err(wrong(at("cidr"), problem));
        }
        if let Some(size) = raw.block_size.filter(|size| !(length..=most).contains(size)) {
            let problem = format!("blocks of /{size} do not fit in {cidr}; use {length} to {most}");
            return Err(wrong(at("blockSize"), problem));
        }
        return Err(wrong(at("blockSize"), error));
    }
    Ok(PoolConfig { name: raw.name, cidr, block_size: raw.block_size, encapsulation: raw.encapsulation })
}

pub(super) fn network(path: &str, text: &str) -> Result<IpNet, ConfigError> {
    let net: IpNet =
        text.parse().map_err(|_| wrong(path, format_args!("{text:?} is no prefix, as in 10.42.0.0/16")))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(wrong(path, format_args!("{net} has host bits; write {}", net.trunc())))
    }
}

fn absolute(path: &str, file: PathBuf) -> Result<PathBuf, ConfigError> {
    let climbs = |file: &Path| file.components().any(|part| matches!(part, std::path::Component::ParentDir));
    if file.is_absolute() && !climbs(&file) {
        return Ok(file);
    }
    Err(wrong(path, format_args!("{:?} is no absolute path without `..`", file.display().to_string())))
}

fn seconds(
    path: &str,
    value: Option<u64>,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(Duration::from_secs(value));
    }
    Err(wrong(path, format_args!("{value} is outside {} to {} seconds", range.start(), range.end())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PolicyConfig;
    use crate::config::ServicesConfig;
    use async_trait::async_trait;
    use cni_core::backend::{
        Backend, Error, OpenRequest, Parts, PolicyBackend, PolicyParts, ProxyBackend, ProxyParts, Translation,
    };
    use cni_core::policy::failsafe::Failsafe;
    use serde_json::json;

    struct Named(&'static str);

    #[async_trait]
    impl Backend for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn check(&self, config: &Value) -> cni_core::backend::Result<()> {
            match config.get("vni").and_then(Value::as_u64) {
                Some(vni) if vni > 0xff_ffff => Err(Error::invalid("vxlan", "vni", format!("{vni} is above 16777215"))),
                _ => Ok(()),
            }
        }

        async fn open(&self, _: OpenRequest) -> cni_core::backend::Result<Parts> {
            Err(Error::new(cni_core::backend::ErrorKind::Unsupported, "open", self.0, "a name only"))
        }
    }

    #[async_trait]
    impl PolicyBackend for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn check(&self, config: &Value) -> cni_core::backend::Result<()> {
            match config.get("log") {
                Some(log) if !log.is_object() => Err(Error::invalid("policy", "log", "is no map")),
                _ => Ok(()),
            }
        }

        fn needs_host_stack(&self) -> bool {
            true
        }

        fn judges_after(&self, _: Translation) -> cni_core::backend::Result<()> {
            Ok(())
        }

        async fn open(&self, _: &Value, _: Option<Translation>) -> cni_core::backend::Result<PolicyParts> {
            Err(Error::new(cni_core::backend::ErrorKind::Unsupported, "open", self.0, "a name only"))
        }

        fn is_there(&self) -> cni_core::backend::Result<bool> {
            Ok(false)
        }

        fn clear(&self) -> cni_core::backend::Result<()> {
            Ok(())
        }
    }

    #[async_trait]
    impl ProxyBackend for Named {
        fn name(&self) -> &str {
            self.0
        }

        fn check(&self, config: &Value) -> cni_core::backend::Result<()> {
            match config.get("cgroup") {
                Some(cgroup) if !cgroup.is_string() => Err(Error::invalid("services", "cgroup", "is no text")),
                _ => Ok(()),
            }
        }

        fn needs_host_stack(&self) -> bool {
            false
        }

        fn translates(&self) -> Translation {
            Translation::Socket
        }

        async fn open(&self, _: OpenRequest) -> cni_core::backend::Result<ProxyParts> {
            Err(Error::new(cni_core::backend::ErrorKind::Unsupported, "open", self.0, "a name only"))
        }

        fn clear(&self) -> cni_core::backend::Result<()> {
            Ok(())
        }
    }

    fn read(document: Value) -> Result<ReadConfig, String> {
        let registry = Registry::default().with(Named("vxlan")).with(Named("bgp"));
        let registry = registry.with_policy(Named("nftables")).with_proxy(Named("ebpf"));
        read_config(document, &registry, "host-1").map_err(|error| error.to_string())
    }

    #[test]
    fn policy_is_enforced_unless_none_is_written() {
        let policy =
            |written: Value| read(json!({"backend": "vxlan", "policy": written})).map(|config| config.node.policy);
        assert_eq!(read(json!({"backend": "vxlan"})).unwrap().node.policy, PolicyConfig::default());
        assert_eq!(policy(json!("none")), Ok(PolicyConfig::none()));
        let log = json!({"log": {"group": 7}});
        let with_log = PolicyConfig { config: log.clone(), ..PolicyConfig::default() };
        assert_eq!(policy(log), Ok(with_log));
        let failsafe = |written| policy(json!({"failsafe": written})).map(|policy| policy.failsafe);
        assert_eq!(failsafe(json!("none")), Ok(Failsafe::none()));
        let ssh = Failsafe { ingress: vec!["2222/TCP".parse().unwrap()], ..Failsafe::default() };
        assert_eq!(failsafe(json!({"ingress": ["2222/TCP"]})), Ok(ssh));
        for (written, words) in [
            (
                json!("nftable"),
                "policy: this build has no policy engine \"nftable\", it has: nftables, none; did you mean `nftables`?",
            ),
            (json!(true), "policy: is neither a name nor a map; write nftables or none"),
            (json!({"engine": "none", "log": {}}), "policy: none takes no other keys; remove them"),
            (
                json!({"failsafe": {"ingress": ["ssh"]}}),
                "policy.failsafe.ingress[0]: \"ssh\" is no port of a protocol; write one as in 22/TCP",
            ),
            (json!({"failsafe": "all"}), "policy.failsafe: is \"all\"; write none, or a map of ingress and egress"),
            (json!({"failsafe": {"in": []}}), "policy.failsafe.in: no such key; there are: ingress, egress"),
        ] {
            assert_eq!(policy(written), Err(words.to_owned()));
        }
        assert!(policy(json!({"log": 3})).unwrap_err().contains("log"));
    }

    #[test]
    fn one_line_is_a_configuration() {
        let config = read(json!({"backend": "vxlan"})).unwrap();
        assert_eq!(config.node.name.as_str(), "host-1");
        assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!(config.node.ipam, IpamConfig::default());
        assert_eq!(config.metrics, None);
    }

    #[test]
    fn one_line_changes_the_backend_and_its_section() {
        let mut document = json!({"backend": "vxlan", "vxlan": {"vni": 7}, "bgp": {"asn": 64512}});
        assert_eq!(read(document.clone()).unwrap().node.backend_config, json!({"vni": 7}));
        document["backend"] = json!("bgp");
        assert_eq!(read(document).unwrap().node.backend_config, json!({"asn": 64512}));
        let config = read(json!({"backend": "vxlan", "backendConfig": {"vni": 8}})).unwrap();
        assert_eq!(config.node.backend_config, json!({"vni": 8}));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_path_and_what_would_be_right() {
        let with = |key: &str, value: Value| {
            let mut document = json!({"backend": "vxlan"});
            document[key] = value;
            read(document).unwrap_err()
        };
        assert_eq!(with("stateDirectory", json!("/x")), "stateDirectory: no such key; did you mean `stateDir`?");
        assert_eq!(with("vxlam", json!({})), "vxlam: no such key; did you mean `vxlan`?");
        assert_eq!(
            with("backend", json!("vxlam")),
            "backend: this build has no backend \"vxlam\", it has: bgp, vxlan; did you mean `vxlan`?"
        );
        assert_eq!(
            with("ipam", json!({"cooldownSeconds": 1})),
            "ipam.cooldownSeconds: no such key; did you mean `coolDownSeconds`?"
        );
        assert_eq!(
            with("ipam", json!({"coolDownSeconds": 100_000})),
            "ipam.coolDownSeconds: 100000 is outside 0 to 86400 seconds"
        );
        let pools = |pools: Value| with("ipam", json!({"pools": pools}));
        assert_eq!(
            pools(json!([{"name": "a", "cidr": "10.1.2.3/16"}])),
            "ipam.pools[0].cidr: 10.1.2.3/16 has host bits; write 10.1.0.0/16"
        );
        assert_eq!(
            pools(json!([{"name": "a", "cidr": "10.0.0.0/8"}, {"name": "b", "cidr": "10.1.0.0/16"}])),
            "ipam.pools[1].cidr: 10.1.0.0/16 overlaps 10.0.0.0/8 of pool \"a\"; pools must be disjoint"
        );
        assert_eq!(
            pools(json!([{"name": "a", "cidr": "169.254.0.0/17"}])),
            "ipam.pools[0].cidr: 169.254.0.0/17 overlaps 169.254.0.0/16, which is not for pods; write unicast addresses of \
             your own"
        );
        assert_eq!(
            pools(json!([{"name": "a", "cidr": "10.0.0.0/28", "blockSize": 26}])),
            "ipam.pools[0].blockSize: blocks of /26 do not fit in 10.0.0.0/28; use 28 to 32"
        );
        assert_eq!(
            pools(json!([{"name": "a", "cidr": "10.0.0.0/28"}])),
            "ipam.pools[0].blockSize: pool a: spec.blockSize: a block of /26 (the default) is larger than the pool \
             10.0.0.0/28; write 28 or more, or a larger cidr"
        );
        assert_eq!(
            pools(json!([{"name": "a", "cidr": "10.0.0.0/8", "blockSize": 12}])),
            "ipam.pools[0].blockSize: pool a: spec.blockSize: 12 is not in 16 to 32; the default is 26"
        );
        assert!(pools(json!([{"name": "../a", "cidr": "10.0.0.0/28"}])).starts_with("ipam.pools[0].name: "));
        assert_eq!(
            with("vxlan", json!({"vni": 16_777_216})),
            "backend vxlan: compile vxlan: vni: 16777216 is above 16777215"
        );
        let services = |section: Value| with("services", section);
        assert_eq!(
            services(json!({"announce": ["externalIP"]})),
            "services.announce[0]: \"externalIP\" is none of ClusterIP, LoadBalancer, ExternalIP; did you mean ExternalIP?"
        );
        assert!(
            services(json!({"announce": ["NodePort"]})).starts_with("services.announce[0]: \"NodePort\" is none of")
        );
        assert_eq!(
            services(json!({"loadBalancer": {"pools": [{"name": "a", "prefixes": ["198.51.100.0/24", "x"]}]}})),
            "services.loadBalancer.pools[0].prefixes[1]: \"x\" is no prefix; write one as in 203.0.113.0/24"
        );
        assert!(
            services(json!({"loadBalancer": {"pools": [{"name": "a", "prefixes": []}]}}))
                .starts_with("services.loadBalancer.pools[0].prefixes: is empty")
        );
        assert!(
            services(json!({"loadBalancer": {"pool": []}})).starts_with("services.loadBalancer.pool: no such key"),
            "{}",
            services(json!({"loadBalancer": {"pool": []}}))
        );
        assert_eq!(
            services(json!({"externalIPs": ["198.51.100.1/24"]})),
            "services.externalIPs[0]: 198.51.100.1/24 has host bits; write 198.51.100.0/24"
        );
        for (written, words) in [
            (
                json!({"engine": "ebpff"}),
                "services.engine: this build has no service proxy \"ebpff\", it has: ebpf, none; did you mean `ebpf`?",
            ),
            (json!({"engine": "ebpf", "cgroup": 1}), "backend services: compile services: cgroup: is no text"),
            (
                json!({"anounce": []}),
                "services.anounce: no such key; there are: engine, announce, externalIPs, nodePortAddresses, loadBalancer; did you mean `announce`?",
            ),
            (json!({"announce": "ExternalIP"}), "services.announce: is no list"),
            (json!({"nodePortAddresses": [7]}), "services.nodePortAddresses[0]: 7 is no text"),
            (json!(7), "services: is neither a name nor a map; write the name of a proxy, or none"),
        ] {
            assert_eq!(services(written), words);
        }
        let written =
            |section: Value| read(json!({"backend": "vxlan", "services": section})).unwrap().node.services.unwrap();
        let none = read(json!({"backend": "vxlan", "services": "none"})).unwrap().node.services;
        assert_eq!(none, None, "as without a word");
        assert_eq!(written(json!({"engine": "none"})), ServicesConfig::default(), "for who looks at annotations");
        assert_eq!(written(json!("ebpf")), ServicesConfig { engine: "ebpf".to_owned(), ..ServicesConfig::default() });
        assert_eq!(written(json!({"engine": "ebpf", "cgroup": "/a"})).config, json!({"cgroup": "/a"}));
        assert_eq!(with("mtu", json!(100)), "mtu: 100 is outside 1280 to 65535 bytes");
        assert!(with("stateDir", json!("relative")).starts_with("stateDir: "));
        assert!(with("socket", json!("/run/../etc/x")).starts_with("socket: "));
        assert!(with("metrics", json!({"address": "9475"})).starts_with("metrics.address: "));
        assert!(with("nodeName", json!("Node_1")).starts_with("nodeName: "));
        assert!(with("underlay", json!({"interface": "a/b"})).starts_with("underlay.interface: "));
        assert!(with("underlay", json!({"v4": "192.0.2.7"})).starts_with("underlay.v4: "));
        for wrong in ["192.0.2.0/24", "192.0.2.255/24", "127.0.0.1/8", "0.0.0.0/0", "224.0.0.5/24", "0.1.2.3/8"] {
            let told = with("underlay", json!({"v4": wrong}));
            assert!(told.starts_with(&format!("underlay.v4: {wrong}: ")), "{told}");
        }
        for wrong in ["::1/128", "fe80::7/64", "ff02::1/64", "2001:db8::/64", "::/0"] {
            let told = with("underlay", json!({"v6": wrong}));
            assert!(told.starts_with(&format!("underlay.v6: {wrong}: ")), "{told}");
        }
        for right in [json!({"v4": "192.0.2.7/24"}), json!({"v4": "192.0.2.6/31"}), json!({"v4": "192.0.2.0/32"})] {
            assert!(read(json!({"backend": "vxlan", "underlay": right})).is_ok(), "{right}");
        }
        for right in ["2001:db8::7/64", "2001:db8::/127", "2001:db8::/128"] {
            assert!(read(json!({"backend": "vxlan", "underlay": {"v6": right}})).is_ok(), "{right}");
        }
        assert!(read(json!({})).unwrap_err().starts_with("backend: is missing"));
        assert!(read(json!("vxlan")).unwrap_err().contains("must be a map"));
        let both = json!({"backend": "vxlan", "vxlan": {}, "backendConfig": {}});
        assert!(read(both).unwrap_err().starts_with("backendConfig: stands beside"));
    }
}
