//! Inputs near good ones, without a fuzzer. Never random beyond its seed.

/// Pieces that parsers look at twice.
const TOKENS: &[&[u8]] = &[
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"\"",
    b"\\u0000",
    b"\xff",
    b"\0",
    b"-1",
    b"0",
    b"4294967295",
    b"1e999",
    b"18446744073709551616",
    b",",
    b":",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\n",
    b"---\n",
    b"- ",
    b"  ",
    b"&a ",
    b"*a",
    b"..",
    b"/",
    b"=",
    b";",
    b"0.0.0.0/0",
    b"::/0",
    b"::ffff:1.2.3.4",
    b"255.255.255.255/33",
    b"10.0.0.1/24",
    b"1.1.0",
    b"0.1.0",
    b"9.9.9",
];

/// Makes inputs.
pub struct Mutator(u64);

impl Mutator {
    /// The same seed makes the same inputs.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, 0 when that is 0. SplitMix64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % (bound as u64).max(1)).unwrap_or(0)
    }

    /// A few changes to one of the seeds.
    pub fn input(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds.get(self.below(seeds.len())).map_or_else(Vec::new, |seed| seed.to_vec());
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(16)).min(bytes.len());
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = self.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            4 => {
                let token = TOKENS[self.below(TOKENS.len())];
                drop(bytes.splice(at..at, token.iter().copied()));
            }
            5 => {
                let token = TOKENS[self.below(TOKENS.len())];
                drop(bytes.splice(at..end, token.iter().copied()));
            }
            6 => bytes.truncate(at),
            _ => {
                let other = seeds.get(self.below(seeds.len())).copied().unwrap_or_default();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
        }
    }
}
