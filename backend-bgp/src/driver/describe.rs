//! What a write means, for the reader of a dry run. Never writes, and reads nothing but files with passwords.

use crate::compile::Compiler;
use crate::object::{Ground, Object, Secured};
use crate::task::setup;
use bgp_speaker::config::PeerConfig;
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
        (Some(Object::Range(_)), Some(Object::Range(is))) => {
            format!("peers from {} are let in otherwise; their sessions end", is.config.range)
        }
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

/// What peers are told with a prefix.
fn announced(what: &Origination) -> String {
    let standard = what.communities.iter().map(ToString::to_string);
    let with: Vec<String> = standard.chain(what.large.iter().map(ToString::to_string)).collect();
    if with.is_empty() { "told to peers".to_owned() } else { format!("told to peers with {}", with.join(" ")) }
}
