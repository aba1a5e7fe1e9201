//! Set changes through our nftables encoder, beside the `nft` program doing the same. Never asserts.
//!
//! ```text
//! cargo run --release -p benches --bin nft        # as root, with Debian's nftables
//! ```
#![forbid(unsafe_code)]

use benches::stats::{Table, quantile};
use net_linux::netns::NetNs;
use net_linux::nft::{self, Batch, Element, Family, Field, Key, Name, Nft, Set, TableId};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ELEMENTS: u32 = 10_000;
/// Rounds of a whole load, and of one element through our encoder and through the program.
const LOADS: usize = 7;
const ONES: usize = 500;
const PROGRAM_ONES: usize = 15;

fn main() -> Result<(), AnyError> {
    NetNs::new()?.run(measure)?
}

fn measure() -> Result<(), AnyError> {
    let table = TableId::new(Family::Inet, Name::new("bench")?);
    let mut rows = Table::new(&["", "ours p50 µs", "ours p90 µs", "nft program p50 µs", "ratio"]);
    for (kind, interval) in [("hash set", false), ("interval set", true)] {
        let set = Set { interval, ..Set::new(table.set(Name::new("s")?), [Field::Ipv4Addr]) };
        let mut nft = Nft::open()?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..LOADS {
            reset(&mut nft, &table, &set)?;
            ours.push(timed(|| Ok(nft.commit(&all(&set))?))?);
            reset(&mut nft, &table, &set)?;
            let script = script("add", 0..ELEMENTS);
            theirs.push(timed(|| program(&["-f", "-"], &script))?);
        }
        rows.row(&row(&format!("load {ELEMENTS} elements, {kind}"), &ours, &theirs));
        for verb in ["add", "delete"] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for round in 0..ONES {
                let one = [element(ELEMENTS + 7)];
                let mut back = Batch::new();
                if verb == "add" {
                    back.delete_elements(&set, &one);
                } else {
                    nft.commit(&add(&set, &one))?;
                }
                ours.push(timed(|| {
                    let mut batch = Batch::new();
                    if verb == "add" {
                        batch.add_elements(&set, &one);
                    } else {
                        batch.delete_elements(&set, &one);
                    }
                    Ok(nft.commit(&batch)?)
                })?);
                nft.commit(&back)?;
                if round < PROGRAM_ONES {
                    if verb == "delete" {
                        nft.commit(&add(&set, &one))?;
                    }
                    let script = script(verb, ELEMENTS + 7..ELEMENTS + 8);
                    theirs.push(timed(|| program(&["-f", "-"], &script))?);
                    nft.commit(&back)?;
                }
            }
            rows.row(&row(&format!("{verb} one element of {ELEMENTS}, {kind}"), &ours, &theirs));
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..LOADS {
            ours.push(timed(|| {
                assert_eq!(nft.elements(&set)?.len(), ELEMENTS as usize);
                Ok(())
            })?);
            theirs.push(timed(|| program(&["-n", "list", "set", "inet", "bench", "s"], ""))?);
        }
        rows.row(&row(&format!("read {ELEMENTS} elements, {kind}"), &ours, &theirs));
    }
    println!("{rows}");
    Ok(())
}

/// Every second address, so that ranges never touch.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + 2 * number)
}

fn element(number: u32) -> Element {
    Element::new(Key::address(address(number).into()))
}

fn all(set: &Set) -> Batch {
    let elements: Vec<_> = (0..ELEMENTS).map(element).collect();
    add(set, &elements)
}

fn add(set: &Set, elements: &[Element]) -> Batch {
    let mut batch = Batch::new();
    batch.add_elements(set, elements);
    batch
}

fn reset(nft: &mut Nft, table: &TableId, set: &Set) -> Result<(), AnyError> {
    let mut batch = Batch::new();
    batch.add_table(&nft::Table::new(table.clone()));
    batch.delete_table(table);
    batch.add_table(&nft::Table::new(table.clone()));
    batch.add_set(set);
    Ok(nft.commit(&batch)?)
}

fn script(verb: &str, numbers: std::ops::Range<u32>) -> String {
    let mut text = format!("{verb} element inet bench s {{ ");
    for number in numbers {
        let _ = write!(text, "{}, ", address(number));
    }
    text.push_str("}\n");
    text
}

fn program(arguments: &[&str], input: &str) -> Result<(), AnyError> {
    let mut child = Command::new("nft").args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().ok_or("no standard input")?.write_all(input.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("nft {arguments:?}: {status}").into()) }
}

fn timed(work: impl FnOnce() -> Result<(), AnyError>) -> Result<Duration, AnyError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

fn row(name: &str, ours: &[Duration], theirs: &[Duration]) -> Vec<String> {
    let micros = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
    let (half, other) = (quantile(ours, 0.5), quantile(theirs, 0.5));
    let ratio = other.as_secs_f64() / half.as_secs_f64().max(1e-9);
    vec![name.to_owned(), micros(half), micros(quantile(ours, 0.9)), micros(other), format!("{ratio:.0}x")]
}
