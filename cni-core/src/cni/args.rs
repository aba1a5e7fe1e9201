//! `CNI_ARGS`: `KEY=VALUE;KEY=VALUE` (CNI 1.1.0, section 2). Never interprets a value, save `IgnoreUnknown`.

use super::{CniError, ErrorCode};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The parsed arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs(BTreeMap<String, String>);

/// Text that is no list of arguments, or has arguments a plugin does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// A part that is no pair.
    #[error("CNI_ARGS: {pair:?} is no KEY=VALUE; separate pairs with ';', as in FOO=BAR;ABC=123")]
    NoPair {
        /// The part.
        pair: String,
    },
    /// A key given twice with different values.
    #[error("CNI_ARGS: {key} is given as {first:?} and as {second:?}; give it once")]
    Twice {
        /// The key.
        key: String,
        /// The first value.
        first: String,
        /// The other value.
        second: String,
    },
    /// `IgnoreUnknown` is no truth value.
    #[error("CNI_ARGS: IgnoreUnknown is {value:?}; use 1, true, 0 or false")]
    NoBool {
        /// The value.
        value: String,
    },
    /// Keys the plugin does not know, without `IgnoreUnknown`.
    #[error("CNI_ARGS: {} not known here; known are {}; remove the others or add IgnoreUnknown=1", keys.join(", "), known.join(", "))]
    Unknown {
        /// The keys.
        keys: Vec<String>,
        /// The keys that are known.
        known: &'static [&'static str],
    },
}

impl From<ArgsError> for CniError {
    fn from(error: ArgsError) -> Self {
        Self::new(ErrorCode::InvalidEnvironment, error)
    }
}

impl CniArgs {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Every pair, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the caller allows keys that the plugin does not know: `IgnoreUnknown=1`.
    ///
    /// # Errors
    /// [`ArgsError::NoBool`].
    pub fn ignores_unknown(&self) -> Result<bool, ArgsError> {
        match self.get("IgnoreUnknown") {
            None => Ok(false),
            Some(value) if value == "1" || value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value == "0" || value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(ArgsError::NoBool { value: value.to_owned() }),
        }
    }

    /// Refuses keys other than `known`, unless the caller said `IgnoreUnknown=1`. For plugins that read arguments.
    ///
    /// # Errors
    /// [`ArgsError::Unknown`] and [`ArgsError::NoBool`].
    pub fn only(&self, known: &'static [&'static str]) -> Result<(), ArgsError> {
        if self.ignores_unknown()? {
            return Ok(());
        }
        let is_known = |key: &str| key == "IgnoreUnknown" || known.contains(&key);
        let keys: Vec<String> = self.0.keys().filter(|key| !is_known(key)).cloned().collect();
        if keys.is_empty() { Ok(()) } else { Err(ArgsError::Unknown { keys, known }) }
    }
}

impl FromStr for CniArgs {
    type Err = ArgsError;

    /// One `;` at the end is allowed. A value may have `=` in it.
    fn from_str(text: &str) -> Result<Self, ArgsError> {
        let text = text.strip_suffix(';').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut args = BTreeMap::new();
        for pair in text.split(';') {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or_else(|| ArgsError::NoPair { pair: pair.to_owned() })?;
            match args.get(key) {
                Some(first) if first != value => {
                    let (key, first, second) = (key.to_owned(), String::clone(first), value.to_owned());
                    return Err(ArgsError::Twice { key, first, second });
                }
                _ => args.insert(key.to_owned(), value.to_owned()),
            };
        }
        Ok(Self(args))
    }
}

/// A runtime's pairs. `;` cannot be said in a value, so this is for keys and values the runtime made itself; whoever
/// takes them from elsewhere prints them and parses the text.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for CniArgs {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl fmt::Display for CniArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ";" };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_keys_are_refused_unless_ignore_unknown_says_otherwise() {
        let args: CniArgs = "K8S_POD_NAME=a;X=1".parse().unwrap();
        assert!(matches!(args.only(&["K8S_POD_NAME"]), Err(ArgsError::Unknown { keys, .. }) if keys == ["X"]));
        assert_eq!(args.only(&["K8S_POD_NAME", "X"]), Ok(()));
        for yes in ["1", "true", "True"] {
            let args: CniArgs = format!("IgnoreUnknown={yes};X=1").parse().unwrap();
            assert_eq!(args.only(&[]), Ok(()));
        }
        let args: CniArgs = "IgnoreUnknown=maybe;X=1".parse().unwrap();
        assert_eq!(args.only(&[]), Err(ArgsError::NoBool { value: "maybe".into() }));
    }

    #[test]
    fn what_is_no_pair_is_named() {
        for bad in ["a", "=b", ";", "a=1;;b=2", "a=1;b"] {
            assert!(bad == ";" || bad.parse::<CniArgs>().is_err(), "{bad:?}");
        }
        assert!(matches!("IP=1;IP=2".parse::<CniArgs>(), Err(ArgsError::Twice { .. })));
        assert_eq!("IP=1;IP=1;".parse::<CniArgs>().unwrap().get("IP"), Some("1"));
        assert_eq!("a=b=c".parse::<CniArgs>().unwrap().get("a"), Some("b=c"));
    }

    proptest! {
        #[test]
        fn parse_never_panics_and_prints_to_a_fixed_point(text in "[a-c=;]{0,20}|\\PC*") {
            if let Ok(args) = text.parse::<CniArgs>() {
                prop_assert_eq!(args.to_string().parse::<CniArgs>(), Ok(args));
            }
        }
    }
}
