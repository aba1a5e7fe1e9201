//! Where the programs under measurement are: optimised builds, never debug ones.

use std::path::PathBuf;
use testlab::lab::Programs;

/// The release build of the agent, and the small, static build of the plugin.
#[must_use]
pub fn release() -> Programs {
    let plugin = format!("{}-unknown-linux-musl/shim/cnidarian-cni", std::env::consts::ARCH);
    Programs { cnidarian: built("release/cnidarian"), plugin: built(&plugin) }
}

fn built(program: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")), PathBuf::from);
    let path = target.join(program);
    path.canonicalize().unwrap_or(path)
}
