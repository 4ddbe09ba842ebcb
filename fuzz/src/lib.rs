//! What the fuzz targets share: one pool, asked without a socket.

use std::sync::LazyLock;

use bytes::Bytes;
use cognito_identity_pool::LocalIdentityPool;
use futures_util::FutureExt;

/// The developer provider of the pool.
pub const PROVIDER: &str = "login.app";

/// The pool that all inputs meet, so that they also meet what earlier inputs left behind.
pub static POOL: LazyLock<LocalIdentityPool> = LazyLock::new(|| {
    let builder = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .allow_guests(true);
    let Some(Ok(pool)) = builder.start().now_or_never() else {
        panic!("the pool did not start")
    };
    for host in ["accounts.google.com", "graph.facebook.com", "login.example.org"] {
        pool.oidc_issuer(host).expect("a provider");
    }
    pool
});

/// Asks the pool. Whatever the input, there is an answer with a status that the service has, at once.
pub fn ask(headers: &[(&str, &[u8])], body: &[u8]) -> u16 {
    let mut request = http::Request::post("/").header("host", "localhost");
    for (name, value) in headers {
        // What no HTTP parser lets through does not reach the pool.
        let Ok(value) = http::HeaderValue::from_bytes(value) else {
            return 0;
        };
        request = request.header(*name, value);
    }
    let request = request.body(Bytes::copy_from_slice(body)).expect("a request");
    let response = POOL
        .respond(request)
        .now_or_never()
        .expect("an answer at once")
        .expect("no fault was planned");
    let status = response.status().as_u16();
    assert!(matches!(status, 200 | 400 | 403 | 404), "{status}");
    POOL.clear_requests();
    status
}
