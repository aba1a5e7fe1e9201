//! Ethernet addresses. Never looks one up: it only parses, prints and generates.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address (EUI-48), printed as `02:ab:cd:ef:01:23`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// A unicast, locally administered address (IEEE 802, U/L bit set, I/G bit clear) derived from a name.
    ///
    /// The same name gives the same address on every node and after every restart, so a VTEP or an
    /// endpoint keeps its address without storing it.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        // FNV-1a, 64 bits: stable across versions of Rust, which `DefaultHasher` does not promise.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let [_, _, a, b, c, d, e, f] = (hash ^ (hash >> 48)).to_be_bytes();
        Self([(a | 0x02) & 0xfe, b, c, d, e, f])
    }

    /// Whether this may be a station's own address: neither multicast nor all zero.
    #[must_use]
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six two-digit hexadecimal bytes with colons between them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an Ethernet address: write six hexadecimal bytes, as in 02:ab:cd:ef:01:23")]
pub struct ParseMacError {
    /// What was given.
    pub text: String,
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let bad = || ParseMacError { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(bad)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Self(bytes)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_prints() {
        let mac = MacAddr([0x02, 0xab, 0, 1, 0xff, 9]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn anything_but_six_two_digit_bytes_is_refused() {
        for text in
            ["", "02:ab:cd:ef:01", "02:ab:cd:ef:01:23:45", "2:ab:cd:ef:01:23", "+2:ab:cd:ef:01:23", "02-ab-cd-ef-01-23"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_generated_address_is_stable_unicast_and_locally_administered() {
        let mac = MacAddr::from_name("node-1");
        assert_eq!(mac, MacAddr::from_name("node-1"));
        assert_ne!(mac, MacAddr::from_name("node-2"));
        assert!(mac.is_unicast());
        assert_eq!(mac.0[0] & 0x02, 0x02);
    }
}
