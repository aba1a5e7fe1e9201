//! The error object of the CNI specification (1.1.0, section 5, "Error"). Never prints itself: `plugin::run` does.

use super::SpecVersion;
use crate::model::InvalidName;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A code a plugin defined for itself: 100 and above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginCode(u32);

impl PluginCode {
    /// What the reference implementation answers for an error without a code of its own.
    pub const INTERNAL: Self = Self(999);

    /// A code of a plugin's own. `None` below 100, which the specification reserves.
    #[must_use]
    pub const fn new(code: u32) -> Option<Self> {
        if code >= 100 { Some(Self(code)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The `code` of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 1: the version of the configuration is not spoken, or does not have the verb.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported. The message has key and value.
    UnsupportedField,
    /// 3: the container does not exist; the runtime need not clean up.
    UnknownContainer,
    /// 4: an environment variable is missing or wrong. The message has its name.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: the input could not be decoded.
    Decode,
    /// 7: the configuration is not valid.
    InvalidConfig,
    /// 11: try the same again later.
    TryAgainLater,
    /// 50: ADD cannot be served.
    NotAvailable,
    /// 51: ADD cannot be served, and attached containers may have limited connectivity.
    LimitedConnectivity,
    /// 100 and above: the plugin's own.
    Plugin(PluginCode),
    /// 0 to 99 without a meaning in the specification's table, read from another plugin. The Go `skel` uses 8 for a
    /// bad network namespace; ours is [`ErrorCode::InvalidEnvironment`], which is in the table.
    Reserved(u32),
}

impl ErrorCode {
    /// [`PluginCode::INTERNAL`] as a code.
    pub const INTERNAL: Self = Self::Plugin(PluginCode::INTERNAL);

    /// The number on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Plugin(code) => code.get(),
            Self::Reserved(code) => code,
        }
    }
}

impl From<u32> for ErrorCode {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            code => PluginCode::new(code).map_or(Self::Reserved(code), Self::Plugin),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A failed verb, as the runtime gets to read it.
///
/// ```
/// use cni_core::cni::{CniError, ErrorCode, SpecVersion};
/// let error = CniError::new(ErrorCode::InvalidConfig, "ipam.subnet: 10.0.0.1/24 has host bits").details("write 10.0.0.0/24");
/// assert_eq!(error.to_json(SpecVersion::V1_1_0)["code"], 7);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// For code that decides.
    pub code: ErrorCode,
    /// What is wrong, in one line that names object and field.
    pub msg: String,
    /// What to do about it; may be empty.
    pub details: String,
}

impl CniError {
    /// An error without details yet.
    pub fn new(code: ErrorCode, msg: impl fmt::Display) -> Self {
        Self { code, msg: msg.to_string(), details: String::new() }
    }

    /// The same with details that tell the user what to do.
    #[must_use]
    pub fn details(mut self, details: impl fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }

    /// ADD found that the interface is already there: an error by the specification (1.1.0, section 2, ADD).
    #[must_use]
    pub fn interface_exists(ifname: &crate::model::InterfaceName) -> Self {
        Self::new(
            ErrorCode::InvalidEnvironment,
            format!("CNI_IFNAME: interface {ifname} already exists in the container"),
        )
        .details("run DEL for this container and interface first, or choose another name")
    }

    /// The error object as a plugin prints it.
    #[must_use]
    pub fn to_json(&self, version: SpecVersion) -> serde_json::Value {
        let mut object = serde_json::json!({ "cniVersion": version, "code": self.code.get(), "msg": self.msg });
        if !self.details.is_empty() {
            object["details"] = self.details.clone().into();
        }
        object
    }

    /// Reads the error object a plugin printed. `None` when it is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire {
            code: u32,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        Some(Self { code: wire.code.into(), msg: wire.msg, details: wire.details })
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.msg, self.code)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, ": {}", self.details) }
    }
}

impl std::error::Error for CniError {}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.get())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self::from)
    }
}

impl From<InvalidName> for CniError {
    fn from(error: InvalidName) -> Self {
        Self::new(ErrorCode::InvalidConfig, format!("{:?} is no {}", error.name, error.kind)).details(error.rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_back_as_its_code() {
        for number in (0..=200).chain([999, u32::MAX]) {
            assert_eq!(ErrorCode::from(number).get(), number);
        }
    }

    #[test]
    fn code_8_of_skel_is_not_in_the_specifications_table() {
        assert_eq!(ErrorCode::from(8), ErrorCode::Reserved(8));
    }

    #[test]
    fn plugins_own_codes_begin_at_100() {
        assert_eq!(PluginCode::new(99), None);
        assert_eq!(PluginCode::new(100).map(PluginCode::get), Some(100));
    }

    #[test]
    fn an_error_is_json_with_cni_version_code_msg_and_details() {
        let error = CniError::new(ErrorCode::TryAgainLater, "the agent is not running").details("start it");
        let json = error.to_json(SpecVersion::V0_4_0);
        assert_eq!(
            json,
            serde_json::json!({
                "cniVersion": "0.4.0", "code": 11, "msg": "the agent is not running", "details": "start it"
            })
        );
        assert_eq!(CniError::parse(json.to_string().as_bytes()), Some(error));
        assert_eq!(CniError::parse(b"panic: oops"), None);
    }
}
