//! Versions of the CNI specification, and the verbs each knows. Never guesses: a version we do not know is an error.

use super::{CniError, ErrorCode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A released version of the CNI specification, ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpecVersion {
    /// 0.1.0: ADD and DEL, results with `ip4` and `ip6`. What a configuration without `cniVersion` means.
    V0_1_0,
    /// 0.2.0: VERSION.
    V0_2_0,
    /// 0.3.0: results with `interfaces` and `ips`, plugin lists.
    V0_3_0,
    /// 0.3.1: as 0.3.0.
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// 1.0.0: no `version` in `ips`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, more fields in routes and interfaces.
    V1_1_0,
}

impl SpecVersion {
    /// Every version, oldest first.
    pub const ALL: &'static [Self] =
        &[Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version.
    pub const CURRENT: Self = Self::V1_1_0;

    /// The version as the specification writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether this version has the verb.
    #[must_use]
    pub fn has(self, verb: Verb) -> bool {
        self >= verb.since()
    }

    /// The highest of several versions as a configuration lists them. Versions after [`Self::CURRENT`] are skipped:
    /// a list may name them for newer runtimes (CNI 1.1.0, section 1, "Version considerations").
    ///
    /// # Errors
    /// [`VersionError`] when one is not a version, or when none is left.
    pub fn highest<'a>(versions: impl IntoIterator<Item = &'a str>) -> Result<Self, VersionError> {
        let mut best = None;
        let mut newest = String::new();
        for text in versions {
            match text.parse() {
                Ok(version) => best = best.max(Some(version)),
                Err(VersionError::Unknown { version }) => newest = version,
                Err(malformed) => return Err(malformed),
            }
        }
        best.ok_or(VersionError::Unknown { version: newest })
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no version of the specification known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not three numbers.
    #[error("{text:?} is not a version: write three numbers, as in \"1.1.0\"")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// Three numbers, but of no released specification.
    #[error("CNI version {version:?} is not known here: use one of {}", list(SpecVersion::ALL))]
    Unknown {
        /// What was given.
        version: String,
    },
}

impl From<VersionError> for CniError {
    fn from(error: VersionError) -> Self {
        let code = match error {
            VersionError::Malformed { .. } => ErrorCode::Decode,
            VersionError::Unknown { .. } => ErrorCode::IncompatibleVersion,
        };
        Self::new(code, "cniVersion cannot be used").details(error)
    }
}

/// Versions as a sentence lists them.
pub(crate) fn list(versions: &[SpecVersion]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

impl FromStr for SpecVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if let Some(version) = Self::ALL.iter().find(|version| version.as_str() == text) {
            return Ok(*version);
        }
        let number = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|byte| byte.is_ascii_digit());
        let core = text.split(['-', '+']).next().unwrap_or_default();
        if core.split('.').count() == 3 && core.split('.').all(number) {
            Err(VersionError::Unknown { version: text.to_owned() })
        } else {
            Err(VersionError::Malformed { text: text.to_owned() })
        }
    }
}

impl Serialize for SpecVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SpecVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a runtime asks a plugin to do: the value of `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Is the attachment still as ADD left it?
    Check,
    /// Can ADD be served?
    Status,
    /// Free what belongs to no valid attachment.
    Gc,
    /// Which versions of the specification are spoken?
    Version,
}

impl Verb {
    /// Every verb.
    pub const ALL: &'static [Self] = &[Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc, Self::Version];

    /// The value of `CNI_COMMAND`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
            Self::Version => "VERSION",
        }
    }

    /// The first version of the specification that has it. VERSION came with 0.2.0, but is answered whatever the
    /// configuration says, since it is how versions are found out.
    #[must_use]
    pub const fn since(self) -> SpecVersion {
        match self {
            Self::Add | Self::Del | Self::Version => SpecVersion::V0_1_0,
            Self::Check => SpecVersion::V0_4_0,
            Self::Status | Self::Gc => SpecVersion::V1_1_0,
        }
    }

    /// Whether it is about one attachment: needs a container id and an interface name.
    #[must_use]
    pub const fn is_about_an_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = CniError;

    fn from_str(text: &str) -> Result<Self, CniError> {
        Self::ALL.iter().copied().find(|verb| verb.as_str() == text).ok_or_else(|| {
            CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_COMMAND: {text:?} is no CNI command"))
                .details("use ADD, DEL, CHECK, STATUS, GC or VERSION")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back_as_it_prints_and_they_are_in_order() {
        for version in SpecVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(*version));
        }
        assert!(SpecVersion::ALL.is_sorted());
    }

    #[test]
    fn an_unknown_version_is_incompatible_and_a_malformed_one_undecodable() {
        for (text, code) in [
            ("1.2.0", ErrorCode::IncompatibleVersion),
            ("2.0.0-rc1", ErrorCode::IncompatibleVersion),
            ("0.5.0", ErrorCode::IncompatibleVersion),
            ("1.0", ErrorCode::Decode),
            ("", ErrorCode::Decode),
            ("a.b.c", ErrorCode::Decode),
            ("1..0", ErrorCode::Decode),
        ] {
            let error = CniError::from(text.parse::<SpecVersion>().unwrap_err());
            assert_eq!(error.code, code, "{text}");
            assert!(error.details.contains(text), "{error}");
        }
    }

    #[test]
    fn the_highest_known_version_is_picked_whatever_the_order() {
        assert_eq!(SpecVersion::highest(["0.4.0", "1.1.0", "1.0.0"]), Ok(SpecVersion::V1_1_0));
        assert_eq!(SpecVersion::highest(["9.0.0", "0.3.1", "1.2.0"]), Ok(SpecVersion::V0_3_1));
        assert!(matches!(SpecVersion::highest(["9.0.0"]), Err(VersionError::Unknown { .. })));
        assert!(matches!(SpecVersion::highest(["1.0.0", "x"]), Err(VersionError::Malformed { .. })));
    }

    #[test]
    fn check_came_with_0_4_0_and_gc_and_status_with_1_1_0() {
        let having = |verb| SpecVersion::ALL.iter().copied().find(|version| version.has(verb));
        assert_eq!(having(Verb::Check), Some(SpecVersion::V0_4_0));
        assert_eq!(having(Verb::Gc), Some(SpecVersion::V1_1_0));
        assert_eq!(having(Verb::Status), Some(SpecVersion::V1_1_0));
        assert_eq!(having(Verb::Del), Some(SpecVersion::V0_1_0));
    }
}
