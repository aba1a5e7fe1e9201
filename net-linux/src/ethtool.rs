//! Offload features of network devices, through generic netlink (`ethtool`, kernel 5.6). Never decides which to switch.

use crate::netlink::{Attr, Attrs, Error, Family, Message, Protocol, Result, Socket};
use std::collections::BTreeSet;

/// Checksums of outgoing packets computed by the device, whatever the protocol.
pub const TX_CHECKSUM_IP_GENERIC: &str = "tx-checksum-ip-generic";
/// Segmentation of UDP tunnels by the device.
pub const TX_UDP_TNL_SEGMENTATION: &str = "tx-udp_tnl-segmentation";
/// The same, with the outer checksum computed by the device.
pub const TX_UDP_TNL_CSUM_SEGMENTATION: &str = "tx-udp_tnl-csum-segmentation";

/// `include/uapi/linux/ethtool_netlink.h`.
const FAMILY: &str = "ethtool";
const VERSION: u8 = 1;
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_HW: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const FEATURES_NOCHANGE: u16 = 5;
const HEADER_DEV_NAME: u16 = 2;
const BITSET_NOMASK: u16 = 1;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// The features of a device, by the names that `ethtool -k` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Switched on.
    pub active: BTreeSet<String>,
    /// Asked for; what is here and not active can't be had now (another feature it needs is off).
    pub wanted: BTreeSet<String>,
    /// What the device can switch.
    pub changeable: BTreeSet<String>,
}

impl Features {
    /// Whether a feature is on.
    #[must_use]
    pub fn is_on(&self, feature: &str) -> bool {
        self.active.contains(feature)
    }

    /// Whether a feature can be switched.
    #[must_use]
    pub fn can_change(&self, feature: &str) -> bool {
        self.changeable.contains(feature)
    }
}

/// A connection to the kernel's ethtool, in the network namespace of the thread that opened it.
///
/// ```no_run
/// use net_linux::ethtool::{Ethtool, TX_CHECKSUM_IP_GENERIC};
/// let mut ethtool = Ethtool::open()?;
/// if ethtool.features("eth0")?.is_on(TX_CHECKSUM_IP_GENERIC) {
///     ethtool.set("eth0", &[(TX_CHECKSUM_IP_GENERIC, false)])?;
/// }
/// # Ok::<(), net_linux::netlink::Error>(())
/// ```
#[derive(Debug)]
pub struct Ethtool {
    socket: Socket,
    family: Family,
}

impl Ethtool {
    /// Opens a connection.
    ///
    /// # Errors
    /// [`Error::Kernel`] with `ENOENT`: this kernel has no ethtool over netlink. [`Error::Socket`].
    pub fn open() -> Result<Self> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let family = Family::find(&mut socket, FAMILY, VERSION)?;
        Ok(Self { socket, family })
    }

    /// The features of a device.
    ///
    /// # Errors
    /// [`Error::Kernel`]: `ENODEV` when there is no such device.
    pub fn features(&mut self, device: &str) -> Result<Features> {
        let (object, family) = (format!("features of {device}"), self.family);
        let found = self.socket.query(
            "read",
            &object,
            family.id,
            0,
            |message| {
                family.command(message, FEATURES_GET);
                header(message, device);
            },
            |_, payload| Some(features(Family::attributes(payload))),
        )?;
        found.into_iter().next().ok_or(Error::Missing { operation: "read", object, missing: "the answer".to_owned() })
    }

    /// Switches features of a device on or off.
    ///
    /// # Errors
    /// [`Error::Kernel`]: no such device or feature. [`Error::Invalid`]: the device can't switch one of them, or did not;
    /// others may be switched then.
    pub fn set(&mut self, device: &str, switches: &[(&str, bool)]) -> Result<()> {
        let object = format!("features of {device}");
        let family = self.family;
        let write = |message: &mut Message<'_>| {
            family.command(message, FEATURES_SET);
            header(message, device);
            message.nest(FEATURES_WANTED, |wanted| {
                wanted.nest(BITSET_BITS, |bits| {
                    for (name, on) in switches {
                        bits.nest(BITS_BIT, |bit| {
                            bit.text(BIT_NAME, name);
                            if *on {
                                bit.attr(BIT_VALUE, &[]);
                            }
                        });
                    }
                });
            });
        };
        self.socket.query("set", &object, family.id, 0, write, |_, _| None::<()>)?;
        let present = self.features(device)?;
        match switches.iter().find(|(name, on)| present.is_on(name) != *on) {
            None => Ok(()),
            Some((name, on)) => Err(Error::Invalid {
                operation: "set",
                object,
                field: "feature",
                detail: format!(
                    "{name} did not become {}: {}",
                    if *on { "on" } else { "off" },
                    if present.can_change(name) { "another feature forbids it" } else { "the device has it fixed" }
                ),
            }),
        }
    }
}

fn header(message: &mut Message<'_>, device: &str) {
    message.nest(FEATURES_HEADER, |header| {
        header.text(HEADER_DEV_NAME, device);
    });
}

fn features(attributes: Attrs<'_>) -> Features {
    let set = |kind| attributes.get(kind).map(|attribute| bits(&attribute)).unwrap_or_default();
    let fixed = set(FEATURES_NOCHANGE);
    Features {
        active: set(FEATURES_ACTIVE),
        wanted: set(FEATURES_WANTED),
        changeable: set(FEATURES_HW).difference(&fixed).cloned().collect(),
    }
}

/// The names of the bits that are set. With a mask all known bits are listed and those that are set marked; without one only
/// those that are set are listed.
fn bits(bitset: &Attr<'_>) -> BTreeSet<String> {
    let listed_are_set = bitset.nested().get(BITSET_NOMASK).is_some();
    let bits = bitset.nested().get(BITSET_BITS).map(|bits| bits.nested());
    bits.into_iter()
        .flatten()
        .filter(|bit| bit.kind == BITS_BIT && (listed_are_set || bit.nested().get(BIT_VALUE).is_some()))
        .filter_map(|bit| Some(bit.nested().get(BIT_NAME)?.text()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;
    use nix::errno::Errno;
    use proptest::prelude::*;
    use std::process::Command;

    /// What the `ethtool` program shows of a device in the calling thread's namespace.
    fn shown(device: &str, feature: &str) -> String {
        let output = Command::new("ethtool").args(["-k", device]).output().expect("the Debian package ethtool");
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix(feature)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("{feature} is not in\n{text}")).to_owned()
    }

    #[test]
    fn a_feature_that_is_switched_is_switched_for_ethtool_too() {
        NetNs::new()
            .unwrap()
            .run(|| {
                let made = Command::new("ip").args(["link", "add", "v0", "type", "veth"]).status().expect("iproute2");
                assert!(made.success());
                let mut ethtool = Ethtool::open().unwrap();
                for on in [false, true] {
                    ethtool.set("v0", &[(TX_CHECKSUM_IP_GENERIC, on)]).unwrap();
                    assert_eq!(ethtool.features("v0").unwrap().is_on(TX_CHECKSUM_IP_GENERIC), on);
                    assert_eq!(shown("v0", TX_CHECKSUM_IP_GENERIC), if on { "on" } else { "off" });
                }
                let features = ethtool.features("v0").unwrap();
                assert!(features.can_change(TX_CHECKSUM_IP_GENERIC));
                assert!(!features.can_change("rx-fcs"));
                assert!(shown("v0", "rx-fcs").contains("fixed"));
            })
            .unwrap();
    }

    #[test]
    fn what_cannot_be_switched_is_an_error_with_its_name() {
        NetNs::new()
            .unwrap()
            .run(|| {
                let mut ethtool = Ethtool::open().unwrap();
                let error = ethtool.set("lo", &[("rx-fcs", true)]).unwrap_err();
                assert!(error.to_string().contains("rx-fcs"), "{error}");
                assert!(ethtool.set("lo", &[("no-such-feature", true)]).is_err());
                assert_eq!(ethtool.features("nowhere0").unwrap_err().errno(), Some(Errno::ENODEV));
            })
            .unwrap();
    }

    proptest! {
        #[test]
        fn reading_an_answer_never_panics(payload: Vec<u8>) {
            let _ = features(Attrs::new(&payload));
        }
    }
}
