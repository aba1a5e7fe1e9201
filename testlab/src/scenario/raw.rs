//! A scenario as it is written. Never used after it was checked.

use super::{Expectations, NodeSpec, PathKind, PodSpec, Scenario, ScenarioError, Subnet};
use super::{MOST_NODES, MOST_PODS, refuse_twice, spread_pods, value_error};
use cni_core::model::{NetworkName, NodeName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawScenario {
    name: String,
    #[serde(default)]
    subnets: Vec<RawSubnet>,
    nodes: Vec<RawNode>,
    #[serde(default)]
    pods: Option<Vec<RawPod>>,
    #[serde(default)]
    backend: Option<String>,
    #[serde(default)]
    backend_config: Value,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    services: Value,
    #[serde(default)]
    pools: Vec<RawPool>,
    #[serde(default)]
    expect: RawExpect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubnet {
    name: String,
    v4: Ipv4Net,
    v6: Ipv6Net,
    #[serde(default)]
    mtu: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: String,
    #[serde(default)]
    subnet: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPod {
    name: String,
    node: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    name: String,
    cidr: IpNet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RawExpect {
    same_segment: Option<PathKind>,
    cross_segment: Option<PathKind>,
    outside: bool,
}

impl Default for RawExpect {
    fn default() -> Self {
        Self { same_segment: None, cross_segment: None, outside: true }
    }
}

/// The longest name of a scenario in bytes: the paths of the agents' sockets have it in them.
const MOST_NAME_BYTES: usize = 40;
/// Two pods a node where the scenario names none.
const PODS_A_NODE: usize = 2;
/// Ethernet's MTU.
const ETHERNET_MTU_BYTES: u32 = 1500;
/// IPv6 needs at least this of a link (RFC 8200, section 5).
const LEAST_MTU_BYTES: u32 = 1280;

fn default_subnet() -> RawSubnet {
    RawSubnet {
        name: "underlay".to_owned(),
        v4: Ipv4Net::new_assert(std::net::Ipv4Addr::new(172, 31, 1, 0), 24),
        v6: Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfd31, 1, 0, 0, 0, 0, 0, 0), 64),
        mtu: None,
    }
}

fn default_pools() -> Vec<RawPool> {
    let pool = |name: &str, cidr: IpNet| RawPool { name: name.to_owned(), cidr };
    vec![
        pool("pods-v4", IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 244, 0, 0), 16))),
        pool("pods-v6", IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfd44, 0, 0, 0, 0, 0, 0, 0), 64))),
    ]
}

impl TryFrom<RawSubnet> for Subnet {
    type Error = ScenarioError;

    fn try_from(raw: RawSubnet) -> Result<Self, ScenarioError> {
        let object = format!("subnet {}", raw.name);
        if raw.v4.trunc() != raw.v4 || !(8..=24).contains(&raw.v4.prefix_len()) {
            return Err(value_error(object, "v4", format!("{}: use a prefix of /8 to /24 without host bits", raw.v4)));
        }
        if raw.v6.trunc() != raw.v6 || !(16..=112).contains(&raw.v6.prefix_len()) {
            return Err(value_error(
                object,
                "v6",
                format!("{}: use a prefix of /16 to /112 without host bits", raw.v6),
            ));
        }
        let mtu_bytes = raw.mtu.unwrap_or(ETHERNET_MTU_BYTES);
        if !(LEAST_MTU_BYTES..=65_535).contains(&mtu_bytes) {
            return Err(value_error(object, "mtu", format!("{mtu_bytes}: use {LEAST_MTU_BYTES} to 65535")));
        }
        Ok(Self { name: raw.name, v4: raw.v4, v6: raw.v6, mtu_bytes })
    }
}

impl TryFrom<RawScenario> for Scenario {
    type Error = ScenarioError;

    fn try_from(raw: RawScenario) -> Result<Self, ScenarioError> {
        let whole = || format!("scenario {}", raw.name);
        // It is a directory's name.
        if raw.name.len() > MOST_NAME_BYTES || NetworkName::new(&raw.name).is_err() {
            let rule = "use letters, digits, '_', '.' and '-', beginning with a letter or digit";
            return Err(value_error(whole(), "name", format!("{rule}, at most {MOST_NAME_BYTES}")));
        }
        if raw.nodes.is_empty() || raw.nodes.len() > MOST_NODES {
            return Err(value_error(whole(), "nodes", format!("{}: use 1 to {MOST_NODES}", raw.nodes.len())));
        }
        let raw_subnets = if raw.subnets.is_empty() { vec![default_subnet()] } else { raw.subnets };
        let subnets = raw_subnets.into_iter().map(Subnet::try_from).collect::<Result<Vec<_>, _>>()?;
        refuse_twice("subnet", subnets.iter().map(|subnet| subnet.name.as_str()))?;
        for (index, subnet) in subnets.iter().enumerate() {
            let overlaps = |other: &&Subnet| {
                subnet.v4.contains(&other.v4)
                    || other.v4.contains(&subnet.v4)
                    || subnet.v6.contains(&other.v6)
                    || other.v6.contains(&subnet.v6)
            };
            if let Some(other) = subnets[..index].iter().find(overlaps) {
                let object = format!("subnet {}", subnet.name);
                return Err(value_error(object, "v4 or v6", format!("overlaps that of subnet {}", other.name)));
            }
        }
        refuse_twice("node", raw.nodes.iter().map(|node| node.name.as_str()))?;
        let nodes = raw.nodes.into_iter().map(|node| check_node(&node, &subnets)).collect::<Result<Vec<_>, _>>()?;
        let pods = match raw.pods {
            None => spread_pods(nodes.len() * PODS_A_NODE, nodes.len()),
            Some(pods) if pods.len() > MOST_PODS => {
                return Err(value_error("pods", "pods", format!("{}: use at most {MOST_PODS}", pods.len())));
            }
            Some(pods) => pods.into_iter().map(|pod| check_pod(pod, &nodes)).collect::<Result<Vec<_>, _>>()?,
        };
        refuse_twice("pod", pods.iter().map(|pod| pod.name.as_str()))?;
        let raw_pools = if raw.pools.is_empty() { default_pools() } else { raw.pools };
        refuse_twice("pool", raw_pools.iter().map(|pool| pool.name.as_str()))?;
        let pools = raw_pools.into_iter().map(check_pool).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            name: raw.name,
            subnets,
            nodes,
            pods,
            backend: raw.backend.unwrap_or_else(|| "vxlan".to_owned()),
            backend_config: raw.backend_config,
            policy: raw.policy,
            services: raw.services,
            pools,
            expect: Expectations {
                same_segment: raw.expect.same_segment,
                cross_segment: raw.expect.cross_segment,
                outside: raw.expect.outside,
            },
        })
    }
}

fn check_node(raw: &RawNode, subnets: &[Subnet]) -> Result<NodeSpec, ScenarioError> {
    let object = || format!("node {}", raw.name);
    let name = NodeName::new(&raw.name).map_err(|error| value_error(object(), "name", error.to_string()))?;
    let subnet = match &raw.subnet {
        None => 0,
        Some(wanted) => subnets
            .iter()
            .position(|subnet| subnet.name == *wanted)
            .ok_or_else(|| value_error(object(), "subnet", format!("{wanted}: there is no such subnet")))?,
    };
    Ok(NodeSpec { name, subnet })
}

fn check_pod(raw: RawPod, nodes: &[NodeSpec]) -> Result<PodSpec, ScenarioError> {
    let object = format!("pod {}", raw.name);
    let plain = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !plain(&raw.name) || raw.name.starts_with('-') {
        return Err(value_error(object, "name", "use letters, digits and '-', beginning with a letter or digit"));
    }
    let namespace = raw.namespace.unwrap_or_else(|| "default".to_owned());
    if !plain(&namespace) || namespace.starts_with('-') {
        return Err(value_error(object, "namespace", "use letters, digits and '-', beginning with a letter or digit"));
    }
    let node = nodes
        .iter()
        .position(|node| node.name.as_str() == raw.node)
        .ok_or_else(|| value_error(object, "node", format!("{}: there is no such node", raw.node)))?;
    Ok(PodSpec { name: raw.name, namespace, node, annotations: raw.annotations.into_iter().collect() })
}

fn check_pool(raw: RawPool) -> Result<(String, IpNet), ScenarioError> {
    if raw.cidr.trunc() != raw.cidr {
        let detail = format!("{} has host bits; {} would be right", raw.cidr, raw.cidr.trunc());
        return Err(value_error(format!("pool {}", raw.name), "cidr", detail));
    }
    Ok((raw.name, raw.cidr))
}
