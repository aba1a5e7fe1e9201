//! A pod: a namespace with an echo server, and clients that count what is lost. Never knows how packets get there.

use net_linux::netns::NetNs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const ECHO: u16 = 7;
const POLL: Duration = Duration::from_millis(20);
/// Between two datagrams of a stream.
const PACE: Duration = Duration::from_millis(1);
/// The last answers of a stream may take so long.
const LAST: Duration = Duration::from_millis(500);

pub(crate) struct Pod {
    netns: NetNs,
    pub(crate) addresses: Vec<IpAddr>,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Pod {
    pub(crate) fn new(netns: NetNs, addresses: Vec<IpAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let socket = netns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO)).unwrap()).unwrap();
        socket.set_read_timeout(Some(POLL)).unwrap();
        let server = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_535];
            while !flag.load(Ordering::Acquire) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Self { netns, addresses, stop, server: Some(server) }
    }

    fn socket(&self) -> UdpSocket {
        self.netns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap()).unwrap()
    }

    /// Whether one datagram comes back soon.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        let socket = self.socket();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket.send_to(b"anybody there?", to(address)).is_ok() && socket.recv(&mut [0; 64]).is_ok()
    }

    /// Sends a datagram each millisecond for as long as `work` takes; gives how many were sent and how many came back.
    pub(crate) fn stream_while(&self, address: IpAddr, work: impl FnOnce()) -> (u32, u32) {
        let socket = self.socket();
        let receiver = socket.try_clone().unwrap();
        receiver.set_read_timeout(Some(LAST)).unwrap();
        let (sending, ended) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (go_on, over) = (sending.clone(), ended.clone());
        let sender = std::thread::spawn(move || {
            let mut sent = 0;
            while go_on.load(Ordering::Acquire) {
                // What the kernel refuses is lost as well.
                let _ = socket.send_to(&[7; 64], to(address));
                sent += 1;
                std::thread::sleep(PACE);
            }
            over.store(true, Ordering::Release);
            sent
        });
        let counter = std::thread::spawn(move || {
            let mut came = 0;
            loop {
                match receiver.recv(&mut [0; 128]) {
                    Ok(_) => came += 1,
                    Err(_) if ended.load(Ordering::Acquire) => return came,
                    Err(_) => {}
                }
            }
        });
        work();
        sending.store(false, Ordering::Release);
        (sender.join().unwrap(), counter.join().unwrap())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn to(address: IpAddr) -> SocketAddr {
    let mapped = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        v6 => v6,
    };
    SocketAddr::new(mapped, ECHO)
}
