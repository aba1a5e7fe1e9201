//! The protocol parameters in environment variables (CNI 1.1.0, section 2, "Parameters"): both ways. Never looks at
//! the process's own environment unless asked to with [`Environment::of_process`].

use super::{CniArgs, CniError, ErrorCode, Verb};
use crate::model::{ContainerId, InterfaceName};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Environment variables, as a value: tests and embedders make their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// A copy of this process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of a variable. One set to nothing counts as not set: runtimes do both for what they do not have.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Every variable, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The environment without any of the protocol's variables.
    #[must_use]
    pub fn without_parameters(mut self) -> Self {
        self.0.retain(|name, _| !name.as_bytes().starts_with(b"CNI_"));
        self
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// The checked parameters of one call.
///
/// Which may be `None` depends on the verb: after [`Parameters::parse`], ADD, DEL and CHECK have container id and
/// interface name, ADD and CHECK a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`.
    pub container_id: Option<ContainerId>,
    /// `CNI_IFNAME`: the interface inside the container.
    pub ifname: Option<InterfaceName>,
    /// `CNI_NETNS`: an absolute path. Not yet looked at.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`: where plugins are looked for, in this order.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`, an extension of the Go `skel`: the plugin's own network namespace is meant.
    pub netns_override: bool,
}

impl Parameters {
    /// Parameters of a verb that is about no attachment.
    #[must_use]
    pub fn of_network(verb: Verb, path: Vec<PathBuf>) -> Self {
        Self {
            verb,
            container_id: None,
            ifname: None,
            netns: None,
            args: CniArgs::default(),
            path,
            netns_override: false,
        }
    }

    /// Reads and checks every variable the verb uses, and none else. Pure, and safe on any bytes.
    ///
    /// # Errors
    /// Code 4 with the names of the missing variables, of the first wrong one otherwise.
    pub fn parse(environment: &Environment) -> Result<Self, CniError> {
        let verb: Verb = match text(environment, "CNI_COMMAND")? {
            Some(verb) => verb.parse()?,
            None => return Err(missing(&["CNI_COMMAND"])),
        };
        let needs: &[&str] = match verb {
            Verb::Add | Verb::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Verb::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Verb::Gc => &["CNI_PATH"],
            Verb::Status | Verb::Version => &[],
        };
        let lacking: Vec<&str> = needs.iter().copied().filter(|name| environment.get(name).is_none()).collect();
        if !lacking.is_empty() {
            return Err(missing(&lacking));
        }
        let mut parameters = Self::of_network(verb, Vec::new());
        if verb == Verb::Version {
            return Ok(parameters);
        }
        parameters.path = search_path(environment)?;
        if parameters.path.is_empty() && needs.contains(&"CNI_PATH") {
            return Err(wrong("CNI_PATH", "has no directory", "name at least one, as in /opt/cni/bin"));
        }
        if verb.is_about_an_attachment() {
            parameters.container_id = name(environment, "CNI_CONTAINERID", ContainerId::new)?;
            parameters.ifname = name(environment, "CNI_IFNAME", InterfaceName::new)?;
            parameters.netns = netns(environment)?;
            parameters.args = text(environment, "CNI_ARGS")?.unwrap_or_default().parse()?;
            parameters.netns_override = text(environment, "CNI_NETNS_OVERRIDE")?
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        }
        Ok(parameters)
    }

    /// `base` with these parameters, and no other of the protocol's.
    #[must_use]
    pub fn to_environment(&self, base: Environment) -> Environment {
        let mut environment = base.without_parameters();
        environment.set("CNI_COMMAND", self.verb.as_str());
        if let Some(id) = &self.container_id {
            environment.set("CNI_CONTAINERID", id.as_str());
        }
        if let Some(ifname) = &self.ifname {
            environment.set("CNI_IFNAME", ifname.as_str());
        }
        if let Some(netns) = &self.netns {
            environment.set("CNI_NETNS", netns);
        }
        if !self.args.is_empty() {
            environment.set("CNI_ARGS", self.args.to_string());
        }
        let path: Vec<&OsStr> = self.path.iter().map(|directory| directory.as_os_str()).collect();
        environment.set("CNI_PATH", path.join(OsStr::new(":")));
        if self.netns_override {
            environment.set("CNI_NETNS_OVERRIDE", "1");
        }
        environment
    }
}

fn missing(names: &[&str]) -> CniError {
    CniError::new(ErrorCode::InvalidEnvironment, format!("{}: not set", names.join(", ")))
        .details("this program is a CNI plugin: a container runtime calls it with these environment variables")
}

fn wrong(name: &str, what: impl std::fmt::Display, right: impl std::fmt::Display) -> CniError {
    CniError::new(ErrorCode::InvalidEnvironment, format!("{name}: {what}")).details(right)
}

fn text<'a>(environment: &'a Environment, name: &str) -> Result<Option<&'a str>, CniError> {
    environment
        .get(name)
        .map(|value| value.to_str().ok_or_else(|| wrong(name, format!("{value:?} is not UTF-8"), "use UTF-8")))
        .transpose()
}

fn name<T>(
    environment: &Environment,
    variable: &str,
    check: impl Fn(&str) -> Result<T, crate::model::InvalidName>,
) -> Result<Option<T>, CniError> {
    text(environment, variable)?
        .map(|value| {
            check(value).map_err(|error| wrong(variable, format!("{:?} is no {}", error.name, error.kind), error.rule))
        })
        .transpose()
}

fn netns(environment: &Environment) -> Result<Option<PathBuf>, CniError> {
    let Some(path) = environment.get("CNI_NETNS").map(Path::new) else { return Ok(None) };
    let climbs = path.components().any(|component| component == Component::ParentDir);
    if !path.is_absolute() || climbs || path.as_os_str().as_bytes().contains(&0) {
        let right = "use an absolute path without '..', as in /run/netns/blue";
        return Err(wrong("CNI_NETNS", format!("{} cannot be used", path.display()), right));
    }
    Ok(Some(path.to_owned()))
}

fn search_path(environment: &Environment) -> Result<Vec<PathBuf>, CniError> {
    let Some(list) = environment.get("CNI_PATH") else { return Ok(Vec::new()) };
    list.as_bytes()
        .split(|byte| *byte == b':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| {
            let directory = Path::new(OsStr::from_bytes(directory));
            if directory.is_absolute() {
                Ok(directory.to_owned())
            } else {
                // A relative directory would be looked up wherever the runtime happens to stand.
                let right = "use absolute directories with ':' between them, as in /opt/cni/bin:/usr/lib/cni";
                Err(wrong("CNI_PATH", format!("{} is not absolute", directory.display()), right))
            }
        })
        .collect()
}
