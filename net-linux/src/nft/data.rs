//! Constants and verdicts as the kernel nests them (`NFTA_DATA_*`). Never which register they go to.

use super::{Name, Verdict};
use crate::nfnetlink::{Attr, Malformed, Writer};

const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// `enum nft_verdicts`, and `NF_DROP` and `NF_ACCEPT` of `include/uapi/linux/netfilter.h`.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const CONTINUE: i32 = -1;
const BREAK: i32 = -2;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// What a map gives for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Data {
    /// Bytes.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

impl Verdict {
    fn code(&self) -> i32 {
        match self {
            Self::Accept => ACCEPT,
            Self::Drop => DROP,
            Self::Continue => CONTINUE,
            Self::Break => BREAK,
            Self::Jump(_) => JUMP,
            Self::Goto(_) => GOTO,
            Self::Return => RETURN,
            Self::Other(code) => *code,
        }
    }
}

/// Writes the attribute `kind` that holds a value.
pub(super) fn write_value(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nest(kind, |writer| writer.bytes(NFTA_DATA_VALUE, value));
}

/// Writes the attribute `kind` that holds a verdict.
pub(super) fn write_verdict(writer: &mut Writer, kind: u16, verdict: &Verdict) {
    writer.nest(kind, |writer| {
        writer.nest(NFTA_DATA_VERDICT, |writer| {
            writer.bytes(NFTA_VERDICT_CODE, &verdict.code().to_be_bytes());
            if let Verdict::Jump(chain) | Verdict::Goto(chain) = verdict {
                writer.text(NFTA_VERDICT_CHAIN, chain.as_str());
            }
        });
    });
}

/// Writes the attribute `kind` that holds either.
pub(super) fn write(writer: &mut Writer, kind: u16, data: &Data) {
    match data {
        Data::Value(value) => write_value(writer, kind, value),
        Data::Verdict(verdict) => write_verdict(writer, kind, verdict),
    }
}

/// Reads either.
pub(super) fn read(attr: Attr<'_>) -> Result<Data, Malformed> {
    for attr in attr.nested() {
        let attr = attr?;
        match attr.kind {
            NFTA_DATA_VALUE => return Ok(Data::Value(attr.value.to_vec())),
            NFTA_DATA_VERDICT => return read_verdict(attr).map(Data::Verdict),
            _ => {}
        }
    }
    Err(Malformed::new("nftables data"))
}

/// Reads a value.
pub(super) fn read_value(attr: Attr<'_>) -> Result<Vec<u8>, Malformed> {
    match read(attr)? {
        Data::Value(value) => Ok(value),
        Data::Verdict(_) => Err(Malformed::new("nftables value")),
    }
}

fn read_verdict(attr: Attr<'_>) -> Result<Verdict, Malformed> {
    let (mut code, mut chain) = (None, None);
    for attr in attr.nested() {
        let attr = attr?;
        match attr.kind {
            NFTA_VERDICT_CODE => code = Some(attr.u32()?.cast_signed()),
            NFTA_VERDICT_CHAIN => chain = Some(Name::known(&attr.text())),
            _ => {}
        }
    }
    let wrong = Malformed::new("nftables verdict");
    Ok(match code.ok_or(wrong)? {
        ACCEPT => Verdict::Accept,
        DROP => Verdict::Drop,
        CONTINUE => Verdict::Continue,
        BREAK => Verdict::Break,
        JUMP => Verdict::Jump(chain.ok_or(wrong)?),
        GOTO => Verdict::Goto(chain.ok_or(wrong)?),
        RETURN => Verdict::Return,
        other => Verdict::Other(other),
    })
}
