//! Why a policy command could not answer. Never that an answer is bad: that is the exit code.

use crate::client::AskError;
use cni_core::policy::evaluate::{InvalidParty, NoSuchPort, UnknownParty};
use testlab::cases::CasesError;

/// A command that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error(transparent)]
    Manifests(#[from] cni_core::store::Error),
    #[error(transparent)]
    Cases(#[from] CasesError),
    #[error("{text:?} is no {what}; write {right}")]
    Text { text: String, what: &'static str, right: &'static str },
    #[error(transparent)]
    Party(#[from] InvalidParty),
    #[error(transparent)]
    Port(#[from] NoSuchPort),
    #[error(transparent)]
    Unknown(#[from] UnknownParty),
    #[error("{paths}: no manifest in it; name files or directories of .yaml, .yml or .json files")]
    Nothing { paths: String },
    #[error("{pods} pods make too many pairs; choose some with --namespace")]
    TooMany { pods: usize },
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}
