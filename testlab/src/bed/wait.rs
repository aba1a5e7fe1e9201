//! Waiting on the calling thread, for conditions and for futures. Never longer for a condition than its deadline.

use crate::patience::stretched;
use std::time::{Duration, Instant};

/// Waits until a condition holds; panics with its description after the deadline, as it is on this machine. Answers with how
/// long it took.
pub fn wait_for(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let (start, deadline) = (Instant::now(), stretched(deadline));
    while !holds() {
        assert!(start.elapsed() < deadline, "after {deadline:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// Drives a future on this thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
