//! `cnidarian policy counters`: what the agent's engine counted, for people. Never resets a counter.

use crate::Ask;
use crate::client::{self, AskError};
use crate::show::table;
use cni_core::policy::counters::RuleCounter;
use cni_core::rpc::Call;
use comfy_table::{CellAlignment, Table};

pub(super) fn run(ask: &Ask, all: bool) -> Result<bool, AskError> {
    let value = client::ask(&ask.socket, Call::PolicyCounters)?;
    let mut counters: Vec<RuleCounter> = serde_json::from_value(value)?;
    counters.retain(|counter| all || counter.packets > 0);
    if ask.json {
        println!("{}", serde_json::to_string_pretty(&counters)?);
        return Ok(true);
    }
    let (staged, decided): (Vec<_>, Vec<_>) = counters.into_iter().partition(|counter| counter.staged);
    println!("{}", rows(&decided));
    if !staged.is_empty() {
        println!("\nwith staged policies it would be\n{}", rows(&staged));
    }
    Ok(true)
}

fn rows(counters: &[RuleCounter]) -> Table {
    let mut rows = table(&["TIER", "POLICY", "DIRECTION", "RULE", "POD", "ACTION", "PACKETS", "BYTES"]);
    for counter in counters {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        rows.add_row([
            text(&counter.tier),
            text(&counter.policy),
            counter.direction.map_or_else(|| "-".to_owned(), |direction| direction.to_string()),
            counter.rule.clone(),
            text(&counter.pod.clone().or_else(|| counter.interface.clone())),
            counter.action.to_string(),
            counter.packets.to_string(),
            counter.bytes.to_string(),
        ]);
    }
    for column in rows.column_iter_mut().skip(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    rows
}
