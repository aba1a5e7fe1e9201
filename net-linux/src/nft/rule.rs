//! Rules: expressions in a chain, with a comment that carries our id. Never what they mean for a packet.

use super::{ChainId, Comment, Expr, Family, Name, TableId, expr_read, expr_write, userdata};
use crate::nfnetlink::{Malformed, Message, Writer};

pub(super) const TABLE: u16 = 1;
pub(super) const CHAIN: u16 = 2;
pub(super) const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
pub(super) const POSITION: u16 = 6;
const USERDATA: u16 = 7;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub chain: ChainId,
    /// What it does, in order. See [`super::Program`] for building it.
    pub exprs: Vec<Expr>,
    /// Carries our id of the rule.
    pub comment: Option<Comment>,
}

impl Rule {
    /// A rule.
    #[must_use]
    pub fn new(chain: ChainId, exprs: impl Into<Vec<Expr>>) -> Self {
        Self { chain, exprs: exprs.into(), comment: None }
    }

    /// The same with a comment.
    #[must_use]
    pub fn commented(self, comment: Comment) -> Self {
        Self { comment: Some(comment), ..self }
    }

    /// The same without what changes by itself: counters at zero. For comparing wanted with present.
    #[must_use]
    pub fn at_rest(mut self) -> Self {
        self.exprs = self.exprs.into_iter().map(Expr::at_rest).collect();
        self
    }

    pub(super) fn write(&self, w: &mut Writer) {
        expr_write::write_list(w, EXPRESSIONS, &self.exprs);
        if let Some(comment) = &self.comment {
            w.bytes(USERDATA, &userdata::comment(userdata::COMMENT, comment));
        }
    }
}

pub(super) fn write_chain(w: &mut Writer, chain: &ChainId) {
    w.text(TABLE, chain.table.name.as_str());
    w.text(CHAIN, chain.name.as_str());
}

/// Reads a rule and its handle; `None` for a family that this module does not know.
pub(super) fn read(message: &Message<'_>) -> Result<Option<(u64, Rule)>, Malformed> {
    let Some(family) = Family::from_number(message.family()?) else { return Ok(None) };
    let (mut table, mut chain, mut handle, mut exprs, mut comment) = (None, None, 0, Vec::new(), None);
    for attr in message.attributes() {
        let attr = attr?;
        match attr.kind {
            TABLE => table = Some(Name::known(&attr.text())),
            CHAIN => chain = Some(Name::known(&attr.text())),
            HANDLE => handle = attr.u64()?,
            EXPRESSIONS => exprs = expr_read::read_list(attr)?,
            USERDATA => comment = userdata::find_comment(userdata::COMMENT, attr.value),
            _ => {}
        }
    }
    let wrong = Malformed::new("nftables rule");
    let chain = TableId { family, name: table.ok_or(wrong)? }.chain(chain.ok_or(wrong)?);
    Ok(Some((handle, Rule { chain, exprs, comment })))
}
