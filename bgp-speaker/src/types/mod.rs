//! Plain data that all parts of the speaker share. Never bytes of the wire, never a decision.

mod attributes;
mod capability;
mod communities;
mod ids;
mod message;
mod notification;
mod path;

pub use attributes::{Aggregator, Attributes, NextHop, Origin, RawAttribute};
pub use capability::{AddPathMode, Capabilities, GracefulRestart, LongLivedFamily, Negotiated, RestartFamily, Role};
pub use communities::{Community, CommunityError, ExtendedCommunity, LargeCommunity};
pub use ids::{Asn, Family, PathId, PeerId, RouterId};
pub use message::{Announcement, Message, Nlri, Open, Problem, Refresh, RefreshKind, SelfNextHop, Update, Withdrawal};
pub use notification::{
    CeaseSubcode, FsmSubcode, HeaderSubcode, Notification, OpenSubcode, RefreshSubcode, UpdateSubcode,
};
pub(crate) use path::Builder;
pub use path::{AsPath, Segment, SegmentKind, Segments};
