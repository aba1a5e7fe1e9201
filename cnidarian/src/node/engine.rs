//! The one task that holds an engine: the datapath, or policy. Never decides what is to be: it stages what it is told.
//!
//! ```text
//!  attach, detach --Job::Change--> +------+   stage ... stage, one commit for all that waits   +--------+
//!  cluster        --Job::Change--> | task | -------------------------------------------------> | kernel |
//!  drift watch    --------------->  |      | <-- resync (after a quiet moment) ---------------- |        |
//!  clock (retry, periodic resync) > +------+                                                   +--------+
//! ```
//!
//! Changes that arrive while a commit runs are staged together and written by the next one, so eight attachments at
//! once cost about as many kernel round trips as one.

use super::events::{Event, Observer};
use cni_core::backend::{
    Capabilities, Change, CommitReport, Drift, DriftWatch, Engine, Error, Item, Plan, Result as BackendResult,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How long the kernel must be quiet before a drift is repaired: one repair for a burst of events, and still fast.
const DRIFT_QUIET: Duration = Duration::from_millis(20);
/// Repairs asked for by events take at most one part in so many of the time, so that a large node whose pods come and go
/// is not busy with reading the kernel, and an attachment rarely waits for it ...
const DRIFT_SHARE: u32 = 10;
/// ... but none waits longer than this: drift is repaired within a second.
const DRIFT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// The first pause before failed writes are tried again; it doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How many changes one commit takes at most.
const BATCH: usize = 1024;

/// What the task last saw, for status pages.
#[derive(Debug, Clone, Default)]
pub(crate) struct EngineState {
    /// The last commit or repair that wrote or failed something.
    pub(crate) last_commit: CommitReport,
    /// Why the kernel could not be read by the last resync; `None` when it could.
    pub(crate) unreadable: Option<Error>,
    /// Why the backend cannot work with the node as it is now; what it was before stays in force.
    pub(crate) node_refused: Option<Error>,
    /// Objects that were found drifted since the start.
    pub(crate) drifted: u64,
    /// Resyncs since the start.
    pub(crate) resyncs: u64,
}

enum Job<I: Item> {
    Change {
        changes: Vec<Change<I>>,
        about: Option<I::Key>,
        done: Option<oneshot::Sender<BackendResult<()>>>,
    },
    /// Another section of the configuration.
    Configure(serde_json::Value, oneshot::Sender<BackendResult<()>>),
    /// What another section would do; the second one is in force, and stays so.
    Propose(serde_json::Value, serde_json::Value, oneshot::Sender<BackendResult<Plan>>),
    Plan(oneshot::Sender<Plan>),
    Resync(Option<oneshot::Sender<BackendResult<Drift>>>),
}

/// A handle of the task. The task ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct EngineHandle<I: Item> {
    jobs: mpsc::Sender<Job<I>>,
    state: Arc<Mutex<EngineState>>,
    capabilities: Arc<Capabilities>,
}

fn gone() -> Error {
    Error::new(cni_core::backend::ErrorKind::Busy, "commit", "datapath", "the node is being closed")
}

impl<I: Item> EngineHandle<I> {
    /// Starts the task.
    pub(crate) fn start(
        engine: Box<dyn Engine<I>>,
        drift: Option<Box<dyn DriftWatch>>,
        resync_interval: Duration,
        observer: Arc<dyn Observer>,
    ) -> (Self, JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(BATCH);
        let state = Arc::new(Mutex::new(EngineState::default()));
        let capabilities = Arc::new(engine.capabilities().clone());
        let (drifted, watched) = mpsc::channel(1);
        if let Some(watch) = drift {
            tokio::spawn(watch_drift(watch, drifted));
        }
        let (retry, rested_at) = (None, Instant::now());
        let task = Task { engine, state: state.clone(), observer, retry, retry_pause: RETRY_FIRST, rested_at };
        let running = tokio::spawn(task.run(queue, watched, resync_interval));
        (Self { jobs, state, capabilities }, running)
    }

    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    pub(crate) fn state(&self) -> EngineState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the kernel can be read and holds the engine's own objects: without those nothing works.
    pub(crate) fn works(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unreadable.is_none() && !state.last_commit.failed.iter().any(|failure| failure.items.is_empty())
    }

    /// Stages and commits; answers when the kernel holds what `about` compiled to, or with what keeps it from that.
    pub(crate) async fn change(&self, changes: Vec<Change<I>>, about: I::Key) -> BackendResult<()> {
        self.submit(changes, Some(about)).await?.done().await
    }

    /// As [`change`](Self::change), in two steps: whoever submits first is staged first, and waiting is for later.
    pub(crate) async fn submit(&self, changes: Vec<Change<I>>, about: Option<I::Key>) -> BackendResult<Submitted> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Change { changes, about, done: Some(done) }).await.map_err(|_| gone())?;
        Ok(Submitted(answer))
    }

    /// Stages and commits, and waits for the commit, whatever it did.
    pub(crate) async fn change_all(&self, changes: Vec<Change<I>>) -> BackendResult<()> {
        self.submit(changes, None).await?.done().await
    }

    /// Puts another section of the configuration in force, and answers when it is committed.
    pub(crate) async fn configure(&self, section: serde_json::Value) -> BackendResult<()> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Configure(section, done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// What [`configure`](Self::configure) with `section` would write; `in_force` is what the engine has now.
    pub(crate) async fn propose(&self, section: serde_json::Value, in_force: serde_json::Value) -> BackendResult<Plan> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Propose(section, in_force, done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(crate) async fn plan(&self) -> BackendResult<Plan> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Plan(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    pub(crate) async fn resync(&self) -> BackendResult<Drift> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job::Resync(Some(done))).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Changes that are staged and will be committed.
pub(crate) struct Submitted(oneshot::Receiver<BackendResult<()>>);

impl Submitted {
    /// Waits for the commit.
    pub(crate) async fn done(self) -> BackendResult<()> {
        self.0.await.map_err(|_| gone())?
    }
}

/// Passes drift on until the watch breaks; then periodic resync alone is left.
async fn watch_drift(mut watch: Box<dyn DriftWatch>, drifted: mpsc::Sender<()>) {
    loop {
        match watch.changed().await {
            Ok(()) => {
                // Full means that a resync is due already.
                if let Err(mpsc::error::TrySendError::Closed(())) = drifted.try_send(()) {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the watch for drift broke; drift is found by the periodic resync only");
                return;
            }
        }
    }
}

struct Task<I: Item> {
    engine: Box<dyn Engine<I>>,
    state: Arc<Mutex<EngineState>>,
    observer: Arc<dyn Observer>,
    /// When to try failed writes again.
    retry: Option<Instant>,
    retry_pause: Duration,
    /// Before this no event makes us read the kernel again.
    rested_at: Instant,
}

type Waiting<K> = (Option<K>, Option<oneshot::Sender<BackendResult<()>>>, BackendResult<()>);

impl<I: Item> Task<I> {
    async fn run(mut self, mut queue: mpsc::Receiver<Job<I>>, mut drifted: mpsc::Receiver<()>, interval: Duration) {
        let mut watching = true;
        let mut resync_at: Option<Instant> = None;
        let mut periodic = Instant::now() + interval;
        let mut jobs = Vec::new();
        loop {
            let far = Instant::now() + Duration::from_secs(86_400);
            tokio::select! {
                received = queue.recv_many(&mut jobs, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    self.work(std::mem::take(&mut jobs)).await;
                }
                event = drifted.recv(), if watching => match event {
                    Some(()) => resync_at = resync_at.or(Some((Instant::now() + DRIFT_QUIET).max(self.rested_at))),
                    None => watching = false,
                },
                () = sleep_until(resync_at.unwrap_or(far)) => {
                    resync_at = None;
                    let _ = self.resync().await;
                }
                () = sleep_until(periodic) => {
                    periodic = Instant::now() + interval;
                    let _ = self.resync().await;
                }
                () = sleep_until(self.retry.unwrap_or(far)) => {
                    self.retry = None;
                    let _ = self.commit().await;
                }
            }
        }
    }

    async fn work(&mut self, jobs: Vec<Job<I>>) {
        let mut waiting: Vec<Waiting<I::Key>> = Vec::new();
        for job in jobs {
            match job {
                Job::Change { changes, about, done } => {
                    let mut staged = Ok(());
                    for change in changes {
                        let about_node = matches!(change, Change::Node(_));
                        let outcome = self.engine.stage(change);
                        if about_node {
                            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                            state.node_refused = outcome.as_ref().err().cloned();
                        }
                        if let Err(error) = outcome {
                            tracing::warn!(%error, "an item is not acceptable");
                            staged = Err(error);
                        }
                    }
                    waiting.push((about, done, staged));
                }
                Job::Configure(section, done) => {
                    let staged = self.engine.stage(Change::Config(section));
                    if staged.is_ok() {
                        self.commit().await;
                    }
                    let _ = done.send(staged);
                }
                Job::Propose(section, in_force, done) => {
                    // Staging is memory only, and what was staged before is what is staged again: nothing has changed.
                    let plan = self.engine.stage(Change::Config(section)).map(|()| self.engine.plan());
                    let restored = self.engine.stage(Change::Config(in_force));
                    let _ = done.send(plan.and_then(|plan| restored.map(|()| plan)));
                }
                Job::Plan(done) => {
                    let _ = done.send(self.engine.plan());
                }
                Job::Resync(done) => {
                    let drift = self.resync().await;
                    if let Some(done) = done {
                        let _ = done.send(drift);
                    }
                }
            }
        }
        if waiting.is_empty() {
            return;
        }
        let report = self.commit().await;
        for (about, done, staged) in waiting {
            let Some(done) = done else { continue };
            let outcome = match about {
                Some(key) => staged.and_then(|()| report.problem_of(&key).map_or(Ok(()), |error| Err(error.clone()))),
                None => Ok(()),
            };
            let _ = done.send(outcome);
        }
    }

    async fn commit(&mut self) -> CommitReport {
        let begin = std::time::Instant::now();
        let report = self.engine.commit().await;
        self.observer.observe(Event::Commit { took: begin.elapsed(), report: &report });
        self.take_in(&report);
        report
    }

    async fn resync(&mut self) -> BackendResult<Drift> {
        let begin = Instant::now();
        let drift = self.engine.resync().await;
        self.rested_at = Instant::now() + (begin.elapsed() * DRIFT_SHARE).min(DRIFT_PAUSE_MAX);
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.resyncs += 1;
            state.unreadable = drift.as_ref().err().cloned();
            if let Ok(drift) = &drift {
                let found = drift.missing.len() + drift.changed.len() + drift.unexpected.len();
                state.drifted += u64::try_from(found).unwrap_or(u64::MAX);
            }
        }
        match &drift {
            Ok(drift) => {
                if !drift.is_none() {
                    tracing::warn!(missing = ?drift.missing, changed = ?drift.changed, unexpected = ?drift.unexpected,
                        "the kernel had drifted; repaired");
                }
                self.observer.observe(Event::Drift { drift });
                self.take_in(&drift.repair);
            }
            Err(error) => tracing::error!(%error, "the kernel could not be read back"),
        }
        drift
    }

    /// Remembers what failed and when to try again.
    fn take_in(&mut self, report: &CommitReport) {
        if report.should_retry() {
            for failure in &report.failed {
                tracing::warn!(object = %failure.object, error = %failure.error, "a write failed; it is tried again");
            }
            self.retry = Some(Instant::now() + self.retry_pause);
            self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
        } else {
            self.retry = None;
            self.retry_pause = RETRY_FIRST;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last_commit = report.clone();
    }
}
