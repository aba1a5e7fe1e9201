//! What a write means, for the reader of a dry run. Never writes, and reads nothing but files with passwords.

use crate::compile::Compiler;
use crate::object::{Ground, Object, Secured};
use crate::task::setup;
use bgp_speaker::config::{ListenRange, PeerConfig};
use bgp_speaker::speaker::{Effect, Origination};
use std::path::Path;

/// From what to what, on the node of this compiler.
pub(super) fn describe(compiler: &Compiler, from: Option<&Object>, to: Option<&Object>) -> String {
    match (from, to) {
        (Some(Object::Speaker(was)), Some(Object::Speaker(is))) => of_speaker(was, is),
        (None, Some(Object::Speaker(is))) => format!("a speaker of system {} begins", is.speaker.asn),
        (Some(Object::Session(was)), Some(Object::Session(is))) => of_session(compiler, was, is),
        (None, Some(Object::Session(is))) => format!("a session with {} begins", is.config.address),
        (Some(Object::Session(was)), None) => {
            format!("the session with {} ends, and its routes go", was.config.address)
        }
        (None, Some(Object::Range(is))) => format!("peers from {} are let in", is.config.range),
        (Some(Object::Range(was)), Some(Object::Range(is))) => of_range(compiler, was, is),
        (Some(Object::Range(was)), None) => format!("peers from {} are let in no more", was.config.range),
        (_, Some(Object::Announcement(is))) => announced(is),
        (Some(Object::Announcement(_)), None) => "told to peers no more".to_owned(),
        (Some(from), Some(to)) => format!("{from:?} -> {to:?}"),
        (None, Some(object)) | (Some(object), None) => format!("{object:?}"),
        (None, None) => "unknown".to_owned(),
    }
}

/// What a change of the speaker itself does.
fn of_speaker(was: &Ground, is: &Ground) -> String {
    let (old, new) = (&was.speaker, &is.speaker);
    let resets = [("asn", old.asn != new.asn), ("routerId", old.router_id != new.router_id)];
    match resets.into_iter().find(|(_, differs)| *differs) {
        Some((key, _)) => format!("all sessions reset: {key} is agreed on when a session begins"),
        None if old.restart != new.restart => {
            format!("{}; gracefulRestart is told to peers when a session begins", Effect::Live)
        }
        None => Effect::Live.to_string(),
    }
}

/// What a change of a peer does to its session.
fn of_session(compiler: &Compiler, was: &Secured<PeerConfig>, is: &Secured<PeerConfig>) -> String {
    let read = |file: &Option<_>| file.as_deref().map(|file: &Path| setup::password(file).ok());
    if was.password_file != is.password_file && read(&was.password_file) != read(&is.password_file) {
        return Effect::Reset { because: "password" }.to_string();
    }
    Effect::of(&compiler.speaker(), &was.config, &is.config).to_string()
}

/// What a change of a range does to the sessions from it.
fn of_range(compiler: &Compiler, was: &Secured<ListenRange>, is: &Secured<ListenRange>) -> String {
    let template = |range: &Secured<ListenRange>| Secured {
        config: range.config.template.clone(),
        password_file: range.password_file.clone(),
    };
    let effect = of_session(compiler, &template(was), &template(is));
    let (from, before) = (is.config.range, was.config.range);
    let others = if from == before { String::new() } else { format!("; sessions from elsewhere in {before} end") };
    format!("peers from {from}: {effect}{others}")
}

/// What peers are told with a prefix.
fn announced(what: &Origination) -> String {
    let standard = what.communities.iter().map(ToString::to_string);
    let with: Vec<String> = standard.chain(what.large.iter().map(ToString::to_string)).collect();
    if with.is_empty() { "told to peers".to_owned() } else { format!("told to peers with {}", with.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use cni_core::backend::Capabilities;
    use cni_core::model::{InterfaceName, NodeContext, NodeName, Underlay};
    use serde_json::json;

    fn compiler(range: serde_json::Value) -> Compiler {
        let underlay = Underlay {
            interface: InterfaceName::new("eth0").unwrap(),
            index: 2,
            mtu_bytes: 1500,
            v4: Some("192.0.2.1/24".parse().unwrap()),
            v6: None,
        };
        let name = NodeName::new("node-1").unwrap();
        let node = NodeContext { name, labels: Default::default(), underlay, masquerade: None };
        let config = Config::from_json(&json!({ "listenRanges": [range] })).unwrap();
        Compiler::new(&config, &node, &Capabilities::default()).unwrap()
    }

    #[test]
    fn a_range_that_lets_in_more_ends_no_session_and_one_that_moves_says_which() {
        let range = |range: &str, limit: u32, session: serde_json::Value| json!({ "name": "vms", "range": range, "asn": 65003, "limit": limit, "session": session });
        let object = |range: serde_json::Value| {
            let objects = compiler(range).base();
            objects.into_iter().find(|(_, object)| matches!(object, Object::Range(_))).unwrap().1
        };
        let was = range("198.51.100.0/24", 5, json!({}));
        let said =
            |is: serde_json::Value| describe(&compiler(is.clone()), Some(&object(was.clone())), Some(&object(is)));
        assert_eq!(said(range("198.51.100.0/24", 9, json!({}))), "peers from 198.51.100.0/24: applied live");
        let resets = "peers from 198.51.100.0/24: session resets: ttl is agreed on when a session begins";
        assert_eq!(said(range("198.51.100.0/24", 5, json!({ "gtsm": 1 }))), resets);
        let moved = "peers from 198.51.100.0/25: applied live; sessions from elsewhere in 198.51.100.0/24 end";
        assert_eq!(said(range("198.51.100.0/25", 5, json!({}))), moved);
    }
}
