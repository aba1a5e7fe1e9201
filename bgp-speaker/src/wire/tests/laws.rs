//! What holds for all bytes and for all routes.

use super::arbitrary::{announcement, options};
use crate::types::{Attributes, Message, Notification, Update};
use crate::wire::{Decoder, Encoder, Options};
use bytes::BytesMut;
use proptest::prelude::*;

/// All messages of a stream that comes in pieces.
fn read_all(bytes: &[u8], pieces: &[usize], options: &Options) -> (Vec<Message>, Option<Notification>) {
    let (mut decoder, mut messages, mut rest) = (Decoder::new(options.clone()), Vec::new(), bytes);
    let mut pieces = pieces.iter().copied().cycle();
    while !rest.is_empty() {
        let (mut piece, behind) = rest.split_at(pieces.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        rest = behind;
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(notification) => return (messages, Some(notification)),
            }
        }
        assert!(piece.is_empty(), "all of a piece is read");
        assert!(decoder.kept_bytes() < usize::from(options.max_message_bytes));
    }
    (messages, None)
}

fn updates(bytes: &[u8], options: &Options) -> Vec<Update> {
    let (messages, error) = read_all(bytes, &[usize::MAX], options);
    assert_eq!(error, None);
    let update = |message| match message {
        Message::Update(update) => update,
        other => panic!("{other:?}"),
    };
    messages.into_iter().map(update).collect()
}

/// What a peer with `options` may see.
fn seen(attributes: &Attributes, options: &Options) -> Attributes {
    if options.internal {
        return attributes.clone();
    }
    Attributes { local_pref: None, originator: None, cluster_list: Vec::new(), ..attributes.clone() }
}

/// Writes what an UPDATE says.
fn write(update: &Update, options: &Options) -> Vec<u8> {
    let (encoder, mut bytes) = (Encoder::new(options.clone()), BytesMut::new());
    for withdrawal in &update.withdrawals {
        encoder.withdrawals(withdrawal.family, withdrawal.nlri.iter().copied(), &mut bytes);
    }
    for routes in &update.announcements {
        encoder.updates(routes.family, &routes.attributes, routes.nlri.iter().copied(), &mut bytes).unwrap();
    }
    if let Some(family) = update.end_of_rib {
        encoder.end_of_rib(family, &mut bytes);
    }
    bytes.to_vec()
}

/// What several UPDATEs say, each kind of thing in its order.
fn said(updates: &[Update]) -> Update {
    let mut all = Update::default();
    for update in updates {
        all.withdrawals.extend(update.withdrawals.iter().cloned());
        all.announcements.extend(update.announcements.iter().cloned());
        all.end_of_rib = all.end_of_rib.or(update.end_of_rib);
    }
    all
}

proptest! {
    #[test]
    fn what_is_written_reads_back((family, options, attributes, routes) in announcement()) {
        let (encoder, mut bytes) = (Encoder::new(options.clone()), BytesMut::new());
        encoder.updates(family, &attributes, routes.iter().copied(), &mut bytes).unwrap();
        let mut got = Vec::new();
        for update in updates(&bytes, &options) {
            prop_assert!(update.problems.is_empty() && update.withdrawals.is_empty(), "{:?}", update);
            for announcement in update.announcements {
                prop_assert_eq!(announcement.family, family);
                prop_assert_eq!(&*announcement.attributes, &seen(&attributes, &options));
                got.extend(announcement.nlri);
            }
        }
        prop_assert_eq!(&got, &routes);

        bytes.clear();
        encoder.withdrawals(family, routes.iter().copied(), &mut bytes);
        let withdrawn = updates(&bytes, &options).into_iter().flat_map(|update| update.withdrawals);
        let withdrawn: Vec<_> = withdrawn.flat_map(|withdrawal| withdrawal.nlri).collect();
        prop_assert_eq!(withdrawn, routes);
    }

    #[test]
    fn it_does_not_matter_where_a_stream_is_cut(
        (family, options, attributes, routes) in announcement(),
        pieces in prop::collection::vec(1..5000_usize, 1..20),
        broken: Option<(prop::sample::Index, u8)>,
    ) {
        let mut bytes = BytesMut::new();
        Encoder::new(options.clone()).updates(family, &attributes, routes, &mut bytes).unwrap();
        bytes.extend_from_slice(&Encoder::keepalive());
        if let Some((at, byte)) = broken {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(read_all(&bytes, &pieces, &options), read_all(&bytes, &[usize::MAX], &options));
    }

    #[test]
    fn reading_never_panics(bytes: Vec<u8>, kind in 1..6_u8, options in options()) {
        read_all(&bytes, &[7], &options);
        read_all(&super::message(kind, &bytes), &[usize::MAX], &options);
    }

    /// Bytes that were good once, with some changed: what of it is read is written and read as the same.
    #[test]
    fn what_was_read_is_written_to_a_fixed_point(
        (family, options, attributes, mut routes) in announcement(),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..8),
    ) {
        routes.truncate(20);
        let mut bytes = BytesMut::new();
        Encoder::new(options.clone()).updates(family, &attributes, routes, &mut bytes).unwrap();
        for (at, byte) in changes {
            let at = 19 + at.index(bytes.len() - 19);
            bytes[at] = byte;
        }
        let (messages, _) = read_all(&bytes, &[usize::MAX], &options);
        for message in messages {
            let Message::Update(update) = message else { continue };
            let again = updates(&write(&update, &options), &options);
            let expected = Update { problems: Vec::new(), ..update };
            // Numbers of two bytes that were put together from two attributes may be put into segments anew.
            if options.four_octet_asn {
                prop_assert_eq!(said(&again), expected);
            }
        }
    }
}
