//! A group as DescribeGroups shows it.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicGroup, State};

/// What DescribeGroups tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The state's name.
    pub state: &'static str,
    /// The type of the members' protocols.
    pub protocol_type: Arc<str>,
    /// The chosen protocol, while the group is stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// One member as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// As its client calls itself.
    pub client_id: Arc<str>,
    /// Where it joined from.
    pub client_host: Arc<str>,
    /// Its metadata for the chosen protocol, while the group is stable.
    pub metadata: Bytes,
    /// Its assignment, while the group is stable.
    pub assignment: Bytes,
}

impl ClassicGroup {
    /// Metadata and assignments mean something only in a stable group; in a rebalance they are left out, as in Kafka.
    pub fn describe(&self) -> Description {
        let protocol = if self.state == State::Stable { self.protocol.clone() } else { None };
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: protocol.as_deref().map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: protocol.as_ref().map(|_| member.assignment.clone()).unwrap_or_default(),
        });
        Description {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.clone().unwrap_or_default(),
            members: members.collect(),
        }
    }
}
