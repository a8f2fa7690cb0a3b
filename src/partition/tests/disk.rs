use std::sync::atomic::Ordering::SeqCst;

use super::node::*;
use crate::partition::read::{ReadSpec, Records};

#[tokio::test]
async fn what_is_not_in_the_page_cache_is_read_apart_from_the_worker() {
    let node = TestNode::with(|config| config.segment_bytes = 4096);
    node.fill(40, 200);
    let partition = node.partition();
    let asked = ReadSpec { max_bytes: 1000, ..spec(100) };
    let warm = bytes_of(&partition.read(&asked).unwrap());
    node.faults.cold.store(true, SeqCst);
    let outcome = partition.read(&asked).unwrap();
    assert_eq!(outcome.high_watermark, 400, "what needs no file is known at once");
    let Records::Cold(cold) = outcome.records else { panic!("it waits for the disk") };
    assert!(cold.is_on_disk());
    let loaded = cold.load().await.unwrap();
    let range = loaded.range.expect("it is local");
    let mut bytes = vec![0; range.len as usize];
    range.file.read_exact_at(&mut bytes, range.position).unwrap();
    assert_eq!(bytes, warm);
    assert!(matches!(partition.read(&asked).unwrap().records, Records::File(_)), "it is warm now");
}

#[test]
fn who_may_wait_reads_at_once() {
    let node = TestNode::with(|_| {});
    node.fill(3, 100);
    node.faults.cold.store(true, SeqCst);
    let outcome = node.partition().read_from_disk(&spec(10)).unwrap();
    assert!(matches!(outcome.records, Records::File(_)));
}
