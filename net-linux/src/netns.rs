//! Network namespaces, held by file descriptor. Never by name: a path is looked at once and can't be exchanged under us.
//!
//! A thread is in one network namespace; sockets, `/proc/sys/net` and children belong to the namespace of the thread that
//! opened or started them. So code runs "in" a namespace on a thread of its own, see [`NetNs::run`].

use crate::sys;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// `NSFS_MAGIC` of `include/uapi/linux/magic.h`.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// What goes wrong with namespaces.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetNsError {
    /// The path can't be opened.
    #[error("network namespace {path}: {source}")]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path exists and is something else.
    #[error("{path} is {found}, not a network namespace; give a path such as /run/netns/NAME or /proc/PID/ns/net")]
    NotANetworkNamespace {
        /// The path as given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A namespace can't be made: needs `CAP_SYS_ADMIN` in the user namespace.
    #[error("create a network namespace: {0}")]
    Create(#[source] io::Error),
    /// A namespace can't be entered: needs `CAP_SYS_ADMIN` in the user namespace that owns it, and in our own.
    #[error("enter network namespace {id}: {source}")]
    Enter {
        /// Which.
        id: NetNsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread could be started to enter the namespace on.
    #[error("start a thread for network namespace {id}: {source}")]
    Thread {
        /// Which.
        id: NetNsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not tell its number: it is older than Linux 5.14.
    #[error("the number of network namespace {id}: {source}")]
    Cookie {
        /// Which.
        id: NetNsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// A namespace can't be opened by its number.
    #[error("network namespace {cookie}: {source}")]
    Handle {
        /// Its number.
        cookie: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A child can't be started inside.
    #[error("start {program:?} in network namespace {id}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// Which namespace.
        id: NetNsId,
        /// What the kernel said.
        source: io::Error,
    },
    /// A name can't be given to a namespace, or taken from it.
    #[error("{operation} {path}: {source}")]
    Pin {
        /// `pin` or `unpin`.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Which namespace: device and inode of its file in nsfs. Two handles with one id are one namespace.
///
/// The kernel uses an inode number again after the namespace is gone, so keep the [`NetNs`] while you compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetNsId {
    /// Device number of nsfs.
    pub device: u64,
    /// Inode number: what `readlink /proc/PID/ns/net` shows in brackets.
    pub inode: u64,
}

impl fmt::Display for NetNsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// A network namespace that lives at least as long as this handle. Clones are handles of the same namespace.
///
/// ```no_run
/// use net_linux::netns::NetNs;
/// let pod = NetNs::new()?;
/// let socket = pod.run(|| std::net::UdpSocket::bind("127.0.0.1:0"))?;
/// # Ok::<(), net_linux::netns::NetNsError>(())
/// ```
#[derive(Debug, Clone)]
pub struct NetNs {
    fd: Arc<OwnedFd>,
    id: NetNsId,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetNsError::Open`] when `/proc` is not mounted.
    pub fn current() -> Result<Self, NetNsError> {
        Self::from_path("/proc/thread-self/ns/net")
    }

    /// The namespace that a path shows: `/run/netns/NAME`, `/proc/PID/ns/net`.
    ///
    /// The path is looked up once; no device or pipe that stands there is opened.
    ///
    /// # Errors
    /// [`NetNsError::Open`]; [`NetNsError::NotANetworkNamespace`] for a plain file (also a name whose bind mount is gone)
    /// or another kind of namespace.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, NetNsError> {
        let path = path.as_ref();
        let failed = |errno: nix::Error| NetNsError::Open { path: path.to_owned(), source: errno.into() };
        let found = |found| NetNsError::NotANetworkNamespace { path: path.to_owned(), found };
        let place = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
        if fstatfs(&place).map_err(failed)?.filesystem_type() != NSFS_MAGIC {
            let directory = fstat(&place).map_err(failed)?.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR;
            return Err(found(if directory { "a directory" } else { "a file that is no namespace" }));
        }
        let again = format!("/proc/thread-self/fd/{}", place.as_raw_fd());
        let fd = open(again.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
        Self::from_fd(fd).map_err(|error| match error {
            NetNsError::NotANetworkNamespace { found: what, .. } => found(what),
            NetNsError::Open { source, .. } => NetNsError::Open { path: path.to_owned(), source },
            other => other,
        })
    }

    /// The namespace of an open file, for one that was sent to us.
    ///
    /// # Errors
    /// [`NetNsError::NotANetworkNamespace`] when the file is something else; the path names the descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, NetNsError> {
        let path = || PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let failed = |errno: nix::Error| NetNsError::Open { path: path(), source: errno.into() };
        let found = |found| NetNsError::NotANetworkNamespace { path: path(), found };
        if fstatfs(&fd).map_err(failed)?.filesystem_type() != NSFS_MAGIC {
            return Err(found("a file that is no namespace"));
        }
        match sys::ns::namespace_type(fd.as_fd()) {
            Ok(nix::libc::CLONE_NEWNET) => {}
            Ok(_) => return Err(found("a namespace of another kind")),
            Err(source) => return Err(NetNsError::Open { path: path(), source }),
        }
        let stat = fstat(&fd).map_err(failed)?;
        Ok(Self { id: NetNsId { device: stat.st_dev, inode: stat.st_ino }, fd: Arc::new(fd) })
    }

    /// A new namespace with nothing but a loopback device that is down. It is gone when the last handle, socket and
    /// process of it is.
    ///
    /// # Errors
    /// [`NetNsError::Create`].
    pub fn new() -> Result<Self, NetNsError> {
        thread::scope(|scope| {
            let fresh = thread::Builder::new().name("netns-new".into()).spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetNsError::Create(errno.into()))?;
                Self::current()
            });
            fresh.map_err(NetNsError::Create)?.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Which namespace this is.
    #[must_use]
    pub const fn id(&self) -> NetNsId {
        self.id
    }

    /// Its number in the kernel (`SO_NETNS_COOKIE`): never used again for another one, unlike [`NetNsId::inode`], until the
    /// machine starts anew. Since Linux 5.14.
    ///
    /// # Errors
    /// [`NetNsError::Cookie`]; those of [`open_inside`](Self::open_inside).
    pub fn cookie(&self) -> Result<u64, NetNsError> {
        let failed = |source| NetNsError::Cookie { id: self.id, source };
        let socket = self.open_inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Unix, SockType::Datagram, flags, None)
        })?;
        let socket = socket.map_err(|errno| failed(errno.into()))?;
        sys::sockopt::netns_cookie(socket.as_fd()).map_err(failed)
    }

    /// The namespace with this number ([`cookie`](Self::cookie)) and inode ([`NetNsId::inode`]), if it still lives: for who remembers
    /// a namespace and must not keep it alive. Since Linux 6.18.
    ///
    /// # Errors
    /// [`NetNsError::Handle`]: it is gone, or the kernel is older.
    pub fn by_cookie(cookie: u64, inode: u32) -> Result<Self, NetNsError> {
        let opened = sys::ns::open_network(cookie, inode);
        Self::from_fd(opened.map_err(|source| NetNsError::Handle { cookie, source })?)
    }

    /// Runs `work` on a thread inside the namespace and waits for it. The calling thread stays where it is.
    ///
    /// A panic in `work` goes on in the caller.
    ///
    /// # Errors
    /// [`NetNsError::Enter`], [`NetNsError::Thread`]; `work` has then not run.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().name(format!("netns-{}", self.id.inode)).spawn_scoped(scope, || {
                self.enter()?;
                Ok(work())
            });
            inside
                .map_err(|source| NetNsError::Thread { id: self.id, source })?
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Opens something inside the namespace, on the calling thread, which is back when this returns: for what stays in
    /// the namespace that it was opened in, as a socket does. Without the thread of [`run`](Self::run), whose start and
    /// end cost more than all that is opened here.
    ///
    /// # Errors
    /// [`NetNsError::Enter`], [`NetNsError::Open`] when `/proc` is not mounted; `open` has then not run.
    pub fn open_inside<T>(&self, open: impl FnOnce() -> T) -> Result<T, NetNsError> {
        let home = Self::current()?;
        self.enter()?;
        let _back = Back(home);
        Ok(open())
    }

    /// Moves the calling thread into the namespace for good. For threads that live there (a runtime's `on_thread_start`);
    /// else use [`run`](Self::run).
    ///
    /// # Errors
    /// [`NetNsError::Enter`].
    pub fn enter(&self) -> Result<(), NetNsError> {
        setns(&*self.fd, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| NetNsError::Enter { id: self.id, source: errno.into() })
    }

    /// Starts a child inside the namespace.
    ///
    /// The thread that starts it ends at once: a child that asks for a signal at its parent's death
    /// (`PR_SET_PDEATHSIG`) gets it then.
    ///
    /// # Errors
    /// [`NetNsError::Spawn`], and those of [`run`](Self::run).
    pub fn spawn(&self, command: &mut Command) -> Result<Child, NetNsError> {
        self.run(|| {
            command.spawn().map_err(|source| NetNsError::Spawn {
                program: command.get_program().to_string_lossy().into_owned(),
                id: self.id,
                source,
            })
        })?
    }

    /// Gives the namespace a name: bind-mounts it over `path`, which is made if needed (its directory must exist).
    /// It then lives until [`unpin`](Self::unpin), as with `ip netns add`.
    ///
    /// # Errors
    /// [`NetNsError::Pin`]; also when `path` already shows a namespace.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), NetNsError> {
        let path = path.as_ref();
        let failed = |source| NetNsError::Pin { operation: "pin", path: path.to_owned(), source };
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(_) => {}
            // A file is left from a boot before: the mount is gone, the file is not.
            Err(nix::Error::EEXIST)
                if matches!(Self::from_path(path), Err(NetNsError::NotANetworkNamespace { .. })) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        let source = format!("/proc/thread-self/fd/{}", self.fd.as_raw_fd());
        mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| {
            // The file is of no use without the mount; the mount's error is the one that matters.
            let _ = std::fs::remove_file(path);
            failed(errno.into())
        })
    }

    /// Takes a name away again. That there is none is a success; a file that shows no namespace is left alone.
    ///
    /// # Errors
    /// [`NetNsError::Pin`].
    pub fn unpin(path: impl AsRef<Path>) -> Result<(), NetNsError> {
        let path = path.as_ref();
        match Self::from_path(path) {
            Ok(_) => {}
            Err(NetNsError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        let failed = |source| NetNsError::Pin { operation: "unpin", path: path.to_owned(), source };
        umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| failed(errno.into()))?;
        std::fs::remove_file(path).map_err(failed)
    }
}

/// Brings the thread home, also through a panic.
struct Back(NetNs);

impl Drop for Back {
    fn drop(&mut self) {
        // The namespace lives, and whoever could leave it may enter it: only memory can be short, and not for ever. A
        // thread that is elsewhere must not go on.
        while self.0.enter().is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for NetNs {}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Stdio;

    fn inode_of(link: &str) -> u64 {
        let text = fs::read_link(link).unwrap().to_string_lossy().into_owned();
        text.trim_start_matches("net:[").trim_end_matches(']').parse().unwrap()
    }

    #[test]
    fn a_new_namespace_is_another_one_and_the_caller_stays() {
        let before = NetNs::current().unwrap();
        let fresh = NetNs::new().unwrap();
        assert_ne!(before, fresh);
        assert_eq!(NetNs::current().unwrap(), before);
        assert_eq!(fresh.run(|| NetNs::current().unwrap()).unwrap(), fresh);
        assert_eq!(fresh.run(|| inode_of("/proc/thread-self/ns/net")).unwrap(), fresh.id().inode);
    }

    #[test]
    fn what_is_no_network_namespace_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        fs::write(&plain, "").unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        for path in [&plain, &fifo, directory.path(), Path::new("/proc/self/ns/mnt"), Path::new("/dev/null")] {
            let error = NetNs::from_path(path).unwrap_err();
            assert!(matches!(error, NetNsError::NotANetworkNamespace { .. }), "{error}");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
        assert!(matches!(NetNs::from_path("/nowhere/at/all"), Err(NetNsError::Open { .. })));
        assert!(matches!(
            NetNs::from_fd(fs::File::open(&plain).unwrap().into()),
            Err(NetNsError::NotANetworkNamespace { .. })
        ));
    }

    #[test]
    fn a_child_is_inside_and_needs_no_help() {
        let fresh = NetNs::new().unwrap();
        let mut command = Command::new("readlink");
        let child = fresh.spawn(command.arg("/proc/self/ns/net").stdout(Stdio::piped())).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), fresh.id().to_string());
        assert!(matches!(fresh.spawn(&mut Command::new("/nowhere/at/all")), Err(NetNsError::Spawn { .. })));
    }

    #[test]
    fn a_panic_inside_goes_on_outside() {
        let fresh = NetNs::new().unwrap();
        let panic = std::panic::catch_unwind(|| fresh.run(|| panic!("inside"))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
    }

    #[test]
    fn what_is_opened_inside_stays_there_and_the_thread_comes_back() {
        let (before, fresh) = (NetNs::current().unwrap(), NetNs::new().unwrap());
        let namespace = fresh.open_inside(|| fs::File::open("/proc/thread-self/ns/net").unwrap()).unwrap();
        assert_eq!(NetNs::from_fd(namespace.into()).unwrap(), fresh);
        assert_eq!(NetNs::current().unwrap(), before);
        let panic = std::panic::catch_unwind(|| fresh.open_inside(|| panic!("inside"))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
        assert_eq!(NetNs::current().unwrap(), before);
    }

    #[test]
    fn a_name_shows_the_namespace_until_it_is_taken_away() {
        // A mount namespace of its own, so that a crashed test leaves no mount behind.
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("pod");
            let fresh = NetNs::new().unwrap();
            fresh.pin(&path).unwrap();
            assert_eq!(NetNs::from_path(&path).unwrap(), fresh);
            assert!(matches!(fresh.pin(&path), Err(NetNsError::Pin { .. })));
            NetNs::unpin(&path).unwrap();
            NetNs::unpin(&path).unwrap();
            assert!(!path.exists());
            // The file without the mount is what a reboot leaves.
            fs::write(&path, "").unwrap();
            assert!(matches!(NetNs::unpin(&path), Err(NetNsError::NotANetworkNamespace { .. })));
            fresh.pin(&path).unwrap();
            assert_eq!(NetNs::from_path(&path).unwrap(), fresh);
            NetNs::unpin(&path).unwrap();
        })
        .join()
        .unwrap();
    }
}
