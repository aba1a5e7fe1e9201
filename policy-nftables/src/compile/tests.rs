//! What programs become, without a kernel.

use super::*;
use crate::config::LogConfig;
use cni_core::backend::ErrorKind;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Direction, PolicyId, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    BothWays, Chain, ChainId, Clause, DirectionProgram, EndpointProgram, HostEndpointProgram, HostInterface,
    HostProgram, ProgramRule, SetId, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use net_linux::nft::Expr;

fn compiler(what: Wanted) -> Compiler {
    telling(what, Wanted::None)
}

fn telling(what: Wanted, flows: Wanted) -> Compiler {
    Compiler::new(Config { flows, log: LogConfig { group: 7, what }, translation: None })
}

fn chain_id(namespace: &str, name: &str) -> ChainId {
    let kind = Kind::new("networking.k8s.io/v1", "NetworkPolicy");
    let object = ObjectKey::namespaced(kind, namespace, name);
    ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress }
}

fn chain(id: &ChainId, action: Action, clauses: Vec<Clause>) -> PolicyItem {
    let rule = ProgramRule { path: "spec.ingress[0]".into(), action, clauses, unenforceable: None };
    PolicyItem::Chain(Chain { id: id.clone(), stage: Stage::Tracked, rules: vec![rule] })
}

/// The rules of the chain that decides.
fn rules(objects: &Objects) -> &[RuleObject] {
    let enforced = objects.iter().find_map(|(key, object)| match (key, object) {
        (Key::Chain(name), Object::Chain { rules, .. }) if name.as_str().starts_with("pol-p-") => Some(rules),
        _ => None,
    });
    enforced.unwrap()
}

/// What a rule tells a group.
fn told(rule: &RuleObject, wanted: u16) -> Vec<&str> {
    let logs = rule.exprs.iter().filter_map(|expr| match expr {
        Expr::Log(Log { prefix, target: LogTarget::Group { group, .. } }) if *group == wanted => prefix.as_deref(),
        _ => None,
    });
    logs.collect()
}

fn prefix(rule: &RuleObject) -> Option<&str> {
    told(rule, 7).first().copied()
}

#[test]
fn without_a_proxy_there_is_nothing_for_it() {
    let of_a_proxy = |objects: &Objects| {
        let named = |key: &&(Key, Object)| {
            let text = key.0.to_string();
            ["pol-proxied", "pol-local", "pol-source"].iter().any(|name| text.contains(name))
        };
        objects.iter().filter(named).count()
    };
    let of = |translation| Compiler::new(Config { translation, ..Config::default() });
    let program = EndpointProgram {
        endpoint: EndpointId::of("c1", "eth0").unwrap(),
        host_interface: InterfaceName::new("cni1").unwrap(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ingress: DirectionProgram::default(),
        egress: DirectionProgram::default(),
    };
    let item = PolicyItem::Endpoint(program);
    for (translation, base, of_a_pod) in
        [(None, 0, 0), (Some(Translation::Socket), 0, 0), (Some(Translation::Delivery), 5, 2)]
    {
        assert_eq!(of_a_proxy(&of(translation).base()), base, "{translation:?}");
        assert_eq!(of_a_proxy(&of(translation).compile(&item).unwrap()), of_a_pod, "{translation:?}");
    }
}

/// With the configuration that nobody wrote, a rule that allows costs what it costs without flows.
#[test]
fn flows_are_told_to_a_group_of_their_own_as_the_configuration_says() {
    let id = chain_id("shop", "web");
    assert_eq!(Config::default().flows, Wanted::Denied);
    for (flows, enforced, shadow) in [
        (Wanted::None, [None, None, None], [None, None, None]),
        (Wanted::Denied, [None, Some("deny"), Some("log")], [None, Some("would-deny"), None]),
        (Wanted::All, [Some("allow"), Some("deny"), Some("log")], [Some("would-allow"), Some("would-deny"), None]),
    ] {
        for (at, action) in [Action::Allow, Action::Deny, Action::Log].into_iter().enumerate() {
            let item = chain(&id, action, vec![Clause::default()]);
            let objects = telling(Wanted::None, flows).compile(&item).unwrap();
            let words = |begin: &str| {
                let chains = objects.iter().filter_map(|(key, object)| match (key, object) {
                    (Key::Chain(name), Object::Chain { rules, .. }) if name.as_str().starts_with(begin) => Some(rules),
                    _ => None,
                });
                let told = chains.flatten().flat_map(|rule| told(rule, marks::POLICY_FLOW_GROUP));
                told.map(|prefix| prefix.split_once(' ').unwrap().0.to_owned()).collect::<Vec<_>>()
            };
            let wanted = |word: Option<&str>| word.map(str::to_owned).into_iter().collect::<Vec<_>>();
            assert_eq!(words("pol-p-"), wanted(enforced[at]), "{flows:?} {action}");
            assert_eq!(words("pol-q-"), wanted(shadow[at]), "{flows:?} {action}");
        }
    }
}

#[test]
fn what_is_logged_is_what_the_configuration_says_and_carries_the_rules_name() {
    let id = chain_id("shop", "web");
    for (what, logged) in [
        (Wanted::None, [None, None, Some("log")]),
        (Wanted::Denied, [None, Some("deny"), Some("log")]),
        (Wanted::All, [Some("allow"), Some("deny"), Some("log")]),
    ] {
        for (action, word) in [Action::Allow, Action::Deny, Action::Log].into_iter().zip(logged) {
            let objects = compiler(what).compile(&chain(&id, action, vec![Clause::default()])).unwrap();
            let wanted = word.map(|word| format!("{word} NetworkPolicy shop/web ingress spec.ingress[0]"));
            assert_eq!(prefix(&rules(&objects)[0]), wanted.as_deref(), "{what:?} {action}");
        }
    }
}

#[test]
fn the_longest_names_fit_and_stay_apart() {
    let long = |last: char| chain_id(&"n".repeat(63), &format!("{}{last}", "x".repeat(252)));
    let compiled = ['a', 'b'].map(|last| {
        let program = chain(&long(last), Action::Deny, vec![Clause::default()]);
        compiler(Wanted::All).compile(&program).unwrap()
    });
    for objects in &compiled {
        let rule = &rules(objects)[0];
        assert!(prefix(rule).unwrap().len() <= 127 && rule.comment.as_ref().unwrap().as_str().len() <= 128);
    }
    let [first, second] = &compiled;
    assert!(first.iter().all(|(key, _)| second.iter().all(|(other, _)| key != other)));
    assert_ne!(rules(first)[0].comment, rules(second)[0].comment);
}

#[test]
fn a_contradiction_or_an_empty_list_is_no_rule_and_never_one_for_all() {
    let (v4, v6) = (Family::V4, Family::V6);
    let set = |family| cni_core::policy::program::SetMatch {
        side: cni_core::policy::program::Side::Source,
        set: Set { id: SetId("a1".into()), kind: SetKind::Addresses(family) },
        negated: false,
    };
    let clauses = [
        Clause { sets: vec![set(v4)], family: Some(v6), ..Clause::default() },
        Clause { sets: vec![set(v4), set(v6)], ..Clause::default() },
        Clause { destination_ports: Some(Vec::new()), ..Clause::default() },
        Clause { source_ports: Some(Vec::new()), protocol: Some(Protocol::TCP), ..Clause::default() },
        Clause { not_source_ports: Some(Vec::new()), protocol: Some(Protocol::ICMP), ..Clause::default() },
        Clause { protocol: Some(Protocol::TCP), not_protocol: Some(Protocol::TCP), ..Clause::default() },
    ];
    for clause in clauses {
        let compiled = compiler(Wanted::None).compile(&chain(&chain_id("a", "b"), Action::Allow, vec![clause.clone()]));
        assert!(rules(&compiled.unwrap()).is_empty(), "{clause:?}");
    }
    let compiled = compiler(Wanted::None).compile(&chain(&chain_id("a", "b"), Action::Allow, Vec::new()));
    assert!(rules(&compiled.unwrap()).is_empty());
}

#[test]
fn endpoints_with_the_same_tier_share_its_chain() {
    let chains = vec![chain_id("a", "one"), chain_id("a", "two")];
    let endpoint = |number: u8| {
        let tiers = vec![TierProgram { tier: "default".into(), chains: chains.clone(), end: TierEnd::Deny }];
        let program = EndpointProgram {
            endpoint: EndpointId::of(&format!("c{number}"), "eth0").unwrap(),
            host_interface: InterfaceName::new(&format!("cni00000000000{number}")).unwrap(),
            addresses: vec![[10, 0, 0, number].into()],
            ingress: cni_core::policy::program::DirectionProgram { enforced: tiers, staged: None },
            egress: cni_core::policy::program::DirectionProgram::default(),
        };
        compiler(Wanted::None).compile(&PolicyItem::Endpoint(program)).unwrap()
    };
    let (one, two) = (endpoint(1), endpoint(2));
    let shared: Vec<_> = one.iter().filter(|object| two.contains(object)).collect();
    assert!(matches!(&shared[..], [(Key::Chain(name), _)] if name.as_str().starts_with("pol-tier-in-default-")));
}

#[test]
fn a_member_of_another_kind_or_family_and_an_id_with_a_space_are_refused() {
    let set = |id: &str, kind| Set { id: SetId(id.into()), kind };
    let address = Member::Address("fd00::1".parse().unwrap());
    for item in [
        PolicyItem::Member(set("a1", SetKind::Addresses(Family::V4)), address.clone()),
        PolicyItem::Member(set("a1", SetKind::AddressPorts(Family::V6)), address),
        PolicyItem::Set(set("a 1", SetKind::Addresses(Family::V4))),
    ] {
        assert_eq!(compiler(Wanted::None).compile(&item).unwrap_err().kind, ErrorKind::Invalid);
    }
}

/// To IPv4 its protocol 58 is any other.
#[test]
fn neighbour_discovery_is_that_of_ipv6() {
    let compiler = compiler(Wanted::None);
    let closed = TierProgram { tier: "default".into(), chains: Vec::new(), end: TierEnd::Deny };
    let closed = DirectionProgram { enforced: vec![closed], staged: None };
    let both = BothWays { ingress: closed.clone(), egress: closed.clone() };
    let endpoint = HostEndpointProgram {
        name: "h".into(),
        interface: HostInterface::Others,
        local: both.clone(),
        forwarded: both.clone(),
        untracked: both,
        before_nat: closed,
    };
    let host = PolicyItem::Host(HostProgram { endpoints: vec![endpoint] });
    let objects = [compiler.base(), compiler.compile(&host).unwrap()].concat();
    let rules = objects.iter().flat_map(|(_, object)| match object {
        Object::Chain { rules, .. } => &rules[..],
        _ => &[],
    });
    let named = |rule: &&RuleObject| rule.comment.as_ref().is_some_and(|text| text.as_str() == "neighbour discovery");
    let found: Vec<_> = rules.filter(named).collect();
    assert!(found.len() > 7 * 8, "of seven hooks of hosts and one of pods: {}", found.len());
    let of_ipv6 = Vec::from(Program::new().ipv6());
    assert!(found.iter().all(|rule| rule.exprs.starts_with(&of_ipv6)), "{found:?}");
}
