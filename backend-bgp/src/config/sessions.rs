//! Sessions, peers and ranges of the section, one at a time: from what was written to what is checked. Never what two of
//! them are to each other.

use super::raw::{RawPeer, RawRange, RawSession};
use super::values::{Result, at, families, missing, name, port, selector, wrong};
use super::{NodeSelector, PeerRule, RangeRule, Template, Who};
use bgp_speaker::config::{
    AddPath, Bfd, Hold, LongLived, MaxPrefixes, PeerAddress, PeerConfig, PrivateAsns, RemoteAsn, TtlSecurity,
};
use bgp_speaker::policy::{Policy, RawPolicy};
use bgp_speaker::types::{Asn, Family};
use cni_core::strict::StrictError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// What all sessions have in common.
pub(super) struct Common<'a> {
    pub(super) port: u16,
    pub(super) families: &'a [Family],
    pub(super) policies: &'a BTreeMap<String, Policies>,
}

/// A policy for both ways. Some actions make sense on the way out only; then the other is why.
pub(super) struct Policies {
    import: std::result::Result<Arc<Policy>, String>,
    export: Arc<Policy>,
}

impl Common<'_> {
    pub(super) fn peer(&self, path: &str, raw: RawPeer) -> Result<PeerRule> {
        let name = name(path, &raw.name)?;
        let nodes = selector(path, "nodeSelector", raw.node_selector.as_ref())?;
        let session = raw.session.unwrap_or_default();
        let who = match (raw.address, &raw.interface, &raw.peer_selector) {
            (None, None, Some(peers)) => {
                if raw.asn.is_some() {
                    let problem = "is not for nodes, which say their own; remove it, or set it under `nodes`";
                    return Err(StrictError { path: format!("{path}.asn"), problem: problem.to_owned() });
                }
                Who::Nodes(NodeSelector::read(&format!("{path}.peerSelector"), peers)?)
            }
            (Some(address), _, None) => {
                Who::One { address: PeerAddress::Ip(address), asn: remote_asn(path, raw.asn.as_ref())? }
            }
            (None, Some(device), None) => Who::One {
                address: PeerAddress::Interface(device.as_str().into()),
                asn: remote_asn(path, raw.asn.as_ref())?,
            },
            (None, None, None) => {
                return Err(missing(path, "who is it? write one of address, interface, peerSelector"));
            }
            _ => {
                let problem = "has a peerSelector beside an address or interface; leave one";
                return Err(StrictError { path: path.to_owned(), problem: problem.to_owned() });
            }
        };
        let asn = match who {
            Who::One { asn, .. } => asn,
            // Whether nodes are of one system is known when they are.
            Who::Nodes(_) => RemoteAsn::Internal,
        };
        let mut template = self.template(&format!("{path}.session"), &session, asn)?;
        template.config.reflector_client = raw.reflector_client.unwrap_or(false);
        if let (Some(_), Some(device)) = (raw.address, raw.interface) {
            template.config.interface = Some(device.into());
        }
        Ok(PeerRule { name, nodes, who, template })
    }

    pub(super) fn range(&self, path: &str, raw: RawRange) -> Result<RangeRule> {
        let asn = remote_asn(path, Some(&raw.asn))?;
        let mut template = self.template(&format!("{path}.session"), &raw.session.unwrap_or_default(), asn)?;
        template.config.reflector_client = raw.reflector_client.unwrap_or(false);
        Ok(RangeRule {
            name: name(path, &raw.name)?,
            nodes: selector(path, "nodeSelector", raw.node_selector.as_ref())?,
            range: raw.range,
            limit: raw.limit.unwrap_or(100),
            template,
        })
    }

    pub(super) fn template(&self, path: &str, raw: &RawSession, asn: RemoteAsn) -> Result<Template> {
        let key = |key: &str| format!("{path}.{key}");
        let mut config = PeerConfig::new(PeerAddress::Ip(Ipv4Addr::UNSPECIFIED.into()), asn);
        config.port = port(&key("port"), raw.port.unwrap_or(self.port))?.get();
        config.local = raw.local_address;
        config.passive = raw.passive.unwrap_or(false);
        config.shutdown.clone_from(&raw.shutdown);
        config.ttl = match (raw.multihop, raw.gtsm) {
            (None, None) => TtlSecurity::Usual,
            (Some(hops), None) => TtlSecurity::Multihop(hops),
            (None, Some(hops)) => TtlSecurity::AtMost(hops),
            (Some(_), Some(_)) => {
                let problem = "stands beside `multihop`; leave one (gtsm says how many hops, too)";
                return Err(StrictError { path: key("gtsm"), problem: problem.to_owned() });
            }
        };
        config.hold = hold(raw);
        config.families =
            families(&key("families"), raw.families.as_deref().unwrap_or(self.families))?.into_iter().collect();
        config.extended_next_hop = raw.extended_next_hop.unwrap_or(false);
        config.bfd = raw.bfd.as_ref().map(|bfd| Bfd {
            interval: Duration::from_millis(bfd.interval_milliseconds.unwrap_or(300)),
            multiplier: bfd.multiplier.unwrap_or(3),
        });
        config.next_hop_self = raw.next_hop_self.unwrap_or(false);
        config.default_originate = raw.default_originate.iter().flatten().copied().collect();
        config.allow_own_asn = raw.allow_own_asn.unwrap_or(0);
        if raw.remove_private_asns.unwrap_or(false) {
            config.private_asns = PrivateAsns::Remove;
        }
        config.role = raw.role;
        config.strict_role = raw.strict_role.unwrap_or(false);
        if let Some(add_path) = &raw.add_path {
            let add_path = AddPath { mode: add_path.mode, send_max: add_path.send_max.unwrap_or(4) };
            config.add_path = config.families.iter().map(|family| (*family, add_path.clone())).collect();
        }
        if let Some(policies) = self.policy(&key("import"), raw.import.as_ref())? {
            let import = policies.import.clone();
            config.import = Some(import.map_err(|problem| StrictError { path: key("import"), problem })?);
        }
        config.export = self.policy(&key("export"), raw.export.as_ref())?.map(|policies| policies.export.clone());
        if let Some(limit) = &raw.max_prefixes {
            let limit = MaxPrefixes {
                limit: limit.limit,
                warn_percent: limit.warn_percent.unwrap_or(80),
                restart_after: limit.restart_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            };
            config.max_prefixes = config.families.iter().map(|family| (*family, limit.clone())).collect();
        }
        config.long_lived = raw.long_lived_stale_seconds.map(|seconds| LongLived { stale_time_seconds: seconds });
        if let Some(file) = raw.password_file.as_ref().filter(|file| !file.is_absolute()) {
            return Err(wrong(&key("passwordFile"), file.display(), "an absolute path"));
        }
        let says_ttl = config.ttl != TtlSecurity::Usual;
        Ok(Template { config, password_file: raw.password_file.clone(), says_ttl })
    }

    fn policy(&self, path: &str, name: Option<&String>) -> Result<Option<&Policies>> {
        let Some(name) = name else { return Ok(None) };
        self.policies.get(name).map(Some).ok_or_else(|| {
            let known: Vec<&str> = self.policies.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
            wrong(path, format_args!("{name:?}"), &format!("the name of one of `policies`: {known}"))
        })
    }
}

fn remote_asn(path: &str, value: Option<&Value>) -> Result<RemoteAsn> {
    const RIGHT: &str = "an AS number from 1 to 4294967295, internal, or external";
    let path = format!("{path}.asn");
    match value {
        None => Err(missing(&path, "of which system is the peer? write a number, internal, or external")),
        Some(Value::String(text)) if text == "internal" => Ok(RemoteAsn::Internal),
        Some(Value::String(text)) if text == "external" => Ok(RemoteAsn::External),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).and_then(Asn::new);
            number.map(RemoteAsn::Exactly).ok_or_else(|| wrong(&path, value, RIGHT))
        }
    }
}

pub(super) fn policies(raw: BTreeMap<String, RawPolicy>) -> Result<BTreeMap<String, Policies>> {
    let checked = |(name, raw): (String, RawPolicy)| {
        let export = Policy::export(&raw)
            .map_err(|error| StrictError { path: at(&format!("policies.{name}")), problem: error.to_string() })?;
        let import = Policy::import(&raw).map(Arc::new).map_err(|error| error.to_string());
        Ok((name, Policies { import, export: Arc::new(export) }))
    };
    raw.into_iter().map(checked).collect()
}

fn hold(raw: &RawSession) -> Hold {
    let usual = Hold::default();
    Hold {
        hold_seconds: raw.hold_seconds.unwrap_or(usual.hold_seconds),
        least_seconds: raw.least_hold_seconds.unwrap_or(usual.least_seconds),
        connect_retry: raw.connect_retry_seconds.map_or(usual.connect_retry, |s| Duration::from_secs(s.into())),
        send_hold: match raw.send_hold_seconds {
            None => usual.send_hold,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        },
    }
}
