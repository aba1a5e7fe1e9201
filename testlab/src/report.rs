//! What a lab found, for people and for programs. Never decides what to probe.

use crate::probe::{PROTOCOLS, Protocol};
use crate::scenario::PathKind;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

/// One question: can this pod reach that address over this protocol?
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The asking pod.
    pub from: String,
    /// The asked pod.
    pub to: String,
    /// The address that was asked.
    pub address: IpAddr,
    /// Over what.
    pub protocol: Protocol,
    /// The way the asking node sends such packets.
    pub path: PathKind,
    /// The median round trip in microseconds, `None` without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_us: Option<u64>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What differs from the scenario, `None` when all is as expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unexpected: Option<String>,
}

/// One question to the outside: under which address was the pod seen?
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutsideFinding {
    /// The asking pod.
    pub from: String,
    /// The address outside.
    pub address: IpAddr,
    /// The source address that arrived there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_as: Option<IpAddr>,
    /// What differs from the scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unexpected: Option<String>,
}

/// Everything a lab found.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// The backend's name.
    pub backend: String,
    /// Pods with their nodes and addresses, in the order of the scenario.
    pub pods: Vec<PodLine>,
    /// Every pair, family and protocol.
    pub findings: Vec<Finding>,
    /// Every pod and family.
    pub outside: Vec<OutsideFinding>,
}

/// A pod of the report.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLine {
    /// The pod.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How long ADD took as the runtime saw it, in microseconds.
    pub add_us: u64,
}

impl Report {
    /// Everything that is not as the scenario says.
    pub fn unexpected(&self) -> impl Iterator<Item = String> {
        let pairs = self.findings.iter().filter_map(|finding| {
            let what = finding.unexpected.as_ref()?;
            let Finding { from, to, address, protocol, .. } = finding;
            Some(format!("{from} -> {to} ({protocol} {address}): {what}"))
        });
        let outside = self.outside.iter().filter_map(|finding| {
            let what = finding.unexpected.as_ref()?;
            Some(format!("{} -> outside ({}): {what}", finding.from, finding.address))
        });
        pairs.chain(outside)
    }

    /// The report for people: pods, a matrix of all pairs, a line per path and protocol, and the verdict.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.pod_table());
        let _ = writeln!(text, "Median round trip in µs, IPv4 / IPv6 (row asks column), and the path:");
        let _ = writeln!(text, "{}", self.matrix());
        let _ = writeln!(text, "{}", self.summary());
        if !self.outside.is_empty() {
            let _ = writeln!(text, "{}", self.outside_line());
        }
        text
    }

    fn pod_table(&self) -> Table {
        let mut table = empty_table();
        table.set_header(["pod", "node", "addresses", "ADD ms"]);
        for pod in &self.pods {
            let addresses: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
            let add = format!("{}.{}", pod.add_us / 1000, pod.add_us % 1000 / 100);
            table.add_row([pod.name.clone(), pod.node.clone(), addresses.join("  "), add]);
        }
        table
    }

    fn matrix(&self) -> Table {
        let mut cells: BTreeMap<(&str, &str), Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            cells.entry((&finding.from, &finding.to)).or_default().push(finding);
        }
        let mut table = empty_table();
        table.set_header(std::iter::once("").chain(self.pods.iter().map(|pod| pod.name.as_str())));
        for from in &self.pods {
            let row =
                self.pods.iter().map(|to| cells.get(&(&*from.name, &*to.name)).map_or("·".into(), |all| cell(all)));
            table.add_row(std::iter::once(from.name.clone()).chain(row));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Center);
        }
        table
    }

    fn summary(&self) -> Table {
        let mut groups: BTreeMap<(PathKind, Protocol, bool), Vec<&Finding>> = BTreeMap::new();
        for finding in &self.findings {
            let key = (finding.path, finding.protocol, finding.address.is_ipv6());
            groups.entry(key).or_default().push(finding);
        }
        let mut table = empty_table();
        table.set_header(["path", "protocol", "family", "answered", "p50 µs", "worst µs"]);
        for ((path, protocol, v6), findings) in groups {
            let mut times: Vec<u64> = findings.iter().filter_map(|finding| finding.round_trip_us).collect();
            times.sort_unstable();
            let shown = |time: Option<&u64>| time.map_or("-".to_owned(), ToString::to_string);
            table.add_row([
                path.to_string(),
                protocol.to_string(),
                if v6 { "IPv6" } else { "IPv4" }.to_owned(),
                format!("{}/{}", times.len(), findings.len()),
                shown(times.get(times.len() / 2)),
                shown(times.last()),
            ]);
        }
        table
    }

    fn outside_line(&self) -> String {
        let good = self.outside.iter().filter(|finding| finding.unexpected.is_none()).count();
        format!("outside: {good} of {} pods and families as expected (masqueraded)", self.outside.len())
    }
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table
}

/// `41 / 44` over `tunnel`, or which protocols failed.
fn cell(findings: &[&Finding]) -> String {
    let failed: Vec<String> = PROTOCOLS
        .iter()
        .flat_map(|protocol| [(protocol, false), (protocol, true)])
        .filter(|(protocol, v6)| {
            findings.iter().any(|finding| {
                finding.protocol == **protocol && finding.address.is_ipv6() == *v6 && finding.round_trip_us.is_none()
            })
        })
        .map(|(protocol, v6)| format!("{protocol}{}", if v6 { "6" } else { "4" }))
        .collect();
    let mut paths: Vec<PathKind> = findings.iter().map(|finding| finding.path).collect();
    paths.sort_unstable();
    paths.dedup();
    let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    let wrong = if findings.iter().any(|finding| finding.unexpected.is_some()) { " !" } else { "" };
    let first = if failed.is_empty() {
        format!("{} / {}", family_median(findings, false), family_median(findings, true))
    } else if failed.len() == findings.len() {
        "no answer".to_owned()
    } else {
        format!("no {}", failed.join(" "))
    };
    format!("{first}\n{}{wrong}", paths.join("+"))
}

fn family_median(findings: &[&Finding], v6: bool) -> String {
    let of_family = findings.iter().filter(|finding| finding.address.is_ipv6() == v6);
    let mut times: Vec<u64> = of_family.filter_map(|finding| finding.round_trip_us).collect();
    times.sort_unstable();
    times.get(times.len() / 2).map_or("-".to_owned(), ToString::to_string)
}
