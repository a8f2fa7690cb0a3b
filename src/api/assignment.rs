//! Replica assignments that clients make by hand: this node is the only broker that they can name.

use kafka_protocol::messages::BrokerId;

use super::change::Refusal;
use crate::protocol::error_code::ErrorCode;

/// Checks the replicas of one partition as Kafka's controller does.
pub(super) fn check(node_id: i32, replicas: &[BrokerId]) -> Result<(), Refusal> {
    let refused = |why: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
    if replicas.is_empty() {
        return refused("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted: Vec<i32> = replicas.iter().map(|replica| replica.0).collect();
    sorted.sort_unstable();
    for (at, replica) in sorted.iter().enumerate() {
        if *replica != node_id {
            return refused(format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            ));
        }
        if at > 0 {
            return refused(format!("The manual partition assignment includes the broker {replica} more than once."));
        }
    }
    Ok(())
}
