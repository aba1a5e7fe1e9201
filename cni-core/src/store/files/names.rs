//! File names: which files are manifests, and the name of the file for an object that we create. Never a path.

use super::digest::Digest;
use crate::store::ObjectKey;

/// The lock that every writer holds. Never removed: its inode is the lock.
pub(super) const LOCK_FILE: &str = ".cnidarian.lock";
/// Files that are being written. What is left of a crash is removed by the next writer.
pub(super) const TEMPORARY_PREFIX: &str = ".cnidarian-writing-";
/// The kernel's `NAME_MAX` is 255 (`include/uapi/linux/limits.h`); the temporary prefix and the suffix fit in the rest.
const LONGEST_STEM_BYTES: usize = 180;

/// How a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
}

/// The form of a file by its name, `None` for what is no manifest: hidden files, other extensions.
pub(crate) fn form(file_name: &str) -> Option<Form> {
    let (stem, extension) = file_name.rsplit_once('.')?;
    match extension {
        _ if stem.is_empty() || file_name.starts_with('.') => None,
        "json" => Some(Form::Json),
        "yaml" | "yml" => Some(Form::Yaml),
        _ => None,
    }
}

/// The names to try for a new object's file, the first for all but odd cases
/// (a file of that name holds something else).
pub(super) fn candidates(key: &ObjectKey) -> impl Iterator<Item = String> {
    let stem = stem(key);
    (1..=64).map(move |number| if number == 1 { format!("{stem}.json") } else { format!("{stem}__{number}.json") })
}

/// `ipblock.cnidarian.io__b-1`, `pod__default__web`: injective, because `_` is escaped in every part.
fn stem(key: &ObjectKey) -> String {
    let mut stem = escaped(&key.kind.kind().to_ascii_lowercase());
    if !key.kind.group().is_empty() {
        stem = format!("{stem}.{}", escaped(key.kind.group()));
    }
    if let Some(namespace) = &key.namespace {
        stem = format!("{stem}__{}", escaped(namespace));
    }
    stem = format!("{stem}__{}", escaped(&key.name));
    if stem.len() > LONGEST_STEM_BYTES {
        let digest = Digest::of(&stem);
        // Everything is ASCII after escaping, so every byte is a boundary.
        stem.truncate(LONGEST_STEM_BYTES - 35);
        stem = format!("{stem}__h{digest}");
    }
    stem
}

/// Lower-case letters, digits, `.` and `-` stay; every other byte is `_` and two hexadecimal digits.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("_{byte:02x}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;
    use proptest::prelude::*;

    fn first(key: &ObjectKey) -> String {
        candidates(key).next().unwrap()
    }

    #[test]
    fn a_name_tells_what_the_file_holds() {
        assert_eq!(first(&ObjectKey::cluster(Kind::IP_BLOCK, "b-1")), "ipblock.cnidarian.io__b-1.json");
        assert_eq!(first(&ObjectKey::namespaced(Kind::POD, "default", "web")), "pod__default__web.json");
        assert_eq!(first(&ObjectKey::cluster(Kind::NODE, "a_B")), "node__a_5f_42.json");
    }

    #[test]
    fn only_visible_json_and_yaml_files_are_manifests() {
        for (name, wanted) in
            [("a.json", Some(Form::Json)), ("a.b.yaml", Some(Form::Yaml)), ("a.yml", Some(Form::Yaml))]
        {
            assert_eq!(form(name), wanted, "{name}");
        }
        for name in ["a", ".a.json", ".json", "a.json~", "a.json.bak", "a.toml", ".cnidarian.lock", "README.md"] {
            assert_eq!(form(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_safe_and_two_objects_never_share_one(
            a in "\\PC{1,120}", b in "\\PC{1,120}", namespace in proptest::option::of("[a-z_.]{1,63}"),
        ) {
            let key = |name: &str| ObjectKey {
                kind: Kind::new("example.org/v1", "Thing"),
                namespace: namespace.as_deref().map(Into::into),
                name: name.into(),
            };
            let name = first(&key(&a));
            prop_assert!(name.len() <= 200 && form(&name) == Some(Form::Json), "{name}");
            prop_assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')), "{name}");
            prop_assert_eq!(a == b, name == first(&key(&b)));
        }
    }
}
