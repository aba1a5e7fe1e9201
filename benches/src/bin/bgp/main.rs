//! The speaker beside bird, FRR and GoBGP, all in the same harness: a full table through to another peer, and a route
//! reflector with many clients. Never asserts: it prints tables.
//!
//! ```text
//! cargo build --release -p benches --bin bgp --bin bgp-router
//! target/release/bgp table 1000000 [ROUNDS [CONTENDER...]]       # as root, with Debian's bird2, frr and gobgpd
//! target/release/bgp scattered 1000000 [ROUNDS [CONTENDER...]]   # withdrawn in another order than announced
//! target/release/bgp reflect 500 [ROUNDS [CONTENDER...]]
//! ```
//!
//! The daemon is alone in a network namespace; all its peers are this process, in another one, over a veth. Its processor
//! time is that of the process (what the kernel does for it included), from the moment the first peer sends to the moment
//! the last peer has the last prefix.
#![forbid(unsafe_code)]

mod bed;
mod contender;
mod field;
mod message;
mod meter;

use bed::Bed;
use benches::stats::{Table, quantile};
use contender::{ASN, Contender, Daemon, Neighbour};
use field::{Identity, Session, Task};
use message::{Origin, Plan};
use meter::Took;
use std::ops::Range;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Prefixes that share an UPDATE and a path in the table that is fed, unless told otherwise.
const PREFIXES_PER_PATH: usize = 10;
const BLOCKS_PER_CLIENT: usize = 10;
/// From one prefix to the next that is withdrawn: a prime, so that all have their turn.
const STEP: usize = 611_953;
const USAGE: &str =
    "bgp table PREFIXES | scattered PREFIXES | reflect CLIENTS  [ROUNDS [cnidarian|bird|frr|gobgp ...]]";

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Case {
    /// So many prefixes from one external peer to another.
    Table(usize),
    /// The same, withdrawn in another order than announced.
    Scattered(usize),
    /// So many clients of a reflector, each with a few blocks of its own.
    Reflect(usize),
}

impl Case {
    fn plan(self) -> Plan {
        match self {
            Self::Table(_) | Self::Scattered(_) => Plan::TABLE,
            Self::Reflect(_) => Plan::BLOCKS,
        }
    }

    fn prefixes(self) -> usize {
        match self {
            Self::Table(prefixes) | Self::Scattered(prefixes) => prefixes,
            Self::Reflect(clients) => clients * BLOCKS_PER_CLIENT,
        }
    }

    fn peers(self) -> Vec<Identity> {
        match self {
            Self::Table(prefixes) | Self::Scattered(prefixes) => vec![
                Identity { number: 0, asn: 65_001, own: 0..prefixes },
                Identity { number: 1, asn: 65_002, own: 0..0 },
            ],
            Self::Reflect(clients) => {
                let own = |client| client * BLOCKS_PER_CLIENT..(client + 1) * BLOCKS_PER_CLIENT;
                (0..clients).map(|client| Identity { number: client + 2, asn: ASN, own: own(client) }).collect()
            }
        }
    }

    fn announcement(self, session: &Session) -> Vec<u8> {
        let own = session.ledger.own.clone();
        if own.is_empty() {
            return Vec::new();
        }
        let external_asn = (!matches!(self, Self::Reflect(_))).then_some(65_001);
        let origin = Origin { external_asn, next_hop: session.address };
        message::announcements(origin, self.plan(), own, PREFIXES_PER_PATH)
    }

    fn withdrawal(self, own: Range<usize>) -> Vec<u8> {
        match self {
            _ if own.is_empty() => Vec::new(),
            Self::Scattered(_) => {
                let (start, count) = (own.start, own.len());
                message::withdrawals(self.plan(), own.map(|at| start + (at - start) * STEP % count))
            }
            _ => message::withdrawals(self.plan(), own),
        }
    }
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let count = args.get(1).and_then(|count| count.parse().ok()).ok_or(USAGE)?;
    let case = match args[0].as_str() {
        "table" => Case::Table(count),
        "scattered" => Case::Scattered(count),
        "reflect" => Case::Reflect(count),
        _ => return Err(USAGE.into()),
    };
    let rounds: usize = args.get(2).map_or(Ok(3), |rounds| rounds.parse())?;
    let chosen = |who: &Contender| args.len() < 4 || args[3..].iter().any(|name| name == who.name());
    let contenders: Vec<Contender> = Contender::ALL.into_iter().filter(chosen).collect();
    let mut took: Vec<Vec<[Took; 3]>> = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds {
        for (who, took) in contenders.iter().zip(&mut took) {
            eprintln!("{case:?}, round {round} of {rounds}: {}", who.name());
            took.push(measure(*who, case)?);
        }
    }
    print(case, &contenders, &took, rounds);
    Ok(())
}

fn print(case: Case, contenders: &[Contender], took: &[Vec<[Took; 3]>], rounds: usize) {
    let mut table = Table::new(&["", "establish s", "CPU s", "announce s", "CPU s", "MB", "withdraw s", "CPU s", "MB"]);
    for (who, took) in contenders.iter().zip(took) {
        let median = |figure: &dyn Fn(&[Took; 3]) -> std::time::Duration| {
            let times: Vec<_> = took.iter().map(figure).collect();
            format!("{:.2}", quantile(&times, 0.5).as_secs_f64())
        };
        let mut row = vec![who.name().to_owned()];
        for step in 0..3 {
            row.extend([median(&|took| took[step].wall), median(&|took| took[step].cpu)]);
            if step > 0 {
                let mut rss: Vec<_> = took.iter().map(|took| took[step].rss_kilobytes).collect();
                rss.sort_unstable();
                row.push(format!("{:.0}", rss[rss.len() / 2] as f64 / 1024.0));
            }
        }
        table.row(&row);
    }
    let what = match case {
        Case::Table(prefixes) => format!("{prefixes} prefixes, {PREFIXES_PER_PATH} to a path, through to another peer"),
        Case::Scattered(prefixes) => format!("{prefixes} prefixes as before, withdrawn in another order"),
        Case::Reflect(clients) => format!("reflector with {clients} clients x {BLOCKS_PER_CLIENT} blocks, all to all"),
    };
    println!("{what}; median of {rounds}\n{table}");
}

fn measure(who: Contender, case: Case) -> Outcome<[Took; 3]> {
    let bed = Bed::new()?;
    let identities = case.peers();
    let neighbours: Vec<_> = identities.iter().map(|peer| Neighbour { number: peer.number, asn: peer.asn }).collect();
    let daemon = Daemon::start(who, &bed.daemon, &neighbours)?;
    let outcome = bed.field.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(steps(&daemon, case, &identities))
    })?;
    outcome.map_err(|error| format!("{}: {error}\n{}", who.name(), daemon.log()).into())
}

/// Established, announced, withdrawn.
async fn steps(daemon: &Daemon, case: Case, identities: &[Identity]) -> Outcome<[Took; 3]> {
    let meter = daemon.meter();
    let running = meter.start()?;
    let mut sessions = field::establish(identities, case.plan(), case.prefixes()).await?;
    let established = running.stop()?;
    meter.idle()?;
    let waited = |session: &Session| match case {
        Case::Table(_) | Case::Scattered(_) => session.ledger.own.is_empty(),
        Case::Reflect(_) => true,
    };
    let announce: Vec<_> = sessions
        .iter()
        .map(|session| {
            let others = case.prefixes() - session.ledger.own.len();
            Task { send: case.announcement(session), until: waited(session).then_some(others) }
        })
        .collect();
    let running = meter.start()?;
    field::step(&mut sessions, &announce).await?;
    let announced = running.stop()?;
    meter.idle()?;
    let withdraw: Vec<_> = sessions
        .iter()
        .map(|session| {
            let send = case.withdrawal(session.ledger.own.clone());
            Task { send, until: waited(session).then_some(0) }
        })
        .collect();
    let running = meter.start()?;
    field::step(&mut sessions, &withdraw).await?;
    Ok([established, announced, running.stop()?])
}
