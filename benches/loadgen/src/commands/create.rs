//! Topics made and removed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Broker, Topic};
use crate::Outcome;
use crate::batch::{self, Codec};
use crate::connection::Connection;
use crate::meter::{Reading, descriptors};
use crate::produce_request::{ProduceRequest, outcomes};
use crate::wire::{Reader, Writer};

const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
/// Partitions of one request.
const TOGETHER: usize = 500;

pub fn create(broker: &Broker, topic: &Topic, config: &[String]) -> Outcome<Value> {
    let mut connection = Connection::open(&broker.address)?;
    let before = Reading::of(broker.pid);
    let begun = Instant::now();
    let mut request = Writer::request(CREATE_TOPICS, 4);
    request.i32(1);
    request.string(&topic.topic);
    request.count(topic.partitions);
    request.i16(1);
    request.i32(0); // no assignments
    request.count(config.len());
    for entry in config {
        let (key, value) = entry.split_once('=').ok_or("--config takes key=value")?;
        request.string(key);
        request.string(value);
    }
    request.i32(120_000);
    request.i8(0);
    let mut answer = Reader::new(connection.call(&request.finish())?);
    answer.i32();
    answer.i32();
    answer.string();
    let error = answer.i16();
    if error != 0 {
        return Err(format!("create: error {error} {}", String::from_utf8_lossy(answer.string())).into());
    }
    let answered = begun.elapsed();
    wait_writable(&mut connection, topic)?;
    let writable = begun.elapsed();
    let after = Reading::of(broker.pid);
    Ok(json!({
        "response_s": answered.as_secs_f64(), "writable_s": writable.as_secs_f64(),
        "cpu_s": after.cpu_s() - before.cpu_s(), "rss_mib": after.rss_kib as f64 / 1024.0,
        "descriptors": descriptors(broker.pid),
    }))
}

/// Until every partition has taken a record.
fn wait_writable(connection: &mut Connection, topic: &Topic) -> Outcome<()> {
    let mut left: Vec<i32> = (0..topic.partitions as i32).collect();
    loop {
        left = refused(connection, &topic.topic, &left)?;
        if left.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sends one record to each of `partitions`; those that did not take it.
pub fn refused(connection: &mut Connection, topic: &str, partitions: &[i32]) -> Outcome<Vec<i32>> {
    let batch = batch::batch(16, 1, Codec::None)?;
    let mut refused = Vec::new();
    for together in partitions.chunks(TOGETHER) {
        let mut request = ProduceRequest::new(topic, -1, together.len(), &batch);
        let answer = connection.call(request.stamp(0, together.iter().copied(), None, &mut []))?;
        refused.extend(outcomes(answer).into_iter().filter(|(_, error)| *error != 0).map(|(partition, _)| partition));
    }
    Ok(refused)
}

pub fn delete(broker: &Broker, topic: &Topic) -> Outcome<Value> {
    let mut request = Writer::request(DELETE_TOPICS, 3);
    request.i32(1);
    request.string(&topic.topic);
    request.i32(60_000);
    let mut connection = Connection::open(&broker.address)?;
    let mut answer = Reader::new(connection.call(&request.finish())?);
    answer.i32();
    answer.i32();
    answer.string();
    Ok(json!({ "error": answer.i16() }))
}
