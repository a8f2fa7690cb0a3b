//! What `terrace remote verify` and the scrubber find, and what they leave alone; and what everything costs in requests.

mod fixture;

use std::sync::Arc;

use fixture::{Segment, TOPIC, faulty, name_all, options, over};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use rstest::rstest;
use terrace_tiering::check::Damage;
use terrace_tiering::inspect::verify::{Depth, Finding, Progress, Report};
use terrace_tiering::manifest::commit::RootContent;
use terrace_tiering::read::ReadHint;
use terrace_tiering::store::faulty::{Fault, Faulty};
use terrace_tiering::store::meter::{Class, Op, Purpose};
use terrace_tiering::store::open::StoreKind;
use terrace_tiering::{ObjectRef, Tier};
use uuid::Uuid;

/// Three segments of about 3 MB each, and the root that names them.
async fn stored() -> (Arc<Tier>, Faulty, Vec<ObjectRef>) {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    let mut objects = Vec::new();
    for base in [0, 30, 60] {
        let segment = Segment::new(base, 30, 100_000);
        objects.push(segment.object(&tier.upload(segment.upload.clone()).await.unwrap()));
    }
    name_all(&tier).await;
    (tier, store, objects)
}

async fn verify(tier: &Tier, depth: Depth) -> Report {
    tier.verify_stored(|_, _| true, depth, &Progress::default()).await.unwrap()
}

fn damage(report: &Report) -> Vec<(i64, Damage)> {
    let of_segment = |finding: &Finding| match finding {
        Finding::Segment { object, damage, .. } => Some((object.base_offset, *damage)),
        Finding::Manifest { .. } => None,
    };
    report.findings.iter().filter_map(of_segment).collect()
}

async fn change(store: &Faulty, key: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = store.get(key).await.unwrap().bytes().await.unwrap().to_vec();
    with(&mut bytes);
    store.put(key, PutPayload::from(bytes)).await.unwrap();
}

#[tokio::test]
async fn a_whole_bucket_has_no_findings() {
    let (tier, _, objects) = stored().await;
    for depth in [Depth::Footers, Depth::Full] {
        let progress = Progress::default();
        let report = tier.verify_stored(|_, _| true, depth, &progress).await.unwrap();
        assert_eq!((report.partitions, report.segments, report.findings.len(), report.unnamed.len()), (1, 3, 0, 0));
        assert_eq!(report.bytes, objects.iter().map(|object| object.object_bytes).sum::<u64>());
        let (total, done) = (progress.total.into_inner(), progress.done.into_inner());
        assert_eq!((total, done), if depth == Depth::Full { (report.bytes, report.bytes) } else { (3, 3) });
    }
    assert_eq!(verify_none(&tier).await.segments, 0, "only what is wanted");
}

async fn verify_none(tier: &Tier) -> Report {
    tier.verify_stored(|_, partition| partition == 7, Depth::Full, &Progress::default()).await.unwrap()
}

#[rstest]
#[case::footers(Depth::Footers)]
#[case::full(Depth::Full)]
#[tokio::test]
async fn each_kind_of_damage_is_named(#[case] depth: Depth) {
    let (tier, store, objects) = stored().await;
    let keys: Vec<Path> = objects.iter().map(|object| tier.names().segment(object)).collect();
    store.delete(&keys[0]).await.unwrap();
    change(&store, &keys[1], |bytes| bytes.truncate(100)).await;
    let footer_at = tier.check(&objects[2]).await.map(|_| objects[2].object_bytes as usize - 40).unwrap();
    change(&store, &keys[2], |bytes| bytes[footer_at] ^= 1).await;
    let found = damage(&verify(&tier, depth).await);
    assert_eq!(found[0], (0, Damage::Missing));
    assert_eq!(found[1], (30, Damage::Size { stored: 100, expected: objects[1].object_bytes }));
    assert!(matches!(found[2], (60, Damage::Footer(_))), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn only_a_full_look_finds_rotten_chunks_and_names_each() {
    let (tier, store, objects) = stored().await;
    let chunks = tier.footer(&objects[1]).await.unwrap().chunks.clone();
    assert!(chunks.len() >= 3, "{}", chunks.len());
    let key = tier.names().segment(&objects[1]);
    for number in [0, 2] {
        let at = chunks[number].position as usize + 9;
        change(&store, &key, |bytes| bytes[at] ^= 4).await;
    }
    assert_eq!(damage(&verify(&tier, Depth::Footers).await), []);
    let found = damage(&verify(&tier, Depth::Full).await);
    let chunk = |number: usize| {
        let next_offset = chunks.get(number + 1).map_or(60, |next| next.first_offset);
        let (position, first_offset) = (chunks[number].position, chunks[number].first_offset);
        (30, Damage::Chunk { number, position, first_offset, next_offset })
    };
    assert_eq!(found, [chunk(0), chunk(2)]);
    assert_eq!(tier.memory_cache_bytes(), 0, "no cache was filled");
}

#[tokio::test]
async fn bytes_that_are_wrong_once_were_damaged_on_the_way() {
    let (tier, store, _) = stored().await;
    let roots_and_footers = store.count(Op::Get);
    let mut checked = 0;
    for object in tier.all_segments().await.unwrap().into_values().flatten() {
        let mut check = tier.check(&object).await.unwrap();
        store.next(Op::Get, Fault::FlipBit);
        check.read_all().await.unwrap();
        assert_eq!(check.damage(), []);
        checked += 1;
    }
    assert_eq!(checked, 3);
    assert!(store.count(Op::Get) > roots_and_footers + 3 * 2, "what was wrong was read again");
}

#[tokio::test]
async fn what_is_deleted_while_it_is_verified_is_no_finding() {
    let (tier, store, objects) = stored().await;
    store.delete(&tier.names().segment(&objects[0])).await.unwrap();
    assert_eq!(damage(&verify(&tier, Depth::Footers).await).len(), 1, "the newest root names it");
    // The root that no longer names it comes between the look at the object and the look whether it is still named.
    let previous = tier.load_manifest(TOPIC, 0).await.unwrap().unwrap();
    let content = RootContent {
        topic: TOPIC,
        partition: 0,
        leader_epoch: 1,
        writer: Uuid::nil(),
        log_start: 30,
        cleaned_end: 0,
        entries: &previous.entries[1..],
    };
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    store.next(Op::Head, Fault::Wait(gate.clone()));
    let heads = store.count(Op::Head);
    let meanwhile = async {
        while store.count(Op::Head) == heads {
            tokio::task::yield_now().await;
        }
        tier.commit_root(Some(&previous.committed), content).await.unwrap();
        gate.add_permits(1);
    };
    let (report, ()) = tokio::join!(verify(&tier, Depth::Footers), meanwhile);
    assert_eq!(damage(&report), []);
}

#[tokio::test]
async fn unnamed_objects_and_unreadable_manifests_are_named() {
    let (tier, store, _) = stored().await;
    let segment = Segment::new(90, 5, 1000);
    let uuid = tier.upload(segment.upload.clone()).await.unwrap().uuid;
    let report = verify(&tier, Depth::Footers).await;
    assert_eq!(report.unnamed.iter().map(|each| each.object.uuid).collect::<Vec<_>>(), [uuid]);
    assert!(report.findings.is_empty());

    let root = tier.newest_roots().await.unwrap()[0];
    let name =
        terrace_tiering::names::ManifestName::Root { leader_epoch: root.leader_epoch, generation: root.generation };
    change(&store, &tier.names().manifest(TOPIC, 0, name), |bytes| bytes[30] ^= 1).await;
    let report = verify(&tier, Depth::Footers).await;
    assert!(matches!(&report.findings[..], [Finding::Manifest { partition: 0, .. }]), "{report:?}");
    assert!(report.unnamed.is_empty(), "what an unreadable manifest names is not known");
}

/// 256 MiB, for a quarter of what a GiB costs.
const QUARTER: u64 = 256 << 20;

#[tokio::test]
async fn a_gib_costs_so_many_requests_and_no_more() {
    // Parts of a store that checks checksums: what was sent is not read back in full.
    let (writer, store) = faulty(options(), StoreKind::S3).await;
    let batches = QUARTER as i64 / (1 << 17);
    let segment = Segment::new(0, batches, 1 << 17);
    let object = segment.object(&writer.upload(segment.upload.clone()).await.unwrap());
    let copied = *writer.usage().of(Purpose::Copy);
    // 16 parts of 16 MiB, one for the footer, one call before and one behind; a look at the size, one at the footer.
    assert_eq!((copied.of_class(Class::A), copied.of_class(Class::B)), (19, 2));
    assert!(copied.of_class(Class::A) * 4 <= 80 && copied.received < 1 << 20, "{copied:?}");

    let reader = over(&store, options(), StoreKind::S3).await;
    let mut offset = 0;
    while offset < batches {
        offset = reader.read(&object, offset, 1 << 20, ReadHint::default()).await.unwrap().next_offset;
    }
    let replayed = *reader.usage().of(Purpose::Replay);
    let gets = replayed.of_op(Op::Get);
    assert!((16..=21).contains(&gets), "{gets} GETs for a quarter of a GiB, one of them for the footer");
    assert_eq!((replayed.of_class(Class::A), replayed.of_class(Class::B)), (0, gets));
    let footer = object.object_bytes - QUARTER;
    assert!((QUARTER..=QUARTER + footer + (64 << 10)).contains(&replayed.received), "nothing comes twice");

    let mut check = reader.check(&object).await.unwrap();
    check.read_all().await.unwrap();
    let scrubbed = *reader.usage().of(Purpose::Scrub);
    // Windows of 8 MiB, the size, the footer.
    assert_eq!((scrubbed.of_class(Class::A), scrubbed.of_class(Class::B)), (0, 34));
}

#[tokio::test]
async fn every_request_is_counted_for_what_it_is_for() {
    let (tier, _, objects) = stored().await;
    tier.delete(&objects[0]).await.unwrap();
    tier.find_orphans(&Default::default(), 0).await.unwrap();
    tier.newest_owner().await.unwrap();
    let usage = tier.usage();
    let seen = |purpose: Purpose, op: Op| usage.of(purpose).of_op(op);
    assert_eq!((seen(Purpose::Copy, Op::Put), seen(Purpose::Copy, Op::Head)), (3, 3));
    assert!(usage.of(Purpose::Copy).sent > 9_000_000 && usage.of(Purpose::Copy).received > 9_000_000, "and read back");
    assert_eq!((seen(Purpose::Delete, Op::Delete), seen(Purpose::Sweep, Op::List)), (1, 1));
    assert_eq!(seen(Purpose::Manifest, Op::Put), 1);
    assert_eq!(seen(Purpose::Replay, Op::Get), 3, "footers, to rebuild the manifest");
    assert_eq!((seen(Purpose::Metadata, Op::Put), seen(Purpose::Metadata, Op::List)), (2, 1), "the probe, the claims");
}
