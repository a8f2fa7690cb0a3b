//! Requests of group members: the classic protocol at versions before flexible fields, KIP-848 at its first.

use std::time::Duration;

use crate::Outcome;
use crate::connection::Connection;
use crate::wire::{Reader, Writer};

const FIND_COORDINATOR: i16 = 10;
const HEARTBEAT: i16 = 12;
const JOIN_GROUP: i16 = 11;
const SYNC_GROUP: i16 = 14;
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
const REBALANCE_IN_PROGRESS: i16 = 27;
/// The coordinator loads, or its topic is being made.
const NOT_YET: [i16; 3] = [14, 15, 16];
const RETRY: Duration = Duration::from_millis(20);
/// How long a member may be silent, and how long a rebalance waits for it.
const SESSION_MS: i32 = 45_000;
const REBALANCE_MS: i32 = 60_000;

/// Asks for the coordinator, which makes its topic if need be.
pub fn find_coordinator(connection: &mut Connection, group: &str) -> Outcome<()> {
    let mut request = Writer::request(FIND_COORDINATOR, 0);
    request.string(group);
    let request = request.finish();
    while Reader::new(connection.call(&request)?).i16() != 0 {
        std::thread::sleep(RETRY);
    }
    Ok(())
}

/// What a member joined.
pub struct Joined {
    pub generation: i32,
    pub member_id: String,
    /// For the leader: all members.
    pub members: Vec<String>,
}

/// JoinGroup 3, until the coordinator takes it.
pub fn join(connection: &mut Connection, group: &str, member_id: &str, topic: &str) -> Outcome<Joined> {
    let mut subscription = Writer::bare();
    subscription.i16(0);
    subscription.count(1);
    subscription.string(topic);
    subscription.i32(-1);
    let subscription = subscription.into_bytes();
    let mut request = Writer::request(JOIN_GROUP, 3);
    request.string(group);
    request.i32(SESSION_MS);
    request.i32(REBALANCE_MS);
    request.string(member_id);
    request.string("consumer");
    request.count(1);
    request.string("range");
    request.count(subscription.len());
    request.bytes(&subscription);
    let request = request.finish();
    loop {
        let mut answer = Reader::new(connection.call(&request)?);
        answer.i32();
        match answer.i16() {
            0 => {}
            error if NOT_YET.contains(&error) => {
                std::thread::sleep(RETRY);
                continue;
            }
            error => return Err(format!("join: error {error}").into()),
        }
        let generation = answer.i32();
        answer.string();
        answer.string();
        let member_id = String::from_utf8_lossy(answer.string()).into_owned();
        let members = (0..answer.count())
            .map(|_| {
                let member = String::from_utf8_lossy(answer.string()).into_owned();
                let metadata = answer.count();
                answer.take(metadata);
                member
            })
            .collect();
        return Ok(Joined { generation, member_id, members });
    }
}

/// SyncGroup 1; false when the next rebalance has begun.
pub fn sync(connection: &mut Connection, group: &str, joined: &Joined, partitions: usize) -> Outcome<bool> {
    let mut request = Writer::request(SYNC_GROUP, 1);
    request.string(group);
    request.i32(joined.generation);
    request.string(&joined.member_id);
    request.count(joined.members.len());
    for (at, member) in joined.members.iter().enumerate() {
        let own: Vec<_> = (at..partitions).step_by(joined.members.len()).collect();
        request.string(member);
        request.count(4 * own.len());
        own.iter().for_each(|partition| request.count(*partition));
    }
    let mut answer = Reader::new(connection.call(&request.finish())?);
    answer.i32();
    goes_on("sync", answer.i16())
}

/// Heartbeat 1; false when a rebalance has begun.
pub fn heartbeat(connection: &mut Connection, group: &str, joined: &Joined) -> Outcome<bool> {
    let mut request = Writer::request(HEARTBEAT, 1);
    request.string(group);
    request.i32(joined.generation);
    request.string(&joined.member_id);
    let mut answer = Reader::new(connection.call(&request.finish())?);
    answer.i32();
    goes_on("heartbeat", answer.i16())
}

fn goes_on(what: &str, error: i16) -> Outcome<bool> {
    match error {
        0 => Ok(true),
        REBALANCE_IN_PROGRESS => Ok(false),
        error => Err(format!("{what}: error {error}").into()),
    }
}

/// A member of the consumer protocol as it sees itself; epoch 0 joins.
pub struct Consumer {
    pub member_id: String,
    pub epoch: i32,
    pub topic_id: [u8; 16],
    pub owned: Vec<i32>,
}

impl Consumer {
    /// ConsumerGroupHeartbeat 0; true when the answer changed something, which the next one tells.
    pub fn heartbeat(&mut self, connection: &mut Connection, group: &str, topic: &str) -> Outcome<bool> {
        let joins = self.epoch == 0;
        let mut request = Writer::flexible_request(CONSUMER_GROUP_HEARTBEAT, 0);
        request.compact_string(group);
        request.compact_string(&self.member_id);
        request.i32(self.epoch);
        request.null(); // instance id
        request.null(); // rack
        request.i32(if joins { REBALANCE_MS } else { -1 });
        match joins {
            true => {
                request.varint(2);
                request.compact_string(topic);
            }
            false => request.null(),
        }
        request.null(); // assignor
        request.varint(1 + usize::from(!self.owned.is_empty()));
        if !self.owned.is_empty() {
            request.bytes(&self.topic_id);
            request.varint(1 + self.owned.len());
            self.owned.iter().for_each(|partition| request.i32(*partition));
            request.no_tags();
        }
        request.no_tags();
        let mut answer = Reader::new(connection.call(&request.finish())?);
        answer.varint(); // the header's tags
        answer.i32();
        match answer.i16() {
            0 => {}
            error if NOT_YET.contains(&error) => return Ok(false),
            error => return Err(format!("consumer heartbeat: error {error}").into()),
        }
        answer.compact_string();
        answer.compact_string();
        let epoch = answer.i32();
        answer.i32();
        let mut changed = epoch != self.epoch;
        self.epoch = epoch;
        if answer.i8() == 1 {
            self.owned.clear();
            for _ in 1..answer.varint() {
                self.topic_id.copy_from_slice(answer.take(16));
                self.owned.extend((1..answer.varint()).map(|_| answer.i32()));
                answer.varint();
            }
            changed = true;
        }
        Ok(changed)
    }
}
