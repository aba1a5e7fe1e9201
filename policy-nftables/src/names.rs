//! How our chains, sets and rules are named. Never what they hold.
//!
//! | name | what |
//! |---|---|
//! | `pol-egress`, `pol-ingress`, `pol-input` | base chains |
//! | `pol-from`, `pol-to` | interface to the endpoint's chain |
//! | `pol-local`, `pol-proxied-out`, `pol-proxied-in` | base chains beside a service proxy |
//! | `pol-source4`, `pol-source6` | a pod's address to its egress chain, beside a service proxy |
//! | `pol-own4`, `pol-own6` | which interface may send from which address |
//! | `pol-ported`, `pol-icmp` | protocols that have ports, and both ICMPs |
//! | `pol-set-a4-ID` ... | a set of the program: `a` addresses, `n` networks, `p` addresses with ports |
//! | `pol-ports-HASH` | several port ranges of one rule |
//! | `pol-p-in-NAMESPACE/NAME-HASH` | a policy's rules; `pol-q-...`: the same for a dry run |
//! | `pol-tier-in-TIER-HASH` | policies of a tier in order, shared by endpoints that have the same |
//! | `pol-ep-in-INTERFACE` | an endpoint; `pol-sh-...`: its dry run |
//! | `pol-host-in`, `pol-host-out` | base chains of the node itself; `pol-host-fwd-in`, `-out`: of what passes through it, `-proxied`: by a service proxy |
//! | `pol-host-raw-in`, `-out`, `pol-host-pre-in` | the same before tracking, and before translation |
//! | `pol-hep-PART-in-if-INTERFACE`, `-pods`, `-others` | the node at some interfaces; `pol-sh-host-...`: its dry run |

use cni_core::policy::model::{Direction, Family};
use cni_core::policy::program::{ChainId, HostInterface, Set, SetKind};
use net_linux::marks;
use net_linux::nft::{self, Comment, Field, Name, TableId};
use std::fmt::Write as _;

/// What the name of every chain and set of ours begins with; the table is shared with others of us.
pub const PREFIX: &str = "pol-";
/// Longest part of a name that users chose.
const MOST_NAME_BYTES: usize = 160;
/// Longest tag of a rule: with a word before it, it fits into an NFLOG prefix (127 bytes) and a comment (128).
const MOST_TAG_BYTES: usize = 112;

/// The table.
#[must_use]
pub fn table() -> TableId {
    TableId::new(nft::Family::Inet, name(marks::NFT_TABLE))
}

/// A name that is made here.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("names made here have 1 to 255 bytes without NUL")
}

/// A text for rules, as it may stand between quotation marks. Names in it were chosen by others: one with a quotation mark
/// would end the text in what `nft list` prints, and begin a statement for whoever loads that again.
pub(crate) fn quotable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '"' | '\\') { '?' } else { c }).collect()
}

/// A comment that is made here.
pub(crate) fn comment(text: &str) -> Comment {
    Comment::new(&shortened(&quotable(text), Comment::MAX_BYTES)).expect("it was cut to the limit and has no NUL")
}

/// Base chain: from pods, through the node.
pub(crate) const EGRESS: &str = "pol-egress";
/// Base chain: to pods, through the node.
pub(crate) const INGRESS: &str = "pol-ingress";
/// Base chain: from pods, to the node.
pub(crate) const INPUT: &str = "pol-input";
/// Chain: from pods, related to a connection.
pub(crate) const RELATED_FROM: &str = "pol-related-out";
/// Chain: related to a connection, from where it may come from.
pub(crate) const RELATED: &str = "pol-related";
/// Map: interface that a packet came from to the endpoint's egress chain.
pub(crate) const FROM: &str = "pol-from";
/// Map: interface that a packet goes to to the endpoint's ingress chain.
pub(crate) const TO: &str = "pol-to";
/// Set: protocols that have ports.
pub(crate) const PORTED: &str = "pol-ported";
/// Set: both ICMPs.
pub(crate) const ICMP: &str = "pol-icmp";

/// Set: interface and address of a family.
pub(crate) const fn own(family: Family) -> &'static str {
    match family {
        Family::V4 => "pol-own4",
        Family::V6 => "pol-own6",
    }
}

/// Base chain: from pods, to the node, behind a service proxy.
pub(crate) const LOCAL: &str = "pol-local";
/// Base chain: from pods, as a service proxy sends it on.
pub(crate) const PROXIED_OUT: &str = "pol-proxied-out";
/// Base chain: to pods, as a service proxy sends it on.
pub(crate) const PROXIED_IN: &str = "pol-proxied-in";

/// Map: address of a family to the chain of the endpoint that sends from it.
pub(crate) const fn source(family: Family) -> &'static str {
    match family {
        Family::V4 => "pol-source4",
        Family::V6 => "pol-source6",
    }
}

/// Maps that exist beside a service proxy.
pub(crate) fn sources() -> [Name; 2] {
    [source(Family::V4), source(Family::V6)].map(name)
}

/// Sets and maps that always exist.
pub(crate) fn always() -> [Name; 6] {
    [FROM, TO, own(Family::V4), own(Family::V6), PORTED, ICMP].map(name)
}

/// Which walk a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// It decides.
    Enforced,
    /// It counts.
    Shadow,
}

const fn short(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

/// The chain of a policy.
pub(crate) fn policy_chain(id: &ChainId, walk: Walk) -> Name {
    let object = &id.policy.object;
    let mut shown = String::new();
    if let Some(namespace) = &object.namespace {
        let _ = write!(shown, "{}/", plain(namespace));
    }
    shown.push_str(&plain(&object.name));
    shown.truncate(MOST_NAME_BYTES);
    let exact = format!(
        "{} {} {:?} {} {}",
        object.kind.api_version(),
        object.kind,
        object.namespace,
        object.name,
        id.policy.part
    );
    let letter = if walk == Walk::Shadow { 'q' } else { 'p' };
    name(&format!("{PREFIX}{letter}-{}-{shown}-{:08x}", short(id.direction), hash(exact.as_bytes()) >> 32))
}

/// The chain of a tier with this content.
pub(crate) fn tier_chain(tier: &str, direction: Direction, chains: &[Name]) -> Name {
    let mut exact = Vec::new();
    for chain in chains {
        exact.extend_from_slice(chain.as_str().as_bytes());
        exact.push(0);
    }
    let mut shown = plain(tier);
    shown.truncate(MOST_NAME_BYTES);
    // Two halves from two beginnings: a tier that meets another's name would get its policies.
    let (one, two) = (hash(&exact), hash_from(!FNV_BASIS, &exact));
    name(&format!("{PREFIX}tier-{}-{shown}-{one:016x}{two:016x}", short(direction)))
}

/// The chain of an endpoint.
pub(crate) fn endpoint_chain(interface: &str, direction: Direction, walk: Walk) -> Name {
    let word = if walk == Walk::Shadow { "sh" } else { "ep" };
    name(&format!("{PREFIX}{word}-{}-{interface}", short(direction)))
}

/// Which part of the node's own program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostPart {
    /// To and from the node itself.
    Local,
    /// What passes through it.
    Forwarded,
    /// Both, before connections are tracked.
    Untracked,
    /// Both, before destinations are translated.
    BeforeNat,
}

/// The chain of the node's own program at some interfaces.
pub(crate) fn host_chain(interface: &HostInterface, part: HostPart, direction: Direction, walk: Walk) -> Name {
    let word = if walk == Walk::Shadow { "sh-host" } else { "hep" };
    let part = match part {
        HostPart::Local => "local",
        HostPart::Forwarded => "fwd",
        HostPart::Untracked => "raw",
        HostPart::BeforeNat => "pre",
    };
    let place = match interface {
        HostInterface::Named(interface) => {
            let shown = plain(interface.as_str());
            if shown == interface.as_str() {
                format!("if-{shown}")
            } else {
                format!("ifx-{shown}-{:08x}", hash(interface.as_str().as_bytes()) >> 32)
            }
        }
        HostInterface::Pods => "pods".to_owned(),
        HostInterface::Others => "others".to_owned(),
    };
    name(&format!("{PREFIX}{word}-{part}-{}-{place}", short(direction)))
}

/// Whether a chain is for dry runs only.
pub(crate) fn is_shadow(chain: &Name) -> bool {
    let text = chain.as_str();
    text.starts_with("pol-q-") || text.starts_with("pol-sh-")
}

/// A set of the program; `None` when its id is none.
pub(crate) fn set(set: &Set) -> Option<Name> {
    let (letter, family) = match set.kind {
        SetKind::Addresses(family) => ('a', family),
        SetKind::Networks(family) => ('n', family),
        SetKind::AddressPorts(family) => ('p', family),
    };
    let id = &*set.id.0;
    let good = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let digit = if family == Family::V4 { '4' } else { '6' };
    good.then(|| name(&format!("{PREFIX}set-{letter}{digit}-{id}")))
}

/// A set of port ranges with this content.
pub(crate) fn ports(exact: &[u8]) -> Name {
    let (one, two) = (hash(exact), hash_from(!FNV_BASIS, exact));
    name(&format!("{PREFIX}ports-{one:016x}{two:016x}"))
}

/// The set or map that goes by this name, as we make it; `None` for a name that we do not use.
pub(crate) fn set_of(id: &Name) -> Option<nft::Set> {
    let text = id.as_str();
    let set = |key: &[Field]| nft::Set::new(table().set(id.clone()), key);
    let address = |digit: u8| if digit == b'4' { Field::Ipv4Addr } else { Field::Ipv6Addr };
    Some(match text {
        FROM | TO => set(&[Field::IfName]).verdict_map(),
        "pol-source4" => set(&[Field::Ipv4Addr]).verdict_map(),
        "pol-source6" => set(&[Field::Ipv6Addr]).verdict_map(),
        "pol-own4" => set(&[Field::IfName, Field::Ipv4Addr]),
        "pol-own6" => set(&[Field::IfName, Field::Ipv6Addr]),
        PORTED | ICMP => set(&[Field::InetProto]),
        _ if text.starts_with("pol-ports-") => set(&[Field::InetService]).interval(),
        _ => match text.strip_prefix("pol-set-")?.as_bytes() {
            [b'a', digit @ (b'4' | b'6'), b'-', ..] => set(&[address(*digit)]),
            [b'n', digit @ (b'4' | b'6'), b'-', ..] => set(&[address(*digit)]).interval(),
            [b'p', digit @ (b'4' | b'6'), b'-', ..] => set(&[address(*digit), Field::InetProto, Field::InetService]),
            _ => return None,
        },
    })
}

/// The name of a rule in counters, comments and logs: the policy, the direction, and where the rule stands in it.
#[must_use]
pub fn tag(id: &ChainId, path: &str) -> String {
    shortened(&format!("{id} {path}"), MOST_TAG_BYTES)
}

/// The name of a tier's end at an endpoint.
#[must_use]
pub fn end_tag(tier: &str, direction: Direction, interface: &str) -> String {
    shortened(&format!("{END_OF_TIER} {tier} {direction} {interface}"), MOST_TAG_BYTES)
}

/// What a rule's comment tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tag {
    /// The tier, of its end.
    pub tier: Option<String>,
    /// The policy, of its rules.
    pub policy: Option<String>,
    /// Seen from the pod.
    pub direction: Option<Direction>,
    /// The rule's place in its policy, else what the comment says.
    pub rule: String,
    /// The interface, of ends.
    pub interface: Option<String>,
}

/// Reads a comment that [`tag`], [`end_tag`] or another place made. Of one that was cut the end is missing.
#[must_use]
pub fn read_tag(text: &str) -> Tag {
    // Names have no spaces, but may be `ingress`.
    let split = |first: usize| {
        let words: Vec<&str> = text.split(' ').collect();
        let at = (first..words.len()).find(|at| ["ingress", "egress"].contains(&words[*at]))?;
        let direction = if words[at] == "ingress" { Direction::Ingress } else { Direction::Egress };
        Some((words[..at].join(" "), Some(direction), words[at + 1..].join(" ")))
    };
    let other = || Tag { rule: text.to_owned(), ..Tag::default() };
    if let Some(rest) = text.strip_prefix(END_OF_TIER) {
        let Some((before, direction, interface)) = split(4) else { return other() };
        let tier = Some(before.split(' ').skip(3).collect::<Vec<_>>().join(" ")).filter(|_| rest.starts_with(' '));
        return Tag { tier, policy: None, direction, rule: END_OF_TIER.to_owned(), interface: Some(interface) };
    }
    if text.starts_with(NO_TIER_DECIDES) {
        let Some((before, direction, interface)) = split(3) else { return other() };
        return Tag { direction, rule: before, interface: Some(interface), ..Tag::default() };
    }
    match split(2) {
        Some((policy, direction, rule)) => Tag { policy: Some(policy), direction, rule, ..Tag::default() },
        None => other(),
    }
}

/// The name of a tier's end begins with it.
pub(crate) const END_OF_TIER: &str = "end of tier";
const NO_TIER_DECIDES: &str = "no tier decides";

/// The name of what no tier decided at an endpoint.
#[must_use]
pub fn undecided_tag(direction: Direction, interface: &str) -> String {
    shortened(&format!("{NO_TIER_DECIDES} {direction} {interface}"), MOST_TAG_BYTES)
}

/// What logs call a decision.
pub(crate) const ALLOW: &str = "allow";
/// See [`ALLOW`].
pub(crate) const DENY: &str = "deny";
/// A decision of a dry run.
pub(crate) const WOULD_ALLOW: &str = "would-allow";
/// See [`WOULD_ALLOW`].
pub(crate) const WOULD_DENY: &str = "would-deny";
/// No decision: a rule asked for a log.
pub(crate) const LOG: &str = "log";

/// The name of what drops a packet from another address than the pod's.
pub(crate) const SPOOFED: &str = "spoofed source";
/// The name of what drops an ICMP error that its sender cannot know of.
pub(crate) const FORGED: &str = "forged error";
/// The name of what drops a packet of a connection that is denied now.
pub(crate) const SINCE_OPENED: &str = "denied since it was opened";
/// The name of what drops a packet of a pod without a program.
pub(crate) const UNKNOWN: &str = "unknown interface";

/// A text that fits: cut, with a hash of all of it at the end.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most - 9;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{:08x}", &text[..end], hash(text.as_bytes()) >> 32)
}

/// With letters that the nft program reads in names.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect()
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits: stable across versions of Rust.
fn hash(bytes: &[u8]) -> u64 {
    hash_from(FNV_BASIS, bytes)
}

fn hash_from(basis: u64, bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(basis, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Mixes the high bits, which the last bytes hardly reach.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::policy::model::PolicyId;
    use cni_core::store::{Kind, ObjectKey};

    #[test]
    fn no_name_ends_the_comment_that_it_stands_in() {
        assert_eq!(comment("policy a\" accept #\\\n").as_str(), "policy a? accept #??");
    }

    #[test]
    fn what_a_comment_says_is_read_back() {
        let cluster = |name: &str, part| PolicyId {
            object: ObjectKey::cluster(Kind::new("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"), name),
            part,
        };
        for direction in [Direction::Ingress, Direction::Egress] {
            for name in ["web", "ingress", "egress"] {
                let chain = ChainId { policy: cluster(name, 0), direction };
                let read = read_tag(&tag(&chain, "spec.egress[0].to[1]"));
                let policy = Some(format!("ClusterNetworkPolicy {name}"));
                let rule = "spec.egress[0].to[1]".to_owned();
                assert_eq!(read, Tag { policy, direction: Some(direction), rule, ..Tag::default() });
                let end = read_tag(&end_tag(name, direction, "cni1"));
                let (tier, rule, interface) =
                    (Some(name.to_owned()), "end of tier".to_owned(), Some("cni1".to_owned()));
                let of_end = Tag { tier, direction: Some(direction), rule, interface: interface.clone(), policy: None };
                assert_eq!(end, of_end);
            }
            let read = read_tag(&undecided_tag(direction, "cni1"));
            assert_eq!(
                (&*read.rule, read.direction, read.interface.as_deref()),
                ("no tier decides", Some(direction), Some("cni1"))
            );
        }
        for other in ["spoofed source", "", "end of tier", "end of tier x", "no tier decides", "a b c"] {
            assert_eq!(read_tag(other), Tag { rule: other.to_owned(), ..Tag::default() });
        }
    }
}
