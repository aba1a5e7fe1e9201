//! Selectors: conditions on labels. Never on addresses, and never a dialect's own syntax.

use super::Identity;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What of an identity a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// A label of its own.
    Label(Arc<str>),
    /// A label of its namespace.
    NamespaceLabel(Arc<str>),
    /// A label of its service account.
    ServiceAccountLabel(Arc<str>),
    /// Its namespace's name.
    Namespace,
    /// Its service account's name.
    ServiceAccount,
    /// Its own name, for groups, services and nodes.
    Name,
}

/// A condition on an identity. A condition on an attribute that is not there does not hold; its `Not` does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// Holds always.
    Everything,
    /// Holds never.
    Nothing,
    /// The attribute is there.
    Has(Attribute),
    /// It has this value.
    Is(Attribute, Arc<str>),
    /// It has one of these values.
    In(Attribute, BTreeSet<Arc<str>>),
    /// Its value begins with this text.
    StartsWith(Attribute, Arc<str>),
    /// Its value ends with this text.
    EndsWith(Attribute, Arc<str>),
    /// Its value contains this text.
    Contains(Attribute, Arc<str>),
    /// The condition does not hold.
    Not(Box<Selector>),
    /// All hold; of none: holds always.
    All(Vec<Selector>),
    /// One holds; of none: holds never.
    Any(Vec<Selector>),
}

impl Selector {
    /// Whether it holds.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        let value = |attribute: &Attribute| identity.get(attribute);
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Has(attribute) => value(attribute).is_some(),
            Self::Is(attribute, wanted) => value(attribute) == Some(wanted),
            Self::In(attribute, wanted) => value(attribute).is_some_and(|value| wanted.contains(value)),
            Self::StartsWith(attribute, text) => value(attribute).is_some_and(|value| value.starts_with(&**text)),
            Self::EndsWith(attribute, text) => value(attribute).is_some_and(|value| value.ends_with(&**text)),
            Self::Contains(attribute, text) => value(attribute).is_some_and(|value| value.contains(&**text)),
            Self::Not(inner) => !inner.matches(identity),
            Self::All(all) => all.iter().all(|inner| inner.matches(identity)),
            Self::Any(any) => any.iter().any(|inner| inner.matches(identity)),
        }
    }

    /// Both hold. Keeps the result flat and without `Everything`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Everything, one) | (one, Self::Everything) => one,
            (Self::Nothing, _) | (_, Self::Nothing) => Self::Nothing,
            (Self::All(mut left), Self::All(right)) => {
                left.extend(right);
                Self::All(left)
            }
            (Self::All(mut all), one) | (one, Self::All(mut all)) => {
                all.push(one);
                Self::All(all)
            }
            (left, right) => Self::All(vec![left, right]),
        }
    }

    /// It does not hold.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Everything => Self::Nothing,
            Self::Nothing => Self::Everything,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(key) => f.write_str(key),
            Self::NamespaceLabel(key) => write!(f, "namespace.{key}"),
            Self::ServiceAccountLabel(key) => write!(f, "serviceaccount.{key}"),
            Self::Namespace => f.write_str("namespace"),
            Self::ServiceAccount => f.write_str("serviceaccount"),
            Self::Name => f.write_str("name"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], with: &str| {
            f.write_str("(")?;
            for (index, part) in parts.iter().enumerate() {
                write!(f, "{}{part}", if index == 0 { "" } else { with })?;
            }
            f.write_str(")")
        };
        match self {
            Self::Everything => f.write_str("all()"),
            Self::Nothing => f.write_str("none()"),
            Self::Has(attribute) => write!(f, "has({attribute})"),
            Self::Is(attribute, value) => write!(f, "{attribute} == {value:?}"),
            Self::In(attribute, values) => {
                write!(f, "{attribute} in {{")?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value:?}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Self::StartsWith(attribute, text) => write!(f, "{attribute} starts with {text:?}"),
            Self::EndsWith(attribute, text) => write!(f, "{attribute} ends with {text:?}"),
            Self::Contains(attribute, text) => write!(f, "{attribute} contains {text:?}"),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::All(all) if all.is_empty() => f.write_str("all()"),
            Self::All(all) => joined(f, all, " && "),
            Self::Any(any) if any.is_empty() => f.write_str("none()"),
            Self::Any(any) => joined(f, any, " || "),
        }
    }
}
