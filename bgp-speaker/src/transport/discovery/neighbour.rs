//! Who is on the other end of a link, and when to say that we are on this one. Never a clock or a socket.

use super::advert::Message;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// How often we advertise, as other BGP speakers do on unnumbered links: much more often than RFC 4861 has by default.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// The least time between two advertisements to all: `MIN_DELAY_BETWEEN_RAS` of RFC 4861, section 10.
const LEAST_GAP: Duration = Duration::from_secs(3);
/// After so many of our intervals of silence somebody else may take the place.
const OUSTED_AFTER: Duration = Duration::from_secs(30);
/// For a lifetime of 0, which says nothing of how long the router is there: the greatest interval that RFC 4861, section
/// 6.2.1, allows between two advertisements. Sessions have timers of their own.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1800);

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Send {
    Advertisement,
    Solicitation,
}

#[derive(Debug)]
struct Heard {
    address: Ipv6Addr,
    at: Instant,
    until: Instant,
}

/// One link.
#[derive(Debug)]
pub(super) struct Neighbour {
    heard: Option<Heard>,
    /// Next advertisement.
    next: Instant,
    last: Option<Instant>,
    solicited: bool,
}

impl Neighbour {
    pub(super) const fn new(now: Instant) -> Self {
        Self { heard: None, next: now, last: None, solicited: false }
    }

    pub(super) fn address(&self) -> Option<Ipv6Addr> {
        self.heard.as_ref().map(|heard| heard.address)
    }

    /// When to call [`tick`](Self::tick).
    pub(super) fn deadline(&self) -> Instant {
        self.heard.as_ref().map_or(self.next, |heard| heard.until.min(self.next))
    }

    /// A message came from a link-local address with the full hop limit.
    pub(super) fn receive(&mut self, now: Instant, from: Ipv6Addr, message: Message) {
        match message {
            Message::Solicitation => self.soon(now),
            Message::Advertisement { lifetime_seconds } => {
                let known = self.address() == Some(from);
                if !known && self.heard.as_ref().is_some_and(|heard| heard.at + OUSTED_AFTER > now) {
                    return;
                }
                let lifetime = match lifetime_seconds {
                    0 => FORGOTTEN_AFTER,
                    seconds => Duration::from_secs(seconds.into()),
                };
                self.heard = Some(Heard { address: from, at: now, until: now + lifetime });
                if !known {
                    // It may have begun after our last one.
                    self.soon(now);
                }
            }
        }
    }

    /// What is due.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Send> {
        if self.heard.as_ref().is_some_and(|heard| heard.until <= now) {
            self.heard = None;
        }
        let mut due = Vec::new();
        if self.next <= now {
            if !self.solicited {
                self.solicited = true;
                due.push(Send::Solicitation);
            }
            due.push(Send::Advertisement);
            self.last = Some(now);
            self.next = now + INTERVAL;
        }
        due
    }

    fn soon(&mut self, now: Instant) {
        self.next = self.next.min(self.last.map_or(now, |last| (last + LEAST_GAP).max(now)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Message = Message::Advertisement { lifetime_seconds: 0 };
    const A: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn it_asks_once_and_advertises_every_ten_seconds() {
        let mut now = Instant::now();
        let mut link = Neighbour::new(now);
        assert_eq!(link.tick(now), [Send::Solicitation, Send::Advertisement]);
        for _ in 0..3 {
            assert_eq!(link.deadline(), now + INTERVAL);
            assert_eq!(link.tick(link.deadline() - Duration::from_nanos(1)), []);
            now = link.deadline();
            assert_eq!(link.tick(now), [Send::Advertisement]);
        }
    }

    #[test]
    fn a_newcomer_is_answered_and_a_flood_is_not() {
        let start = Instant::now();
        let mut link = Neighbour::new(start);
        link.tick(start);
        for millis in 0..3000 {
            let now = start + Duration::from_millis(millis);
            link.receive(now, A, ROUTER);
            link.receive(now, B, Message::Solicitation);
            assert_eq!(link.tick(now), [], "after {millis} ms");
        }
        assert_eq!(link.deadline(), start + LEAST_GAP);
        assert_eq!(link.tick(start + LEAST_GAP), [Send::Advertisement]);
    }

    #[test]
    fn another_router_takes_the_place_only_of_a_silent_one() {
        let start = Instant::now();
        let mut link = Neighbour::new(start);
        link.receive(start, A, ROUTER);
        link.receive(start + OUSTED_AFTER - Duration::from_secs(1), B, ROUTER);
        assert_eq!(link.address(), Some(A));
        link.receive(start + OUSTED_AFTER, B, ROUTER);
        assert_eq!(link.address(), Some(B));
    }

    #[test]
    fn a_lifetime_that_is_over_is_over() {
        let start = Instant::now();
        let mut link = Neighbour::new(start);
        link.receive(start, A, Message::Advertisement { lifetime_seconds: 30 });
        link.tick(start + Duration::from_secs(29));
        assert_eq!(link.address(), Some(A));
        link.tick(start + Duration::from_secs(30));
        assert_eq!(link.address(), None);
    }
}
