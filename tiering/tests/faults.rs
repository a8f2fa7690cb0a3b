//! Every fault of a store, against uploads and reads: what passes is not seen, what does not is an error in bounded time,
//! and wrong bytes are never taken for right ones. The table of all cases is in docs/crash-safety.md.

mod fixture;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fixture::{Segment, faulty, machine, options, over};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt};
use rstest::rstest;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::platform::fs::{Entry, Fs, Open, RealFs, SharedFile};
use terrace_tiering::read::{ReadError, ReadHint};
use terrace_tiering::store::StoreError;
use terrace_tiering::store::faulty::{Fault, Faulty};
use terrace_tiering::store::health::StoreHealth;
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::open::{self, StoreKind};
use terrace_tiering::tier::{DiskCacheOptions, Machine, TierError};
use terrace_tiering::upload::UploadError;
use terrace_tiering::{ObjectRef, Tier, TierOptions};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

const SMALL: usize = 10_000;
/// Of ten batches: goes in parts.
const LARGE: usize = 1_700_000;
/// Longer than anything waits for a store.
const PATIENCE: Duration = Duration::from_secs(600);

async fn read(tier: &Tier, object: &ObjectRef, offset: i64) -> Result<Bytes, ReadError> {
    tier.read(object, offset, 1, ReadHint::default()).await.map(|read| read.chunks[0].clone())
}

async fn all_bytes(tier: &Tier, object: &ObjectRef) -> Result<Vec<u8>, ReadError> {
    let (mut bytes, mut offset) = (Vec::new(), object.base_offset);
    while offset <= object.last_offset {
        let read = tier.read(object, offset, 1 << 20, ReadHint::default()).await?;
        read.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        offset = read.next_offset;
    }
    Ok(bytes)
}

/// A segment in a store, and a tier that has read nothing of it.
async fn stored(batches: i64, batch_bytes: usize) -> (Arc<Tier>, Faulty, Segment, ObjectRef) {
    let (writer, store) = faulty(options(), StoreKind::Memory).await;
    let segment = Segment::new(0, batches, batch_bytes);
    let object = segment.object(&writer.upload(segment.upload.clone()).await.unwrap());
    (over(&store, options(), StoreKind::Memory).await, store, segment, object)
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_fault_that_passes_is_not_seen_by_an_upload(
    #[values(Op::Put, Op::Head, Op::Get)] op: Op,
    #[values(
        Fault::Error,
        Fault::ErrorAfter,
        Fault::Hang,
        Fault::HangAfter,
        Fault::Conflict,
        Fault::Slow(Duration::from_secs(10))
    )]
    fault: Fault,
) {
    // 409 is an answer to writes alone.
    if matches!(fault, Fault::Conflict) && op != Op::Put {
        return;
    }
    let (tier, store) = faulty(options(), StoreKind::S3).await;
    store.next(op, fault);
    let segment = Segment::new(0, 10, SMALL);
    let object = segment.object(&tier.upload(segment.upload.clone()).await.unwrap());
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
}

#[rstest]
#[case::error(Fault::Error)]
#[case::answer_lost(Fault::ErrorAfter)]
#[case::hangs(Fault::Hang)]
#[case::answer_never_comes(Fault::HangAfter)]
#[case::slow(Fault::Slow(Duration::from_secs(10)))]
#[case::reset_at_once(Fault::Cut(0))]
#[case::reset_within_a_chunk(Fault::Cut(700_000))]
#[case::reset_behind_a_chunk(Fault::Cut(1_200_000))]
#[case::short(Fault::Short(1_500_000))]
#[case::empty(Fault::Short(0))]
#[case::wrong_bytes(Fault::FlipBit)]
#[tokio::test(start_paused = true)]
async fn a_fault_that_passes_is_not_seen_by_a_reader(#[case] fault: Fault) {
    let (tier, store, segment, object) = stored(40, 100_000).await;
    // Once for the footer, which is one GET of its own, once for the chunks.
    for _ in 0..2 {
        store.next(Op::Get, fault.clone());
        let footer = tier.footer(&object).await;
        if !matches!(fault, Fault::FlipBit) {
            footer.unwrap();
        }
    }
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
}

/// A download may take as long as it moves; one that stands still is given up.
#[rstest]
#[case::slow_but_moving(Duration::from_secs(10), true)]
#[case::standing_still(Duration::from_secs(20), false)]
#[tokio::test(start_paused = true)]
async fn a_slow_download_is_waited_for_while_it_moves(#[case] pause: Duration, #[case] done: bool) {
    let (tier, store, segment, object) = stored(40, 100_000).await;
    store.fail_at_random_with(1000, &[Fault::Trickle(pause)]);
    let begun = Instant::now();
    let (mut bytes, mut offset) = (Vec::new(), 0);
    let read = loop {
        match tier.read(&object, offset, 4 << 20, ReadHint::default()).await {
            Ok(read) => {
                read.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
                offset = read.next_offset;
            }
            Err(error) => break Err(error),
        }
        if offset == 40 {
            break Ok(());
        }
    };
    match read {
        Ok(()) => assert!(done && bytes == segment.bytes && begun.elapsed() > PATIENCE, "{:?}", begun.elapsed()),
        Err(error) => assert!(!done && matches!(error, ReadError::Store(StoreError::Timeout(_))), "{error}"),
    }
    assert!(!done || matches!(tier.health(), StoreHealth::Up { .. }));
}

/// An object that is archived, or whose key is gone: the store is well, and nobody else has to wait for it.
#[tokio::test(start_paused = true)]
async fn an_object_that_is_refused_is_an_error_for_its_readers_alone() {
    let (tier, store, segment, object) = stored(10, SMALL).await;
    let other = Segment::new(100, 10, SMALL);
    let refused = other.object(&tier.upload(other.upload.clone()).await.unwrap());
    for _ in 0..20 {
        store.next(Op::Get, Fault::Denied);
        let error = read(&tier, &refused, 100).await.unwrap_err();
        assert!(matches!(error, ReadError::Store(StoreError::Denied(_))), "{error}");
    }
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_in_bounded_time(
    #[values(Op::Put, Op::PutPart, Op::Head, Op::Get, Op::List, Op::Delete)] op: Op,
) {
    let (tier, store, _, object) = stored(10, SMALL).await;
    store.fail_at_random_with(1000, &[Fault::Hang]);
    let work = async {
        match op {
            Op::Put | Op::Head => tier.upload(Segment::new(50, 10, SMALL).upload).await.unwrap_err().to_string(),
            Op::PutPart => tier.upload(Segment::new(50, 10, LARGE).upload).await.unwrap_err().to_string(),
            Op::Get => read(&tier, &object, 0).await.unwrap_err().to_string(),
            Op::List => tier.newest_owner().await.unwrap_err().to_string(),
            Op::Delete => tier.delete(&object).await.unwrap_err().to_string(),
        }
    };
    let said = tokio::time::timeout(PATIENCE, work).await.expect("it is given up");
    assert!(said.contains("did not answer"), "{said}");
}

/// Ten minutes without an answer that is worth something: readers and copiers fail at once, the store is asked once a
/// second, and what works afterwards works at once.
#[tokio::test(start_paused = true)]
async fn a_storm_of_errors_costs_a_store_one_request_a_second() {
    let (tier, store, segment, object) = stored(10, SMALL).await;
    store.set_down(true);
    let before = store.count_all();
    let begun = Instant::now();
    let (mut failures, other) = (0, Segment::new(100, 1, SMALL));
    while begun.elapsed() < PATIENCE {
        failures += usize::from(read(&tier, &object, 0).await.is_err());
        let uploaded = tier.upload(other.upload.clone()).await;
        failures += usize::from(matches!(uploaded, Err(UploadError::Store(_))));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let requests = store.count_all() - before;
    assert!(failures > 2_000, "nobody waits for a deadline: {failures}");
    assert!((300..=650).contains(&requests), "{requests} in ten minutes");
    store.set_down(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
}

#[rstest]
#[case::slow_but_alive(Duration::from_secs(60), true)]
#[case::slower_than_any_line(Duration::from_secs(3600), false)]
#[tokio::test(start_paused = true)]
async fn slow_parts_are_waited_for_as_long_as_a_slow_line_takes(#[case] each: Duration, #[case] done: bool) {
    let (tier, store) = faulty(options(), StoreKind::S3).await;
    // The second part is small.
    [each, each / 6].into_iter().for_each(|each| store.next(Op::PutPart, Fault::Slow(each)));
    let segment = Segment::new(0, 10, LARGE);
    let uploaded = tokio::time::timeout(PATIENCE, tier.upload(segment.upload.clone())).await.expect("bounded");
    match uploaded {
        Ok(uploaded) => {
            assert!(done);
            assert_eq!(all_bytes(&tier, &segment.object(&uploaded)).await.unwrap(), segment.bytes);
        }
        Err(error) => assert!(!done && matches!(error, UploadError::Store(StoreError::Timeout(_))), "{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn parts_that_arrive_out_of_order_are_put_together_in_order() {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    let gates: Vec<_> = (0..3).map(|_| Arc::new(Semaphore::new(0))).collect();
    gates.iter().for_each(|gate| store.next(Op::PutPart, Fault::Wait(Arc::clone(gate))));
    let segment = Segment::new(0, 19, 2_400_000);
    let open = async {
        for gate in gates.iter().rev() {
            // Time passes only when nothing else can be done.
            tokio::time::sleep(Duration::from_millis(1)).await;
            gate.add_permits(1);
        }
    };
    let (uploaded, ()) = tokio::join!(tier.upload(segment.upload.clone()), open);
    let object = segment.object(&uploaded.unwrap());
    assert!(object.object_bytes > 32 << 20, "three parts");
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
}

#[rstest]
#[case::answer_lost(Fault::ErrorAfter, true)]
#[case::answer_never_comes(Fault::HangAfter, true)]
#[case::not_done(Fault::Error, false)]
#[case::hangs(Fault::Hang, false)]
#[tokio::test(start_paused = true)]
async fn an_object_whose_last_answer_was_lost_is_not_sent_again(#[case] fault: Fault, #[case] there: bool) {
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    store.next_complete(fault);
    let segment = Segment::new(0, 10, LARGE);
    let uploaded = tier.upload(segment.upload.clone()).await;
    assert_eq!(uploaded.is_ok(), there, "{uploaded:?}");
    if let Ok(uploaded) = uploaded {
        assert_eq!(all_bytes(&tier, &segment.object(&uploaded)).await.unwrap(), segment.bytes);
    }
}

/// 409: S3 refuses a key while another request for it is on its way, which is our own whose answer was not waited for.
/// That is no object of somebody else, and no reason to give up.
#[rstest]
#[case::passes(1, true)]
#[case::stays(9, false)]
#[tokio::test(start_paused = true)]
async fn a_conflict_with_our_own_request_is_waited_out(#[case] times: usize, #[case] done: bool) {
    let (tier, store) = faulty(options(), StoreKind::S3).await;
    (0..times).for_each(|_| store.next(Op::Put, Fault::Conflict));
    let claim = OwnerClaim { node_epoch: 1, node_id: 1, process: Uuid::from_u128(9), claimed_at_ms: 5 };
    let claimed = tier.claim_owner(&claim).await;
    assert_eq!(claimed.is_ok(), done, "{claimed:?}");
    if let Err(error) = claimed {
        let transient = matches!(&error, terrace_tiering::cluster::owner::OwnerError::Store(e) if e.is_transient());
        assert!(transient, "the start asks again: {error}");
        store.clear();
        tier.claim_owner(&claim).await.unwrap();
    }
}

/// 412: the key is taken by our own first try, whose answer was lost. The bytes decide.
#[tokio::test(start_paused = true)]
async fn an_object_of_our_own_first_try_is_taken_for_ours() {
    let (tier, store) = faulty(options(), StoreKind::S3).await;
    store.next(Op::Put, Fault::HangAfter);
    let claim = OwnerClaim { node_epoch: 1, node_id: 1, process: Uuid::from_u128(9), claimed_at_ms: 5 };
    tier.claim_owner(&claim).await.unwrap();
    store.next(Op::Put, Fault::HangAfter);
    let segment = Segment::new(0, 10, SMALL);
    tier.upload(segment.upload.clone()).await.unwrap();
    // What holds the key counts by its bytes and not by its name.
    let (tier, store) = faulty(options(), StoreKind::Memory).await;
    store.next(Op::Put, Fault::FlipBit);
    store.next(Op::Head, Fault::HangAfter);
    assert!(matches!(tier.upload(segment.upload).await, Err(UploadError::Verification(_))));
}

#[tokio::test(start_paused = true)]
async fn expired_credentials_are_told_at_once_and_not_hammered() {
    let (tier, store, segment, object) = stored(10, SMALL).await;
    let all = [Op::Put, Op::PutPart, Op::Get, Op::Head, Op::List, Op::Delete];
    store.deny(&all);
    let before = store.count_all();
    let error = read(&tier, &object, 0).await.unwrap_err();
    assert!(matches!(error, ReadError::Store(StoreError::Denied(_))), "{error}");
    assert_eq!(store.count_all() - before, 1, "what is refused is not sent again");
    for _ in 0..20 {
        let _ = tier.newest_owner().await;
    }
    assert!(matches!(tier.health(), StoreHealth::Down { reason, .. } if reason.contains("refused access")));
    assert!(store.count_all() - before <= 6);
    store.deny(&[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
}

/// An S3 that says the same of everything.
fn s3_that_answers(status: &'static str, body: &'static str) -> (open::Opened, TierOptions) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 8192]);
            let head = "Content-Type: application/xml\r\nConnection: close";
            let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let mut options = TierOptions::new("s3://bucket", "cluster");
    options.endpoint = Some(format!("http://{address}"));
    let builder = AmazonS3Builder::new()
        .with_access_key_id("old")
        .with_secret_access_key("old")
        .with_token("old")
        .with_region("us-east-1");
    (open::s3(builder, &options).unwrap(), options)
}

/// S3 says 400 of a session token that has expired, and 403 of an object that was archived; whoever reads only the status
/// takes one for a fault that may pass and the other for wrong credentials.
#[rstest]
#[case::expired("400 Bad Request", "<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>", true)]
#[case::archived("403 Forbidden", "<Error><Code>InvalidObjectState</Code><Message>no</Message></Error>", false)]
#[case::encrypted("400 Bad Request", "<Error><Code>InvalidRequest</Code><Message>SSE-C</Message></Error>", false)]
#[tokio::test]
async fn what_s3_means_is_in_its_code(#[case] status: &'static str, #[case] body: &'static str, #[case] denied: bool) {
    let (opened, options) = s3_that_answers(status, body);
    let refused = Tier::over(opened.store, opened.kind, opened.root, options, machine()).await.unwrap_err();
    match refused {
        TierError::Store(StoreError::Denied(_)) => assert!(denied),
        TierError::Store(StoreError::Refused(_)) => assert!(!denied),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_list_of_uploads_that_leads_back_to_its_beginning_ends() {
    let page = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>\
                <NextUploadIdMarker>i</NextUploadIdMarker></ListMultipartUploadsResult>";
    let (opened, _) = s3_that_answers("200 OK", page);
    let listed = opened.admin.unwrap().uploads("p").await;
    assert!(matches!(&listed, Err(StoreError::Unsupported(why)) if why.contains("never ends")), "{listed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_read_only_bucket_is_read_and_known_not_to_take_copies() {
    let (tier, store, segment, object) = stored(10, SMALL).await;
    store.deny(&[Op::Put, Op::PutPart, Op::Delete]);
    for _ in 0..20 {
        let refused = tier.upload(Segment::new(100, 1, SMALL).upload).await;
        assert!(matches!(refused, Err(UploadError::Store(StoreError::Denied(_) | StoreError::Down(_)))));
        assert!(tier.newest_owner().await.is_ok(), "who reads does not notice");
    }
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
    assert!(matches!(tier.health(), StoreHealth::Down { reason, .. } if reason.contains("refused access")));
    assert!(tier.takes_writes().await.is_err());
    let puts = store.count(Op::Put);
    assert!(puts <= 10, "{puts}");
    store.deny(&[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    tier.takes_writes().await.expect("nobody else would find out");
    tier.upload(Segment::new(100, 1, SMALL).upload).await.unwrap();
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_gone_is_an_error_for_its_readers_alone() {
    let (tier, store, segment, object) = stored(10, SMALL).await;
    let other = Segment::new(100, 10, SMALL);
    let gone = other.object(&tier.upload(other.upload.clone()).await.unwrap());
    store.delete(&tier.names().segment(&gone)).await.unwrap();
    let before = store.count(Op::Get);
    for _ in 0..20 {
        let error = read(&tier, &gone, 100).await.unwrap_err();
        assert!(matches!(&error, ReadError::Gone(key) if key.contains(&gone.uuid.simple().to_string())), "{error}");
    }
    assert_eq!(store.count(Op::Get) - before, 20, "it does not come back by asking again");
    assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
    assert!(matches!(tier.health(), StoreHealth::Up { .. }));
}

/// Bytes that went missing or changed after the verification: readers get an error, never them, and everybody else goes on.
#[rstest]
#[case::first_half_only(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2))]
#[case::nothing(|bytes: &mut Vec<u8>| bytes.clear())]
#[case::footer_gone(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 500))]
#[case::a_bit_of_the_trailer(|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1)]
#[case::a_bit_of_the_footer(|bytes: &mut Vec<u8>| { let at = bytes.len() - 100; bytes[at] ^= 1; })]
#[case::a_bit_of_each_chunk(|bytes: &mut Vec<u8>| bytes.iter_mut().take(4_000_000).step_by(500_000).for_each(|b| *b ^= 1))]
#[case::zeros(|bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte = 0))]
#[tokio::test(start_paused = true)]
async fn bytes_that_went_wrong_later_are_never_served(#[case] damage: fn(&mut Vec<u8>)) {
    let (tier, store, _, damaged) = stored(40, 100_000).await;
    let other = Segment::new(100, 10, SMALL);
    let whole = other.object(&tier.upload(other.upload.clone()).await.unwrap());
    let key = tier.names().segment(&damaged);
    let mut bytes = store.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    damage(&mut bytes);
    store.put(&key, bytes.into()).await.unwrap();
    let known = over(&store, options(), StoreKind::Memory).await;
    for offset in 0..40 {
        let error = read(&known, &damaged, offset).await.expect_err("it is wrong");
        assert!(!matches!(error, ReadError::Gone(_) | ReadError::OffsetOutOfRange(_)), "{error}");
        assert!(matches!(known.health(), StoreHealth::Up { .. }), "the store is well: {error}");
    }
    assert_eq!(all_bytes(&known, &whole).await.unwrap(), other.bytes);
}

/// A file system that is full: what is there can be read and removed.
#[derive(Debug)]
struct FullFs;

#[derive(Debug)]
struct FullFile(SharedFile);

impl Fs for FullFs {
    fn open(&self, path: &std::path::Path, how: Open) -> std::io::Result<SharedFile> {
        Ok(Arc::new(FullFile(RealFs.open(path, how)?)))
    }
    fn read(&self, path: &std::path::Path) -> std::io::Result<Vec<u8>> {
        RealFs.read(path)
    }
    fn create_dir_all(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealFs.create_dir_all(path)
    }
    fn create_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealFs.create_dir(path)
    }
    fn read_dir(&self, path: &std::path::Path) -> std::io::Result<Vec<Entry>> {
        RealFs.read_dir(path)
    }
    fn exists(&self, path: &std::path::Path) -> bool {
        RealFs.exists(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        RealFs.rename(from, to)
    }
    fn remove_file(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealFs.remove_file(path)
    }
    fn remove_dir_all(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealFs.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealFs.sync_dir(path)
    }
}

impl terrace_tiering::platform::fs::File for FullFile {
    fn write_all_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, position)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn set_len(&self, _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.0.descriptor()
    }
}

#[tokio::test]
async fn a_full_cache_disk_costs_downloads_and_nothing_else() {
    let (_, store, segment, object) = stored(40, 100_000).await;
    let dir = tempfile::tempdir().unwrap();
    let disk_cache = Some(DiskCacheOptions { dir: dir.path().to_owned(), bytes: 1 << 30 });
    let options = TierOptions { disk_cache, memory_cache_bytes: 17 << 20, ..options() };
    let machine = Machine { fs: Arc::new(FullFs), ..machine() };
    let root = object_store::path::Path::default();
    let inner: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let tier = Tier::over(inner, StoreKind::Memory, root, options, machine.clone()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes);
    }
    assert!(machine.tasks.stop(Duration::from_secs(10)).await);
    assert_eq!(tier.disk_cache_bytes(), Some(0));
    let files = walk(dir.path());
    assert!(files.is_empty(), "no half of a chunk is left: {files:?}");
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Everything at once, by seed: each upload ends, whole or as an error; each read gives the right bytes or an error.
#[rstest]
#[tokio::test(start_paused = true)]
async fn any_mixture_of_faults_ends_in_right_bytes_or_an_error(#[values(1, 2, 3, 4)] seed: u64) {
    let store = Faulty::new(Arc::new(object_store::memory::InMemory::new()), seed);
    let tier = over(&store, options(), StoreKind::Memory).await;
    let faults = [
        Fault::Error,
        Fault::ErrorAfter,
        Fault::Hang,
        Fault::HangAfter,
        Fault::Slow(Duration::from_secs(20)),
        Fault::Denied,
        Fault::Conflict,
        Fault::Missing,
        Fault::Cut(300_000),
        Fault::Short(400_000),
        Fault::FlipBit,
    ];
    store.fail_at_random_with(100, &faults);
    let (mut whole, mut failed) = (0, 0);
    for n in 0..25 {
        let segment = Segment::new(100 * n, 12, 100_000);
        let uploaded = tokio::time::timeout(PATIENCE, tier.upload(segment.upload.clone())).await.expect("it ends");
        let Ok(uploaded) = uploaded else {
            failed += 1;
            continue;
        };
        let object = segment.object(&uploaded);
        for _ in 0..3 {
            let read = tokio::time::timeout(PATIENCE, all_bytes(&tier, &object)).await.expect("it ends");
            match read {
                Ok(bytes) => assert_eq!(bytes, segment.bytes, "seed {seed}"),
                Err(_) => failed += 1,
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        store.fail_at_random(0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(all_bytes(&tier, &object).await.unwrap(), segment.bytes, "seed {seed}: what was verified is there");
        whole += 1;
        store.fail_at_random_with(100, &faults);
    }
    assert!(whole > 10 && failed > 0, "seed {seed}: {whole} whole, {failed} failed");
}
