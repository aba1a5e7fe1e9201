//! Manifests that people have in files, with the line of every field. Never watched, never written.

mod lines;

use crate::store::files::{Form, Manifest, form};
use crate::store::{self, Error, Object, Problem, Result};
use lines::Lines;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most bytes of one file: all objects of a large cluster in one list.
const MOST_BYTES: u64 = 64 << 20;

/// Where an object stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The object's first line, from 1.
    pub line: u64,
    document: Arc<Lines>,
    lines_before: u64,
    /// Which item of a `v1` List it is.
    item: Option<usize>,
}

impl Place {
    /// The line of a field: `spec.ingress[0].from[1]`, `metadata.labels[app]`. Of a field that is not there, the
    /// line of the nearest one around it.
    #[must_use]
    pub fn line_of(&self, path: &str) -> u64 {
        self.document.find(self.item, path).map_or(self.line, |line| self.lines_before + line)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// What files and directories hold.
#[derive(Debug, Default)]
pub struct Manifests {
    /// All objects, in the order of files and documents.
    pub objects: Vec<(Object, Place)>,
    /// Files that cannot be read as manifests: nothing of those is among the objects.
    pub problems: Vec<Problem>,
}

impl Manifests {
    /// Reads files, and directories with all below them, in the order of their names. Of a directory only `.yaml`,
    /// `.yml` and `.json` files that are not hidden; a file that is named itself may be called anything.
    ///
    /// # Errors
    /// [`Error::Io`]: a file or directory cannot be read.
    pub fn read(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let mut manifests = Self::default();
        for path in paths {
            let path = path.as_ref();
            if fs::metadata(path).map_err(failed("read", path))?.is_dir() {
                manifests.add_directory(path)?;
            } else {
                manifests.add_file(path)?;
            }
        }
        Ok(manifests)
    }

    /// Where the objects are that have a key: more than one when it is written twice.
    pub fn places<'a>(&'a self, key: &'a store::ObjectKey) -> impl Iterator<Item = &'a Place> {
        self.objects.iter().filter(move |(object, _)| object.key == *key).map(|(_, place)| place)
    }

    fn add_directory(&mut self, directory: &Path) -> Result<()> {
        let list =
            || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<PathBuf>>>();
        let mut paths = list().map_err(failed("list", directory))?;
        paths.sort();
        for path in paths {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            // A link to a directory may lead back here.
            let kind = fs::symlink_metadata(&path).map_err(failed("read", &path))?;
            if kind.is_dir() && !name.starts_with('.') {
                self.add_directory(&path)?;
            } else if form(&name).is_some() && fs::metadata(&path).map_err(failed("read", &path))?.is_file() {
                self.add_file(&path)?;
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let bytes = bounded(path).map_err(failed("read", path))?;
        match String::from_utf8(bytes) {
            Ok(text) => self.add_text(path, &text),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = lines_in(valid) + 1;
                self.problems.push(Problem { path: path.to_owned(), line, detail: "is no UTF-8 text".to_owned() });
            }
        }
        Ok(())
    }

    /// Takes a text in as if it stood in a file of that name: standard input.
    pub fn add_text(&mut self, path: &Path, text: &str) {
        // JSON is YAML, too: a file without a telling name may be either.
        let form = path.file_name().and_then(|name| form(&name.to_string_lossy())).unwrap_or(Form::Yaml);
        let manifest = match Manifest::parse(text, form) {
            Ok(manifest) => manifest,
            Err(flaw) => {
                self.problems.push(Problem { path: path.to_owned(), line: flaw.line, detail: flaw.detail });
                return;
            }
        };
        let file: Arc<Path> = path.into();
        for document in manifest.into_documents() {
            let lines_before = lines_in(&text.as_bytes()[..document.bytes.start]);
            let lines = Arc::new(Lines::new(&text[document.bytes]));
            let first = lines.first();
            for (index, object) in document.objects.into_iter().enumerate() {
                let item = document.list.then_some(index);
                let line = item.and_then(|_| lines.find(item, "")).unwrap_or(first);
                let place = Place {
                    file: file.clone(),
                    line: lines_before + line,
                    document: lines.clone(),
                    lines_before,
                    item,
                };
                self.objects.push((object, place));
            }
        }
    }
}

/// The bytes of a file or pipe. A device may have no end.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is neither a file nor a pipe"));
    }
    let mut bytes = Vec::new();
    let read = fs::File::open(path)?.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if read as u64 > MOST_BYTES {
        let detail = format!("has more than {MOST_BYTES} bytes; split it");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, detail));
    }
    Ok(bytes)
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |source| Error::Io { operation, path: path.to_owned(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests;
