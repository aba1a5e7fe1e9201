//! Kubernetes label selectors. Never the labels themselves.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How an expression compares (Kubernetes `LabelSelectorRequirement`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SelectorOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or is not there.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectorExpression {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: SelectorOperator,
    /// With what; empty for `Exists` and `DoesNotExist`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// A label selector as Kubernetes writes it: all conditions must hold; without any it selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels and the values they must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<SelectorExpression>,
}

impl LabelSelector {
    /// Whether it selects something with these labels.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let expression = |expression: &SelectorExpression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|value| expression.values.contains(value));
            match expression.operator {
                SelectorOperator::In => listed,
                SelectorOperator::NotIn => !listed,
                SelectorOperator::Exists => value.is_some(),
                SelectorOperator::DoesNotExist => value.is_none(),
            }
        };
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(expression)
    }

    /// What is wrong with it, if anything: an expression whose operator and number of values do not go together.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.match_expressions.iter().find_map(|expression| {
            let wants_values = matches!(expression.operator, SelectorOperator::In | SelectorOperator::NotIn);
            let (key, operator) = (&expression.key, expression.operator);
            match (wants_values, expression.values.is_empty()) {
                (true, true) => Some(format!("{key}: {operator:?} needs values; write at least one")),
                (false, false) => Some(format!("{key}: {operator:?} takes no values; remove them")),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_must_hold_and_none_selects_everything() {
        let labels: BTreeMap<_, _> = [("zone", "a"), ("gpu", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let selects = |json: &str| serde_json::from_str::<LabelSelector>(json).unwrap().matches(&labels);
        assert!(selects("{}"));
        assert!(selects(r#"{"matchLabels": {"zone": "a"}}"#));
        assert!(!selects(r#"{"matchLabels": {"zone": "b"}}"#));
        assert!(selects(r#"{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}"#));
        assert!(!selects(r#"{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}"#));
        assert!(selects(r#"{"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["a"]}]}"#));
        assert!(selects(r#"{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}"#));
        assert!(!selects(
            r#"{"matchLabels": {"zone": "a"}, "matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}"#
        ));
    }
}
