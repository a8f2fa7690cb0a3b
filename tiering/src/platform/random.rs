//! Random numbers as an injectable thing, so that a test's run replays from its seed.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

/// A shared source of random numbers.
pub type SharedRandom = Arc<dyn Random>;

/// Where ids and jitter come from.
pub trait Random: Send + Sync + Debug + 'static {
    /// A uniformly distributed number.
    fn next_u64(&self) -> u64;

    /// A random (version 4) UUID that is neither of Kafka's two reserved ids (zero and one).
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(
            ((u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())).to_be_bytes(),
        )
        .into_uuid()
    }
}

/// The machine's random numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        Uuid::new_v4().as_u64_pair().0 ^ Uuid::new_v4().as_u64_pair().1.rotate_left(17)
    }
}

/// A generator (splitmix64) whose whole run follows from its seed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// The generator that `seed` names.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seed)))
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
