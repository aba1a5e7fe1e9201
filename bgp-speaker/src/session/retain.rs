//! Whether a peer's routes outlive its session. RFC 4724, section 4.2; RFC 8538, section 4. Never for how long.

use crate::speaker::DownReason;
use crate::types::{CeaseSubcode, Negotiated, Notification};

/// Whether routes stay after a session ended for `reason`.
pub(super) fn keeps_routes(session: &Negotiated, reason: &DownReason) -> bool {
    let Some(restart) = &session.graceful_restart else { return false };
    if restart.families.is_empty() {
        return false;
    }
    match reason {
        DownReason::Connection(_) => true,
        DownReason::Sent(Notification::HardReset(_))
        | DownReason::Received(Notification::HardReset(_) | Notification::Cease(CeaseSubcode::HardReset, _))
        | DownReason::Idle => false,
        // What we end for good, we end whole; a path that BFD calls dead forwards nothing (RFC 5882, section 4.1).
        DownReason::Sent(Notification::Cease(subcode, _)) => {
            use CeaseSubcode as Cease;
            matches!(subcode, Cease::AdminReset | Cease::ConfigurationChange | Cease::Collision) && restart.notification
        }
        DownReason::Sent(_) | DownReason::Received(_) => restart.notification,
    }
}

/// What has to be sent so that a peer of RFC 8538 forgets our routes. RFC 8538, section 3.1.
pub(super) fn hardened(notification: Notification, session: &Negotiated) -> Notification {
    let is_kept = session.graceful_restart.as_ref().is_some_and(|restart| restart.notification);
    match &notification {
        Notification::Cease(
            CeaseSubcode::AdminShutdown | CeaseSubcode::Deconfigured | CeaseSubcode::MaxPrefixes,
            _,
        ) if is_kept => Notification::HardReset(Box::new(notification)),
        _ => notification,
    }
}
