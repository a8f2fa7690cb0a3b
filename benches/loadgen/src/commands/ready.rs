//! How long a starting broker takes to serve.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::create::refused;
use super::{Broker, Topic};
use crate::Outcome;
use crate::connection::Connection;

const GIVE_UP: Duration = Duration::from_secs(300);
const STEP: Duration = Duration::from_millis(2);
const ANSWER_MAX: Duration = Duration::from_secs(60);

pub fn ready(broker: &Broker, topic: &Topic) -> Outcome<Value> {
    let begun = Instant::now();
    let (mut port_s, mut first_s) = (None, None);
    let mut left: Vec<i32> = (0..topic.partitions as i32).collect();
    while begun.elapsed() < GIVE_UP {
        // Connecting blindly to a dead port of the ephemeral range can keep the broker from binding it.
        if is_listening(&broker.address)
            && let Ok(mut connection) = Connection::open(&broker.address)
        {
            port_s.get_or_insert_with(|| begun.elapsed().as_secs_f64());
            connection.set_read_timeout(ANSWER_MAX)?;
            if first_s.is_none() && refused(&mut connection, &topic.topic, &[0]).is_ok_and(|left| left.is_empty()) {
                first_s = Some(begun.elapsed().as_secs_f64());
            }
            if first_s.is_some()
                && let Ok(refused) = refused(&mut connection, &topic.topic, &left)
            {
                left = refused;
                if left.is_empty() {
                    let all_s = begun.elapsed().as_secs_f64();
                    return Ok(json!({ "port_s": port_s, "first_ack_s": first_s, "all_partitions_s": all_s }));
                }
            }
        }
        std::thread::sleep(STEP);
    }
    Err(format!("not ready (port after {port_s:?} s, first acknowledgement after {first_s:?} s)").into())
}

fn is_listening(address: &str) -> bool {
    let Some(port) = address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()) else { return true };
    let port = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        fs::read_to_string(table).unwrap_or_default().lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.len() > 3 && words[1].ends_with(&port) && words[3] == "0A"
        })
    })
}
