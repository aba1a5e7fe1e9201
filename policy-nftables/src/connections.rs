//! Connections that were opened under earlier rules: those that are denied now are cut, those that are allowed again go on.
//! Never touches a connection that the rules still allow.
//!
//! A connection is not forgotten but marked ([`marks::CONNECTION_DENIED`]): one that is forgotten in its middle is taken for a
//! new one at its next packet, perhaps of the other direction, which other rules may allow.

use crate::driver::{observe_elements, observe_rules};
use crate::names;
use crate::object::{Key, Object, RuleObject};
use crate::verdict::{FirstPacket, Ruleset};
use cni_core::backend::{Error, Known, Op, Result};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use net_linux::addr::Address;
use net_linux::conntrack::{Conntrack, Flow};
use net_linux::marks;
use net_linux::netlink::Socket;
use net_linux::nft::{self, Expr, Name, Nft, SetUse, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// `IPS_EXPECTED`: opened on behalf of another connection, which decides for it.
const EXPECTED: u32 = 1;

/// What was changed since connections were last looked at.
#[derive(Debug, Default)]
pub struct Touched {
    /// Everything may be otherwise than it was: the agent began, or the base chains were made.
    everything: bool,
    /// Chains that had rules before.
    chains: BTreeSet<Name>,
    /// Members that sets lost, or gained where that may deny.
    members: Vec<IpNet>,
    /// Addresses that no endpoint has any more.
    gone: BTreeSet<IpAddr>,
    /// Anything at all.
    any: bool,
    /// What is known of all rules.
    graph: Graph,
}

/// What rules refer to, so that a change need not read them all.
#[derive(Debug, Default)]
struct Graph {
    /// The chains that a chain calls.
    calls: BTreeMap<Name, BTreeSet<Name>>,
    /// Sets whose new members some rule may deny, by chain.
    closing: BTreeMap<Name, BTreeSet<Name>>,
    /// The same sets, with how many chains have such rules.
    closing_sets: BTreeMap<Name, usize>,
}

impl Touched {
    /// A beginning: nothing is known of the connections that there are.
    #[must_use]
    pub fn at_start() -> Self {
        Self { everything: true, any: true, ..Self::default() }
    }

    /// All of it again next time.
    pub fn start_again(&mut self) {
        (self.everything, self.any) = (true, true);
    }

    /// Takes in what is there.
    pub fn observed(&mut self, objects: &[(Key, Object)]) {
        self.graph = Graph::default();
        for (key, object) in objects {
            if let (Key::Chain(name), Object::Chain { rules, .. }) = (key, object) {
                self.graph.set_rules(name, rules);
            }
        }
    }

    /// Takes in a write that was made, or may have been.
    pub fn wrote(&mut self, op: &Op<Key, Object>) {
        self.any = true;
        match op {
            Op::Put { key: Key::Chain(name), object: Object::Chain { base, rules }, present } => {
                self.everything |= base.is_some();
                if *present != Known::Absent {
                    self.chains.insert(name.clone());
                }
                self.graph.set_rules(name, rules);
            }
            Op::Delete { key: Key::Chain(name), .. } => {
                self.chains.insert(name.clone());
                self.graph.remove(name);
            }
            Op::Put { key: Key::Element(set, key), .. } if self.graph.closing_sets.contains_key(set) => {
                self.members.extend(networks(key));
            }
            Op::Delete { key: Key::Element(set, key), .. } => {
                let text = set.as_str();
                if text.starts_with("pol-own") {
                    self.gone.extend(owned(key));
                } else if text.starts_with("pol-set-") {
                    self.members.extend(networks(key));
                }
            }
            _ => {}
        }
    }

    fn is_empty(&self) -> bool {
        !self.everything && self.chains.is_empty() && self.members.is_empty() && self.gone.is_empty()
    }
}

impl Graph {
    fn set_rules(&mut self, chain: &Name, rules: &[RuleObject]) {
        let calls = rules.iter().flat_map(|rule| &rule.exprs).filter_map(|expr| match expr {
            Expr::Verdict(Verdict::Jump(next) | Verdict::Goto(next)) => Some(next.clone()),
            _ => None,
        });
        self.calls.insert(chain.clone(), calls.collect());
        let rules = if names::is_shadow(chain) { &[] } else { rules };
        let closing: BTreeSet<Name> = rules.iter().flat_map(closing).collect();
        for set in &closing {
            *self.closing_sets.entry(set.clone()).or_default() += 1;
        }
        let former = self.closing.insert(chain.clone(), closing);
        for set in former.into_iter().flatten() {
            if let Some(chains) = self.closing_sets.get_mut(&set) {
                *chains -= 1;
                if *chains == 0 {
                    self.closing_sets.remove(&set);
                }
            }
        }
    }

    fn remove(&mut self, chain: &Name) {
        self.set_rules(chain, &[]);
        self.calls.remove(chain);
        self.closing.remove(chain);
    }

    /// These chains, and those from which they are reached.
    fn callers(&self, chains: &BTreeSet<Name>) -> BTreeSet<Name> {
        let mut callers = chains.clone();
        loop {
            let more =
                self.calls.iter().filter(|(name, calls)| !callers.contains(*name) && !calls.is_disjoint(&callers));
            let more: Vec<Name> = more.map(|(name, _)| name.clone()).collect();
            if more.is_empty() {
                return callers;
            }
            callers.extend(more);
        }
    }

    /// These chains, and those that they reach.
    fn callees(&self, mut open: Vec<Name>) -> BTreeSet<Name> {
        let mut callees = BTreeSet::new();
        while let Some(chain) = open.pop() {
            if callees.insert(chain.clone()) {
                open.extend(self.calls.get(&chain).into_iter().flatten().cloned());
            }
        }
        callees
    }
}

/// Sets whose new members a rule may deny: those that it looks up, unless it allows what is in them.
fn closing(rule: &RuleObject) -> impl Iterator<Item = Name> {
    let allows = matches!(rule.exprs.last(), Some(Expr::Verdict(Verdict::Accept)));
    rule.exprs.iter().filter_map(move |expr| match expr {
        Expr::Lookup { set: SetUse::Named(set), inverted, .. } if !allows || *inverted => Some(set.clone()),
        _ => None,
    })
}

/// The address of an element of a `pol-own` set.
fn owned(key: &nft::Key) -> Option<IpAddr> {
    let nft::Key::One(bytes) = key else { return None };
    address(bytes.get(16..)?)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// The addresses of an element of a set of the program.
fn networks(key: &nft::Key) -> Vec<IpNet> {
    // Named ports: address, protocol, port, the last two in four bytes each.
    let host = |bytes: &[u8]| match bytes.len() {
        12 | 24 => address(&bytes[..bytes.len() - 8]),
        _ => address(bytes),
    };
    match key {
        nft::Key::One(bytes) => host(bytes).map(IpNet::from).into_iter().collect(),
        nft::Key::Range(first, last) => match (address(first), address(last)) {
            (Some(IpAddr::V4(first)), Some(IpAddr::V4(last))) => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
            }
            (Some(IpAddr::V6(first)), Some(IpAddr::V6(last))) => {
                Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
            }
            _ => Vec::new(),
        },
        nft::Key::CatchAll => Vec::new(),
    }
}

/// Looks at connections after rules changed.
pub struct Connections {
    conntrack: Conntrack,
    nft: Nft,
    route: Socket,
    /// Some connection is cut: what is allowed anew may let it go on.
    some_cut: bool,
}

/// What was done to connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Cut, because they are denied now.
    pub cut: usize,
    /// Let go on, because they are allowed again.
    pub resumed: usize,
    /// Forgotten, because their endpoint is gone.
    pub forgotten: usize,
}

impl Connections {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open() -> Result<Self> {
        Ok(Self { conntrack: Conntrack::open()?, nft: Nft::open()?, route: Socket::route()?, some_cut: true })
    }

    /// Looks at the connections that what was touched is about. On a failure `touched` stays as it is, for the next time.
    ///
    /// # Errors
    /// The kernel could not be read or refused.
    pub fn look(&mut self, touched: &mut Touched) -> Result<Looked> {
        let resume = self.some_cut && touched.any;
        if touched.is_empty() && !resume {
            touched.any = false;
            return Ok(Looked::default());
        }
        let looked = self.look_at(touched).inspect_err(|_| self.some_cut = true)?;
        *touched = Touched { graph: std::mem::take(&mut touched.graph), ..Touched::default() };
        Ok(looked)
    }

    fn look_at(&mut self, touched: &Touched) -> Result<Looked> {
        // Most of what a list costs is not the connections.
        if self.conntrack.count()? == 0 {
            self.some_cut = false;
            return Ok(Looked::default());
        }
        let flows = self.conntrack.list()?;
        let is_cut = |flow: &Flow| flow.mark & marks::CONNECTION_DENIED != 0;
        let ends = |flow: &Flow| [flow.original.source, flow.reply.source];
        let named = |flow: &Flow| ends(flow).iter().any(|end| touched.members.iter().any(|net| net.contains(end)));
        let all_rules = touched.everything || !touched.chains.is_empty();
        let (gone, flows): (Vec<Flow>, Vec<Flow>) = flows
            .into_iter()
            .filter(|flow| flow.status & EXPECTED == 0)
            .partition(|flow| ends(flow).iter().any(|end| touched.gone.contains(end)));
        let flows: Vec<Flow> = flows.into_iter().filter(|flow| all_rules || is_cut(flow) || named(flow)).collect();
        let mut looked = Looked::default();
        self.some_cut = false;
        // An address that went from one endpoint to another in one change is gone all the same.
        looked.forgotten = self.conntrack.forget(&gone)?;
        if flows.is_empty() {
            return Ok(looked);
        }
        let mut ruleset: Ruleset =
            observe_elements(&mut self.nft, names::always()).map_err(Error::from)?.into_iter().collect();
        let endpoints = ruleset.endpoints();
        let concerned = (!touched.everything && !touched.chains.is_empty())
            .then(|| ruleset.dispatched_to(&touched.graph.callers(&touched.chains)));
        let behind = |flow: &Flow| ends(flow).map(|end| endpoints.get(&end).map(String::as_str));
        let among = |interface: &Option<&str>| match (interface, &concerned) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(name), Some(concerned)) => concerned.contains(*name),
        };
        let flows: Vec<Flow> = flows
            .into_iter()
            .filter(|flow| {
                let interfaces = behind(flow);
                let named_or_cut = is_cut(flow) || named(flow);
                interfaces.iter().any(|interface| among(interface) || named_or_cut && interface.is_some())
            })
            .collect();
        if flows.is_empty() {
            return Ok(looked);
        }
        let interfaces: BTreeSet<&str> = flows.iter().flat_map(behind).flatten().collect();
        let chains = touched.graph.callees(ruleset.chains_of(&interfaces));
        ruleset.extend(observe_rules(&mut self.nft, &chains).map_err(Error::from)?);
        let sets = ruleset.sets();
        ruleset.extend(observe_elements(&mut self.nft, sets).map_err(Error::from)?);
        let local: BTreeSet<IpAddr> =
            Address::dump(&mut self.route, None)?.into_iter().map(|local| local.address.addr()).collect();
        let is_local = |address: IpAddr| address.is_loopback() || local.contains(&address);
        let (mut cut, mut resumed) = (Vec::new(), Vec::new());
        for flow in flows {
            let [from, to] = behind(&flow).map(Option::unwrap_or_default);
            match (ruleset.allows(&first_packet(&flow), from, to, is_local), is_cut(&flow)) {
                (false, false) => cut.push(flow),
                (true, true) => resumed.push(flow),
                (false, true) => self.some_cut = true,
                (true, false) => {}
            }
        }
        let bit = marks::CONNECTION_DENIED;
        looked.cut = self.conntrack.set_mark(&cut, bit, bit)?;
        looked.resumed = self.conntrack.set_mark(&resumed, 0, bit)?;
        self.some_cut |= looked.cut > 0;
        Ok(looked)
    }
}

fn first_packet(flow: &Flow) -> FirstPacket {
    FirstPacket {
        source: flow.original.source,
        // Who really answers.
        destination: flow.reply.source,
        protocol: flow.original.protocol,
        ports: flow.original.ports.zip(flow.reply.ports).map(|((source, _), (destination, _))| (source, destination)),
    }
}
