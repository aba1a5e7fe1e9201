//! Which nodes something is for: Calico's expressions (`role == "rr"`) or Kubernetes' label selectors, as policies have
//! them. Never the labels themselves.

use cni_core::model::{Attributes, LabelSelector};
use cni_core::policy::dialect::calico::endpoint_selector;
use cni_core::policy::model::{Identity, Selector, WorkloadKind};
use cni_core::strict::{StrictError, from_value};
use serde_json::Value;
use std::sync::Arc;

/// A condition on the labels of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeSelector {
    /// Every node.
    All,
    /// As Kubernetes writes it.
    Labels(LabelSelector),
    /// As Calico writes it.
    Expression(Selector),
}

impl NodeSelector {
    /// Reads a text or a map.
    ///
    /// # Errors
    /// [`StrictError`] with the path and what would be right.
    pub fn read(path: &str, value: &Value) -> Result<Self, StrictError> {
        let wrong = |problem: String| StrictError { path: path.to_owned(), problem };
        match value {
            Value::String(text) => {
                endpoint_selector(text).map(Self::Expression).map_err(|error| wrong(error.to_string()))
            }
            Value::Object(_) => {
                let selector: LabelSelector = from_value(value.clone(), path)?;
                match selector.problem() {
                    Some(problem) => Err(wrong(problem)),
                    None => Ok(Self::Labels(selector)),
                }
            }
            other => Err(wrong(format!("is {other}; write an expression such as \"role == 'rr'\", or matchLabels"))),
        }
    }

    /// Whether a node with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &Attributes) -> bool {
        match self {
            Self::All => true,
            Self::Labels(selector) => {
                selector.matches(&labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
            }
            Self::Expression(selector) => {
                let labels = labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
                selector.matches(&Identity { labels: Arc::new(labels), ..Identity::new(WorkloadKind::Node) })
            }
        }
    }
}
