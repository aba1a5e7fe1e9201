//! What tests of BGP want to know of a cluster, and wait for: sessions, learned routes, pods that reach each other once
//! these are there. Never changes a node.

use std::time::{Duration, Instant};
use testlab::bed::{Cluster, Node, run};
use testlab::patience::stretched;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) trait Sessions {
    /// Waits until every pod hears an answer of every other, in both families.
    fn wait_all_pairs(&self);

    /// Sessions and learned routes of all nodes.
    fn survey(&self) -> String;

    /// Waits until a node has so many sessions.
    fn wait_sessions(&self, at: usize, wanted: usize);

    /// Whether a node has learned a route for a prefix.
    fn learned(&self, at: usize, prefix: &str) -> bool;

    fn wait_learned(&self, at: usize, prefix: &str, wanted: bool);
}

impl Sessions for Cluster {
    fn wait_all_pairs(&self) {
        let deadline = Instant::now() + stretched(PATIENCE);
        for from in &self.pods {
            for to in self.pods.iter().flat_map(|pod| &pod.addresses) {
                while !from.reaches(*to) {
                    assert!(Instant::now() < deadline, "{:?} does not reach {to}: {}", from.addresses, self.survey());
                }
            }
        }
    }

    fn survey(&self) -> String {
        let node = |node: &Node| {
            let look = || format!("{}{}", run("ss -Htn"), run("ip route show protocol 204"));
            format!("\nnode {}:\n{}", node.number, node.netns.run(look).unwrap())
        };
        self.nodes.iter().map(node).collect()
    }

    fn wait_sessions(&self, at: usize, wanted: usize) {
        // After a start the speaker takes a moment to begin.
        let sessions = || {
            let peers = self.nodes[at].ask("bgp peers", &[]).unwrap_or_default();
            peers.as_array().into_iter().flatten().filter(|peer| peer["state"] == "Established").count()
        };
        let deadline = Instant::now() + stretched(PATIENCE);
        while sessions() != wanted {
            assert!(Instant::now() < deadline, "node {at} has not {wanted} sessions: {}", self.survey());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn learned(&self, at: usize, prefix: &str) -> bool {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let found = self.nodes[at].netns.run(|| run(&format!("ip {family} route show {prefix} protocol 204"))).unwrap();
        !found.trim().is_empty()
    }

    fn wait_learned(&self, at: usize, prefix: &str, wanted: bool) {
        let deadline = Instant::now() + stretched(PATIENCE);
        while self.learned(at, prefix) != wanted {
            assert!(Instant::now() < deadline, "node {at}: {prefix} learned is not {wanted}: {}", self.survey());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
