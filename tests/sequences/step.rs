//! A recorded step, as one of the two hosts had it.

use crate::LEAKED_LOCK;
use crate::common::corpus::{number, unhex};
use crate::common::stream::{Header, Said, decode, said};
use serde_json::Value;

/// One host's side of a recorded step: where POWER9 answered otherwise than POWER8 that stands beside it.
#[derive(Clone, Copy)]
pub(crate) struct Step<'v> {
    pub(crate) value: &'v Value,
    pub(crate) p9: bool,
}

impl<'v> Step<'v> {
    fn field(self, name: &str) -> Option<&'v Value> {
        let other = if self.p9 { self.value.get("p9") } else { None };
        other
            .and_then(|other| other.get(name))
            .or_else(|| self.value.get(name))
    }

    pub(crate) fn text(self, name: &str) -> &'v str {
        self.value[name].as_str().unwrap()
    }

    pub(crate) fn number(self, name: &str) -> u64 {
        self.value[name].as_u64().unwrap()
    }

    pub(crate) fn numbers(self, name: &str) -> Vec<u64> {
        let list = self.field(name).unwrap().as_array().unwrap();
        list.iter()
            .map(|value| number(value.as_str().unwrap()))
            .collect()
    }

    /// A field with a name of its own for POWER9, which stands there only where it differs.
    pub(crate) fn either(self, p8: &str, p9: &str) -> Option<&'v Value> {
        let other = if self.p9 { self.value.get(p9) } else { None };
        other.or_else(|| self.value.get(p8))
    }

    pub(crate) fn is_tagged(self, tag: &str) -> bool {
        let tags = self.either("q", "q9").and_then(Value::as_array);
        tags.is_some_and(|tags| {
            tags.iter()
                .any(|other| other.as_str().unwrap().starts_with(tag))
        })
    }

    pub(crate) fn ret(self) -> i64 {
        self.field("ret").unwrap().as_i64().unwrap()
    }

    /// What each read of the stream said, and in how many bytes.
    pub(crate) fn data(self) -> Vec<(u64, Vec<Said>)> {
        let list = self.field("data").unwrap().as_array().unwrap();
        list.iter()
            .map(|bytes| {
                let bytes = unhex(bytes.as_str().unwrap());
                let records = decode(&bytes, Header::Little).unwrap();
                let unlocked = |(v, r)| (v & !LEAKED_LOCK, r);
                let said = said(&records)
                    .map(|(slot, entry)| (slot, entry.map(unlocked)))
                    .collect();
                (bytes.len() as u64, said)
            })
            .collect()
    }
}
