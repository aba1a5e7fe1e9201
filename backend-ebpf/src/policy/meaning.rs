//! What numbers in the maps stand for, as digests: equal in every process of one build, so a successor sees what is in force
//! without knowing who numbered it. Never a name.

use super::atom::Atom;
use super::rules::Rules;
use super::source::{Source, Walk};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The digest of a meaning: 128 bits, so that two are not alike by chance.
pub type Digest = [u8; 16];

/// What a number is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meant {
    /// An identity.
    Identity(u32),
    /// A program.
    Program(u32),
}

impl Meant {
    /// As a key of a map.
    #[must_use]
    pub const fn key(self) -> u64 {
        match self {
            Self::Identity(number) => number as u64,
            Self::Program(number) => 1 << 32 | number as u64,
        }
    }

    /// The number of a key; `None` for a key that is none.
    #[must_use]
    pub fn of(key: u64) -> Option<Self> {
        let number = u32::try_from(key & u64::from(u32::MAX)).ok()?;
        match key >> 32 {
            0 => Some(Self::Identity(number)),
            1 => Some(Self::Program(number)),
            _ => None,
        }
    }
}

/// Two halves of 64 bits, each of its own beginning.
fn digest(content: impl Fn(&mut DefaultHasher)) -> Digest {
    let half = |beginning: u8| {
        let mut hasher = DefaultHasher::new();
        beginning.hash(&mut hasher);
        content(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    let mut digest = Digest::default();
    digest[..8].copy_from_slice(&half(0));
    digest[8..].copy_from_slice(&half(1));
    digest
}

pub(super) fn of_atoms(atoms: &BTreeSet<Atom>) -> Digest {
    digest(|hasher| atoms.hash(hasher))
}

/// Of a source, with the names of its rules in the place of their numbers.
pub(super) fn of_source(source: &Source, rules: &Rules) -> Digest {
    let walk = |walk: &Walk, hasher: &mut DefaultHasher| {
        walk.len().hash(hasher);
        for tier in walk {
            tier.rules.len().hash(hasher);
            for rule in &tier.rules {
                (rules.name(rule.number), rule.action, &rule.clauses).hash(hasher);
            }
            (tier.end, rules.name(tier.end_number)).hash(hasher);
        }
    };
    digest(|hasher| {
        (source.direction, source.family, &source.own, &source.ports).hash(hasher);
        walk(&source.enforced, hasher);
        source.staged.is_some().hash(hasher);
        source.staged.iter().for_each(|staged| walk(staged, hasher));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_number_again() {
        for meant in [Meant::Identity(0), Meant::Identity(u32::MAX), Meant::Program(7)] {
            assert_eq!(Meant::of(meant.key()), Some(meant));
        }
        assert_eq!(Meant::of(2 << 32), None);
    }
}
