//! The line of a field in a YAML (or JSON) document. Never its value.

use crate::store::files::reading;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;
use std::sync::OnceLock;

/// A node of the document: where it begins, and what is in it.
struct Tree {
    line: u64,
    branch: Branch,
}

enum Branch {
    Map(Vec<(String, Tree)>),
    List(Vec<Tree>),
    Leaf,
}

/// The lines of one document. Read when the first one is asked for, and once.
pub(super) struct Lines {
    document: Box<str>,
    tree: OnceLock<Option<Tree>>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines of {} bytes", self.document.len())
    }
}

impl Lines {
    pub(super) fn new(document: &str) -> Self {
        Self { document: document.into(), tree: OnceLock::new() }
    }

    /// The first line that holds something, from 1.
    pub(super) fn first(&self) -> u64 {
        let is_content = |line: &str| {
            let line = line.trim();
            !(line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "---")
        };
        self.document.lines().position(is_content).map_or(1, |index| index as u64 + 1)
    }

    /// The line of a field of the document, or of an item of the List that it is, from 1. Of what is not there,
    /// the line of the nearest node around it.
    pub(super) fn find(&self, item: Option<usize>, path: &str) -> Option<u64> {
        let read = || serde_saphyr::from_str_with_options(&self.document, reading()).ok();
        let mut tree = self.tree.get_or_init(read).as_ref()?;
        let mut line = self.first();
        if let Some(item) = item {
            tree = tree.child("items")?.child(&item.to_string())?;
            line = tree.line;
        }
        for part in parts(path) {
            let Some(child) = tree.child(part) else { break };
            tree = child;
            line = tree.line;
        }
        Some(line)
    }
}

/// `spec`, `ingress`, `0` of `spec.ingress[0]`. What stands in brackets may have dots.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        let (part, after) = if let Some(inner) = rest.strip_prefix('[') {
            inner.split_once(']').unwrap_or((inner, ""))
        } else {
            rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()))
        };
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

impl Tree {
    fn child(&self, part: &str) -> Option<&Self> {
        match &self.branch {
            Branch::Map(entries) => entries.iter().find(|(key, _)| key == part).map(|(_, tree)| tree),
            Branch::List(items) => items.get(part.parse::<usize>().ok()?),
            Branch::Leaf => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value: branch, referenced, .. } = Spanned::deserialize(deserializer)?;
        Ok(Self { line: referenced.line(), branch })
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BranchVisitor)
    }
}

struct BranchVisitor;

impl<'de> Visitor<'de> for BranchVisitor {
    type Value = Branch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Branch, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let tree: Tree = map.next_value()?;
            // A field is where its name stands; what is in it may begin on the next line.
            let line = if key.referenced.line() > 0 { key.referenced.line() } else { tree.line };
            entries.push((key.value, Tree { line, ..tree }));
        }
        Ok(Branch::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Branch, A::Error> {
        let mut items = Vec::new();
        while let Some(tree) = list.next_element()? {
            items.push(tree);
        }
        Ok(Branch::List(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Branch, D::Error> {
        Branch::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Branch, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Ok(Branch::Leaf)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_none<E>(self) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Branch, E> {
        Ok(Branch::Leaf)
    }
}
