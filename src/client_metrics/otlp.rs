//! A reader of OpenTelemetry's `MetricsData` (opentelemetry/proto/metrics/v1), as far as clients of Kafka write it: gauges
//! and sums of numbers. Everything else is stepped over.
//!
//! The bytes are a client's: nothing is allocated by a length, the nesting is that of the functions, and what is kept of a
//! push is bounded.

/// Samples that are kept of one push.
const SAMPLES_MAX: usize = 4096;
/// Attributes that are kept of one sample.
const ATTRIBUTES_MAX: usize = 8;
/// Characters that are kept of a text.
const TEXT_MAX: usize = 128;

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

/// How a number goes on from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is what it is.
    Gauge,
    /// It has risen by this much since the last push.
    Delta,
    /// It has risen to this since the client began.
    Total,
}

/// One number with its name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) metric: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) progress: Progress,
    pub(super) value: f64,
}

/// The samples of those metrics that are `wanted`.
pub(super) fn read(bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Vec<Sample>, Damaged> {
    let mut samples = Vec::new();
    let mut data = Fields(bytes);
    while let Some((number, field)) = data.next()? {
        if let (1, Field::Bytes(resource_metrics)) = (number, field) {
            let mut resource = Fields(resource_metrics);
            while let Some((number, field)) = resource.next()? {
                if let (2, Field::Bytes(scope_metrics)) = (number, field) {
                    read_scope(scope_metrics, &wanted, &mut samples)?;
                }
            }
        }
    }
    Ok(samples)
}

fn read_scope(bytes: &[u8], wanted: &impl Fn(&str) -> bool, samples: &mut Vec<Sample>) -> Result<(), Damaged> {
    let mut scope = Fields(bytes);
    while let Some((number, field)) = scope.next()? {
        if let (2, Field::Bytes(metric)) = (number, field) {
            read_metric(metric, wanted, samples)?;
        }
    }
    Ok(())
}

fn read_metric(bytes: &[u8], wanted: &impl Fn(&str) -> bool, samples: &mut Vec<Sample>) -> Result<(), Damaged> {
    let (mut name, mut numbers) = ("", None);
    let mut metric = Fields(bytes);
    while let Some((number, field)) = metric.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => name = std::str::from_utf8(text).map_err(|_| Damaged)?,
            (5, Field::Bytes(gauge)) => numbers = Some((gauge, false)),
            (7, Field::Bytes(sum)) => numbers = Some((sum, true)),
            _ => {}
        }
    }
    let Some((numbers, is_sum)) = numbers.filter(|_| wanted(name)) else { return Ok(()) };
    let (mut is_delta, mut is_monotonic) = (false, false);
    let mut points = Fields(numbers);
    while let Some((number, field)) = points.next()? {
        match (number, field) {
            (2, Field::Varint(temporality)) if is_sum => is_delta = temporality == 1,
            (3, Field::Varint(monotonic)) if is_sum => is_monotonic = monotonic != 0,
            _ => {}
        }
    }
    let progress = match (is_sum && is_monotonic, is_delta) {
        (false, _) => Progress::Gauge,
        (true, true) => Progress::Delta,
        (true, false) => Progress::Total,
    };
    let mut points = Fields(numbers);
    while let Some((number, field)) = points.next()? {
        if let (1, Field::Bytes(point)) = (number, field)
            && samples.len() < SAMPLES_MAX
            && let Some((value, attributes)) = read_point(point)?
        {
            samples.push(Sample { metric: cut(name), attributes, progress, value });
        }
    }
    Ok(())
}

type Point = (f64, Vec<(String, String)>);

fn read_point(bytes: &[u8]) -> Result<Option<Point>, Damaged> {
    let (mut value, mut attributes) = (None, Vec::new());
    let mut point = Fields(bytes);
    while let Some((number, field)) = point.next()? {
        match (number, field) {
            (4, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            // Above 2^53 the last digits are lost, as in everything that Prometheus keeps.
            (6, Field::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
            (7, Field::Bytes(attribute)) if attributes.len() < ATTRIBUTES_MAX => {
                attributes.extend(read_attribute(attribute)?);
            }
            _ => {}
        }
    }
    Ok(value.filter(|value| value.is_finite()).map(|value| (value, attributes)))
}

fn read_attribute(bytes: &[u8]) -> Result<Option<(String, String)>, Damaged> {
    let (mut key, mut value) = (String::new(), None);
    let mut attribute = Fields(bytes);
    while let Some((number, field)) = attribute.next()? {
        match (number, field) {
            (1, Field::Bytes(text)) => key = cut(&String::from_utf8_lossy(text)),
            (2, Field::Bytes(any)) => {
                let mut any = Fields(any);
                while let Some((number, field)) = any.next()? {
                    value = match (number, field) {
                        (1, Field::Bytes(text)) => Some(cut(&String::from_utf8_lossy(text))),
                        (2, Field::Varint(flag)) => Some((flag != 0).to_string()),
                        (3, Field::Varint(number)) => Some(number.cast_signed().to_string()),
                        (4, Field::Fixed64(bits)) => Some(f64::from_bits(bits).to_string()),
                        _ => value,
                    };
                }
            }
            _ => {}
        }
    }
    Ok(value.map(|value| (key, value)))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// One field of a protobuf message.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Field<'a>)>, Damaged> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Field::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| Damaged)?))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Damaged)?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            // Groups are of the past, the rest has no meaning.
            _ => return Err(Damaged),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Damaged)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::client_metrics) fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128, "one byte of length is enough here");
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    /// A push of one metric: field 5 is a gauge, 7 a sum with its temporality and whether it only rises.
    pub(in crate::client_metrics) fn data(name: &str, kind: u8, sum: &[u8], value: f64) -> Vec<u8> {
        let attribute = bytes(7, &[bytes(1, b"topic"), bytes(2, &bytes(1, b"t"))].concat());
        let point = [&[4 << 3 | 1], value.to_le_bytes().as_slice(), &attribute].concat();
        let numbers = [&bytes(1, &point), sum].concat();
        let metric = [bytes(1, name.as_bytes()), bytes(kind, &numbers)].concat();
        bytes(1, &bytes(2, &bytes(2, &metric)))
    }

    #[test]
    fn gauges_and_sums_are_read_and_unwanted_metrics_are_not() {
        let sample = |progress| Sample {
            metric: "a.b".to_owned(),
            attributes: vec![("topic".to_owned(), "t".to_owned())],
            progress,
            value: 1.5,
        };
        let read = |bytes: &[u8]| read(bytes, |name| name.starts_with("a."));
        assert_eq!(read(&data("a.b", 5, &[], 1.5)), Ok(vec![sample(Progress::Gauge)]));
        assert_eq!(read(&data("a.b", 7, &[2 << 3, 1, 3 << 3, 1], 1.5)), Ok(vec![sample(Progress::Delta)]));
        assert_eq!(read(&data("a.b", 7, &[2 << 3, 2, 3 << 3, 1], 1.5)), Ok(vec![sample(Progress::Total)]));
        assert_eq!(read(&data("a.b", 7, &[2 << 3, 2], 1.5)), Ok(vec![sample(Progress::Gauge)]));
        assert_eq!(read(&data("b", 5, &[], 1.5)), Ok(Vec::new()));
        assert_eq!(read(&data("a.b", 5, &[], f64::NAN)), Ok(Vec::new()));
    }

    #[test]
    fn a_length_beyond_the_end_is_damage() {
        assert_eq!(read(&[10, 0xff, 0xff, 0xff, 0xff, 0x0f], |_| true), Err(Damaged));
        assert_eq!(read(&[0xff; 12], |_| true), Err(Damaged));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(noise in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..60) {
            let _ = read(&noise, |_| true);
            let mut sound = data("a.b", 7, &[2 << 3, 1, 3 << 3, 1], 2.0);
            let at = at % sound.len();
            sound[at] = noise.first().copied().unwrap_or(0);
            let _ = read(&sound, |_| true);
            let _ = read(&sound[..at], |_| true);
        }
    }
}
