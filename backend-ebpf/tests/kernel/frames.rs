//! Frames to give to the programs. Never sent.

use cni_core::policy::evaluate::{Connection, Party};
use cni_core::policy::model::Protocol;
use std::net::IpAddr;

/// A port that no rule of random policies names: what clients send from.
pub(crate) const CLIENT_PORT: u16 = 55_555;

/// A packet in its parts.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// Above IP.
    pub(crate) payload: Vec<u8>,
    /// IPv6 extension headers, each with its number and without its first byte, the next header's number.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
    /// IPv4 options, in words of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) hop_limit: u8,
    /// IPv4: flags and offset; the identification.
    pub(crate) fragment: (u16, u16),
}

impl Frame {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        let (extensions, options) = (Vec::new(), Vec::new());
        Self { source, destination, protocol, payload, extensions, options, hop_limit: 64, fragment: (0, 0) }
    }

    /// The first packet of a connection.
    pub(crate) fn of(connection: &Connection) -> Self {
        let (Party::Address(source), Party::Address(destination)) = (&connection.from, &connection.to) else {
            panic!("{connection:?} is not between addresses");
        };
        let protocol = connection.protocol;
        let ports = |source: Option<u16>, destination: Option<u16>| {
            [source.unwrap_or(CLIENT_PORT).to_be_bytes(), destination.unwrap().to_be_bytes()].concat()
        };
        let mut payload = match connection.icmp {
            Some(icmp) => vec![icmp.kind, icmp.code.unwrap()],
            None if protocol.has_ports() => ports(connection.source_port, connection.destination_port),
            None => Vec::new(),
        };
        payload.resize(if protocol == Protocol::TCP { 20 } else { 12 }, 0);
        Self::new(*source, *destination, protocol.0, payload)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = 20 + self.options.len();
                let total = u16::try_from(header + self.payload.len()).unwrap().to_be_bytes();
                let words = u8::try_from(header / 4).unwrap();
                frame.extend([8, 0, 0x40 | words, 0]);
                frame.extend(total);
                frame.extend(self.fragment.1.to_be_bytes());
                frame.extend(self.fragment.0.to_be_bytes());
                frame.extend([self.hop_limit, self.protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend(&self.options);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let extensions: usize = self.extensions.iter().map(|(_, rest)| rest.len() + 1).sum();
                let length = u16::try_from(extensions + self.payload.len()).unwrap().to_be_bytes();
                let mut following = self.extensions.iter().map(|(number, _)| *number).chain([self.protocol]);
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length);
                frame.extend([following.next().unwrap(), self.hop_limit]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                for (_, rest) in &self.extensions {
                    frame.push(following.next().unwrap());
                    frame.extend(rest);
                }
            }
            other => panic!("{other:?} are of two families"),
        }
        frame.extend(&self.payload);
        frame
    }
}
