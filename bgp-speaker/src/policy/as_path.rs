//! Conditions on a path of systems. Never a regular expression: the work is bounded by the two lengths.

use super::error::Wrong;
use crate::types::{AsPath, Asn};
use std::ops::RangeInclusive;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Word {
    One(Asn),
    Any,
    Row,
}

/// Numbers, any one, any row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Pattern(Vec<Word>);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let words = text.split_whitespace().map(|word| match word {
            "." => Ok(Word::Any),
            "*" => Ok(Word::Row),
            number => {
                let asn = number.parse().ok().and_then(Asn::new);
                asn.map(Word::One).ok_or_else(|| Wrong::Pattern { word: number.to_owned() })
            }
        });
        words.collect::<Result<_, _>>().map(Self)
    }

    /// Sets count as their numbers in the order in which they stand.
    fn fits(&self, path: &AsPath) -> bool {
        // Which beginnings of the path the words so far fit.
        let numbers: Vec<Asn> = path.asns().collect();
        let mut fits = vec![false; numbers.len() + 1];
        fits[0] = true;
        for word in &self.0 {
            if *word == Word::Row {
                for at in 1..fits.len() {
                    fits[at] |= fits[at - 1];
                }
                continue;
            }
            for at in (1..fits.len()).rev() {
                let is_it = match word {
                    Word::One(asn) => numbers[at - 1] == *asn,
                    Word::Any | Word::Row => true,
                };
                fits[at] = fits[at - 1] && is_it;
            }
            fits[0] = false;
        }
        fits[numbers.len()]
    }
}

/// Conditions, each of which may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Conditions {
    pub(super) contains: Option<Vec<Asn>>,
    pub(super) origin: Option<Vec<Asn>>,
    pub(super) neighbour: Option<Vec<Asn>>,
    pub(super) hops: Option<RangeInclusive<u32>>,
    pub(super) pattern: Option<Pattern>,
}

impl Conditions {
    pub(super) fn hold(&self, path: &AsPath) -> bool {
        let one_of = |wanted: &Option<Vec<Asn>>, found: Option<Asn>| {
            wanted.as_ref().is_none_or(|wanted| found.is_some_and(|found| wanted.contains(&found)))
        };
        self.contains.as_ref().is_none_or(|wanted| path.asns().any(|asn| wanted.contains(&asn)))
            && one_of(&self.origin, path.origin())
            && one_of(&self.neighbour, path.neighbour())
            && self.hops.as_ref().is_none_or(|range| range.contains(&u32::try_from(path.hops()).unwrap_or(u32::MAX)))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.fits(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_whole_paths() {
        let path = AsPath::sequence([65_001, 65_002, 65_002, 65_003].into_iter().filter_map(Asn::new).collect());
        for fits in [
            "*",
            "65001 *",
            "* 65003",
            "65001 * 65003",
            "65001 . . 65003",
            "* 65002 *",
            "* . * . *",
            "65001 * * 65002 65003",
        ] {
            assert!(Pattern::parse(fits).unwrap().fits(&path), "{fits}");
        }
        for fails in ["", ".", "65001", "65002 *", "65001 . 65003", "* 65004 *", ". . . . .", "65001 * 65002"] {
            assert!(!Pattern::parse(fails).unwrap().fits(&path), "{fails}");
        }
        assert!(Pattern::parse("").unwrap().fits(&AsPath::default()));
        assert_eq!(Pattern::parse("65001 .*"), Err(Wrong::Pattern { word: ".*".to_owned() }));
        assert_eq!(Pattern::parse("0"), Err(Wrong::Pattern { word: "0".to_owned() }));
    }
}
