//! When addresses of load balancers are looked at. Never who gets which: that follows from the objects.

use super::Inner;
use cni_core::store::FilesStore;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Changes wait this long for others ...
const PAUSE: Duration = Duration::from_millis(20);
/// ... and as long again for each node that comes before this one by name, since one writer is enough; the others find it done.
const MOST_AHEAD: usize = 25;
/// Between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the record right for as long as the node is open.
pub(super) async fn run(inner: Arc<Inner>, files: Option<FilesStore>) {
    loop {
        inner.cluster.unbalanced().await;
        let ahead = u32::try_from(inner.cluster.rank().min(MOST_AHEAD)).unwrap_or_default();
        sleep(PAUSE * (ahead + 1)).await;
        if !inner.cluster.wants_another_record() {
            continue;
        }
        // A service in a file that cannot be read is perhaps there.
        let is_whole = is_whole(files.as_ref()).await;
        if let Err(error) = inner.cluster.balance(!is_whole).await {
            tracing::warn!(%error, "addresses of load balancers cannot be recorded; trying again");
        } else if is_whole {
            continue;
        }
        sleep(RETRY).await;
        inner.cluster.look_at_balance();
    }
}

async fn is_whole(files: Option<&FilesStore>) -> bool {
    match files {
        None => true,
        Some(files) => {
            files.is_settled().await.unwrap_or(false)
                && files.problems().await.is_ok_and(|problems| problems.is_empty())
        }
    }
}
