//! NOTIFICATION. RFC 4271, section 4.5; RFC 9003; RFC 8538, section 3.1.

use crate::types::{CeaseSubcode, FsmSubcode, HeaderSubcode, Notification, OpenSubcode, RefreshSubcode, UpdateSubcode};
use bytes::Bytes;

/// Error code of a Cease.
const CEASE: u8 = 6;

/// The framer has seen to the two bytes of the codes.
pub(super) fn read(body: &[u8]) -> Notification {
    let &[code, subcode, ref data @ ..] = body else {
        return Notification::Other { code: 0, subcode: 0, data: Bytes::new() };
    };
    let bytes = || Bytes::copy_from_slice(data);
    match code {
        1 => Notification::Header(HeaderSubcode::from_code(subcode), bytes()),
        2 => Notification::Open(OpenSubcode::from_code(subcode), bytes()),
        3 => Notification::Update(UpdateSubcode::from_code(subcode), bytes()),
        4 if subcode == 0 => Notification::HoldTimerExpired,
        5 => Notification::Fsm(FsmSubcode::from_code(subcode)),
        CEASE => match (CeaseSubcode::from_code(subcode), data) {
            // One inside another would nest as deep as a message is long.
            (CeaseSubcode::HardReset, [inner, code, ..]) if (*inner, *code) != (CEASE, subcode) => {
                Notification::HardReset(Box::new(read(data)))
            }
            (subcode, _) => Notification::Cease(subcode, text(subcode, data)),
        },
        7 => Notification::Refresh(RefreshSubcode::from_code(subcode), bytes()),
        8 if subcode == 0 => Notification::SendHoldTimerExpired,
        _ => Notification::Other { code, subcode, data: bytes() },
    }
}

/// The text of a shutdown or a reset: a length byte and UTF-8. What is not that is no text (RFC 9003, section 2).
fn text(subcode: CeaseSubcode, data: &[u8]) -> Option<String> {
    if !matches!(subcode, CeaseSubcode::AdminShutdown | CeaseSubcode::AdminReset) {
        return None;
    }
    let (&length, text) = data.split_first()?;
    let text = text.get(..usize::from(length))?;
    String::from_utf8(text.to_vec()).ok().filter(|text| !text.is_empty())
}

/// Codes and data.
pub(super) fn write(notification: &Notification, to: &mut Vec<u8>) {
    let (code, subcode) = notification.codes();
    to.extend([code, subcode]);
    match notification {
        Notification::Header(_, data)
        | Notification::Open(_, data)
        | Notification::Update(_, data)
        | Notification::Refresh(_, data)
        | Notification::Other { data, .. } => to.extend_from_slice(data),
        Notification::Cease(subcode, words) => {
            let has_words = matches!(subcode, CeaseSubcode::AdminShutdown | CeaseSubcode::AdminReset);
            if let Some(words) = words.as_ref().filter(|_| has_words) {
                let words = &words[..words.floor_char_boundary(usize::from(u8::MAX))];
                to.push(u8::try_from(words.len()).unwrap_or(0));
                to.extend_from_slice(words.as_bytes());
            }
        }
        Notification::HardReset(reason) => write(reason, to),
        Notification::HoldTimerExpired | Notification::SendHoldTimerExpired | Notification::Fsm(_) => {}
    }
}
