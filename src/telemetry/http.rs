//! HTTP: `/livez`, `/readyz`, `/startupz`, `/metrics`, `/status`.
//!
//! Everything here is read-only and asks only snapshots. Requests whose `Host` is neither loopback nor an address nor in
//! `admin.allowed.hosts` are refused: a page in the operator's browser that rebinds its name to this machine gets
//! nothing. Health checks are exempt, because orchestrators send any host and learn nothing but "ok".

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use terrace_tiering::platform::task::Tasks;
use tokio::net::TcpListener;

use super::Telemetry;
use super::health::Health;
use super::status::Status;
use crate::config::listeners::Endpoint;
use crate::config::server::Admin;

/// The content of `/status`.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// What the routes show.
#[derive(Clone)]
struct Shown {
    telemetry: Arc<Telemetry>,
    status: StatusSource,
    allowed_hosts: Arc<[String]>,
}

/// Binds all HTTP listeners and serves until the tasks stop. Gives the addresses that were bound for `admin.listeners`.
pub async fn serve(
    admin: &Admin,
    telemetry: Arc<Telemetry>,
    status: StatusSource,
    tasks: &Tasks,
) -> Result<Vec<SocketAddr>, (Endpoint, io::Error)> {
    let health = health_routes(Arc::clone(&telemetry));
    let shown = Shown { telemetry, status, allowed_hosts: admin.allowed_hosts.clone().into() };
    let all = guarded_routes(shown).merge(health.clone());
    for endpoint in &admin.health_listeners {
        serve_one(bind(endpoint).await?, health.clone(), tasks);
    }
    let mut bound = Vec::new();
    for endpoint in &admin.listeners {
        let listener = bind(endpoint).await?;
        bound.extend(listener.local_addr());
        serve_one(listener, all.clone(), tasks);
    }
    Ok(bound)
}

async fn bind(endpoint: &Endpoint) -> Result<TcpListener, (Endpoint, io::Error)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (host, port) in endpoint.bind_hosts() {
        match TcpListener::bind((host, port)).await {
            Ok(listener) => return Ok(listener),
            Err(e) => last = e,
        }
    }
    Err((endpoint.clone(), last))
}

fn serve_one(listener: TcpListener, routes: Router, tasks: &Tasks) {
    let stopping = tasks.stopping();
    tasks.spawn("http", async move {
        let served = axum::serve(listener, routes).with_graceful_shutdown(stopping.cancelled_owned());
        if let Err(e) = served.await {
            tracing::error!(error = %e, "http listener ended");
        }
    });
}

fn health_routes(telemetry: Arc<Telemetry>) -> Router {
    type Asked = fn(&Health) -> bool;
    let check = |asked: Asked| {
        get(move |State(telemetry): State<Arc<Telemetry>>| async move {
            answer(asked(&telemetry.health), &telemetry.health)
        })
    };
    Router::new()
        .route("/livez", check(Health::is_live))
        .route("/readyz", check(Health::is_ready))
        .route("/startupz", check(Health::is_started))
        .with_state(telemetry)
}

/// `ok` or why not, one condition a line.
fn answer(good: bool, health: &Health) -> Response {
    let mut text = if good { "ok\n".to_owned() } else { "not ok\n".to_owned() };
    for (condition, reason) in health.conditions() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{condition}: {reason}");
    }
    let code = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, text).into_response()
}

fn guarded_routes(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(|State(shown): State<Shown>| async move { Json((shown.status)()) }))
        .route_layer(middleware::from_fn_with_state(shown.clone(), check_host))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let text = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text)], shown.telemetry.render()).into_response()
}

async fn check_host(State(shown): State<Shown>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    match host {
        // A browser always sends one; without it there is no name that could have been rebound.
        None => next.run(request).await,
        Some(host) if is_allowed(host, &shown.allowed_hosts) => next.run(request).await,
        Some(_) => (StatusCode::FORBIDDEN, "this host name is not in admin.allowed.hosts\n").into_response(),
    }
}

/// Names of loopback, plain addresses (no name was resolved to get here) and the listed names.
fn is_allowed(host: &str, listed: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or(v6, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok()
        || listed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
