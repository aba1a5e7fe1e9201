//! What the model of services costs on one node: everything at once, one endpoint slice, one service; and bytes. Without a
//! proxy, so the kernel's share is not in here.
//!
//! `cargo run --release -p benches --bin services`
#![forbid(unsafe_code)]

use benches::stats::{Table, millis, quantile};
use cni_core::service::{ServiceSettings, ServiceTable};
use cni_core::store::Object;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

type AnyError = Box<dyn std::error::Error>;

const SAMPLES: usize = 2_000;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Size {
    services: usize,
    endpoints_each: usize,
    nodes: usize,
}

/// A row's name and its size.
const ROWS: &[(&str, Size)] = &[
    ("1,000 services x 10 endpoints", Size { services: 1_000, endpoints_each: 10, nodes: 100 }),
    ("10,000 services x 10 endpoints", Size { services: 10_000, endpoints_each: 10, nodes: 1_000 }),
    ("100 services x 1,000 endpoints", Size { services: 100, endpoints_each: 1_000, nodes: 1_000 }),
];

/// A service of two ports, as Helm writes them: every tenth with a node port, every twentieth of a load balancer.
fn service(number: usize) -> Result<Object, AnyError> {
    let (node_port, balanced) = (number.is_multiple_of(10), number.is_multiple_of(20));
    let mut port = json!({"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"});
    if node_port && number / 10 < 2_000 {
        port["nodePort"] = json!(30_000 + number / 10);
    }
    let kind = if balanced {
        "LoadBalancer"
    } else if node_port {
        "NodePort"
    } else {
        "ClusterIP"
    };
    let address = format!("10.{}.{}.{}", 96 + number / 60_000, number / 250 % 250, number % 250 + 1);
    let mut value = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("app-{number}"), "namespace": format!("team-{}", number / 20),
            "creationTimestamp": "2025-01-01T00:00:00Z", "labels": {"app.kubernetes.io/name": format!("app-{number}")}},
        "spec": {"type": kind, "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "selector": {"app.kubernetes.io/name": format!("app-{number}")}, "ports": [port]}});
    if balanced {
        let ingress = format!("203.0.{}.{}", number / 20 / 250, number / 20 % 250 + 1);
        value["status"] = json!({"loadBalancer": {"ingress": [{"ip": ingress, "ipMode": "VIP"}]}});
    }
    Ok(Object::from_value(value)?)
}

/// A slice of a service with one of its endpoints in another state.
fn slice(size: Size, number: usize, unready: Option<usize>) -> Result<Object, AnyError> {
    let endpoint = |index: usize| -> Value {
        let pod = number * size.endpoints_each + index;
        let ready = unready != Some(index);
        json!({"addresses": [format!("10.{}.{}.{}", pod / 62_500 + 1, pod / 250 % 250, pod % 250 + 1)],
            "conditions": {"ready": ready, "serving": ready, "terminating": false},
            "nodeName": format!("node-{}", pod % size.nodes), "zone": format!("zone-{}", pod % size.nodes % 3),
            "targetRef": {"kind": "Pod", "namespace": format!("team-{}", number / 20), "name": format!("app-{number}-{index}")}})
    };
    let endpoints: Vec<Value> = (0..size.endpoints_each).map(endpoint).collect();
    Ok(Object::from_value(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("app-{number}-x7k2p"), "namespace": format!("team-{}", number / 20),
            "labels": {"kubernetes.io/service-name": format!("app-{number}")}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))?)
}

fn own_node() -> Result<Object, AnyError> {
    Ok(Object::from_value(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node-0", "labels": {"topology.kubernetes.io/zone": "zone-0"}},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}))?)
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

/// What this thread had of a processor so far: on a busy machine the clock says little.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}

/// Times of changes with the drain after each.
fn changes(table: &mut ServiceTable, objects: &[Object]) -> (String, usize) {
    let (mut times, mut items): (Vec<Duration>, usize) = (Vec::with_capacity(objects.len()), 0);
    for object in objects {
        let start = Instant::now();
        table.put(object);
        let told = table.drain();
        times.push(start.elapsed());
        items = items.max(told.len());
    }
    let micros = |share| quantile(&times, share).as_secs_f64() * 1e6;
    (format!("{:.1} / {:.1} µs, ≤ {items} items", micros(0.5), micros(0.99)), items)
}

/// One row, in a process of its own: memory that another size left behind would count as ours.
fn measure(size: Size) -> Result<Vec<String>, AnyError> {
    let services: Vec<Object> = (0..size.services).map(service).collect::<Result<_, _>>()?;
    let slices: Vec<Object> = (0..size.services).map(|number| slice(size, number, None)).collect::<Result<_, _>>()?;
    let input = resident_bytes();
    let mut table = ServiceTable::new("node-0", ServiceSettings::default());
    table.set_pod_prefixes(&["10.0.0.0/8".parse()?]);
    let (start, began) = (Instant::now(), processor_time());
    table.put(&own_node()?);
    for object in services.iter().chain(&slices) {
        table.put(object);
    }
    let told = table.drain();
    let (cold, busy) = (start.elapsed(), processor_time() - began);
    let items = told.len();
    drop(told);
    let bytes = resident_bytes() - input;
    assert!(table.problems().is_empty(), "{:?}", table.problems().first());
    let endpoints = size.services * size.endpoints_each;
    let other = |sample: usize| {
        let number = (sample / 2 * 7_919) % size.services;
        let unready = sample.is_multiple_of(2).then_some(sample / 2 % size.endpoints_each);
        slice(size, number, unready)
    };
    let slices: Vec<Object> = (0..SAMPLES).map(other).collect::<Result<_, _>>()?;
    let (slice_cell, told) = changes(&mut table, &slices);
    assert!((1..=3).contains(&told), "{told} items of one slice: a service has three frontends at most here");
    let rescheduled = |sample: usize| -> Result<Object, AnyError> {
        let mut object = service((sample / 2 * 7_919) % size.services)?;
        if sample.is_multiple_of(2) {
            object.metadata.annotations.insert("cnidarian.io/scheduler".to_owned(), "lc".to_owned());
        }
        Ok(object)
    };
    let services: Vec<Object> = (0..SAMPLES).map(rescheduled).collect::<Result<_, _>>()?;
    let (service_cell, _) = changes(&mut table, &services);
    Ok(vec![
        format!("{items}"),
        format!("{} / {}", millis(cold), millis(busy)),
        format!("{:.1}", bytes / 1e6),
        format!("{:.0}", bytes / endpoints as f64),
        slice_cell,
        service_cell,
    ])
}

fn main() -> Result<(), AnyError> {
    if let Some(row) = std::env::args().nth(1) {
        let (_, size) = ROWS[row.parse::<usize>()?];
        println!("{}", measure(size)?.join("\t"));
        return Ok(());
    }
    let columns = [
        "",
        "items",
        "cold, ms by the clock / of the processor",
        "MB",
        "bytes per endpoint",
        "one slice (p50 / p99)",
        "one service",
    ];
    let mut table = Table::new(&columns);
    for (index, (name, _)) in ROWS.iter().enumerate() {
        let output = std::process::Command::new(std::env::current_exe()?).arg(index.to_string()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let cells = String::from_utf8(output.stdout)?;
        let row: Vec<String> = std::iter::once(*name).chain(cells.trim_end().split('\t')).map(str::to_owned).collect();
        table.row(&row);
    }
    println!("{table}");
    Ok(())
}
