//! Translations of UDP that are no longer right: a client that goes on to send would keep a backend that its service has no more, or
//! none. Never one of TCP, whose ends tell each other.

use super::object::{Frontend, Key, Object};
use cni_core::backend::{Known, Op};
use net_linux::conntrack::{FlowFilter, TupleFilter};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const UDP: u8 = 17;

/// What a batch of writes may have made wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stale {
    /// Backends that were replaced or taken away at one place; they may stand at another.
    pub(super) gone: BTreeSet<(Frontend, SocketAddr)>,
    /// Frontends that had no backend.
    pub(super) begun: BTreeSet<Frontend>,
}

impl Stale {
    pub(super) fn of(ops: &[Op<Key, Object>]) -> Self {
        let mut found = Self::default();
        for op in ops {
            match op {
                Op::Put {
                    key: Key::Backend(frontend, _), present: Known::Present(Object::Backend(backend)), ..
                }
                | Op::Delete { key: Key::Backend(frontend, _), present: Known::Present(Object::Backend(backend)) }
                    if frontend.protocol == UDP =>
                {
                    found.gone.insert((*frontend, *backend));
                }
                Op::Put { key: Key::Frontend(frontend), present: Known::Absent, .. } if frontend.protocol == UDP => {
                    found.begun.insert(*frontend);
                }
                _ => {}
            }
        }
        found
    }

    /// Which connections to forget, where these are the elements now.
    pub(super) fn filters(&self, there: &[(Key, Object)]) -> Vec<FlowFilter> {
        let still = |frontend: &Frontend, backend: &SocketAddr| {
            there.iter().any(|(key, object)| match (key, object) {
                (Key::Backend(of, _), Object::Backend(found)) => of == frontend && found == backend,
                _ => false,
            })
        };
        let gone = self.gone.iter().filter(|(frontend, backend)| !still(frontend, backend));
        let gone = gone.map(|(frontend, backend)| led(frontend, *backend));
        // Who sent before there was a backend was not translated.
        gone.chain(self.begun.iter().map(|frontend| led(frontend, frontend.address))).collect()
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
