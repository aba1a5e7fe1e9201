//! What this kernel can do. Never leaves anything behind: programs are tried in a network namespace of their own.

use super::ROOM;
use crate::bpffs::{self, BPFFS};
use crate::kernel::{Hook, Object, Sizes, Way};
use cni_core::backend::{Capabilities, Capability, Support};
use net_linux::netns::NetNs;
use std::path::Path;

/// Room enough to try.
const FEW: Sizes =
    Sizes { endpoints: 1, identities: 1, peers: 1, classes: 1, verdicts: 1, fragments: 1, connections: 1 };

/// The capabilities of policy in eBPF here.
#[must_use]
pub fn probe() -> Capabilities {
    let support = support();
    let all = [Capability::Policy, Capability::HostPolicy, Capability::SurvivesAgent];
    all.into_iter().fold(Capabilities::default(), |known, capability| match &support {
        Support::Yes => known.with(capability),
        Support::No { reason } => known.without(capability, reason),
    })
}

fn support() -> Support {
    match refusal() {
        None => Support::Yes,
        Some(reason) => Support::No { reason },
    }
}

fn refusal() -> Option<String> {
    if let Some(reason) = bpffs::refusal(Path::new(BPFFS)) {
        return Some(reason);
    }
    let mut object = match Object::load(&FEW) {
        Ok(object) => object,
        Err(error) => return Some(error.reason(ROOM)),
    };
    let netns = match NetNs::new() {
        Ok(netns) => netns,
        Err(error) => return Some(error.to_string()),
    };
    if let Err(error) = netns.cookie() {
        return Some(error.to_string());
    }
    // The loopback interface of a namespace that nobody else has, and that goes now.
    let tried = netns.run(|| {
        let (mut hooks, lo) = (Hook::probe().open()?, 1);
        Way::EVERY.into_iter().try_for_each(|way| object.attach(&mut hooks, way, lo))
    });
    match tried {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.reason(ROOM)),
        Err(error) => Some(error.to_string()),
    }
}
