//! What the plugin reads of the request besides what the specification names. Never guesses: what it does not know it
//! refuses.

use cni_core::cni::{CniArgs, CniError, ErrorCode, NetConf};
use cni_core::model::{EndpointId, InvalidName, MacAddr, NamespaceName, PodName, PodRef};
use cni_core::rpc::{DEFAULT_SOCKET, DEFAULT_STATE_DIR};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The `ipam.type` that means the agent's own address management, like none at all.
pub(crate) const OWN_IPAM: &str = "cnidarian-ipam";

/// Keys of `CNI_ARGS` that are read or known to be harmless.
const ARGS: &[&str] = &["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "K8S_POD_INFRA_CONTAINER_ID", "IP", "MAC"];

/// The longest endpoint id in bytes: `IFALIASZ` of `include/uapi/linux/if.h` less the end and less our mark.
const MOST_ID_BYTES: usize = 240;
/// The longest path of a socket in bytes (`unix(7)`), less the end.
const MOST_SOCKET_BYTES: usize = 107;

/// Our own fields of the network configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawOwn {
    agent_socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    timeout_seconds: Option<u64>,
    mtu: Option<u32>,
}

/// Our own part of the configuration, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// Where the agent listens.
    pub(crate) socket: PathBuf,
    /// Where tombstones are written below.
    pub(crate) state_dir: PathBuf,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// The MTU that this network's pods shall have, in bytes.
    pub(crate) mtu_bytes: Option<u32>,
}

fn invalid(field: &str, problem: impl std::fmt::Display) -> CniError {
    CniError::new(ErrorCode::InvalidConfig, format!("network configuration: {field}: {problem}"))
        .details("correct the configuration of this network (usually in /etc/cni/net.d) and try again")
}

impl Own {
    /// Reads our own fields.
    pub(crate) fn of(conf: &NetConf) -> Result<Self, CniError> {
        let raw: RawOwn = conf.own()?;
        let absolute = |field: &str, path: PathBuf| match path.is_absolute()
            && !path.as_os_str().as_encoded_bytes().contains(&0)
        {
            true => Ok(path),
            false => Err(invalid(field, "must be an absolute path")),
        };
        if let Some(long) = raw.agent_socket.as_ref().filter(|path| path.as_os_str().len() > MOST_SOCKET_BYTES) {
            let problem = format!("has {} bytes, a socket's path at most {MOST_SOCKET_BYTES}", long.as_os_str().len());
            return Err(invalid("agentSocket", problem));
        }
        let timeout = raw.timeout_seconds.unwrap_or(30);
        if !(1..=600).contains(&timeout) {
            return Err(invalid("timeoutSeconds", format_args!("{timeout} is outside 1 to 600")));
        }
        if let Some(mtu) = raw.mtu.filter(|mtu| !(1280..=65_535).contains(mtu)) {
            return Err(invalid("mtu", format_args!("{mtu} is outside 1280 to 65535 bytes")));
        }
        if let Some(own) = conf.ipam.as_ref().filter(|ipam| is_own(ipam.plugin.as_ref().map(|plugin| plugin.as_str())))
            && let Some(key) = own.other.keys().next()
        {
            let problem = format_args!("is not known: pools and their settings are the agent's configuration");
            return Err(invalid(&format!("ipam.{key}"), problem));
        }
        Ok(Self {
            socket: absolute("agentSocket", raw.agent_socket.unwrap_or_else(|| DEFAULT_SOCKET.into()))?,
            state_dir: absolute("stateDir", raw.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()))?,
            timeout: Duration::from_secs(timeout),
            mtu_bytes: raw.mtu,
        })
    }
}

fn is_own(ipam: Option<&str>) -> bool {
    ipam.is_none_or(|ipam| ipam == OWN_IPAM)
}

/// Whether addresses come from another IPAM plugin, to be delegated to.
pub(crate) fn delegates_ipam(conf: &NetConf) -> bool {
    let plugin = conf.ipam.as_ref().and_then(|ipam| ipam.plugin.as_ref());
    !is_own(plugin.map(|plugin| plugin.as_str()))
}

/// The pod, where the runtime told its namespace and its name. Refuses arguments that are not known, unless `IgnoreUnknown` is set.
pub(crate) fn pod(args: &CniArgs) -> Result<Option<PodRef>, CniError> {
    args.only(ARGS)?;
    let text = |key: &str| args.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let (namespace, name) = (text("K8S_POD_NAMESPACE"), text("K8S_POD_NAME"));
    // podman gives its containers a name and no namespace: they are no pods of Kubernetes.
    let Some((namespace, name)) = namespace.zip(name) else { return Ok(None) };
    let wrong = |key: &str, error: InvalidName| {
        CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_ARGS: {key}: {:?} is no {}", error.name, error.kind))
            .details(error.rule)
    };
    NamespaceName::new(&namespace).map_err(|error| wrong("K8S_POD_NAMESPACE", error))?;
    PodName::new(&name).map_err(|error| wrong("K8S_POD_NAME", error))?;
    Ok(Some(PodRef { namespace, name, uid: text("K8S_POD_UID") }))
}

/// The addresses that are asked for, from the first place that names any: the `ips` capability, `args.cni.ips`, `IP=`
/// in `CNI_ARGS`. A prefix length may be there and means nothing: a pod's address stands alone.
pub(crate) fn requested(conf: &NetConf, args: &CniArgs) -> Result<Vec<IpAddr>, CniError> {
    let capability: Vec<String> = conf.capability("ips")?.unwrap_or_default();
    if !capability.is_empty() {
        return capability.iter().map(|text| address("runtimeConfig.ips", text)).collect();
    }
    let listed = conf.args.as_ref().and_then(|args| args.get("cni")).and_then(|cni| cni.get("ips"));
    match listed {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|item| {
                let text = item.as_str().ok_or_else(|| invalid("args.cni.ips", "must be a list of texts"))?;
                address("args.cni.ips", text)
            });
            let addresses: Vec<IpAddr> = texts.collect::<Result<_, _>>()?;
            if !addresses.is_empty() {
                return Ok(addresses);
            }
        }
        Some(_) => return Err(invalid("args.cni.ips", "must be a list of texts")),
    }
    let Some(list) = args.get("IP").filter(|list| !list.is_empty()) else { return Ok(Vec::new()) };
    list.split(',')
        .map(|text| {
            address("", text).map_err(|_| {
                CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_ARGS: IP: {text:?} is no address"))
                    .details("write IP=10.42.0.7, or several with ',' between them")
            })
        })
        .collect()
}

fn address(field: &str, text: &str) -> Result<IpAddr, CniError> {
    let alone = text.split_once('/').map_or(text, |(address, _)| address);
    let length_is_number =
        text.split_once('/').is_none_or(|(_, length)| length.parse::<u8>().is_ok_and(|bits| bits <= 128));
    alone
        .parse()
        .ok()
        .filter(|_| length_is_number)
        .ok_or_else(|| invalid(field, format_args!("{text:?} is no address, as in 10.42.0.7 or 10.42.0.7/24")))
}

/// The MAC address that is asked for: the `mac` capability, `args.cni.mac`, `MAC=` in `CNI_ARGS`.
pub(crate) fn mac(conf: &NetConf, args: &CniArgs) -> Result<Option<MacAddr>, CniError> {
    let capability: Option<String> = conf.capability("mac")?;
    let listed = match conf.args.as_ref().and_then(|args| args.get("cni")?.get("mac")) {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_str().ok_or_else(|| invalid("args.cni.mac", "must be a text"))?),
    };
    let places = [("runtimeConfig.mac", capability.as_deref()), ("args.cni.mac", listed), ("", args.get("MAC"))];
    let given = places.into_iter().find_map(|(field, text)| Some((field, text?))).filter(|(_, text)| !text.is_empty());
    let Some((field, text)) = given else { return Ok(None) };
    let refuse = |problem: String| match field {
        "" => CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_ARGS: MAC: {problem}"))
            .details("write MAC=02:ab:cd:ef:01:23, or leave it out"),
        field => invalid(field, problem),
    };
    let mac: MacAddr = text.parse().map_err(|error| refuse(format!("{error}")))?;
    if mac.is_unicast() { Ok(Some(mac)) } else { Err(refuse(format!("{mac} is no station's address"))) }
}

/// The endpoint, where the kernel can carry its id: the alias of its interface is how it is found again.
pub(crate) fn endpoint(id: EndpointId) -> Result<EndpointId, CniError> {
    if id.as_str().len() <= MOST_ID_BYTES {
        return Ok(id);
    }
    let (container, interface) = (id.container().len(), id.interface().len() + 1);
    Err(CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_CONTAINERID: {container} bytes are too many"))
        .details(format!("use at most {} for an interface of this name", MOST_ID_BYTES - interface)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn conf(extra: &Value) -> NetConf {
        let mut conf = json!({"cniVersion": "1.1.0", "name": "pods", "type": "cnidarian-cni"});
        for (key, value) in extra.as_object().unwrap() {
            conf[key] = value.clone();
        }
        NetConf::from_json(conf).unwrap()
    }

    #[test]
    fn without_own_fields_the_defaults_hold() {
        let own = Own::of(&conf(&json!({}))).unwrap();
        assert_eq!(own.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(own.state_dir, PathBuf::from(DEFAULT_STATE_DIR));
        assert!(!delegates_ipam(&conf(&json!({"ipam": {}}))));
        assert!(!delegates_ipam(&conf(&json!({"ipam": {"type": "cnidarian-ipam"}}))));
        assert!(delegates_ipam(&conf(&json!({"ipam": {"type": "host-local"}}))));
    }

    #[test]
    fn a_wrong_field_is_refused_with_its_name_and_code() {
        for (extra, code, name) in [
            (json!({"agentSock": "/x"}), 2, "agentSock"),
            (json!({"agentSocket": "x"}), 7, "agentSocket"),
            (json!({"agentSocket": 3}), 7, "network configuration"),
            (json!({"agentSocket": "/a\u{0}b"}), 7, "agentSocket"),
            (json!({"agentSocket": format!("/{}", "a".repeat(107))}), 7, "agentSocket"),
            (json!({"timeoutSeconds": 0}), 7, "timeoutSeconds"),
            (json!({"mtu": 68}), 7, "mtu"),
            (json!({"ipam": {"subnet": "10.0.0.0/8"}}), 7, "ipam.subnet"),
        ] {
            let error = Own::of(&conf(&extra)).unwrap_err();
            assert_eq!(error.code.get(), code, "{error}");
            assert!(error.msg.contains(name), "{error}");
        }
    }

    #[test]
    fn addresses_come_from_the_first_place_that_names_any() {
        let args: CniArgs = "IP=10.0.0.3,fd00::3".parse().unwrap();
        let all = json!({"runtimeConfig": {"ips": ["10.0.0.1/24"]}, "args": {"cni": {"ips": ["10.0.0.2"]}}});
        assert_eq!(requested(&conf(&all), &args).unwrap(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let listed = json!({"args": {"cni": {"ips": ["10.0.0.2"]}}});
        assert_eq!(requested(&conf(&listed), &args).unwrap(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(requested(&conf(&json!({})), &args).unwrap().len(), 2);
        let bad: CniArgs = "IP=10.0.0".parse().unwrap();
        assert_eq!(requested(&conf(&json!({})), &bad).unwrap_err().code, ErrorCode::InvalidEnvironment);
        assert!(requested(&conf(&json!({"runtimeConfig": {"ips": ["10.0.0.1/999"]}})), &args).is_err());
        assert!(requested(&conf(&json!({"args": {"cni": {"ips": "10.0.0.1"}}})), &args).is_err());
    }

    #[test]
    fn a_wrong_mac_is_refused_with_the_place_it_stands_in() {
        for (extra, args, code, name) in [
            (json!({"runtimeConfig": {"mac": "x"}}), "", 7, "runtimeConfig.mac"),
            (json!({"args": {"cni": {"mac": 3}}}), "", 7, "args.cni.mac"),
            (json!({"args": {"cni": {"mac": "01:00:5e:00:00:01"}}}), "", 7, "args.cni.mac"),
            (json!({}), "MAC=ff:ff:ff:ff:ff:ff", 4, "CNI_ARGS: MAC"),
        ] {
            let error = mac(&conf(&extra), &args.parse().unwrap()).unwrap_err();
            assert_eq!(error.code.get(), code, "{error}");
            assert!(error.msg.contains(name), "{error}");
        }
        assert!(mac(&conf(&json!({})), &"MAC=02:ab:cd:ef:01:23".parse().unwrap()).unwrap().is_some());
    }

    #[test]
    fn an_id_that_no_alias_can_carry_is_refused() {
        let id = |bytes: usize| endpoint(EndpointId::of(&"a".repeat(bytes), "eth0").unwrap());
        assert!(id(235).is_ok());
        let error = id(236).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidEnvironment);
        assert!(error.msg.contains("CNI_CONTAINERID") && error.details.contains("235"), "{error}");
    }

    #[test]
    fn a_container_is_a_pod_when_both_namespace_and_name_are_given() {
        let read = |text: &str| pod(&text.parse().unwrap());
        let web = read("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;X=1").unwrap().unwrap();
        assert_eq!((web.namespace.as_str(), web.name.as_str()), ("default", "web"));
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("K8S_POD_NAME=web;K8S_POD_NAMESPACE=").unwrap(), None);
        assert!(read("COLOUR=red").is_err());
        for (namespace, name, key) in [
            ("default", "../../x", "K8S_POD_NAME"),
            ("default", "Web", "K8S_POD_NAME"),
            ("..", "web", "K8S_POD_NAMESPACE"),
            ("a.b", "web", "K8S_POD_NAMESPACE"),
        ] {
            let error = read(&format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}")).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidEnvironment, "{error}");
            assert!(error.msg.contains(&format!("{key}:")), "{error}");
        }
    }
}
