//! Verdicts and reasons in words and in JSON, one form for all commands. Never a decision.

use cni_core::policy::evaluate::{Decision, Outcome, Step, Trace, TrafficClass, Verdict};
use cni_core::policy::model::{PolicyId, Problem, Protocol};
use serde_json::{Value, json};

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allowed",
        Verdict::Deny => "denied",
    }
}

fn names(policies: &[PolicyId]) -> String {
    policies.iter().map(PolicyId::to_string).collect::<Vec<_>>().join(", ")
}

/// What decided, in a few words.
pub(super) fn decision(decision: &Decision) -> String {
    match decision {
        Decision::Exempt(why) => why.to_string(),
        Decision::Default => "no policy has a say".to_owned(),
        Decision::NoProfile => "no tier decides, and no profile of the host endpoint allows it".to_owned(),
        Decision::Rule { tier, policy, path, name, action } => {
            let name = name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
            format!("tier {tier}: {policy}, {path}{name}: {action}")
        }
        Decision::Isolated { tier, policies } => {
            format!("tier {tier}: no rule allows it, and it is isolated by {}", names(policies))
        }
    }
}

pub(super) fn step(step: &Step) -> String {
    let place = match (&step.path, step.action) {
        (Some(path), Some(action)) => format!("{path}: {action}"),
        _ => "no rules".to_owned(),
    };
    let miss = step.miss.as_ref().map(|miss| format!(", not this: {miss}")).unwrap_or_default();
    format!("tier {}: {}, {place}{miss}", step.tier, step.policy)
}

pub(super) fn decision_json(decision: &Decision) -> Value {
    match decision {
        Decision::Exempt(why) => json!({"by": "exemption", "why": why.to_string()}),
        Decision::Default => json!({"by": "default"}),
        Decision::NoProfile => json!({"by": "no profile"}),
        Decision::Rule { tier, policy, path, name, action } => json!({
            "by": "rule", "tier": &**tier, "policy": policy.to_string(), "path": &**path, "name": name.as_deref(),
            "action": action.to_string(),
        }),
        Decision::Isolated { tier, policies } => json!({
            "by": "isolation", "tier": &**tier,
            "policies": policies.iter().map(PolicyId::to_string).collect::<Vec<_>>(),
        }),
    }
}

pub(super) fn trace_json(trace: &Trace) -> Value {
    let steps: Vec<Value> = trace
        .steps
        .iter()
        .map(|step| {
            json!({
                "tier": &*step.tier, "policy": step.policy.to_string(), "path": step.path.as_deref(),
                "action": step.action.map(|action| action.to_string()), "matched": step.miss.is_none(),
                "why": step.miss.as_ref().map(ToString::to_string),
            })
        })
        .collect();
    let staged =
        trace.staged.as_ref().map(|(would, by)| json!({"verdict": verdict(*would), "decision": decision_json(by)}));
    json!({
        "verdict": verdict(trace.verdict), "decision": decision_json(&trace.decision), "steps": steps, "staged": staged,
    })
}

/// Which end denies, and why.
pub(crate) fn because(outcome: &Outcome) -> String {
    match (outcome.egress.verdict, outcome.ingress.verdict) {
        (Verdict::Deny, _) => format!("egress: {}", decision(&outcome.egress.decision)),
        (_, Verdict::Deny) => format!("ingress: {}", decision(&outcome.ingress.decision)),
        _ => {
            let (egress, ingress) = (decision(&outcome.egress.decision), decision(&outcome.ingress.decision));
            format!("egress: {egress}; ingress: {ingress}")
        }
    }
}

/// `TCP 80-90`, `ICMP`.
pub(super) fn class(class: &TrafficClass) -> String {
    if !class.protocol.has_ports() {
        return class.protocol.to_string();
    }
    format!("{} {}", class.protocol, ports(class))
}

pub(super) fn ports(class: &TrafficClass) -> String {
    match (class.ports.first, class.ports.last) {
        _ if class.ports == TrafficClass::ALL_PORTS => "*".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// Classes as people read them: neighbours joined, `everything` for all of all.
pub(super) fn classes(of: &[TrafficClass], all: &[TrafficClass]) -> String {
    if of.len() == all.len() {
        return "everything".to_owned();
    }
    let mut protocols: Vec<Protocol> = of.iter().map(|class| class.protocol).collect();
    protocols.dedup();
    let one = |protocol: Protocol| {
        let mut joined: Vec<TrafficClass> = Vec::new();
        for class in of.iter().filter(|class| class.protocol == protocol) {
            match joined.last_mut() {
                Some(last) if last.ports.last.checked_add(1) == Some(class.ports.first) => {
                    last.ports.last = class.ports.last
                }
                _ => joined.push(*class),
            }
        }
        if !protocol.has_ports() {
            return protocol.to_string();
        }
        format!("{protocol} {}", joined.iter().map(ports).collect::<Vec<_>>().join(","))
    };
    protocols.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) fn problem_json(problem: &Problem, place: Option<&str>) -> Value {
    use cni_core::policy::model::Effect;
    let effect = match problem.effect {
        Effect::SubjectClosed => "subject-closed",
        Effect::RuleClosed => "rule-closed",
        Effect::LeftOut => "left-out",
        Effect::Warning => "warning",
    };
    json!({
        "object": problem.object.to_string(), "path": problem.path, "detail": problem.detail, "effect": effect, "place": place,
    })
}
