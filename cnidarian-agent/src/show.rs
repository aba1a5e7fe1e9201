//! Answers of the agent for people. Never asks, never decides.
//!
//! Each function answers whether all is well, for the exit code.

use crate::client::AskError;
use cnidarian::{IpamFindings, NodeStatus, PoolStatus};
use comfy_table::{Table, presets};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fmt::Display;

pub(crate) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

fn json(value: &Value) -> Result<(), AskError> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

fn join<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn text<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `cnidarian status`.
pub(crate) fn status(value: Value, as_json: bool) -> Result<bool, AskError> {
    if as_json {
        let well = value.get("notReady").is_none_or(Value::is_null);
        json(&value)?;
        return Ok(well);
    }
    let status: NodeStatus = serde_json::from_value(value)?;
    println!("node      {} (cnidarian {})", status.node, status.version);
    println!("backend   {}, pod MTU {} bytes", status.backend, status.pod_mtu_bytes);
    println!("policy    {}", status.policy.as_deref().unwrap_or("none: nothing is enforced"));
    println!("services  {}", status.services.as_deref().unwrap_or("none: not translated here"));
    let underlay = &status.underlay;
    println!(
        "underlay  {} {} {}, MTU {} bytes",
        underlay.interface,
        text(underlay.v4),
        text(underlay.v6),
        underlay.mtu_bytes
    );
    println!("ready     {}", status.not_ready.as_deref().unwrap_or("yes"));
    for (capability, why_not) in &status.capabilities {
        println!("can       {capability}: {}", why_not.as_deref().map_or("yes".to_owned(), |why| format!("no, {why}")));
    }
    for (capability, why_not) in &status.service_capabilities {
        let can = why_not.as_deref().map_or("yes".to_owned(), |why| format!("no, {why}"));
        println!("can       services, {capability}: {can}");
    }
    for notice in &status.notices {
        println!("notice    {notice}");
    }
    println!("drift     {} objects repaired in {} resyncs", status.drifted, status.resyncs);
    println!("\npeers ({})", status.peers.len());
    let mut peers = table(&["NODE", "IPV4", "IPV6", "PREFIXES", "ATTRIBUTES"]);
    for peer in &status.peers {
        let attributes = peer.attributes.iter().map(|(key, value)| format!("{key}={value}"));
        peers.add_row([
            peer.node.to_string(),
            text(peer.v4),
            text(peer.v6),
            join(peer.prefixes.iter().map(|prefix| prefix.prefix)),
            join(attributes),
        ]);
    }
    println!("{peers}");
    println!("\npools ({})\n{}", status.pools.len(), pools(&status.pools));
    println!("\nendpoints ({})", status.endpoints.len());
    let mut endpoints = table(&["ENDPOINT", "POD", "ADDRESSES", "HOST INTERFACE", "NETWORK"]);
    for one in &status.endpoints {
        let pod = one.endpoint.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        endpoints.add_row([
            one.endpoint.id.to_string(),
            text(pod),
            join(&one.endpoint.addresses),
            one.endpoint.host_interface.to_string(),
            one.network.clone(),
        ]);
    }
    println!("{endpoints}");
    if !status.hosts.is_empty() {
        println!("\npolicy of the node itself");
        let mut hosts = table(&["ABOUT", "AT", "ENFORCED"]);
        for host in &status.hosts {
            let enforced =
                if host.enforced.is_empty() { "everything is allowed".to_owned() } else { join(&host.enforced) };
            hosts.add_row([&host.name, &host.interface, &enforced]);
        }
        println!("{hosts}");
    }
    if !status.problems.is_empty() {
        println!("\nproblems ({})", status.problems.len());
        let mut problems = table(&["OBJECT", "STATE", "ERROR"]);
        for problem in &status.problems {
            problems.add_row([&problem.object, &problem.state, &problem.error]);
        }
        println!("{problems}");
    }
    Ok(status.not_ready.is_none())
}

fn pools(pools: &[PoolStatus]) -> Table {
    let mut rows = table(&[
        "POOL",
        "PREFIXES",
        "CAPACITY",
        "RESERVED",
        "USED",
        "COOLING",
        "FREE HERE",
        "UNCLAIMED",
        "BLOCKS PER NODE",
    ]);
    for pool in pools {
        let blocks = pool.blocks_per_node.iter().map(|(node, count)| format!("{node}={count}"));
        let name = if pool.disabled { format!("{} (disabled)", pool.pool) } else { pool.pool.clone() };
        rows.add_row([
            name,
            join(&pool.prefixes),
            pool.capacity.to_string(),
            pool.reserved.to_string(),
            pool.used.to_string(),
            pool.cooling.to_string(),
            pool.free_here.to_string(),
            pool.unclaimed.to_string(),
            join(blocks),
        ]);
    }
    rows
}

/// `cnidarian ipam show`.
pub(crate) fn ipam(value: Value, as_json: bool) -> Result<bool, AskError> {
    #[derive(Deserialize)]
    struct Shown {
        pools: Vec<PoolStatus>,
        leases: Vec<cni_core::ipam::Lease>,
    }
    if as_json {
        json(&value)?;
        return Ok(true);
    }
    let shown: Shown = serde_json::from_value(value)?;
    println!("{}\n\nleases ({})", pools(&shown.pools), shown.leases.len());
    let mut leases = table(&["ADDRESS", "POOL", "BLOCK", "OWNER", "POD"]);
    for lease in &shown.leases {
        let pod = lease.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name));
        leases.add_row([
            lease.address.to_string(),
            lease.pool.clone(),
            lease.subnet.to_string(),
            lease.owner.to_string(),
            text(pod),
        ]);
    }
    println!("{leases}");
    Ok(true)
}

/// `cnidarian ipam check`.
pub(crate) fn findings(value: Value, as_json: bool) -> Result<bool, AskError> {
    let found: IpamFindings = serde_json::from_value(value.clone())?;
    if as_json {
        json(&value)?;
    } else if found.is_clean() {
        println!("every lease has an interface, and every interface has its leases");
    } else {
        for address in &found.leaked {
            println!("{address}: leased, and its interface is gone; it is freed after the grace, or by `ipam release`");
        }
        for endpoint in &found.unleased {
            println!("{endpoint}: attached, and its addresses are not leased; DEL and ADD it");
        }
    }
    Ok(found.is_clean())
}

/// `cnidarian plan`.
pub(crate) fn plan(value: Value, as_json: bool) -> Result<bool, AskError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Planned {
        steps: Vec<Step>,
        waiting_for_sync: usize,
        blocked: Vec<(String, String)>,
    }
    #[derive(Deserialize)]
    struct Step {
        action: String,
        object: String,
        detail: String,
    }
    if as_json {
        json(&value)?;
        return Ok(true);
    }
    let plan: Planned = serde_json::from_value(value)?;
    for step in &plan.steps {
        let sign = match step.action.as_str() {
            "create" => '+',
            "delete" => '-',
            _ => '~',
        };
        println!("{sign} {} {}", step.object, step.detail);
    }
    for (item, error) in &plan.blocked {
        println!("! {item}: {error}");
    }
    if plan.waiting_for_sync > 0 {
        println!("  {} deletions wait for the first full state", plan.waiting_for_sync);
    }
    if plan.steps.is_empty() && plan.blocked.is_empty() {
        println!("nothing to do");
    }
    Ok(plan.blocked.is_empty())
}

/// `cnidarian resync`.
pub(crate) fn resync(value: Value, as_json: bool) -> Result<bool, AskError> {
    #[derive(Deserialize)]
    struct Done {
        missing: Vec<String>,
        changed: Vec<String>,
        unexpected: Vec<String>,
        written: usize,
        complete: bool,
    }
    let done: Done = serde_json::from_value(value.clone())?;
    if as_json {
        json(&value)?;
        return Ok(done.complete);
    }
    for (what, objects) in [("missing", &done.missing), ("changed", &done.changed), ("unexpected", &done.unexpected)] {
        for object in objects {
            println!("{what}: {object}");
        }
    }
    println!(
        "{} objects written{}",
        done.written,
        if done.complete { "" } else { "; some failed, see `cnidarian status`" }
    );
    Ok(done.complete)
}

/// An answer that only the backend understands: a list of flat objects as a table, everything else as it is.
pub(crate) fn answer(value: Value, as_json: bool) -> Result<bool, AskError> {
    let rows: Option<Vec<&Map<String, Value>>> =
        value.as_array().map(|rows| rows.iter().filter_map(Value::as_object).collect());
    match rows {
        Some(rows) if !as_json => {
            let mut columns: Vec<&String> = Vec::new();
            for column in rows.iter().flat_map(|row| row.keys()) {
                if !columns.contains(&column) {
                    columns.push(column);
                }
            }
            let head: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
            let mut shown = table(&head.iter().map(String::as_str).collect::<Vec<_>>());
            for row in &rows {
                shown.add_row(columns.iter().map(|column| cell(row.get(*column))));
            }
            println!("{shown}");
        }
        _ => json(&value)?,
    }
    Ok(true)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => join(items.iter().map(|item| cell(Some(item)))),
        Some(other) => other.to_string(),
    }
}
