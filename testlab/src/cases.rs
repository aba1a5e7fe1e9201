//! Files of policy cases: YAML, JSON, a case a line, packed or not. Never what comes of a case.

use cni_core::policy::cases::Case;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The longest file that is read, unpacked: 1 GiB.
const MOST_BYTES: u64 = 1 << 30;

/// Cases that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CasesError {
    /// The file or directory cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no case in it.
    #[error("{}: holds no case; a case is {{\"id\", \"objects\": [...], \"queries\": [...]}}", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// A case is not as it should be.
    #[error("{}: {place}: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which case or line in it.
        place: String,
        /// What is wrong.
        detail: String,
    },
}

/// Cases of a file, of all files of a directory (not of those below it), or of standard input (`-`), in order.
///
/// # Errors
/// [`CasesError`]; nothing of a broken file is used.
pub fn read(path: &Path) -> Result<Vec<Case>, CasesError> {
    let failed = |source| CasesError::Read { path: path.to_owned(), source };
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(failed)?;
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| named(file)).collect();
        files.sort();
        let mut cases = Vec::new();
        for file in files {
            cases.extend(read(&file)?);
        }
        return if cases.is_empty() { Err(CasesError::Empty { path: path.to_owned() }) } else { Ok(cases) };
    }
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    let packed = path.extension().is_some_and(|ending| ending == "gz");
    let input: Box<dyn Read> = if packed { Box::new(GzDecoder::new(input)) } else { input };
    let mut text = String::new();
    let read = input.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if read as u64 > MOST_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "is larger than 1 GiB; split it")));
    }
    parse(&text, path)
}

/// Whether a file of a directory is one of cases.
fn named(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let bare = name.strip_suffix(".gz").unwrap_or(&name);
    [".json", ".jsonl", ".ndjson", ".yaml", ".yml"].iter().any(|ending| bare.ends_with(ending))
}

fn parse(text: &str, path: &Path) -> Result<Vec<Case>, CasesError> {
    let malformed = |place: String, detail: String| CasesError::Malformed { path: path.to_owned(), place, detail };
    let values = match values(text) {
        Ok(values) => values,
        Err((place, detail)) => return Err(malformed(place, detail)),
    };
    let mut cases = Vec::new();
    for (place, value) in values {
        let listed = match value {
            Value::Array(list) => list,
            Value::Null => continue,
            one => vec![one],
        };
        for value in listed {
            let case: Case =
                serde_json::from_value(value).map_err(|error| malformed(place.clone(), error.to_string()))?;
            if case.queries.is_empty() && case.objects.is_empty() {
                return Err(malformed(place.clone(), "has neither objects nor queries, so it is no case".to_owned()));
            }
            cases.push(case);
        }
    }
    if cases.is_empty() { Err(CasesError::Empty { path: path.to_owned() }) } else { Ok(cases) }
}

/// The values of a text with their places: JSON values one after the other, else YAML documents.
fn values(text: &str) -> Result<Vec<(String, Value)>, (String, String)> {
    let json = text.trim_start().starts_with(['{', '[']);
    if json {
        let mut found = Vec::new();
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        loop {
            let line = 1 + text[..stream.byte_offset()].matches('\n').count();
            match stream.next() {
                None => return Ok(found),
                Some(Ok(value)) => found.push((format!("case {}", found.len() + 1), value)),
                // `{` begins a mapping of YAML, too.
                Some(Err(_)) if found.is_empty() => break,
                Some(Err(error)) => return Err((format!("after line {line}"), error.to_string())),
            }
        }
    }
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ("YAML".to_owned(), error.to_string()))?;
    Ok(documents.into_iter().enumerate().map(|(index, value)| (format!("document {}", index + 1), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_read_from_lines_lists_and_yaml_alike() {
        let wanted = ["a", "b"];
        let query = r#""queries": [{"from": "n/a", "to": "10.0.0.1", "port": 80, "expect": true}]"#;
        for text in [
            format!("{{\"id\": \"a\", {query}}}\n{{\"id\": \"b\", {query}, \"source\": \"elsewhere\"}}\n"),
            format!("[{{\"id\": \"a\", {query}}}, {{\"id\": \"b\", {query}}}]"),
            format!("id: a\n{}---\nid: b\n{}", yaml(), yaml()),
        ] {
            let cases = parse(&text, Path::new("x")).unwrap();
            assert_eq!(cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), wanted, "{text}");
            assert_eq!(cases[0].queries, cases[1].queries);
        }
    }

    fn yaml() -> &'static str {
        "queries:\n- {from: n/a, to: 10.0.0.1, port: 80, expect: true}\n"
    }

    #[test]
    fn what_is_no_case_is_refused_with_its_place() {
        for (text, part) in [
            ("", "holds no case"),
            ("{\"id\": \"a\"}", "case 1: has neither"),
            ("{\"queries\": [{\"from\": \"a\", \"to\": \"b\", \"expekt\": true}]}", "expekt"),
            ("{\"queries\": [{\"from\": \"n/a\", \"to\": \"n/b\"}]}", "expect"),
        ] {
            let error = parse(text, Path::new("x")).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
