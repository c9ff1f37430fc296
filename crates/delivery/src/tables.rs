//! Which relation of the stream is which configured table.

use std::collections::HashMap;

use envelope::{CompileError, RowMapper, TableId, TableSpec, TopicPolicy};
use pgoutput::Relation;

use crate::control::{CONTROL_SCHEMA, CONTROL_TABLE, ControlRows};

/// A relation that the stream has announced.
#[derive(Debug)]
pub(crate) struct Known {
    /// Which configured table it is.
    pub table: Option<TableId>,
    pub role: Role,
}

/// What its rows are.
#[derive(Debug)]
pub(crate) enum Role {
    /// Events.
    Outbox(RowMapper),
    /// Requests of operators.
    Control(ControlRows),
    /// Nothing to us.
    Other,
}

/// The configured tables, and their mappers for the relations seen in this session.
#[derive(Debug)]
pub struct Tables {
    specs: Vec<TableSpec>,
    policy: TopicPolicy,
    relations: HashMap<u32, Known>,
    /// Mappers for rows that do not come from the stream.
    fed: HashMap<TableId, RowMapper>,
}

impl Tables {
    /// No relation has been seen yet. A table's id is its index in `specs`.
    pub fn new(specs: Vec<TableSpec>, policy: TopicPolicy) -> Self {
        Self {
            specs,
            policy,
            relations: HashMap::new(),
            fed: HashMap::new(),
        }
    }

    /// The stream announces a relation, or its new shape.
    pub(crate) fn announce(&mut self, relation: Relation) -> Result<(), CompileError> {
        let is_control = relation.namespace == CONTROL_SCHEMA && relation.name == CONTROL_TABLE;
        let (table, role) = match self.id_of(&relation) {
            Some(id) => (Some(id), Role::Outbox(self.compile(id, &relation)?)),
            None if is_control => (None, Role::Control(ControlRows::compile(&relation)?)),
            None => (None, Role::Other),
        };
        self.relations.insert(relation.oid, Known { table, role });
        Ok(())
    }

    /// The shape in which rows of a feed come.
    pub(crate) fn announce_fed(&mut self, relation: &Relation) -> Result<(), CompileError> {
        if let Some(id) = self.id_of(relation) {
            let mapper = self.compile(id, relation)?;
            self.fed.insert(id, mapper);
        }
        Ok(())
    }

    fn id_of(&self, relation: &Relation) -> Option<TableId> {
        let is_it =
            |spec: &TableSpec| spec.schema == relation.namespace && spec.table == relation.name;
        let index = self.specs.iter().position(is_it)?;
        u16::try_from(index).ok().map(TableId)
    }

    fn compile(&self, id: TableId, relation: &Relation) -> Result<RowMapper, CompileError> {
        RowMapper::compile(&self.specs[usize::from(id.0)], id, &self.policy, relation)
    }

    pub(crate) fn get(&mut self, oid: u32) -> Option<&mut Known> {
        self.relations.get_mut(&oid)
    }

    pub(crate) fn fed(&mut self, table: TableId) -> Option<&mut RowMapper> {
        self.fed.get_mut(&table)
    }

    /// Schema and name of a configured table.
    pub(crate) fn name(&self, table: TableId) -> String {
        let spec = self.specs.get(usize::from(table.0));
        spec.map_or_else(String::new, |spec| {
            format!("{}.{}", spec.schema, spec.table)
        })
    }

    /// The service whose events a configured table holds.
    pub(crate) fn service(&self, table: TableId) -> &str {
        let spec = self.specs.get(usize::from(table.0));
        spec.map_or("", |spec| &spec.service)
    }

    /// The table of that service and name.
    pub(crate) fn find(&self, service: &str, name: &str) -> Option<TableId> {
        let is_it = |spec: &TableSpec| {
            spec.service == service && name.split_once('.') == Some((&spec.schema, &spec.table))
        };
        let index = self.specs.iter().position(is_it)?;
        u16::try_from(index).ok().map(TableId)
    }
}
