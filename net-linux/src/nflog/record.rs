//! One logged packet, from the kernel's bytes. Never a socket.

use crate::nfnetlink::{Malformed, Message};
use std::time::Duration;

const PACKET_HEADER: u16 = 1;
const MARK: u16 = 2;
const TIMESTAMP: u16 = 3;
const INPUT: u16 = 4;
const OUTPUT: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const SEQUENCE: u16 = 12;

/// A packet that a rule logged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogRecord {
    /// The rule's words, up to 127 bytes.
    pub prefix: String,
    /// The hook that the rule is at: `NF_INET_*`, 0 for prerouting to 4 for postrouting.
    pub hook: u8,
    /// Ethertype, 0x0800 or 0x86dd.
    pub protocol: u16,
    /// Index of the interface that it came in.
    pub input: Option<u32>,
    /// Index of the interface that it goes out.
    pub output: Option<u32>,
    /// The packet's mark then.
    pub mark: u32,
    /// When it arrived, since the Unix epoch, where the kernel took the time.
    pub time: Option<Duration>,
    /// Its first bytes, from the network's header on.
    pub packet: Vec<u8>,
}

/// Reads a message `NFULNL_MSG_PACKET`, and the number that the kernel gave it in its group.
pub(super) fn read(message: &Message<'_>) -> Result<(LogRecord, Option<u32>), Malformed> {
    let (mut record, mut sequence) = (LogRecord::default(), None);
    for attr in message.attributes() {
        let attr = attr?;
        match attr.kind {
            // `struct nfulnl_msg_packet_hdr`.
            PACKET_HEADER => {
                let header = attr.value.first_chunk::<3>().ok_or(Malformed::new("header of a logged packet"))?;
                record.protocol = u16::from_be_bytes([header[0], header[1]]);
                record.hook = header[2];
            }
            MARK => record.mark = attr.u32()?,
            // `struct nfulnl_msg_packet_timestamp`: seconds and microseconds, in network order.
            TIMESTAMP => {
                let time = attr.value.first_chunk::<16>().ok_or(Malformed::new("time of a logged packet"))?;
                let (seconds, micros) = (u64::from_be_bytes(part(time, 0)), u64::from_be_bytes(part(time, 8)));
                record.time = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros));
            }
            INPUT => record.input = Some(attr.u32()?),
            OUTPUT => record.output = Some(attr.u32()?),
            PAYLOAD => record.packet = attr.value.to_vec(),
            PREFIX => record.prefix = attr.text(),
            SEQUENCE => sequence = Some(attr.u32()?),
            _ => {}
        }
    }
    Ok((record, sequence))
}

fn part(time: &[u8; 16], from: usize) -> [u8; 8] {
    std::array::from_fn(|index| time[from + index])
}
