//! Conditions above TCP and UDP. Never enforced without a proxy: a rule that has some matches nothing until then.

use std::sync::Arc;

/// A DNS name or a pattern of names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsPattern {
    /// This name, in lower case, without a dot at its end.
    Name(Arc<str>),
    /// `*` stands for any letters of one label; alone for everything.
    Pattern(Arc<str>),
    /// Every name below this one, however deep, in lower case; not itself.
    Below(Arc<str>),
}

/// One HTTP request that is allowed: all conditions that are there must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpRule {
    /// A regular expression (RE2) for the whole path.
    pub path: Option<Arc<str>>,
    /// A regular expression for the whole method.
    pub method: Option<Arc<str>>,
    /// A regular expression for the whole host.
    pub host: Option<Arc<str>>,
    /// Headers that must be there: `Name` or `Name: value`.
    pub headers: Vec<Arc<str>>,
}

/// What a rule wants of the application protocol; of an empty list: nothing passes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer7 {
    /// One of these requests.
    Http(Vec<HttpRule>),
    /// Queries for one of these names.
    Dns(Vec<DnsPattern>),
    /// A protocol or option that this version has no words for; holds what was written.
    Other(Arc<str>),
}
