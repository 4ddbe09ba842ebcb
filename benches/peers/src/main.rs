//! The Rust clients of `tests/interop/run peers`: `peers SETTINGS` makes one of them, then every line on stdin is an order,
//! answered by a line on stdout. The program in `tests/interop/peers` gives the orders, and counts what the pool is asked.

mod by_hand;
mod ours;
mod reqsign;

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Where the pool and the backend are, and which client is asked.
#[derive(Clone, Deserialize)]
struct Settings {
    client: String,
    endpoint: String,
    pool_id: String,
    region: String,
    /// `GET backend/USER` is the user's identity id and token.
    backend: String,
}

/// Who is signed in.
#[derive(Clone, Deserialize)]
struct Who {
    /// guest, developer, or social.
    state: String,
    #[serde(default)]
    user: String,
    /// The key of the logins map.
    #[serde(default)]
    login: String,
    /// What a client holds that cannot ask for it: the developer user's identity, and a token.
    #[serde(default)]
    identity: String,
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Order {
    /// A new client.
    Make(Who),
    /// So many callers at once.
    Ask { callers: usize },
    /// One caller, as if the credentials had expired.
    Again,
    /// The client that exists, with another user.
    Switch(Who),
    /// A caller that gives up after so long, and another one.
    Cancel { milliseconds: u64 },
    /// The time of one call that needs no request.
    Hit { calls: u32 },
    /// The time of a new client's first credentials.
    Cold { times: usize },
}

/// An access key, or why there is none.
type Answer = Result<String, String>;

trait Client: Send + Sync {
    fn ask(&self) -> impl Future<Output = Answer> + Send;

    fn again(&self) -> impl Future<Output = Answer> + Send;

    /// What the existing client does to follow, or why it cannot.
    fn switch(&mut self, _who: Who) -> Result<(), &'static str> {
        Err("made for one user: another user is a new client")
    }
}

async fn callers<C: Client + 'static>(client: &C, number: usize) -> Value {
    // On one task: all of them have asked before the first answer comes.
    let mut asked: Vec<_> = (0..number).map(|_| Box::pin(client.ask())).collect();
    let mut answers: Vec<Option<Answer>> = asked.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, answer) in asked.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(said) = future.as_mut().poll(context)
            {
                *answer = Some(said);
            }
        }
        if answers.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    said(answers.into_iter().flatten())
}

fn said(answers: impl IntoIterator<Item = Answer>) -> Value {
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(key) => keys.push(key),
            Err(error) => errors.push(error),
        }
    }
    json!({ "keys": keys, "errors": errors })
}

async fn serve<C: Client + 'static>(make: impl Fn(Who) -> anyhow::Result<C>) -> anyhow::Result<()> {
    let mut client = None;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let order: Order = serde_json::from_str(&line)?;
        let answer = match (order, &mut client) {
            (Order::Make(who), client) => {
                *client = Some(make(who)?);
                json!({})
            }
            (Order::Cold { times }, _) => {
                let mut taken = Vec::new();
                for _ in 0..times {
                    let client = make(Who {
                        state: "guest".into(),
                        user: String::new(),
                        login: String::new(),
                        identity: String::new(),
                        token: String::new(),
                    })?;
                    let start = Instant::now();
                    client.ask().await.map_err(anyhow::Error::msg)?;
                    taken.push(start.elapsed());
                }
                taken.sort();
                json!({ "ns": taken[taken.len() / 2].as_nanos() as u64 })
            }
            (_, None) => anyhow::bail!("no client"),
            (Order::Ask { callers: number }, Some(client)) => callers(client, number).await,
            (Order::Again, Some(client)) => said([client.again().await]),
            (Order::Switch(who), Some(client)) => match client.switch(who) {
                Ok(()) => json!({}),
                Err(why) => json!({ "no": why }),
            },
            (Order::Cancel { milliseconds }, Some(client)) => {
                let given_up = tokio::time::timeout(Duration::from_millis(milliseconds), client.ask()).await;
                anyhow::ensure!(given_up.is_err(), "the answer came before the caller gave up");
                callers(client, 1).await
            }
            (Order::Hit { calls }, Some(client)) => {
                client.ask().await.map_err(anyhow::Error::msg)?;
                let start = Instant::now();
                for _ in 0..calls {
                    std::hint::black_box(client.ask().await.map_err(anyhow::Error::msg)?);
                }
                json!({ "ns": (start.elapsed() / calls).as_nanos() as u64 })
            }
        };
        println!("{answer}");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = std::env::args().nth(1).unwrap_or_default();
    let settings: Settings = serde_json::from_str(&settings)?;
    match settings.client.as_str() {
        "this crate" => {
            let base = ours::base(&settings).await;
            serve(|who| ours::Ours::new(&settings, &base, who)).await
        }
        "IdentityCache::lazy()" => {
            let base = ours::base(&settings).await;
            serve(|who| by_hand::ByHand::new(&settings, &base, who)).await
        }
        "reqsign" => serve(|who| reqsign::Reqsign::new(&settings, who)).await,
        other => anyhow::bail!("no client {other}"),
    }
}
