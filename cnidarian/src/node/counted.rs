//! What a proxy counts of services, read when somebody asks. Never more often than the kernel can bear.

use cni_core::backend::{Error, FrontendCounts, ServiceCounters};
use cni_core::model::ServiceKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// Reading takes at most one part in so many of the time, however many ask: in between they get what was read last.
const SHARE: u32 = 20;

/// What was read.
pub(super) type Counts = BTreeMap<ServiceKey, FrontendCounts>;

struct Reading {
    at: Instant,
    took: Duration,
    counts: Arc<Counts>,
}

/// The reader of a proxy that counts.
#[derive(Default)]
pub(super) struct Counted {
    /// `None`: nobody counts.
    reader: Option<Arc<dyn ServiceCounters>>,
    last: Arc<Mutex<Option<Reading>>>,
}

impl Counted {
    pub(super) fn new(reader: Option<Arc<dyn ServiceCounters>>) -> Self {
        Self { reader, last: Arc::default() }
    }

    /// What is counted, as of a moment ago; nothing where nobody counts.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub(super) async fn read(&self) -> Result<Arc<Counts>, Error> {
        let Some(reader) = self.reader.clone() else { return Ok(Arc::default()) };
        let last = self.last.clone();
        // A reading that was begun ends and is kept, also when who asked has left.
        let reading = tokio::spawn(async move {
            // Who comes meanwhile waits for this reading, and gets it.
            let mut last = last.lock().await;
            if let Some(last) = last.as_ref().filter(|last| last.at.elapsed() < last.took * SHARE) {
                return Ok(last.counts.clone());
            }
            let begin = Instant::now();
            let read = tokio::task::spawn_blocking(move || reader.read()).await;
            let counts = Arc::new(read.unwrap_or_else(|_| Ok(Counts::new()))?);
            *last = Some(Reading { at: Instant::now(), took: begin.elapsed(), counts: counts.clone() });
            Ok(counts)
        });
        reading.await.unwrap_or_else(|_| Ok(Arc::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Slow(AtomicU32);

    impl ServiceCounters for Slow {
        fn read(&self) -> cni_core::backend::Result<Counts> {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            Ok(Counts::new())
        }
    }

    #[tokio::test]
    async fn a_reading_that_nobody_waits_for_any_more_is_kept() {
        let slow = Arc::new(Slow(AtomicU32::new(0)));
        let counted = Counted::new(Some(slow.clone()));
        for _ in 0..3 {
            let left = tokio::time::timeout(Duration::from_millis(1), counted.read()).await;
            assert!(left.is_err() || slow.0.load(Ordering::SeqCst) == 1);
        }
        counted.read().await.unwrap();
        assert_eq!(slow.0.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_reading() {
        let slow = Arc::new(Slow(AtomicU32::new(0)));
        let counted = Counted::new(Some(slow.clone()));
        for _ in 0..10 {
            counted.read().await.unwrap();
        }
        assert_eq!(slow.0.load(Ordering::SeqCst), 1);
    }
}
