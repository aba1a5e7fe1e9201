//! Requests about one service, and answers: bytes in, bytes out. Never a socket, and never more of HTTP (RFC 9112) than balancers
//! use: the method and the end of the head; path, fields and body say nothing here.

use cni_core::model::HealthCheck;
use serde_json::json;

/// The most bytes of a request's line and fields.
pub(super) const MAX_HEAD_BYTES: usize = 8 << 10;

/// What a connection sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The head has not ended yet.
    Incomplete,
    /// It is longer than is read.
    TooLong,
    /// This is no HTTP.
    Garbage,
    /// A whole head.
    Request {
        /// Whether only the head of the answer is wanted.
        only_head: bool,
    },
}

/// Reads what came. A line ends with a line feed, with or without a carriage return before it (RFC 9112, section 2.2).
pub(super) fn hear(bytes: &[u8]) -> Heard {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let whole = line.strip_suffix(b"\n");
        (whole.is_some(), whole.map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)))
    });
    let Some((is_whole, first)) = lines.next() else { return Heard::Incomplete };
    let method = first.split(|byte| *byte == b' ').next().unwrap_or_default();
    // RFC 9110, section 9.1: a method is a token. Said as soon as it is known, so that other protocols do not wait.
    if method.is_empty() || !method.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    {
        return Heard::Garbage;
    }
    if is_whole {
        let mut words = first.rsplit(|byte| *byte == b' ');
        let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
        if !is_http || words.count() < 2 {
            return Heard::Garbage;
        }
        if lines.any(|(is_whole, line)| is_whole && line.is_empty()) {
            return Heard::Request { only_head: method == b"HEAD" };
        }
    }
    if bytes.len() >= MAX_HEAD_BYTES { Heard::TooLong } else { Heard::Incomplete }
}

fn message(status: &str, fields: &str, body: &str, only_head: bool) -> Vec<u8> {
    let length = body.len();
    let body = if only_head { "" } else { body };
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

/// What is answered about a service, in the words of kube-proxy, which balancers know. `proxy_works`: whether services are
/// translated here at all.
pub(super) fn answer(check: &HealthCheck, proxy_works: bool, only_head: bool) -> Vec<u8> {
    let status = if check.endpoints > 0 && proxy_works { "200 OK" } else { "503 Service Unavailable" };
    let body = json!({
        "service": { "namespace": &*check.service.namespace, "name": &*check.service.name },
        "localEndpoints": check.endpoints,
        "serviceProxyHealthy": proxy_works,
    });
    let fields = format!(
        "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {}\r\n",
        check.endpoints
    );
    message(status, &fields, &body.to_string(), only_head)
}

/// What is answered to what is no request; `None`: nothing yet.
pub(super) fn refusal(heard: Heard) -> Option<Vec<u8>> {
    match heard {
        Heard::Incomplete | Heard::Request { .. } => None,
        Heard::Garbage => Some(message("400 Bad Request", "", "", false)),
        Heard::TooLong => Some(message("431 Request Header Fields Too Large", "", "", false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::model::ServiceName;

    fn check(endpoints: usize) -> HealthCheck {
        let service = ServiceName { namespace: "shop".into(), name: "web".into() };
        HealthCheck { at: "192.0.2.1:30100".parse().unwrap(), service, endpoints }
    }

    #[test]
    fn any_path_and_method_is_a_request_when_its_head_has_ended() {
        for request in
            ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /healthz?a=b c HTTP/1.0\n\n", "POST /x HTTP/1.1\r\n\r\nbody"]
        {
            assert_eq!(hear(request.as_bytes()), Heard::Request { only_head: false }, "{request:?}");
            let head = request.len() - request.split("\r\n\r\n").nth(1).map_or(0, str::len);
            for end in 1..head {
                assert_eq!(hear(&request.as_bytes()[..end]), Heard::Incomplete, "{:?}", &request[..end]);
            }
        }
        assert_eq!(hear(b"HEAD / HTTP/1.1\r\n\r\n"), Heard::Request { only_head: true });
        assert_eq!(hear(b""), Heard::Incomplete);
    }

    #[test]
    fn what_is_no_http_is_said_at_once() {
        for bytes in [
            &b"\x16\x03\x01\x02"[..],
            b"\r\n",
            b" GET / HTTP/1.1\r\n",
            b"GET\r\n",
            b"GET /\r\n",
            b"GET / HTTP/2.0\r\n",
            b"GET HTTP/1.1\n",
        ] {
            assert_eq!(hear(bytes), Heard::Garbage, "{}", bytes.escape_ascii());
            assert!(refusal(hear(bytes)).unwrap().starts_with(b"HTTP/1.1 400"));
        }
    }

    #[test]
    fn a_head_without_end_is_too_long() {
        for head in
            [vec![b'G'; MAX_HEAD_BYTES], [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; MAX_HEAD_BYTES]].concat()]
        {
            assert_eq!(hear(&head), Heard::TooLong);
            assert!(refusal(Heard::TooLong).unwrap().starts_with(b"HTTP/1.1 431"));
        }
    }

    #[test]
    fn the_answer_is_what_kube_proxy_says() {
        let text = |endpoints, works, head| String::from_utf8(answer(&check(endpoints), works, head)).unwrap();
        let good = text(2, true, false);
        assert!(good.starts_with("HTTP/1.1 200 OK\r\n"), "{good}");
        assert!(good.contains("\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"), "{good}");
        let (head, body) = good.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let service = json!({"namespace": "shop", "name": "web"});
        assert_eq!(body, json!({"service": service, "localEndpoints": 2, "serviceProxyHealthy": true}));
        assert!(text(0, true, false).starts_with("HTTP/1.1 503 "));
        assert!(text(1, false, false).starts_with("HTTP/1.1 503 "), "endpoints to which nobody leads");
        assert_eq!(text(2, true, true), format!("{head}\r\n\r\n"), "HEAD");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes: Vec<u8>) {
            let heard = hear(&bytes);
            proptest::prop_assert!(bytes.len() < MAX_HEAD_BYTES || heard != Heard::Incomplete);
        }
    }
}
