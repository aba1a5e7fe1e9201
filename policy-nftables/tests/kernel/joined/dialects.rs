//! Random objects as users write them, of every dialect, about few pods so that they meet. Never only what is right.

use cni_core::testkit::dice::Dice;
use serde_json::{Map, Value, json};

/// Pods: name, namespace, node. `a` and `b` are attached; `c` is behind the other address, on another node.
pub(super) const PODS: [(&str, &str, &str); 3] =
    [("a", "red", "node-1"), ("b", "green", "node-1"), ("c", "red", "node-2")];
const NAMESPACES: [&str; 2] = ["red", "green"];
const TYPES: [&[&str]; 3] = [&["Ingress"], &["Egress"], &["Ingress", "Egress"]];
const PREFIXES: [&str; 8] =
    ["10.9.0.0/16", "10.9.0.2/32", "192.0.2.0/24", "192.0.2.8/29", "0.0.0.0/0", "fd00::/64", "2001:db8::/32", "::/0"];

fn labels(dice: &mut Dice) -> Value {
    let mut labels = Map::new();
    if !dice.once_in(5) {
        labels.insert("app".into(), json!(dice.pick(&["web", "db"])));
    }
    if dice.once_in(2) {
        labels.insert("stage".into(), json!(dice.pick(&["dev", "prod"])));
    }
    labels.into()
}

/// A pod, with these addresses in its status.
pub(super) fn pod(dice: &mut Dice, number: usize, addresses: &[String]) -> Value {
    let (name, namespace, node) = PODS[number];
    let ports =
        json!([{"name": "http", "containerPort": dice.pick(&[80, 81]), "protocol": dice.pick(&["UDP", "TCP"])}]);
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels(dice)},
        "spec": {"nodeName": node, "serviceAccountName": dice.pick(&["default", "robot"]),
            "containers": [{"name": "x", "ports": ports}]},
        "status": {"podIPs": addresses}})
}

pub(super) fn namespace(dice: &mut Dice, number: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACES[number], "labels": {"team": dice.pick(&["x", "y"])}}})
}

/// One policy, tier or set. Its number is its name, so that it takes the place of an earlier one.
pub(super) fn policy(dice: &mut Dice, number: usize) -> Value {
    let mut object = match number % 6 {
        0 | 1 => kubernetes(dice),
        2 => cluster(dice),
        3 => calico(dice),
        4 => calico_global(dice),
        _ => cilium(dice),
    };
    object["metadata"]["name"] = json!(format!("p{number}"));
    if dice.once_in(8) {
        object["metadata"]["annotations"] = json!({"cnidarian.io/mode": "staged"});
    }
    if dice.once_in(25) {
        // What cannot be read is closed, at both ends alike.
        object["spec"]["ingres"] = json!([]);
    }
    object
}

fn selector(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 | 1 => json!({}),
        2 => json!({"matchLabels": {"app": dice.pick(&["web", "db"])}}),
        3 => json!({"matchExpressions": [{"key": "stage", "operator": dice.pick(&["Exists", "DoesNotExist"])}]}),
        _ => {
            let operator = dice.pick(&["In", "NotIn"]);
            json!({"matchExpressions": [{"key": "app", "operator": operator, "values": ["web"]}]})
        }
    }
}

fn team(dice: &mut Dice) -> Value {
    if dice.once_in(2) { json!({}) } else { json!({"matchLabels": {"team": dice.pick(&["x", "y"])}}) }
}

fn several(dice: &mut Dice, most: usize, one: fn(&mut Dice) -> Value) -> Vec<Value> {
    (0..dice.below(most + 1)).map(|_| one(dice)).collect()
}

fn at_least_one(dice: &mut Dice, one: fn(&mut Dice) -> Value) -> Vec<Value> {
    (0..=dice.below(2)).map(|_| one(dice)).collect()
}

fn kubernetes(dice: &mut Dice) -> Value {
    fn port(dice: &mut Dice) -> Value {
        match dice.below(5) {
            0 => json!({"protocol": "UDP", "port": 80, "endPort": 81}),
            1 => json!({"protocol": "UDP", "port": "http"}),
            2 => json!({"port": 80}),
            _ => json!({"protocol": "UDP", "port": dice.pick(&[80, 81])}),
        }
    }
    fn peer(dice: &mut Dice) -> Value {
        match dice.below(5) {
            0 => json!({"namespaceSelector": team(dice)}),
            1 | 2 => json!({"namespaceSelector": team(dice), "podSelector": selector(dice)}),
            3 => json!({"podSelector": selector(dice)}),
            _ => match dice.below(3) {
                0 => json!({"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}}),
                _ => json!({"ipBlock": {"cidr": dice.pick(&PREFIXES)}}),
            },
        }
    }
    let rule = |dice: &mut Dice, key: &str| {
        let mut rule = Map::new();
        if !dice.once_in(4) {
            rule.insert(key.to_owned(), at_least_one(dice, peer).into());
        }
        if dice.once_in(2) {
            rule.insert("ports".to_owned(), at_least_one(dice, port).into());
        }
        Value::from(rule)
    };
    let ingress: Vec<Value> = (0..dice.below(3)).map(|_| rule(dice, "from")).collect();
    let egress: Vec<Value> = (0..dice.below(3)).map(|_| rule(dice, "to")).collect();
    let types = dice.pick(&TYPES);
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": dice.pick(&NAMESPACES)},
        "spec": {"podSelector": selector(dice), "policyTypes": types, "ingress": ingress, "egress": egress}})
}

fn cluster(dice: &mut Dice) -> Value {
    fn pods(dice: &mut Dice) -> Value {
        if dice.once_in(2) {
            json!({"namespaces": team(dice)})
        } else {
            json!({"pods": {"namespaceSelector": team(dice), "podSelector": selector(dice)}})
        }
    }
    fn to(dice: &mut Dice) -> Value {
        if dice.once_in(3) { json!({"networks": [dice.pick(&PREFIXES)]}) } else { pods(dice) }
    }
    fn protocol(dice: &mut Dice) -> Value {
        match dice.below(4) {
            0 => json!({"destinationNamedPort": "http"}),
            1 => json!({"tcp": {"destinationPort": {"number": 80}}}),
            2 => json!({"udp": {"destinationPort": {"range": {"start": 81, "end": 90}}}}),
            _ => json!({"udp": {"destinationPort": {"number": dice.pick(&[80, 81])}}}),
        }
    }
    let rule = |dice: &mut Dice, key: &str| {
        let peers = at_least_one(dice, if key == "to" { to } else { pods });
        let mut rule = json!({"action": dice.pick(&["Accept", "Deny", "Pass"]), key: peers});
        if dice.once_in(2) {
            rule["protocols"] = at_least_one(dice, protocol).into();
        }
        rule
    };
    let ingress: Vec<Value> = (0..dice.below(3)).map(|_| rule(dice, "from")).collect();
    let egress: Vec<Value> = (0..dice.below(3)).map(|_| rule(dice, "to")).collect();
    json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {},
        "spec": {"tier": dice.pick(&["Admin", "Baseline"]), "priority": dice.below(4), "subject": pods(dice),
            "ingress": ingress, "egress": egress}})
}

fn calico_selector(dice: &mut Dice) -> Value {
    json!(dice.pick(&["all()", "app == 'web'", "app != 'web'", "has(stage)", "app in {'web', 'db'} && !has(stage)"]))
}

fn calico_rules(dice: &mut Dice) -> Vec<Value> {
    fn entity(dice: &mut Dice) -> Value {
        let mut entity = Map::new();
        match dice.below(6) {
            0 => drop(entity.insert("selector".into(), calico_selector(dice))),
            1 => drop(entity.insert("notSelector".into(), calico_selector(dice))),
            2 => drop(entity.insert("nets".into(), json!([dice.pick(&PREFIXES)]))),
            3 => drop(entity.insert("notNets".into(), json!([dice.pick(&PREFIXES)]))),
            4 => drop(entity.insert("namespaceSelector".into(), json!(dice.pick(&["team == 'x'", "all()"])))),
            _ => {}
        }
        entity.into()
    }
    fn rule(dice: &mut Dice) -> Value {
        let action = dice.pick(&["Allow", "Allow", "Deny", "Pass", "Log"]);
        let mut rule = json!({"action": action, "source": entity(dice), "destination": entity(dice)});
        if dice.once_in(2) {
            rule["protocol"] = json!("UDP");
            let key = dice.pick(&["ports", "notPorts"]);
            rule["destination"][*key] = dice.pick(&[json!([80]), json!(["80:81"]), json!(["http"])]).clone();
        }
        rule
    }
    several(dice, 3, rule)
}

fn calico_spec(dice: &mut Dice) -> Value {
    json!({"tier": dice.pick(&["default", "early"]), "order": dice.below(3), "selector": calico_selector(dice),
        "types": dice.pick(&TYPES),
        "ingress": calico_rules(dice), "egress": calico_rules(dice)})
}

fn calico(dice: &mut Dice) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"namespace": dice.pick(&NAMESPACES)}, "spec": calico_spec(dice)})
}

fn calico_global(dice: &mut Dice) -> Value {
    let kind = "projectcalico.org/v3";
    match dice.below(5) {
        0 => json!({"apiVersion": kind, "kind": "GlobalNetworkSet", "metadata": {"labels": labels(dice)},
            "spec": {"nets": [dice.pick(&PREFIXES)]}}),
        1 => {
            json!({"apiVersion": kind, "kind": "StagedGlobalNetworkPolicy", "metadata": {}, "spec": calico_spec(dice)})
        }
        _ => json!({"apiVersion": kind, "kind": "GlobalNetworkPolicy", "metadata": {}, "spec": calico_spec(dice)}),
    }
}

/// The tier that some of Calico's policies are in.
pub(super) fn tier(dice: &mut Dice) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": "early"},
        "spec": {"order": dice.pick(&[10, 5_000]), "defaultAction": dice.pick(&["Deny", "Pass"])}})
}

fn cilium(dice: &mut Dice) -> Value {
    fn endpoint(dice: &mut Dice) -> Value {
        match dice.below(4) {
            0 => json!({}),
            1 => json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": dice.pick(&NAMESPACES)}}),
            _ => json!({"matchLabels": {"app": dice.pick(&["web", "db"])}}),
        }
    }
    fn ports(dice: &mut Dice) -> Value {
        let port = dice.pick(&["80", "81", "http"]);
        json!({"ports": [{"port": port, "protocol": dice.pick(&["UDP", "ANY", "TCP"])}]})
    }
    let rule = |dice: &mut Dice, way: &str| {
        let mut rule = Map::new();
        match dice.below(5) {
            0 => {
                let entity = dice.pick(&["world", "cluster", "host", "all", "remote-node"]);
                rule.insert(format!("{way}Entities"), json!([entity]));
            }
            1 => drop(rule.insert(format!("{way}CIDR"), json!([dice.pick(&PREFIXES)]))),
            2 => {}
            _ => drop(rule.insert(format!("{way}Endpoints"), at_least_one(dice, endpoint).into())),
        }
        if dice.once_in(2) {
            rule.insert("toPorts".to_owned(), json!([ports(dice)]));
        }
        Value::from(rule)
    };
    let mut spec = json!({"endpointSelector": endpoint(dice)});
    for (key, way) in [("ingress", "from"), ("egress", "to"), ("ingressDeny", "from"), ("egressDeny", "to")] {
        if dice.once_in(if key.ends_with("Deny") { 4 } else { 2 }) {
            spec[key] = (0..dice.below(3)).map(|_| rule(dice, way)).collect();
        }
    }
    if dice.once_in(2) {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {}, "spec": spec})
    } else {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"namespace": dice.pick(&NAMESPACES)}, "spec": spec})
    }
}
