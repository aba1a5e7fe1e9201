//! Names that the kernel, Kubernetes or the CNI specification restrict. Each is checked once, here.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name that breaks the rules of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no {kind}: {rule}")]
pub struct InvalidName {
    /// What kind of name was wanted.
    pub kind: &'static str,
    /// What was given.
    pub name: String,
    /// The rule for this kind.
    pub rule: &'static str,
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks a name.
            ///
            /// # Errors
            /// [`InvalidName`] when it breaks the rule of its kind.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(name) {
                    Ok(Self(name.into()))
                } else {
                    Err(InvalidName { kind: $kind, name: name.to_owned(), rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }
    };
}

name_type! {
    /// A container's id, chosen by the runtime. CNI 1.1.0, section 2, `CNI_CONTAINERID`.
    ContainerId, "container id",
    "use letters, digits, '_', '.' and '-', beginning with a letter or digit",
    is_cni_name
}

name_type! {
    /// A CNI network's name: also a file name, so the same alphabet. CNI 1.1.0, section 1, `name`.
    NetworkName, "network name",
    "use letters, digits, '_', '.' and '-', beginning with a letter or digit",
    is_cni_name
}

name_type! {
    /// A CNI plugin's `type`: the file name of its program, never a path. CNI 1.1.0, section 1, `type`.
    PluginType, "plugin type",
    "use the program's file name: no '/', no '\\', no control characters, not '.' or '..', at most 255 bytes",
    |name| {
        (1..=255).contains(&name.len())
            && name != "."
            && name != ".."
            && !name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control())
    }
}

/// The alphabet of container ids and network names (CNI 1.1.0, sections 1 and 2).
fn is_cni_name(name: &str) -> bool {
    name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

name_type! {
    /// A node's name: a DNS-1123 subdomain, at most 253 bytes, as Kubernetes has it.
    NodeName, "node name",
    "use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253",
    is_subdomain
}

name_type! {
    /// A pod's name: a DNS-1123 subdomain, at most 253 bytes, as Kubernetes has it.
    PodName, "pod name",
    "use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253",
    is_subdomain
}

name_type! {
    /// A namespace's name: a DNS-1123 label, at most 63 bytes, as Kubernetes has it.
    NamespaceName, "namespace",
    "use lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63",
    |name| is_subdomain(name) && name.len() <= 63 && !name.contains('.')
}

/// RFC 1123, section 2.1, in lower case.
fn is_subdomain(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= 253
        && edge(name.as_bytes().first())
        && edge(name.as_bytes().last())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

name_type! {
    /// A network interface's name as the kernel takes it: `IFNAMSIZ` less one, so 1 to 15 bytes
    /// (`include/uapi/linux/if.h`), and neither `.`, `..`, nor with `/`, `:` or white space, which byte 0xa0 is too
    /// (`dev_valid_name` in `net/core/dev.c`). `%` begins a template that the kernel fills in (`__dev_alloc_name`), and
    /// `all` and `default` are directories of settings (`sysctl_dev_name_is_allowed` in `net/ipv4/devinet.c`): no
    /// interface can have such a name.
    InterfaceName, "interface name",
    "use 1 to 15 bytes without '/', ':', '%' or white space, other than '.', '..', 'all' and 'default'",
    |name| {
        (1..=15).contains(&name.len())
            && !matches!(name, "." | ".." | "all" | "default")
            && !name.bytes().any(|byte| {
                matches!(byte, b'/' | b':' | b'%' | 0 | 0x0b | 0xa0) || byte.is_ascii_whitespace()
            })
    }
}

name_type! {
    /// One attachment of one container, `<container id>/<interface name>`: CNI's key of an ADD.
    ///
    /// The container id begins with an alphanumeric character, then `[a-zA-Z0-9_.-]*` (CNI 1.1.0, section 2, `CNI_CONTAINERID`).
    EndpointId, "endpoint id",
    "use <container id>/<interface name>, the id of letters, digits, '_', '.' and '-', beginning with a letter or digit",
    |name| {
        name.split_once('/').is_some_and(|(container, interface)| {
            is_cni_name(container) && InterfaceName::new(interface).is_ok()
        })
    }
}

impl EndpointId {
    /// The id of one interface of one container.
    ///
    /// # Errors
    /// [`InvalidName`] when either part is outside its alphabet.
    pub fn of(container: &str, interface: &str) -> Result<Self, InvalidName> {
        Self::new(&format!("{container}/{interface}"))
    }

    /// The container's part.
    #[must_use]
    pub fn container(&self) -> &str {
        self.0.split_once('/').map_or("", |(container, _)| container)
    }

    /// The interface's part, the name inside the pod.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, interface)| interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for good in ["eth0", "a", "cni0123456789ab"] {
            assert!(InterfaceName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "sixteen-bytes-xx",
            "a\tb",
            "eth%d",
            "100%",
            "all",
            "default",
            "voil\u{e0}",
        ] {
            assert!(InterfaceName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_plugin_type_is_a_file_name_and_never_a_path() {
        for good in ["bridge", "host-local", "my plugin", ".hidden"] {
            assert!(PluginType::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../bridge", "a/b", "/bin/sh", "a\\b", "a\0b", "a\nb"] {
            assert!(PluginType::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn container_ids_and_network_names_begin_with_a_letter_or_digit() {
        for good in ["a", "0", "db-net_1.2"] {
            assert!(ContainerId::new(good).is_ok() && NetworkName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "a:b", "a\0", "é"] {
            assert!(ContainerId::new(bad).is_err() && NetworkName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_endpoint_id_cannot_climb_out_of_a_directory() {
        for bad in ["../eth0", "a/../b", "/eth0", "a/", "-a/eth0", "a b/eth0", "a"] {
            assert!(EndpointId::new(bad).is_err(), "{bad:?}");
        }
        let id = EndpointId::of("c0ffee", "eth0").unwrap();
        assert_eq!((id.container(), id.interface()), ("c0ffee", "eth0"));
    }
}
