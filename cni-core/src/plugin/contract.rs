//! What a plugin author implements. Never calls anything.

use super::{AddRequest, CheckRequest, DelRequest, GcRequest, StatusRequest};
use crate::cni::{AddResult, CniError, SpecVersion};

/// What a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// The name of its program.
    pub name: &'static str,
    /// Its own version.
    pub version: &'static str,
    /// The versions of the specification it speaks: what VERSION answers. Calls in another version end with code 1, so
    /// a plugin that has no CHECK says so by naming no version from 0.4.0 on, one without GC and STATUS none from
    /// 1.1.0 on. `SpecVersion::ALL` for one that has every verb.
    pub spec: &'static [SpecVersion],
    /// What it does with `CNI_NETNS`.
    pub netns: Netns,
}

/// What a plugin does with `CNI_NETNS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netns {
    /// It works in there. ADD and CHECK are called only when the path is a namespace, and not the plugin's own; DEL
    /// gets no path when it is not a namespace any more.
    Entered,
    /// It does not look at it, as IPAM plugins.
    NotUsed,
}

/// A CNI plugin: one method for every verb, and no verb has a default.
///
/// # Laws
/// 1. `add` fails when the interface is there already ([`CniError::interface_exists`]), and leaves nothing behind when
///    it fails.
/// 2. `add` answers the previous result with its own changes, where there is one.
/// 3. `del` succeeds when there is nothing to delete, any number of times, without network namespace, without previous
///    result.
/// 4. `check` fails when anything `add` made is missing or different.
/// 5. `status` fails when `add` could not be served, with code 50 or 51.
/// 6. `gc` frees everything that belongs to no valid attachment, goes on after an error, and does nothing when the
///    request does not say which are valid.
/// 7. What is delegated is delegated in every verb ([`super::Delegate`]).
/// 8. Calls for different containers may run at the same time.
///
/// Leaving out a verb does not compile:
/// ```compile_fail,E0046
/// # use cni_core::cni::{AddResult, CniError, SpecVersion};
/// # use cni_core::plugin::*;
/// struct NoGc;
/// impl Plugin for NoGc {
///     fn about(&self) -> About {
///         About { name: "no-gc", version: "1.0.0", spec: SpecVersion::ALL, netns: Netns::NotUsed }
///     }
///     fn add(&self, _: &AddRequest) -> Result<AddResult, CniError> { Ok(AddResult::default()) }
///     fn del(&self, _: &DelRequest) -> Result<(), CniError> { Ok(()) }
///     fn check(&self, _: &CheckRequest) -> Result<(), CniError> { Ok(()) }
///     fn status(&self, _: &StatusRequest) -> Result<(), CniError> { Ok(()) }
/// }
/// ```
pub trait Plugin {
    /// What this plugin is.
    fn about(&self) -> About;

    /// Attaches the container.
    ///
    /// # Errors
    /// Whatever the runtime's user should read.
    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError>;

    /// Detaches the container.
    ///
    /// # Errors
    /// When something of the attachment is left.
    fn del(&self, request: &DelRequest) -> Result<(), CniError>;

    /// Compares what is with what `add` made.
    ///
    /// # Errors
    /// What differs.
    fn check(&self, request: &CheckRequest) -> Result<(), CniError>;

    /// Tells whether `add` could be served now.
    ///
    /// # Errors
    /// Codes 50 and 51.
    fn status(&self, request: &StatusRequest) -> Result<(), CniError>;

    /// Frees what belongs to no valid attachment.
    ///
    /// # Errors
    /// Everything that could not be freed, in one error.
    fn gc(&self, request: &GcRequest) -> Result<(), CniError>;
}
