//! What surrounds the spec of a policy's object, and what becomes of the object as a whole. Never the spec itself.

use super::{Reader, Reading};
use crate::policy::model::{Effect, Mode, Policy};

/// The annotation that stages a policy.
const MODE: &str = "cnidarian.io/mode";

/// What Kubernetes takes of annotations on one object, keys and values together.
const MOST_ANNOTATION_BYTES: usize = 256 * 1024;

/// How many problems a reader had at some moment.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize);

impl Reader<'_> {
    /// Remembers this moment.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.problems.len())
    }

    /// Whether nothing failed closed since a moment; warnings do not count.
    pub(crate) fn sound_since(&self, mark: Mark) -> bool {
        self.problems.iter().skip(mark.0).all(|problem| problem.effect == Effect::Warning)
    }

    /// Whether the policy decides, by its annotation. A word that is not known leaves it enforced.
    pub(crate) fn mode(&mut self) -> Mode {
        match self.object.metadata.annotations.get(MODE).map(String::as_str) {
            None | Some("enforced") => Mode::Enforced,
            Some("staged" | "audit") => Mode::Staged,
            Some(other) => {
                let detail =
                    format!("{other:?} is no mode, so the policy is enforced; write staged, audit or enforced");
                self.problem(Effect::Warning, format!("metadata.annotations[{MODE}]"), detail);
                Mode::Enforced
            }
        }
    }

    /// Checks what is around the spec: the version, the size of annotations, and that nothing else stands there.
    pub(crate) fn document(&mut self, api_version: &str) {
        self.document_of(api_version, &["spec", "status"]);
    }

    /// The same for an object that has these fields.
    pub(crate) fn document_of(&mut self, api_version: &str, known: &[&str]) {
        let object = self.object;
        if object.key.kind.api_version() != api_version {
            let detail =
                format!("{} is no version that is read here; write {api_version}", object.key.kind.api_version());
            self.problem(Effect::SubjectClosed, "apiVersion", detail);
        }
        let bytes: usize = object.metadata.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MOST_ANNOTATION_BYTES {
            let detail = format!("have {bytes} bytes; Kubernetes takes at most {MOST_ANNOTATION_BYTES}");
            self.problem(Effect::SubjectClosed, "metadata.annotations", detail);
        }
        self.only(Effect::SubjectClosed, &object.fields, "", known);
    }

    /// What the object says, when it says this policy: closed if anything had that effect on its subject.
    pub(crate) fn finish(self, policy: Policy) -> Reading {
        self.finish_parts(vec![policy])
    }

    /// The same for an object that says several policies.
    pub(crate) fn finish_parts(self, parts: Vec<Policy>) -> Reading {
        let closed = self.problems.iter().any(|problem| problem.effect == Effect::SubjectClosed);
        // A staged policy decides nothing, whether it could be read or not.
        let close = |part: Policy| Policy {
            id: part.id.clone(),
            mode: part.mode,
            on_forward: part.on_forward,
            ..Policy::closed(part.id.object, part.subject)
        };
        let policies = if closed { parts.into_iter().map(close).collect() } else { parts };
        Reading { policies, tiers: Vec::new(), problems: self.problems }
    }
}
