//! Messages of ExaBGP's own tests and what ExaBGP reads in them. Skipped where they are not there; the project's own cases
//! stand beside the code.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use bgp_speaker::types::{Attributes, Family, Message, Nlri, Update};
use bgp_speaker::wire::{Decoder, Options};
use flate2::read::GzDecoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The recorded cases, or `None` where they are not there.
fn oracle(name: &str) -> Option<Value> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracles"));
    let file = std::env::var_os("CNIDARIAN_ORACLES").map_or_else(beside, PathBuf::from).join(name);
    if !file.exists() {
        eprintln!("skipped: no {}", file.display());
        return None;
    }
    Some(serde_json::from_reader(GzDecoder::new(std::fs::File::open(file).unwrap())).unwrap())
}

fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// A message, with a header where only the body of an UPDATE was recorded.
fn message(text: &str) -> Vec<u8> {
    let bytes = bytes(text);
    if bytes.starts_with(&[0xff; 16]) {
        return bytes;
    }
    let length = u16::try_from(19 + bytes.len()).unwrap().to_be_bytes();
    [&[0xff; 16][..], &length, &[2], &bytes].concat()
}

fn options(internal: bool, with_ids: bool) -> Options {
    Options {
        four_octet_asn: true,
        internal,
        max_message_bytes: 65_535,
        families: [true; 2],
        add_path_in: [with_ids; 2],
        add_path_out: [with_ids; 2],
        extended_next_hop: [true; 2],
    }
}

/// A route as both write it: prefix and path id.
fn route(nlri: &Nlri, with_ids: bool) -> String {
    let id = std::net::Ipv4Addr::from(nlri.path.0);
    if with_ids { format!("{} {id}", nlri.prefix) } else { nlri.prefix.to_string() }
}

/// Routes by family and next hop.
type Routes = BTreeMap<(String, String), Vec<String>>;

fn their_routes(announced: &Value) -> Option<Routes> {
    let mut routes = Routes::new();
    for (family, next_hops) in announced.as_object()? {
        for (next_hop, nlri) in next_hops.as_object()? {
            let written = |entry: &Value| {
                let prefix = entry["nlri"].as_str()?;
                Some(match entry["path-information"].as_str() {
                    Some(id) => format!("{prefix} {id}"),
                    None => prefix.to_owned(),
                })
            };
            routes.insert((family.clone(), next_hop.clone()), nlri.as_array()?.iter().filter_map(written).collect());
        }
    }
    Some(routes)
}

fn name(family: Family) -> String {
    format!("{family} unicast")
}

fn our_routes(update: &Update, with_ids: bool) -> Routes {
    let mut routes = Routes::new();
    for announcement in &update.announcements {
        let next_hop = announcement.attributes.next_hop.address().to_string();
        let nlri = announcement.nlri.iter().map(|nlri| route(nlri, with_ids));
        routes.entry((name(announcement.family), next_hop)).or_default().extend(nlri);
    }
    routes
}

fn numbers(list: &Value) -> Vec<Vec<u64>> {
    let inner = |list: &Value| list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    list.as_array().into_iter().flatten().map(inner).collect()
}

/// The attributes that both write in a way that can be compared.
fn assert_attributes(ours: &Attributes, theirs: &Value, case: &str) {
    let number = |name: &str| theirs[name].as_u64().map(|number| u32::try_from(number).unwrap());
    assert_eq!(Some(ours.origin.to_string().as_str()), theirs["origin"].as_str(), "{case}");
    assert_eq!(ours.med, number("med"), "{case}");
    if let Some(preference) = number("local-preference") {
        assert_eq!(ours.local_pref, Some(preference), "{case}");
    }
    let mut communities = numbers(&theirs["community"]);
    communities.sort();
    let own =
        ours.communities.iter().map(|community| vec![u64::from(community.0 >> 16), u64::from(community.0 & 0xffff)]);
    assert_eq!(own.collect::<Vec<_>>(), communities, "{case}");
    let large = ours.large.iter().map(|large| [large.global, large.local1, large.local2].map(u64::from).to_vec());
    assert_eq!(large.collect::<Vec<_>>(), numbers(&theirs["large-community"]), "{case}");
    let extended = theirs["extended-community"].as_array().into_iter().flatten();
    let mut extended: Vec<u64> = extended.filter_map(|community| community["value"].as_u64()).collect();
    extended.sort_unstable();
    assert_eq!(ours.extended.iter().map(|community| community.0).collect::<Vec<_>>(), extended, "{case}");
    let path: Vec<u64> = match &theirs["as-path"] {
        Value::Object(segments) => segments
            .values()
            .flat_map(|segment| numbers(&Value::Array(vec![segment["value"].clone()])))
            .flatten()
            .collect(),
        _ => Vec::new(),
    };
    assert_eq!(ours.as_path.asns().map(|asn| u64::from(asn.get())).collect::<Vec<_>>(), path, "{case}");
}

/// What ExaBGP takes and we refuse: next hops that no host has (RFC 4271, section 6.3), one of a kind that nobody agreed on, an
/// unknown attribute that says of itself that we have to know it.
const REFUSED: [&str; 4] =
    ["next-hop 127.0.0.1", "next-hop 255.255.255.255", "next-hop 170.170.170.170", "attribute [0x99 0x"];

#[test]
fn unicast_updates_of_exabgp_are_read_as_exabgp_reads_them() {
    let Some(recorded) = oracle("bgp-exabgp.json.gz") else { return };
    let mut compared = 0;
    for case in recorded["encoding"].as_array().unwrap() {
        let told = &case["json"]["neighbor"];
        let update = &told["message"]["update"];
        let named = |what: &str| update[what].as_object().into_iter().flat_map(|families| families.keys());
        let mut families = named("announce").chain(named("withdraw")).peekable();
        let is_unicast = |name: &String| matches!(name.as_str(), "ipv4 unicast" | "ipv6 unicast");
        if families.peek().is_none() || !families.all(is_unicast) {
            continue;
        }
        let text = case["cmd"].as_str().unwrap_or_default();
        let internal = told["asn"]["local"] == told["asn"]["peer"];
        let with_ids = update.to_string().contains("path-information");
        let bytes = message(case["raw"].as_str().unwrap());
        let read = Decoder::new(options(internal, with_ids)).next(&mut &bytes[..]);
        if REFUSED.iter().any(|refused| text.contains(refused)) {
            let is_refused = match &read {
                Ok(Some(Message::Update(update))) => update.announcements.is_empty() && !update.problems.is_empty(),
                other => other.is_err(),
            };
            assert!(is_refused, "{text}: {read:?}");
            continue;
        }
        let Ok(Some(Message::Update(ours))) = read else { panic!("{text}: {read:?}") };
        assert!(ours.problems.is_empty(), "{text}: {:?}", ours.problems);
        assert_eq!(our_routes(&ours, with_ids), their_routes(&update["announce"]).unwrap_or_default(), "{text}");
        let withdrawn = ours.withdrawals.iter().flat_map(|routes| &routes.nlri).map(|nlri| route(nlri, with_ids));
        let theirs = update["withdraw"].as_object().into_iter().flat_map(|families| families.values());
        let theirs = theirs.flat_map(|nlri| nlri.as_array().into_iter().flatten());
        let theirs = theirs.filter_map(|nlri| nlri["nlri"].as_str().map(str::to_owned));
        assert_eq!(withdrawn.collect::<Vec<_>>(), theirs.collect::<Vec<_>>(), "{text}");
        for announcement in &ours.announcements {
            assert_attributes(&announcement.attributes, &update["attribute"], text);
        }
        compared += 1;
    }
    eprintln!("{compared} messages compared");
    assert!(compared >= 50, "only {compared}");
}

/// Of any family: nothing panics, and no session ends over routes that are none of its own.
#[test]
fn no_message_of_exabgp_ends_a_session() {
    let Some(recorded) = oracle("bgp-exabgp.json.gz") else { return };
    let encoded = recorded["encoding"].as_array().unwrap().iter().map(|case| (case, "raw"));
    let decoded = recorded["decoding"].as_array().unwrap().iter().map(|case| (case, "hex"));
    let mut read = 0;
    for (case, key) in encoded.chain(decoded) {
        // Some are only a part of a message.
        if case["kind"].as_str().is_some_and(|kind| kind.starts_with("nlri")) {
            continue;
        }
        let text = case.to_string();
        if REFUSED.iter().any(|refused| text.contains(refused)) {
            continue;
        }
        let bytes = message(case[key].as_str().unwrap());
        let got = Decoder::new(options(true, text.contains("path-information"))).next(&mut &bytes[..]);
        assert!(matches!(got, Ok(Some(_))), "{text}: {got:?}");
        read += 1;
    }
    eprintln!("{read} messages read");
    assert!(read >= 150, "only {read}");
}
