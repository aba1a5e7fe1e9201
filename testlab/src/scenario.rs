//! A scenario file: what was written, and what was checked. Never touches the kernel.

mod raw;

use cni_core::model::NodeName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use raw::RawScenario;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// A scenario that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("scenario {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no scenario: wrong YAML, a wrong type, an unknown key (the message has line and column).
    #[error("scenario: {detail}")]
    Syntax {
        /// What the parser says.
        detail: String,
    },
    /// A value is out of range or refers to nothing.
    #[error("scenario: {object}: {field}: {detail}")]
    Value {
        /// The object, as `pod a`.
        object: String,
        /// Its field.
        field: &'static str,
        /// What is wrong and what would be right.
        detail: String,
    },
}

pub(crate) fn value_error(object: impl Into<String>, field: &'static str, detail: impl Into<String>) -> ScenarioError {
    ScenarioError::Value { object: object.into(), field, detail: detail.into() }
}

/// An underlay segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its name.
    pub name: String,
    /// The IPv4 prefix; the first address is the router's.
    pub v4: Ipv4Net,
    /// The IPv6 prefix; the first address is the router's.
    pub v6: Ipv6Net,
    /// The MTU of the segment in bytes.
    pub mtu_bytes: u32,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// The index of its segment in [`Scenario::subnets`].
    pub subnet: usize,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// Its Kubernetes namespace.
    pub namespace: String,
    /// The index of its node in [`Scenario::nodes`].
    pub node: usize,
    /// Annotations, as a user would write them on the pod.
    pub annotations: Vec<(String, String)>,
}

/// How a packet goes from one pod to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    /// Inside one node.
    Local,
    /// In the kernel's tunnel.
    Tunnel,
    /// In the agent's tunnel.
    UserTunnel,
    /// Plain, over the underlay.
    Direct,
    /// No route.
    None,
}

impl std::fmt::Display for PathKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        serde::Serialize::serialize(self, f)
    }
}

/// What the author says will happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations {
    /// The path between nodes of one segment.
    pub same_segment: Option<PathKind>,
    /// The path between nodes of different segments; [`PathKind::None`] means that they do not reach each other.
    pub cross_segment: Option<PathKind>,
    /// Whether pods reach the outside through their node's address.
    pub outside: bool,
}

/// A checked scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Underlay segments, at least one.
    pub subnets: Vec<Subnet>,
    /// Nodes, at least one.
    pub nodes: Vec<NodeSpec>,
    /// Pods.
    pub pods: Vec<PodSpec>,
    /// The backend's name.
    pub backend: String,
    /// The backend's own section.
    pub backend_config: Value,
    /// The policy engine's name; the agent's default where there is none.
    pub policy: Option<String>,
    /// The section `services` of the agents' configuration; none where it is `Null`.
    pub services: Value,
    /// Pod address pools by name.
    pub pools: Vec<(String, IpNet)>,
    /// What is expected.
    pub expect: Expectations,
}

/// What the command line changes in a scenario.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Another backend, without a section of its own.
    pub backend: Option<String>,
    /// Another number of nodes, 1 to 200.
    pub nodes: Option<usize>,
    /// Another number of pods, 0 to 2,000, spread over the nodes in turn.
    pub pods: Option<usize>,
}

/// The longest scenario file that is read.
const MOST_FILE_BYTES: u64 = 4 << 20;
/// The most nodes of a lab.
pub const MOST_NODES: usize = 200;
/// The most pods of a lab.
pub const MOST_PODS: usize = 2_000;

impl Scenario {
    /// Three nodes on one segment, six pods, VXLAN: what runs when nothing else is asked for.
    #[must_use]
    pub fn standard() -> Self {
        Self::parse(include_str!("../scenarios/vxlan.yaml")).expect("the built-in scenario is tested to be valid")
    }

    /// Where cases of policy are made real: two nodes, no pods, addresses that people do not write in policies.
    #[must_use]
    pub fn verify() -> Self {
        Self::parse(include_str!("../scenarios/verify.yaml")).expect("every shipped scenario is tested to be valid")
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`ScenarioError`], naming the file or the object and field at fault.
    pub fn read(path: &Path) -> Result<Self, ScenarioError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MOST_FILE_BYTES + 1).read_to_string(&mut text));
        read.map_err(|source| ScenarioError::File { path: path.to_path_buf(), source })?;
        if text.len() as u64 > MOST_FILE_BYTES {
            let detail = format!("{} is longer than {MOST_FILE_BYTES} bytes", path.display());
            return Err(ScenarioError::Syntax { detail });
        }
        Self::parse(&text)
    }

    /// Reads a scenario from text.
    ///
    /// # Errors
    /// [`ScenarioError::Syntax`] or [`ScenarioError::Value`].
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let raw: RawScenario =
            serde_saphyr::from_str(text).map_err(|error| ScenarioError::Syntax { detail: error.to_string() })?;
        Self::try_from(raw)
    }

    /// The same with what the command line changes.
    ///
    /// # Errors
    /// [`ScenarioError::Value`] when a number is out of range.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let pods_of_file = self.pods.len();
        if let Some(count) = overrides.nodes {
            if !(1..=MOST_NODES).contains(&count) {
                return Err(value_error("command line", "--nodes", format!("{count}: use 1 to {MOST_NODES}")));
            }
            self.nodes = (0..count)
                .map(|index| NodeSpec { name: numbered_node(index), subnet: index % self.subnets.len() })
                .collect();
        }
        if overrides.nodes.is_some() || overrides.pods.is_some() {
            let count = overrides.pods.unwrap_or(pods_of_file);
            if count > MOST_PODS {
                return Err(value_error("command line", "--pods", format!("{count}: use 0 to {MOST_PODS}")));
            }
            self.pods = spread_pods(count, self.nodes.len());
        }
        if let Some(backend) = &overrides.backend
            && *backend != self.backend
        {
            self.backend.clone_from(backend);
            self.backend_config = Value::Null;
            self.expect = Expectations { outside: self.expect.outside, ..Expectations::default() };
        }
        Ok(self)
    }

    /// What it says of its agents' configuration: the backend with its section, the policy engine, services.
    #[must_use]
    pub fn parts(&self) -> Value {
        let mut parts = serde_json::json!({"backend": self.backend});
        let policy = self.policy.as_deref().map_or(Value::Null, Value::from);
        for (key, value) in [("policy", &policy), ("services", &self.services), ("backendConfig", &self.backend_config)]
        {
            if !value.is_null() {
                parts[key] = value.clone();
            }
        }
        parts
    }

    /// The underlay addresses of a node.
    #[must_use]
    pub fn node_addresses(&self, node: usize) -> (Ipv4Addr, Ipv6Addr) {
        let subnet = &self.subnets[self.nodes[node].subnet];
        // The first addresses of a segment are the router's.
        let number = 10 + node;
        let v4 = u32::from(subnet.v4.addr()) + u32::try_from(number).expect("a lab has at most 200 nodes");
        let v6 = u128::from(subnet.v6.addr()) + number as u128;
        (v4.into(), v6.into())
    }

    /// What the path between two pods shall be, where the scenario says.
    #[must_use]
    pub fn expected_path(&self, from: usize, to: usize) -> Option<PathKind> {
        let (from, to) = (self.pods[from].node, self.pods[to].node);
        if from == to {
            Some(PathKind::Local)
        } else if self.nodes[from].subnet == self.nodes[to].subnet {
            self.expect.same_segment
        } else {
            self.expect.cross_segment
        }
    }
}

fn numbered_node(index: usize) -> NodeName {
    NodeName::new(&format!("node-{}", index + 1)).expect("letters, a dash and a number make a node name")
}

/// Pods `a`, `b`, ... `z`, `pod-27`, ... on the nodes in turn.
fn spread_pods(count: usize, nodes: usize) -> Vec<PodSpec> {
    let name = |index: usize| match u8::try_from(index) {
        Ok(letter @ 0..=25) => char::from(b'a' + letter).to_string(),
        _ => format!("pod-{}", index + 1),
    };
    (0..count)
        .map(|index| PodSpec {
            name: name(index),
            namespace: "default".to_owned(),
            node: index % nodes,
            annotations: Vec::new(),
        })
        .collect()
}

/// Names that occur twice.
fn refuse_twice<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ScenarioError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(value_error(format!("{kind} {name}"), "name", "is there twice; names are unique"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_scenario_is_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if let Err(error) = Scenario::read(&path) {
                panic!("{}: {error}", path.display());
            }
        }
    }

    #[test]
    fn the_standard_lab_has_three_nodes_and_six_pods() {
        let scenario = Scenario::standard();
        assert_eq!((scenario.nodes.len(), scenario.pods.len()), (3, 6));
    }

    #[test]
    fn an_error_names_object_and_field() {
        let with = |text: &str| Scenario::parse(text).unwrap_err().to_string();
        let base = "name: t\nnodes: [{name: n1}]\n";
        assert!(with("name: t\nnodes: []\n").contains("nodes"));
        assert!(with(&format!("{base}pods: [{{name: a, node: n9}}]")).contains("pod a: node"));
        assert!(with(&format!("{base}bogus: 1")).contains("bogus"));
        assert!(with("name: ../t\nnodes: [{name: n1}]\n").contains("name"));
        assert!(with(&format!("{base}pods: [{{name: a, namespace: ../b, node: n1}}]")).contains("namespace"));
        let subnet = |name: &str, v4: &str| format!("{{name: {name}, v4: {v4}, v6: 'fd31::/64'}}");
        let both = format!("{base}subnets: [{}, {}]", subnet("s", "172.31.0.0/16"), subnet("r", "172.31.1.0/24"));
        assert!(with(&both).contains("overlaps"));
        assert!(with("name: t\nnodes: [{name: N1}]").contains("node name"));
        assert!(with("name: t\nnodes: [{name: n1}, {name: n1}]").contains("twice"));
        assert!(with(&format!("{base}pools: [{{name: p, cidr: 10.0.0.1/8}}]")).contains("host bits"));
        assert!(with(&format!("{base}subnets: [{{name: s, v4: 172.31.0.0/30, v6: 'fd31::/64'}}]")).contains("v4"));
    }

    #[test]
    fn more_pods_are_spread_over_the_nodes_in_turn() {
        let overrides = Overrides { nodes: Some(2), pods: Some(30), backend: None };
        let scenario = Scenario::standard().with(&overrides).unwrap();
        assert_eq!(scenario.pods[29].name, "pod-30");
        assert_eq!(scenario.pods.iter().filter(|pod| pod.node == 0).count(), 15);
        assert!(Scenario::standard().with(&Overrides { nodes: Some(0), ..Overrides::default() }).is_err());
    }
}
