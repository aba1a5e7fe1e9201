//! ROUTE-REFRESH. RFC 2918; RFC 7313.

use super::codes::{HEADER_BYTES, family};
use crate::types::{Notification, Refresh, RefreshKind, RefreshSubcode};
use bytes::Bytes;

/// `None` for what has to be passed over: a family or a subtype that we do not know (RFC 7313, section 5).
///
/// # Errors
/// The begin or end of a refresh with a length that cannot be. RFC 7313, section 5.
pub(super) fn read(whole: &[u8]) -> Result<Option<Refresh>, Notification> {
    let body = &whole[HEADER_BYTES..];
    let Some((&[high, low, subtype, safi], filters)) = body.split_first_chunk::<4>() else { return Ok(None) };
    let kind = match subtype {
        // Filters (RFC 5291) behind it are not for us: we never offer to take them.
        0 => RefreshKind::Request,
        1 => RefreshKind::Begin,
        2 => RefreshKind::End,
        _ => return Ok(None),
    };
    if kind != RefreshKind::Request && !filters.is_empty() {
        return Err(Notification::Refresh(RefreshSubcode::BadLength, Bytes::copy_from_slice(whole)));
    }
    Ok(family(u16::from_be_bytes([high, low]), safi).map(|family| Refresh { family, kind }))
}
