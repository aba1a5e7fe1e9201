//! Messages out of a stream of bytes. Never more memory than one message and what [`Known`](super::known) holds.

use super::codes::message as kind;
use super::frame::Framer;
use super::options::Options;
use super::update::Reader;
use super::{notification, open, refresh};
use crate::types::{Message, Notification};

/// Reads the stream of one connection.
#[derive(Debug)]
pub struct Decoder {
    framer: Framer,
    reader: Reader,
    options: Options,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Options::before_open())
    }
}

impl Decoder {
    /// Of a connection on which `options` hold.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { framer: Framer::default(), reader: Reader::default(), options }
    }

    /// From the next message on, `options` hold.
    pub fn set_options(&mut self, options: Options) {
        if options != self.options {
            self.reader = Reader::default();
            self.options = options;
        }
    }

    /// The next message. `input` is cut by what was read; `None`: all of it was, and what is left of a message is kept.
    /// Messages that nobody has to understand are passed over.
    ///
    /// # Errors
    /// What has to be sent before the connection is closed.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Message>, Notification> {
        while let Some(frame) = self.framer.next(input, self.options.max_message_bytes)? {
            let message = match frame.kind {
                kind::OPEN => Message::Open(open::read(frame.body())?),
                kind::UPDATE => Message::Update(self.reader.read(frame.body(), &self.options)?),
                kind::NOTIFICATION => Message::Notification(notification::read(frame.body())),
                kind::KEEPALIVE => Message::Keepalive,
                _ => match refresh::read(frame.whole)? {
                    Some(refresh) => Message::RouteRefresh(refresh),
                    None => continue,
                },
            };
            return Ok(Some(message));
        }
        Ok(None)
    }

    /// Bytes of an unfinished message.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.framer.kept_bytes()
    }
}
