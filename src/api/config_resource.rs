//! The resources that have configuration, and how the APIs of configuration name them.

use super::Node;
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::metadata::image::Image;

/// A kind of resource, by its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A topic.
    Topic,
    /// One broker, or all with an empty name.
    Broker,
    /// A group.
    Group,
    /// The loggers of one broker.
    Logger,
    /// A subscription to metrics of clients.
    ClientMetrics,
}

impl Kind {
    pub(super) fn from_code(code: i8) -> Option<Self> {
        match code {
            2 => Some(Self::Topic),
            4 => Some(Self::Broker),
            8 => Some(Self::Logger),
            16 => Some(Self::ClientMetrics),
            32 => Some(Self::Group),
            _ => None,
        }
    }

    pub(super) fn code(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::Logger => 8,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }
}

/// What decides values: the operator's file, and what was set since.
pub(super) struct Settings<'a> {
    pub(super) config: &'a BrokerConfig,
    pub(super) image: &'a Image,
}

impl<'a> Settings<'a> {
    pub(super) fn of(node: &'a Node, image: &'a Image) -> Self {
        Self { config: &node.config, image }
    }

    pub(super) fn dynamic(&self) -> Dynamic<'a> {
        Dynamic::of(&self.image.broker_configs, self.config.node_id)
    }
}
