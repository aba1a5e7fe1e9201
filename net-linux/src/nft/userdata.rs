//! User data that the `nft` program understands: type, length, value in one byte each. The kernel keeps it and never reads it.

use super::Comment;

/// `NFTNL_UDATA_*_COMMENT` of libnftnl `include/libnftnl/udata.h`: 0 for tables, chains, rules and set elements.
pub(super) const COMMENT: u8 = 0;
/// `NFTNL_UDATA_SET_COMMENT`.
pub(super) const SET_COMMENT: u8 = 7;

/// `NFTNL_UDATA_SET_KEYBYTEORDER` and `NFTNL_UDATA_SET_DATABYTEORDER`.
pub(super) const SET_KEY_ORDER: u8 = 0;
pub(super) const SET_DATA_ORDER: u8 = 1;

/// `enum byteorder` of nftables `include/datatype.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// As this machine has it.
    Host = 1,
    /// Most significant byte first.
    Network = 2,
}

/// The user data that says in which order a set's keys or values stand.
pub(super) fn byte_order(kind: u8, order: Option<ByteOrder>) -> Vec<u8> {
    let mut bytes = vec![kind, 4];
    bytes.extend_from_slice(&order.map_or(0u32, |order| order as u32).to_ne_bytes());
    bytes
}

/// The user data that holds a comment.
pub(super) fn comment(kind: u8, comment: &Comment) -> Vec<u8> {
    let text = comment.as_str().as_bytes();
    // A comment from the kernel can be longer than ours; user data as a whole ends at 256 bytes, so its length fits.
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![kind, length];
    bytes.extend_from_slice(&text[..usize::from(length) - 1]);
    bytes.push(0);
    bytes
}

/// The comment in user data, if there is one.
pub(super) fn find_comment(kind: u8, bytes: &[u8]) -> Option<Comment> {
    let mut rest = bytes;
    while let [found, length, tail @ ..] = rest {
        let (value, next) = tail.split_at_checked(usize::from(*length))?;
        if *found == kind {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            return Some(Comment::known(&String::from_utf8_lossy(&value[..end])));
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_comment_is_found_behind_other_data() {
        let mut bytes = vec![9, 2, 1, 1];
        bytes.extend(comment(COMMENT, &Comment::new("pod").unwrap()));
        assert_eq!(bytes[4..], [0, 4, b'p', b'o', b'd', 0]);
        assert_eq!(find_comment(COMMENT, &bytes).unwrap().as_str(), "pod");
        assert_eq!(find_comment(SET_COMMENT, &bytes), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_what_is_found_is_written_again(bytes: Vec<u8>) {
            if let Some(found) = find_comment(COMMENT, &bytes) {
                let _ = comment(COMMENT, &found);
            }
        }
    }
}
