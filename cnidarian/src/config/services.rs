//! The section `services`. Never a service itself: those are in the store.

use super::read::{ConfigError, network, wrong};
use cni_core::model::FrontendKind;
use cni_core::strict::nearest;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Services of the cluster, as far as this node looks at them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicesConfig {
    /// Kinds of addresses that routers outside are told of, of services that say nothing else. Never node ports.
    pub announce: BTreeSet<FrontendKind>,
    /// Where `externalIPs` of services may be.
    pub external_ips: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawServices {
    #[serde(default)]
    announce: Vec<String>,
    #[serde(default, rename = "externalIPs")]
    external_ips: Vec<String>,
}

pub(super) fn read(raw: RawServices) -> Result<ServicesConfig, ConfigError> {
    let words: Vec<(&str, FrontendKind)> =
        FrontendKind::NAMES.into_iter().filter(|(_, kind)| *kind != FrontendKind::NodePort).collect();
    let kind = |(index, text): (usize, &String)| {
        let found = words.iter().find(|(word, _)| word == text).map(|(_, kind)| *kind);
        found.ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = nearest(text, &known).map(|right| format!("; did you mean {right}?")).unwrap_or_default();
            let problem = format!("{text:?} is none of {}{hint}", known.join(", "));
            wrong(format_args!("services.announce[{index}]"), problem)
        })
    };
    let range = |(index, text): (usize, &String)| network(&format!("services.externalIPs[{index}]"), text);
    Ok(ServicesConfig {
        announce: raw.announce.iter().enumerate().map(kind).collect::<Result<_, _>>()?,
        external_ips: raw.external_ips.iter().enumerate().map(range).collect::<Result<_, _>>()?,
    })
}
