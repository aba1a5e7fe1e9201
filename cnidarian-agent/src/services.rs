//! `cnidarian services`: frontends and backends as the agent sees them, for people. Never changes one.

use crate::client::AskError;
use crate::show::table;
use cnidarian::ServiceStatus;

pub(crate) fn run(value: serde_json::Value, json: bool) -> Result<bool, AskError> {
    if json {
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(true);
    }
    let services: Vec<ServiceStatus> = serde_json::from_value(value)?;
    let mut rows = table(&["SERVICE", "PORT", "KIND", "FRONTEND", "SCHEDULER", "BACKENDS"]);
    for service in &services {
        let backends = service.backends.iter().map(|backend| {
            let going = if backend.state == "active" { "" } else { " (draining)" };
            format!("{}{going}", backend.address)
        });
        let backends: Vec<String> = backends.collect();
        rows.add_row([
            service.service.clone(),
            if service.port_name.is_empty() { "-".to_owned() } else { service.port_name.clone() },
            service.kind.clone(),
            format!("{}/{}", service.frontend, service.protocol),
            service.scheduler.clone(),
            if backends.is_empty() { "none: refused".to_owned() } else { backends.join(", ") },
        ]);
    }
    println!("{rows}");
    Ok(true)
}
