//! Ports that answer balancers, in namespaces of the test's own. Needs root.

use super::*;
use cni_core::model::ServiceName;
use net_linux::link::{LinkChange, LinkId};
use net_linux::netlink::{Batch, Socket};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test on a runtime in a namespace whose loopback device is up.
fn inside<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let up = || {
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(1));
        Socket::route().unwrap().run_all(&mut batch).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    };
    NetNs::new().unwrap().run(up).unwrap();
}

fn check(at: &str, endpoints: usize) -> HealthCheck {
    let service = ServiceName { namespace: "shop".into(), name: "web".into() };
    HealthCheck { at: at.parse().unwrap(), service, endpoints }
}

fn server() -> HealthServer {
    HealthServer::start(Arc::new(|| true)).unwrap().0
}

async fn connect(at: &str) -> io::Result<TcpStream> {
    TcpStream::connect(at.parse::<SocketAddr>().unwrap()).await
}

async fn answer(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// The code and the weight, or why not.
async fn ask(at: &str) -> Result<String, io::ErrorKind> {
    let mut stream = connect(at).await.map_err(|error| error.kind())?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n").await.map_err(|error| error.kind())?;
    let text = answer(stream).await;
    let code = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let weight = text.split("Endpoint-Weight: ").nth(1).and_then(|rest| rest.split('\r').next()).unwrap_or_default();
    Ok(format!("{code} {weight}"))
}

async fn until(at: &str, wanted: &Result<String, io::ErrorKind>) {
    let end = Instant::now() + DEADLINE;
    loop {
        let said = ask(at).await;
        if said == *wanted {
            return;
        }
        assert!(Instant::now() < end, "{at}: {said:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn says(code_and_weight: &str) -> Result<String, io::ErrorKind> {
    Ok(code_and_weight.to_owned())
}

#[test]
fn ports_open_and_close_with_checks_and_say_how_many_endpoints_there_are() {
    inside(|| async {
        let server = server();
        let (v4, v6) = ("127.0.0.1:30100", "[::1]:30100");
        // Several words about one port in one set, as when a store tells its first state.
        let first = [check(v4, 0), check(v4, 2), check(v6, 0)].map(Change::Put);
        server.change(first.to_vec()).await.unwrap();
        until(v4, &says("200 2")).await;
        until(v6, &says("503 0")).await;
        server.change(vec![Change::Put(check(v4, 0)), Change::Put(check(v6, 1))]).await.unwrap();
        until(v4, &says("503 0")).await;
        until(v6, &says("200 1")).await;
        server.change(vec![Change::Remove(v4.parse().unwrap())]).await.unwrap();
        until(v4, &Err(io::ErrorKind::ConnectionRefused)).await;
        assert_eq!(ask(v6).await, says("200 1"));
        assert_eq!(server.problems(), []);
    });
}

#[test]
fn where_nobody_translates_services_no_endpoint_counts() {
    inside(|| async {
        let works = Arc::new(AtomicBool::new(true));
        let said = works.clone();
        let (server, _) = HealthServer::start(Arc::new(move || said.load(Ordering::SeqCst))).unwrap();
        server.change(vec![Change::Put(check("127.0.0.1:30100", 2))]).await.unwrap();
        until("127.0.0.1:30100", &says("200 2")).await;
        works.store(false, Ordering::SeqCst);
        assert_eq!(ask("127.0.0.1:30100").await, says("503 2"));
    });
}

#[test]
fn a_port_that_somebody_else_has_is_a_problem_of_its_service_until_it_is_free() {
    inside(|| async {
        let other = std::net::TcpListener::bind("0.0.0.0:30100").unwrap();
        let server = server();
        server
            .change(vec![Change::Put(check("127.0.0.1:30100", 2)), Change::Put(check("127.0.0.1:30101", 1))])
            .await
            .unwrap();
        until("127.0.0.1:30101", &says("200 1")).await;
        let problems = server.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!((&*problems[0].object, &*problems[0].state), ("Service shop/web", "retrying"));
        assert!(problems[0].error.contains("127.0.0.1:30100: another process listens there"), "{problems:?}");
        drop(other);
        until("127.0.0.1:30100", &says("200 2")).await;
        assert_eq!(server.problems(), []);
        let taken = std::net::TcpListener::bind("127.0.0.1:30102").unwrap();
        server.change(vec![Change::Put(check("127.0.0.1:30102", 1))]).await.unwrap();
        server.change(vec![Change::Remove("127.0.0.1:30102".parse().unwrap())]).await.unwrap();
        server.change(vec![Change::Put(check("127.0.0.1:30103", 1))]).await.unwrap();
        until("127.0.0.1:30103", &says("200 1")).await;
        assert_eq!(server.problems(), [], "nobody wants it any more");
        drop(taken);
    });
}

#[test]
fn who_is_slow_or_silent_or_sends_no_request_keeps_nobody_waiting() {
    inside(|| async {
        let server = server();
        let (one, other) = ("127.0.0.1:30100", "127.0.0.1:30101");
        server.change(vec![Change::Put(check(one, 1)), Change::Put(check(other, 1))]).await.unwrap();
        until(other, &says("200 1")).await;
        let mut hostile = Vec::new();
        for round in 0..400 {
            let mut stream = connect(one).await.unwrap();
            let bytes: &[u8] = [&b""[..], b"GET / HT", b"GET / HTTP/1.1\r\nA: b\r\n"][round % 3];
            let _ = stream.write_all(bytes).await;
            hostile.push(stream);
        }
        let quick = Duration::from_secs(2);
        assert_eq!(timeout(quick, ask(one)).await.unwrap(), says("200 1"));
        assert_eq!(timeout(quick, ask(other)).await.unwrap(), says("200 1"));
        // The oldest had to go, long before its time was over.
        let oldest = timeout(quick, answer(hostile.swap_remove(0))).await;
        assert_eq!(oldest.expect("there is a bound"), "");
        drop(hostile);
        for (bytes, code) in [(vec![b'a'; 1 << 20], "431"), (b"\x16\x03\x01\x00".to_vec(), "400")] {
            let mut stream = connect(one).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            let text = timeout(DEADLINE, answer(stream)).await.unwrap();
            // Closed with unread bytes, the kernel may have taken the answer back.
            assert!(text.starts_with(&format!("HTTP/1.1 {code} ")) || text.is_empty(), "{text}");
        }
        assert_eq!(ask(one).await, says("200 1"));
    });
}
