//! Attribute numbers of expressions, `include/uapi/linux/netfilter/nf_tables.h`. Both directions of the codec use them.

pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;
pub(super) const LIST_ELEM: u16 = 1;

pub(super) const IMMEDIATE_DREG: u16 = 1;
pub(super) const IMMEDIATE_DATA: u16 = 2;

pub(super) const META_DREG: u16 = 1;
pub(super) const META_KEY: u16 = 2;
pub(super) const META_SREG: u16 = 3;

pub(super) const PAYLOAD_DREG: u16 = 1;
pub(super) const PAYLOAD_BASE: u16 = 2;
pub(super) const PAYLOAD_OFFSET: u16 = 3;
pub(super) const PAYLOAD_LEN: u16 = 4;
pub(super) const PAYLOAD_SREG: u16 = 5;
pub(super) const PAYLOAD_CSUM_TYPE: u16 = 6;
pub(super) const PAYLOAD_CSUM_OFFSET: u16 = 7;
pub(super) const PAYLOAD_CSUM_FLAGS: u16 = 8;
/// `NFT_PAYLOAD_CSUM_INET`.
pub(super) const PAYLOAD_CSUM_INET: u32 = 1;

pub(super) const CMP_SREG: u16 = 1;
pub(super) const CMP_OP: u16 = 2;
pub(super) const CMP_DATA: u16 = 3;

pub(super) const RANGE_SREG: u16 = 1;
pub(super) const RANGE_OP: u16 = 2;
pub(super) const RANGE_FROM_DATA: u16 = 3;
pub(super) const RANGE_TO_DATA: u16 = 4;

pub(super) const BITWISE_SREG: u16 = 1;
pub(super) const BITWISE_DREG: u16 = 2;
pub(super) const BITWISE_LEN: u16 = 3;
pub(super) const BITWISE_MASK: u16 = 4;
pub(super) const BITWISE_XOR: u16 = 5;
pub(super) const BITWISE_OP: u16 = 6;

pub(super) const LOOKUP_SET: u16 = 1;
pub(super) const LOOKUP_SREG: u16 = 2;
pub(super) const LOOKUP_DREG: u16 = 3;
pub(super) const LOOKUP_SET_ID: u16 = 4;
pub(super) const LOOKUP_FLAGS: u16 = 5;
/// `NFT_LOOKUP_F_INV`.
pub(super) const LOOKUP_INVERTED: u32 = 1;
/// `NFT_REG_VERDICT`.
pub(super) const REG_VERDICT: u32 = 0;

pub(super) const CT_DREG: u16 = 1;
pub(super) const CT_KEY: u16 = 2;
pub(super) const CT_DIRECTION: u16 = 3;
pub(super) const CT_SREG: u16 = 4;

pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;

pub(super) const LOG_GROUP: u16 = 1;
pub(super) const LOG_PREFIX: u16 = 2;
pub(super) const LOG_SNAPLEN: u16 = 3;
pub(super) const LOG_QTHRESHOLD: u16 = 4;
pub(super) const LOG_LEVEL: u16 = 5;

pub(super) const LIMIT_RATE: u16 = 1;
pub(super) const LIMIT_UNIT: u16 = 2;
pub(super) const LIMIT_BURST: u16 = 3;
pub(super) const LIMIT_TYPE: u16 = 4;
pub(super) const LIMIT_FLAGS: u16 = 5;
/// `NFT_LIMIT_F_INV`.
pub(super) const LIMIT_OVER: u32 = 1;

pub(super) const MASQ_FLAGS: u16 = 1;
pub(super) const MASQ_REG_PROTO_MIN: u16 = 2;
pub(super) const MASQ_REG_PROTO_MAX: u16 = 3;

pub(super) const NAT_TYPE: u16 = 1;
pub(super) const NAT_FAMILY: u16 = 2;
pub(super) const NAT_REG_ADDR_MIN: u16 = 3;
pub(super) const NAT_REG_ADDR_MAX: u16 = 4;
pub(super) const NAT_REG_PROTO_MIN: u16 = 5;
pub(super) const NAT_REG_PROTO_MAX: u16 = 6;
pub(super) const NAT_FLAGS: u16 = 7;

pub(super) const FIB_DREG: u16 = 1;
pub(super) const FIB_RESULT: u16 = 2;
pub(super) const FIB_FLAGS: u16 = 3;

pub(super) const NUMGEN_DREG: u16 = 1;
pub(super) const NUMGEN_MODULUS: u16 = 2;
pub(super) const NUMGEN_TYPE: u16 = 3;
pub(super) const NUMGEN_OFFSET: u16 = 4;
/// `NFT_NG_RANDOM`.
pub(super) const NUMGEN_RANDOM: u32 = 1;

pub(super) const HASH_SREG: u16 = 1;
pub(super) const HASH_DREG: u16 = 2;
pub(super) const HASH_LEN: u16 = 3;
pub(super) const HASH_MODULUS: u16 = 4;
pub(super) const HASH_SEED: u16 = 5;
pub(super) const HASH_OFFSET: u16 = 6;
pub(super) const HASH_TYPE: u16 = 7;
/// `NFT_HASH_JENKINS`.
pub(super) const HASH_JENKINS: u32 = 0;

pub(super) const REJECT_TYPE: u16 = 1;
pub(super) const REJECT_ICMP_CODE: u16 = 2;
/// `enum nft_reject_types`.
pub(super) const REJECT_ICMP: u32 = 0;
pub(super) const REJECT_TCP_RESET: u32 = 1;
pub(super) const REJECT_ICMPX: u32 = 2;
