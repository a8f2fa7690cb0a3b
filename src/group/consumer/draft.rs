//! A group as an operation changes it, with the records that say so.

use super::ConsumerGroup;
use super::records::ConsumerRecord;

/// See the module.
#[derive(Debug)]
pub struct Draft {
    /// The group with all records so far.
    pub group: ConsumerGroup,
    /// What must be appended before the group counts.
    pub records: Vec<ConsumerRecord>,
}

impl Draft {
    /// Of a group as it is.
    pub fn of(group: &ConsumerGroup) -> Self {
        Self { group: group.clone(), records: Vec::new() }
    }

    /// Of a group that begins with these records.
    pub fn begun(group: ConsumerGroup, records: Vec<ConsumerRecord>) -> Self {
        let mut draft = Self { group, records: Vec::new() };
        for record in records {
            draft.write(record);
        }
        draft
    }

    /// One more record.
    pub(super) fn write(&mut self, record: ConsumerRecord) {
        self.group.apply(record.clone());
        self.records.push(record);
    }
}
