//! Calico's Tier. Never its policies.

use super::VERSIONS;
use crate::policy::dialect::fields::present;
use crate::policy::dialect::{Reader, Reading};
use crate::policy::model::{Effect, Order, Tier, TierEnd};
use crate::store::Object;
use serde_json::Value;

/// A tier that cannot be read is none, so that its policies close their subjects.
const LEFT_OUT: Effect = Effect::LeftOut;

/// Names that only we give.
const RESERVED: &str = "cnidarian-";

pub(super) fn read(object: &Object) -> Reading {
    let mut reader = Reader::new(object);
    let mark = reader.mark();
    if !VERSIONS.contains(&object.key.kind.api_version()) {
        let detail =
            format!("{} is no version that is read here; write {}", object.key.kind.api_version(), VERSIONS[0]);
        reader.problem(LEFT_OUT, "apiVersion", detail);
    }
    if object.key.name.starts_with(RESERVED) {
        reader.problem(LEFT_OUT, "metadata.name", format!("names that begin with {RESERVED} are reserved"));
    }
    let spec = object.fields.get("spec").filter(|spec| !spec.is_null());
    let spec = spec.and_then(|spec| reader.item(LEFT_OUT, spec, "spec", &["order", "defaultAction"]));
    let field = |key| spec.and_then(|spec| present(spec, key));
    let order = field("order").map_or(Some(Order::LAST), |value| order(&mut reader, LEFT_OUT, value, "spec.order"));
    let actions = [("Deny", TierEnd::Deny), ("Pass", TierEnd::Pass)];
    let end = field("defaultAction")
        .map_or(Some(TierEnd::Deny), |value| reader.word(LEFT_OUT, value, "spec.defaultAction", &actions));
    let built_in = Tier::built_in().into_iter().find(|tier| tier.name == object.key.name);
    let tier =
        Tier { name: object.key.name.clone(), order: order.unwrap_or(Order::LAST), end: end.unwrap_or(TierEnd::Deny) };
    if let Some(built_in) = built_in
        && built_in.order != tier.order
    {
        reader.problem(
            LEFT_OUT,
            "spec.order",
            "this tier is built in, and its order cannot be changed; leave it as it is",
        );
    }
    let tiers = if reader.sound_since(mark) { vec![tier] } else { Vec::new() };
    Reading { policies: Vec::new(), tiers, problems: reader.problems }
}

/// Reads an order: any number.
pub(super) fn order(reader: &mut Reader<'_>, effect: Effect, value: &Value, path: &str) -> Option<Order> {
    let order = value.as_f64().and_then(Order::new);
    if order.is_none() {
        reader.problem(effect, path, "is no number; write one as in 100, or leave it out for the last place");
    }
    order
}
