//! `cnidarian policy matrix`. Never a row for what is like the row above: pods that nobody can tell apart are one.

use super::error::PolicyError;
use super::party::traffic;
use super::{load, reach, text};
use cni_core::policy::evaluate::{Evaluator, Party, PortChoice, Question, TrafficClass, traffic_classes};
use cni_core::policy::model::{PortRange, Protocol, Workload};
use cni_core::policy::world::World;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What is asked of each pair.
enum Asked {
    /// Everything that policies tell apart.
    Classes(Vec<TrafficClass>),
    /// These, each by number or by a name of the destination's.
    Chosen(Vec<(PortChoice, Protocol)>),
}

/// Rows of equal answers.
struct Row {
    pods: Vec<String>,
    cells: Vec<String>,
}

pub(super) fn run(
    files: &[PathBuf],
    ports: &[String],
    namespaces: &[String],
    as_json: bool,
) -> Result<bool, PolicyError> {
    let loaded = load::manifests(files)?;
    let world = &loaded.world;
    let question = if ports.is_empty() {
        Asked::Classes(traffic_classes(&[world]))
    } else {
        Asked::Chosen(ports.iter().map(|text| traffic(text)).collect::<Result<_, _>>()?)
    };
    let pods = reach::pods(world, namespaces);
    reach::bounded(pods.len())?;
    let evaluator = Evaluator::new(world);
    let outside = Party::Address([203, 0, 113, 77].into());
    let mut columns: Vec<(String, Party)> = pods.iter().map(|pod| named(pod)).collect();
    columns.push(("outside".to_owned(), outside.clone()));
    let mut rows = Vec::new();
    for (name, from) in &columns {
        let cells = columns.iter().map(|(to_name, to)| {
            if *from == *to && *from == outside {
                return Ok(None);
            }
            let answer = cell(&evaluator, world, &question, from, to)?;
            Ok(Some((to_name, answer)))
        });
        rows.push((name, cells.collect::<Result<Vec<_>, PolicyError>>()?));
    }
    if as_json {
        let value = |(from, cells): &(&String, Vec<Option<(&String, Answer)>>)| -> Vec<Value> {
            let cells = cells.iter().flatten();
            cells.map(|(to, answer)| json!({"from": from, "to": to, "allowed": answer.list})).collect()
        };
        let pairs: Vec<Value> = rows.iter().flat_map(value).collect();
        println!("{}", serde_json::to_string_pretty(&json!({"pairs": pairs}))?);
        return Ok(true);
    }
    loaded.warn();
    let text =
        |cell: &Option<(&String, Answer)>| cell.as_ref().map_or_else(String::new, |(_, answer)| answer.text.clone());
    print(
        rows.iter().map(|(name, cells)| Row { pods: vec![(*name).clone()], cells: cells.iter().map(text).collect() }),
    );
    Ok(true)
}

fn named(pod: &Workload) -> (String, Party) {
    let party = Party::Workload(pod.id.clone());
    (party.to_string(), party)
}

struct Answer {
    text: String,
    list: Vec<String>,
}

fn cell(
    evaluator: &Evaluator<'_>,
    world: &World,
    asked: &Asked,
    from: &Party,
    to: &Party,
) -> Result<Answer, PolicyError> {
    let (found, all): (Vec<TrafficClass>, usize) = match asked {
        Asked::Classes(classes) => {
            let all = reach::between(classes, world, from, to);
            (reach::allowed(evaluator, from, to, &all)?, all.len())
        }
        Asked::Chosen(chosen) => {
            let mut found = Vec::new();
            for (port, protocol) in chosen {
                let (from, to, port) = (from.clone(), to.clone(), port.clone());
                // A destination without a port of that name is reached on none.
                let Ok(connection) = (Question { from, to, protocol: *protocol, port }).connection(world) else {
                    continue;
                };
                if evaluator.decide(&connection)?.allowed() {
                    let ports = connection.destination_port.map_or(TrafficClass::ALL_PORTS, PortRange::one);
                    found.push(TrafficClass { protocol: connection.protocol, ports });
                }
            }
            (found, chosen.len())
        }
    };
    let list = found.iter().map(text::class).collect();
    let text = match found.len() {
        0 => "-".to_owned(),
        some if some == all => "yes".to_owned(),
        _ => joined(&found),
    };
    Ok(Answer { text, list })
}

fn joined(found: &[TrafficClass]) -> String {
    text::classes(found, &[])
}

/// Prints rows, those of equal cells as one; columns likewise.
fn print(rows: impl Iterator<Item = Row>) {
    let rows: Vec<Row> = rows.collect();
    let names: Vec<String> = rows.iter().flat_map(|row| row.pods.clone()).collect();
    // Columns with the same answers in every row are one column.
    let column = |index: usize| rows.iter().map(|row| row.cells[index].clone()).collect::<Vec<_>>();
    let mut columns: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let cells = column(index);
        match columns.iter_mut().find(|(_, known)| *known == cells) {
            Some((together, _)) => together.push(name.clone()),
            None => columns.push((vec![name.clone()], cells)),
        }
    }
    let mut lines: Vec<Row> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|(_, cells)| cells[index].clone()).collect();
        match lines.iter_mut().find(|line| line.cells == cells) {
            Some(line) => line.pods.push(name.clone()),
            None => lines.push(Row { pods: vec![name.clone()], cells }),
        }
    }
    let mut table = Table::new();
    let head = |names: &[String]| names.join("\n");
    table.load_style(presets::UTF8_FULL);
    let corner = "from \\ to".to_owned();
    table.set_header(std::iter::once(corner).chain(columns.iter().map(|(names, _)| head(names))));
    for line in &lines {
        table.add_row(std::iter::once(head(&line.pods)).chain(line.cells.iter().cloned()));
    }
    println!("{table}");
    println!("yes: all that was asked; -: nothing of it");
}
