//! The connection to the kernel's nftables: commits batches. Never decides what should be there.

use super::batch::{NLM_F_ACK, NLM_F_REQUEST, SUBSYSTEM};
use super::{Batch, Family, Name, NftError, Object, Refusal, TableId, Verb};
use crate::nfnetlink::{Header, Malformed, Message, NfSocket, Writer};
use cni_core::backend::Support;
use nix::errno::Errno;

const NEW_GEN: u16 = SUBSYSTEM | 15;
const GET_GEN: u16 = SUBSYSTEM | 16;

/// `NFNL_MSG_BATCH_BEGIN` and `_END`: control messages; `res_id` is the subsystem.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const BATCH_GENID: u16 = 1;
const GEN_ID: u16 = 1;
/// How often a transaction is made again when somebody else was faster.
const TRANSACTION_TRIES: u32 = 20;

/// A state of the ruleset: each committed batch, whoever's, is the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

/// The connection. It belongs to the network namespace of the thread that opened it, and needs `CAP_NET_ADMIN` there.
///
/// ```no_run
/// use net_linux::nft::{Batch, Family, Name, Nft, Table, TableId};
/// let table = TableId::new(Family::Inet, Name::new("example")?);
/// let mut nft = Nft::open()?;
/// let mut batch = Batch::new();
/// batch.add_table(&Table::new(table.clone()));
/// nft.commit(&batch)?;
/// assert!(nft.table(&table)?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Nft {
    socket: NfSocket,
    writer: Writer,
}

impl Nft {
    /// Whether this kernel would take a batch of a family: it is asked to, with one message more that it has to refuse, so
    /// that nothing comes of it.
    pub fn would_take(&mut self, mut batch: Batch, family: Family) -> Support {
        let nowhere = TableId::new(family, Name::known("cnidarian-probe-is-not-there"));
        batch.delete_table(&nowhere);
        match self.commit(&batch) {
            Err(NftError::Refused { first, others }) if others.is_empty() && first.object == Object::Table(nowhere) => {
                Support::Yes
            }
            Err(error) => Support::No { reason: error.to_string() },
            Ok(()) => Support::No { reason: "nftables took a batch that it had to refuse".to_owned() },
        }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`NftError::Socket`].
    pub fn open() -> Result<Self, NftError> {
        let socket = NfSocket::open().map_err(|source| NftError::Socket { operation: "open", source })?;
        Ok(Self { socket, writer: Writer::default() })
    }

    /// Our netlink port: notifications of our own changes carry it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// [`NftError::Refused`] and others: nothing is changed then.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), NftError> {
        self.send_batch(batch, None)
    }

    /// Makes all changes if the ruleset is still at `generation`, or none.
    ///
    /// # Errors
    /// [`NftError::GenerationChanged`]; else as [`commit`](Self::commit).
    pub fn commit_at(&mut self, batch: &Batch, generation: Generation) -> Result<(), NftError> {
        self.send_batch(batch, Some(generation))
    }

    /// Reads, makes a batch of what was read, and commits it only if nobody changed the ruleset in between; else again.
    ///
    /// # Errors
    /// Those of `make`; [`NftError::GenerationChanged`] when others were faster 20 times; else as [`commit`](Self::commit).
    pub fn transact(&mut self, mut make: impl FnMut(&mut Self) -> Result<Batch, NftError>) -> Result<(), NftError> {
        let mut tries = 0;
        loop {
            let generation = self.generation()?;
            let batch = make(self)?;
            tries += 1;
            match self.commit_at(&batch, generation) {
                Err(NftError::GenerationChanged { .. }) if tries < TRANSACTION_TRIES => {}
                other => return other,
            }
        }
    }

    fn send_batch(&mut self, batch: &Batch, generation: Option<Generation>) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let body = batch.bytes().map_err(|object| NftError::ObjectTooLarge { object })?;
        let frame =
            |kind, sequence| Header { kind, flags: NLM_F_REQUEST, sequence, family: 0, resource: SUBSYSTEM >> 8 };
        let (mut begin, mut end) = (Writer::default(), Writer::default());
        frame(BATCH_BEGIN, 0).write(&mut begin, |w| {
            if let Some(Generation(id)) = generation {
                w.u32(BATCH_GENID, id);
            }
        });
        frame(BATCH_END, batch.last_sequence() + 1).write(&mut end, |_| {});
        self.socket.send(&[&begin.bytes, body, &end.bytes]).map_err(|source| {
            if source.raw_os_error() == Some(Errno::EMSGSIZE as i32) {
                NftError::BatchTooLarge { bytes: body.len() }
            } else {
                NftError::Socket { operation: "send", source }
            }
        })?;
        let answers = self.socket.answers()?;
        let mut refusals = answers.iter().filter_map(|answer| {
            let errno = answer.error?;
            let (verb, object) = batch.describe(answer.sequence, answer.offset);
            Some(Refusal { verb, object, errno, text: answer.text.clone() })
        });
        if let Some(first) = refusals.next() {
            return Err(match generation {
                Some(Generation(expected)) if first.errno == Errno::ERESTART => {
                    NftError::GenerationChanged { expected }
                }
                _ => NftError::Refused { first: Box::new(first), others: refusals.collect() },
            });
        }
        if answers.iter().any(|answer| answer.sequence == batch.last_sequence()) {
            Ok(())
        } else {
            Err(Malformed::new("answer to a batch: there is none").into())
        }
    }

    /// The present state's number.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Socket`].
    pub fn generation(&mut self) -> Result<Generation, NftError> {
        let mut generation = None;
        self.request(
            GET_GEN,
            NLM_F_ACK,
            0,
            &Object::Ruleset,
            |_| {},
            |message| {
                if message.kind == NEW_GEN {
                    for attr in message.attributes() {
                        let attr = attr?;
                        if attr.kind == GEN_ID {
                            generation = Some(Generation(attr.u32()?));
                        }
                    }
                }
                Ok(())
            },
        )?;
        generation.ok_or_else(|| Malformed::new("generation: there is none").into())
    }

    /// Sends one request and reads all of its answer. `Ok(false)`: tables changed meanwhile.
    pub(super) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        object: &Object,
        write: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>) -> Result<(), NftError>,
    ) -> Result<bool, NftError> {
        self.writer.bytes.clear();
        let header = Header { kind, flags: NLM_F_REQUEST | flags, sequence: 1, family, resource: 0 };
        header.write(&mut self.writer, write);
        self.socket.send(&[&self.writer.bytes]).map_err(|source| NftError::Socket { operation: "send", source })?;
        // After an unreadable message the rest is still taken from the socket, so that the next answer is the next request's.
        let mut unreadable = None;
        let whole = self.socket.dump(|message| {
            if unreadable.is_none() {
                unreadable = each(message).err();
            }
            Ok::<(), NftError>(())
        });
        match (whole, unreadable) {
            (Ok(whole), None) => Ok(whole),
            (Ok(_), Some(error)) => Err(error),
            (Err(error), _) => Err(match error.errno() {
                Some(errno) => NftError::Refused {
                    first: Box::new(Refusal { verb: Verb::Read, object: object.clone(), errno, text: None }),
                    others: Vec::new(),
                },
                None => error,
            }),
        }
    }
}
