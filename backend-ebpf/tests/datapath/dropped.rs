//! What forwarding drops, as monitors read it. Never what policy or masquerading does.

use crate::ways::maps_at;
use backend_ebpf::Ebpf;
use backend_ebpf::kernel::{ForwardMaps, Side};
use cni_core::policy::model::Direction;
use serde_json::json;
use std::time::Duration;
use testlab::bed::{Cluster, try_run, wait_for};

#[test]
fn a_way_that_is_gone_under_traffic_is_counted_and_nothing_else_is() {
    for fast_path in [false, true] {
        let cluster = Cluster::new(&Ebpf, &[1, 2], &json!({ "mode": "vxlan", "fastPath": fast_path }));
        let (node, pod) = (&cluster.nodes[0], &cluster.pods[0]);
        let to = cluster.pods[1].addresses[0];
        pod.talks_to(to);
        let lost = (Some(Direction::Egress), "incomplete");
        // The device's own groups have no way either.
        let before = node.dropped();
        let known = before.get(&lost).copied().unwrap_or_default();
        let mut maps = maps_at(node, "cnidarian-ebpf", Side::Egress);
        let (prefix, way) = maps.ways().unwrap().into_iter().find(|(prefix, _)| prefix.contains(&to)).unwrap();
        let set = |maps: &mut ForwardMaps, way| {
            maps.set_ways(&[(prefix, way)]).into_iter().for_each(|done| done.unwrap());
        };
        set(&mut maps, None);
        let ping = || pod.netns.run(|| try_run(&format!("ping -n -c 3 -i 0.1 -W 1 {to}"))).unwrap();
        assert!(ping().is_err());
        wait_for("the drops are counted", Duration::from_secs(10), || node.dropped().get(&lost) >= Some(&(known + 3)));
        let others = |mut all: std::collections::BTreeMap<_, u64>| {
            all.remove(&lost);
            all
        };
        assert_eq!(others(node.dropped()), others(before));
        set(&mut maps, Some(way));
        pod.talks_to(to);
    }
}
