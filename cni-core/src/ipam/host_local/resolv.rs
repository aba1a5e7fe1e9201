//! Reads a `resolv.conf` for the `dns` part of a result. Never writes one.

use crate::cni::Dns;

/// Reads a file's text (`man 5 resolv.conf`). Lines that it does not know are skipped.
pub(super) fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        let all = || std::iter::once(first).chain(words).map(str::to_owned);
        match keyword {
            "nameserver" => dns.nameservers.push(first.to_owned()),
            "domain" => first.clone_into(&mut dns.domain),
            "search" => dns.search.extend(all()),
            "options" => dns.options.extend(all()),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_lines_are_taken_and_others_skipped() {
        let text = "; a comment\n# another\nnameserver 192.0.2.1 ignored\n nameserver\tfd00::1\nsearch a b\nsearch c\n\
                    domain example.org\noptions ndots:5 rotate\nnameserver\nsortlist 10.0.0.0";
        let dns = parse(text);
        assert_eq!(dns.nameservers, ["192.0.2.1", "fd00::1"]);
        assert_eq!(dns.search, ["a", "b", "c"]);
        assert_eq!(dns.domain, "example.org");
        assert_eq!(dns.options, ["ndots:5", "rotate"]);
    }
}
