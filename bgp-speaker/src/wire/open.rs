//! OPEN. RFC 4271, section 4.2; RFC 5492; RFC 9072. Never whether the peer is the right one.

use super::capability;
use crate::types::{Capabilities, Notification, Open, OpenSubcode, RouterId};
use bytes::Bytes;

/// RFC 4271, section 4.2.
const VERSION: u8 = 4;
/// The optional parameter that holds capabilities. RFC 5492, section 4.
const CAPABILITIES: u8 = 2;
/// Says that lengths of parameters are two bytes. RFC 9072, section 2.
const EXTENDED: u8 = 255;

fn refuse(subcode: OpenSubcode, data: &[u8]) -> Notification {
    Notification::Open(subcode, Bytes::copy_from_slice(data))
}

/// Reads a body.
///
/// # Errors
/// RFC 4271, section 6.2: another version, an identifier of 0, a parameter that we do not know or that is malformed. RFC 7607,
/// section 2: the four-byte number of system 0.
pub(super) fn read(body: &[u8]) -> Result<Open, Notification> {
    let malformed = || refuse(OpenSubcode::Other(0), &[]);
    let (&[version, as_high, as_low, hold_high, hold_low, a, b, c, d, length], rest) =
        body.split_first_chunk::<10>().ok_or_else(malformed)?;
    if version != VERSION {
        return Err(refuse(OpenSubcode::UnsupportedVersion, &u16::from(VERSION).to_be_bytes()));
    }
    let id = RouterId::new([a, b, c, d].into()).ok_or_else(|| refuse(OpenSubcode::BadIdentifier, &[]))?;
    let (is_extended, parameters) = match *rest {
        [EXTENDED, high, low, ref parameters @ ..] if length != 0 => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            (true, Some(parameters).filter(|parameters| parameters.len() == length))
        }
        _ => (false, Some(rest).filter(|rest| rest.len() == usize::from(length))),
    };
    let mut parameters = parameters.ok_or_else(malformed)?;
    let mut capabilities = Capabilities::default();
    while !parameters.is_empty() {
        let (kind, length, rest) = match *parameters {
            [kind, high, low, ref rest @ ..] if is_extended => (kind, u16::from_be_bytes([high, low]), rest),
            [kind, length, ref rest @ ..] if !is_extended => (kind, u16::from(length), rest),
            _ => return Err(malformed()),
        };
        let (value, rest) = rest.split_at_checked(usize::from(length)).ok_or_else(malformed)?;
        if kind != CAPABILITIES {
            return Err(refuse(OpenSubcode::UnsupportedParameter, &[]));
        }
        capability::read(value, &mut capabilities).map_err(|subcode| refuse(subcode, &[]))?;
        parameters = rest;
    }
    let (asn, hold_time_seconds) = (u16::from_be_bytes([as_high, as_low]), u16::from_be_bytes([hold_high, hold_low]));
    Ok(Open { asn, hold_time_seconds, id, capabilities })
}

/// Writes a body. All capabilities go into one parameter, as RFC 5492 likes it; ours take less than 255 bytes.
pub(super) fn write(open: &Open, to: &mut Vec<u8>) {
    to.push(VERSION);
    to.extend(open.asn.to_be_bytes());
    to.extend(open.hold_time_seconds.to_be_bytes());
    to.extend(open.id.get().octets());
    let mut capabilities = Vec::new();
    capability::write(&open.capabilities, &mut capabilities);
    match u8::try_from(capabilities.len()) {
        Ok(length @ 1..=253) => {
            to.extend([length + 2, CAPABILITIES, length]);
            to.extend(capabilities);
        }
        _ => to.push(0),
    }
}
