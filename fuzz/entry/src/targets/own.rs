//! Bytes of operators, and of our own earlier versions.

use crate::Target;
use cni_core::backend::Registry;
use cni_core::rpc::{Request, Response, Tombstone, read_response};
use cni_core::testkit::engine::fake::{FakeBackend, FakeKernel};
use serde_json::Value;

/// The agent's configuration, and the vxlan backend's section.
pub(crate) const AGENT_CONFIGURATION: Target = Target {
    name: "agent_configuration",
    run: agent_configuration,
    seeds: &[
        b"backend: fake\nnode: node-1\n",
        b"mode: direct-routing\nvni: 4096\nport: 8472\nmtu: 1450\n",
        b"backend: fake\nipam:\n  mode: pools\nsocket: /run/a.sock\nmasquerade: true\n",
    ],
};

fn agent_configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(document) = serde_saphyr::from_str::<Value>(text) else { return };
    let registry = Registry::default().with(FakeBackend::new(FakeKernel::default()));
    let _config = cnidarian::config::read_config(document.clone(), &registry, "node-1");
    let _section = backend_vxlan::config::Config::from_json(&document);
}

/// A lab's scenario file.
pub(crate) const SCENARIO: Target = Target {
    name: "scenario",
    run: |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let _scenario = testlab::scenario::Scenario::parse(text);
        }
    },
    seeds: &[
        include_bytes!("../../../../testlab/scenarios/vxlan.yaml"),
        b"name: a\nbackend: vxlan\nsubnets:\n  - {name: s, v4: 192.0.2.0/24, v6: 2001:db8::/64}\nnodes:\n  - {name: n, subnet: s}\npods:\n  - {name: p, node: n}\n",
    ],
};

/// Manifests of the store's directory.
pub(crate) const MANIFEST: Target = Target {
    name: "manifest",
    run: cni_core::store::fuzz_manifest,
    seeds: &[
        br#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"a":"b"},"annotations":{"x":"y"}},"spec":{"podCIDRs":["10.1.0.0/24"]}}"#,
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec:\n  nodeName: n\n---\n# two\napiVersion: cnidarian.io/v1\nkind: IPPool\nmetadata:\n  name: p\nspec:\n  cidr: 10.0.0.0/16\n",
        b"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\n",
    ],
};

/// What the executable and the agent say to each other, and the tombstones on disk.
pub(crate) const RPC: Target = Target {
    name: "rpc",
    run: rpc,
    seeds: &[
        br#"{"version":1,"endpoint":"c0ffee/eth0","writtenUnixMs":1790000000000}"#,
        br#"{"failed":{"code":11,"msg":"agent starts","details":"try again"}}"#,
        br#"{"protocol":1,"call":{"gc":{"keep":[{"containerID":"c","ifname":"eth0"}]}}}"#,
    ],
};

fn rpc(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let again = serde_json::from_slice::<Request>(&request.to_bytes());
        assert_eq!(again.ok().as_ref(), Some(&request));
    }
    if let Ok(response) = read_response(bytes) {
        let text = serde_json::to_vec(&response).unwrap_or_default();
        assert_eq!(serde_json::from_slice::<Response>(&text).ok().as_ref(), Some(&response));
    }
    let _tombstone = Tombstone::parse("name", bytes);
}
