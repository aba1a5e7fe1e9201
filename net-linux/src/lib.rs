//! The one crate that talks to the Linux kernel for all backends. Never decides what the network should be.
//!
//! | module | what it holds |
//! |---|---|
//! | [`netlink`] | synchronous socket, batches, dumps, errors in the kernel's words |
//! | [`link`], [`addr`], [`route`], [`neigh`], [`fdb`], [`nexthop`] | typed objects of each table: write, dump |
//! | [`objects`] | batches over several tables that respect what is not ours |
//! | [`attach`] | pods: the veth and the pod's side |
//! | [`endpoint`] | pods: the host's routes and neighbours, shared by all drivers |
//! | [`host`] | a node: settings, and what we have in nftables, shared by all drivers |
//! | [`fib`] | routes learned from other routers, and the ways to their next hops |
//! | [`tc`] | eBPF programs at an interface by clsact: put there, asked for, taken off |
//! | [`monitor`] | changes of the tables, as they happen |
//! | [`netns`] | network namespaces by descriptor |
//! | [`pmtu`] | path MTU of UDP tunnels in user space |
//! | [`nft`] | nftables in the kernel's own format: typed objects, atomic batches, dumps, a watch |
//! | [`nflog`] | packets that rules log, read by group |
//! | [`sock_diag`] | sockets of processes: connected ones of UDP, and their end |
//! | [`sysctl`] | kernel parameters |
//! | [`tun`] | devices whose packets a process handles |
//! | [`ethtool`] | offload features of devices |
//! | [`conntrack`] | tracked connections: read, forget by filter |
//! | [`ipvs`] | IPVS: virtual services, destinations, counters |
//! | [`listen`] | TCP sockets at addresses that need not be there yet |
//! | [`masquerade`] | source NAT to the outside, for every backend |
//! | [`heap`] | what the allocator keeps of freed memory |
//! | [`tunnel_ends`] | whom a tunnel hears: known nodes, and never pods |
//! | [`pod_ends`] | how rules know pods' interfaces from others |
//! | [`untracked`] | outer packets of tunnels, kept out of connection tracking |
//! | [`pipe`](mod@pipe) | output that nobody reads any more |
//! | [`probe`] | what a kernel can do for every backend of the host's stack |
//! | [`marks`] | every mark by which we know our own kernel objects again |
//! | [`marked`] | all that carries one, to be taken away |
//!
//! Everything acts in the network namespace of the calling thread, or in the one it is given.

#![deny(unsafe_code)]

pub mod addr;
pub mod attach;
pub mod conntrack;
pub mod endpoint;
pub mod ethtool;
pub mod fdb;
pub mod fib;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod heap;
pub mod host;
pub mod ipvs;
pub mod link;
pub mod listen;
pub mod marked;
pub mod marks;
pub mod masquerade;
pub mod monitor;
pub mod neigh;
pub mod netlink;
pub mod netns;
pub mod nexthop;
pub mod nflog;
mod nfnetlink;
pub mod nft;
pub mod objects;
pub mod pipe;
pub mod pmtu;
pub mod pod_ends;
pub mod probe;
pub mod route;
pub mod sock_diag;
#[allow(unsafe_code)]
mod sys;
pub mod sysctl;
pub mod tc;
pub mod tun;
pub mod tunnel_ends;
pub mod untracked;

pub use sys::ready;
