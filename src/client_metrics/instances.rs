//! The clients that spoke lately: what each was asked for, and when it may speak again. Rules and their order are Kafka's.

use std::collections::HashMap;

use uuid::Uuid;

use super::subscriptions::{Client, Wanted};
use super::{Push, Refused};
use crate::metadata::image::Image;

/// Clients that are remembered.
const INSTANCES_MAX: usize = 16_384;
/// A client that is silent for so many of its intervals is forgotten.
const SILENT_INTERVALS: i64 = 3;
/// It is remembered at least so long.
const SILENT_MS: i64 = 60_000;
/// The largest number of a compression.
const COMPRESSION_MAX: i8 = 4;

/// One client.
#[derive(Debug)]
pub(super) struct Instance {
    wanted: Wanted,
    subscription_id: i32,
    /// The image that `wanted` was resolved with.
    generation: u64,
    asked_ms: Option<i64>,
    pushed_ms: Option<i64>,
    /// It has said that it goes.
    terminating: bool,
    /// What the last request was refused with.
    last: Option<Refused>,
}

impl Instance {
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    pub(super) fn subscription_id(&self) -> i32 {
        self.subscription_id
    }

    /// It asks what it is asked for: once an interval, or when it must know better.
    pub(super) fn asks(&mut self, now_ms: i64) -> Result<(), Refused> {
        let must_know = matches!(self.last, Some(Refused::Subscription | Refused::Compression));
        let spoke_ms = self.asked_ms.max(self.pushed_ms);
        if !must_know && spoke_ms.is_some_and(|spoke_ms| now_ms - spoke_ms < i64::from(self.wanted.interval_ms)) {
            return self.refuse(Refused::TooEarly);
        }
        self.asked_ms = Some(now_ms);
        self.last = None;
        Ok(())
    }

    /// It pushes: once after it asked, then once an interval, and whenever it goes.
    pub(super) fn pushes(&mut self, push: &Push<'_>, bytes_max: usize, now_ms: i64) -> Result<(), Refused> {
        if self.terminating {
            return self.refuse(Refused::Request);
        }
        let is_first = self.asked_ms.is_some() && self.asked_ms > self.pushed_ms;
        let is_due = self.pushed_ms.is_none_or(|pushed_ms| now_ms - pushed_ms >= i64::from(self.wanted.interval_ms));
        if is_first || is_due {
            self.pushed_ms = Some(now_ms);
        } else if !push.terminating {
            return self.refuse(Refused::TooEarly);
        }
        self.terminating = push.terminating;
        if push.subscription != self.subscription_id {
            return self.refuse(Refused::Subscription);
        }
        if !(0..=COMPRESSION_MAX).contains(&push.compression) {
            return self.refuse(Refused::Compression);
        }
        if push.metrics.len() > bytes_max {
            return self.refuse(Refused::TooLarge);
        }
        self.last = None;
        Ok(())
    }

    fn refuse(&mut self, refused: Refused) -> Result<(), Refused> {
        self.last = Some(refused);
        Err(refused)
    }

    fn spoke_ms(&self) -> i64 {
        self.asked_ms.max(self.pushed_ms).unwrap_or(i64::MIN)
    }

    fn is_silent(&self, now_ms: i64) -> bool {
        let patience = (SILENT_INTERVALS * i64::from(self.wanted.interval_ms)).max(SILENT_MS);
        now_ms.saturating_sub(self.spoke_ms()) > patience
    }
}

/// All of them, by id.
#[derive(Debug, Default)]
pub(super) struct Instances(HashMap<Uuid, Instance>);

impl Instances {
    /// The client, as the image of this moment has its subscriptions. `forgotten` hears of those that make room for it.
    pub(super) fn of(
        &mut self,
        image: &Image,
        client: &Client<'_>,
        now_ms: i64,
        forgotten: impl FnMut(Uuid),
    ) -> &mut Instance {
        if !self.0.contains_key(&client.instance) && self.0.len() >= INSTANCES_MAX {
            self.make_room(now_ms, forgotten);
        }
        let resolve = || {
            let wanted = Wanted::resolve(&image.client_metrics, client);
            (wanted.id(client.instance), wanted)
        };
        let instance = self.0.entry(client.instance).or_insert_with(|| {
            let (subscription_id, wanted) = resolve();
            Instance {
                wanted,
                subscription_id,
                generation: image.generation,
                asked_ms: None,
                pushed_ms: None,
                terminating: false,
                last: None,
            }
        });
        if instance.generation != image.generation {
            (instance.subscription_id, instance.wanted) = resolve();
            instance.generation = image.generation;
        }
        instance
    }

    /// Forgets those that are silent.
    pub(super) fn expire(&mut self, now_ms: i64, mut forgotten: impl FnMut(Uuid)) {
        self.0.retain(|id, instance| {
            let is_silent = instance.is_silent(now_ms);
            if is_silent {
                forgotten(*id);
            }
            !is_silent
        });
    }

    fn make_room(&mut self, now_ms: i64, mut forgotten: impl FnMut(Uuid)) {
        self.expire(now_ms, &mut forgotten);
        if self.0.len() >= INSTANCES_MAX
            && let Some(quietest) = self.0.iter().min_by_key(|(_, instance)| instance.spoke_ms()).map(|(id, _)| *id)
        {
            self.0.remove(&quietest);
            forgotten(quietest);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
