//! Tables: the unit of ownership. Never their contents.

use super::{Comment, Family, Name, TableId, userdata};
use crate::nfnetlink::{Malformed, Message, Writer};

const NAME: u16 = 1;
const FLAGS: u16 = 2;
const HANDLE: u16 = 4;
const USERDATA: u16 = 6;
/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Which.
    pub id: TableId,
    /// Its base chains see no packets.
    pub dormant: bool,
    /// Who made it and why. Can only be set when the table is made.
    pub comment: Option<Comment>,
}

impl Table {
    /// A table without comment.
    #[must_use]
    pub const fn new(id: TableId) -> Self {
        Self { id, dormant: false, comment: None }
    }

    pub(super) fn write(&self, w: &mut Writer) {
        write_id(w, &self.id);
        w.u32(FLAGS, if self.dormant { DORMANT } else { 0 });
        if let Some(comment) = &self.comment {
            w.bytes(USERDATA, &userdata::comment(userdata::COMMENT, comment));
        }
    }
}

pub(super) fn write_id(w: &mut Writer, id: &TableId) {
    w.text(NAME, id.name.as_str());
}

/// Reads a table and its handle; `None` for a family that this module does not know.
pub(super) fn read(message: &Message<'_>) -> Result<Option<(u64, Table)>, Malformed> {
    let Some(family) = Family::from_number(message.family()?) else { return Ok(None) };
    let (mut name, mut flags, mut handle, mut comment) = (None, 0, 0, None);
    for attr in message.attributes() {
        let attr = attr?;
        match attr.kind {
            NAME => name = Some(Name::known(&attr.text())),
            FLAGS => flags = attr.u32()?,
            HANDLE => handle = attr.u64()?,
            USERDATA => comment = userdata::find_comment(userdata::COMMENT, attr.value),
            _ => {}
        }
    }
    let name = name.ok_or(Malformed::new("nftables table"))?;
    Ok(Some((handle, Table { id: TableId { family, name }, dormant: flags & DORMANT != 0, comment })))
}
