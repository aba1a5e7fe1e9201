//! Fragments: what the first one said, for those that follow. Never the payload.

/// A packet that was fragmented. RFC 791, section 2.3; RFC 8200, section 4.5.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Who sent it, see [`crate::mapped`].
    pub source: [u8; 16],
    /// To whom.
    pub destination: [u8; 16],
    /// Its identification.
    pub id: u32,
    /// The interface where it was seen.
    pub interface: u32,
    /// The protocol as each fragment names it, and 0x100 for what goes to a pod.
    pub protocol: u32,
}

impl FragmentKey {
    /// The bit in [`FragmentKey::protocol`] of what goes to a pod.
    pub const TO_POD: u32 = 0x100;
}

/// What only the first fragment has.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// The destination port, or the ICMP message.
    pub detail: u16,
    /// The source port.
    pub source_port: u16,
    /// The protocol behind extension headers.
    pub protocol: u32,
}
