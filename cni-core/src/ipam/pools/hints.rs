//! What a pod or its namespace asks of the allocator by annotations. Never whether it gets that.

use crate::ipam::IpamError;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Wishes of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The addresses it must get.
    pub addresses: Vec<IpAddr>,
    /// The pools to take from, best first.
    pub pools: Vec<String>,
}

impl Hints {
    /// Annotation: addresses, `10.1.0.7,fd00::7` or a JSON list of texts.
    pub const ADDRESSES: &'static str = "cnidarian.io/addresses";
    /// Annotation: names of pools, in the same form.
    pub const POOLS: &'static str = "cnidarian.io/pools";
    /// Calico's annotation for addresses: a JSON list.
    pub const CALICO_ADDRESSES: &'static str = "cni.projectcalico.org/ipAddrs";
    /// Calico's annotations for pools: JSON lists.
    pub const CALICO_POOLS: [&'static str; 2] = ["cni.projectcalico.org/ipv4pools", "cni.projectcalico.org/ipv6pools"];

    /// Reads the annotations of a pod and its namespace. The pod's pools win over the namespace's; only a pod names
    /// addresses. Ours win over Calico's.
    ///
    /// # Errors
    /// [`IpamError::Invalid`], which names the annotation.
    pub fn from_annotations(
        pod: &BTreeMap<String, String>,
        namespace: &BTreeMap<String, String>,
    ) -> Result<Self, IpamError> {
        let addresses = match list(pod, Self::ADDRESSES)? {
            Some(found) => addresses(found, Self::ADDRESSES)?,
            None => addresses(list(pod, Self::CALICO_ADDRESSES)?.unwrap_or_default(), Self::CALICO_ADDRESSES)?,
        };
        let mut found = Vec::new();
        for annotations in [pod, namespace] {
            found = match list(annotations, Self::POOLS)? {
                Some(pools) => pools,
                None => {
                    let [v4, v6] = Self::CALICO_POOLS;
                    let v6 = list(annotations, v6)?.unwrap_or_default();
                    list(annotations, v4)?.unwrap_or_default().into_iter().chain(v6).collect()
                }
            };
            if !found.is_empty() {
                break;
            }
        }
        Ok(Self { addresses, pools: found })
    }
}

fn addresses(texts: Vec<String>, annotation: &'static str) -> Result<Vec<IpAddr>, IpamError> {
    let mut addresses: Vec<IpAddr> = Vec::with_capacity(texts.len());
    for text in texts {
        let address: IpAddr = text.parse().map_err(|_| {
            IpamError::invalid("pod", annotation, format!("{text:?} is no address; write it as in 10.1.0.7,fd00::7"))
        })?;
        if addresses.contains(&address) {
            return Err(IpamError::invalid("pod", annotation, format!("{address} is named twice")));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

fn list(annotations: &BTreeMap<String, String>, annotation: &'static str) -> Result<Option<Vec<String>>, IpamError> {
    let Some(text) = annotations.get(annotation).map(|text| text.trim()) else { return Ok(None) };
    if text.starts_with('[') {
        return serde_json::from_str(text).map(Some).map_err(|error| {
            let problem = format!("{text} is no JSON list of texts ({error}); write it as in [\"10.1.0.7\"]");
            IpamError::invalid("pod or namespace", annotation, problem)
        });
    }
    Ok(Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(pod: &[(&str, &str)], namespace: &[(&str, &str)]) -> Result<Hints, String> {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Hints::from_annotations(&map(pod), &map(namespace)).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_and_calicos_names_are_read() {
        let ours = hints(&[(Hints::ADDRESSES, "10.1.0.7, fd00::7"), (Hints::POOLS, r#"["red"]"#)], &[]).unwrap();
        assert_eq!((ours.addresses.len(), ours.pools), (2, vec!["red".to_owned()]));
        let calico = hints(
            &[(Hints::CALICO_ADDRESSES, r#"["10.1.0.8"]"#)],
            &[(Hints::CALICO_POOLS[0], r#"["a"]"#), (Hints::CALICO_POOLS[1], r#"["b"]"#)],
        );
        let calico = calico.unwrap();
        assert_eq!((calico.addresses.len(), calico.pools), (1, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn the_pods_pools_win_over_the_namespaces() {
        let hints = hints(&[(Hints::POOLS, "pod")], &[(Hints::POOLS, "namespace")]).unwrap();
        assert_eq!(hints.pools, ["pod"]);
    }

    #[test]
    fn garbage_is_refused_with_the_annotations_name() {
        for (name, text) in [(Hints::ADDRESSES, "x"), (Hints::ADDRESSES, "10.1.0.7,10.1.0.7"), (Hints::POOLS, "[1]")] {
            let error = hints(&[(name, text)], &[]).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
