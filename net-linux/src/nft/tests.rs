//! What we write lists as expected by `nft`, what `nft` writes we read, and arbitrary bytes never panic.

use super::*;
use crate::netns::NetNs;
use nix::errno::Errno;
use proptest::prelude::*;
use std::io::Write as _;
use std::process::{Command, Stdio};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn table() -> TableId {
    TableId::new(Family::Inet, name("oracle"))
}

/// Runs the `nft` program in the calling thread's namespace.
fn nft_program(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the Debian package nftables");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of what `nft` lists, without indentation.
fn listed() -> Vec<String> {
    let text = nft_program(&["list", "table", "inet", "oracle"], "");
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn in_fresh_namespace(test: impl FnOnce(&mut Nft) + Send) {
    NetNs::new().unwrap().run(|| test(&mut Nft::open().unwrap())).unwrap();
}

fn base(hook: Hook, kind: ChainType, priority: i32) -> BaseChain {
    BaseChain { kind, hook, priority, policy: Policy::Accept }
}

#[test]
fn what_we_write_lists_as_a_person_would_write_it() {
    in_fresh_namespace(|nft| {
        let id = table();
        let forward = id.chain(name("forward"));
        let pod = id.chain(name("pod-1"));
        let postrouting = id.chain(name("post"));
        let raw = id.chain(name("raw"));
        let addresses = Set::new(id.set(name("addresses")), [Field::Ipv4Addr]);
        let networks = Set::new(id.set(name("networks")), [Field::Ipv6Addr]).interval();
        let tuples =
            Set::new(id.set(name("tuples")), [Field::Ipv4Addr, Field::InetProto, Field::InetService]).interval();
        let dispatch = Set::new(id.set(name("dispatch")), [Field::IfName]).verdict_map();
        let marks = Set::new(id.set(name("marks")), [Field::Ipv4Addr]).map([Field::Mark]);
        let mut batch = Batch::new();
        batch.add_table(&Table { comment: Some(Comment::new("ours").unwrap()), ..Table::new(id.clone()) });
        let mut drop = base(Hook::Forward, ChainType::Filter, priority::FILTER);
        drop.policy = Policy::Drop;
        batch.add_chain(&Chain::base(forward.clone(), drop));
        batch.add_chain(&Chain { comment: Some(Comment::new("c").unwrap()), ..Chain::regular(pod.clone()) });
        batch.add_chain(&Chain::base(postrouting.clone(), base(Hook::Postrouting, ChainType::Nat, priority::SRCNAT)));
        batch.add_chain(&Chain::base(raw.clone(), base(Hook::Prerouting, ChainType::Filter, priority::RAW)));
        batch.add_set(&Set { comment: Some(Comment::new("pods").unwrap()), ..addresses.clone() });
        [&networks, &tuples, &dispatch, &marks].iter().for_each(|set| batch.add_set(set));
        let v4 = |text: &str| Element::new(Key::address(text.parse().unwrap()));
        batch.add_elements(&addresses, &[v4("10.0.0.1").commented(Comment::new("pod one").unwrap())]);
        batch.add_elements(&networks, &[Element::new(Key::prefix("fd00:1::/64".parse().unwrap()))]);
        let port = |port: u16| port.to_be_bytes();
        batch.add_elements(
            &tuples,
            &[Element::new(Key::concat_ranges(&[
                (&[10, 0, 0, 0], &[10, 0, 0, 255]),
                (&[6], &[6]),
                (&port(80), &port(89)),
            ]))],
        );
        let jump = Data::Verdict(Verdict::Jump(name("pod-1")));
        batch.add_elements(&dispatch, &[Element::new(Key::One(interface_bytes("cni0a1"))).with(jump)]);
        batch.add_elements(&marks, &[v4("10.0.0.2").with(Data::Value(7u32.to_ne_bytes().to_vec()))]);
        let states = CtState::ESTABLISHED.or(CtState::RELATED);
        batch.add_rule(&Rule::new(forward.clone(), Program::new().ct_state(states).verdict(Verdict::Accept)));
        batch.add_rule(&Rule::new(forward.clone(), Program::new().meta_vmap(MetaKey::OifName, name("dispatch"))));
        let ports = Set::new(id.set(name("unused")), [Field::InetService]);
        let ports = batch.add_anonymous_set(
            &ports,
            &[443u16, 80].map(|number| Element::new(Key::One(number.to_be_bytes().to_vec()))),
        );
        let web = Program::new()
            .ipv4()
            .matches_in(Payload::IP_SADDR, name("addresses"))
            .l4proto(6)
            .then(Expr::Payload { field: Payload::DPORT, dreg: Reg::A })
            .then(Expr::Lookup { set: ports, sreg: Reg::A, inverted: false })
            .counter()
            .verdict(Verdict::Accept);
        batch.add_rule(&Rule::new(pod.clone(), web).commented(Comment::new("cnidarian:web").unwrap()));
        let range = Program::new().l4proto(17).dports(1000, 2000).reject(Reject::ADMIN);
        batch.add_rule(&Rule::new(pod.clone(), range));
        let log = Log {
            prefix: Some("r1 ".into()),
            target: LogTarget::Group { group: 5, snap_bytes: 96, queue_threshold: 10 },
        };
        batch.add_rule(&Rule::new(pod.clone(), Program::new().mark(0x10, 0xf0).log(log).verdict(Verdict::Drop)));
        let limit = Limit { rate: 10, unit_seconds: 1, burst: 20, bytes: false, over: false };
        let limited = Program::new().set_mark(0x100, 0xf00).then(Expr::Limit(limit));
        batch.add_rule(&Rule::new(pod.clone(), limited.verdict(Verdict::Goto(name("end")))));
        batch.add_chain(&Chain::regular(id.chain(name("end"))));
        let masquerade = Program::new()
            .ipv6()
            .matches_not_in(Payload::IP6_DADDR, name("networks"))
            .interface(MetaKey::OifName, Cmp::Ne, "cni*")
            .masquerade(NatFlags::FULLY_RANDOM);
        batch.add_rule(&Rule::new(postrouting, masquerade));
        batch.add_rule(&Rule::new(
            raw.clone(),
            Program::new().interface(MetaKey::IifName, Cmp::Eq, "lo").then(Expr::NoTrack),
        ));
        let fib = Expr::Fib { dreg: Reg::A, result: FibResult::Oif, flags: 0b1001 };
        let spoofed = Expr::Cmp { sreg: Reg::A, op: Cmp::Eq, value: vec![0; 4] };
        let elsewhere = Program::new()
            .daddr([10, 0, 0, 3].into())
            .then(Expr::Immediate { dreg: Reg::A, value: vec![192, 0, 0, 8] })
            .then(Expr::PayloadSet { field: Payload::IP_DADDR, sreg: Reg::A, checksum: Some(10) });
        batch.add_rule(&Rule::new(raw.clone(), elsewhere));
        batch.add_rule(&Rule::new(raw, Program::new().then(fib).then(spoofed).verdict(Verdict::Drop)));
        let choose = Program::new()
            .then(Expr::Random { dreg: Reg::A, modulus: 7 })
            .then(Expr::Payload { field: Payload::IP_SADDR, dreg: Reg::A })
            .then(Expr::Hash { sreg: Reg::A, bytes: 4, dreg: Reg::A, modulus: 5, seed: 9 });
        batch.add_rule(&Rule::new(id.chain(name("end")), choose));
        let wanted = batch.clone();
        assert!(!wanted.is_empty());
        // A jump to a chain that is made later in the batch is refused, and names the rule.
        let error = nft.commit(&batch).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("add rule without comment of chain inet oracle pod-1"), "{text}");
        assert!(nft.table(&id).unwrap().is_none(), "nothing of a refused batch is in force");
        let mut first = Batch::new();
        first.add_table(&Table { comment: Some(Comment::new("ours").unwrap()), ..Table::new(id.clone()) });
        first.add_chain(&Chain::regular(id.chain(name("end"))));
        nft.commit(&first).unwrap();
        nft.commit(&wanted).unwrap();

        let lines = listed();
        for line in [
            "comment \"ours\"",
            "type filter hook forward priority filter; policy drop;",
            "comment \"c\"",
            "type nat hook postrouting priority srcnat; policy accept;",
            "type filter hook prerouting priority raw; policy accept;",
            "type ipv4_addr",
            "comment \"pods\"",
            "elements = { 10.0.0.1 comment \"pod one\" }",
            "type ipv6_addr",
            "elements = { fd00:1::/64 }",
            "type ipv4_addr . inet_proto . inet_service",
            "flags interval",
            "elements = { 10.0.0.0/24 . tcp . 80-89 }",
            "type ifname : verdict",
            "elements = { \"cni0a1\" : jump pod-1 }",
            "type ipv4_addr : mark",
            "elements = { 10.0.0.2 : 0x00000007 }",
            "ct state established,related accept",
            "oifname vmap @dispatch",
            "ip saddr @addresses tcp dport { 80, 443 } counter packets 0 bytes 0 accept comment \"cnidarian:web\"",
            "udp dport 1000-2000 reject with icmpx admin-prohibited",
            "meta mark & 0x000000f0 == 0x00000010 log prefix \"r1 \" group 5 snaplen 96 queue-threshold 10 drop",
            "meta mark set meta mark & 0xfffff1ff | 0x00000100 limit rate 10/second burst 20 packets goto end",
            "ip6 daddr != @networks oifname != \"cni*\" masquerade fully-random",
            "iifname \"lo\" notrack",
            "ip daddr 10.0.0.3 ip daddr set 192.0.0.8",
            "fib saddr . iif oif 0 drop",
        ] {
            assert!(lines.iter().any(|listed| listed == line), "{line:?} is not in\n{}", lines.join("\n"));
        }
    });
}

/// Ruleset of many kinds of statements, for `nft -f`.
const WRITTEN_BY_NFT: &str = r#"
table inet oracle {
    comment "by nft"
    set plain { type ipv4_addr; comment "s"; elements = { 10.0.0.1, 10.0.0.2 comment "two" }; }
    set ranges { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1-192.168.1.9, 255.0.0.0/8 }; }
    set tuples { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90 }; }
    map verdicts { type ifname : verdict; elements = { "eth0" : goto target, "eth1" : drop }; }
    map values { type inet_service : ipv4_addr; elements = { 80 : 10.0.0.1 }; }
    chain target { counter packets 3 bytes 4 accept comment "hello"; }
    chain input {
        type filter hook input priority -5; policy drop;
        ct state established,related accept
        ct state invalid drop
        ct mark 0x7 ct mark set 0x8
        ip saddr @plain tcp dport { 22, 80-90 } accept
        ip6 saddr fd00::/8 udp dport 53 return
        ip saddr . tcp dport @tuples accept
        ip daddr != @ranges jump target
        iifname vmap @verdicts
        meta l4proto { icmp, ipv6-icmp } limit rate 5/minute log prefix "x" level info
        meta mark set 0x5
        log group 3
        reject with tcp reset
        reject with icmpx type port-unreachable
        fib daddr type local accept
    }
    chain nat {
        type nat hook prerouting priority dstnat;
        dnat ip to tcp dport map @values
        ip daddr 10.9.9.9 tcp dport 80 dnat ip to 10.0.0.9:8080
    }
    chain post { type nat hook postrouting priority srcnat; oifname != "cni*" masquerade random,persistent; }
    chain raw { type filter hook output priority raw; notrack; }
}
"#;

#[test]
fn what_nft_writes_is_read_and_writing_it_again_gives_the_same() {
    in_fresh_namespace(|nft| {
        nft_program(&["-f", "-"], WRITTEN_BY_NFT);
        let before = nft.contents(&table()).unwrap().unwrap();
        assert_eq!(before.table.object.comment.as_ref().unwrap().as_str(), "by nft");
        let unknown: Vec<_> =
            before.rules.iter().flat_map(|r| &r.object.exprs).filter(|e| matches!(e, Expr::Other { .. })).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        let (ranges, elements) = before.set(&table().set(name("ranges"))).unwrap();
        assert!(ranges.object.interval);
        let keys: Vec<_> = elements.iter().map(|e| e.key.show(&ranges.object.key).to_string()).collect();
        let wanted = ["10.0.0.0-10.255.255.255", "192.168.1.1-192.168.1.9", "255.0.0.0-255.255.255.255"];
        assert_eq!(keys, wanted);
        let listed_before = listed();

        // Write all of it again with our encoder, under the same names.
        let mut batch = Batch::new();
        batch.delete_table(&table());
        batch.add_table(&before.table.object);
        before.chains.iter().for_each(|chain| batch.add_chain(&chain.object));
        let mut anonymous = std::collections::BTreeMap::new();
        for (set, elements) in before.sets.iter().zip(&before.elements) {
            if set.object.id.name.as_str().starts_with("__") {
                let set_use = batch.add_anonymous_set(&set.object, elements);
                anonymous.insert(set.object.id.name.clone(), set_use);
            } else {
                batch.add_set(&set.object);
                batch.add_elements(&set.object, elements);
            }
        }
        for rule in &before.rules {
            let mut rule = rule.object.clone();
            for expr in &mut rule.exprs {
                if let Expr::Lookup { set, .. } = expr
                    && let SetUse::Named(name) = set
                    && let Some(set_use) = anonymous.get(name)
                {
                    *set = set_use.clone();
                }
            }
            batch.add_rule(&rule);
        }
        nft.commit(&batch).unwrap();
        assert_eq!(listed(), listed_before);
        let after = nft.contents(&table()).unwrap().unwrap();
        let objects = |contents: &TableContents| contents.chains.iter().map(|c| c.object.clone()).collect::<Vec<_>>();
        assert_eq!(objects(&after), objects(&before));
        assert_ne!(after.generation, before.generation);
    });
}

#[test]
fn a_long_list_of_elements_is_one_batch_in_many_messages() {
    in_fresh_namespace(|nft| {
        let set = Set::new(table().set(name("many")), [Field::Ipv4Addr]);
        let ranges = Set::new(table().set(name("ranges")), [Field::Ipv4Addr]).interval();
        let address = |number: u32| Element::new(Key::One((0x0a00_0000 + 2 * number).to_be_bytes().to_vec()));
        let elements: Vec<_> = (0..10_000).map(address).collect();
        let mut batch = Batch::new();
        batch.add_table(&Table::new(table()));
        [&set, &ranges].iter().for_each(|set| batch.add_set(set));
        [&set, &ranges].iter().for_each(|set| batch.add_elements(set, &elements));
        assert!(batch.len_bytes() > 400_000);
        nft.commit(&batch).unwrap();
        for set in [&set, &ranges] {
            let mut present = nft.elements(set).unwrap();
            present.sort();
            assert_eq!(present, elements);
        }
        let mut batch = Batch::new();
        batch.delete_elements(&set, &elements[..9_999]);
        nft.commit(&batch).unwrap();
        assert_eq!(nft.elements(&set).unwrap(), elements[9_999..]);
        let mut batch = Batch::new();
        batch.flush_set(&set.id);
        nft.commit(&batch).unwrap();
        assert!(nft.elements(&set).unwrap().is_empty());
    });
}

#[test]
fn an_error_names_the_element_and_nothing_is_changed() {
    in_fresh_namespace(|nft| {
        let set = Set::new(table().set(name("s")), [Field::Ipv4Addr]);
        let address = |last: u8| Element::new(Key::One(vec![10, 0, 0, last]));
        let mut batch = Batch::new();
        batch.add_table(&Table::new(table()));
        batch.add_set(&set);
        batch.add_elements(&set, &[address(3)]);
        nft.commit(&batch).unwrap();
        let mut batch = Batch::new();
        batch.create_elements(&set, &[1, 2, 3, 4].map(address));
        let error = nft.commit(&batch).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EEXIST));
        assert!(error.to_string().contains("create element 10.0.0.3 of set inet oracle s"), "{error}");
        assert_eq!(nft.elements(&set).unwrap(), [address(3)]);
        // What is not there can't be deleted, and a missing chain is named.
        let mut batch = Batch::new();
        batch.delete_chain(&table().chain(name("nowhere")));
        let error = nft.commit(&batch).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::ENOENT));
        assert!(error.to_string().contains("delete chain inet oracle nowhere"), "{error}");
        assert!(nft.commit(&Batch::new()).is_ok(), "nothing to do");
    });
}

#[test]
fn a_batch_for_a_past_generation_is_refused_and_made_again() {
    in_fresh_namespace(|nft| {
        let generation = nft.generation().unwrap();
        nft_program(&["-f", "-"], "table inet foreign {}");
        let mut batch = Batch::new();
        batch.add_table(&Table::new(table()));
        let refused = nft.commit_at(&batch, generation);
        assert!(matches!(refused, Err(NftError::GenerationChanged { .. })), "{refused:?}");
        assert!(nft.table(&table()).unwrap().is_none());
        let mut tries = 0;
        nft.transact(|nft| {
            tries += 1;
            if tries < 3 {
                nft_program(&["-f", "-"], &format!("table inet other{tries} {{}}"));
            }
            assert_eq!(nft.tables().unwrap().len(), 1 + tries.min(2));
            Ok(batch.clone())
        })
        .unwrap();
        assert_eq!(tries, 3);
        assert_eq!(nft.tables().unwrap().len(), 4);
    });
}

#[test]
fn what_does_not_fit_into_a_message_is_an_error_before_it_is_sent() {
    in_fresh_namespace(|nft| {
        let chain = table().chain(name("c"));
        let mut batch = Batch::new();
        let long = Expr::Immediate { dreg: Reg::A, value: vec![0; 60_000] };
        batch.add_rule(&Rule::new(chain, vec![long.clone(), long]));
        assert!(matches!(nft.commit(&batch), Err(NftError::ObjectTooLarge { .. })));
    });
}

#[test]
fn rules_are_replaced_inserted_and_deleted_by_handle() {
    in_fresh_namespace(|nft| {
        let chain = table().chain(name("c"));
        let rule = |number: u16| {
            Rule::new(chain.clone(), Program::new().l4proto(6).dport(number).counter())
                .commented(Comment::new(&number.to_string()).unwrap())
        };
        let mut batch = Batch::new();
        batch.add_table(&Table::new(table()));
        batch.add_chain(&Chain::regular(chain.clone()));
        batch.add_rule(&rule(2));
        batch.insert_rule(&rule(1));
        batch.add_rule(&rule(5));
        nft.commit(&batch).unwrap();
        let stored = nft.rules_of(&chain).unwrap();
        let mut batch = Batch::new();
        batch.add_rule_after(&rule(3), stored[1].handle);
        batch.insert_rule_before(&rule(4), stored[2].handle);
        batch.replace_rule(&rule(20), stored[1].handle);
        batch.delete_rule(&chain, stored[0].handle);
        nft.commit(&batch).unwrap();
        let rules: Vec<_> = nft.rules_of(&chain).unwrap().into_iter().map(|rule| rule.object).collect();
        assert_eq!(rules, [20, 3, 4, 5].map(rule));
        let mut batch = Batch::new();
        batch.flush_chain(&chain);
        nft.commit(&batch).unwrap();
        assert!(nft.rules(&table()).unwrap().is_empty());
        assert_eq!(nft.chains(&table()).unwrap().len(), 1);
    });
}

proptest! {
    #[test]
    fn reading_a_dump_never_panics(family in 0u8..12, body in attribute_soup()) {
        let mut payload = vec![family, 0, 0, 0];
        payload.extend(body);
        super::parse_anything(&payload);
    }
}

/// Bytes that are attributes more often than chance would have it, nested a few levels, with names that are known.
fn attribute_soup() -> impl Strategy<Value = Vec<u8>> {
    const NAMES: [&str; 12] =
        ["immediate", "cmp", "lookup", "meta", "payload", "ct", "log", "nat", "bitwise", "range", "fib", "reject"];
    let leaf = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        any::<u32>().prop_map(|number| (number % 8).to_be_bytes().to_vec()),
        proptest::sample::select(&NAMES[..]).prop_map(|name| format!("{name}\0").into_bytes()),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        proptest::collection::vec((0u16..18, inner), 0..6).prop_map(|attrs| {
            let mut writer = crate::nfnetlink::Writer::default();
            attrs.iter().for_each(|(kind, value)| writer.bytes(*kind, value));
            writer.bytes
        })
    })
}
