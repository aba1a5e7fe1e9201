//! The CNI specification as data: configurations, results, errors, of every version from 0.1.0 to 1.1.0. Never runs
//! a plugin and never touches a file.
//!
//! Inside, everything has the form of the newest version. What comes in or goes out in an older version is converted
//! at the border: [`AddResult::from_json`] and [`AddResult::to_json`]. Fields that the specification does not know are
//! kept in `other` and go out again.
//!
//! The pure entry points take any bytes and never panic: [`NetConf::parse`], [`NetConfList::parse`],
//! [`PluginConf::parse`], [`AddResult::parse`], [`CniError::parse`], [`CniArgs`]'s `from_str`, [`Parameters::parse`].
//!
//! ```
//! use cni_core::cni::{AddResult, SpecVersion};
//! let old = br#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1"}}"#;
//! let result = AddResult::parse(old, SpecVersion::V0_2_0).unwrap();
//! assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/16");
//! assert_eq!(result.to_json(SpecVersion::V0_4_0).unwrap()["ips"][0]["version"], "4");
//! ```

mod args;
pub(crate) mod conf;
mod convert;
mod error;
mod list;
mod parameters;
mod result;
mod version;

pub use crate::model::{ContainerId, InterfaceName, InvalidName, NetworkName, PluginType};
pub use args::{ArgsError, CniArgs};
pub use conf::{ConfError, IpamConf, NetConf, PluginConf};
pub use error::{CniError, ErrorCode, PluginCode};
pub use list::NetConfList;
pub use parameters::{Environment, Parameters};
pub use result::{AddResult, Dns, Interface, IpConfig, ResultError, Route};
pub(crate) use version::list as list_of_versions;
pub use version::{SpecVersion, Verb, VersionError};
