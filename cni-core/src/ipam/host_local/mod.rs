//! The reference plugin `host-local`: same configuration, same answers, same files. Never asks another node.
//!
//! [`HostLocal`] has two faces. [`add`](HostLocal::add), [`del`](HostLocal::del) and
//! [`verify`](HostLocal::verify) answer as the reference does (a second ADD is refused as a duplicate). The trait
//! [`Ipam`](super::Ipam) keeps its own laws over the same files (a second `assign` returns the same leases).
//!
//! ```
//! use cni_core::ipam::host_local::{HostLocal, HostLocalConfig};
//! # let dir = std::env::temp_dir().join(format!("host-local-doc-{}", std::process::id()));
//! let config = serde_json::json!({
//!     "cniVersion": "1.1.0", "name": "demo", "type": "ptp",
//!     "ipam": {"type": "host-local", "subnet": "10.9.0.0/24", "dataDir": dir}
//! });
//! let host_local = HostLocal::new(HostLocalConfig::parse(config.to_string().as_bytes(), "")?);
//! let answer = host_local.add("c0ffee", "eth0", std::time::SystemTime::now())?;
//! assert_eq!(answer.ips[0].address.to_string(), "10.9.0.2/24");
//! host_local.del("c0ffee", "eth0", std::time::SystemTime::now())?;
//! # std::fs::remove_dir_all(dir).ok();
//! # Ok::<(), cni_core::ipam::host_local::HostLocalError>(())
//! ```

mod config;
mod disk;
mod error;
mod laws;
mod range;
mod resolv;
mod verbs;

pub use config::{DEFAULT_DATA_DIR, HostLocalConfig};
pub use error::HostLocalError;
pub use range::{Range, RangeSet};
pub use verbs::HostLocal;
