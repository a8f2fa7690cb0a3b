//! Kafka's cluster id: 16 random bytes as 22 characters of URL-safe base64.

use terrace_tiering::platform::random::Random;

use crate::protocol::uuid_text;

/// A new cluster id. Like Kafka's, it never begins with a dash, which command lines would take for an option.
pub fn random(random: &dyn Random) -> String {
    loop {
        let id = uuid_text::encode(random.uuid());
        if !id.starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use terrace_tiering::platform::random::SeededRandom;

    use super::*;

    #[test]
    fn never_begins_with_a_dash() {
        let source = SeededRandom::new(7);
        assert!((0..1000).all(|_| !random(&*source).starts_with('-')));
    }
}
