//! From what was written to what is used. Never a guess at what was meant.

use super::actions::{Actions, NextHopAction};
use super::community::Pattern;
use super::error::{PolicyError, Wrong};
use super::matches::{Communities, Matches, PrefixRange};
use super::raw::{RawActions, RawAsPath, RawDefault, RawMatches, RawPolicy, RawPrefix, RawRange, RawThen};
use super::{Policy, Statement, Then, as_path};
use crate::types::{Asn, NextHop};
use ipnet::IpNet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// A number is put before a path at most so often: more has no use, and a path has to fit into a message.
const MOST_PREPENDS: u8 = 32;

type Checked<T> = Result<T, (String, Wrong)>;

impl Policy {
    /// A policy for routes that come in.
    pub fn import(raw: &RawPolicy) -> Result<Self, PolicyError> {
        Self::check(raw, false)
    }

    /// A policy for routes that go out. It may also set the next hop to `self` and `unchanged`.
    pub fn export(raw: &RawPolicy) -> Result<Self, PolicyError> {
        Self::check(raw, true)
    }

    fn check(raw: &RawPolicy, is_export: bool) -> Result<Self, PolicyError> {
        let statements = raw.statements.iter().enumerate().map(|(statement, raw)| {
            let refused = |(field, why)| PolicyError { statement, field, why };
            Ok(Statement {
                matches: matches(&raw.matches).map_err(refused)?,
                actions: actions(&raw.actions, is_export).map_err(refused)?,
                then: match raw.then {
                    RawThen::Accept => Then::Accept,
                    RawThen::Reject => Then::Reject,
                    RawThen::Continue => Then::Continue,
                },
            })
        });
        let statements: Vec<Statement> = statements.collect::<Result<_, _>>()?;
        Ok(Self {
            looks_at_prefix: statements.iter().any(|statement| statement.matches.look_at_prefix()),
            accepts_by_default: raw.default == RawDefault::Accept,
            statements,
        })
    }
}

fn matches(raw: &RawMatches) -> Checked<Matches> {
    let prefixes = list(&raw.prefixes, "if.prefixes", prefix_range)?;
    let communities = Communities {
        any: patterns(&raw.communities.any, "if.communities.any")?,
        all: patterns(&raw.communities.all, "if.communities.all")?,
        none: patterns(&raw.communities.none, "if.communities.none")?,
    };
    Ok(Matches {
        prefixes,
        communities,
        as_path: path(&raw.as_path)?,
        peers: list(&raw.peers, "if.peers", |name| Ok(name.clone()))?,
        next_hops: list(&raw.next_hops, "if.next-hops", |prefix| network(prefix, ""))?,
        sources: list(&raw.sources, "if.sources", |source| Ok(*source))?,
        interfaces: list(&raw.interfaces, "if.interfaces", |name| Ok(name.clone()))?,
        family: raw.family,
        local_pref: raw.local_pref.map(|raw| range(raw, "if.local-pref")).transpose()?,
        med: raw.med.map(|raw| range(raw, "if.med")).transpose()?,
    })
}

fn path(raw: &RawAsPath) -> Checked<as_path::Conditions> {
    let pattern = raw.pattern.as_ref().map(|text| as_path::Pattern::parse(text));
    Ok(as_path::Conditions {
        contains: list(&raw.contains, "if.as-path.contains", |number| asn(*number))?,
        origin: list(&raw.origin, "if.as-path.origin", |number| asn(*number))?,
        neighbour: list(&raw.neighbour, "if.as-path.neighbour", |number| asn(*number))?,
        hops: raw.hops.map(|raw| range(raw, "if.as-path.hops")).transpose()?,
        pattern: pattern.transpose().map_err(|why| ("if.as-path.pattern".to_owned(), why))?,
    })
}

fn actions(raw: &RawActions, is_export: bool) -> Checked<Actions> {
    if raw.med.is_some() && raw.med_add.is_some() {
        return Err(("set.med-add".to_owned(), Wrong::Excludes { other: "med" }));
    }
    let next_hop = raw.next_hop.as_ref().map(|text| next_hop(text, is_export));
    let prepend = raw.prepend.map(|prepend| {
        if !(1..=MOST_PREPENDS).contains(&prepend.times) {
            let why = Wrong::Range { found: prepend.times.into(), least: 1, most: MOST_PREPENDS.into() };
            return Err(("set.prepend.times".to_owned(), why));
        }
        let number = prepend.asn.map(asn).transpose().map_err(|(_, why)| ("set.prepend.asn".to_owned(), why))?;
        Ok((number, prepend.times))
    });
    let change = &raw.communities;
    let replace = change.replace.as_ref().map(|texts| singles(texts, "set.communities.replace"));
    Ok(Actions {
        local_pref: raw.local_pref,
        med: raw.med,
        med_add: raw.med_add,
        replace: replace.transpose()?,
        remove: patterns(&change.remove, "set.communities.remove")?,
        add: singles(&change.add, "set.communities.add")?,
        next_hop: next_hop.transpose().map_err(|why| ("set.next-hop".to_owned(), why))?,
        prepend: prepend.transpose()?,
    })
}

fn next_hop(text: &str, is_export: bool) -> Result<NextHopAction, Wrong> {
    let right = if is_export { "an address, `self` or `unchanged`" } else { "an address, on the way in" };
    let refused = || Wrong::NextHop { text: text.to_owned(), right };
    match text {
        "self" if is_export => Ok(NextHopAction::Own),
        "unchanged" if is_export => Ok(NextHopAction::Unchanged),
        address => {
            let address: IpAddr = address.parse().map_err(|_| refused())?;
            let is_host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
            is_host.then(|| NextHopAction::Address(NextHop::from(address))).ok_or_else(refused)
        }
    }
}

/// An empty list never holds: nobody means that.
fn list<R, T>(raw: &Option<Vec<R>>, field: &str, check: impl Fn(&R) -> Checked<T>) -> Checked<Option<Vec<T>>> {
    let Some(raw) = raw else { return Ok(None) };
    if raw.is_empty() {
        return Err((field.to_owned(), Wrong::Empty));
    }
    let checked = raw
        .iter()
        .enumerate()
        .map(|(at, raw)| check(raw).map_err(|(inner, why)| (format!("{field}[{at}]{inner}"), why)));
    checked.collect::<Result<_, _>>().map(Some)
}

fn patterns(texts: &[String], field: &str) -> Checked<Vec<Pattern>> {
    let parsed =
        texts.iter().enumerate().map(|(at, text)| Pattern::parse(text).map_err(|why| (format!("{field}[{at}]"), why)));
    parsed.collect()
}

fn singles(texts: &[String], field: &str) -> Checked<Vec<Pattern>> {
    let patterns = patterns(texts, field)?;
    match patterns.iter().position(|pattern| !pattern.is_one()) {
        Some(at) => Err((format!("{field}[{at}]"), Wrong::Many { text: texts[at].clone() })),
        None => Ok(patterns),
    }
}

fn asn(number: u32) -> Checked<Asn> {
    Asn::new(number).ok_or((String::new(), Wrong::AsnZero))
}

fn range(raw: RawRange, field: &str) -> Checked<RangeInclusive<u32>> {
    if raw.at_least > raw.at_most {
        let (found, least) = (raw.at_most.into(), raw.at_least.into());
        return Err((format!("{field}.at-most"), Wrong::Range { found, least, most: u32::MAX.into() }));
    }
    Ok(raw.at_least..=raw.at_most)
}

fn network(prefix: &IpNet, field: &str) -> Checked<IpNet> {
    if *prefix == prefix.trunc() {
        return Ok(*prefix);
    }
    Err((field.to_owned(), Wrong::HostBits { prefix: *prefix, network: prefix.trunc() }))
}

fn prefix_range(raw: &RawPrefix) -> Checked<PrefixRange> {
    let prefix = network(&raw.prefix, ".prefix")?;
    let (own, longest) = (prefix.prefix_len(), prefix.max_prefix_len());
    let least = raw.at_least.unwrap_or(own);
    let most = raw.at_most.unwrap_or(if raw.at_least.is_some() { longest } else { own });
    let outside = |field: &str, found: u8, least: u8, most: u8| {
        (field.to_owned(), Wrong::Range { found: found.into(), least: least.into(), most: most.into() })
    };
    if !(own..=longest).contains(&least) {
        return Err(outside(".at-least", least, own, longest));
    }
    if !(least..=longest).contains(&most) {
        return Err(outside(".at-most", most, least, longest));
    }
    Ok(PrefixRange { prefix, lengths: least..=most })
}
