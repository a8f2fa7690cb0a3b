//! Connections that have spoken once and then say nothing.

use std::io;

use serde_json::{Value, json};

use super::Broker;
use crate::Outcome;
use crate::connection::Connection;
use crate::meter::Reading;
use crate::wire::Writer;

const API_VERSIONS: i16 = 18;

pub fn hold(broker: &Broker, conns: usize) -> Outcome<Value> {
    let mut held = Vec::with_capacity(conns);
    for _ in 0..conns {
        let mut connection = Connection::open(&broker.address)?;
        connection.call(&Writer::request(API_VERSIONS, 0).finish())?;
        held.push(connection);
    }
    println!("{}", json!({ "held": held.len() }));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(json!({ "rss_mib": Reading::of(broker.pid).rss_kib as f64 / 1024.0 }))
}
