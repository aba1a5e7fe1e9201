//! Changes to be made all together or not at all. Memory only; [`super::Nft::commit`] sends them.

use super::element::{self, Element};
use super::{Chain, ChainId, Object, Rule, Set, SetId, SetUse, Table, TableId, Verb, chain, rule, set, table};
use crate::nfnetlink::{Header, Writer, attributes};

pub(super) const SUBSYSTEM: u16 = 10 << 8;
pub(super) const NEW_TABLE: u16 = SUBSYSTEM;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
pub(super) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DEL_CHAIN: u16 = SUBSYSTEM | 5;
pub(super) const NEW_RULE: u16 = SUBSYSTEM | 6;
const DEL_RULE: u16 = SUBSYSTEM | 8;
pub(super) const NEW_SET: u16 = SUBSYSTEM | 9;
const DEL_SET: u16 = SUBSYSTEM | 11;
pub(super) const NEW_SET_ELEM: u16 = SUBSYSTEM | 12;
const DEL_SET_ELEM: u16 = SUBSYSTEM | 14;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const ELEM_LIST_SET_ID: u16 = 4;
/// Where a list of elements goes on in the next message: the length of an attribute has 16 bits, one element is far below 2 KiB.
const CHUNK_BYTES: usize = 60 * 1024;
/// Where the flags are in `struct nlmsghdr`.
const FLAGS_AT: usize = 6;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const MESSAGE_HEADER: usize = 20;

/// What one message of a batch is about, for errors.
#[derive(Debug, Clone)]
struct Entry {
    start: usize,
    verb: Verb,
    object: Object,
    /// For messages with elements: how to name one.
    set: Option<Set>,
}

/// Changes in the order in which they are made. Like a file for `nft -f`, but in the kernel's own format.
///
/// `add_*` of an object that exists is no error and leaves it (a base chain's policy is set); deletes of an object that
/// does not exist are.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    writer: Writer,
    entries: Vec<Entry>,
    sets: u32,
    too_large: Option<Object>,
}

impl Batch {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Size on the wire in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.writer.bytes.len()
    }

    /// Makes a table, or leaves it.
    pub fn add_table(&mut self, table: &Table) {
        let object = Object::Table(table.id.clone());
        self.message(NEW_TABLE, NLM_F_CREATE, Verb::Add, object, &table.id, |w| table.write(w));
    }

    /// Removes a table with all that is in it.
    pub fn delete_table(&mut self, id: &TableId) {
        self.message(DEL_TABLE, 0, Verb::Delete, Object::Table(id.clone()), id, |w| table::write_id(w, id));
    }

    /// Makes a chain, or leaves it and sets its policy.
    pub fn add_chain(&mut self, chain: &Chain) {
        let object = Object::Chain(chain.id.clone());
        self.message(NEW_CHAIN, NLM_F_CREATE, Verb::Add, object, &chain.id.table, |w| chain.write(w));
    }

    /// Removes a chain; no rule or element may jump to it at the end of the batch, and its rules must be gone.
    pub fn delete_chain(&mut self, id: &ChainId) {
        let object = Object::Chain(id.clone());
        self.message(DEL_CHAIN, 0, Verb::Delete, object, &id.table, |w| chain::write_id(w, id));
    }

    /// Removes the rules of a chain.
    pub fn flush_chain(&mut self, id: &ChainId) {
        let object = Object::Chain(id.clone());
        self.message(DEL_RULE, 0, Verb::Flush, object, &id.table, |w| rule::write_chain(w, id));
    }

    /// Puts a rule at the end of its chain.
    pub fn add_rule(&mut self, rule: &Rule) {
        self.rule(rule, NLM_F_CREATE | NLM_F_APPEND, Verb::Add, None);
    }

    /// Puts a rule at the beginning of its chain.
    pub fn insert_rule(&mut self, rule: &Rule) {
        self.rule(rule, NLM_F_CREATE, Verb::Add, None);
    }

    /// Puts a rule after the one with this handle.
    pub fn add_rule_after(&mut self, rule: &Rule, handle: u64) {
        self.rule(rule, NLM_F_CREATE | NLM_F_APPEND, Verb::Add, Some((rule::POSITION, handle)));
    }

    /// Puts a rule before the one with this handle.
    pub fn insert_rule_before(&mut self, rule: &Rule, handle: u64) {
        self.rule(rule, NLM_F_CREATE, Verb::Add, Some((rule::POSITION, handle)));
    }

    /// Puts a rule in the place of the one with this handle.
    pub fn replace_rule(&mut self, rule: &Rule, handle: u64) {
        self.rule(rule, NLM_F_REPLACE, Verb::Replace, Some((rule::HANDLE, handle)));
    }

    /// Removes the rule with this handle.
    pub fn delete_rule(&mut self, chain: &ChainId, handle: u64) {
        let object = Object::Rule(chain.clone(), handle.to_string());
        self.message(DEL_RULE, 0, Verb::Delete, object, &chain.table, |w| {
            rule::write_chain(w, chain);
            w.u64(rule::HANDLE, handle);
        });
    }

    fn rule(&mut self, rule: &Rule, flags: u16, verb: Verb, place: Option<(u16, u64)>) {
        let which = rule.comment.as_ref().map_or("without comment", |comment| comment.as_str());
        let object = Object::Rule(rule.chain.clone(), which.to_owned());
        self.message(NEW_RULE, flags, verb, object, &rule.chain.table, |w| {
            rule::write_chain(w, &rule.chain);
            if let Some((kind, handle)) = place {
                w.u64(kind, handle);
            }
            rule.write(w);
        });
    }

    /// Makes a set or map, or leaves it; one of another type under that name is an error.
    pub fn add_set(&mut self, set: &Set) {
        self.sets += 1;
        let id = self.sets;
        let object = Object::Set(set.id.clone());
        self.message(NEW_SET, NLM_F_CREATE, Verb::Add, object, &set.id.table, |w| set.write(w, id, false));
    }

    /// Makes a set or map without a name, with its elements. It belongs to the one rule of this batch that must use it.
    #[must_use = "a set without a name and without a rule makes the batch fail"]
    pub fn add_anonymous_set<'a>(&mut self, set: &Set, elements: impl IntoIterator<Item = &'a Element>) -> SetUse {
        self.sets += 1;
        let id = self.sets;
        let object = Object::Set(set.id.clone());
        self.message(NEW_SET, NLM_F_CREATE, Verb::Create, object, &set.id.table, |w| set.write(w, id, true));
        self.elements(NEW_SET_ELEM, NLM_F_CREATE, Verb::Add, set, Some(id), elements);
        SetUse::Anonymous(id)
    }

    /// Removes a set or map with its elements; no rule may use it at the end of the batch.
    pub fn delete_set(&mut self, id: &SetId) {
        self.message(DEL_SET, 0, Verb::Delete, Object::Set(id.clone()), &id.table, |w| set::write_id(w, id));
    }

    /// Removes the elements of a set or map.
    pub fn flush_set(&mut self, id: &SetId) {
        self.message(DEL_SET_ELEM, 0, Verb::Flush, Object::Set(id.clone()), &id.table, |w| {
            w.text(ELEM_LIST_TABLE, id.table.name.as_str());
            w.text(ELEM_LIST_SET, id.name.as_str());
        });
    }

    /// Puts elements into a set or map. One that is there already is no error, unless a map has something else for it.
    /// In a set of ranges, one that overlaps another is an error.
    pub fn add_elements<'a>(&mut self, set: &Set, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(NEW_SET_ELEM, NLM_F_CREATE, Verb::Add, set, None, elements);
    }

    /// The same, but one that is there already is an error.
    pub fn create_elements<'a>(&mut self, set: &Set, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(NEW_SET_ELEM, NLM_F_CREATE | NLM_F_EXCL, Verb::Create, set, None, elements);
    }

    /// Takes elements out of a set or map; one that is not there is an error.
    pub fn delete_elements<'a>(&mut self, set: &Set, elements: impl IntoIterator<Item = &'a Element>) {
        self.elements(DEL_SET_ELEM, 0, Verb::Delete, set, None, elements);
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        flags: u16,
        verb: Verb,
        set: &Set,
        transaction_id: Option<u32>,
        elements: impl IntoIterator<Item = &'a Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let object = Object::Elements(set.id.clone());
            self.message(kind, flags, verb, object, &set.id.table, |w| {
                w.text(ELEM_LIST_TABLE, set.id.table.name.as_str());
                match transaction_id {
                    None => w.text(ELEM_LIST_SET, set.id.name.as_str()),
                    Some(id) => {
                        w.text(ELEM_LIST_SET, set::ANONYMOUS_NAME);
                        w.u32(ELEM_LIST_SET_ID, id);
                    }
                }
                w.nest(ELEM_LIST_ELEMENTS, |w| {
                    let start = w.bytes.len();
                    while w.bytes.len() - start < CHUNK_BYTES
                        && let Some(element) = elements.next()
                    {
                        element.write(w, set);
                    }
                });
            });
            if let Some(entry) = self.entries.last_mut() {
                entry.set = Some(set.clone());
            }
        }
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        verb: Verb,
        object: Object,
        table: &TableId,
        fill: impl FnOnce(&mut Writer),
    ) {
        // Only the last message asks for an acknowledgement: that is enough to know that all were taken.
        if let Some(before) = self.entries.last() {
            let at = before.start + FLAGS_AT;
            let flags = u16::from_ne_bytes([self.writer.bytes[at], self.writer.bytes[at + 1]]) & !NLM_F_ACK;
            self.writer.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let start = self.writer.bytes.len();
        let header = Header {
            kind,
            flags: NLM_F_REQUEST | NLM_F_ACK | flags,
            // The beginning of the batch is number 0.
            sequence: u32::try_from(self.entries.len() + 1).unwrap_or(u32::MAX),
            family: table.family.number(),
            resource: 0,
        };
        header.write(&mut self.writer, fill);
        if self.writer.overflow && self.too_large.is_none() {
            self.too_large = Some(object.clone());
        }
        self.entries.push(Entry { start, verb, object, set: None });
    }

    /// The messages, or what did not fit into one.
    pub(super) fn bytes(&self) -> Result<&[u8], Object> {
        match &self.too_large {
            None => Ok(&self.writer.bytes),
            Some(object) => Err(object.clone()),
        }
    }

    /// Number of the last message.
    pub(super) fn last_sequence(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// What the message with this number is about; `offset` is where in it the kernel found the fault.
    pub(super) fn describe(&self, sequence: u32, offset: Option<usize>) -> (Verb, Object) {
        let entry = usize::try_from(sequence).ok().and_then(|number| number.checked_sub(1));
        let Some(entry) = entry.and_then(|index| self.entries.get(index)) else { return (Verb::Add, Object::Batch) };
        let object = match (&entry.set, offset) {
            (Some(set), Some(offset)) => self.element_at(entry, set, offset),
            _ => None,
        };
        (entry.verb, object.unwrap_or_else(|| entry.object.clone()))
    }

    /// The element in which `offset` of the message lies.
    fn element_at(&self, entry: &Entry, set: &Set, offset: usize) -> Option<Object> {
        let message = self.writer.bytes.get(entry.start..)?;
        let base = message.as_ptr().addr();
        let list = attributes(message.get(MESSAGE_HEADER..)?).find_map(|attr| {
            let attr = attr.ok()?;
            (attr.kind == ELEM_LIST_ELEMENTS).then_some(attr)
        })?;
        let found =
            list.nested().flatten().take_while(|attr| attr.value.as_ptr().addr() - base <= offset + 4).last()?;
        let element = element::read(found).ok()?.whole();
        Some(Object::Element(set.id.clone(), element.key.show(&set.key).to_string()))
    }
}
