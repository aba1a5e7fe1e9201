//! Policies of users, in every dialect, read and compiled.

use crate::Target;
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::compile::{Compiler, LocalEndpoint};
use cni_core::policy::dialect;
use cni_core::policy::model::{Effect, Kinds, Policy, Selector, Subject, Tier};
use cni_core::policy::program::{PolicyChange, PolicyItem};
use cni_core::policy::world::ModelChange;
use cni_core::store::Object;
use serde_json::Value;
use std::sync::Arc;

/// One policy as JSON or YAML.
pub(crate) const OBJECT: Target = Target {
    name: "policy_object",
    run: object,
    seeds: &[
        br#"{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"p","namespace":"a","annotations":{"cnidarian.io/mode":"staged"}},"spec":{"podSelector":{"matchLabels":{"app":"x"}},"policyTypes":["Ingress","Egress"],"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}},{"podSelector":{},"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["red"]}]}}],"ports":[{"port":80,"endPort":90},{"protocol":"UDP","port":"dns"}]}],"egress":[]}}"#,
        b"apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\nspec:\n  tier: Admin\n  priority: 5\n  subject: {pods: {podSelector: {}}}\n  egress:\n  - action: Accept\n    name: out\n    to:\n    - networks: [0.0.0.0/0]\n    - domainNames: ['*.example.org']\n    - nodes: {}\n    protocols:\n    - tcp: {destinationPort: {range: {start: 1, end: 9}}}\n",
        b"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {name: default}\nspec:\n  subject: {namespaces: {}}\n  ingress:\n  - {action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {port: 80}}, {namedPort: web}]}\n",
        b"apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\nspec:\n  priority: 1\n  subject: {namespaces: {}}\n  egress:\n  - {action: Pass, to: [{networks: ['::/0']}], ports: [{portRange: {protocol: SCTP, start: 1, end: 2}}]}\n",
        br#"{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy","metadata":{"name":"p","namespace":"a"},"spec":{"endpointSelector":{"matchLabels":{"k8s:app":"x"}},"ingress":[{"fromEndpoints":[{"matchLabels":{"io.kubernetes.pod.namespace":"b"}}],"toPorts":[{"ports":[{"port":"80","endPort":90,"protocol":"TCP"}],"rules":{"http":[{"method":"GET"}]}}]}],"egress":[{"toFQDNs":[{"matchPattern":"*.example.org"}]},{"toServices":[{"k8sService":{"serviceName":"s","namespace":"b"}}]}]}}"#,
        br#"{"apiVersion":"cilium.io/v2","kind":"CiliumClusterwideNetworkPolicy","metadata":{"name":"c"},"specs":[{"nodeSelector":{},"ingress":[{"fromEntities":["remote-node","world"]}]},{"endpointSelector":{},"egressDeny":[{"toCIDRSet":[{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]},{"cidrGroupRef":"g"}]},{"icmps":[{"fields":[{"type":"EchoRequest","family":"IPv6"}]}]}],"enableDefaultDeny":{"egress":false}}]}"#,
    ],
};

fn object(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // JSON is YAML as well.
    let Ok(document) = serde_saphyr::from_str::<Value>(text) else { return };
    let Ok(object) = Object::from_value(document) else { return };
    let Some(reading) = dialect::read(&object) else { return };
    // What closes the subject makes a policy that does.
    let closed = reading.problems.iter().any(|problem| problem.effect == Effect::SubjectClosed);
    assert!(!closed || reading.policies.iter().any(|policy| &*policy.tier == Tier::CLOSED));
    for policy in reading.policies {
        compile(policy);
    }
}

/// Compiles a policy as if it were about everybody, and takes it back.
fn compile(policy: Policy) {
    let subject = Subject { kinds: Kinds::PODS, selector: Selector::Everything };
    let policy = Arc::new(Policy { subject, ..policy });
    let mut compiler = Compiler::new("node");
    compiler.put_endpoint(LocalEndpoint {
        id: EndpointId::of("c", "eth0").expect("a name of the right form"),
        host_interface: InterfaceName::new("cni0").expect("a name of the right form"),
        addresses: vec![[10, 0, 0, 1].into()],
        pod: None,
    });
    compiler.drain();
    compiler.apply(ModelChange::PutPolicy(policy.clone()));
    for change in compiler.drain() {
        if let Change::Put(PolicyItem::Chain(chain)) = change {
            let rules = policy.rules(chain.id.direction).map_or(0, |rules| rules.rules.len());
            assert_eq!(chain.rules.len(), rules);
            assert!(chain.rules.iter().all(|rule| rule.clauses.len() <= 256));
        }
    }
    compiler.apply(ModelChange::RemovePolicy(policy.id.clone()));
    let is_kept =
        |change: &PolicyChange| matches!(change, Change::Put(item) if !matches!(item, PolicyItem::Endpoint(_)));
    assert!(!compiler.drain().iter().any(is_kept), "only the endpoint's program is left");
}
