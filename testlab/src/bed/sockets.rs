//! A cgroup of a test's own, client processes in it, and servers that say which they are: for programs at sockets. Never
//! another's cgroup or process.

use net_linux::netns::NetNs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where the client process finds its cgroup.
const CLIENT: &str = "CNIDARIAN_EBPF_SOCKETS";
/// Longer than on any busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const PREFIX: &str = "cnidarian-test-";

/// A cgroup, removed when dropped; one that a crashed test left goes when the next is made.
pub struct Cgroup(
    /// Its directory.
    pub PathBuf,
);

impl Cgroup {
    /// `None`, which it says: cgroup v2 is not mounted here, or cannot be written.
    #[must_use]
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = mounts.lines().find_map(|line| {
            let (fields, rest) = line.split_once(" - ")?;
            rest.starts_with("cgroup2 ").then(|| PathBuf::from(fields.split(' ').nth(4).unwrap()))
        });
        let Some(root) = root else {
            println!("skipped: cgroup v2 is not mounted here");
            return None;
        };
        for file in std::fs::read_dir(&root).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap_or_default();
            let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                let _ = std::fs::remove_dir(file.path());
            }
        }
        let own = root.join(format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        match std::fs::create_dir(&own) {
            Ok(()) => Some(Self(own)),
            Err(error) => {
                println!("skipped: {}: {error}", own.display());
                None
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed leaves it a moment after it was waited for.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A process in the cgroup that opens sockets when asked.
pub struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// In a network namespace. `test` is the name of a test of the calling program that calls [`answer_a_client`].
    #[must_use]
    pub fn new(test: &str, cgroup: &Path, namespace: &NetNs) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]).env(CLIENT, cgroup);
        let mut child = namespace.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { child, input, output };
        assert_eq!(client.answer(), "ready");
        client
    }

    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the client ended");
            // The test harness writes lines of its own.
            if let Some(answer) = line.trim().strip_prefix("answer ") {
                return answer.to_owned();
            }
        }
    }

    /// `tcp`, `connected` (UDP) or `udp` to an address: what the server said, and whom the socket says that it talks to. `hold`
    /// is as `connected` and keeps the socket, `held` asks once more with that one.
    ///
    /// # Errors
    /// The kind of the socket's error, as [`std::io::ErrorKind`] shows it.
    pub fn ask(&mut self, how: &str, to: &str) -> Result<(String, String), String> {
        writeln!(self.input, "{how} {to}").unwrap();
        let answer = self.answer();
        match answer.split_once(' ').unwrap() {
            ("error", error) => Err(error.to_owned()),
            (server, peer) => Ok((server.to_owned(), peer.to_owned())),
        }
    }
}

fn talk(how: &str, to: SocketAddr, kept: &mut Option<UdpSocket>) -> std::io::Result<(String, SocketAddr)> {
    let (mut text, any) = ([0; 64], SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() }, 0));
    let (length, peer) = match how {
        "tcp" => {
            let mut stream = TcpStream::connect(to)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let peer = stream.peer_addr()?;
            (stream.read(&mut text)?, peer)
        }
        "connected" | "hold" => {
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let (length, from) = socket.recv_from(&mut text)?;
            assert_eq!(from, socket.peer_addr()?);
            *kept = Some(socket).filter(|_| how == "hold");
            (length, from)
        }
        "held" => {
            let socket = kept.as_ref().unwrap();
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            socket.send(b"?")?;
            socket.recv_from(&mut text)?
        }
        _ => {
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(b"?", to)?;
            socket.recv_from(&mut text)?
        }
    };
    Ok((String::from_utf8_lossy(&text[..length]).into_owned(), peer))
}

/// What a test that only a [`Client`] runs has to do: nothing where nobody asks.
pub fn answer_a_client() {
    let Some(cgroup) = std::env::var_os(CLIENT) else { return };
    std::fs::write(Path::new(&cgroup).join("cgroup.procs"), "0").unwrap();
    println!("\nanswer ready");
    let mut kept = None;
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (how, to) = line.split_once(' ').unwrap();
        match talk(how, to.parse().unwrap(), &mut kept) {
            Ok((server, peer)) => println!("answer {server} {peer}"),
            Err(error) => println!("answer error {:?}", error.kind()),
        }
    }
}

/// Says its name to who connects or sends a datagram to port 8080, for as long as the process runs. In the calling thread's
/// network namespace.
pub fn serve_named(address: IpAddr, name: &'static str) {
    let listener = TcpListener::bind((address, 8080)).unwrap();
    let socket = UdpSocket::bind((address, 8080)).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(name.as_bytes());
        }
    });
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}
