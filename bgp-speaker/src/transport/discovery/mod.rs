//! Neighbours on unnumbered links, by router advertisements. Never takes a route or an address from one.
//!
//! Both ends advertise themselves as routers; the source of an advertisement is the other end's link-local address, which
//! a session then goes to. The device may come and go: what can't be opened is tried again each second.

mod advert;
mod neighbour;
mod socket;

use super::Trouble;
use super::poller::{Interest, Poller, Token};
use crate::speaker::Input;
use advert::Message;
use neighbour::{Neighbour, Send};
use socket::Link;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// When a device that is not there is looked for again.
const RETRY: Duration = Duration::from_secs(1);
/// Messages of one link that are read before others have their turn.
const TURN_MESSAGES: usize = 64;

#[derive(Debug)]
struct Watch {
    id: u64,
    neighbour: Neighbour,
    link: Option<Link>,
    /// While there is no link.
    retry: Instant,
    /// What was told last.
    told: Option<Ipv6Addr>,
    /// Whether it was told that the link can't be opened.
    complained: bool,
}

/// All links that are watched.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    watches: BTreeMap<Arc<str>, Watch>,
    next_id: u64,
}

/// What a change of neighbour is called.
pub(super) type Change = (Arc<str>, Option<Ipv6Addr>);

impl Discovery {
    /// Watches these interfaces and no others. A link that is no longer watched is forgotten without a word.
    pub(super) fn watch(&mut self, now: Instant, interfaces: &[Arc<str>]) {
        self.watches.retain(|name, _| interfaces.contains(name));
        for name in interfaces {
            if !self.watches.contains_key(name) {
                let (id, neighbour) = (self.next_id, Neighbour::new(now));
                self.next_id += 1;
                let watch = Watch { id, neighbour, link: None, retry: now, told: None, complained: false };
                self.watches.insert(Arc::clone(name), watch);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.watches.values().map(Watch::deadline).min()
    }

    /// The socket of a link has something to read.
    pub(super) fn receive(&mut self, now: Instant, id: u64) {
        let Some(watch) = self.watches.values_mut().find(|watch| watch.id == id) else { return };
        for _ in 0..TURN_MESSAGES {
            match watch.link.as_ref().map(Link::receive) {
                Some(Ok(Some((from, message)))) => watch.hear(now, from, message),
                Some(Ok(None)) | None => return,
                Some(Err(_)) => return watch.lost(now),
            }
        }
    }

    /// Does what is due; gives what has changed and what went wrong.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        poller: &Poller,
        changes: &mut Vec<Change>,
        trouble: &mut Vec<Trouble>,
    ) {
        for (name, watch) in &mut self.watches {
            if watch.deadline() <= now
                && let Err(source) = watch.tick(now, name, poller)
                && !std::mem::replace(&mut watch.complained, true)
            {
                trouble.push(Trouble::Discovery { interface: Arc::clone(name), source });
            }
            let address = watch.neighbour.address();
            if watch.told != address {
                // Another one: the first has gone.
                if watch.told.is_some() && address.is_some() {
                    changes.push((Arc::clone(name), None));
                }
                watch.told = address;
                changes.push((Arc::clone(name), address));
            }
        }
    }
}

impl Watch {
    fn deadline(&self) -> Instant {
        if self.link.is_some() { self.neighbour.deadline() } else { self.retry }
    }

    fn hear(&mut self, now: Instant, from: Option<Ipv6Addr>, message: Option<Message>) {
        if let (Some(from), Some(message)) = (from, message) {
            self.neighbour.receive(now, from, message);
        }
    }

    /// The device has gone, and whoever was at its other end.
    fn lost(&mut self, now: Instant) {
        self.link = None;
        self.retry = now + RETRY;
        self.neighbour = Neighbour::new(now);
    }

    fn tick(&mut self, now: Instant, name: &str, poller: &Poller) -> std::io::Result<()> {
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                self.retry = now + RETRY;
                let link = Link::open(name)?;
                poller.add(&link, Token::Discovery(self.id), Interest::READ)?;
                self.complained = false;
                self.neighbour = Neighbour::new(now);
                link
            }
        };
        for send in self.neighbour.tick(now) {
            let sent = match send {
                Send::Advertisement => link.send(advert::ADVERTISEMENT, &advert::advertisement()),
                Send::Solicitation => link.send(advert::SOLICITATION, &advert::solicitation()),
            };
            if let Err(source) = sent {
                self.lost(now);
                return Err(source);
            }
        }
        self.link = Some(link);
        Ok(())
    }
}

/// In the words of the speaker.
pub(super) fn input((interface, address): Change) -> Input<'static> {
    Input::Neighbour { interface, address }
}
