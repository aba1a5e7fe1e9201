//! Handing a part of the work to another plugin, as IPAM (CNI 1.1.0, section 4). Never changes what the other plugin
//! gets, unless told to: the same environment, the same configuration.

use super::Origin;
use crate::cni::{AddResult, CniError, ConfError, ErrorCode, NetConf, SpecVersion, Verb};
use crate::model::PluginType;
use crate::runtime::{Invocation, call};
use std::borrow::Cow;

/// Another plugin, to be called with the request at hand.
///
/// ```no_run
/// # use cni_core::{cni::{AddResult, CniError}, plugin::AddRequest};
/// # fn configure(_: &AddRequest, addresses: AddResult) -> Result<AddResult, CniError> { Ok(addresses) }
/// fn add(request: &AddRequest) -> Result<AddResult, CniError> {
///     match request.ipam() {
///         // When `configure` fails, the addresses are given back before its error is returned.
///         Some(ipam) => ipam.add(|addresses| configure(request, addresses)),
///         None => configure(request, AddResult::default()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Delegate<'a> {
    origin: &'a Origin,
    version: SpecVersion,
    stdin: Cow<'a, [u8]>,
    plugin: PluginType,
}

impl<'a> Delegate<'a> {
    pub(super) fn new(origin: &'a Origin, conf: &'a NetConf, plugin: PluginType) -> Self {
        Self { origin, version: conf.cni_version, stdin: Cow::Borrowed(&origin.stdin), plugin }
    }

    /// The same with a configuration of the calling plugin's making, for meta plugins that translate. Give the same one
    /// in every verb.
    ///
    /// # Errors
    /// [`ConfError::PrevResult`] when its previous result cannot be said in its version.
    pub fn configured(self, conf: &NetConf) -> Result<Self, ConfError> {
        let stdin = conf.to_json()?.to_string().into_bytes();
        Ok(Self { version: conf.cni_version, stdin: Cow::Owned(stdin), ..self })
    }

    /// ADD, then `then` with its result. When either fails the plugin is called with DEL, and the error is returned.
    ///
    /// # Errors
    /// The plugin's error, or that of `then`. What DEL could not undo stands in `details`.
    pub fn add<T>(&self, then: impl FnOnce(AddResult) -> Result<T, CniError>) -> Result<T, CniError> {
        let added = self.call(Verb::Add).and_then(|stdout| {
            AddResult::parse(&stdout, self.version).map_err(|error| {
                CniError::new(ErrorCode::Decode, format!("the answer of plugin {} cannot be used", self.plugin))
                    .details(error)
            })
        });
        added.and_then(then).map_err(|mut error| {
            if let Err(left) = self.call(Verb::Del) {
                let separator = if error.details.is_empty() { "" } else { "; " };
                error.details =
                    format!("{}{separator}cleaning up with {} failed too: {left}", error.details, self.plugin);
            }
            error
        })
    }

    /// The verb of the request, for all but ADD: DEL, CHECK, STATUS and GC have to reach every delegate.
    ///
    /// # Errors
    /// The plugin's error; for a request of ADD, code 999, since that has a result.
    pub fn forward(&self) -> Result<(), CniError> {
        if self.origin.verb == Verb::Add {
            let msg = format!("plugin {}: ADD cannot be forwarded without looking at its result", self.plugin);
            return Err(CniError::new(ErrorCode::INTERNAL, msg).details("the calling plugin has to use Delegate::add"));
        }
        self.call(self.origin.verb).map(drop)
    }

    fn call(&self, verb: Verb) -> Result<Vec<u8>, CniError> {
        let mut environment = self.origin.environment.clone();
        environment.set("CNI_COMMAND", verb.as_str());
        let invocation = Invocation { environment, stdin: self.stdin.to_vec(), timeout: None };
        call(&*self.origin.exec, &self.plugin, &self.origin.path, &invocation)
    }
}
