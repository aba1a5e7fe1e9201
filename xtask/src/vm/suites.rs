//! What runs on stock kernels: the tests and labs that talk to the kernel. Never how.

use std::time::Duration;

/// A test binary, or a lab.
pub(super) enum What {
    /// A test target of a package of ours, or a part of it that has a name.
    Tests { package: &'static str, target: &'static str, part: Option<(&'static str, Part)> },
    /// A file of `testlab/scenarios`, by its name: every pair of pods is asked.
    Lab(&'static str),
    /// Cases of policy on packets, with a backend and a policy engine.
    Verify { backend: &'static str, policy: &'static str },
}

/// Which tests of a target: by words that their names contain one of.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Only(&'static [&'static str]),
    /// What is in none of these, so that a new test is in it.
    Without(&'static [&'static [&'static str]]),
}

/// One thing that runs in a VM.
pub(super) struct Suite {
    pub(super) what: What,
    /// For the test command: only tests whose name contains one of these; `None` leaves all of it to `cargo xtask vm test`.
    pub(super) sample: Option<&'static [&'static str]>,
    /// After this it is killed. Generous: an emulator on a busy machine.
    pub(super) limit: Duration,
}

const ALL: Option<&'static [&'static str]> = Some(&[""]);

const fn tests(
    package: &'static str,
    target: &'static str,
    sample: Option<&'static [&'static str]>,
    minutes: u64,
) -> Suite {
    let what = What::Tests { package, target, part: None };
    Suite { what, sample, limit: Duration::from_secs(minutes * 60) }
}

const fn lab(scenario: &'static str, sample: Option<&'static [&'static str]>) -> Suite {
    Suite { what: What::Lab(scenario), sample, limit: Duration::from_secs(5 * 60) }
}

const fn verify(backend: &'static str, policy: &'static str) -> Suite {
    Suite { what: What::Verify { backend, policy }, sample: ALL, limit: Duration::from_secs(10 * 60) }
}

/// Tests of `backend-ebpf` that try programs packet by packet, which say the same on every kernel that takes them.
const PACKETS: &[&str] = &["connections::", "hostile::", "malformed::", "oracle::", "related::"];
/// Those that open an engine dozens of times: under emulation each load of programs takes seconds.
const LAWS: &[&str] = &["engine::", "every_law", "laws_of_every_engine"];

/// The same of the datapath.
const DATAPATH_LAWS: &[&str] = &["every_law"];

/// Those that load every program of `backend-ebpf`, and see each kind work: what the verifier says is what kernels differ in most.
const PROGRAMS: &[&str] = &[
    "this_kernel_can_do_it",
    "verifier_costs",
    "attached::policy_at",
    "host::packets::policies_allow",
    "services::connections_are_spread",
    "outside::clients_outside",
];

/// Everything, from what the rest is built on to the rest.
pub(super) const SUITES: &[Suite] = &[
    tests("net-linux", "objects", None, 10),
    tests("net-linux", "fib", None, 10),
    tests("net-linux", "attach", ALL, 10),
    tests("net-linux", "monitor", None, 5),
    tests("net-linux", "oracle", None, 5),
    tests("net-linux", "ipvs", ALL, 5),
    tests("backend-ebpf", "kernel", Some(PROGRAMS), 30).part("kernel", Part::Without(&[PACKETS, LAWS])),
    tests("backend-ebpf", "kernel", None, 60).part("packets", Part::Only(PACKETS)),
    tests("backend-ebpf", "kernel", None, 120).part("laws", Part::Only(LAWS)),
    tests("backend-ebpf", "datapath", Some(&["pods_talk_by_the_fast_path"]), 30)
        .part("datapath", Part::Without(&[DATAPATH_LAWS])),
    tests("backend-ebpf", "datapath", None, 60).part("forwarding laws", Part::Only(DATAPATH_LAWS)),
    tests(
        "backend-ebpf",
        "masquerade",
        Some(&["pods_are_heard_outside_as_their_node_on_a_port_of_ours::at_clsact"]),
        30,
    ),
    tests(
        "backend-ipvs",
        "kernel",
        Some(&["packets::", "direct::", "counters::", "watch::", "drain::", "policy::", "registry::", "missing::"]),
        30,
    ),
    tests("policy-nftables", "kernel", Some(&["this_kernel_can_do_it"]), 15),
    tests("backend-vxlan", "kernel", None, 15),
    tests("backend-bgp", "kernel", Some(&["routes_are_plain", "always_wraps"]), 15),
    tests("cnidarian-agent", "ipvs", ALL, 10),
    lab("vxlan", ALL),
    lab("bgp", ALL),
    lab("ipvs", ALL),
    lab("ebpf", ALL),
    lab("ebpf-native", ALL),
    lab("ebpf-routes", ALL),
    verify("ipvs", "nftables"),
    verify("vxlan", "ebpf"),
    lab("direct-routing", None),
    lab("host-gw", None),
    lab("udp", None),
    lab("bgp-cross-subnet", None),
];

impl Suite {
    /// A part of a target, by a name of its own.
    const fn part(self, name: &'static str, part: Part) -> Self {
        match self.what {
            What::Tests { package, target, .. } => {
                Self { what: What::Tests { package, target, part: Some((name, part)) }, ..self }
            }
            What::Lab(_) | What::Verify { .. } => self,
        }
    }

    /// What a test binary is told before a word that no test of this run may have.
    pub(super) const SKIP: &str = "--skip";

    /// The package and the name of its test target.
    pub(super) fn target(&self) -> Option<(&'static str, &'static str)> {
        match self.what {
            What::Tests { package, target, .. } => Some((package, target)),
            What::Lab(_) | What::Verify { .. } => None,
        }
    }

    /// What a test binary is told for all of it.
    pub(super) fn filters(&self) -> Vec<String> {
        let part = match self.what {
            What::Tests { part: Some((_, part)), .. } => part,
            _ => Part::Only(&[]),
        };
        match part {
            Part::Only(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            Part::Without(parts) => {
                parts.iter().copied().flatten().flat_map(|word| [Self::SKIP, *word].map(str::to_owned)).collect()
            }
        }
    }

    /// Whether it runs the agent and the plugin as programs.
    pub(super) fn needs_programs(&self) -> bool {
        !matches!(self.what, What::Tests { package, .. } if package != "cnidarian-agent")
    }

    pub(super) fn name(&self) -> String {
        match &self.what {
            What::Tests { package, target, part } => {
                format!("{package} {}", part.map_or(*target, |(name, _)| name))
            }
            What::Lab(scenario) => format!("lab {scenario}"),
            What::Verify { backend, policy } => format!("lab verify {backend} {policy}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_suites_tell_them_apart() {
        let mut names: Vec<String> = SUITES.iter().map(Suite::name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
