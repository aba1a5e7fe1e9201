//! Listeners, their keys, and who comes in. Never decides who may stay: that is the core's.

use super::connection::{Connection, Phase};
use super::driver::Driver;
use super::poller::{Interest, Token};
use super::{Core, Guard, Host, Listener, Setup, SetupError, Trouble, sockopt, tcp};
use crate::speaker::{ConnId, Input};
use ipnet::IpNet;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After an error such as too many open files.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections of one listener that are accepted before others have their turn.
const TURN: usize = 64;

/// The keys of one listener, by prefix.
type Keys = BTreeMap<IpNet, Arc<[u8]>>;

#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: u64,
    wish: Listener,
    socket: TcpListener,
    keys: Keys,
}

/// Which guard holds for a connection.
fn guard_of(guards: &[Guard], remote: IpAddr, interface: Option<&str>) -> Option<Guard> {
    let fits = |guard: &&Guard| {
        guard.remote.contains(&remote) && guard.interface.as_deref().is_none_or(|name| interface == Some(name))
    };
    guards.iter().filter(fits).max_by_key(|guard| (guard.remote.prefix_len(), guard.interface.is_some())).cloned()
}

/// The keys that a listener needs.
fn keys_of(wish: &Listener, guards: &[Guard]) -> Result<Keys, SetupError> {
    let mut keys = Keys::new();
    for guard in guards {
        let remote = guard.remote.trunc();
        let heard = match (&guard.interface, &wish.interface) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        };
        let Some(password) = guard.password.as_ref().filter(|_| heard && same_family(remote, wish.address)) else {
            continue;
        };
        if password.is_empty() || password.len() > sockopt::LONGEST_KEY_BYTES {
            return Err(SetupError::KeyLength { remote, bytes: password.len() });
        }
        if let Some(other) = keys.insert(remote, Arc::clone(password))
            && other != *password
        {
            return Err(SetupError::TwoKeys { remote, address: wish.address });
        }
    }
    Ok(keys)
}

const fn same_family(prefix: IpNet, address: SocketAddr) -> bool {
    matches!((prefix, address), (IpNet::V4(_), SocketAddr::V4(_)) | (IpNet::V6(_), SocketAddr::V6(_)))
}

impl Open {
    fn new(wish: &Listener, id: u64, keys: Keys) -> Result<Self, SetupError> {
        let failed = |source| SetupError::Listen { address: wish.address, interface: wish.interface.clone(), source };
        let socket = tcp::listen(wish).map_err(failed)?;
        let mut open = Self { id, wish: wish.clone(), socket, keys: Keys::new() };
        open.set_keys(keys)?;
        tcp::start(&open.socket).map_err(failed)?;
        Ok(open)
    }

    /// After an error the keys are those from before, as far as the kernel takes them.
    fn set_keys(&mut self, keys: Keys) -> Result<(), SetupError> {
        let before = self.keys.clone();
        self.change_keys(keys).inspect_err(|_| {
            // The first error is the one that matters.
            let _ = self.change_keys(before);
        })
    }

    fn change_keys(&mut self, wanted: Keys) -> Result<(), SetupError> {
        let gone: Vec<IpNet> = self.keys.keys().filter(|remote| !wanted.contains_key(remote)).copied().collect();
        for remote in gone {
            match sockopt::md5_key(&self.socket, remote, &[]) {
                Err(source) if source.raw_os_error() != Some(Errno::ENOENT as i32) => {
                    return Err(SetupError::Key { remote, source });
                }
                _ => {}
            }
            self.keys.remove(&remote);
        }
        for (remote, key) in wanted {
            if self.keys.get(&remote) != Some(&key) {
                sockopt::md5_key(&self.socket, remote, &key).map_err(|source| SetupError::Key { remote, source })?;
                self.keys.insert(remote, key);
            }
        }
        Ok(())
    }
}

impl<C: Core, H: Host> Driver<C, H> {
    /// Makes the setup the one in force. Connections that are there stay.
    pub(super) fn apply(&mut self, now: Instant, setup: Setup) -> Result<(), SetupError> {
        let keys: Vec<Keys> =
            setup.listeners.iter().map(|wish| keys_of(wish, &setup.guards)).collect::<Result<_, _>>()?;
        // What can be refused comes first: keys of the listeners that stay, and then new listeners.
        let mut before: Vec<(Listener, Keys)> = Vec::new();
        let mut result = Ok(());
        for (wish, keys) in setup.listeners.iter().zip(&keys) {
            if let Some(open) = self.listeners.iter_mut().find(|open| open.wish == *wish).filter(|_| result.is_ok()) {
                before.push((wish.clone(), open.keys.clone()));
                result = open.set_keys(keys.clone());
            }
        }
        match result.and_then(|()| self.open_new(&setup, &keys)) {
            Ok(mut fresh) => {
                self.listeners.retain(|open| setup.listeners.contains(&open.wish));
                self.listeners.append(&mut fresh);
            }
            Err(error) => {
                for (wish, keys) in before {
                    if let Some(open) = self.listeners.iter_mut().find(|open| open.wish == wish) {
                        // The kernel took them before, and the first error is the one that matters.
                        let _ = open.set_keys(keys);
                    }
                }
                return Err(error);
            }
        }
        self.discovery.watch(now, &setup.discover);
        self.guards = setup.guards;
        Ok(())
    }

    /// Opens the listeners that are not there yet. One that goes may be in the way, as a wildcard is in that of an address:
    /// then it goes first, and is there again if the new one can't be.
    fn open_new(&mut self, setup: &Setup, keys: &[Keys]) -> Result<Vec<Open>, SetupError> {
        let wanted: Vec<(Listener, Keys)> = setup.listeners.iter().cloned().zip(keys.iter().cloned()).collect();
        let goes = |open: &Open| !setup.listeners.contains(&open.wish);
        let result = self.open_all(&wanted);
        let in_the_way =
            matches!(&result, Err(SetupError::Listen { source, .. }) if source.kind() == ErrorKind::AddrInUse);
        if !in_the_way || !self.listeners.iter().any(goes) {
            return result;
        }
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.listeners).into_iter().partition(goes);
        self.listeners = stay;
        let old: Vec<(Listener, Keys)> = gone.into_iter().map(|open| (open.wish, open.keys)).collect();
        let result = self.open_all(&wanted);
        if result.is_err()
            && let Ok(mut again) = self.open_all(&old)
        {
            self.listeners.append(&mut again);
        }
        result
    }

    fn open_all(&mut self, wanted: &[(Listener, Keys)]) -> Result<Vec<Open>, SetupError> {
        let interest = if self.accepting { Interest::READ } else { Interest::NONE };
        let mut fresh: Vec<Open> = Vec::new();
        for (wish, keys) in wanted {
            if !self.listeners.iter().chain(&fresh).any(|open| open.wish == *wish) {
                self.next_listener += 1;
                let open = Open::new(wish, self.next_listener, keys.clone())?;
                self.poller.add(&open.socket, Token::Listener(open.id), interest).map_err(|source| {
                    SetupError::Listen { address: wish.address, interface: wish.interface.clone(), source }
                })?;
                fresh.push(open);
            }
        }
        Ok(fresh)
    }

    /// Accepts what waits on a listener.
    pub(super) fn accept(&mut self, now: Instant, id: u64) {
        for _ in 0..TURN {
            if self.strangers >= self.limits.strangers {
                return self.accept_again(None);
            }
            let Some(open) = self.listeners.iter().find(|open| open.id == id) else { return };
            match open.socket.accept() {
                Ok((stream, remote)) => {
                    let (address, interface) = (open.wish.address, open.wish.interface.clone());
                    // The connection is gone already, or its socket is out of order: nobody has heard of it.
                    if let Err(source) = self.welcome(now, stream, remote, interface)
                        && source.raw_os_error() == Some(Errno::ENOMEM as i32)
                    {
                        self.host.trouble(Trouble::Accept { address, source });
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // An error of the connection that waited (accept(2)); there may be more.
                Err(error) if !exhausted(&error) => {}
                Err(source) => {
                    let address = open.wish.address;
                    self.host.trouble(Trouble::Accept { address, source });
                    return self.accept_again(Some(now + PAUSE));
                }
            }
        }
    }

    fn welcome(
        &mut self,
        now: Instant,
        stream: TcpStream,
        remote: SocketAddr,
        interface: Option<Arc<str>>,
    ) -> io::Result<()> {
        let local = stream.local_addr()?;
        let interface = interface.or_else(|| tcp::scope_name(remote));
        let guard = guard_of(&self.guards, remote.ip(), interface.as_deref());
        tcp::accepted(&stream, remote.is_ipv6(), guard.as_ref())?;
        let conn = ConnId::In(self.next_in);
        self.next_in += 1;
        let mut connection = Connection::new(stream, Phase::Open, interface.clone());
        connection.stranger = true;
        self.insert(conn, connection)?;
        self.strangers += 1;
        self.set_deadline(conn, Some(now + self.limits.stranger));
        self.feed(now, Input::Accepted { conn, local, remote, interface });
        Ok(())
    }

    /// Stops accepting: until a stranger has gone, or for a while.
    fn accept_again(&mut self, at: Option<Instant>) {
        self.accept_at = at;
        self.listen_for(false);
    }

    /// Begins again where there is room.
    pub(super) fn accept_if_room(&mut self, now: Instant) {
        if !self.accepting && self.strangers < self.limits.strangers && self.accept_at.is_none_or(|at| at <= now) {
            self.accept_at = None;
            self.listen_for(true);
        }
    }

    fn listen_for(&mut self, accepting: bool) {
        self.accepting = accepting;
        let interest = if accepting { Interest::READ } else { Interest::NONE };
        for open in &self.listeners {
            // It was added, and is only closed when it leaves the list.
            let _ = self.poller.change(&open.socket, Token::Listener(open.id), interest);
        }
    }
}

/// Whether the process or the system has run out of something, and not the connection.
fn exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EBADF | Errno::EINVAL)
    )
}
