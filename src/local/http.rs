//! The pool as an HTTP server, on loopback unless told otherwise, with a thread of its own: it answers whatever the caller's runtime does, and
//! needs none.

use std::convert::Infallible;
use std::error::Error as _;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_async::future::timeout::Timeout;
use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep, TokioSleep};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::faults::Cut;
use super::hosts::{self, Hosts};
use super::pool_service::PoolService;
use super::rules::Rule;
use super::wire;

/// The largest body that is read.
const MAX_BODY: usize = 1024 * 1024;

/// How long a client may take to send a head, and then a body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that stops when this is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    _stop: oneshot::Sender<Infallible>,
}

impl Server {
    /// Serves `service` on a port of `host`, any free one for 0.
    pub(super) fn start(service: Arc<PoolService>, host: IpAddr, port: u16, hosts: Hosts) -> io::Result<Self> {
        let listener = TcpListener::bind((host, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<Infallible>();
        std::thread::Builder::new()
            .name("local-identity-pool".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    // The sender is never used: it is dropped.
                    tokio::select! {
                        _ = stopped => {}
                        () = accept(service, hosts, listener) => {}
                    }
                });
            })?;
        Ok(Self { address, _stop: stop })
    }
}

/// Accepts until it is dropped, and its connections with it.
async fn accept(service: Arc<PoolService>, hosts: Hosts, listener: TcpListener) {
    let hosts = Arc::new(hosts);
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors, or a client that left at once: others must not suffer.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                TokioSleep::new().sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        // Without it, a small answer waits for the acknowledgement of the one before.
        drop(stream.set_nodelay(true));
        let service = Arc::clone(&service);
        connections.spawn(serve(service, Arc::clone(&hosts), stream));
    }
}

/// Serves one connection until it ends.
async fn serve(service: Arc<PoolService>, hosts: Arc<Hosts>, stream: TcpStream) {
    let answer = service_fn(move |request| {
        let (service, hosts) = (Arc::clone(&service), Arc::clone(&hosts));
        async move { respond(&service, &hosts, request).await }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .half_close(true)
        // Head and body in one buffer, hence in one write.
        .writev(false)
        .serve_connection(TokioIo::new(stream), answer);
    let Err(error) = (&mut connection).await else { return };
    tracing::debug!(%error, "a connection ended early");
    let mut stream = connection.into_parts().io.into_inner();
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(Cut::Half(bytes)) => drop(stream.write_all(bytes).await),
        // What is left to send is dropped, and the client sees a reset.
        Some(Cut::Reset) => drop(stream.set_zero_linger()),
        None => {}
    }
}

/// Answers one request.
async fn respond(
    service: &PoolService,
    hosts: &Hosts,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Cut> {
    if let Err(name) = hosts.check(request.headers()) {
        return Ok(close(wire::response(421, "text/plain", hosts::refusal(name))));
    }
    let (parts, body) = request.into_parts();
    let sleep = SharedAsyncSleep::new(TokioSleep::new());
    let body = Timeout::new(Limited::new(body, MAX_BODY).collect(), sleep.sleep(PATIENCE)).await;
    Ok(match body {
        Ok(Ok(body)) => {
            let request = Request::from_parts(parts, body.to_bytes());
            service.respond(&request, Some(sleep)).await?.map(Full::new)
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            close(wire::refused(&Rule::BodyTooLarge.refuse(&[&MAX_BODY])))
        }
        Ok(Err(_)) => close(wire::refused(&Rule::NotJson.into())),
        Err(_) => close(wire::response(408, "text/plain", "Request Timeout")),
    })
}

/// An answer after which the connection ends.
fn close(mut response: Response<Bytes>) -> Response<Full<Bytes>> {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response.map(Full::new)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::local::LocalIdentityPool;

    /// What a client that says `begins`, and then nothing more, is answered, and how many seconds of virtual time later.
    async fn stalled_after(begins: &str) -> (String, u64) {
        let pool = LocalIdentityPool::builder().start().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(begins.as_bytes()).await.unwrap();
        let started = Instant::now();
        let serving = tokio::spawn(serve(Arc::clone(pool.service()), Arc::default(), server));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        serving.await.unwrap();
        (answer, started.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_end_its_head_is_cut_off_after_30_seconds() {
        let (_, seconds) = stalled_after("POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-").await;
        assert_eq!(seconds, 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_end_its_body_is_told_so_after_30_seconds() {
        let (answer, seconds) =
            stalled_after("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(seconds, 30);
    }
}
