//! `interop_stage pools` serves identity pools whose settings only a program can make, `interop_stage app JSON` is an app
//! that uses this crate's provider with the S3 client: both obey lines of JSON, each answered by a line. `interop_stage
//! judge FILE` asks a pool about trust policies, `interop_stage store ENDPOINT` checks this crate's store against a DynamoDB.
//! `interop_stage backend JSON` is an instance of the example backend. `interop_stage refresh JSON` renews logins with a refresh token.

mod admin;
mod app;
mod fleet;
mod judge;
mod pools;
mod refresh;
mod store;

use std::io::{Write, stdout};
use std::process::ExitCode;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match (arguments.next().as_deref(), arguments.next()) {
        (Some("pools"), None) => pools::serve().await,
        (Some("app"), Some(setup)) => app::run(&setup).await,
        (Some("backend"), Some(setup)) => fleet::run(&setup).await,
        (Some("refresh"), Some(setup)) => refresh::run(&setup).await,
        (Some("judge"), Some(file)) => judge::run(&file).await,
        (Some("table"), Some(endpoint)) => store::make(&endpoint).await,
        (Some("store"), Some(endpoint)) => store::check(&endpoint).await,
        _ => Err(anyhow::anyhow!(
            "usage: interop_stage pools | interop_stage app JSON | interop_stage backend JSON | interop_stage judge FILE | interop_stage refresh JSON | interop_stage store ENDPOINT | interop_stage table ENDPOINT"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn orders() -> Lines<BufReader<Stdin>> {
    BufReader::new(stdin()).lines()
}

fn say(answer: &Value) -> anyhow::Result<()> {
    let mut stdout = stdout().lock();
    writeln!(stdout, "{answer}")?;
    Ok(stdout.flush()?)
}
