//! A policy's rules as chains: one that decides and one for dry runs. Never which endpoints they are for.

use super::{Compiler, Objects, clause, rule};
use crate::names::{self, Walk};
use crate::object::{Key, Object};
use cni_core::backend::{Error, Result};
use cni_core::policy::program::Chain;

pub(super) fn objects(compiler: &Compiler, chain: &Chain) -> Result<Objects> {
    let mut objects = Vec::new();
    let (mut enforced, mut shadow) = (Vec::new(), Vec::new());
    for policy_rule in &chain.rules {
        let tag = names::tag(&chain.id, &policy_rule.path);
        for clause in &policy_rule.clauses {
            let program = clause::program(clause, chain.id.direction, &mut objects)
                .map_err(|error| Error { object: format!("chain {}", chain.id), ..error })?;
            let Some(program) = program else { continue };
            for (walk, rules) in [(Walk::Enforced, &mut enforced), (Walk::Shadow, &mut shadow)] {
                let program = compiler.decide_at(chain.stage, program.clone(), policy_rule.action, walk, &tag);
                rules.push(rule(program, &tag));
            }
        }
    }
    for (walk, rules) in [(Walk::Enforced, enforced), (Walk::Shadow, shadow)] {
        objects.push((Key::Chain(names::policy_chain(&chain.id, walk)), Object::Chain { base: None, rules }));
    }
    Ok(objects)
}
