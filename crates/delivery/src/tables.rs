//! Which relation of the stream is which configured table.

use std::collections::HashMap;

use envelope::{CompileError, RowMapper, TableId, TableSpec, TopicPolicy};
use pgoutput::Relation;

/// A relation that the stream has announced.
#[derive(Debug)]
pub(crate) struct Known {
    pub name: String,
    /// `None`: no table of the configuration; its rows are passed over.
    pub mapper: Option<RowMapper>,
}

/// The configured tables, and their mappers for the relations seen in this session.
#[derive(Debug)]
pub struct Tables {
    specs: Vec<TableSpec>,
    policy: TopicPolicy,
    relations: HashMap<u32, Known>,
}

impl Tables {
    /// No relation has been seen yet. A table's id is its index in `specs`.
    pub fn new(specs: Vec<TableSpec>, policy: TopicPolicy) -> Self {
        Self {
            specs,
            policy,
            relations: HashMap::new(),
        }
    }

    /// The stream announces a relation, or its new shape.
    pub(crate) fn announce(&mut self, relation: Relation) -> Result<(), CompileError> {
        let spec = self
            .specs
            .iter()
            .enumerate()
            .find(|(_, spec)| spec.schema == relation.namespace && spec.table == relation.name);
        let mapper = match spec {
            Some((index, spec)) => {
                let id = TableId(u16::try_from(index).unwrap_or(u16::MAX));
                Some(RowMapper::compile(spec, id, &self.policy, &relation)?)
            }
            None => None,
        };
        let name = format!("{}.{}", relation.namespace, relation.name);
        self.relations.insert(relation.oid, Known { name, mapper });
        Ok(())
    }

    pub(crate) fn get(&mut self, oid: u32) -> Option<&mut Known> {
        self.relations.get_mut(&oid)
    }
}
