//! The text of a manifest file: its documents, the objects in them, and the text with one object changed.
//! Never touches a file, and never changes a document that it need not.

use super::digest;
use super::names::Form;
use crate::store::{InvalidObject, Object, ObjectKey};
use serde_json::Value;
use std::ops::Range;

/// What is wrong in a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// From 1.
    pub(crate) line: u64,
    pub(crate) detail: String,
}

/// A parsed file.
#[derive(Debug)]
pub(crate) struct Manifest {
    form: Form,
    documents: Vec<Document>,
}

/// One document of a file; JSON files have one.
#[derive(Debug)]
pub(crate) struct Document {
    /// Where it stands, with the `---` line that begins it.
    pub(crate) bytes: Range<usize>,
    /// It is a `v1` List, so its objects are its items.
    pub(crate) list: bool,
    pub(crate) objects: Vec<Object>,
}

impl Manifest {
    /// Parses a file. Each object has its content's digest as version, whatever version stands in the file.
    pub(crate) fn parse(text: &str, form: Form) -> Result<Self, Flaw> {
        let documents = match form {
            Form::Json => json(text)?.into_iter().collect(),
            Form::Yaml => yaml(text)?,
        };
        Ok(Self { form, documents })
    }

    /// All documents that hold something, in their order.
    pub(crate) fn into_documents(self) -> Vec<Document> {
        self.documents
    }

    /// All objects, in their order.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.documents.iter().flat_map(|document| &document.objects)
    }

    /// The file's text with every object under a key replaced or removed. `None` when nothing is left to keep.
    pub(super) fn edited(&self, text: &str, key: &ObjectKey, new: Option<&Object>) -> Option<String> {
        let mut edited = String::with_capacity(text.len());
        let mut copied = 0;
        let mut left = 0;
        for document in &self.documents {
            let change = |object: &Object| if object.key == *key { new.cloned() } else { Some(object.clone()) };
            let objects: Vec<Object> = document.objects.iter().filter_map(change).collect();
            left += objects.len();
            if !document.objects.iter().any(|object| object.key == *key) {
                continue;
            }
            edited.push_str(&text[copied..document.bytes.start]);
            copied = document.bytes.end;
            if objects.is_empty() {
                continue;
            }
            let marked = text[document.bytes.clone()].starts_with("---");
            edited.push_str(if marked { "---\n" } else { "" });
            edited.push_str(&render(document.list, &objects, self.form));
        }
        edited.push_str(&text[copied..]);
        (left > 0).then_some(edited)
    }
}

/// Reads bytes as a manifest of either form, and writes what it read: the fuzzer's door.
///
/// # Panics
/// When an edit changes more or less than it should.
#[cfg(feature = "testkit")]
pub fn fuzz_manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for form in [Form::Json, Form::Yaml] {
        let Ok(manifest) = Manifest::parse(text, form) else { continue };
        let objects: Vec<Object> = manifest.objects().cloned().collect();
        for object in &objects {
            let others = objects.iter().filter(|other| other.key != object.key).map(|other| &other.key);
            let others: Vec<&ObjectKey> = others.collect();
            let Some(left) = manifest.edited(text, &object.key, None) else { continue };
            let left = Manifest::parse(&left, form).expect("what is left of a manifest is one");
            assert_eq!(left.objects().map(|other| &other.key).collect::<Vec<_>>(), others);
        }
    }
}

/// The text of one object's own file.
pub(super) fn render_one(object: &Object) -> String {
    render(false, std::slice::from_ref(object), Form::Json)
}

/// A document's text. Versions are left out: they follow from the content.
fn render(list: bool, objects: &[Object], form: Form) -> String {
    let mut values = objects.iter().map(|object| {
        let mut object = object.clone();
        object.metadata.resource_version = None;
        object.to_value()
    });
    let value = match (list, values.next()) {
        (false, Some(value)) => value,
        (_, first) => {
            let items: Vec<_> = first.into_iter().chain(values).collect();
            serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items})
        }
    };
    if form == Form::Yaml
        && let Ok(text) = serde_saphyr::to_string(&value)
        // Text that reads back differently would change the object, so JSON (which is YAML too) stands in.
        && serde_saphyr::from_str::<Value>(&text).is_ok_and(|back| back == value)
        && !text.lines().any(|line| line.starts_with("---") || line.starts_with("..."))
    {
        return if text.ends_with('\n') { text } else { text + "\n" };
    }
    format!("{value:#}\n")
}

/// The good objects of a text that is not good as a whole: of documents and list items that can be read.
pub(super) fn salvage(text: &str, form: Form) -> Vec<Object> {
    let parts = match form {
        Form::Json => vec![(0..text.len(), 0)],
        Form::Yaml => split(text),
    };
    let values = parts.into_iter().filter_map(|(bytes, _)| match form {
        Form::Json => serde_json::from_str(&text[bytes]).ok(),
        Form::Yaml => serde_saphyr::from_str_with_options(&text[bytes], reading()).ok(),
    });
    let each = |value: Value| match value {
        Value::Object(mut fields) if fields.get("kind").and_then(Value::as_str) == Some("List") => {
            match fields.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        value => vec![value],
    };
    values.flat_map(each).filter_map(|value| checked(value).ok()).collect()
}

/// An object with its content's digest as version.
fn checked(value: Value) -> Result<Object, InvalidObject> {
    let mut object = Object::from_value(value)?;
    object.metadata.resource_version = Some(digest::version(&object));
    Ok(object)
}

/// The objects of one document's value.
fn objects(value: Value, line: u64) -> Result<(bool, Vec<Object>), Flaw> {
    let flaw = |error: InvalidObject| Flaw { line, detail: error.to_string() };
    let list = value.get("kind").and_then(Value::as_str) == Some("List");
    let values = match value {
        Value::Object(mut fields) if list => match fields.remove("items") {
            Some(Value::Array(items)) => items,
            Some(Value::Null) | None => Vec::new(),
            Some(_) => return Err(flaw(InvalidObject::new("List", "items", "is no list; write objects as its items"))),
        },
        value => vec![value],
    };
    Ok((list, values.into_iter().map(checked).collect::<Result<_, _>>().map_err(flaw)?))
}

fn json(text: &str) -> Result<Option<Document>, Flaw> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_str(text).map_err(|error| Flaw {
        line: error.line() as u64,
        detail: format!("is no JSON ({error}); write one object, or a List of them"),
    })?;
    let (list, objects) = objects(value, 1)?;
    Ok(Some(Document { bytes: 0..text.len(), list, objects }))
}

/// How YAML is read. A document may be as long as a file may be (a policy of 10,000 rules, a dump of a cluster); what
/// aliases make of it stays limited.
pub(crate) fn reading() -> serde_saphyr::Options {
    let budget = serde_saphyr::budget! { max_nodes: 20_000_000, max_events: 50_000_000 };
    serde_saphyr::options! { with_snippet: false, budget: budget }
}

fn yaml(text: &str) -> Result<Vec<Document>, Flaw> {
    let mut documents = Vec::new();
    for (bytes, lines_before) in split(text) {
        let part = &text[bytes.clone()];
        let value: Value = serde_saphyr::from_str_with_options(part, reading()).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            Flaw {
                line: lines_before + line.max(1),
                detail: format!("is no YAML ({error}); the line is counted in its document"),
            }
        })?;
        if value.is_null() {
            continue;
        }
        let (list, objects) = objects(value, lines_before + 1)?;
        documents.push(Document { bytes, list, objects });
    }
    Ok(documents)
}

/// The documents of a YAML stream, each with the number of lines before it.
///
/// `---` and `...` at the beginning of a line are document markers wherever they stand, also inside of scalars
/// (YAML 1.2.2, section 9.1.2, `c-forbidden`), so the split needs no parser.
fn split(text: &str) -> Vec<(Range<usize>, u64)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    // What the current part has so far: a marker, and anything but comments and directives.
    let (mut marked, mut blank) = (false, true);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is = |marker: &str| {
            line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if is("---") {
            if !blank {
                parts.push((start..at, start_line));
            }
            // Directives and comments before the marker belong to its document.
            if !blank || marked {
                (start, start_line) = (at, number as u64);
            }
            let rest = line[3..].trim();
            (marked, blank) = (true, rest.is_empty() || rest.starts_with('#'));
        } else if is("...") {
            if !blank {
                parts.push((start..at, start_line));
            }
            (start, start_line) = (at + line.len(), number as u64 + 1);
            (marked, blank) = (false, true);
        } else {
            let content = line.trim();
            blank = blank && (content.is_empty() || content.starts_with('#') || content.starts_with('%'));
        }
        at += line.len();
    }
    if !blank {
        parts.push((start..at, start_line));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;
    use proptest::prelude::*;

    const TWO: &str = "# my nodes\n---\napiVersion: v1\nkind: Node\nmetadata:\n  name: a\n---\n# the second\napiVersion: v1\nkind: Node\nmetadata: {name: b, labels: {zone: \"1\"}}\n";

    fn names(manifest: &Manifest) -> Vec<String> {
        manifest.objects().map(|object| object.key.name.to_string()).collect()
    }

    fn node(name: &str) -> ObjectKey {
        ObjectKey::cluster(Kind::NODE, name)
    }

    #[test]
    fn a_stream_of_documents_and_a_list_hold_several_objects() {
        assert_eq!(names(&Manifest::parse(TWO, Form::Yaml).unwrap()), ["a", "b"]);
        let list = r#"{"apiVersion":"v1","kind":"List","items":[
            {"apiVersion":"v1","kind":"Node","metadata":{"name":"a"}},{"apiVersion":"v1","kind":"Node","metadata":{"name":"b"}}]}"#;
        assert_eq!(names(&Manifest::parse(list, Form::Json).unwrap()), ["a", "b"]);
        assert_eq!(names(&Manifest::parse(list, Form::Yaml).unwrap()), ["a", "b"]);
        for empty in ["", "\n", "---\n", "# nothing\n---\n# here\n...\n", "---\n---\n"] {
            assert_eq!(names(&Manifest::parse(empty, Form::Yaml).unwrap()), [""; 0], "{empty:?}");
        }
    }

    #[test]
    fn an_edit_leaves_the_other_documents_as_they_are() {
        let manifest = Manifest::parse(TWO, Form::Yaml).unwrap();
        let mut a = manifest.objects().next().unwrap().clone();
        a.metadata.annotations.insert("cnidarian.io/v4-address".to_owned(), "192.0.2.1".to_owned());
        let edited = manifest.edited(TWO, &node("a"), Some(&a)).unwrap();
        assert!(edited.ends_with(&TWO[TWO.rfind("---").unwrap()..]), "{edited}");
        let again = Manifest::parse(&edited, Form::Yaml).unwrap();
        assert_eq!(names(&again), ["a", "b"]);
        assert!(again.objects().next().unwrap().same_content(&a));
        let without = manifest.edited(TWO, &node("a"), None).unwrap();
        assert_eq!(names(&Manifest::parse(&without, Form::Yaml).unwrap()), ["b"]);
        let manifest = Manifest::parse(&without, Form::Yaml).unwrap();
        assert_eq!(manifest.edited(&without, &node("b"), None), None, "nothing left");
    }

    #[test]
    fn a_flaw_names_the_line_and_what_would_be_right() {
        let flaw = Manifest::parse("apiVersion: v1\nkind: Node\nmetadata:\n  nam: a\n", Form::Yaml).unwrap_err();
        assert_eq!(
            (flaw.line, flaw.detail.as_str()),
            (1, "Node: metadata.name: is missing; write it, as in name: node-1")
        );
        let flaw = Manifest::parse(&format!("{TWO}---\nkind: [\n"), Form::Yaml).unwrap_err();
        assert!(flaw.line >= 13, "{flaw:?}");
        let flaw = Manifest::parse("{\n\"kind\": nonsense}", Form::Json).unwrap_err();
        assert_eq!(flaw.line, 2, "{flaw:?}");
    }

    #[test]
    fn a_version_in_the_file_does_not_count() {
        let text = |version: &str| {
            format!("apiVersion: v1\nkind: Node\nmetadata: {{name: a, resourceVersion: \"{version}\"}}\n")
        };
        let version = |text: &str| {
            Manifest::parse(text, Form::Yaml).unwrap().objects().next().unwrap().metadata.resource_version.clone()
        };
        assert_eq!(version(&text("1")), version(&text("2")));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(\\PC|---\n|\\.\\.\\.\n|\n|  |: |- |\\{|\\[|\"|&a|\\*a){0,60}") {
            let _ = Manifest::parse(&text, Form::Yaml);
            let _ = Manifest::parse(&text, Form::Json);
        }

        #[test]
        fn an_object_reads_back_as_it_was_written(texts in proptest::collection::vec("[ -~\n\té\u{85}\u{2028}]{0,12}", 6), yaml: bool, number: i64) {
            let mut object = Object::new(node("n"));
            object.metadata.annotations.insert(texts[0].clone(), texts[1].clone());
            object.fields.insert("spec".to_owned(), serde_json::json!({ &texts[2]: [&texts[3], number, null, {&texts[4]: &texts[5]}] }));
            let form = if yaml { Form::Yaml } else { Form::Json };
            let text = render(false, std::slice::from_ref(&object), form);
            let manifest = Manifest::parse(&text, form).unwrap();
            let read: Vec<_> = manifest.objects().collect();
            prop_assert_eq!(read.len(), 1);
            prop_assert!(read[0].same_content(&object), "{}", text);
        }
    }
}
