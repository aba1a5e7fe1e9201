//! What this kernel can do. Never leaves anything behind.

use crate::compile::Compiler;
use crate::config::Config;
use crate::names;
use crate::object::{Key, Object};
use cni_core::backend::{Capabilities, Capability, Support};
use net_linux::conntrack::Conntrack;
use net_linux::nft::{self, Batch, Chain, Element, Nft, Rule, Table};

/// What there is where the kernel takes our rules.
const ALL: [Capability; 3] = [Capability::Policy, Capability::HostPolicy, Capability::SurvivesAgent];

/// The capabilities of policy on nftables in this network namespace: the kernel is asked to take everything that the
/// engine makes for any node, in a batch whose last message it has to refuse.
#[must_use]
pub fn probe(config: &Config) -> Capabilities {
    let capabilities = Capabilities::default();
    match refusal(config) {
        None => ALL.into_iter().fold(capabilities, Capabilities::with),
        Some(reason) => ALL.into_iter().fold(capabilities, |all, one| all.without(one, &reason)),
    }
}

fn refusal(config: &Config) -> Option<String> {
    if let Err(error) = Conntrack::open().and_then(|mut conntrack| conntrack.list()) {
        return Some(format!("connections cannot be read: {error}"));
    }
    let mut nft = match Nft::open() {
        Ok(nft) => nft,
        Err(error) => return Some(error.to_string()),
    };
    // Another table than ours: what is in ours must not be in the way.
    let probe = nft::TableId::new(names::table().family, names::name("cnidarian-probe"));
    let mut batch = Batch::new();
    batch.add_table(&Table::new(probe.clone()));
    let mut objects = Compiler::new(*config).base();
    objects.sort_by_key(|(key, _)| key.rank().level);
    for (key, object) in objects {
        match (key, object) {
            (Key::Set(name), _) => {
                if let Some(set) = names::set_of(&name) {
                    batch.add_set(&nft::Set { id: probe.set(name), ..set });
                }
            }
            (Key::Element(name, element), _) => {
                if let Some(set) = names::set_of(&name) {
                    batch.add_elements(&nft::Set { id: probe.set(name), ..set }, &[Element::new(element)]);
                }
            }
            (Key::Chain(name), Object::Chain { base, rules }) => {
                let id = probe.chain(name);
                batch.add_chain(&Chain { id: id.clone(), base, comment: None });
                for rule in rules {
                    batch.add_rule(&Rule { chain: id.clone(), exprs: rule.exprs, comment: rule.comment });
                }
            }
            _ => {}
        }
    }
    let ends = Rule::new(probe.chain(names::name(names::INPUT)), Compiler::end_of_a_tier());
    batch.add_rule(&ends);
    match nft.would_take(batch, names::table().family) {
        Support::Yes => None,
        Support::No { reason } => Some(reason),
    }
}
