//! What all dialects need to read fields: typed, with the path of each problem. Never the meaning of a field.

use crate::model::{LabelSelector, SelectorExpression, SelectorOperator};
use crate::policy::model::{Attribute, Effect, PortRange, Problem, Selector};
use crate::store::Object;
use crate::strict;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// Reads one object and gathers its problems.
pub(crate) struct Reader<'a> {
    /// The object.
    pub(crate) object: &'a Object,
    /// What was found wrong so far.
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(object: &'a Object) -> Self {
        Self { object, problems: Vec::new() }
    }

    /// Notes a problem.
    pub(crate) fn problem(&mut self, effect: Effect, path: impl Into<String>, detail: impl ToString) {
        let (object, path, detail) = (self.object.key.clone(), path.into(), detail.to_string());
        self.problems.push(Problem { object, path, detail, effect });
    }

    /// Reads a value strictly: unknown keys and wrong types are a problem, and `None`.
    pub(crate) fn parse<T: DeserializeOwned>(&mut self, effect: Effect, value: &Value, path: &str) -> Option<T> {
        match strict::from_value(value.clone(), path) {
            Ok(read) => Some(read),
            Err(error) => {
                self.problem(effect, error.path, error.problem);
                None
            }
        }
    }

    /// Reads a prefix. Host bits are no problem for Kubernetes: it is the prefix that counts.
    pub(crate) fn network(&mut self, effect: Effect, text: &str, path: &str) -> Option<IpNet> {
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(network.trunc());
        }
        self.problem(effect, path, format!("{text:?} is no prefix; write one as in 10.1.0.0/16 or fd00:1::/64"));
        None
    }

    /// Reads a port from `first` to `last` (both from 1 to 65535, `last` not below `first`).
    pub(crate) fn ports(&mut self, effect: Effect, first: i64, last: Option<i64>, path: &str) -> Option<PortRange> {
        let port = |number: i64| u16::try_from(number).ok().filter(|port| *port > 0);
        let Some(low) = port(first) else {
            self.problem(effect, format!("{path}.port"), format!("{first} is no port; write 1 to 65535"));
            return None;
        };
        match last.map(|last| (last, port(last))) {
            None => Some(PortRange::one(low)),
            Some((_, Some(high))) if high >= low => Some(PortRange { first: low, last: high }),
            Some((last, _)) => {
                let detail = format!("{last} is no end of a range that begins at {low}; write {low} to 65535");
                self.problem(effect, format!("{path}.endPort"), detail);
                None
            }
        }
    }

    /// Reads a label selector of Kubernetes; `attribute` says what its keys mean.
    pub(crate) fn selector(
        &mut self,
        effect: Effect,
        value: &Value,
        path: &str,
        attribute: impl Fn(&str) -> Attribute,
    ) -> Option<Selector> {
        let selector: LabelSelector = self.parse(effect, &without_nulls(value), path)?;
        if let Some(detail) = selector.problem() {
            self.problem(effect, format!("{path}.matchExpressions"), detail);
            return None;
        }
        Some(labels_of(&selector, attribute))
    }
}

/// A label selector without fields that are null: to Kubernetes, nobody wrote those.
fn without_nulls(selector: &Value) -> Value {
    let strip = |value: &mut Value| {
        if let Value::Object(map) = value {
            map.retain(|_, value| !value.is_null());
        }
    };
    let mut selector = selector.clone();
    strip(&mut selector);
    if let Some(Value::Array(expressions)) = selector.get_mut("matchExpressions") {
        expressions.iter_mut().for_each(strip);
    }
    selector
}

/// A label selector of Kubernetes as one of the model.
pub(crate) fn labels_of(selector: &LabelSelector, attribute: impl Fn(&str) -> Attribute) -> Selector {
    let value = |text: &String| Arc::from(text.as_str());
    let labels = selector.match_labels.iter().map(|(key, text)| Selector::Is(attribute(key), value(text)));
    let expression = |expression: &SelectorExpression| {
        let key = attribute(&expression.key);
        let values = || expression.values.iter().map(value).collect();
        match expression.operator {
            SelectorOperator::In => Selector::In(key, values()),
            SelectorOperator::NotIn => Selector::In(key, values()).negated(),
            SelectorOperator::Exists => Selector::Has(key),
            SelectorOperator::DoesNotExist => Selector::Has(key).negated(),
        }
    };
    let all = labels.chain(selector.match_expressions.iter().map(expression));
    all.fold(Selector::Everything, Selector::and)
}
