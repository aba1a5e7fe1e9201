//! What a node keeps in force when the store forgets. Never an engine.

use super::*;

#[test]
fn policies_about_the_node_hold_while_its_object_is_gone() {
    let mut front = Front::new(&NodeName::new("n1").unwrap(), Failsafe::default());
    front.put(&Object::new(front.itself.clone()));
    let policy = json!({"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "p"},
        "spec": {"nodeSelector": {}, "ingress": [{}]}});
    front.put(&Object::from_value(policy).unwrap());
    assert!(!front.compiler.drain().is_empty() && front.compiler.host().is_some());
    front.take(&Kind::NODE, &Event::Delete(front.itself.clone()));
    assert!(front.compiler.drain().is_empty() && front.compiler.host().is_some());
}
