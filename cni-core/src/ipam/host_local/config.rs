//! The configuration of `host-local`: the whole network configuration on stdin and `CNI_ARGS`. Never the disk.

use super::HostLocalError;
use super::range::{RangeSet, RawRange};
use crate::cni::Route;
use crate::ipam::Family;
use crate::ipam::address::canonical;
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the reference keeps its files when the configuration names no place.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

// Unknown keys are ignored here, as in the reference: the configuration is the calling plugin's, with keys of its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNet {
    #[serde(default)]
    name: String,
    #[serde(default)]
    cni_version: String,
    ipam: Option<RawIpam>,
    #[serde(default)]
    runtime_config: Option<RawRuntime>,
    #[serde(default)]
    args: Option<RawArgs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawIpam {
    #[serde(flatten)]
    range: RangeText,
    #[serde(default)]
    ranges: Option<Vec<Option<Vec<RangeText>>>>,
    #[serde(default)]
    routes: Option<Vec<Value>>,
    #[serde(default)]
    data_dir: Option<String>,
    #[serde(default)]
    resolv_conf: Option<String>,
    #[serde(default)]
    cool_down_seconds: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RangeText {
    #[serde(default)]
    subnet: Option<String>,
    #[serde(default)]
    range_start: Option<String>,
    #[serde(default)]
    range_end: Option<String>,
    #[serde(default)]
    gateway: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawRuntime {
    #[serde(default)]
    ip_ranges: Option<Vec<Option<Vec<RangeText>>>>,
    #[serde(default)]
    ips: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawArgs {
    #[serde(default)]
    cni: Option<RawCniArgs>,
}

#[derive(Deserialize)]
struct RawCniArgs {
    #[serde(default)]
    ips: Option<Vec<String>>,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct HostLocalConfig {
    /// The network's name, the directory under `data_dir`.
    pub network: String,
    /// Where the files are, a directory per network.
    pub data_dir: PathBuf,
    /// Each gives one address. At least one.
    pub range_sets: Vec<RangeSet>,
    /// `ipam.routes`, for the result.
    pub routes: Vec<Route>,
    /// The `resolv.conf` to read for the result's `dns`.
    pub resolv_conf: Option<PathBuf>,
    /// Wanted addresses, without repetition: `CNI_ARGS` `IP=`, `args.cni.ips`, `runtimeConfig.ips`.
    pub requested: Vec<IpAddr>,
    /// `ipam.coolDownSeconds`: how long a released address waits. Ours; the reference knows none, so none is the default.
    pub cool_down: Duration,
}

impl HostLocalConfig {
    /// Reads the network configuration and `CNI_ARGS` (empty for none).
    ///
    /// # Errors
    /// [`HostLocalError`], in the reference's words.
    pub fn parse(stdin: &[u8], cni_args: &str) -> Result<Self, HostLocalError> {
        let net: RawNet = serde_json::from_slice(stdin).map_err(|error| HostLocalError::Json(error.into()))?;
        let ipam = net.ipam.ok_or(HostLocalError::NoIpam)?;
        let runtime = net.runtime_config.unwrap_or_default();

        // Texts first, all of them, because the reference parses while it reads JSON and judges afterwards.
        let single = ipam.range.parse()?;
        let mut sets = parse_sets(ipam.ranges.unwrap_or_default())?;
        let runtime_sets = parse_sets(runtime.ip_ranges.unwrap_or_default())?;
        let routes = parse_routes(ipam.routes.unwrap_or_default())?;
        let runtime_ips = runtime.ips.unwrap_or_default();
        let args_ips = net.args.and_then(|args| args.cni).and_then(|cni| cni.ips).unwrap_or_default();
        let mut requested: Vec<IpAddr> = Vec::new();
        for address in parse_cni_args(cni_args)?
            .into_iter()
            .map(Ok)
            .chain(args_ips.iter().chain(&runtime_ips).map(|text| address_or_prefix(text)))
        {
            let address = address?;
            if !requested.contains(&address) {
                requested.push(address);
            }
        }
        // A single range, the old style, comes before `ranges`, and the runtime's ranges come before both.
        if single.subnet.is_some() {
            sets.insert(0, vec![single]);
        }
        let sets: Vec<_> = runtime_sets.into_iter().chain(sets).collect();
        if sets.is_empty() {
            return Err(HostLocalError::NoRanges);
        }
        let range_sets = sets
            .iter()
            .enumerate()
            .map(|(index, raw)| {
                RangeSet::new(raw).map_err(|source| HostLocalError::InvalidSet { index, source: Box::new(source) })
            })
            .collect::<Result<Vec<_>, _>>()?;
        check_sets(&range_sets, &net.cni_version)?;
        Ok(Self {
            network: check_network_name(net.name)?,
            data_dir: ipam.data_dir.filter(|dir| !dir.is_empty()).map_or_else(|| DEFAULT_DATA_DIR.into(), Into::into),
            range_sets,
            routes,
            resolv_conf: ipam.resolv_conf.filter(|path| !path.is_empty()).map(Into::into),
            requested,
            cool_down: Duration::from_secs(ipam.cool_down_seconds.unwrap_or(0).into()),
        })
    }
}

/// The network's name is a directory's name, so it must not lead elsewhere (CNI 1.1.0, section 1, `name`).
fn check_network_name(name: String) -> Result<String, HostLocalError> {
    let good = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if good { Ok(name) } else { Err(HostLocalError::NetworkName { name }) }
}

fn check_sets(sets: &[RangeSet], version: &str) -> Result<(), HostLocalError> {
    let several = |family| sets.iter().filter(|set| set.family() == family).count() > 1;
    // 0.2.0 and before have one place per family in a result. No version at all means 0.1.0.
    if (several(Family::V4) || several(Family::V6)) && matches!(version, "" | "0.1.0" | "0.2.0") {
        return Err(HostLocalError::OnePerFamily { version: version.to_owned() });
    }
    for (one, set) in sets.iter().enumerate() {
        if let Some(distance) = sets[one + 1..].iter().position(|other| set.overlaps(other)) {
            return Err(HostLocalError::SetsOverlap { one, other: one + 1 + distance });
        }
    }
    Ok(())
}

fn parse_sets(sets: Vec<Option<Vec<RangeText>>>) -> Result<Vec<Vec<RawRange>>, HostLocalError> {
    sets.into_iter().map(|set| set.unwrap_or_default().iter().map(RangeText::parse).collect()).collect()
}

fn parse_routes(routes: Vec<Value>) -> Result<Vec<Route>, HostLocalError> {
    let route = |(index, value)| {
        serde_json::from_value(value)
            .map_err(|source| HostLocalError::Route { index, source: std::sync::Arc::new(source) })
    };
    routes.into_iter().enumerate().map(route).collect()
}

impl RangeText {
    fn parse(&self) -> Result<RawRange, HostLocalError> {
        let address = |text: &Option<String>| match text.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| HostLocalError::Address { text: text.to_owned() }),
        };
        Ok(RawRange {
            subnet: self.subnet.as_deref().map(cidr).transpose()?,
            start: address(&self.range_start)?,
            end: address(&self.range_end)?,
            gateway: address(&self.gateway)?,
        })
    }
}

/// Address and length, host bits kept.
fn cidr(text: &str) -> Result<(IpAddr, u8), HostLocalError> {
    let parsed = text.split_once('/').and_then(|(address, length)| {
        let address: IpAddr = address.parse().ok()?;
        let length: u8 = length.parse().ok()?;
        (length <= Family::of(address).bits()).then_some((address, length))
    });
    parsed.ok_or_else(|| HostLocalError::Cidr { text: text.to_owned() })
}

/// A wanted address; a prefix length behind it is allowed and ignored.
fn address_or_prefix(text: &str) -> Result<IpAddr, HostLocalError> {
    let address = match text.contains('/') {
        true => cidr(text).ok().map(|(address, _)| address),
        false => text.parse().ok(),
    };
    address.map(canonical).ok_or_else(|| HostLocalError::Address { text: text.to_owned() })
}

/// `IP=192.0.2.1;IgnoreUnknown=1;K8S_POD_NAME=web`
fn parse_cni_args(text: &str) -> Result<Option<IpAddr>, HostLocalError> {
    let (mut address, mut ignore, mut unknown) = (None, false, Vec::new());
    for pair in text.split(';').filter(|_| !text.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or_else(|| HostLocalError::ArgsPair { pair: pair.to_owned() })?;
        match key {
            "IP" => address = Some(address_or_prefix(value)?),
            "IgnoreUnknown" => {
                ignore = match value.to_ascii_lowercase().as_str() {
                    "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(HostLocalError::ArgsBool { pair: pair.to_owned() }),
                }
            }
            _ => unknown.push(pair.to_owned()),
        }
    }
    if unknown.is_empty() || ignore { Ok(address) } else { Err(HostLocalError::ArgsUnknown { pairs: unknown }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(ipam: Value, args: &str) -> Result<HostLocalConfig, String> {
        let net = json!({"cniVersion": "1.0.0", "name": "net", "ipam": ipam});
        HostLocalConfig::parse(net.to_string().as_bytes(), args).map_err(|error| error.to_string())
    }

    #[test]
    fn cni_args_give_an_address_and_unknown_keys_need_leave() {
        let ipam = json!({"subnet": "10.0.0.0/24"});
        let address = |args| parse(ipam.clone(), args).map(|config| config.requested);
        assert_eq!(address("IP=10.0.0.9"), Ok(vec!["10.0.0.9".parse().unwrap()]));
        assert_eq!(address("IgnoreUnknown=1;IP=10.0.0.9/24;K8S_POD_NAME=x").map(|ips| ips.len()), Ok(1));
        assert_eq!(address("K8S_POD_NAME=x"), Err("ARGS: unknown args [\"K8S_POD_NAME=x\"]".to_owned()));
        assert_eq!(address("IP"), Err("ARGS: invalid pair \"IP\"".to_owned()));
        assert_eq!(address("IP=x"), Err("invalid IP address: x".to_owned()));
    }

    #[test]
    fn a_network_name_cannot_climb_out_of_the_data_directory() {
        for bad in ["", "..", "../x", "a/b", ".hidden"] {
            let net = json!({"cniVersion": "1.0.0", "name": bad, "ipam": {"subnet": "10.0.0.0/24"}});
            let error = HostLocalConfig::parse(net.to_string().as_bytes(), "").unwrap_err();
            assert!(matches!(error, HostLocalError::NetworkName { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn bad_configuration_is_refused_in_the_words_of_the_reference() {
        for (ipam, words) in [
            (json!({}), "no IP ranges specified"),
            (json!({"ranges": [[]]}), "invalid range set 0: empty range set"),
            (
                json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/16"}]]}),
                "range set 0 overlaps with 1",
            ),
            (
                json!({"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.1"}),
                "invalid range set 0: RangeEnd 10.0.1.1 not in network 10.0.0.0/24",
            ),
            (
                json!({"subnet": "10.0.0.9/24"}),
                "invalid range set 0: Network has host bits set. For a subnet mask of length 24 the network address is 10.0.0.0",
            ),
        ] {
            assert_eq!(parse(ipam, "").map(|_| ()), Err(words.to_owned()));
        }
    }
}
