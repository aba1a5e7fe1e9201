//! From the agent's attachment to the result of ADD, and back to what CHECK needs. Pure.

use cni_core::cni::{AddResult, CniError, Dns, ErrorCode, Interface, IpConfig, Route};
use cni_core::model::InterfaceName;
use cni_core::rpc::Attachment;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The field of a result that says that network policy was in force before ADD answered.
const POLICY: &str = "cnidarian.io/policy";

/// The result of an ADD: what a plugin before us made, then our own interfaces, addresses and default routes.
pub(crate) fn of(
    before: Option<&AddResult>,
    attachment: &Attachment,
    ifname: &InterfaceName,
    sandbox: &str,
    dns: Option<&Dns>,
) -> AddResult {
    let mut result = before.cloned().unwrap_or_default();
    if attachment.policy_enforced {
        result.other.insert(POLICY.to_owned(), "enforced".into());
    }
    let first = u32::try_from(result.interfaces.len()).unwrap_or(u32::MAX);
    result.interfaces.push(Interface::on_host(attachment.host_interface.as_str(), attachment.host_mac));
    let inside = Interface::in_container(ifname.as_str(), attachment.pod_mac, sandbox);
    result.interfaces.push(Interface { mtu: Some(attachment.mtu_bytes), ..inside });
    let gateway = |v4: bool| attachment.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == v4);
    for address in &attachment.addresses {
        result.ips.push(IpConfig {
            interface: Some(first + 1),
            gateway: gateway(address.is_ipv4()),
            ..IpConfig::new(IpNet::from(*address))
        });
    }
    for gateway in &attachment.gateways {
        let everywhere = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0)),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0)),
        };
        result.routes.push(Route::new(everywhere, Some(*gateway)));
    }
    if let Some(dns) = dns {
        result.dns = dns.clone();
    }
    result
}

/// The addresses of one interface of the container in an earlier result.
pub(crate) fn addresses_of(result: &AddResult, ifname: &InterfaceName) -> Result<Vec<IpAddr>, CniError> {
    let wrong = |problem: String| {
        CniError::new(ErrorCode::InvalidConfig, format!("prevResult: {problem}"))
            .details("CHECK needs the result of this network's ADD: the runtime has to pass it")
    };
    let index = result
        .interfaces
        .iter()
        .position(|interface| interface.name == ifname.as_str() && !interface.sandbox.is_empty())
        .ok_or_else(|| wrong(format!("interfaces: none is called {ifname} in the container")))?;
    let index = u32::try_from(index).ok();
    let addresses: Vec<IpAddr> =
        result.ips.iter().filter(|ip| ip.interface == index).map(|ip| ip.address.addr()).collect();
    if addresses.is_empty() { Err(wrong(format!("ips: none is on interface {ifname}"))) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::model::MacAddr;

    fn attachment() -> Attachment {
        Attachment {
            host_interface: InterfaceName::new("cni0123456789ab").unwrap(),
            host_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            pod_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            mtu_bytes: 1450,
            addresses: vec!["10.42.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            gateways: vec!["169.254.1.1".parse().unwrap(), "fe80::1".parse().unwrap()],
            policy_enforced: true,
        }
    }

    #[test]
    fn what_add_answers_is_what_check_finds_again() {
        let ifname = InterfaceName::new("eth0").unwrap();
        let result = of(None, &attachment(), &ifname, "/run/netns/a", None);
        assert!(result.check().is_ok());
        assert_eq!(result.other[POLICY], "enforced");
        let unenforced =
            of(None, &Attachment { policy_enforced: false, ..attachment() }, &ifname, "/run/netns/a", None);
        assert!(unenforced.other.is_empty());
        assert_eq!(result.routes.len(), 2);
        assert_eq!(addresses_of(&result, &ifname).unwrap(), attachment().addresses);
        assert!(addresses_of(&result, &InterfaceName::new("eth1").unwrap()).is_err());
    }

    #[test]
    fn after_another_plugin_its_result_stays_and_indices_move() {
        let (eth0, net1) = (InterfaceName::new("eth0").unwrap(), InterfaceName::new("net1").unwrap());
        let before = of(None, &attachment(), &eth0, "/run/netns/a", None);
        let both = of(Some(&before), &attachment(), &net1, "/run/netns/a", None);
        assert_eq!(both.interfaces.len(), 4);
        assert_eq!(both.interfaces[..2], before.interfaces[..]);
        assert_eq!(both.ips[2].interface, Some(3));
        assert!(both.check().is_ok());
    }
}
