//! Tables looked at as a whole: everything that they want in the maps. Never a change.

use super::meaning::{self, Meant};
use super::tables::Tables;
use super::write::Write;

impl Tables {
    /// Every entry that the maps have after all writes so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Write> {
        let mut all = Vec::new();
        let identities = &self.items.identities;
        for program in self.programs.iter() {
            let number = program.reference.program;
            all.push(Write::Meaning(Meant::Program(number), Some(program.meaning)));
            program.entries(identities, &self.programs.rules, &mut all);
        }
        for (number, atoms) in identities.iter() {
            all.push(Write::Meaning(Meant::Identity(number), Some(meaning::of_atoms(atoms))));
        }
        all.extend(identities.told().map(|(prefix, number)| Write::Identity(prefix, Some(number))));
        all.extend(self.told_hosts.iter().map(|(key, endpoint)| Write::Host(*key, Some(*endpoint))));
        all.extend(self.told.iter().map(|(key, (_, endpoint))| Write::Endpoint(*key, Some(*endpoint))));
        all
    }
}
