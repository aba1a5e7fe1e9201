//! The speaker as a router without a kernel, for `bgp` to measure. Never writes a route: what would go to the kernel is
//! counted.
//!
//! Its one argument is a file: a line with our system and BGP identifier, then a line for each peer with its address and
//! system. All are waited for; peers of our system are clients of a reflector.
#![forbid(unsafe_code)]

use bgp_speaker::config::{BGP_PORT, Config, Hold, PeerAddress, PeerConfig, PeerName, RemoteAsn};
use bgp_speaker::speaker::{Beginning, Input, Output, Resolution, Speaker, Via};
use bgp_speaker::transport::{Handle, Host, Limits, Setup, Transport, Trouble};
use bgp_speaker::types::{Asn, Family, RouterId};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Long enough that no keepalive is due while anything is measured.
const HOLD_SECONDS: u16 = 3600;

/// What a program with a kernel would do: all next hops are on the link, routes are taken.
struct Counting {
    handle: Arc<OnceLock<Handle<Speaker>>>,
    routes: u64,
}

impl Host for Counting {
    fn output(&mut self, output: Output) {
        match output {
            Output::Route { .. } => self.routes += 1,
            Output::Track { address } => {
                let ways = vec![Resolution { metric: 0, via: Via { interface: "eth0".into(), gateway: None } }];
                let resolved = move |speaker: &mut Speaker, now, out: &mut Vec<Output>| {
                    speaker.handle(now, Input::Resolved { address, ways }, out);
                };
                if let Some(handle) = self.handle.get() {
                    // It has ended when we have.
                    let _ = handle.post(resolved);
                }
            }
            _ => {}
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        eprintln!("{trouble}");
    }
}

fn main() -> Outcome<()> {
    net_linux::heap::keep_little();
    let file = std::env::args().nth(1).ok_or("bgp-router CONFIGURATION")?;
    let config = parse(&std::fs::read_to_string(file)?)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(config))
}

async fn run(config: Config) -> Outcome<()> {
    let setup = Setup::of(&config);
    let speaker = Speaker::new(Instant::now(), config, &Beginning::Fresh, 1)?;
    let known = Arc::new(OnceLock::new());
    let host = Counting { handle: Arc::clone(&known), routes: 0 };
    let (transport, handle) = Transport::new(speaker, host, Limits::default())?;
    // Set once, here.
    let _ = known.set(handle.clone());
    let running = transport.run();
    tokio::pin!(running);
    tokio::select! {
        result = handle.set_up(setup) => result?,
        result = &mut running => return result.map(drop).map_err(Into::into),
    }
    running.await?;
    Ok(())
}

fn parse(text: &str) -> Outcome<Config> {
    let mut lines = text.lines();
    let numbers = |line: &str| -> Outcome<(String, String)> {
        let (one, other) = line.split_once(' ').ok_or_else(|| format!("{line:?}: two words"))?;
        Ok((one.to_owned(), other.to_owned()))
    };
    let (asn, id) = numbers(lines.next().ok_or("an empty file")?)?;
    let asn = Asn::new(asn.parse()?).ok_or("AS 0")?;
    let mut config = Config::new(asn, RouterId::new(id.parse()?).ok_or("BGP identifier 0.0.0.0")?);
    config.listen = vec![(Ipv4Addr::UNSPECIFIED, BGP_PORT).into()];
    for line in lines {
        let (address, of) = numbers(line)?;
        let of = Asn::new(of.parse()?).ok_or("AS 0")?;
        let mut peer = PeerConfig::new(PeerAddress::Ip(address.parse::<IpAddr>()?), RemoteAsn::Exactly(of));
        peer.families = [Family::Ipv4].into();
        peer.passive = true;
        peer.reflector_client = of == asn;
        let send_hold = Some(Duration::from_secs(2 * u64::from(HOLD_SECONDS)));
        peer.hold = Hold { hold_seconds: HOLD_SECONDS, send_hold, ..Hold::default() };
        config.peers.insert(PeerName::from(address), peer);
    }
    Ok(config)
}
