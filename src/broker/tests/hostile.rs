//! Every API that is served, in every version, asked with hostile fields, damaged bytes and noise: an answer that reads by
//! the schema of its version or, where the shape is damaged, a closed connection; never a panic, never a wait without end.
//!
//! `TERRACE_HOSTILE_SEED` asks for other requests, `TERRACE_HOSTILE_SECONDS` for more of them. A failure names the seed and
//! the request.

mod answers;
mod requests;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::{StreamExt, stream};
use rstest::rstest;

use super::*;
use crate::api::ROWS;
use crate::protocol::api_key::ApiKey;
use answers::Reading;
use requests::{Hostile, Way};

const SEED: u64 = 1;
/// Begun after this long is no round any more; the first one is always whole.
const SECONDS: u64 = 5;
const AT_ONCE: usize = 16;
/// Named like nobody else's, so that panics of other tests in this process are not taken for ours.
const THREAD: &str = "hostile-requests";
/// Those which a sound request may make wait for others, or that have no answer at all (acks=0).
const MAY_STAY_SILENT: [ApiKey; 4] = [ApiKey::Produce, ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup];
/// How long such a one is listened to before the client goes away.
const LISTENED: Duration = Duration::from_millis(200);

/// One request on a connection of its own.
struct Case {
    key: ApiKey,
    version: i16,
    way: Way,
    body: Vec<u8>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    Closed,
    Silent,
}

impl Case {
    async fn run(&self, address: SocketAddr) -> Result<End, String> {
        let mut stream = TcpStream::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
        // A broker that closes on what it has read of the frame may refuse the rest.
        let _ = stream.write_all(&answers::frame(self.key, self.version, &self.body)).await;
        let silent = MAY_STAY_SILENT.contains(&self.key);
        let patience = if silent { LISTENED } else { PATIENCE };
        let answer = match timeout(patience, read(&mut stream)).await {
            Ok(answer) => answer,
            Err(_) if silent => {
                // It fails when the broker has closed just now, which the read sees.
                let _ = stream.shutdown().await;
                let left = timeout(PATIENCE, read(&mut stream)).await;
                return left.map(|_| End::Silent).map_err(|_| "the connection outlives its client".to_owned());
            }
            Err(_) => return Err("neither answer nor end".to_owned()),
        };
        let Some(answer) = answer else {
            // A Produce without acknowledgement is refused by closing.
            let must_answer = matches!(self.way, Way::Values) && self.key != ApiKey::Produce;
            return if must_answer { Err("a sound shape is owed an answer".to_owned()) } else { Ok(End::Closed) };
        };
        match answers::read(self.key, self.version, answer)? {
            reading if (reading == Reading::NoSchema) == answers::without_schema(self.key, self.version) => {
                Ok(End::Answered)
            }
            reading => Err(format!("not as the list of versions without schema says: {reading:?}")),
        }
    }
}

/// The next answer without its length; `None` at the end of the connection.
async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u32().await.ok()?;
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer)
}

/// The panics of threads named [`THREAD`], from now on.
fn watch_panics() -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (before, noted) = (std::panic::take_hook(), seen.clone());
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(THREAD) {
            noted.lock().expect("whole").push(panic.to_string());
        }
        before(panic);
    }));
    seen
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn hostile_requests_are_answered_or_end_their_connection() {
    let (seed, seconds) = (setting("TERRACE_HOSTILE_SEED", SEED), setting("TERRACE_HOSTILE_SECONDS", SECONDS));
    let panics = watch_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(THREAD)
        .enable_all()
        .build()
        .expect("threads");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("folder");
        let broker = broker(&dir).await;
        let mut stream = connect(&broker).await;
        // Metadata 1 creates the topic.
        stream.write_all(&request(3, 1, 0, &[0, 0, 0, 1, 0, 1, b't'])).await.expect("sent");
        answer(&mut stream).await;
        let topic = broker.partitions().by_name("t", 0).expect("the topic was made").id().topic;
        let mut hostile = Hostile::new(seed, *topic.as_bytes());
        let (until, mut ends) = (Instant::now() + Duration::from_secs(seconds), Vec::new());
        for round in 0.. {
            if round > 0 && Instant::now() >= until {
                break;
            }
            ends.extend(ask_all(&broker, &mut hostile, seed, &panics).await);
        }
        for row in ROWS {
            let of_key = |end| ends.iter().any(|(key, ended)| *key == row.key && *ended == end);
            assert!(of_key(End::Answered), "seed {seed}: {:?} never came to an answer", row.key);
        }
        let mut stream = connect(&broker).await;
        stream.write_all(&request(18, 0, 9, &[])).await.expect("sent");
        assert_eq!(answer(&mut stream).await[..4], 9i32.to_be_bytes(), "seed {seed}");
        timeout(2 * DRAIN, broker.stop()).await.expect("it stops");
        assert_eq!(*panics.lock().expect("whole"), Vec::<String>::new(), "seed {seed}");
    });
}

/// A round: each version of each API, damaged in each way.
async fn ask_all(broker: &Broker, hostile: &mut Hostile, seed: u64, panics: &Mutex<Vec<String>>) -> Vec<(ApiKey, End)> {
    let address = broker.kafka_addresses()[0].1;
    let versions = ROWS.iter().flat_map(|row| row.versions().map(|version| (row.key, version)));
    let cases: Vec<Case> = versions
        .flat_map(|(key, version)| Way::ALL.map(|way| (key, version, way)))
        .map(|(key, version, way)| Case { key, version, way, body: hostile.body(key, version, way) })
        .collect();
    let ends = RefCell::new(Vec::new());
    stream::iter(&cases)
        .for_each_concurrent(AT_ONCE, |case| async {
            let end = case.run(address).await;
            let Case { key, version, way, body } = case;
            let name = format!("seed {seed}: {key:?} {version}, {way:?}, body {body:02x?}");
            assert_eq!(*panics.lock().expect("whole"), Vec::<String>::new(), "at or shortly before {name}");
            ends.borrow_mut().push((*key, end.unwrap_or_else(|error| panic!("{name}: {error}"))));
        })
        .await;
    ends.into_inner()
}

#[rstest]
#[case::whole(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Ok(Reading::Whole))]
#[case::a_byte_too_many(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Err("1 bytes behind the answer"))]
#[case::of_another_request(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], Err("the answer to request 1"))]
fn answers_are_read_to_their_last_byte(#[case] answer: &[u8], #[case] expected: Result<Reading, &str>) {
    let read = answers::read(ApiKey::ApiVersions, 0, answer.to_vec());
    assert_eq!(read.as_ref().map_err(String::as_str), expected.as_ref().map_err(|error| *error));
}
