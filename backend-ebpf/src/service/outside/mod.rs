//! Services for packets that begin at no socket of ours: clients outside of the node. The kernel's own address translation, by
//! elements of nftables in a table of our own. Never a program: such packets pass the host's stack and its connection tracking
//! anyway (ADR 0011), and never a frontend that programs at sockets refuse.

pub mod object;
mod rules;
mod sources;
mod stale;
mod watch;

pub use object::{Choice, Frontend, Key, Object, compile};
pub(super) use watch::OutsideWatch;

use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Known, Op, Rank, Result, Support, described};
use cni_core::model::{NodeContext, ServiceItem};
use net_linux::conntrack::Conntrack;
use net_linux::nft::{Batch, Chain, Data, Element, Nft, NftError, Rule, Set, Table, TableContents, Verdict};
use nix::errno::Errno;
use rules::Kind;
use stale::Led;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

type Write = Op<Key, Object>;

/// Up to so many backends, a frontend finds its chain made already.
const USUAL_BACKENDS: u32 = 16;

/// What clients outside reach, in the network namespace that it was opened in.
pub struct OutsideDriver {
    nft: Nft,
    /// `None`: this kernel lists no connections.
    conntrack: Option<Conntrack>,
    led: Led,
    capabilities: Capabilities,
    /// Whether anybody is to be served; else what is there goes.
    serves: bool,
}

/// Why this kernel cannot do it; `None`: it can. In the network namespace of the calling thread, where nothing is left.
pub(super) fn refusal() -> Option<String> {
    let mut nft = match Nft::open() {
        Ok(nft) => nft,
        Err(error) => return Some(error.to_string()),
    };
    let mut batch = Batch::new();
    make_rules(&mut batch, None);
    for by_client in [false, true] {
        make_choice(&mut batch, Choice { count: 1, by_client, ipv6: by_client });
    }
    let nobody = Frontend { address: SocketAddr::from(([0; 4], 0)), protocol: 0 };
    sources::put(&mut batch, &nobody, &[], None);
    match nft.would_take(batch, rules::table().family) {
        Support::Yes => None,
        Support::No { reason } => Some(reason),
    }
}

/// Takes all away.
///
/// # Errors
/// The kernel refuses.
pub(super) fn clear() -> Result<()> {
    let Ok(mut nft) = Nft::open() else { return Ok(()) };
    match delete_table(&mut nft) {
        // Where there is no nftables, there is nothing of ours in it.
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => Ok(()),
        done => Ok(done?),
    }
}

fn delete_table(nft: &mut Nft) -> Result<(), NftError> {
    nft.transact(|nft| {
        let mut batch = Batch::new();
        if nft.table(&rules::table())?.is_some() {
            batch.delete_table(&rules::table());
        }
        Ok(batch)
    })
}

impl OutsideDriver {
    /// A driver in the network namespace of the calling thread. Writes nothing.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open() -> Result<Self> {
        Ok(Self {
            nft: Nft::open()?,
            conntrack: Conntrack::open().ok(),
            led: Led::default(),
            capabilities: Capabilities::default(),
            serves: true,
        })
    }

    /// The same, but it wants nothing, so that all of ours goes. Writes nothing yet.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn off() -> Result<Self> {
        Ok(Self { serves: false, ..Self::open()? })
    }

    /// The netlink port that our own changes carry.
    pub(super) fn port(&self) -> u32 {
        self.nft.port()
    }

    fn read(&mut self) -> Result<Vec<(Key, Object)>> {
        let Some(contents) = self.nft.contents(&rules::table())? else { return Ok(Vec::new()) };
        if has_foreign_sets(&contents) {
            // The table goes with all that is in it when the rules are made again.
            return Ok(vec![(Key::Rules, Object::Rules { intact: false })]);
        }
        let mut found = vec![(Key::Rules, Object::Rules { intact: is_intact(&contents) })];
        for chain in &contents.chains {
            let Some(choice) = rules::choice_of(&chain.object.id.name) else { continue };
            let (_, rule) = rules::choice(choice);
            let intact = contents.rules_of(&chain.object.id).map(|rule| &rule.object).eq([&rule]);
            found.push((Key::Choice(choice), Object::Rules { intact }));
        }
        found.extend(sources::read(&contents));
        for (kind, ipv6, wanted) in rules::sets() {
            let Some((_, elements)) = contents.set(&wanted.id) else { continue };
            found.extend(elements.iter().filter_map(|element| entry(kind, ipv6, element)));
        }
        Ok(found)
    }

    fn write(&mut self, ops: &[Write]) -> Result<(), NftError> {
        let unsure = |op: &Write| match (op.key(), present(op)) {
            (Key::Rules, _) | (_, Known::Unknown) => true,
            (Key::Sources(_), present) => !is_whole(present),
            _ => false,
        };
        if !ops.iter().any(unsure) {
            // Nothing is read, so others may change the ruleset meanwhile.
            return self.nft.commit(&batch_of(ops, None));
        }
        self.nft.transact(|nft| Ok(batch_of(ops, nft.contents(&rules::table())?.as_ref())))
    }
}

/// One transaction, where this is there already; looked at only for what is not known.
fn batch_of(ops: &[Write], mut there: Option<&TableContents>) -> Batch {
    let mut batch = Batch::new();
    let makes_rules = ops.iter().any(|op| matches!((op.key(), op), (Key::Rules, Op::Put { .. })));
    if makes_rules && there.is_some_and(has_foreign_sets) {
        // A set that rules of any chain look at cannot be made anew by itself.
        batch.delete_table(&rules::table());
        there = None;
    }
    for op in ops {
        match (op.key(), op) {
            (Key::Rules, Op::Put { .. }) => make_rules(&mut batch, there),
            (Key::Rules, Op::Delete { .. }) if there.is_some() => batch.delete_table(&rules::table()),
            (Key::Choice(choice), Op::Put { .. }) => make_choice(&mut batch, *choice),
            (Key::Choice(choice), Op::Delete { present, .. }) => {
                let (chain, _) = rules::choice(*choice);
                let is = |there: &TableContents| there.chains.iter().any(|one| one.object.id == chain.id);
                if *present != Known::Unknown || there.is_some_and(is) {
                    batch.flush_chain(&chain.id);
                    batch.delete_chain(&chain.id);
                }
            }
            (Key::Sources(frontend), Op::Put { object: Object::Sources { clients, then }, .. }) => {
                sources::put(&mut batch, frontend, clients, *then);
            }
            (Key::Sources(frontend), Op::Delete { present, .. }) => {
                sources::delete(&mut batch, frontend, is_whole(present), there);
            }
            _ => {}
        }
    }
    elements(&mut batch, ops, there);
    batch
}

impl OutsideDriver {
    /// Writes all in one transaction; when the kernel refuses that, halves of it, down to the one that it refuses.
    fn settle(&mut self, ops: &[Write]) -> Vec<Result<()>> {
        match (self.write(ops), ops) {
            (Ok(()), _) => ops.iter().map(|_| Ok(())).collect(),
            // What is there may not be what was known.
            (Err(_), [op]) => {
                let unsure = match op.clone() {
                    Op::Put { key, object, .. } => Op::Put { key, present: Known::Unknown, object },
                    Op::Delete { key, .. } => Op::Delete { key, present: Known::Unknown },
                };
                let told = |error: NftError| Error { object: op.key().to_string(), ..Error::from(error) };
                vec![self.write(&[unsure]).map_err(told)]
            }
            (Err(_), _) => {
                let (first, second) = ops.split_at(ops.len() / 2);
                let mut written = self.settle(first);
                written.extend(self.settle(second));
                written
            }
        }
    }
}

fn present(op: &Write) -> &Known<Object> {
    match op {
        Op::Put { present, .. } | Op::Delete { present, .. } => present,
    }
}

/// Whether a frontend's set and chain are both there, or neither.
const fn is_whole(present: &Known<Object>) -> bool {
    matches!(present, Known::Absent | Known::Present(Object::Sources { .. }))
}

/// Elements go before they come: the kernel refuses another value for a key that it has.
fn elements(batch: &mut Batch, ops: &[Write], there: Option<&TableContents>) {
    let mut sets: BTreeMap<(Kind, bool), [Vec<Element>; 2]> = BTreeMap::new();
    for op in ops {
        let Some((kind, ipv6, key)) = rules::element(op.key()) else { continue };
        let [gone, put] = sets.entry((kind, ipv6)).or_default();
        let is_there = match present(op) {
            Known::Absent => false,
            Known::Present(_) => true,
            Known::Unknown => {
                let found = there.and_then(|there| there.set(&rules::set(kind, ipv6).id));
                found.is_some_and(|(_, elements)| elements.iter().any(|element| element.key == key))
            }
        };
        if is_there {
            gone.push(Element::new(key.clone()));
        }
        if let Op::Put { object, .. } = op {
            put.push(match (object, op.key()) {
                (Object::Backend(backend), _) => Element::new(key).with(Data::Value(rules::value(*backend))),
                (Object::Frontend(choice), _) => Element::new(key).with(Data::Verdict(rules::verdict(*choice))),
                (Object::Limited, Key::Frontend(frontend)) => {
                    Element::new(key).with(Data::Verdict(sources::verdict(frontend)))
                }
                _ => Element::new(key),
            });
        }
    }
    for ((kind, ipv6), [gone, put]) in sets {
        let set = rules::set(kind, ipv6);
        batch.delete_elements(&set, &gone);
        batch.add_elements(&set, &put);
    }
}

/// Base chains and sets; those that are as they should be stay, with what is in them.
fn make_rules(batch: &mut Batch, there: Option<&TableContents>) {
    // Also takes a table out of sleep.
    batch.add_table(&Table::new(rules::table()));
    let wanted = rules::chains();
    for (chain, _) in &wanted {
        if let Some(found) = there.and_then(|there| there.chains.iter().find(|one| one.object.id == chain.id)) {
            batch.flush_chain(&chain.id);
            if found.object != *chain {
                batch.delete_chain(&chain.id);
            }
        }
    }
    rules::sets().for_each(|(.., set)| batch.add_set(&set));
    for (chain, rules) in wanted {
        batch.add_chain(&chain);
        rules.iter().for_each(|rule| batch.add_rule(rule));
    }
}

fn make_choice(batch: &mut Batch, choice: Choice) {
    let (chain, rule) = rules::choice(choice);
    batch.add_chain(&chain);
    batch.flush_chain(&chain.id);
    batch.add_rule(&rule);
}

/// Whether a set has our name and is not as we make it: of a later release, or by whoever can write here.
fn has_foreign_sets(contents: &TableContents) -> bool {
    let sources = |found: &Set| sources::frontend_of(&found.id.name).is_some_and(|of| *found != sources::set(&of));
    rules::sets().any(|(.., set)| contents.set(&set.id).is_some_and(|(found, _)| found.object != set))
        || contents.sets.iter().any(|set| sources(&set.object))
}

fn is_intact(contents: &TableContents) -> bool {
    let rules_of = |chain: &Chain, wanted: &[Rule]| contents.rules_of(&chain.id).map(|rule| &rule.object).eq(wanted);
    let wanted = rules::chains();
    // A dormant table's chains see nothing.
    !contents.table.object.dormant
        && rules::sets().all(|(.., set)| contents.set(&set.id).is_some_and(|(found, _)| found.object == set))
        && wanted
            .iter()
            .all(|(chain, rules)| contents.chains.iter().any(|found| found.object == *chain) && rules_of(chain, rules))
}

/// What an element says; `None` for one that is none of ours, which rules made anew do not have.
fn entry(kind: Kind, ipv6: bool, element: &Element) -> Option<(Key, Object)> {
    let net_linux::nft::Key::One(bytes) = &element.key else { return None };
    let length = if ipv6 { 16 } else { 4 };
    let (address, rest) = bytes.split_at_checked(length)?;
    let frontend = Frontend {
        address: SocketAddr::new(address_of(address)?, u16::from_be_bytes(*rest.get(4..)?.first_chunk()?)),
        protocol: *rest.first()?,
    };
    Some(match (kind, &element.data) {
        (Kind::Masqueraded, None) => (Key::Masqueraded(frontend), Object::There),
        (Kind::Refused, None) => (Key::Refused(frontend), Object::There),
        (Kind::Frontends, Some(Data::Verdict(Verdict::Goto(chain)))) => {
            let limited = sources::frontend_of(chain).filter(|of| *of == frontend).map(|_| Object::Limited);
            (Key::Frontend(frontend), limited.or_else(|| rules::choice_of(chain).map(Object::Frontend))?)
        }
        (Kind::Backends, Some(Data::Value(value))) => {
            let place = u32::from_ne_bytes(*rest.get(8..)?.first_chunk()?);
            let (address, port) = value.split_at_checked(length)?;
            let backend = SocketAddr::new(address_of(address)?, u16::from_be_bytes(*port.first_chunk()?));
            (Key::Backend(frontend, place), Object::Backend(backend))
        }
        _ => return None,
    })
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
    }
}

#[async_trait]
impl Driver for OutsideDriver {
    type Item = ServiceItem;
    type Key = Key;
    type Object = Object;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, _node: &NodeContext) -> Result<()> {
        Ok(())
    }

    fn configure(&mut self, _section: &serde_json::Value) -> Result<()> {
        let detail = "the section is that of programs at sockets";
        Err(Error::new(ErrorKind::Unsupported, "configure", "services for clients outside", detail))
    }

    fn base(&self) -> Result<Vec<(Key, Object)>> {
        if !self.serves {
            return Ok(Vec::new());
        }
        // Before a new chain may use a map the kernel looks at all that is in it, so the usual ones are made while it is empty.
        let numbers = (1..=USUAL_BACKENDS).flat_map(|count| [(count, false), (count, true)]);
        let choices =
            numbers.flat_map(|(count, by_client)| [false, true].map(|ipv6| Choice { count, by_client, ipv6 }));
        let keys = std::iter::once(Key::Rules).chain(choices.map(Key::Choice));
        Ok(keys.map(|key| (key, Object::Rules { intact: true })).collect())
    }

    fn compile(&self, item: &ServiceItem) -> Result<Vec<(Key, Object)>> {
        if self.serves { compile(item) } else { Ok(Vec::new()) }
    }

    fn rank(&self, key: &Key) -> Rank {
        key.rank()
    }

    fn describe(&self, _: &Key, from: Option<&Object>, to: Option<&Object>) -> String {
        described(from, to, Object::to_string)
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        let found = self.read()?;
        self.led = Led::of(&found);
        Ok(found)
    }

    async fn apply(&mut self, batch: &[Write]) -> Vec<Result<()>> {
        let written = self.settle(batch);
        let done = batch.iter().zip(&written).filter(|(_, result)| result.is_ok()).map(|(op, _)| op);
        let stale = self.led.written(done);
        if let Some(conntrack) = &mut self.conntrack {
            // A help to clients, and no state of ours: what fails is left to time-outs.
            stale.iter().for_each(|filter| drop(conntrack.flush(filter)));
        }
        written
    }
}
