//! Why a session ends. Never the decision to end it.

use bytes::Bytes;
use std::fmt;

macro_rules! subcodes {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal, $text:literal;)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$doc])* #[doc = $text] $variant,)+
            /// A number without a meaning here; 0 is "unspecific".
            Other(u8),
        }

        impl $name {
            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self { $(Self::$variant => $code,)+ Self::Other(code) => code }
            }

            /// From the number on the wire.
            #[must_use]
            pub const fn from_code(code: u8) -> Self {
                match code { $($code => Self::$variant,)+ other => Self::Other(other) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant => f.write_str($text),)+ Self::Other(code) => write!(f, "subcode {code}") }
            }
        }
    };
}

subcodes! {
    /// RFC 4271, section 6.1.
    HeaderSubcode {
        NotSynchronized = 1, "connection not synchronized";
        BadLength = 2, "bad message length";
        BadType = 3, "bad message type";
    }
}
subcodes! {
    /// RFC 4271, section 6.2; RFC 5492; RFC 9234.
    OpenSubcode {
        UnsupportedVersion = 1, "unsupported version number";
        BadPeerAs = 2, "bad peer AS";
        BadIdentifier = 3, "bad BGP identifier";
        UnsupportedParameter = 4, "unsupported optional parameter";
        UnacceptableHoldTime = 6, "unacceptable hold time";
        UnsupportedCapability = 7, "unsupported capability";
        RoleMismatch = 11, "role mismatch";
    }
}
subcodes! {
    /// RFC 4271, section 6.3.
    UpdateSubcode {
        MalformedAttributeList = 1, "malformed attribute list";
        UnrecognizedWellKnown = 2, "unrecognized well-known attribute";
        MissingWellKnown = 3, "missing well-known attribute";
        AttributeFlags = 4, "attribute flags error";
        AttributeLength = 5, "attribute length error";
        InvalidOrigin = 6, "invalid ORIGIN attribute";
        InvalidNextHop = 8, "invalid NEXT_HOP attribute";
        OptionalAttribute = 9, "optional attribute error";
        InvalidNetwork = 10, "invalid network field";
        MalformedAsPath = 11, "malformed AS_PATH";
    }
}
subcodes! {
    /// RFC 6608: a message in a state that does not expect it.
    FsmSubcode {
        InOpenSent = 1, "unexpected message in OpenSent";
        InOpenConfirm = 2, "unexpected message in OpenConfirm";
        InEstablished = 3, "unexpected message in Established";
    }
}
subcodes! {
    /// RFC 4486; RFC 9384; RFC 8538.
    CeaseSubcode {
        MaxPrefixes = 1, "maximum number of prefixes reached";
        AdminShutdown = 2, "administrative shutdown";
        Deconfigured = 3, "peer de-configured";
        AdminReset = 4, "administrative reset";
        Rejected = 5, "connection rejected";
        ConfigurationChange = 6, "other configuration change";
        Collision = 7, "connection collision resolution";
        OutOfResources = 8, "out of resources";
        HardReset = 9, "hard reset";
        BfdDown = 10, "BFD down";
    }
}
subcodes! {
    /// RFC 7313, section 5.
    RefreshSubcode {
        BadLength = 1, "invalid ROUTE-REFRESH length";
    }
}

/// A NOTIFICATION: the last message of a session. RFC 4271, section 4.5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notification {
    /// 1, with the erroneous length or type.
    Header(HeaderSubcode, Bytes),
    /// 2
    Open(OpenSubcode, Bytes),
    /// 3, with the attribute.
    Update(UpdateSubcode, Bytes),
    /// 4
    HoldTimerExpired,
    /// 5
    Fsm(FsmSubcode),
    /// 6, with the text of RFC 9003 for a shutdown or reset.
    Cease(CeaseSubcode, Option<String>),
    /// 6/9 around the reason: the routes are to be forgotten too. The reason is never one of these again. RFC 8538,
    /// section 3.1.
    HardReset(Box<Self>),
    /// 7
    Refresh(RefreshSubcode, Bytes),
    /// 8, RFC 9687.
    SendHoldTimerExpired,
    /// Anything else.
    Other {
        /// Error code.
        code: u8,
        /// Error subcode.
        subcode: u8,
        /// Data.
        data: Bytes,
    },
}

impl Notification {
    /// Code and subcode on the wire.
    #[must_use]
    pub const fn codes(&self) -> (u8, u8) {
        match self {
            Self::Header(subcode, _) => (1, subcode.code()),
            Self::Open(subcode, _) => (2, subcode.code()),
            Self::Update(subcode, _) => (3, subcode.code()),
            Self::HoldTimerExpired => (4, 0),
            Self::Fsm(subcode) => (5, subcode.code()),
            Self::Cease(subcode, _) => (6, subcode.code()),
            Self::HardReset(_) => (6, CeaseSubcode::HardReset.code()),
            Self::Refresh(subcode, _) => (7, subcode.code()),
            Self::SendHoldTimerExpired => (8, 0),
            Self::Other { code, subcode, .. } => (*code, *subcode),
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(subcode, _) => write!(f, "message header error: {subcode}"),
            Self::Open(subcode, _) => write!(f, "OPEN message error: {subcode}"),
            Self::Update(subcode, _) => write!(f, "UPDATE message error: {subcode}"),
            Self::HoldTimerExpired => f.write_str("hold timer expired"),
            Self::Fsm(subcode) => write!(f, "state machine error: {subcode}"),
            Self::Cease(subcode, None) => write!(f, "cease: {subcode}"),
            // Written by the peer: control characters must not reach a terminal.
            Self::Cease(subcode, Some(text)) => write!(f, "cease: {subcode}: {:?}", text),
            Self::HardReset(reason) => write!(f, "hard reset: {reason}"),
            Self::Refresh(subcode, _) => write!(f, "ROUTE-REFRESH message error: {subcode}"),
            Self::SendHoldTimerExpired => f.write_str("send hold timer expired"),
            Self::Other { code, subcode, .. } => write!(f, "error {code}/{subcode}"),
        }
    }
}
