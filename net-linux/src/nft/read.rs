//! Reads what the kernel's nftables holds. Never changes it.

use super::batch::{NEW_CHAIN, NEW_RULE, NEW_SET, NEW_SET_ELEM, NEW_TABLE, NLM_F_ACK, SUBSYSTEM};
use super::{Chain, ChainId, Element, Family, Generation, Nft, NftError, Object, Rule, Set, SetId, Table, TableId};
use super::{chain, element, rule, set, table};
use crate::nfnetlink::{Malformed, Message, Writer};
use nix::errno::Errno;

const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_RULE: u16 = SUBSYSTEM | 7;
const GET_SET: u16 = SUBSYSTEM | 10;
const GET_SET_ELEM: u16 = SUBSYSTEM | 13;
const NLM_F_DUMP: u16 = 0x300;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
/// How often a read is made again when tables change under it.
const READ_TRIES: u32 = 20;

/// An object as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<T> {
    /// The kernel's number for it.
    pub handle: u64,
    /// The object.
    pub object: T,
}

/// All of one table, as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableContents {
    /// The moment.
    pub generation: Generation,
    /// The table.
    pub table: Stored<Table>,
    /// Its chains.
    pub chains: Vec<Stored<Chain>>,
    /// Their rules; those of one chain in order.
    pub rules: Vec<Stored<Rule>>,
    /// Its sets and maps.
    pub sets: Vec<Stored<Set>>,
    /// Their elements, beside `sets`.
    pub elements: Vec<Vec<Element>>,
}

impl TableContents {
    /// The rules of one chain, in order.
    pub fn rules_of<'a>(&'a self, chain: &'a ChainId) -> impl Iterator<Item = &'a Stored<Rule>> {
        self.rules.iter().filter(move |rule| rule.object.chain == *chain)
    }

    /// A set and its elements.
    #[must_use]
    pub fn set(&self, id: &SetId) -> Option<(&Stored<Set>, &[Element])> {
        let index = self.sets.iter().position(|set| set.object.id == *id)?;
        Some((&self.sets[index], self.elements.get(index)?))
    }
}

impl Nft {
    /// All tables, also those of others.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn tables(&mut self) -> Result<Vec<Stored<Table>>, NftError> {
        self.dump(GET_TABLE, NEW_TABLE, 0, &Object::Ruleset, |_| {}, table::read)
    }

    /// A table, if it exists.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Socket`].
    pub fn table(&mut self, id: &TableId) -> Result<Option<Stored<Table>>, NftError> {
        let object = Object::Table(id.clone());
        self.get(GET_TABLE, NEW_TABLE, id.family, &object, |w| table::write_id(w, id), table::read)
    }

    /// A chain, if it exists.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Socket`].
    pub fn chain(&mut self, id: &ChainId) -> Result<Option<Stored<Chain>>, NftError> {
        let object = Object::Chain(id.clone());
        self.get(GET_CHAIN, NEW_CHAIN, id.table.family, &object, |w| chain::write_id(w, id), chain::read)
    }

    /// A set or map, if it exists.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Socket`].
    pub fn set(&mut self, id: &SetId) -> Result<Option<Stored<Set>>, NftError> {
        let object = Object::Set(id.clone());
        self.get(GET_SET, NEW_SET, id.table.family, &object, |w| set::write_id(w, id), set::read)
    }

    /// The chains of a table; none when there is no such table.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn chains(&mut self, id: &TableId) -> Result<Vec<Stored<Chain>>, NftError> {
        // NFTA_CHAIN_TABLE: newer kernels filter by it, older ones give the chains of all tables.
        let write = |w: &mut Writer| w.text(1, id.name.as_str());
        let all = self.dump(GET_CHAIN, NEW_CHAIN, id.family.number(), &Object::Table(id.clone()), write, chain::read);
        Ok(all?.into_iter().filter(|chain| chain.object.id.table == *id).collect())
    }

    /// The rules of a table, those of one chain in order; none when there is no such table.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn rules(&mut self, id: &TableId) -> Result<Vec<Stored<Rule>>, NftError> {
        let write = |w: &mut Writer| w.text(rule::TABLE, id.name.as_str());
        let all = self.dump(GET_RULE, NEW_RULE, id.family.number(), &Object::Table(id.clone()), write, rule::read);
        Ok(all?.into_iter().filter(|rule| rule.object.chain.table == *id).collect())
    }

    /// The rules of one chain, in order; none when there is no such chain.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn rules_of(&mut self, id: &ChainId) -> Result<Vec<Stored<Rule>>, NftError> {
        let write = |w: &mut Writer| rule::write_chain(w, id);
        let object = Object::Chain(id.clone());
        let all = self.dump(GET_RULE, NEW_RULE, id.table.family.number(), &object, write, rule::read);
        Ok(all?.into_iter().filter(|rule| rule.object.chain == *id).collect())
    }

    /// The sets and maps of a table, also those without a name; none when there is no such table.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn sets(&mut self, id: &TableId) -> Result<Vec<Stored<Set>>, NftError> {
        let write = |w: &mut Writer| w.text(1, id.name.as_str());
        let all = self.dump(GET_SET, NEW_SET, id.family.number(), &Object::Table(id.clone()), write, set::read);
        match all {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
            all => Ok(all?.into_iter().filter(|set| set.object.id.table == *id).collect()),
        }
    }

    /// The elements of a set or map; ranges sorted, else in no order.
    ///
    /// # Errors
    /// [`NftError::Refused`] (`ENOENT` when there is no such set), [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn elements(&mut self, set: &Set) -> Result<Vec<Element>, NftError> {
        let object = Object::Elements(set.id.clone());
        for _ in 0..READ_TRIES {
            let mut raws = Vec::new();
            let whole = self.request(
                GET_SET_ELEM,
                NLM_F_DUMP,
                set.id.table.family.number(),
                &object,
                |w| {
                    w.text(ELEM_LIST_TABLE, set.id.table.name.as_str());
                    w.text(ELEM_LIST_SET, set.id.name.as_str());
                },
                |message| {
                    for attr in message.attributes().filter(|_| message.kind == NEW_SET_ELEM) {
                        let attr = attr?;
                        if attr.kind == ELEM_LIST_ELEMENTS {
                            for elem in attr.nested() {
                                raws.push(element::read(elem?)?);
                            }
                        }
                    }
                    Ok(())
                },
            )?;
            if whole {
                return Ok(if set.has_split_ranges() {
                    element::join(raws)
                } else {
                    raws.into_iter().map(element::RawElement::whole).collect()
                });
            }
        }
        Err(NftError::Unsteady { object, tries: READ_TRIES })
    }

    /// Reads several things as they were at one moment: again when somebody changed the ruleset meanwhile.
    ///
    /// # Errors
    /// Those of `read`; [`NftError::Unsteady`].
    pub fn steady<T>(
        &mut self,
        mut read: impl FnMut(&mut Self, Generation) -> Result<T, NftError>,
    ) -> Result<T, NftError> {
        for _ in 0..READ_TRIES {
            let generation = self.generation()?;
            let answer = read(self, generation);
            if self.generation()? == generation {
                return answer;
            }
        }
        Err(NftError::Unsteady { object: Object::Ruleset, tries: READ_TRIES })
    }

    /// All of a table as it was at one moment; `None` when there is no such table.
    ///
    /// # Errors
    /// [`NftError::Refused`], [`NftError::Unsteady`], [`NftError::Socket`].
    pub fn contents(&mut self, id: &TableId) -> Result<Option<TableContents>, NftError> {
        self.steady(|nft, generation| {
            let Some(table) = nft.table(id)? else { return Ok(None) };
            let sets = nft.sets(id)?;
            let elements = sets.iter().map(|set| nft.elements(&set.object)).collect::<Result<_, _>>()?;
            let (chains, rules) = (nft.chains(id)?, nft.rules(id)?);
            Ok(Some(TableContents { generation, table, chains, rules, sets, elements }))
        })
    }

    fn get<T>(
        &mut self,
        get: u16,
        new: u16,
        family: Family,
        object: &Object,
        write: impl FnOnce(&mut Writer),
        read: impl Fn(&Message<'_>) -> Result<Option<(u64, T)>, Malformed>,
    ) -> Result<Option<Stored<T>>, NftError> {
        let mut found = None;
        let answer = self.request(get, NLM_F_ACK, family.number(), object, write, |message| {
            if message.kind == new {
                found = read(message)?;
            }
            Ok(())
        });
        match answer {
            Ok(_) => Ok(found.map(|(handle, object)| Stored { handle, object })),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn dump<T>(
        &mut self,
        get: u16,
        new: u16,
        family: u8,
        object: &Object,
        write: impl Fn(&mut Writer),
        read: impl Fn(&Message<'_>) -> Result<Option<(u64, T)>, Malformed>,
    ) -> Result<Vec<Stored<T>>, NftError> {
        for _ in 0..READ_TRIES {
            let mut all = Vec::new();
            let whole = self.request(get, NLM_F_DUMP, family, object, &write, |message| {
                if message.kind == new
                    && let Some((handle, object)) = read(message)?
                {
                    all.push(Stored { handle, object });
                }
                Ok(())
            })?;
            if whole {
                return Ok(all);
            }
        }
        Err(NftError::Unsteady { object: object.clone(), tries: READ_TRIES })
    }
}
