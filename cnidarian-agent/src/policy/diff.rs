//! `cnidarian policy diff`: which connections change, whatever was written differently. Never a difference of texts.

use super::error::PolicyError;
use super::{load, reach, text};
use cni_core::policy::evaluate::{Connection, Evaluator, Party, TrafficClass, outside_addresses, traffic_classes};
use cni_core::policy::world::World;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Pairs that change in the same way, so they are one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    opened: Vec<TrafficClass>,
    closed: Vec<TrafficClass>,
}

pub(super) fn run(old: &[PathBuf], new: &[PathBuf], as_json: bool) -> Result<bool, PolicyError> {
    let (old, new) = (load::perhaps_none(old)?, load::perhaps_none(new)?);
    let (before, after) = (&old.world, &new.world);
    let classes = traffic_classes(&[before, after]);
    let parties = parties(before, after);
    let only = |one: &World, other: &World| -> Vec<String> {
        let pods = reach::pods(one, &[]).into_iter().filter(|pod| !other.workloads.contains_key(&pod.id));
        pods.map(|pod| Party::Workload(pod.id.clone()).to_string()).collect()
    };
    let (gone, come) = (only(before, after), only(after, before));
    let (then, now) = (Evaluator::new(before), Evaluator::new(after));
    let mut changes: BTreeMap<Change, Vec<(&Party, &Party)>> = BTreeMap::new();
    for from in &parties {
        for to in parties.iter().filter(|to| may_talk(from, to)) {
            let classes = reach::between(&classes, before, from, to);
            let was = reach::allowed(&then, from, to, &classes)?;
            let is = reach::allowed(&now, from, to, &classes)?;
            if was != is {
                let change = Change { opened: without(&is, &was), closed: without(&was, &is) };
                changes.entry(change).or_default().push((from, to));
            }
        }
    }
    if as_json {
        return print_json(&changes, &now, &gone, &come);
    }
    old.warn();
    new.warn();
    for (names, what) in [(&gone, "only in the old objects"), (&come, "only in the new objects")] {
        if !names.is_empty() {
            println!("{} pods are {what}, so not compared: {}", names.len(), names.join(" "));
        }
    }
    for (change, pairs) in &changes {
        for (sign, classes) in [("opened", &change.opened), ("closed", &change.closed)] {
            let Some(class) = classes.first() else { continue };
            println!("{sign}: {}", text::classes(classes, &[]));
            for (from, targets) in by_source(pairs) {
                println!("  {from} -> {}", targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
            }
            if let Some((from, to)) = pairs.first() {
                println!("  now {}", why(&now, from, to, class)?);
            }
        }
    }
    let pairs: usize = changes.values().map(Vec::len).sum();
    println!("{pairs} pairs change, of {} parties over {} kinds of traffic", parties.len(), classes.len());
    Ok(changes.is_empty())
}

fn without(all: &[TrafficClass], some: &[TrafficClass]) -> Vec<TrafficClass> {
    all.iter().filter(|class| !some.contains(class)).copied().collect()
}

/// Pods of both, and a sample of each set of outside addresses that their policies can tell apart.
fn parties(before: &World, after: &World) -> Vec<Party> {
    let pods = reach::pods(before, &[]).into_iter().filter(|pod| after.workloads.contains_key(&pod.id));
    let pods = pods.map(|pod| Party::Workload(pod.id.clone()));
    pods.chain(outside_addresses(&[before, after]).into_iter().map(Party::Address)).collect()
}

/// Two addresses outside are nobody's business; a pod has no way to another family.
fn may_talk(from: &Party, to: &Party) -> bool {
    !matches!((from, to), (Party::Address(_), Party::Address(_))) && from != to
}

fn by_source<'a>(pairs: &[(&'a Party, &'a Party)]) -> BTreeMap<&'a Party, BTreeSet<&'a Party>> {
    let mut sources: BTreeMap<&Party, BTreeSet<&Party>> = BTreeMap::new();
    for (from, to) in pairs {
        sources.entry(from).or_default().insert(to);
    }
    sources
}

fn why(now: &Evaluator<'_>, from: &Party, to: &Party, class: &TrafficClass) -> Result<String, PolicyError> {
    let connection = Connection::new(from.clone(), to.clone(), class.protocol, class.ports.first);
    Ok(text::because(&now.decide(&connection)?))
}

fn print_json(
    changes: &BTreeMap<Change, Vec<(&Party, &Party)>>,
    now: &Evaluator<'_>,
    gone: &[String],
    come: &[String],
) -> Result<bool, PolicyError> {
    let names = |classes: &[TrafficClass]| classes.iter().map(text::class).collect::<Vec<_>>();
    let mut list: Vec<Value> = Vec::new();
    for (change, pairs) in changes {
        for (from, to) in pairs {
            let class = change.opened.first().or(change.closed.first());
            let because = class.map(|class| why(now, from, to, class)).transpose()?;
            list.push(json!({
                "from": from.to_string(), "to": to.to_string(),
                "opened": names(&change.opened), "closed": names(&change.closed), "because": because,
            }));
        }
    }
    let value = json!({"changes": list, "onlyOld": gone, "onlyNew": come});
    println!("{}", serde_json::to_string_pretty(&value)?);
    Ok(changes.is_empty())
}
