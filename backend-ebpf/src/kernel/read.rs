//! Entries as they are in the kernel, read back. Never what should be there.

use super::error::KernelError;
use super::maps::{MEANINGS, SOURCES, TRAFFIC};
use super::object::Object;
use super::raw::Raw;
use crate::policy::{Meant, Trie, Write};
use aya::Pod;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError};
use backend_ebpf_abi::{Endpoint, EndpointKey, PeerClass, PeerKey, Verdict, VerdictKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::path::Path;

/// Maps that policy is written into, each pinned under its name.
pub const POLICY_MAPS: [&str; 9] =
    ["ENDPOINTS", "HOSTS", "IDENTITIES_V4", "IDENTITIES_V6", "PEERS", TRAFFIC, SOURCES, "VERDICTS", MEANINGS];

/// The maps of policy, open.
pub struct PolicyMaps(BTreeMap<&'static str, Map>);

impl PolicyMaps {
    /// Those that are pinned in a folder.
    ///
    /// # Errors
    /// One of them is not there, or is another kind of map.
    pub fn pinned(folder: &Path) -> Result<Self, KernelError> {
        let open = |name| {
            let map = MapData::from_pin(folder.join(name)).and_then(Map::from_map_data);
            Ok((name, map.map_err(|source| KernelError::Map { map: name, verb: "opened", source })?))
        };
        POLICY_MAPS.into_iter().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// What numbers stand for, and which identities and endpoints there are: what can be seen without knowing rules.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn meant(&self) -> Result<Vec<Write>, KernelError> {
        let mut all = Vec::new();
        meant(&|name| self.0.get(name).ok_or(KernelError::Missing { name }), &mut all)?;
        Ok(all)
    }
}

impl Object {
    /// All entries of its maps of policy, in no order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn entries(&self) -> Result<Vec<Write>, KernelError> {
        entries(|name| self.bpf.map(name).ok_or(KernelError::Missing { name }))
    }
}

fn entries<'a>(get: impl Fn(&'static str) -> Result<&'a Map, KernelError>) -> Result<Vec<Write>, KernelError> {
    let mut all = Vec::new();
    meant(&get, &mut all)?;
    hashed(&get, "PEERS", |key: Raw<PeerKey>, value: Raw<PeerClass>| {
        all.push(Write::Peer(key.0, Some(value.0)));
    })?;
    hashed(&get, "VERDICTS", |key: Raw<VerdictKey>, value: Raw<Verdict>| {
        all.push(Write::Verdict(key.0, Some(value.0)));
    })?;
    // A class that is none of ours is read as one that no program has.
    let class = |value: u32| Some(u16::try_from(value).unwrap_or(u16::MAX));
    prefixes(&get, TRAFFIC, |bits, key, value| all.push(Write::Class(Trie::Traffic(bits, key), class(value))))?;
    prefixes(&get, SOURCES, |bits, key, value| all.push(Write::Class(Trie::Source(bits, key), class(value))))?;
    Ok(all)
}

fn meant<'a>(
    get: &impl Fn(&'static str) -> Result<&'a Map, KernelError>,
    all: &mut Vec<Write>,
) -> Result<(), KernelError> {
    hashed(get, MEANINGS, |key: u64, value: [u8; 16]| {
        all.extend(Meant::of(key).map(|meant| Write::Meaning(meant, Some(value))));
    })?;
    // More bits than an address has are in no map that was made with these keys.
    let mut push = |net: Option<IpNet>, value| all.extend(net.map(|net| Write::Identity(net, Some(value))));
    prefixes(get, "IDENTITIES_V4", |bits, key: [u8; 4], value| {
        push(u8::try_from(bits).ok().and_then(|bits| Ipv4Net::new(key.into(), bits).ok()).map(IpNet::V4), value);
    })?;
    prefixes(get, "IDENTITIES_V6", |bits, key: [u8; 16], value| {
        push(u8::try_from(bits).ok().and_then(|bits| Ipv6Net::new(key.into(), bits).ok()).map(IpNet::V6), value);
    })?;
    hashed(get, "ENDPOINTS", |key: Raw<EndpointKey>, value: Raw<Endpoint>| {
        all.push(Write::Endpoint(key.0, Some(value.0)));
    })?;
    hashed(get, "HOSTS", |key: Raw<EndpointKey>, value: Raw<Endpoint>| {
        all.push(Write::Host(key.0, Some(value.0)));
    })
}

fn hashed<'a, K: Pod, V: Pod>(
    get: &impl Fn(&'static str) -> Result<&'a Map, KernelError>,
    name: &'static str,
    mut each: impl FnMut(K, V),
) -> Result<(), KernelError> {
    let failed = |source: MapError| KernelError::Map { map: name, verb: "read", source };
    let map = HashMap::<_, K, V>::try_from(get(name)?).map_err(failed)?;
    for entry in map.iter() {
        let (key, value) = entry.map_err(failed)?;
        each(key, value);
    }
    Ok(())
}

fn prefixes<'a, K: Pod>(
    get: &impl Fn(&'static str) -> Result<&'a Map, KernelError>,
    name: &'static str,
    mut each: impl FnMut(u32, K, u32),
) -> Result<(), KernelError> {
    let failed = |source: MapError| KernelError::Map { map: name, verb: "read", source };
    let map = LpmTrie::<_, K, u32>::try_from(get(name)?).map_err(failed)?;
    for entry in map.iter() {
        let (key, value) = entry.map_err(failed)?;
        each(key.prefix_len(), key.data(), value);
    }
    Ok(())
}
