//! From the table to a speaker's configuration. Never a socket; passwords are read here and nowhere else.

use super::guard::guard;
use crate::compile::SESSION_PREFIX;
use crate::config::key_of;
use crate::table::Wanted;
use bgp_speaker::config::{Config, ConfigError, PeerConfig, PeerName, Refusal, Secret};
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::task::JoinError;

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
    /// It is a device or the like: such a file may never end, or never answer.
    #[error("password file {file} is no regular file; write the password into one")]
    Irregular {
        /// Which.
        file: String,
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
    #[error("{}: {}", key_of(.0.field), .0.why)]
    Refused(ConfigError),
    /// Peers cannot connect to us.
    #[error(
        "listens not at {address}: {why}; it has to be an address of this node (`listenAddresses`) with a free port (`port`)"
    )]
    Deaf {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        why: std::io::ErrorKind,
    },
    /// Nobody tells us of other nodes' blocks.
    #[error(
        "mode: other nodes are known, and there is to be a session with none of them: no node has the labels of a reflector"
    )]
    Alone,
}

impl LeftOut {
    /// One word, for monitors.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Irregular { .. } | Self::Length { .. } => "password-file",
            Self::Refused(_) => "conflict",
            Self::Deaf { .. } => "listen",
            Self::Alone => "no-reflector",
        }
    }
}

/// A peer or a range, as it is configured; or the speaker itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// A peer.
    Peer(PeerName),
    /// A range.
    Range(PeerName),
    /// All of it.
    Speaker,
}

impl Named {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Peer(name) | Self::Range(name) => name,
            Self::Speaker => "this node",
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(name) => write!(f, "peer {name}"),
            Self::Range(name) => write!(f, "range {name}"),
            Self::Speaker => f.write_str(self.name()),
        }
    }
}

/// What is not as it should be: left out, or as it was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) of: Named,
    /// Where the peer is, or the range.
    pub(crate) place: String,
    pub(crate) why: LeftOut,
    /// It runs as it was before.
    pub(crate) kept: bool,
}

impl Problem {
    /// What is wrong with the speaker itself.
    pub(super) fn of_speaker(why: LeftOut) -> Self {
        Self { of: Named::Speaker, place: String::new(), why, kept: false }
    }
}

/// Whether this node is to have sessions with others and has none: with no reflector among them nobody tells of a block.
pub(super) fn alone(wanted: &Wanted) -> Option<Problem> {
    let shall = wanted.ground.as_ref().is_some_and(|ground| ground.nodes_tell_blocks) && !wanted.nodes.is_empty();
    let has = wanted.sessions.keys().any(|name| name.starts_with(SESSION_PREFIX));
    (shall && !has).then(|| Problem::of_speaker(LeftOut::Alone))
}

/// Says them in the log.
pub(super) fn warn(problems: &[Problem]) {
    for Problem { of, why, .. } in problems {
        tracing::warn!(object = %of, problem = %why, "the BGP speaker goes on without, or as it was");
    }
}

/// Passwords by file, each file read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Passwords(BTreeMap<PathBuf, Result<Secret, LeftOut>>);

impl Passwords {
    /// Reads the files of all peers and ranges.
    ///
    /// # Errors
    /// The reading thread has ended with its runtime.
    pub(crate) async fn read(wanted: &Wanted) -> Result<Self, JoinError> {
        let files = Self::files(wanted);
        if files.is_empty() {
            return Ok(Self::default());
        }
        // Apart: a file system that does not answer holds up no session.
        tokio::task::spawn_blocking(move || Self::of(files)).await
    }

    fn files(wanted: &Wanted) -> BTreeSet<PathBuf> {
        let of_sessions = wanted.sessions.values().map(|session| &session.password_file);
        of_sessions.chain(wanted.ranges.values().map(|range| &range.password_file)).flatten().cloned().collect()
    }

    fn of(files: BTreeSet<PathBuf>) -> Self {
        let read = |file: PathBuf| {
            let password = password(&file);
            (file, password)
        };
        Self(files.into_iter().map(read).collect())
    }

    /// Whether there are none to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn given(&self, peer: &PeerConfig, file: Option<&PathBuf>) -> Result<PeerConfig, LeftOut> {
        let read = file.and_then(|file| self.0.get(file)).cloned().transpose()?;
        Ok(PeerConfig { password: read.or_else(|| peer.password.clone()), ..peer.clone() })
    }
}

/// Of two peers with one address the one that goes: what the store says of a node before what is configured, and what is new
/// before what runs.
fn fair(error: ConfigError, running: Option<&Config>) -> ConfigError {
    let (Some(name), Refusal::SameAddress { address, other }) = (error.at.strip_prefix("peer "), &error.why) else {
        return error;
    };
    let rank = |name: &str| {
        let before = running.and_then(|running| running.peers.get(name));
        let runs = before.is_some_and(|before| before.address.to_string() == *address);
        (name.starts_with(SESSION_PREFIX), !runs)
    };
    if rank(other) <= rank(name) {
        return error;
    }
    let why = Refusal::SameAddress { address: address.clone(), other: name.into() };
    ConfigError { at: format!("peer {other}"), field: error.field, why }
}

/// The configuration, and what had to be left out. Of peers that do not go together those that run stay.
pub(crate) fn config(
    wanted: &Wanted,
    passwords: &Passwords,
    running: Option<&Config>,
) -> Option<(Config, Vec<Problem>)> {
    let mut config = wanted.ground.as_ref()?.speaker.clone();
    let mut problems = Vec::new();
    for (name, session) in &wanted.sessions {
        match passwords.given(&session.config, session.password_file.as_ref()) {
            Ok(peer) => drop(config.peers.insert(name.clone(), peer)),
            Err(why) => {
                let place = session.config.address.to_string();
                problems.push(Problem { of: Named::Peer(name.clone()), place, why, kept: false });
            }
        }
    }
    for (name, range) in &wanted.ranges {
        match passwords.given(&range.config.template, range.password_file.as_ref()) {
            Ok(template) => {
                let mut range = range.config.clone();
                range.template = template;
                config.ranges.insert(name.clone(), range);
            }
            Err(why) => {
                let place = range.config.range.to_string();
                problems.push(Problem { of: Named::Range(name.clone()), place, why, kept: false });
            }
        }
    }
    guard(wanted, &mut config);
    while let Err(error) = config.check() {
        let error = fair(error, running);
        let peer = error.at.strip_prefix("peer ").and_then(|name| config.peers.remove_entry(name));
        let range = error.at.strip_prefix("range ").and_then(|name| config.ranges.remove_entry(name));
        let (of, place) = match (peer, range) {
            (Some((name, peer)), _) => (Named::Peer(name), peer.address.to_string()),
            (_, Some((name, range))) => (Named::Range(name), range.range.to_string()),
            // Of the speaker itself: it says so when it is given this.
            (None, None) => break,
        };
        problems.push(Problem { of, place, why: LeftOut::Refused(error), kept: false });
    }
    Some((config, problems))
}

/// What runs already goes on with the password that it has while its file cannot be used: a mount that is away for a
/// moment ends no session.
pub(crate) fn keep(problems: &mut [Problem], old: &Config, new: &mut Config) {
    for problem in problems {
        if matches!(problem.why, LeftOut::Refused(_)) {
            continue;
        }
        let mut with = new.clone();
        problem.kept = match &problem.of {
            Named::Peer(name) => {
                old.peers.get(name).map(|peer| with.peers.insert(name.clone(), peer.clone())).is_some()
            }
            Named::Range(name) => {
                old.ranges.get(name).map(|range| with.ranges.insert(name.clone(), range.clone())).is_some()
            }
            Named::Speaker => false,
        };
        problem.kept = problem.kept && with.check().is_ok();
        if problem.kept {
            *new = with;
        }
    }
}

/// The password in a file, without the line break at its end. Reads no more than a password has, and waits for nobody.
pub(crate) fn password(path: &Path) -> Result<Secret, LeftOut> {
    let file = path.display().to_string();
    let unreadable = |error: std::io::Error| LeftOut::Unreadable { file: file.clone(), why: error.kind() };
    // A FIFO without a writer would hold up the one who opens it otherwise.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| unreadable(error.into()))?;
    let opened = std::fs::File::from(opened);
    let metadata = opened.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(LeftOut::Irregular { file });
    }
    let mut text = Vec::new();
    // A line break, and one byte to see that there is more.
    opened.take(Secret::MOST_BYTES as u64 + 2).read_to_end(&mut text).map_err(unreadable)?;
    let password = text.strip_suffix(b"\n").unwrap_or(&text);
    let bytes = password.len().max(usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_sub(1));
    Secret::new(password).ok_or(LeftOut::Length { file, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config as Section;
    use crate::object::{FarEnd, Ground, Secured};
    use bgp_speaker::config::PeerAddress;
    use bgp_speaker::types::{Asn, RouterId};
    use cni_core::model::Encapsulation;

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_password_and_a_bad_file_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, "geheim\n").unwrap();
        assert_eq!(&**password(&file).unwrap().reveal(), b"geheim");
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(password(&file), Err(LeftOut::Length { bytes: 0, .. })));
        assert!(matches!(password(&directory.path().join("none")), Err(LeftOut::Unreadable { .. })));
    }

    #[test]
    fn a_password_file_that_never_ends_or_never_answers_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let irregular = [fifo, "/dev/null".into(), directory.path().to_owned()];
        std::thread::spawn(move || irregular.iter().for_each(|path| drop(tell.send(password(path)))));
        for _ in 0..3 {
            let answer = told.recv_timeout(testlab::patience::stretched(std::time::Duration::from_secs(10))).unwrap();
            assert!(matches!(answer, Err(LeftOut::Irregular { .. })), "{answer:?}");
        }
        // Larger than what a machine has; its length is known without a read.
        let large = directory.path().join("large");
        std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(password(&large), Err(LeftOut::Length { bytes, .. }) if bytes >= 1 << 39));
    }

    fn read(wanted: &Wanted) -> (Config, Vec<Problem>) {
        config(wanted, &Passwords::of(Passwords::files(wanted)), None).unwrap()
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
    fn a_node_that_no_reflector_serves_is_told_of() {
        let mut alone_among = wanted(&[]);
        assert!(alone(&alone_among).is_none(), "the only node");
        let outer = "192.0.2.2".parse().unwrap();
        alone_among.nodes.insert(outer, FarEnd { outer, neighbour: std::net::Ipv6Addr::LOCALHOST });
        let told = alone(&alone_among).unwrap();
        assert_eq!((told.of.name(), told.why.kind()), ("this node", "no-reflector"));
        let served = wanted(&[("node/node-2", "192.0.2.2", None)]);
        let served = Wanted { nodes: alone_among.nodes.clone(), ..served };
        assert!(alone(&served).is_none());
    }

    #[test]
    fn a_peer_that_does_not_go_with_another_is_left_out_and_ends_no_other_session() {
        let peers = [("node/b", "192.0.2.2", None), ("tor", "192.0.2.2", None), ("uplink", "192.0.2.3", None)];
        let (config, problems) = read(&wanted(&peers));
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.peers.keys().map(|name| &**name).collect::<Vec<_>>(), ["tor", "uplink"]);
        let Problem { of, place, why, .. } = &problems[0];
        assert_eq!((of.to_string().as_str(), place.as_str()), ("peer node/b", "192.0.2.2"));
        assert!(why.to_string().starts_with("address: 192.0.2.2 is also that of peer tor"), "{why}");
    }

    #[test]
    fn a_node_that_claims_the_address_of_another_takes_no_session_over() {
        let (running, _) = read(&wanted(&[("node/b", "192.0.2.2", None)]));
        for newcomer in ["node/a", "node/c"] {
            let both = wanted(&[("node/b", "192.0.2.2", None), (newcomer, "192.0.2.2", None)]);
            let (config, problems) = config(&both, &Passwords::default(), Some(&running)).unwrap();
            assert_eq!(config.peers, running.peers, "{newcomer}");
            assert_eq!(problems[0].of.name(), newcomer);
        }
        // Where nothing runs yet the first by name counts.
        let (config, _) = read(&wanted(&[("node/b", "192.0.2.2", None), ("node/a", "192.0.2.2", None)]));
        assert_eq!(config.peers.keys().map(|name| &**name).collect::<Vec<_>>(), ["node/a"]);
    }

    #[test]
    fn a_password_file_that_goes_away_ends_no_session_that_has_the_password() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, "geheim").unwrap();
        let wanted = wanted(&[("tor", "192.0.2.254", Some(&file))]);
        let (old, _) = read(&wanted);
        std::fs::remove_file(&file).unwrap();
        let (mut new, mut problems) = read(&wanted);
        assert!(new.peers.is_empty());
        keep(&mut problems, &old, &mut new);
        assert_eq!(new, old);
        assert!(problems[0].kept);
    }
}
