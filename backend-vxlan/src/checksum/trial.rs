//! One test of one path: what to send when, and what the answers mean. Never looks at a clock and never sends.

use super::message::Kind;
use std::time::{Duration, Instant};

/// Rounds until silence means something: loss alone does not last so long.
const ROUNDS: u32 = 6;
/// Answers to computed probes without one to the others that prove the path broken.
const PROOF: u32 = 3;
/// Time for answers.
const ROUND: Duration = Duration::from_millis(150);

/// What a trial found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The card fills in inner checksums.
    Sound,
    /// It does not.
    Broken,
    /// The peer did not answer: nothing is known.
    Silent,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send a probe of each kind.
    Send,
    /// Wait until then.
    Wait(Instant),
    /// It is over.
    Done(Outcome),
}

/// A test under way.
#[derive(Debug)]
pub(super) struct Trial {
    rounds: u32,
    offloaded: u32,
    computed: u32,
    next: Instant,
}

impl Trial {
    pub(super) fn new(now: Instant) -> Self {
        Self { rounds: 0, offloaded: 0, computed: 0, next: now }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, kind: Kind) {
        match kind {
            Kind::Offloaded => self.offloaded += 1,
            Kind::Computed => self.computed += 1,
        }
    }

    pub(super) fn step(&mut self, now: Instant) -> Step {
        if self.offloaded > 0 {
            return Step::Done(Outcome::Sound);
        }
        if now < self.next {
            return Step::Wait(self.next);
        }
        if self.rounds == ROUNDS {
            return Step::Done(if self.computed >= PROOF { Outcome::Broken } else { Outcome::Silent });
        }
        self.rounds += 1;
        self.next = now + ROUND;
        Step::Send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a trial in which the peer answers the kinds given, all but the first `lost` rounds.
    fn play(kinds: &[Kind], lost: u32) -> (Outcome, u32) {
        let mut now = Instant::now();
        let mut trial = Trial::new(now);
        let mut sent = 0;
        loop {
            match trial.step(now) {
                Step::Send => {
                    sent += 1;
                    if sent > lost {
                        kinds.iter().for_each(|kind| trial.answered(*kind));
                    }
                }
                Step::Wait(until) => now = until,
                Step::Done(outcome) => return (outcome, sent),
            }
        }
    }

    #[test]
    fn one_answer_to_an_offloaded_probe_proves_the_path_sound() {
        assert_eq!(play(&[Kind::Offloaded, Kind::Computed], 0), (Outcome::Sound, 1));
        assert_eq!(play(&[Kind::Offloaded, Kind::Computed], 4), (Outcome::Sound, 5));
    }

    #[test]
    fn answers_to_computed_probes_only_prove_it_broken() {
        assert_eq!(play(&[Kind::Computed], 0), (Outcome::Broken, ROUNDS));
    }

    #[test]
    fn silence_and_a_lossy_path_prove_nothing() {
        assert_eq!(play(&[], 0).0, Outcome::Silent);
        assert_eq!(play(&[Kind::Computed], ROUNDS - 1).0, Outcome::Silent);
    }
}
