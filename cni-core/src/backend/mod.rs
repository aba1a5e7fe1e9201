//! What a backend implements and what everybody else holds. Never one backend's own needs.
//!
//! A backend author writes a *translator* ([`Driver::compile`]) and a small *driver* ([`Driver::observe`],
//! [`Driver::apply`]); the [`Reconciler`] does restart, retry, drift, ordering, dry run and idempotency for all.
//!
//! ```text
//!  Change<Item> --stage--> compile (pure) --> desired objects --+
//!                                                               diff --> plan --commit--> apply --> kernel
//!  kernel --resync--> observe -------------> present objects ---+
//! ```

mod capability;
mod counters;
mod driver;
mod engine;
mod error;
mod meter;
mod reconciler;
mod registry;
mod report;

pub use capability::{Capabilities, Capability, Support};
pub use counters::{BackendCounts, FrontendCounts, ServiceCounters, Traffic};
pub use driver::{Driver, Gate, Known, Op, Rank, described};
pub use engine::{Change, Datapath, Engine, Item, NetworkChange, ServiceChange, ServiceProxy};
pub use error::{Error, ErrorKind, Result, Retry};
pub use meter::{Alarm, Dropped, Meter, TableUse, WhenFull};
pub use reconciler::Reconciler;
pub use registry::{
    Backend, DriftWatch, Gauge, Inspect, OpenRequest, Parts, PolicyBackend, PolicyParts, ProxyBackend, ProxyParts,
    Registry, Translation,
};
pub use report::{Action, Blocked, CommitReport, Drift, Failure, Plan, Step};
