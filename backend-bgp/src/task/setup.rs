//! From the table to a speaker's configuration. Never a socket; passwords are read here and nowhere else.

use crate::table::Wanted;
use bgp_speaker::config::{Config, PeerConfig, Secret};
use std::path::Path;

/// A password that cannot be used. Its peer is left out: it would refuse the session without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordProblem {
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
}

/// The configuration, and what had to be left out.
pub(crate) fn config(wanted: &Wanted) -> Option<(Config, Vec<(String, PasswordProblem)>)> {
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
    Some((config, problems))
}

fn with_password(peer: &PeerConfig, file: Option<&Path>) -> Result<PeerConfig, PasswordProblem> {
    let Some(path) = file else { return Ok(peer.clone()) };
    let file = path.display().to_string();
    let text =
        std::fs::read(path).map_err(|error| PasswordProblem::Unreadable { file: file.clone(), why: error.kind() })?;
    let text = text.strip_suffix(b"\n").unwrap_or(&text);
    let password = Secret::new(text).ok_or(PasswordProblem::Length { file, bytes: text.len() })?;
    Ok(PeerConfig { password: Some(password), ..peer.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config as Section;

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_password_and_a_bad_file_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let peer = Section::default().session.config;
        std::fs::write(&file, "geheim\n").unwrap();
        let found = with_password(&peer, Some(&file)).unwrap();
        assert_eq!(&**found.password.unwrap().reveal(), b"geheim");
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(with_password(&peer, Some(&file)), Err(PasswordProblem::Length { bytes: 0, .. })));
        let missing = directory.path().join("none");
        assert!(matches!(with_password(&peer, Some(&missing)), Err(PasswordProblem::Unreadable { .. })));
    }
}
