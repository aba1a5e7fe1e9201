//! What the fields that a speaker refuses are called in the section. Never a refusal itself.

/// The key below a peer, a range or the section for a field of the speaker's configuration. What stands under `session` there
/// begins with it.
pub(crate) fn key_of(field: &str) -> &str {
    match field {
        "selection.maxPaths" => "selection.maxPaths",
        "restart.timeSeconds" => "gracefulRestart.timeSeconds",
        "restart.staleTimeSeconds" => "gracefulRestart.staleTimeSeconds",
        "listen" => "listenAddresses",
        "local" => "session.localAddress",
        "port" => "session.port",
        "ttl.multihop" => "session.multihop",
        "ttl.atMost" => "session.gtsm",
        "hold.holdSeconds" => "session.holdSeconds",
        "hold.connectRetrySeconds" => "session.connectRetrySeconds",
        "hold.sendHoldSeconds" => "session.sendHoldSeconds",
        "shutdown" => "session.shutdown",
        "families" => "session.families",
        "bfd.interval" => "session.bfd.intervalMilliseconds",
        "bfd.multiplier" => "session.bfd.multiplier",
        "role" => "session.role",
        "strictRole" => "session.strictRole",
        "privateAsns" => "session.removePrivateAsns",
        "addPath" => "session.addPath",
        "addPath.sendMax" => "session.addPath.sendMax",
        "maxPrefixes" => "session.maxPrefixes",
        "maxPrefixes.limit" => "session.maxPrefixes.limit",
        "maxPrefixes.warnPercent" => "session.maxPrefixes.warnPercent",
        "longLived.staleTimeSeconds" => "session.longLivedStaleSeconds",
        "defaultOriginate" => "session.defaultOriginate",
        // `address`, `interface`, `range`, `limit`, `reflectorClient`.
        same => same,
    }
}

/// The same below `bgp.session` itself.
pub(crate) fn key_of_session(field: &str) -> &str {
    let key = key_of(field);
    key.strip_prefix("session.").unwrap_or(key)
}
