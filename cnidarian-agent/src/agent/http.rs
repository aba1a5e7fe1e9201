//! HTTP for strangers: anybody who reaches the address may ask, so connections, sizes and times are bounded. Never knows
//! what is served.
//!
//! | bound | |
//! |---|---|
//! | connections worked on at once | [`AT_ONCE`]; further ones wait |
//! | connections that said nothing yet, or wait | [`SILENT`]; the oldest that said nothing makes room |
//! | a connection's life, from accept to the last byte of the answer | [`PATIENCE`] |
//! | bytes of a request's head | [`MAX_HEAD_BYTES`]; code 431 beyond |
//! | requests of a connection | one |
//!
//! A body is not read.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections that are worked on at once. A monitor needs one.
const AT_ONCE: usize = 32;
/// Connections that wait: for their own first byte, which keeps nobody else waiting, or for their turn.
const SILENT: usize = 128;
/// How long a client may take for its request and for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of a request's line and headers.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Serves for as long as the process lives.
pub(super) async fn serve(listener: TcpListener, app: Router) {
    let (slots, places) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(SILENT)));
    let mut silent: VecDeque<Weak<Notify>> = VecDeque::new();
    loop {
        silent.retain(|one| one.strong_count() > 0);
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: connections that end make room.
                tracing::error!(%error, "cannot accept an HTTP connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if places.available_permits() == 0
            && let Some(oldest) = silent.iter().find_map(Weak::upgrade)
        {
            oldest.notify_one();
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (leave, app, slots) = (Arc::new(Notify::new()), app.clone(), slots.clone());
        silent.push_back(Arc::downgrade(&leave));
        tokio::spawn(async move {
            let mut first = [0];
            let spoke = tokio::select! {
                spoke = timeout(PATIENCE, stream.peek(&mut first)) => matches!(spoke, Ok(Ok(1))),
                () = leave.notified() => false,
            };
            drop(leave);
            if !spoke {
                tracing::debug!("an HTTP client said nothing");
                return;
            }
            let Ok(_slot) = slots.acquire_owned().await else { return };
            drop(place);
            serve_one(stream, app).await;
        });
    }
}

async fn serve_one(stream: TcpStream, app: Router) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    match timeout(PATIENCE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP client left or sent what is no request"),
        Err(_) => tracing::debug!("an HTTP client took longer than {} s", PATIENCE.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    async fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = || async { "x".repeat(32 << 20) };
        tokio::spawn(serve(listener, Router::new().route("/", get(|| async { "ok" })).route("/long", get(long))));
        address
    }

    async fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // One that was refused in between does not matter: its answer does.
        let _ = stream.write_all(bytes).await;
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    const GOOD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_its_first_answer() {
        let stream = connect(served().await, &[GOOD, GOOD].concat()).await;
        let start = Instant::now();
        let text = answer(stream).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.matches("HTTP/1.1").count() == 1, "{text}");
        assert!(start.elapsed() < PATIENCE, "it was not cut off");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_send_or_does_not_read_is_cut_off() {
        let address = served().await;
        for bytes in [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nA: b\r\n", b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut stream = connect(address, bytes).await;
            let start = Instant::now();
            // Drips, so that no limit between two bytes would help.
            while stream.write_all(b"a").await.is_ok() && start.elapsed() < PATIENCE * 3 {
                sleep(PATIENCE / 10).await;
            }
            assert!(start.elapsed() < PATIENCE * 2, "{}", bytes.escape_ascii());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_worked_on_than_there_are_slots_and_the_next_is_served_after_them() {
        let address = served().await;
        let mut slow = Vec::new();
        for _ in 0..AT_ONCE {
            slow.push(connect(address, b"GET").await);
        }
        let start = Instant::now();
        let text = answer(connect(address, GOOD).await).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(start.elapsed() >= PATIENCE / 2, "it waited for a slot: {:?}", start.elapsed());
    }

    /// In real time: a clock that jumps when nothing is to be done jumps while the kernel works.
    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_waiting() {
        let address = served().await;
        let mut silent = Vec::new();
        for _ in 0..4 * SILENT {
            silent.push(connect(address, b"").await);
        }
        let start = Instant::now();
        let text = answer(connect(address, GOOD).await).await;
        assert!(text.starts_with("HTTP/1.1 200") && start.elapsed() < PATIENCE / 2, "{:?}: {text}", start.elapsed());
        drop(silent);
    }

    #[tokio::test]
    async fn a_long_head_is_refused() {
        let head = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &vec![b'a'; MAX_HEAD_BYTES * 2], b"\r\n\r\n"].concat();
        let text = answer(connect(served().await, &head).await).await;
        // Closed with unread bytes, the kernel may have taken the answer back.
        assert!(text.starts_with("HTTP/1.1 431") || text.is_empty(), "{text}");
    }
}
