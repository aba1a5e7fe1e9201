//! Expressions to attributes. Total: every [`Expr`] can be written; whether it makes sense is the kernel's to say.

use super::data::{write_value, write_verdict};
use super::expr_attrs::*;
use super::{Base, Cmp, CtDirection, Expr, FibResult, Limit, Log, LogTarget, Nat, NatFlags, Reg, Reject, SetUse};
use crate::nfnetlink::Writer;

/// Writes the list `kind` of all expressions of a rule.
pub(super) fn write_list(writer: &mut Writer, kind: u16, exprs: &[Expr]) {
    writer.nest(kind, |writer| {
        for expr in exprs {
            writer.nest(LIST_ELEM, |writer| {
                writer.text(EXPR_NAME, expr.name());
                writer.nest(EXPR_DATA, |writer| write_one(writer, expr));
            });
        }
    });
}

impl Expr {
    /// The kernel's name of the expression.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } | Self::PayloadSet { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } | Self::Map { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Counter { .. } => "counter",
            Self::Log(_) => "log",
            Self::Limit(_) => "limit",
            Self::Masquerade { .. } => "masq",
            Self::Nat(_) => "nat",
            Self::Fib { .. } => "fib",
            Self::Random { .. } => "numgen",
            Self::Hash { .. } => "hash",
            Self::NoTrack => "notrack",
            Self::Reject(_) => "reject",
            Self::Other { name, .. } => name,
        }
    }
}

fn write_one(w: &mut Writer, expr: &Expr) {
    match expr {
        Expr::Immediate { dreg, value } => {
            w.u32(IMMEDIATE_DREG, dreg.number());
            write_value(w, IMMEDIATE_DATA, value);
        }
        Expr::Verdict(verdict) => {
            w.u32(IMMEDIATE_DREG, REG_VERDICT);
            write_verdict(w, IMMEDIATE_DATA, verdict);
        }
        Expr::Meta { key, dreg } => {
            w.u32(META_KEY, key.number());
            w.u32(META_DREG, dreg.number());
        }
        Expr::MetaSet { key, sreg } => {
            w.u32(META_KEY, key.number());
            w.u32(META_SREG, sreg.number());
        }
        Expr::Payload { field, dreg } => {
            w.u32(PAYLOAD_DREG, dreg.number());
            w.u32(PAYLOAD_BASE, base_number(field.base));
            w.u32(PAYLOAD_OFFSET, field.offset);
            w.u32(PAYLOAD_LEN, field.length);
        }
        Expr::PayloadSet { field, sreg, checksum } => {
            w.u32(PAYLOAD_SREG, sreg.number());
            w.u32(PAYLOAD_BASE, base_number(field.base));
            w.u32(PAYLOAD_OFFSET, field.offset);
            w.u32(PAYLOAD_LEN, field.length);
            if let Some(offset) = checksum {
                w.u32(PAYLOAD_CSUM_TYPE, PAYLOAD_CSUM_INET);
                w.u32(PAYLOAD_CSUM_OFFSET, *offset);
            }
        }
        Expr::Cmp { sreg, op, value } => {
            w.u32(CMP_SREG, sreg.number());
            w.u32(CMP_OP, cmp_number(*op));
            write_value(w, CMP_DATA, value);
        }
        Expr::Range { sreg, inverted, from, to } => {
            w.u32(RANGE_SREG, sreg.number());
            w.u32(RANGE_OP, u32::from(*inverted));
            write_value(w, RANGE_FROM_DATA, from);
            write_value(w, RANGE_TO_DATA, to);
        }
        Expr::Bitwise { sreg, dreg, mask, xor } => {
            w.u32(BITWISE_SREG, sreg.number());
            w.u32(BITWISE_DREG, dreg.number());
            w.u32(BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX));
            write_value(w, BITWISE_MASK, mask);
            write_value(w, BITWISE_XOR, xor);
        }
        Expr::Lookup { set, sreg, inverted } => {
            write_lookup(w, set, *sreg, None);
            if *inverted {
                w.u32(LOOKUP_FLAGS, LOOKUP_INVERTED);
            }
        }
        Expr::Map { set, sreg, dreg } => write_lookup(w, set, *sreg, Some(dreg.number())),
        Expr::VerdictMap { set, sreg } => write_lookup(w, set, *sreg, Some(REG_VERDICT)),
        Expr::Ct { key, dreg, direction } => {
            w.u32(CT_KEY, key.number());
            w.u32(CT_DREG, dreg.number());
            write_direction(w, *direction);
        }
        Expr::CtSet { key, sreg, direction } => {
            w.u32(CT_KEY, key.number());
            w.u32(CT_SREG, sreg.number());
            write_direction(w, *direction);
        }
        Expr::Counter { packets, bytes } => {
            w.u64(COUNTER_BYTES, *bytes);
            w.u64(COUNTER_PACKETS, *packets);
        }
        Expr::Log(log) => write_log(w, log),
        Expr::Limit(limit) => write_limit(w, limit),
        Expr::Masquerade { flags, ports } => {
            write_flags(w, MASQ_FLAGS, *flags);
            write_pair(w, MASQ_REG_PROTO_MIN, MASQ_REG_PROTO_MAX, *ports);
        }
        Expr::Nat(nat) => write_nat(w, nat),
        Expr::Fib { dreg, result, flags } => {
            w.u32(FIB_DREG, dreg.number());
            w.u32(FIB_RESULT, fib_number(*result));
            w.u32(FIB_FLAGS, *flags);
        }
        Expr::Random { dreg, modulus } => {
            w.u32(NUMGEN_DREG, dreg.number());
            w.u32(NUMGEN_MODULUS, *modulus);
            w.u32(NUMGEN_TYPE, NUMGEN_RANDOM);
        }
        Expr::Hash { sreg, bytes, dreg, modulus, seed } => {
            w.u32(HASH_SREG, sreg.number());
            w.u32(HASH_DREG, dreg.number());
            w.u32(HASH_LEN, *bytes);
            w.u32(HASH_MODULUS, *modulus);
            w.u32(HASH_SEED, *seed);
            w.u32(HASH_TYPE, HASH_JENKINS);
        }
        Expr::NoTrack => {}
        Expr::Reject(reject) => match reject {
            Reject::Icmp(code) => {
                w.u32(REJECT_TYPE, REJECT_ICMP);
                w.u8(REJECT_ICMP_CODE, *code);
            }
            Reject::TcpReset => w.u32(REJECT_TYPE, REJECT_TCP_RESET),
            Reject::Icmpx(code) => {
                w.u32(REJECT_TYPE, REJECT_ICMPX);
                w.u8(REJECT_ICMP_CODE, *code);
            }
        },
        Expr::Other { data, .. } => w.bytes.extend_from_slice(data),
    }
}

fn write_lookup(w: &mut Writer, set: &SetUse, sreg: Reg, dreg: Option<u32>) {
    match set {
        SetUse::Named(name) => w.text(LOOKUP_SET, name.as_str()),
        SetUse::Anonymous(id) => {
            w.text(LOOKUP_SET, super::set::ANONYMOUS_NAME);
            w.u32(LOOKUP_SET_ID, *id);
        }
    }
    w.u32(LOOKUP_SREG, sreg.number());
    if let Some(dreg) = dreg {
        w.u32(LOOKUP_DREG, dreg);
    }
}

fn write_direction(w: &mut Writer, direction: Option<CtDirection>) {
    match direction {
        None => {}
        Some(CtDirection::Original) => w.u8(CT_DIRECTION, 0),
        Some(CtDirection::Reply) => w.u8(CT_DIRECTION, 1),
    }
}

fn write_log(w: &mut Writer, log: &Log) {
    if let Some(prefix) = &log.prefix {
        w.text(LOG_PREFIX, prefix);
    }
    match log.target {
        LogTarget::Kernel { level } => w.u32(LOG_LEVEL, level),
        LogTarget::Group { group, snap_bytes, queue_threshold } => {
            w.u16(LOG_GROUP, group);
            if snap_bytes != 0 {
                w.u32(LOG_SNAPLEN, snap_bytes);
            }
            if queue_threshold != 0 {
                w.u16(LOG_QTHRESHOLD, queue_threshold);
            }
        }
    }
}

fn write_limit(w: &mut Writer, limit: &Limit) {
    w.u64(LIMIT_RATE, limit.rate);
    w.u64(LIMIT_UNIT, limit.unit_seconds);
    w.u32(LIMIT_BURST, limit.burst);
    w.u32(LIMIT_TYPE, u32::from(limit.bytes));
    w.u32(LIMIT_FLAGS, if limit.over { LIMIT_OVER } else { 0 });
}

fn write_nat(w: &mut Writer, nat: &Nat) {
    w.u32(NAT_TYPE, u32::from(nat.destination));
    w.u32(NAT_FAMILY, nat.family);
    write_pair(w, NAT_REG_ADDR_MIN, NAT_REG_ADDR_MAX, nat.address);
    write_pair(w, NAT_REG_PROTO_MIN, NAT_REG_PROTO_MAX, nat.port);
    write_flags(w, NAT_FLAGS, nat.flags);
}

fn write_pair(w: &mut Writer, first: u16, last: u16, pair: Option<(Reg, Reg)>) {
    if let Some((from, to)) = pair {
        w.u32(first, from.number());
        w.u32(last, to.number());
    }
}

fn write_flags(w: &mut Writer, kind: u16, flags: NatFlags) {
    if flags != NatFlags::default() {
        w.u32(kind, flags.0);
    }
}

fn base_number(base: Base) -> u32 {
    match base {
        Base::Link => 0,
        Base::Network => 1,
        Base::Transport => 2,
        Base::Other(number) => number,
    }
}

fn cmp_number(op: Cmp) -> u32 {
    match op {
        Cmp::Eq => 0,
        Cmp::Ne => 1,
        Cmp::Lt => 2,
        Cmp::Le => 3,
        Cmp::Gt => 4,
        Cmp::Ge => 5,
    }
}

fn fib_number(result: FibResult) -> u32 {
    match result {
        FibResult::Oif => 1,
        FibResult::OifName => 2,
        FibResult::AddressType => 3,
        FibResult::Other(number) => number,
    }
}
