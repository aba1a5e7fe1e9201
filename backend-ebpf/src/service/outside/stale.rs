//! Translations of UDP that are no longer right: a client that goes on to send would keep a backend that its service has no more, or
//! none. Never one of TCP, whose ends tell each other.

use super::object::{Frontend, Key, Object};
use cni_core::backend::{Known, Op};
use net_linux::conntrack::{FlowFilter, TupleFilter};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const UDP: u8 = 17;

/// Which backends frontends over UDP lead to, as the kernel has them: one that is taken from a place may stand at another.
#[derive(Debug, Default)]
pub(super) struct Led(BTreeMap<Frontend, BTreeMap<u32, SocketAddr>>);

impl Led {
    /// From all elements.
    pub(super) fn of(there: &[(Key, Object)]) -> Self {
        let mut led = Self::default();
        for entry in there {
            if let (Key::Backend(frontend, place), Object::Backend(backend)) = entry {
                led.put(*frontend, *place, *backend);
            }
        }
        led
    }

    fn put(&mut self, frontend: Frontend, place: u32, backend: SocketAddr) -> Option<SocketAddr> {
        if frontend.protocol != UDP {
            return None;
        }
        self.0.entry(frontend).or_default().insert(place, backend)
    }

    /// Takes in what was written. Answers which connections to forget.
    pub(super) fn written<'a>(&mut self, ops: impl Iterator<Item = &'a Op<Key, Object>>) -> Vec<FlowFilter> {
        let (mut gone, mut begun) = (BTreeSet::new(), BTreeSet::new());
        for op in ops {
            match op {
                Op::Put { key: Key::Backend(frontend, place), object: Object::Backend(backend), .. } => {
                    let before = self.put(*frontend, *place, *backend);
                    gone.extend(before.map(|before| (*frontend, before)));
                }
                Op::Delete { key: Key::Backend(frontend, place), .. } => {
                    let before = self.0.get_mut(frontend).and_then(|places| places.remove(place));
                    gone.extend(before.map(|before| (*frontend, before)));
                }
                Op::Put { key: Key::Frontend(frontend), present: Known::Absent, .. } if frontend.protocol == UDP => {
                    begun.insert(*frontend);
                }
                Op::Put { key: Key::Sources(frontend), object: Object::Sources { then: Some(_), .. }, present }
                    if frontend.protocol == UDP
                        && !matches!(present, Known::Present(Object::Sources { then: Some(_), .. })) =>
                {
                    begun.insert(*frontend);
                }
                _ => {}
            }
        }
        let still = |frontend, backend| {
            self.0.get(frontend).is_some_and(|places| places.values().any(|found| found == backend))
        };
        let gone = gone.iter().filter(|(frontend, backend)| !still(frontend, backend));
        let gone = gone.map(|(frontend, backend)| led(frontend, *backend));
        // Who sent before there was a backend was not translated.
        let filters = gone.chain(begun.iter().map(|frontend| led(frontend, frontend.address))).collect();
        self.0.retain(|_, places| !places.is_empty());
        filters
    }
}

fn led(frontend: &Frontend, answers: SocketAddr) -> FlowFilter {
    FlowFilter {
        original: TupleFilter {
            protocol: Some(frontend.protocol),
            destination: Some(frontend.address.ip()),
            destination_port: Some(frontend.address.port()),
            ..TupleFilter::default()
        },
        reply: TupleFilter {
            protocol: Some(frontend.protocol),
            source: Some(answers.ip()),
            source_port: Some(answers.port()),
            ..TupleFilter::default()
        },
        ..FlowFilter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(place: u32, backend: &str) -> Op<Key, Object> {
        let (frontend, backend) = (frontend(), backend.parse().unwrap());
        Op::Put { key: Key::Backend(frontend, place), present: Known::Unknown, object: Object::Backend(backend) }
    }

    fn frontend() -> Frontend {
        Frontend { address: "192.0.2.1:53".parse().unwrap(), protocol: UDP }
    }

    #[test]
    fn what_only_changes_its_place_is_not_forgotten_and_what_goes_is() {
        let mut led = Led::default();
        let (a, b, c) = ("10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53");
        assert_eq!(led.written([put(0, a), put(1, b), put(2, c)].iter()), []);
        // b goes: c takes its place, and then the last place goes.
        let gone = led.written([put(1, c)].iter());
        assert_eq!(gone, [super::led(&frontend(), b.parse().unwrap())]);
        let last = Op::Delete { key: Key::Backend(frontend(), 2), present: Known::Unknown };
        assert_eq!(led.written([last].iter()), []);
        let begun = Op::Put {
            key: Key::Frontend(frontend()),
            present: Known::Absent,
            object: Object::Frontend(super::super::Choice { count: 1, by_client: false, ipv6: false }),
        };
        assert_eq!(led.written([begun].iter()), [super::led(&frontend(), frontend().address)]);
    }
}
