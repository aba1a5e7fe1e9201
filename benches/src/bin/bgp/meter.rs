//! What a process has used of the machine. Never more than `/proc` shows.

use crate::Outcome;
use std::fs;
use std::time::{Duration, Instant};

/// A process under measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter(pub(crate) u32);

/// What a step took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    /// The most that has been resident so far.
    pub(crate) rss_kilobytes: u64,
}

/// A running measurement.
pub(crate) struct Running {
    meter: Meter,
    start: Instant,
    cpu: Duration,
}

impl Meter {
    /// `utime` and `stime`, fields 14 and 15 of proc(5), in ticks of 10 ms.
    pub(crate) fn cpu(self) -> Outcome<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name before it may hold blanks.
        let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn rss_kilobytes(self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("the process has ended")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Waits until the process has nothing to do for half a second.
    pub(crate) fn idle(self) -> Outcome<()> {
        let mut last = self.cpu()?;
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.cpu()?;
            if now.saturating_sub(last) <= Duration::from_millis(10) {
                return Ok(());
            }
            last = now;
        }
    }

    pub(crate) fn start(self) -> Outcome<Running> {
        Ok(Running { meter: self, cpu: self.cpu()?, start: Instant::now() })
    }
}

impl Running {
    pub(crate) fn stop(self) -> Outcome<Took> {
        let wall = self.start.elapsed();
        let cpu = self.meter.cpu()?.saturating_sub(self.cpu);
        Ok(Took { wall, cpu, rss_kilobytes: self.meter.rss_kilobytes()? })
    }
}
