//! A record in a line, for people. Never asks.

use cni_core::flow::{By, End, Ended, Flow, Kind, Traffic};
use cni_core::policy::model::{Direction, Protocol};
use std::fmt::Write as _;

/// Above the columns.
pub(super) const HEAD: &str =
    "TIME                      VERDICT      DIRECTION  TRAFFIC       SOURCE -> DESTINATION; BY";

/// A record.
pub(super) fn of(flow: &Flow) -> String {
    let mut what = traffic(flow.protocol, None);
    if let Some(icmp) = flow.icmp {
        let _ = write!(what, " {}/{}", icmp.kind, icmp.code);
    }
    for flag in flow.tcp_flags.into_iter().flat_map(Vec::<String>::from) {
        let _ = write!(what, " {flag}");
    }
    let direction = direction(flow.direction);
    format!(
        "{}  {:<11}  {direction:<9}  {what:<12}  {} -> {}; {}{}",
        time(flow.time_unix_us),
        flow.verdict,
        end(&flow.source),
        end(&flow.destination),
        by(&flow.by),
        flow.ended.as_ref().map(over).or_else(|| flow.sampled.map(chosen)).unwrap_or_default()
    )
}

/// That it is one packet of so many.
pub(super) fn chosen(one_of: u32) -> String {
    format!("; one of {one_of}")
}

/// That a connection is over, and what passed.
fn over(Ended { why, seconds, sent, received }: &Ended) -> String {
    let way = |Traffic { packets, bytes }: &Traffic| format!("{packets} packets, {bytes} bytes");
    format!("; {} after {seconds} s: {} sent, {} received", why.as_str(), way(sent), way(received))
}

fn end(end: &End) -> String {
    let mut text = match (end.kind, &end.namespace, &end.name) {
        (Some(Kind::Node), _, Some(name)) => format!("node/{name} "),
        (_, Some(namespace), Some(name)) => format!("{namespace}/{name} "),
        (_, None, Some(name)) => format!("{name} "),
        _ => String::new(),
    };
    match (end.address, end.port) {
        (Some(address), Some(port)) => text += &std::net::SocketAddr::new(address, port).to_string(),
        (Some(address), None) => text += &address.to_string(),
        (None, _) => text += "?",
    }
    text
}

/// What decided.
pub(super) fn by(by: &By) -> String {
    let words = [by.tier.as_deref().map(|tier| format!("tier {tier},")), by.policy.as_deref().map(str::to_owned)];
    words.into_iter().flatten().chain([by.rule.to_string()]).collect::<Vec<_>>().join(" ")
}

/// The end that decided.
pub(super) fn direction(direction: Option<Direction>) -> String {
    direction.map_or_else(|| "-".to_owned(), |direction| direction.to_string())
}

/// A protocol and a port.
pub(super) fn traffic(protocol: Option<Protocol>, port: Option<u16>) -> String {
    match (protocol, port) {
        (Some(protocol), Some(port)) => format!("{port}/{protocol}"),
        (Some(protocol), None) => protocol.to_string(),
        (None, _) => "?".to_owned(),
    }
}

/// A time in UTC as RFC 3339 writes it, with milliseconds.
pub(super) fn time(unix_us: u64) -> String {
    let (days, in_day_ms) = (unix_us / 86_400_000_000, unix_us % 86_400_000_000 / 1000);
    // Years that begin in March, so that the day that some lack is the last: counted from 1 March of the year 0, in eras of
    // 400 years, which are 146,097 days.
    let day = days + 719_468;
    let (era, in_era) = (day / 146_097, day % 146_097);
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year + u64::from(month <= 2);
    let [hour, minute, second, ms] =
        [in_day_ms / 3_600_000, in_day_ms / 60_000 % 60, in_day_ms / 1000 % 60, in_day_ms % 1000];
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::flow::Ending;

    #[test]
    fn the_end_of_a_connection_says_why_and_what_passed_each_way() {
        let (sent, received) = (Traffic { packets: 5, bytes: 400 }, Traffic { packets: 0, bytes: 0 });
        let shown = over(&Ended { why: Ending::TimedOut, seconds: 12, sent, received });
        assert_eq!(shown, "; timed-out after 12 s: 5 packets, 400 bytes sent, 0 packets, 0 bytes received");
    }

    /// As `date -u -d @SECONDS` says.
    #[test]
    fn a_time_is_shown_as_the_calendar_has_it() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (1_709_210_096, "2024-02-29T12:34:56.000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000Z"),
            (1_772_323_200, "2026-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(seconds * 1_000_000), shown);
        }
        assert_eq!(time(1_234_567), "1970-01-01T00:00:01.234Z");
    }
}
