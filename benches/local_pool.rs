//! How fast the local pool is: requests a second in process and over keep-alive sockets, and the time to the first
//! token. `cargo bench --bench local_pool`; with `--test` each is run once. It prints a table and asserts no time.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]

use std::time::{Duration, Instant};

use aws_sdk_cognitoidentity::Client;
use bytes::Bytes;
use cognito_identity_pool::LocalIdentityPool;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PROVIDER: &str = "login.mycompany.myapp";
const ISSUER: &str = "cognito-identity.amazonaws.com";

/// Medians of this many rounds.
const ROUNDS: usize = 9;

struct Harness {
    quick: bool,
}

impl Harness {
    /// Runs `work` for a while in each round and prints the median of the time of one run.
    async fn measure(&self, name: &str, mut work: impl AsyncFnMut()) {
        let (rounds, least) = if self.quick {
            (1, Duration::ZERO)
        } else {
            (ROUNDS, Duration::from_millis(200))
        };
        let mut medians = Vec::new();
        for _ in 0..rounds {
            let started = Instant::now();
            let mut runs = 0u32;
            while runs == 0 || started.elapsed() < least {
                work().await;
                runs += 1;
            }
            medians.push(started.elapsed() / runs);
        }
        report(name, &mut medians);
    }
}

fn report(name: &str, times: &mut [Duration]) {
    times.sort();
    let median = times[times.len() / 2];
    println!(
        "{name:<48} {:>10.1} µs {:>10.0} /s",
        median.as_secs_f64() * 1e6,
        1.0 / median.as_secs_f64()
    );
}

async fn start() -> LocalIdentityPool {
    LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .allow_guests(true)
        .start()
        .await
        .unwrap()
}

async fn vend(pool: &LocalIdentityPool, client: &Client) -> (String, String) {
    let call = client
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(pool.identity_pool_id());
    let output = call.logins(PROVIDER, "user-42").send().await.unwrap();
    (output.identity_id.unwrap(), output.token.unwrap())
}

fn post(operation: &str, body: &Value) -> http::Request<Bytes> {
    http::Request::post("/")
        .header("x-amz-target", format!("AWSCognitoIdentityService.{operation}"))
        .header("content-type", "application/x-amz-json-1.1")
        .body(Bytes::from(body.to_string()))
        .unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let harness = Harness {
        quick: std::env::args().any(|argument| argument == "--test"),
    };
    println!("{:<48} {:>13} {:>13}", "one core, median", "time", "rate");

    // AWS-LC gathers entropy by the jitter of the processor before its first random number, whoever asks for it: a TLS
    // handshake, a signature. Once in a process, and not the pool's doing.
    let started = Instant::now();
    aws_lc_rs::rand::fill(&mut [0]).unwrap();
    report("AWS-LC's first random number", &mut [started.elapsed()]);
    // Before any other pool, since the first of a process parses the shared key.
    let started = Instant::now();
    let pool = start().await;
    report("start", &mut [started.elapsed()]);
    let backend = Client::new(&pool.backend_config());
    let app = Client::new(&pool.client_config());
    let (id, token) = vend(&pool, &backend).await;
    report("start and first token", &mut [started.elapsed()]);

    let guest = post("GetId", &json!({ "IdentityPoolId": pool.identity_pool_id() }));
    harness
        .measure("GetId, guest (core)", async || {
            assert_eq!(pool.respond(guest.clone()).await.unwrap().status(), 200);
        })
        .await;
    let exchange = post(
        "GetCredentialsForIdentity",
        &json!({ "IdentityId": id, "Logins": { ISSUER: token } }),
    );
    harness
        .measure("GetCredentialsForIdentity, token (core)", async || {
            assert_eq!(pool.respond(exchange.clone()).await.unwrap().status(), 200);
        })
        .await;
    harness
        .measure("GetCredentialsForIdentity, token (SDK, in process)", async || {
            app.get_credentials_for_identity()
                .identity_id(&id)
                .logins(ISSUER, &token)
                .send()
                .await
                .unwrap();
        })
        .await;
    harness
        .measure("GetOpenIdTokenForDeveloperIdentity (SDK)", async || {
            vend(&pool, &backend).await;
        })
        .await;

    let (parts, body) = exchange.into_parts();
    let target = parts.headers["x-amz-target"].to_str().unwrap();
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: {target}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(&body);
    let mut stream = TcpStream::connect(pool.endpoint_url().replace("http://", ""))
        .await
        .unwrap();
    stream.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 16 * 1024];
    harness
        .measure("GetCredentialsForIdentity, token (keep-alive)", async || {
            stream.write_all(&request).await.unwrap();
            let mut read = 0;
            while read == 0 || buffer[read - 1] != b'}' {
                read += stream.read(&mut buffer[read..]).await.unwrap();
            }
            assert!(buffer.starts_with(b"HTTP/1.1 200"));
        })
        .await;
}
