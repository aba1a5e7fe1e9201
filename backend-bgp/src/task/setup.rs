//! From the table to a speaker's configuration. Never a socket; passwords are read here and nowhere else.

use super::guard::guard;
use crate::table::Wanted;
use bgp_speaker::config::{Config, ConfigError, PeerConfig, Secret};
use std::path::Path;

/// Why a peer or a range is left out: without its password the peer would refuse the session, and a speaker that takes
/// nothing because of one peer would serve none of the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeftOut {
    /// The file can't be read.
    #[error("password file {file}: {why}")]
    Unreadable {
        /// Which.
        file: String,
        /// What the kernel said.
        why: std::io::ErrorKind,
    },
    /// It has no password that TCP MD5 takes.
    #[error("password file {file} has {bytes} bytes; a password has 1 to {}", Secret::MOST_BYTES)]
    Length {
        /// Which.
        file: String,
        /// So many, without the line break at the end.
        bytes: usize,
    },
    /// It does not go with this node or with another peer: what only the labels of this node bring together.
    #[error("{}: {}", .0.field, .0.why)]
    Refused(ConfigError),
}

/// The configuration, and what had to be left out.
pub(crate) fn config(wanted: &Wanted) -> Option<(Config, Vec<(String, LeftOut)>)> {
    let mut config = wanted.ground.as_ref()?.speaker.clone();
    let mut problems = Vec::new();
    for (name, session) in &wanted.sessions {
        match with_password(&session.config, session.password_file.as_deref()) {
            Ok(peer) => drop(config.peers.insert(name.clone(), peer)),
            Err(problem) => problems.push((format!("peer {name}"), problem)),
        }
    }
    for (name, range) in &wanted.ranges {
        match with_password(&range.config.template, range.password_file.as_deref()) {
            Ok(template) => {
                let mut range = range.config.clone();
                range.template = template;
                config.ranges.insert(name.clone(), range);
            }
            Err(problem) => problems.push((format!("range {name}"), problem)),
        }
    }
    guard(wanted, &mut config);
    while let Err(error) = config.check() {
        let peer = error.at.strip_prefix("peer ").and_then(|name| config.peers.remove(name)).is_some();
        let range = error.at.strip_prefix("range ").and_then(|name| config.ranges.remove(name)).is_some();
        if !(peer || range) {
            // Of the speaker itself: it says so when it is given this.
            break;
        }
        problems.push((error.at.clone(), LeftOut::Refused(error)));
    }
    Some((config, problems))
}

/// What runs already goes on with the password that it has while its file cannot be used: a mount that is away for a
/// moment ends no session.
pub(crate) fn keep(problems: &[(String, LeftOut)], old: &Config, new: &mut Config) {
    for (object, problem) in problems {
        if matches!(problem, LeftOut::Refused(_)) {
            continue;
        }
        let mut kept = new.clone();
        if let Some((name, peer)) = object.strip_prefix("peer ").and_then(|name| old.peers.get_key_value(name)) {
            kept.peers.insert(name.clone(), peer.clone());
        }
        if let Some((name, range)) = object.strip_prefix("range ").and_then(|name| old.ranges.get_key_value(name)) {
            kept.ranges.insert(name.clone(), range.clone());
        }
        if kept.check().is_ok() {
            *new = kept;
        }
    }
}

fn with_password(peer: &PeerConfig, file: Option<&Path>) -> Result<PeerConfig, LeftOut> {
    let password = password(file)?.or_else(|| peer.password.clone());
    Ok(PeerConfig { password, ..peer.clone() })
}

/// The password in a file, without the line break at its end; `None` without a file.
pub(crate) fn password(file: Option<&Path>) -> Result<Option<Secret>, LeftOut> {
    let Some(path) = file else { return Ok(None) };
    let file = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| LeftOut::Unreadable { file: file.clone(), why: error.kind() })?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let password = Secret::new(text).ok_or(LeftOut::Length { file, bytes: text.len() })?;
    Ok(Some(password))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config as Section;
    use crate::object::{Ground, Secured};
    use bgp_speaker::config::PeerAddress;
    use bgp_speaker::types::{Asn, RouterId};
    use cni_core::model::Encapsulation;

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_password_and_a_bad_file_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let peer = Section::default().session.config;
        std::fs::write(&file, "geheim\n").unwrap();
        let found = with_password(&peer, Some(&file)).unwrap();
        assert_eq!(&**found.password.unwrap().reveal(), b"geheim");
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(with_password(&peer, Some(&file)), Err(LeftOut::Length { bytes: 0, .. })));
        let missing = directory.path().join("none");
        assert!(matches!(with_password(&peer, Some(&missing)), Err(LeftOut::Unreadable { .. })));
    }

    fn wanted(peers: &[(&str, &str, Option<&Path>)]) -> Wanted {
        let mut wanted = Wanted::default();
        let speaker = Config::new(Asn::new(64_512).unwrap(), RouterId::new([192, 0, 2, 1].into()).unwrap());
        wanted.ground = Some(Ground {
            speaker,
            encapsulation: Encapsulation::Never,
            tunnel: None,
            segments: Vec::new(),
            nodes_tell_blocks: true,
        });
        for (name, address, file) in peers {
            let address = PeerAddress::Ip(address.parse().unwrap());
            let config = PeerConfig { address, ..Section::default().session.config };
            let session = Secured { config, password_file: file.map(Path::to_owned) };
            wanted.sessions.insert((*name).into(), session);
        }
        wanted
    }

    #[test]
    fn a_peer_that_does_not_go_with_another_is_left_out_and_ends_no_other_session() {
        let peers = [("node/b", "192.0.2.2", None), ("tor", "192.0.2.2", None), ("uplink", "192.0.2.3", None)];
        let (config, problems) = config(&wanted(&peers)).unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.peers.keys().map(|name| &**name).collect::<Vec<_>>(), ["node/b", "uplink"]);
        let (object, problem) = &problems[0];
        assert_eq!(object, "peer tor");
        assert!(problem.to_string().starts_with("address: 192.0.2.2 is also that of peer node/b"), "{problem}");
    }

    #[test]
    fn a_password_file_that_goes_away_ends_no_session_that_has_the_password() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, "geheim").unwrap();
        let wanted = wanted(&[("tor", "192.0.2.254", Some(&file))]);
        let (old, _) = config(&wanted).unwrap();
        std::fs::remove_file(&file).unwrap();
        let (mut new, problems) = config(&wanted).unwrap();
        assert!(new.peers.is_empty());
        keep(&problems, &old, &mut new);
        assert_eq!(new, old);
    }
}
