//! A limit on how many errors are sent. Never looks at a clock: the time comes in.

use std::time::{Duration, Instant};

/// A token bucket; the figures are the kernel's own (`net.ipv4.icmp_msgs_per_sec`, `icmp_msgs_burst`).
#[derive(Debug)]
pub(super) struct Limit {
    tokens: u32,
    filled: Instant,
}

const PER_SECOND: u32 = 1000;
const BURST: u32 = 50;

impl Limit {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, filled: now }
    }

    /// Whether one more may be sent.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / PER_SECOND;
        let earned = (now.saturating_duration_since(self.filled).as_nanos() / each.as_nanos()).min(BURST.into());
        if let Ok(earned @ 1..) = u32::try_from(earned) {
            self.tokens = (self.tokens + earned).min(BURST);
            self.filled = now;
        }
        let allowed = self.tokens > 0;
        self.tokens -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_cut_and_time_earns_more() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        assert_eq!((0..100).filter(|_| limit.take(start)).count(), 50);
        let later = start + Duration::from_millis(10);
        assert_eq!((0..100).filter(|_| limit.take(later)).count(), 10);
    }
}
