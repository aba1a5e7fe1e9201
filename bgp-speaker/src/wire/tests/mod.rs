//! The codec against bytes made by hand from the RFCs, against itself, and against another implementation.

mod arbitrary;
mod control;
mod golden;
mod laws;

mod mend;
mod other;

use super::{Decoder, Options};
use crate::types::{Message, Notification, Update};

/// Bytes written as hexadecimal digits; spaces are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// A message of a kind with a body.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// An UPDATE: withdrawn routes, attributes, routes.
fn update_bytes(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for part in [withdrawn, attributes] {
        let part = hex(part);
        body.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        body.extend(part);
    }
    body.extend(hex(nlri));
    message(2, &body)
}

/// A session of both families with four-byte numbers.
fn external() -> Options {
    Options {
        four_octet_asn: true,
        internal: false,
        max_message_bytes: 4096,
        families: [true; 2],
        add_path_in: [false; 2],
        add_path_out: [false; 2],
        extended_next_hop: [false; 2],
    }
}

fn internal() -> Options {
    Options { internal: true, ..external() }
}

fn decode_one(bytes: &[u8], options: Options) -> Result<Message, Notification> {
    let mut input = bytes;
    let message = Decoder::new(options).next(&mut input)?;
    assert!(input.is_empty());
    Ok(message.expect("it is whole"))
}

fn decode_update(bytes: &[u8], options: Options) -> Result<Update, Notification> {
    match decode_one(bytes, options)? {
        Message::Update(update) => Ok(update),
        other => panic!("not an UPDATE: {other:?}"),
    }
}
