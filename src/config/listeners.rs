//! Where the broker listens: Kafka's listeners and the HTTP addresses.

use std::fmt;

use super::machine;
use super::reader::Reader;

/// A host and a port. An empty host is every address; port 0 is any free one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// What to give to a bind: every address is `[::]`, which also takes IPv4, or `0.0.0.0` where IPv6 is off.
    pub fn bind_hosts(&self) -> Vec<(String, u16)> {
        match self.host.as_str() {
            "" => vec![("::".to_owned(), self.port), ("0.0.0.0".to_owned(), self.port)],
            host => vec![(host.to_owned(), self.port)],
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One of `listeners` that is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name, in capitals.
    pub name: String,
    /// Where it is bound.
    pub bind: Endpoint,
    /// What clients are told; port 0 stands for the port that was bound.
    pub advertised: Endpoint,
}

/// Reads `listeners` and what belongs to them; notes what is wrong.
pub(super) fn kafka(reader: &mut Reader<'_>) -> Vec<Listener> {
    let controllers = reader.list("controller.listener.names");
    let protocols = named_pairs(&reader.list("listener.security.protocol.map"));
    let bound = parse_all(reader, "listeners");
    let advertised = parse_all(reader, "advertised.listeners");
    let mut listeners: Vec<Listener> = Vec::new();
    for (name, bind) in bound {
        if controllers.iter().any(|controller| controller.eq_ignore_ascii_case(&name)) {
            continue;
        }
        if listeners.iter().any(|listener| listener.name == name) {
            reader.reject("listeners", "Each listener must have a different name");
        }
        if bind.port != 0 && listeners.iter().any(|listener| listener.bind == bind) {
            reader.reject("listeners", "Each listener must have a different port");
        }
        match protocols.iter().find(|(listener, _)| *listener == name).map(|(_, protocol)| protocol.as_str()) {
            Some("PLAINTEXT") => {}
            Some("SSL" | "SASL_SSL" | "SASL_PLAINTEXT") => {
                reader.reject("listeners", format!("listener {name} needs TLS or SASL, which is not supported yet"));
            }
            Some(other) => reader.reject("listener.security.protocol.map", format!("unknown protocol {other}")),
            None => {
                reader.reject("listeners", format!("listener {name} has no protocol in listener.security.protocol.map"))
            }
        }
        let told = advertised.iter().find(|(listener, _)| *listener == name).map(|(_, endpoint)| endpoint.clone());
        let told = match told {
            Some(endpoint) => endpoint,
            None if bind.host.is_empty() => Endpoint { host: machine::host_name(), port: bind.port },
            None => bind.clone(),
        };
        if matches!(told.host.as_str(), "0.0.0.0" | "::") {
            let reason = format!("{told} is no address that a client can reach; set advertised.listeners");
            reader.reject("listeners", reason);
        }
        listeners.push(Listener { name, bind, advertised: told });
    }
    if listeners.is_empty() {
        reader.reject("listeners", "there must be a listener besides those of controller.listener.names");
    }
    for (name, _) in &advertised {
        let known =
            listeners.iter().any(|l| l.name == *name) || controllers.iter().any(|c| c.eq_ignore_ascii_case(name));
        if !known {
            reader.reject("advertised.listeners", format!("listener {name} is not in listeners"));
        }
    }
    listeners
}

/// Reads a list of `http://host:port`.
pub(super) fn http(reader: &mut Reader<'_>, key: &str) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for text in reader.list(key) {
        let address = text.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        match address.and_then(parse) {
            Some(endpoint) => endpoints.push(endpoint),
            None => reader.reject(key, format!("'{text}' is not http://host:port")),
        }
    }
    endpoints
}

fn parse_all(reader: &mut Reader<'_>, key: &str) -> Vec<(String, Endpoint)> {
    let mut found = Vec::new();
    for text in reader.list(key) {
        let parsed = text.split_once("://").and_then(|(name, rest)| Some((name.to_uppercase(), parse(rest)?)));
        match parsed {
            Some((name, endpoint)) if !name.is_empty() => found.push((name, endpoint)),
            _ => reader.reject(key, format!("'{text}' is not NAME://host:port")),
        }
    }
    found
}

/// `host:port`, `[v6]:port` or `:port`.
fn parse(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?,
        None if host.contains([':', '/', '@']) => return None,
        None => host,
    };
    Some(Endpoint { host: host.to_owned(), port: port.parse().ok()? })
}

fn named_pairs(list: &[String]) -> Vec<(String, String)> {
    let pair = |text: &String| text.split_once(':').map(|(a, b)| (a.trim().to_uppercase(), b.trim().to_uppercase()));
    list.iter().filter_map(pair).collect()
}
