//! Hears what everybody changes in nftables. Never says what to do about it.

use super::batch::SUBSYSTEM;
use super::{Family, Name, NftError, TableId};
use crate::nfnetlink::{Message, NfSocket};
use crate::sys;
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// `NFNLGRP_NFTABLES` of `include/uapi/linux/netfilter/nfnetlink.h`.
const GROUP: u32 = 7;
/// First attribute of each kind of object: the name of its table.
const TABLE: u16 = 1;
/// A chain's name; the chain of a rule, the name of a set, the set of elements.
const CHAIN_NAME: u16 = 3;
const NAME: u16 = 2;

/// What kind of object was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The table itself.
    Table,
    /// A chain.
    Chain,
    /// A rule.
    Rule,
    /// A set or map.
    Set,
    /// Elements of a set or map.
    Elements,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NftChange {
    /// In which table.
    pub table: TableId,
    /// What.
    pub kind: ObjectKind,
    /// Its name: of a rule, that of its chain; of elements, that of their set; of a table, none.
    pub name: Option<Name>,
    /// It is gone.
    pub removed: bool,
    /// Netlink port of who did it: compare with [`super::Nft::port`].
    pub port: u32,
}

/// What a watch hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NftEvent {
    /// Somebody changed an object.
    Changed(NftChange),
    /// More happened than fits into the socket's buffer: some of it will never be heard of. Read everything again.
    Lost,
}

/// A socket that hears every change of nftables in the network namespace of the thread that opened it.
///
/// Changes that were made before it was opened are not heard: open it, then read.
pub struct NftWatch {
    socket: NfSocket,
    /// Registered with the runtime when first waited on.
    ready: Option<AsyncFd<OwnedFd>>,
}

impl NftWatch {
    /// Begins to listen. Needs no runtime yet.
    ///
    /// # Errors
    /// [`NftError::Socket`].
    pub fn open() -> Result<Self, NftError> {
        let socket = NfSocket::subscribe(GROUP).map_err(|source| NftError::Socket { operation: "watch", source })?;
        Ok(Self { socket, ready: None })
    }

    /// What was heard so far, without waiting; nothing when there is nothing.
    ///
    /// # Errors
    /// [`NftError::Socket`].
    pub fn read(&mut self) -> Result<Vec<NftEvent>, NftError> {
        let mut events = Vec::new();
        loop {
            match self.socket.notifications(|message| events.extend(change(message).map(NftEvent::Changed))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => events.push(NftEvent::Lost),
                Err(source) => return Err(NftError::Socket { operation: "watch", source }),
            }
        }
    }

    /// Waits until something is heard. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`NftError::Socket`].
    pub async fn next(&mut self) -> Result<Vec<NftEvent>, NftError> {
        let failed = |source| NftError::Socket { operation: "watch", source };
        loop {
            let events = self.read()?;
            if !events.is_empty() {
                return Ok(events);
            }
            let ready = match &mut self.ready {
                Some(ready) => ready,
                none => {
                    let fd = self.socket.as_fd().try_clone_to_owned().map_err(failed)?;
                    none.insert(sys::ready::register(fd).map_err(failed)?)
                }
            };
            ready.readable().await.map_err(failed)?.clear_ready();
            // What came between the read above and the wait is read next time round: readiness was cleared before that.
        }
    }
}

impl NftWatch {
    /// Waits until somebody else than the socket with this port changed something in a table, that is ours by its name (`None`: the
    /// table itself), or until nobody knows whether. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`NftError::Socket`].
    pub async fn changed_by_others(
        &mut self,
        table: &TableId,
        own_port: u32,
        is_ours: impl Fn(Option<&Name>) -> bool + Send,
    ) -> Result<(), NftError> {
        let concerns = |event: &NftEvent| match event {
            NftEvent::Changed(change) => {
                change.table == *table && change.port != own_port && is_ours(change.name.as_ref())
            }
            NftEvent::Lost => true,
        };
        while !self.next().await?.iter().any(concerns) {}
        Ok(())
    }
}

impl AsFd for NftWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn change(message: &Message<'_>) -> Option<NftChange> {
    if message.kind & 0xff00 != SUBSYSTEM {
        return None;
    }
    // `enum nf_tables_msg_types`: new and deleted of each kind; the new generation at the end of a batch says nothing more.
    let (kind, removed) = match message.kind & 0xff {
        0 => (ObjectKind::Table, false),
        2 => (ObjectKind::Table, true),
        3 => (ObjectKind::Chain, false),
        5 => (ObjectKind::Chain, true),
        6 => (ObjectKind::Rule, false),
        8 => (ObjectKind::Rule, true),
        9 => (ObjectKind::Set, false),
        11 => (ObjectKind::Set, true),
        12 => (ObjectKind::Elements, false),
        14 => (ObjectKind::Elements, true),
        _ => return None,
    };
    let family = Family::from_number(message.family().ok()?)?;
    let name = message.attributes().flatten().find(|attr| attr.kind == TABLE)?;
    let table = TableId { family, name: Name::known(&name.text()) };
    let named = match kind {
        ObjectKind::Table => None,
        ObjectKind::Chain => Some(CHAIN_NAME),
        ObjectKind::Rule | ObjectKind::Set | ObjectKind::Elements => Some(NAME),
    };
    let name = named.and_then(|kind| message.attributes().flatten().find(|attr| attr.kind == kind));
    let name = name.map(|name| Name::known(&name.text()));
    Some(NftChange { table, kind, name, removed, port: message.port })
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Chain, Element, Field, Key, Nft, Program, Rule, Set, Table};
    use super::*;
    use crate::netns::NetNs;
    use std::time::Duration;

    #[test]
    fn changes_are_heard_with_who_made_them() {
        let namespace = NetNs::new().unwrap();
        let table = TableId::new(Family::Inet, Name::known("watched"));
        namespace
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let mut watch = NftWatch::open().unwrap();
                assert!(watch.read().unwrap().is_empty());
                let mut nft = Nft::open().unwrap();
                let heard = runtime.block_on(async {
                    let waiting = tokio::time::timeout(Duration::from_secs(10), watch.next());
                    let (heard, ()) = tokio::join!(waiting, async {
                        tokio::task::yield_now().await;
                        let mut batch = Batch::new();
                        batch.add_table(&Table::new(table.clone()));
                        nft.commit(&batch).unwrap();
                    });
                    heard.unwrap().unwrap()
                });
                let kind = ObjectKind::Table;
                let made = NftChange { table: table.clone(), kind, name: None, removed: false, port: nft.port() };
                assert_eq!(heard, [NftEvent::Changed(made.clone())]);
                let mut batch = Batch::new();
                let chain = table.chain(Name::known("c"));
                batch.add_chain(&Chain::regular(chain.clone()));
                batch.add_rule(&Rule::new(chain.clone(), Program::new().counter()));
                let set = Set::new(table.set(Name::known("s")), [Field::InetProto]);
                batch.add_set(&set);
                batch.add_elements(&set, &[Element::new(Key::One(vec![6]))]);
                nft.commit(&batch).unwrap();
                let named: Vec<_> = watch
                    .read()
                    .unwrap()
                    .into_iter()
                    .map(|event| match event {
                        NftEvent::Changed(change) => (change.kind, change.name.unwrap().to_string()),
                        NftEvent::Lost => panic!("four changes fit"),
                    })
                    .collect();
                let expected = [ObjectKind::Chain, ObjectKind::Rule, ObjectKind::Set, ObjectKind::Elements]
                    .into_iter()
                    .zip(["c", "c", "s", "s"]);
                assert_eq!(named, expected.map(|(kind, name)| (kind, name.to_owned())).collect::<Vec<_>>());
                let mut batch = Batch::new();
                batch.flush_chain(&chain);
                batch.delete_chain(&chain);
                batch.delete_set(&set.id);
                nft.commit(&batch).unwrap();
                watch.read().unwrap();
                let mut batch = Batch::new();
                batch.delete_table(&table);
                nft.commit(&batch).unwrap();
                assert_eq!(watch.read().unwrap(), [NftEvent::Changed(NftChange { removed: true, ..made })]);
            })
            .unwrap();
    }
}
