//! Connections of strangers to health checks: bounded in number, time and bytes. Never which ports are open.
//!
//! | bound | |
//! |---|---|
//! | connections to one address and port | [`AT_ONE_PORT`] |
//! | connections altogether | [`ALTOGETHER`] |
//! | a connection's life | [`PATIENCE`] |
//! | bytes of a request's head | [`MAX_HEAD_BYTES`] |
//! | bytes read after it, so that the answer is not lost | [`MAX_REST_BYTES`] |
//!
//! Where a bound is reached the oldest connection makes room. A balancer's request takes one round trip, so whoever wants to keep
//! it out has to open as many connections in that time.

use super::http::{Heard, MAX_HEAD_BYTES, answer, hear, refusal};
use cni_core::model::HealthCheck;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

const AT_ONE_PORT: usize = 32;
const ALTOGETHER: usize = 256;
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_REST_BYTES: u64 = 64 << 10;

/// Says whether services are translated here.
pub(super) type Works = Arc<dyn Fn() -> bool + Send + Sync>;

/// Connections that are open, the oldest first.
#[derive(Default)]
pub(super) struct Connections(Mutex<VecDeque<(SocketAddr, AbortHandle)>>);

impl Connections {
    /// Takes one more in; who has to make room goes.
    fn add(&self, at: SocketAddr, connection: AbortHandle) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, connection)| !connection.is_finished());
        let here = all.iter().filter(|(other, _)| *other == at).count();
        let oldest = if here >= AT_ONE_PORT {
            all.iter().position(|(other, _)| *other == at)
        } else {
            (all.len() >= ALTOGETHER).then_some(0)
        };
        if let Some((_, oldest)) = oldest.and_then(|oldest| all.remove(oldest)) {
            oldest.abort();
        }
        all.push_back((at, connection));
    }
}

/// Answers whoever asks, until it is aborted.
pub(super) async fn serve(
    listener: TcpListener,
    at: SocketAddr,
    check: watch::Receiver<HealthCheck>,
    works: Works,
    connections: Arc<Connections>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (check, works) = (check.clone(), works.clone());
                let connection = tokio::spawn(async move {
                    // Who is slow or leaves hears nothing more, and that is all.
                    let _ = timeout(PATIENCE, serve_one(stream, &check, &works)).await;
                });
                connections.add(at, connection.abort_handle());
            }
            Err(error) => {
                // Out of descriptors or memory: connections that end make room.
                tracing::warn!(%at, %error, "cannot accept a connection to a health check");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_one(mut stream: TcpStream, check: &watch::Receiver<HealthCheck>, works: &Works) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(512);
    let bytes = loop {
        let room = u64::try_from(MAX_HEAD_BYTES - head.len()).unwrap_or_default();
        if (&mut stream).take(room).read_buf(&mut head).await? == 0 {
            return Ok(());
        }
        let heard = hear(&head);
        if let Heard::Request { only_head } = heard {
            let check = check.borrow().clone();
            break answer(&check, works(), only_head);
        }
        if let Some(bytes) = refusal(heard) {
            break bytes;
        }
    };
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    // Closed with unread bytes, the kernel would take the answer back.
    tokio::io::copy(&mut stream.take(MAX_REST_BYTES), &mut tokio::io::sink()).await.map(drop)
}
