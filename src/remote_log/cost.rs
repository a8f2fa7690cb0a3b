//! What the tier costs: requests and received bytes by purpose, and what is stored, at the prices of `remote.cost.*`.

use terrace_tiering::store::meter::{Class, Op, Outcome, PurposeUsage, Usage};

use crate::config::server::Prices;
use crate::telemetry::metrics::{
    REMOTE_COST, REMOTE_RECEIVED, REMOTE_REQUESTS, REMOTE_SENT, REMOTE_STORAGE_COST, REMOTE_STORED,
};
use crate::telemetry::scrape::Scrape;
use crate::telemetry::status::PurposeStatus;

/// Stores count a "GB" as 2^30 bytes.
const GB: f64 = (1u64 << 30) as f64;

/// Price of what was asked for one purpose.
pub fn price(usage: &PurposeUsage, prices: &Prices) -> f64 {
    usage.of_class(Class::A) as f64 / 1000.0 * prices.class_a_requests
        + usage.of_class(Class::B) as f64 / 1000.0 * prices.class_b_requests
        + usage.received as f64 / GB * prices.egress_gb
}

/// Price of these bytes for a month.
pub fn storage_price(bytes: u64, prices: &Prices) -> f64 {
    bytes as f64 / GB * prices.storage_gb_month
}

/// The lines of a status.
pub fn statuses(usage: &Usage, prices: &Prices) -> Vec<PurposeStatus> {
    let status = |usage: &PurposeUsage| PurposeStatus {
        purpose: usage.purpose.name().to_owned(),
        class_a: usage.of_class(Class::A),
        class_b: usage.of_class(Class::B),
        free: usage.of_class(Class::Free),
        sent_bytes: usage.sent,
        received_bytes: usage.received,
        price: price(usage, prices),
    };
    usage.0.iter().map(status).collect()
}

/// Tells a scrape. Requests that never were are left out, but not a purpose: its price is 0.
pub fn collect(scrape: &mut Scrape, usage: &Usage, stored_bytes: u64, prices: &Prices) {
    for of_purpose in &usage.0 {
        let purpose = ("purpose", of_purpose.purpose.name());
        for (op, outcomes) in Op::ALL.into_iter().zip(&of_purpose.requests) {
            for (outcome, count) in Outcome::ALL.into_iter().zip(outcomes).filter(|(_, count)| **count > 0) {
                let labels = [purpose, ("op", op.name()), ("result", outcome.name())];
                scrape.sample(&REMOTE_REQUESTS, &labels, *count as f64);
            }
        }
        scrape.sample(&REMOTE_SENT, &[purpose], of_purpose.sent as f64);
        scrape.sample(&REMOTE_RECEIVED, &[purpose], of_purpose.received as f64);
        let labels = [purpose, ("currency", prices.currency.as_str())];
        scrape.sample(&REMOTE_COST, &labels, price(of_purpose, prices));
    }
    scrape.sample(&REMOTE_STORED, &[], stored_bytes as f64);
    let labels = [("currency", prices.currency.as_str())];
    scrape.sample(&REMOTE_STORAGE_COST, &labels, storage_price(stored_bytes, prices));
}

#[cfg(test)]
mod tests {
    use terrace_tiering::store::meter::Purpose;

    use super::*;

    #[test]
    fn a_price_is_that_of_its_requests_and_bytes() {
        let prices = Prices {
            currency: "EUR".to_owned(),
            class_a_requests: 5.0,
            class_b_requests: 0.5,
            storage_gb_month: 2.0,
            egress_gb: 8.0,
        };
        let mut usage = Usage(Purpose::ALL.map(|purpose| PurposeUsage {
            purpose,
            requests: Default::default(),
            sent: 0,
            received: 0,
        }));
        let copy = &mut usage.0[Purpose::Copy as usize];
        copy.requests[Op::Put as usize] = [199, 0, 0, 0, 1];
        copy.requests[Op::Head as usize][Outcome::NotFound as usize] = 2000;
        copy.requests[Op::Delete as usize][Outcome::Ok as usize] = 1_000_000;
        copy.received = 1 << 29;
        assert_eq!(price(copy, &prices), 1.0 + 1.0 + 4.0);
        assert_eq!(storage_price(3 << 30, &prices), 6.0);

        let mut scrape = Scrape::default();
        collect(&mut scrape, &usage, 1 << 30, &prices);
        let text = scrape.render();
        for line in [
            "terrace_remote_requests_total{purpose=\"copy\",op=\"put\",result=\"ok\"} 199\n",
            "terrace_remote_requests_total{purpose=\"copy\",op=\"head\",result=\"not_found\"} 2000\n",
            "terrace_remote_cost_total{purpose=\"copy\",currency=\"EUR\"} 6\n",
            "terrace_remote_cost_total{purpose=\"scrub\",currency=\"EUR\"} 0\n",
            "terrace_remote_storage_cost_per_month{currency=\"EUR\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
