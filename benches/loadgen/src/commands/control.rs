//! The machine's own latency: the same open loop as the produce, without a broker.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Outcome;
use crate::histogram::Histogram;

const BYTES: usize = 100;

pub fn control(rate: f64, secs: f64) -> Outcome<Value> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let (mut echo, _) = listener.accept()?;
    echo.set_nodelay(true)?;
    let latencies = Histogram::new();
    let gap = Duration::from_secs_f64(1.0 / rate);
    let total = (rate * secs) as u32;
    thread::scope(|scope| -> Outcome<()> {
        scope.spawn(move || {
            let mut bytes = [0; BYTES];
            // Ends with the other side.
            while echo.read_exact(&mut bytes).is_ok() && echo.write_all(&bytes).is_ok() {}
        });
        let start = Instant::now();
        let mut bytes = [0; BYTES];
        for number in 0..total {
            let due = start + gap * number;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            stream.write_all(&bytes)?;
            stream.read_exact(&mut bytes)?;
            latencies.add(due.elapsed());
        }
        drop(stream);
        Ok(())
    })?;
    Ok(latencies.summary())
}
