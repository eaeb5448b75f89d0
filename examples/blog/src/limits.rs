//! How often somebody may ask, and that browsers ask for our own pages.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cache_aside::Decision;

use crate::App;
use crate::error::{Error, Result};

/// A layer around the API. It protects the service from too much work, so it is open while the store is away:
/// better no limit than no service.
pub(crate) async fn requests(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response> {
    match app.requests.check(client(peer.ip())).await {
        Ok(Decision::Limited { retry_after }) => return Err(Error::TooMany(retry_after)),
        Ok(Decision::Allowed { .. }) => {}
        Err(error) => tracing::debug!(%error, "requests aren't limited"),
    }
    Ok(next.run(request).await)
}

/// For whoever tries passwords. It protects a secret, so it is closed while the store is away.
pub(crate) async fn passwords(app: &App, peer: SocketAddr) -> Result<()> {
    match app.passwords.check(client(peer.ip())).await? {
        Decision::Limited { retry_after } => Err(Error::TooMany(retry_after)),
        Decision::Allowed { .. } => Ok(()),
    }
}

/// Who asks: an address. Of IPv6 a household has 2^64, so it is the network that counts.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A layer around everything, against forged requests (CSRF): a browser tells where a request comes from,
/// and what changes something must come from here. Together with `SameSite=Lax` on the cookie that needs no
/// token in forms. What isn't a browser sends neither header, and has no cookies of anybody else's.
pub(crate) async fn own_origin(request: Request, next: Next) -> Response {
    if request.method() == Method::GET || request.method() == Method::HEAD || from_here(request.headers()) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "This request comes from another site.\n").into_response()
}

fn from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = text(ORIGIN.as_str()) else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == text(HOST.as_str())
}
