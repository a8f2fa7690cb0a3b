//! A Produce request that is encoded once and sent many times.

use crate::Outcome;
use crate::batch::{Batch, CRC_AT, CRC_FROM, HEADER_BYTES, PRODUCER_AT};
use crate::connection::Producer;
use crate::wire::{Reader, Writer};

const PRODUCE: i16 = 0;
const VERSION: i16 = 8;
const CORRELATION_AT: usize = 8;
/// Below it a CRC over the whole batch is cheaper than combining two.
const COMBINE_FROM: usize = 256 << 10;

/// Where a batch lies in the request, and what is needed to stamp it again.
struct Slot {
    partition_at: usize,
    batch_at: usize,
    body_crc: u32,
    body_len: usize,
}

/// The request, with a batch for each of several partitions of one topic.
pub struct ProduceRequest {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    records: usize,
}

impl ProduceRequest {
    pub fn new(topic: &str, acks: i16, partitions: usize, batch: &Batch) -> Self {
        let mut request = Writer::request(PRODUCE, VERSION);
        request.i16(-1); // no transaction
        request.i16(acks);
        request.i32(30_000);
        request.i32(1);
        request.string(topic);
        request.count(partitions);
        let mut slots = Vec::with_capacity(partitions);
        for _ in 0..partitions {
            let partition_at = request.len();
            request.i32(0);
            request.count(batch.bytes.len());
            let batch_at = request.len();
            request.bytes(&batch.bytes);
            let body = &batch.bytes[HEADER_BYTES..];
            slots.push(Slot { partition_at, batch_at, body_crc: crc32c::crc32c(body), body_len: body.len() });
        }
        Self { bytes: request.finish(), slots, records: batch.records }
    }

    /// Makes it the request number `number` to these partitions; `sequences` are the producer's next by partition.
    pub fn stamp(
        &mut self,
        number: u64,
        partitions: impl Iterator<Item = i32>,
        producer: Option<Producer>,
        sequences: &mut [i32],
    ) -> &[u8] {
        self.bytes[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&(number as u32).to_be_bytes());
        for (slot, partition) in self.slots.iter().zip(partitions) {
            self.bytes[slot.partition_at..slot.partition_at + 4].copy_from_slice(&partition.to_be_bytes());
            let Some(Producer { id, epoch }) = producer else { continue };
            let batch = &mut self.bytes[slot.batch_at..slot.batch_at + HEADER_BYTES + slot.body_len];
            let sequence = &mut sequences[partition as usize];
            batch[PRODUCER_AT..PRODUCER_AT + 8].copy_from_slice(&id.to_be_bytes());
            batch[PRODUCER_AT + 8..PRODUCER_AT + 10].copy_from_slice(&epoch.to_be_bytes());
            batch[PRODUCER_AT + 10..PRODUCER_AT + 14].copy_from_slice(&sequence.to_be_bytes());
            *sequence = sequence.wrapping_add(self.records as i32) & i32::MAX;
            let crc = if slot.body_len < COMBINE_FROM {
                crc32c::crc32c(&batch[CRC_FROM..])
            } else {
                crc32c::crc32c_combine(crc32c::crc32c(&batch[CRC_FROM..HEADER_BYTES]), slot.body_crc, slot.body_len)
            };
            batch[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        }
        &self.bytes
    }
}

/// Partition and error code of each part of the answer.
pub fn outcomes(answer: &[u8]) -> Vec<(i32, i16)> {
    let mut answer = Reader::new(answer);
    let mut outcomes = Vec::new();
    for _ in 0..answer.count() {
        answer.string();
        for _ in 0..answer.count() {
            outcomes.push((answer.i32(), answer.i16()));
            answer.take(24);
            for _ in 0..answer.count() {
                answer.i32();
                answer.string();
            }
            answer.string();
        }
    }
    outcomes
}

/// Fails at the first partition whose batch was refused.
pub fn check(answer: &[u8]) -> Outcome<()> {
    match outcomes(answer).iter().find(|(_, error)| *error != 0) {
        Some((partition, error)) => Err(format!("produce to partition {partition}: error {error}").into()),
        None => Ok(()),
    }
}
