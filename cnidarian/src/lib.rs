//! A pluggable multi-backend CNI as a library: one feature per backend, and a node to embed.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what a node is opened with, read from a document and checked |

#![forbid(unsafe_code)]

pub mod config;
