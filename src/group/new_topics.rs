//! When topics last appeared: regular expressions of groups may name them.

use std::sync::{Arc, Mutex, PoisonError};

use crate::metadata::image::Image;

/// Remembers the newest image that was asked about.
#[derive(Debug, Default)]
pub struct NewTopics {
    last: Mutex<Option<Last>>,
}

#[derive(Debug)]
struct Last {
    image: Arc<Image>,
    /// Generation of the image that first had the newest topic, or a later one.
    generation: u64,
}

impl NewTopics {
    /// Generation of the image up to which `image` has new topics. After a start that is the first: what happened before
    /// it is not known.
    pub fn generation(&self, image: &Arc<Image>) -> u64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = match &*last {
            Some(last) if last.image.generation >= image.generation => return last.generation,
            Some(last) if image.topics_by_id.keys().all(|id| last.image.topics_by_id.contains_key(id)) => {
                last.generation
            }
            Some(_) | None => image.generation,
        };
        *last = Some(Last { image: Arc::clone(image), generation });
        generation
    }
}
