//! How a client writes a request and reads an answer on a stream that somebody else opened. Never connects and knows no
//! time limit: those are the stream's.

use super::{MAX_RESPONSE_BYTES, Request, Response};
use std::io::{self, Read};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The agent closed the connection without an answer: it was stopped in between.
    #[error("the agent closed the connection without an answer")]
    Closed,
    /// The answer is longer than any answer can be.
    #[error("the answer is longer than {MAX_RESPONSE_BYTES} bytes")]
    TooLong,
    /// The answer is no answer of this protocol.
    #[error("the answer cannot be read: {0}")]
    Malformed(#[source] serde_json::Error),
    /// The connection broke, or took longer than its limit.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl Request {
    /// The bytes of a request. The writing half of the stream is shut after them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a request holds only texts, numbers and lists, which JSON can always carry")
    }
}

/// Reads the answer up to the end of the stream.
///
/// # Errors
/// [`WireError`].
pub fn read_response(from: impl Read) -> Result<Response, WireError> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_RESPONSE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if read == 0 {
        return Err(WireError::Closed);
    }
    if read > MAX_RESPONSE_BYTES {
        return Err(WireError::TooLong);
    }
    serde_json::from_slice(&bytes).map_err(WireError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Call, Failure};

    #[test]
    fn an_answer_is_read_to_the_end_of_the_stream() {
        let answer = Response::Failed(Failure::new(crate::cni::ErrorCode::TryAgainLater, "agent starts", "try again"));
        let bytes = serde_json::to_vec(&answer).unwrap();
        assert_eq!(read_response(bytes.as_slice()).unwrap(), answer);
        assert!(matches!(read_response(&bytes[..bytes.len() - 1]), Err(WireError::Malformed(_))));
        assert!(matches!(read_response(&b""[..]), Err(WireError::Closed)));
        assert!(matches!(read_response(io::repeat(b' ')), Err(WireError::TooLong)));
        assert_eq!(Request::new(Call::Status).to_bytes(), br#"{"protocol":1,"call":"status"}"#);
    }
}
