//! Which feature works with which daemon: one test for each row, and the page that shows them. Never a cell without
//! either a test or a reason.

use crate::rows;
use crate::told::Kind;
use std::fmt::Write as _;
use std::path::Path;
use std::thread;

/// One feature.
struct Row {
    title: &'static str,
    tested: &'static [&'static str],
    /// Why there is no test with some daemons.
    not: &'static [(&'static str, &'static str)],
}

macro_rules! matrix {
    ($($row:ident: $title:literal, with [$($tested:ident)*] $(, not [$($not:ident: $why:literal),*])?;)*) => {
        $(#[test]
        fn $row() {
            all(&[$(stringify!($tested)),*], rows::$row);
        })*

        const ROWS: &[Row] = &[$(Row {
            title: $title,
            tested: &[$(stringify!($tested)),*],
            not: &[$($((stringify!($not), $why)),*)?],
        }),*];
    };
}

/// Runs a row with all its daemons at once, for they mostly wait; with those in the variable `BGP_INTEROP_ONLY` where it is
/// set.
fn all(names: &[&str], row: fn(Kind)) {
    let only = std::env::var("BGP_INTEROP_ONLY").ok();
    let wanted = names.iter().filter(|name| only.as_ref().is_none_or(|only| only.split(',').any(|one| one == **name)));
    let failed: Vec<&str> = thread::scope(|scope| {
        let cells: Vec<_> = wanted
            .map(|name| {
                let cell = thread::Builder::new().name((*name).to_owned());
                (*name, cell.spawn_scoped(scope, move || row(Kind::named(name))).unwrap())
            })
            .collect();
        cells.into_iter().filter_map(|(name, cell)| cell.join().is_err().then_some(name)).collect()
    });
    assert!(failed.is_empty(), "failed with {}", failed.join(", "));
}

matrix! {
    ipv4: "IPv4 routes over IPv4", with [bird frr gobgp openbgpd exabgp];
    ipv6: "IPv6 routes over IPv6", with [bird frr gobgp openbgpd exabgp];
    both_families: "Both families over IPv4", with [bird frr exabgp],
        not [gobgp: "sends ::ffff:10.0.1.2 as next hop", openbgpd: "sends :: as next hop"];
    four_byte_asn: "AS numbers of four bytes", with [bird frr gobgp openbgpd exabgp];
    md5: "TCP MD5: right key and wrong key", with [bird frr gobgp openbgpd exabgp];
    ttl_security: "GTSM (RFC 5082): near and too far", with [bird frr gobgp openbgpd exabgp];
    collision: "Both connect at once", with [bird frr gobgp openbgpd exabgp];
    range: "A peer out of a range of addresses", with [bird frr gobgp openbgpd exabgp];
    roles: "Roles (RFC 9234): right pair and wrong pair", with [bird frr openbgpd],
        not [gobgp: "not offered", exabgp: "not offered"];
    drain: "Graceful shutdown (RFC 8326), begun and ended without a reset", with [bird frr gobgp openbgpd exabgp];
    communities: "Communities, both ways: standard, extended, large", with [bird frr gobgp openbgpd exabgp];
    refresh: "Route refresh: they ask us", with [bird frr openbgpd exabgp], not [gobgp: "never asks"];
    refresh_of_us: "Route refresh: we ask them", with [bird frr gobgp],
        not [openbgpd: "sends nothing then", exabgp: "closes the session"];
    extended_messages: "Messages of more than 4096 bytes (RFC 8654)", with [bird frr exabgp],
        not [gobgp: "not offered", openbgpd: "not offered"];
    they_restart: "Graceful restart: they are killed, we keep their routes", with [bird frr gobgp],
        not [openbgpd: "does not ask to have its routes kept", exabgp: "does not say that it kept routes"];
    they_stay_away: "Long-lived graceful restart (RFC 9494): we keep their routes", with [bird frr gobgp],
        not [openbgpd: "not offered", exabgp: "not offered"];
    we_restart: "Graceful restart: we are killed, they keep our routes", with [bird frr gobgp openbgpd],
        not [exabgp: "keeps no routes"];
    add_path_out: "Add-path: we send two paths", with [bird frr gobgp openbgpd exabgp];
    add_path_in: "Add-path: they send two paths", with [bird frr gobgp openbgpd],
        not [exabgp: "passes no routes on"];
    we_reflect: "Reflection: we are the reflector", with [bird frr gobgp openbgpd exabgp];
    they_reflect: "Reflection: they are the reflector", with [bird frr gobgp openbgpd],
        not [exabgp: "passes no routes on"];
    extended_next_hop: "IPv4 routes with IPv6 next hops (RFC 8950)", with [bird frr gobgp exabgp],
        not [openbgpd: "not offered"];
    third_party: "Next hop of a third router on the link (RFC 4271, 5.1.3)", with [bird frr gobgp openbgpd exabgp];
    unnumbered: "Unnumbered: the peer on an interface", with [bird frr],
        not [gobgp: "not tested", openbgpd: "not offered", exabgp: "not offered"];
    bfd: "BFD: they freeze, we see it at once", with [bird frr],
        not [gobgp: "not offered", openbgpd: "not offered", exabgp: "not offered"];
    bfd_of_us: "BFD: we freeze, they see it at once", with [bird frr],
        not [gobgp: "not offered", openbgpd: "not offered", exabgp: "not offered"];
    they_announce_too_much: "Maximum of prefixes: ours", with [bird frr gobgp openbgpd exabgp];
    we_announce_too_much: "Maximum of prefixes: theirs", with [bird frr gobgp openbgpd],
        not [exabgp: "not offered"];
    we_shut: "Shutdown text (RFC 9003): from us", with [bird frr gobgp openbgpd],
        not [exabgp: "cannot read one with Python 3"];
    they_shut: "Shutdown text (RFC 9003): from them", with [bird frr gobgp openbgpd],
        not [exabgp: "sends none"];
}

fn page() -> String {
    let mut text = String::from(
        "# Interoperability\n\n\
         Made by the tests in `bgp-speaker/tests/interop`: \"yes\" is a test that passes with that daemon of Debian 12 over a link \
         between network namespaces, anything else is the reason why there is none. The same tests fail when this page is not \
         what they test; `BGP_INTEROP_WRITE=1 cargo test -p bgp-speaker --features tokio --test interop page` writes it.\n\n\
         | |",
    );
    for kind in Kind::ALL {
        let _ = write!(text, " {} |", kind.title());
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(Kind::ALL.len()));
    text.push('\n');
    for row in ROWS {
        let _ = write!(text, "| {} |", row.title);
        for kind in Kind::ALL {
            let name = kind.name();
            let reason = row.not.iter().find(|(not, _)| *not == name).map(|(_, why)| *why);
            let cell = if row.tested.contains(&name) { "yes" } else { reason.unwrap_or_default() };
            assert!(!cell.is_empty(), "{} says nothing of {name}", row.title);
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

#[test]
fn the_page_of_the_matrix_is_what_is_tested() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bgp-interop.md");
    if std::env::var_os("BGP_INTEROP_WRITE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page(), "docs/bgp-interop.md is not what is tested: BGP_INTEROP_WRITE=1 writes it");
}
