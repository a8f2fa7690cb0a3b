//! A store that fails on purpose, for tests: at random from a seed, or exactly where a test says. It also counts.

mod requests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::{Error, ObjectStore, Result};
use tokio::sync::Semaphore;

use super::meter::Op;
use crate::platform::random::{Random, SeededRandom};

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error, nothing done; what a 503 or a refused connection is in the end.
    Error,
    /// Done, but the answer is an error: the reply was lost.
    ErrorAfter,
    /// No answer, ever, and nothing done.
    Hang,
    /// Done, and no answer, ever.
    HangAfter,
    /// The answer waits for a permit.
    Wait(Arc<Semaphore>),
    /// The answer takes this long.
    Slow(Duration),
    /// The request is refused: credentials that expired, or lack a right.
    Denied,
    /// No such object, whatever there is.
    Missing,
    /// 409: another request for the key is on its way. Nothing done.
    Conflict,
    /// The body ends in an error after so many bytes: the connection was reset.
    Cut(usize),
    /// The body ends after so many bytes as if that were all.
    Short(usize),
    /// The body comes in small pieces, each after this long.
    Trickle(Duration),
    /// The body waits for a permit.
    WaitBody(Arc<Semaphore>),
    /// One bit of the bytes is wrong, on the way up or down.
    FlipBit,
    /// "If absent" is ignored.
    Overwrite,
}

/// What hits a request at random unless a test says otherwise.
const USUAL: [Fault; 2] = [Fault::Error, Fault::ErrorAfter];

#[derive(Debug, Default)]
struct Plan {
    next: HashMap<Op, VecDeque<Fault>>,
    /// For the call that puts parts together.
    next_complete: VecDeque<Fault>,
    counts: HashMap<Op, u64>,
    at_random: Vec<Fault>,
    per_mille: u64,
    down: bool,
    denied: HashSet<Op>,
    stepwise: bool,
}

/// Wraps a store. Clones share their plan.
#[derive(Debug, Clone)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
    random: Arc<SeededRandom>,
}

impl Faulty {
    /// No fault yet.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self { inner, plan: Arc::default(), random: SeededRandom::new(seed) }
    }

    /// The next request of this kind without another fault meets this one.
    pub fn next(&self, op: Op, fault: Fault) {
        self.plan().next.entry(op).or_default().push_back(fault);
    }

    /// The next object of several parts meets this when they are put together.
    pub fn next_complete(&self, fault: Fault) {
        self.plan().next_complete.push_back(fault);
    }

    /// Forgets the faults that nobody met yet.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.next.clear();
        plan.next_complete.clear();
    }

    /// From now on this share of all requests fails, half of them after they were done.
    pub fn fail_at_random(&self, per_mille: u64) {
        self.fail_at_random_with(per_mille, &USUAL);
    }

    /// From now on this share of all requests meets one of these.
    pub fn fail_at_random_with(&self, per_mille: u64, faults: &[Fault]) {
        let mut plan = self.plan();
        (plan.per_mille, plan.at_random) = (per_mille, faults.to_vec());
    }

    /// From now on every request fails, or none because of this.
    pub fn set_down(&self, down: bool) {
        self.plan().down = down;
    }

    /// From now on all requests of these kinds are refused, and no others.
    pub fn deny(&self, ops: &[Op]) {
        self.plan().denied = ops.iter().copied().collect();
    }

    /// From now on each request gives way before and after it is done, so that a test can stop its sender there.
    pub fn set_stepwise(&self, stepwise: bool) {
        self.plan().stepwise = stepwise;
    }

    /// How many requests of this kind came.
    pub fn count(&self, op: Op) -> u64 {
        self.plan().counts.get(&op).copied().unwrap_or(0)
    }

    /// How many requests came.
    pub fn count_all(&self) -> u64 {
        self.plan().counts.values().sum()
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, op: Op) -> Option<Fault> {
        let mut plan = self.plan();
        *plan.counts.entry(op).or_default() += 1;
        if plan.down {
            return Some(Fault::Error);
        }
        if plan.denied.contains(&op) {
            return Some(Fault::Denied);
        }
        if let Some(fault) = plan.next.get_mut(&op).and_then(VecDeque::pop_front) {
            return Some(fault);
        }
        let roll = self.random.next_u64();
        if roll % 1000 >= plan.per_mille {
            return None;
        }
        let which = (roll >> 32) as usize % plan.at_random.len().max(1);
        plan.at_random.get(which).cloned()
    }

    /// What comes before the request; the fault that concerns the request itself is left.
    async fn before(&self, op: Op) -> Result<Option<Fault>> {
        let fault = self.draw(op);
        self.step().await;
        met(fault).await
    }

    async fn step(&self) {
        if self.plan().stepwise {
            tokio::task::yield_now().await;
        }
    }

    /// What comes behind the request.
    async fn after<T>(&self, fault: Option<Fault>, outcome: Result<T>) -> Result<T> {
        self.step().await;
        answered(fault, outcome).await
    }
}

/// Faults that keep a request from being done, or hold it up.
async fn met(fault: Option<Fault>) -> Result<Option<Fault>> {
    let path = || "injected".to_owned();
    match fault {
        Some(Fault::Error) => Err(injected()),
        Some(Fault::Denied) => Err(Error::PermissionDenied { path: path(), source: "injected".into() }),
        Some(Fault::Missing) => Err(Error::NotFound { path: path(), source: "injected".into() }),
        Some(Fault::Conflict) => Err(Error::AlreadyExists { path: path(), source: "injected".into() }),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Wait(gate)) => {
            // A closed gate is an open one.
            let _ = gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
            Ok(None)
        }
        Some(Fault::Slow(wait)) => {
            tokio::time::sleep(wait).await;
            Ok(None)
        }
        other => Ok(other),
    }
}

/// Faults of the answer.
async fn answered<T>(fault: Option<Fault>, outcome: Result<T>) -> Result<T> {
    match fault {
        Some(Fault::ErrorAfter) => outcome.and(Err(injected())),
        Some(Fault::HangAfter) if outcome.is_ok() => std::future::pending().await,
        _ => outcome,
    }
}

fn injected() -> Error {
    Error::Generic { store: "faulty", source: "injected".into() }
}
