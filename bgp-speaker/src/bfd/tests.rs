//! What a BFD session promises, in virtual time. Never a real one.

use super::*;
use proptest::prelude::*;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

/// Worked by hand from RFC 5880, section 4.1: version 1, diagnostic 0; Up with Poll; multiplier 3; 24 bytes; numbers 1
/// and 2; 300 ms, 200 ms, no echo.
const GOLDEN: [u8; 24] =
    [0x20, 0xe0, 0x03, 0x18, 0, 0, 0, 1, 0, 0, 0, 2, 0x00, 0x04, 0x93, 0xe0, 0x00, 0x03, 0x0d, 0x40, 0, 0, 0, 0];

fn golden() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: true,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::MIN,
        your_discriminator: 2,
        desired_min_tx_micros: 300_000,
        required_min_rx_micros: 200_000,
        required_min_echo_rx_micros: 0,
    }
}

#[test]
fn the_golden_packet_reads_and_writes() {
    assert_eq!(golden().encode(), GOLDEN);
    assert_eq!(Packet::decode(&GOLDEN), Ok(golden()));
    // Trailing bytes are not the packet's.
    assert_eq!(Packet::decode(&[&GOLDEN[..], &[1, 2]].concat()), Ok(golden()));
}

#[test]
fn each_rule_of_section_6_8_6_discards() {
    let with = |changes: &[(usize, u8)]| {
        let mut bytes = GOLDEN;
        for (at, byte) in changes {
            bytes[*at] = *byte;
        }
        Packet::decode(&bytes)
    };
    assert_eq!(Packet::decode(&GOLDEN[..23]), Err(PacketError::Truncated { bytes: 23 }));
    assert_eq!(with(&[(0, 0x40)]), Err(PacketError::Version(2)));
    assert_eq!(with(&[(3, 23)]), Err(PacketError::Length { field: 23, bytes: 24 }));
    assert_eq!(with(&[(3, 25)]), Err(PacketError::Length { field: 25, bytes: 24 }));
    assert_eq!(with(&[(2, 0)]), Err(PacketError::Multiplier));
    assert_eq!(with(&[(1, 0xe1)]), Err(PacketError::Multipoint));
    assert_eq!(with(&[(7, 0)]), Err(PacketError::MyDiscriminator));
    assert_eq!(with(&[(11, 0)]), Err(PacketError::YourDiscriminator(State::Up)));
    assert_eq!(with(&[(11, 0), (1, 0x80)]), Err(PacketError::YourDiscriminator(State::Init)));
    assert!(with(&[(11, 0), (1, 0x40)]).is_ok(), "Down may come without our number");
    assert!(with(&[(11, 0), (1, 0x00)]).is_ok(), "AdminDown too");
    // With authentication the least length is 26.
    assert_eq!(with(&[(1, 0xe4)]), Err(PacketError::Length { field: 24, bytes: 24 }));
    let mut long = [&GOLDEN[..], &[0, 0]].concat();
    (long[1], long[3]) = (0xe4, 26);
    assert_eq!(Packet::decode(&long), Err(PacketError::Authentication));
}

/// Two sessions and the link between them.
struct Pair {
    ends: [Session; 2],
    now: Instant,
    /// When it arrives, at whom, and what.
    flying: Vec<(Instant, usize, Packet)>,
    delay: Duration,
    events: Vec<(Instant, usize, Action)>,
    sent: Vec<(Instant, usize, Packet)>,
}

impl Pair {
    fn new(configs: [Config; 2], delay: Duration, seed: u64) -> Self {
        let now = Instant::now();
        let ends = [0, 1].map(|end| {
            Session::new(now, configs[end], NonZeroU32::new(7 + end as u32).unwrap(), seed + 1000 * end as u64)
        });
        Self { ends, now, flying: Vec::new(), delay, events: Vec::new(), sent: Vec::new() }
    }

    fn equal(interval_ms: u64, multiplier: u8) -> Self {
        let config = Config::new(Duration::from_millis(interval_ms), multiplier);
        Self::new([config, config], Duration::from_micros(300), 1)
    }

    fn carry(&mut self, from: usize, out: Vec<Action>, lost: &mut impl FnMut(usize) -> bool) {
        for action in out {
            match action {
                Action::Send(packet) => {
                    // Section 6.8.3: whoever is not up says that it sends slowly.
                    assert!(packet.state == State::Up || packet.desired_min_tx_micros >= 1_000_000, "{packet:?}");
                    self.sent.push((self.now, from, packet));
                    if !lost(from) {
                        // What goes over the wire is bytes.
                        let packet = Packet::decode(&packet.encode()).unwrap();
                        self.flying.push((self.now + self.delay, 1 - from, packet));
                    }
                }
                event => self.events.push((self.now, from, event)),
            }
        }
    }

    /// Lets time pass until `end`.
    fn run(&mut self, length: Duration, mut lost: impl FnMut(usize) -> bool) {
        let end = self.now + length;
        loop {
            let timers = self.ends.iter().filter_map(Session::deadline);
            let next = timers.chain(self.flying.iter().map(|(at, ..)| *at)).min().unwrap_or(end);
            if next >= end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            let (arrived, flying) = self.flying.drain(..).partition(|(at, ..)| *at <= self.now);
            self.flying = flying;
            for (_, to, packet) in arrived {
                let mut out = Vec::new();
                self.ends[to].receive(self.now, &packet, &mut out).unwrap();
                self.carry(to, out, &mut lost);
            }
            for end in 0..2 {
                let mut out = Vec::new();
                self.ends[end].tick(self.now, &mut out);
                self.carry(end, out, &mut lost);
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

const UP: [State; 2] = [State::Up, State::Up];

#[test]
fn until_up_one_packet_a_second_and_then_the_agreed_interval() {
    let mut pair = Pair::equal(100, 3);
    pair.run(Duration::from_secs(5), |_| true);
    assert!((5..=8).contains(&pair.sent.iter().filter(|(_, end, _)| *end == 0).count()), "{:?}", pair.sent);
    pair.run(Duration::from_secs(2), |_| false);
    assert_eq!(pair.states(), UP);
    pair.sent.clear();
    pair.run(Duration::from_secs(10), |_| false);
    let count = pair.sent.iter().filter(|(_, end, _)| *end == 0).count();
    // 75 to 100 % of 100 ms.
    assert!((100..=134).contains(&count), "{count} packets in 10 s");
    assert!(!pair.sent.iter().any(|(_, _, packet)| packet.poll), "the poll sequence has ended");
    assert_eq!(pair.ends[0].detection_time(), Duration::from_millis(300));
}

#[test]
fn the_slower_of_what_one_sends_and_the_other_can_take_is_agreed() {
    let configs = [Config::new(Duration::from_millis(50), 5), Config::new(Duration::from_millis(200), 3)];
    let mut pair = Pair::new(configs, Duration::from_millis(1), 9);
    pair.run(Duration::from_secs(5), |_| false);
    assert_eq!(pair.states(), UP);
    assert_eq!(pair.ends[0].detection_time(), Duration::from_millis(600));
    assert_eq!(pair.ends[1].detection_time(), Duration::from_millis(1000));
}

#[test]
fn packets_come_at_75_to_100_per_cent_of_the_agreed_interval_and_at_90_where_one_missed_is_too_many() {
    for (multiplier, most) in [(3, 200.0), (1, 180.0)] {
        let configs = [Config::new(Duration::from_millis(50), multiplier), Config::new(Duration::from_millis(200), 3)];
        let mut pair = Pair::new(configs, Duration::from_millis(1), 9);
        pair.run(Duration::from_secs(5), |_| false);
        pair.sent.clear();
        pair.run(Duration::from_secs(100), |_| false);
        let sent: Vec<_> = pair.sent.iter().filter(|(_, end, _)| *end == 0).map(|(at, ..)| *at).collect();
        let gaps = sent.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64() * 1000.0);
        let (low, high) = gaps.fold((f64::MAX, 0.0_f64), |(low, high), gap| (low.min(gap), high.max(gap)));
        assert!((149.9..153.0).contains(&low), "{low} ms");
        assert!((most - 3.0..most + 0.1).contains(&high), "{high} ms");
    }
}

#[test]
fn faster_packets_are_expected_only_once_the_neighbour_knows() {
    let configs = [Config::new(Duration::from_millis(400), 3), Config::new(Duration::from_millis(50), 3)];
    let mut pair = Pair::new(configs, Duration::from_millis(1), 4);
    pair.run(Duration::from_secs(5), |_| false);
    assert_eq!(pair.ends[0].detection_time(), Duration::from_millis(1200));
    pair.ends[0].reconfigure(Config::new(Duration::from_millis(50), 3));
    assert_eq!(pair.ends[0].detection_time(), Duration::from_millis(1200));
    pair.run(Duration::from_secs(2), |_| false);
    assert_eq!(pair.ends[0].detection_time(), Duration::from_millis(150));
}

#[test]
fn a_neighbour_that_switches_bfd_off_is_not_a_lost_path() {
    let mut pair = Pair::equal(100, 3);
    pair.run(Duration::from_secs(3), |_| false);
    pair.events.clear();
    let mut out = Vec::new();
    pair.ends[1].set_admin_down(pair.now, true, &mut out);
    pair.carry(1, out, &mut |_| false);
    assert_eq!(pair.events, [(pair.now, 1, Action::Unwatched)]);
    // It discards what comes.
    pair.flying.retain(|(_, to, _)| *to == 0);
    let (at, _, packet) = pair.flying[0];
    let mut out = Vec::new();
    pair.ends[0].receive(at, &packet, &mut out).unwrap();
    assert_eq!(out[0], Action::Unwatched);
    assert_eq!(pair.states(), [State::Down, State::AdminDown]);
    assert_eq!(pair.ends[1].receive(at, &golden(), &mut out), Err(Discard::Discriminator { found: 2 }));
    let to_one = Packet { your_discriminator: 8, ..golden() };
    assert_eq!(pair.ends[1].receive(at, &to_one, &mut out), Err(Discard::AdminDown));
    // On again.
    pair.flying.clear();
    pair.ends[1].set_admin_down(pair.now, false, &mut Vec::new());
    pair.run(Duration::from_secs(4), |_| false);
    assert_eq!(pair.states(), UP);
}

#[test]
fn other_intervals_are_agreed_without_going_down() {
    let mut pair = Pair::equal(100, 3);
    pair.run(Duration::from_secs(3), |_| false);
    pair.events.clear();
    for (millis, other) in [(400, 100), (50, 100), (2000, 100)] {
        pair.ends[0].reconfigure(Config::new(Duration::from_millis(millis), 3));
        if millis > other {
            // The neighbour has not heard of it yet: packets still come at the old pace.
            assert!(pair.ends[0].deadline().unwrap() <= pair.now + Duration::from_millis(100));
        }
        pair.run(Duration::from_secs(20), |_| false);
        assert_eq!(pair.events, [], "at {millis} ms");
        assert_eq!(pair.ends[1].detection_time(), Duration::from_millis(3 * millis.max(other)));
        assert!(!pair.ends[0].polling());
    }
}

#[test]
fn a_question_is_answered_at_once() {
    let mut pair = Pair::equal(100, 3);
    pair.run(Duration::from_secs(3), |_| false);
    let mut out = Vec::new();
    let question = Packet { your_discriminator: 7, my_discriminator: NonZeroU32::new(8).unwrap(), ..golden() };
    pair.ends[0].receive(pair.now, &question, &mut out).unwrap();
    assert!(matches!(out[..], [Action::Send(Packet { is_final: true, poll: false, .. })]), "{out:?}");
}

#[test]
fn a_neighbour_that_wants_no_packets_gets_none() {
    let mut pair = Pair::equal(100, 3);
    pair.run(Duration::from_secs(3), |_| false);
    let silent = Packet { required_min_rx_micros: 0, your_discriminator: 7, poll: false, ..golden() };
    pair.ends[0].receive(pair.now, &silent, &mut Vec::new()).unwrap();
    assert_eq!(pair.ends[0].deadline(), Some(pair.now + pair.ends[0].detection_time()));
    let asleep = Packet { demand: true, your_discriminator: 7, poll: false, ..golden() };
    pair.ends[0].receive(pair.now, &asleep, &mut Vec::new()).unwrap();
    assert_eq!(pair.ends[0].deadline(), Some(pair.now + pair.ends[0].detection_time()));
}

proptest! {
    #[test]
    fn decoding_never_panics_and_what_is_read_is_what_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(packet) = Packet::decode(&bytes) {
            prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
        }
    }

    #[test]
    fn a_nearly_right_packet_never_panics_a_session(
        changes in proptest::collection::vec((0_usize..24, any::<u8>(), 0_u64..2000), 0..200),
        interval in 1_u64..5000, multiplier: u8,
    ) {
        let mut now = Instant::now();
        let config = Config::new(Duration::from_millis(interval), multiplier);
        let mut session = Session::new(now, config, NonZeroU32::new(2).unwrap(), 3);
        let mut bytes = GOLDEN;
        for (at, byte, later) in changes {
            bytes[at] = byte;
            now += Duration::from_millis(later);
            let mut out = Vec::new();
            if let Ok(packet) = Packet::decode(&bytes) {
                let _ = session.receive(now, &packet, &mut out);
            } else {
                bytes = GOLDEN;
            }
            session.tick(now, &mut out);
            prop_assert!(session.deadline().is_none_or(|deadline| deadline > now), "a tick that leads nowhere");
            prop_assert!(out.len() <= 8);
        }
    }

    #[test]
    fn over_a_lossy_link_two_sessions_come_up_and_a_good_one_keeps_them_up(
        intervals in [1_u64..1000, 1_u64..1000], multipliers in [1_u8..8, 1_u8..8],
        delay_micros in 0_u64..50_000, seed: u32, loss in 0_u64..40,
    ) {
        let configs = [0, 1].map(|end| Config::new(Duration::from_millis(intervals[end]), multipliers[end]));
        let mut pair = Pair::new(configs, Duration::from_micros(delay_micros), seed.into());
        let mut dice = u64::from(seed) | 1;
        pair.run(Duration::from_secs(5), |_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % 100 < loss
        });
        // Now without loss: up within a few slow packets, ...
        pair.run(Duration::from_secs(10), |_| false);
        prop_assert_eq!(pair.states(), UP);
        pair.events.clear();
        // ... and nothing happens any more.
        pair.run(Duration::from_secs(30), |_| false);
        prop_assert!(pair.events.is_empty(), "{:?}", pair.events);
    }

    #[test]
    fn when_packets_stop_it_is_down_after_the_detection_time_and_never_before(
        intervals in [1_u64..1000, 1_u64..1000], multipliers in [1_u8..8, 1_u8..8], seed: u32, dead in 0_usize..2,
    ) {
        let configs = [0, 1].map(|end| Config::new(Duration::from_millis(intervals[end]), multipliers[end]));
        let delay = Duration::from_micros(100);
        let mut pair = Pair::new(configs, delay, seed.into());
        pair.run(Duration::from_secs(15), |_| false);
        prop_assert_eq!(pair.states(), UP);
        pair.events.clear();
        let last = pair.sent.iter().filter(|(_, end, _)| *end == dead).map(|(at, ..)| *at).max().unwrap() + delay;
        let witness = 1 - dead;
        let detection = Duration::from_millis(intervals[0].max(intervals[1])) * u32::from(multipliers[dead]);
        prop_assert_eq!(pair.ends[witness].detection_time(), detection);
        pair.run(detection + Duration::from_secs(1), |end| end == dead);
        let down = pair.events.iter().find(|(_, end, _)| *end == witness).unwrap();
        prop_assert_eq!(down.2, Action::Down(Diagnostic::EXPIRED));
        prop_assert_eq!(down.0, last + detection);
    }
}

/// RFC 5882, section 4.3: what the silence of a neighbour means is asked once it is silent.
#[test]
fn the_c_bit_of_the_last_packet_is_known_after_the_neighbour_has_fallen_silent() {
    for independent in [false, true] {
        let mut pair = Pair::equal(100, 3);
        pair.run(Duration::from_secs(5), |_| false);
        assert_eq!(pair.states(), UP);
        assert!(!pair.ends[0].control_plane_independent());
        let (_, _, last) = *pair.sent.iter().rfind(|(_, from, _)| *from == 1).unwrap();
        let packet = Packet { control_plane_independent: independent, ..last };
        pair.ends[0].receive(pair.now, &packet, &mut Vec::new()).unwrap();
        assert_eq!(pair.ends[0].control_plane_independent(), independent);
        pair.flying.clear();
        pair.run(Duration::from_secs(5), |_| true);
        assert_eq!(pair.states(), [State::Down; 2]);
        assert_eq!(pair.ends[0].control_plane_independent(), independent);
    }
}
