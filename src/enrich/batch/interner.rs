//! The operations and entities of one flush, with their caps (design section 4 and 5).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringBuilder, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;

use super::{FlushTable, Judged};
use crate::model::{OVERFLOW, OperationSource};
use crate::policy::Zone;

/// Most learned templates that one flush adds; the rest share `{overflow}`.
const MAX_TEMPLATES: usize = 1_000;
/// Most hosts, of those not listed literally, that one flush adds.
const MAX_HOSTS: usize = 100;
/// Longest host that becomes a key, bytes (RFC 1035 section 2.3.4, without the final dot).
const MAX_HOST: usize = 253;
/// Most entities with a signal that one flush adds.
const MAX_ENTITIES: usize = 10_000;

/// Numbers the operations of a flush, so that grouping compares one integer instead of four strings.
#[derive(Debug, Default)]
pub(super) struct Operations {
    numbers: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
    hosts: HashSet<Box<str>, foldhash::fast::RandomState>,
    templates: usize,
    pub(super) overflowed: u64,
    key: String,
    zone: StringBuilder,
    host: StringBuilder,
    method: StringBuilder,
    endpoint: StringBuilder,
}

impl Operations {
    /// Number of the exchange's operation within this flush.
    pub(super) fn intern(&mut self, zone: &Zone, judged: &Judged) -> u32 {
        self.compose(zone, &judged.host, judged.method.as_str(), &judged.endpoint);
        if let Some(number) = self.numbers.get(self.key.as_str()) {
            self.overflowed += u64::from(judged.endpoint == OVERFLOW);
            return *number;
        }
        let short = judged.host.len() <= MAX_HOST;
        let host = if zone.lists(&judged.host) || (short && self.admits_host(&judged.host)) {
            judged.host.as_str()
        } else {
            OVERFLOW
        };
        let learned = judged.source == OperationSource::Learned;
        let endpoint = if learned && self.templates >= MAX_TEMPLATES {
            OVERFLOW
        } else {
            &judged.endpoint
        };
        let method = judged.method.as_str();
        if host == OVERFLOW || endpoint == OVERFLOW {
            self.overflowed += 1;
            self.compose(zone, host, method, endpoint);
            if let Some(number) = self.numbers.get(self.key.as_str()) {
                return *number;
            }
        } else if learned {
            self.templates += 1;
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        self.numbers.insert(self.key.as_str().into(), number);
        self.zone.append_value(&zone.id);
        self.host.append_value(host);
        self.method.append_value(method);
        self.endpoint.append_value(endpoint);
        number
    }

    /// What tells the operation numbered last from all others.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    fn compose(&mut self, zone: &Zone, host: &str, method: &str, endpoint: &str) {
        self.key.clear();
        for part in [zone.id.as_str(), host, method, endpoint] {
            self.key.push_str(part);
            self.key.push('\n');
        }
    }

    fn admits_host(&mut self, host: &str) -> bool {
        self.hosts.contains(host)
            || (self.hosts.len() < MAX_HOSTS && self.hosts.insert(host.into()))
    }

    pub(super) fn finish(&mut self) -> Result<FlushTable, ArrowError> {
        let text = |name| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(vec![
            Field::new("operation", DataType::UInt32, false),
            text("zone"),
            text("host"),
            text("method"),
            text("endpoint"),
        ]));
        let count = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(0..count)),
            Arc::new(self.zone.finish()),
            Arc::new(self.host.finish()),
            Arc::new(self.method.finish()),
            Arc::new(self.endpoint.finish()),
        ];
        self.numbers.clear();
        self.hosts.clear();
        self.templates = 0;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        Ok(FlushTable {
            name: "operations",
            schema,
            batches: vec![batch],
        })
    }
}

/// The entities that this flush names; an attacker with many addresses cannot grow it beyond its cap.
#[derive(Debug, Default)]
pub(super) struct Entitled {
    known: HashSet<Box<str>, foldhash::fast::RandomState>,
    key: String,
    pub(super) overflowed: u64,
}

impl Entitled {
    /// The entity itself, or `{overflow}` when the flush has named enough.
    pub(super) fn admit<'a>(&mut self, kind: &str, entity: &'a str) -> &'a str {
        self.key.clear();
        self.key.push_str(kind);
        self.key.push('\n');
        self.key.push_str(entity);
        if self.known.contains(self.key.as_str()) {
            return entity;
        }
        if self.known.len() < MAX_ENTITIES {
            self.known.insert(self.key.as_str().into());
            return entity;
        }
        self.overflowed += 1;
        OVERFLOW
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}
