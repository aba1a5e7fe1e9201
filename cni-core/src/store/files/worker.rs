//! The thread that owns an open directory: requests, inotify, and a look every few seconds. Never decides anything.

use super::Problem;
use super::directory::{Directory, SETTLE};
use super::names::form;
use crate::store::journal::Journal;
use crate::store::{Error, Result};
use futures_channel::{mpsc as stream, oneshot};
use futures_util::stream::{BoxStream, StreamExt};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Request = Box<dyn FnOnce(&mut State) + Send>;

/// The handle of the thread. The thread ends when it is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    /// `None` while dropping.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    bell: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    directory: Directory,
    followers: Vec<stream::UnboundedSender<Vec<Problem>>>,
    /// What the followers know.
    told: Vec<Problem>,
}

impl State {
    fn tell_problems(&mut self) {
        if self.directory.problems() != self.told {
            self.told = self.directory.problems().to_vec();
            self.followers.retain(|follower| follower.unbounded_send(self.told.clone()).is_ok());
        }
    }
}

fn gone() -> Error {
    Error::Unavailable {
        operation: "ask the store",
        detail: "its thread has ended; open the directory again".to_owned(),
    }
}

impl Worker {
    /// Opens the directory and starts the thread.
    pub(super) fn start(
        path: PathBuf,
        mut directory: Directory,
        journal: Arc<Journal>,
        rescan: Duration,
    ) -> Result<Self> {
        let failed = |operation| {
            let path = path.clone();
            move |errno: Errno| Error::Io { operation, path, source: Arc::new(errno.into()) }
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed("watch"))?;
        // Before the first scan, so that no change falls between.
        add_watch(&inotify, &path).map_err(failed("watch"))?;
        directory.open()?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_value_and_flags(0, flags).map_err(failed("watch"))?);
        let (requests, inbox) = mpsc::channel();
        let told = directory.problems().to_vec();
        let body = Loop {
            state: State { directory, followers: Vec::new(), told },
            journal,
            inbox,
            bell: bell.clone(),
            inotify,
            path: path.clone(),
            rescan,
        };
        let thread = std::thread::Builder::new().name("store-files".to_owned()).spawn(move || body.run());
        let thread =
            thread.map_err(|source| Error::Io { operation: "start thread", path, source: Arc::new(source) })?;
        Ok(Self { requests: Mutex::new(Some(requests)), bell, thread: Some(thread) })
    }

    fn send(&self, request: Request) -> Result<()> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.as_ref().ok_or_else(gone)?.send(request).map_err(|_| gone())?;
        // A full counter rings as well.
        let _ = self.bell.write(1);
        Ok(())
    }

    async fn call_state<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> T + Send + 'static) -> Result<T> {
        let (answer, wait) = oneshot::channel();
        self.send(Box::new(move |state| {
            // Nobody waits any more: the work is done all the same.
            let _ = answer.send(work(state));
        }))?;
        wait.await.map_err(|_| gone())
    }

    /// Runs work on the thread. It is done whole even if the caller ceases to wait.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Directory) -> T + Send + 'static,
    ) -> Result<T> {
        self.call_state(move |state| work(&mut state.directory)).await
    }

    pub(super) async fn follow_problems(&self) -> Result<BoxStream<'static, Vec<Problem>>> {
        let (sender, receiver) = stream::unbounded();
        let follow = move |state: &mut State| {
            // The receiver is at hand below.
            let _ = sender.unbounded_send(state.told.clone());
            state.followers.push(sender);
        };
        self.call_state(follow).await?;
        Ok(receiver.boxed())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = self.bell.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was answered to its callers already.
            let _ = thread.join();
        }
    }
}

fn add_watch(inotify: &Inotify, path: &PathBuf) -> nix::Result<()> {
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(path, flags).map(drop)
}

struct Loop {
    state: State,
    journal: Arc<Journal>,
    inbox: mpsc::Receiver<Request>,
    bell: Arc<EventFd>,
    inotify: Inotify,
    path: PathBuf,
    rescan: Duration,
}

impl Loop {
    fn run(mut self) {
        let mut next_rescan = Instant::now() + self.rescan;
        // Whether the watches know of a disturbance that still lasts, so that it is told once.
        let mut disturbed = false;
        loop {
            let wait = next_rescan.saturating_duration_since(Instant::now());
            let wait = if self.state.directory.is_unsettled() { wait.min(SETTLE) } else { wait };
            // Rounded up: a timeout of less than a millisecond would spin.
            let timeout = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let mut fds = [
                PollFd::new(self.bell.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
            ];
            // An interrupted or failed poll is a look at everything, no more.
            let _ = poll(&mut fds, timeout);
            let _ = self.bell.read();
            let mut scan = self.read_events();
            loop {
                match self.inbox.try_recv() {
                    Ok(request) => request(&mut self.state),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            if Instant::now() >= next_rescan {
                next_rescan = Instant::now() + self.rescan;
                // The directory may be another one under the old name. Adding a watch twice is harmless.
                let _ = add_watch(&self.inotify, &self.path);
                scan = true;
            }
            if scan || self.state.directory.is_unsettled() {
                match self.state.directory.scan() {
                    Ok(()) => disturbed = false,
                    Err(error) if !disturbed => {
                        disturbed = true;
                        self.journal.disturb(error);
                    }
                    Err(_) => {}
                }
            }
            self.state.tell_problems();
        }
    }

    /// Takes what inotify has. Answers whether any of it concerns manifests.
    fn read_events(&mut self) -> bool {
        let mut scan = false;
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                let lost = AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF;
                match event.name.as_deref().and_then(|name| name.to_str()) {
                    Some(name) if form(name).is_some() => {
                        self.state.directory.touch(name.to_owned());
                        scan = true;
                    }
                    Some(_) => {}
                    None => scan = true,
                }
                if event.mask.intersects(lost) {
                    // The directory is gone or was moved away; another may be there, now or at the next rescan.
                    let _ = add_watch(&self.inotify, &self.path);
                    scan = true;
                }
            }
        }
        scan
    }
}
