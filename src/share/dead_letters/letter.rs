//! Dead letters as bytes: one batch of them, with the headers that KIP-1191 names.
//!
//! ```text
//!  key, value, headers   of the record, if they are copied and still to be had; else null, null, none
//!  __dlq.errors.topic, .partition, .offset, .group, .delivery.count, .message   texts, behind them
//!  timestamp             when the dead letter was written
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::Offset;
use crate::share::in_flight::{Archiving, Cause};

/// How the names of all headers begin that a dead letter has beside its record's.
pub const PREFIX: &str = "__dlq.errors.";

/// The record's topic.
pub const TOPIC: &str = "__dlq.errors.topic";
/// Its partition.
pub const PARTITION: &str = "__dlq.errors.partition";
/// Its offset.
pub const OFFSET: &str = "__dlq.errors.offset";
/// The share group.
pub const GROUP: &str = "__dlq.errors.group";

/// The header of a batch.
const BATCH_BYTES: usize = 61;
/// What a record has beside its key, value and headers, at most.
const RECORD_BYTES: usize = 40;
/// What a header has beside its key and value, at most.
const HEADER_BYTES: usize = 10;

type Header = (Vec<u8>, Option<Vec<u8>>);

/// What a dead letter has of its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<Header>,
}

impl Copied {
    /// Bytes of it.
    pub(super) fn size(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + of(value)).sum();
        of(&self.key) + of(&self.value) + headers
    }
}

/// Whose dead letters.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) group: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// For records whose cause is not known any more.
    pub(super) count_limit: i16,
}

/// A batch of dead letters.
#[derive(Debug)]
pub(super) struct Letters {
    pub(super) batch: Vec<u8>,
    pub(super) count: u64,
    /// The last record that it is for.
    pub(super) last: Offset,
}

/// Writes the first of `waiting`, as many as fit into `most_bytes`, but one at least. `copied` has what there is to copy of
/// the records below `read_to`; nothing is known of those behind, so that they have to wait. A record that is too large with
/// what it copies goes without.
pub(super) fn write(
    origin: &Origin,
    waiting: &[Archiving],
    copied: &BTreeMap<Offset, Copied>,
    read_to: Offset,
    most_bytes: usize,
    now_ms: i64,
) -> Option<Letters> {
    let mut builder = BatchBuilder::new(0);
    let mut last = None;
    let all = waiting.iter().flat_map(|run| (run.first..=run.last).map(move |at| (at, run)));
    for (at, run) in all.take_while(|(at, _)| *at < read_to) {
        let said = said(origin, at, run);
        let plain =
            RECORD_BYTES + said.iter().map(|(key, value)| key.len() + value.len() + HEADER_BYTES).sum::<usize>();
        let of = |whole: &Copied| plain + whole.size() + whole.headers.len() * HEADER_BYTES;
        let whole = copied.get(&at).filter(|whole| BATCH_BYTES + of(whole) <= most_bytes);
        if builder.count() > 0 && builder.size_bytes() + whole.map_or(plain, of) > most_bytes {
            break;
        }
        push(&mut builder, whole.unwrap_or(&Copied::default()), &said, now_ms);
        last = Some(at);
    }
    let count = u64::try_from(builder.count()).unwrap_or(0);
    last.map(|last| Letters { batch: builder.finish(), count, last })
}

fn push(builder: &mut BatchBuilder, whole: &Copied, said: &[(&str, String)], now_ms: i64) {
    let own = whole.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
    let headers: Vec<_> = own.chain(said.iter().map(|(key, value)| (key.as_bytes(), Some(value.as_bytes())))).collect();
    let delta = builder.count();
    builder.push(delta, now_ms, whole.key.as_deref(), whole.value.as_deref(), headers.into_iter());
}

/// What a dead letter says of its record, in Kafka's order and words.
fn said(origin: &Origin, at: Offset, run: &Archiving) -> [(&'static str, String); 6] {
    let cause = run.cause.unwrap_or(match run.count >= origin.count_limit {
        true => Cause::TooOften,
        false => Cause::Rejected,
    });
    let message = match cause {
        Cause::Rejected => "Offset rejected by client.",
        Cause::TooOften => "Offset delivery count exceeded the threshold.",
    };
    [
        (TOPIC, origin.topic.to_string()),
        (PARTITION, origin.partition.to_string()),
        (OFFSET, at.to_string()),
        (GROUP, origin.group.to_string()),
        ("__dlq.errors.delivery.count", run.count.to_string()),
        ("__dlq.errors.message", message.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::BatchView;
    use crate::protocol::records::records;

    const ORIGIN: fn() -> Origin = || Origin { group: "g".into(), topic: "t".into(), partition: 3, count_limit: 5 };

    fn run(first: Offset, last: Offset, count: i16, cause: Option<Cause>) -> Archiving {
        Archiving { first, last, count, cause }
    }

    /// Each letter as text: key, value, and the values of its headers.
    fn read(letters: &Letters) -> Vec<String> {
        let (batch, rest) = BatchView::split_first(&letters.batch).unwrap();
        assert!(rest.is_empty() && batch.check_crc().is_ok());
        let opened = records(&batch, u64::MAX).unwrap();
        let text = |bytes: Option<&[u8]>| bytes.map_or("-".to_owned(), |b| String::from_utf8_lossy(b).into_owned());
        let line = |record: crate::protocol::records::Record<'_>| {
            let headers = record
                .headers
                .map(|(key, value)| format!("{}={}", text(Some(key)).trim_start_matches(PREFIX), text(value)));
            let headers: Vec<_> = headers.collect();
            format!("{} {} {}", text(record.key), text(record.value), headers.join(" "))
        };
        opened.iter().map(|record| line(record.unwrap())).collect()
    }

    #[test]
    fn a_letter_says_of_which_record_it_is() {
        let whole =
            Copied { key: Some(b"k".to_vec()), value: Some(b"v".to_vec()), headers: vec![(b"h".to_vec(), None)] };
        let waiting = [run(7, 8, 5, Some(Cause::TooOften)), run(9, 9, 1, None), run(12, 12, 5, None)];
        let letters = write(&ORIGIN(), &waiting, &[(8, whole)].into(), 100, 10_000, 1).unwrap();
        assert_eq!((letters.count, letters.last), (4, 12));
        let of =
            |at, count, why| format!("topic=t partition=3 offset={at} group=g delivery.count={count} message={why}");
        let (often, said) = ("Offset delivery count exceeded the threshold.", "Offset rejected by client.");
        assert_eq!(
            read(&letters),
            [
                format!("- - {}", of(7, 5, often)),
                format!("k v h=- {}", of(8, 5, often)),
                format!("- - {}", of(9, 1, said)),
                format!("- - {}", of(12, 5, often)),
            ]
        );
    }

    #[test]
    fn what_does_not_fit_waits_and_what_never_fits_goes_without_its_record() {
        let whole = |bytes: usize| Copied { value: Some(vec![b'v'; bytes]), ..Copied::default() };
        let waiting = [run(0, 2, 1, None)];
        let copied = [(0, whole(2000)), (1, whole(600)), (2, whole(600))].into();
        let letters = write(&ORIGIN(), &waiting, &copied, 100, 1000, 1).unwrap();
        assert_eq!((letters.count, letters.last), (1, 0));
        assert!(read(&letters)[0].starts_with("- - "));
        let letters = write(&ORIGIN(), &[run(1, 2, 1, None)], &copied, 100, 1000, 1).unwrap();
        assert_eq!((letters.count, letters.last), (1, 1));
        assert!(letters.batch.len() <= 1000 && read(&letters)[0].starts_with("- vvv"));
        // One at least, however small the topic's limit is.
        assert_eq!(write(&ORIGIN(), &waiting, &copied, 100, 10, 1).unwrap().count, 1);
        // And none of which nothing is known.
        assert!(write(&ORIGIN(), &waiting, &copied, 0, 1000, 1).is_none());
    }
}
