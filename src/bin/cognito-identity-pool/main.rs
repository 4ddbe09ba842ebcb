//! The program `cognito-identity-pool`: an identity pool on this machine, what is wrong with a token, and what operators
//! and other programs need of the library.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks to its user")]

mod credentials;
mod environment;
mod explain;
mod fetch;
mod local;
mod operator;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use output::Failure;

/// Amazon Cognito identity pools: run one on this machine, explain what it refuses, administer a real one
///
/// Nothing here needs an AWS account but `doctor`, `lookup`, `forget`, `merge` and `unlink`, which use the AWS credentials,
/// region and endpoints of the environment as every AWS tool does.
#[derive(Parser)]
#[command(name = "cognito-identity-pool", version, max_term_width = 110)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Local(Box<local::Local>),
    Explain(explain::Explain),
    Doctor(operator::Doctor),
    Policy(operator::Policy),
    Lookup(operator::Lookup),
    Forget(operator::Forget),
    Merge(operator::Merge),
    Unlink(operator::Unlink),
    Credentials(credentials::Command),
    /// Print a completion script for a shell
    ///
    /// For bash: `cognito-identity-pool completions bash > ~/.local/share/bash-completion/completions/cognito-identity-pool`
    Completions {
        shell: clap_complete::Shell,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Program::parse().command {
        Command::Local(local) => local::run(*local).await,
        Command::Explain(explain) => explain::run(explain),
        Command::Doctor(doctor) => operator::doctor(doctor).await,
        Command::Policy(policy) => operator::policy(&policy),
        Command::Lookup(lookup) => operator::lookup(lookup).await,
        Command::Forget(forget) => operator::forget(forget).await,
        Command::Merge(merge) => operator::merge(merge).await,
        Command::Unlink(unlink) => operator::unlink(unlink).await,
        Command::Credentials(command) => credentials::run(command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Program::command(), "cognito-identity-pool", &mut script);
            output::bytes(&script)
        }
    };
    match outcome {
        Ok(code) => code,
        Err(Failure(text)) => {
            output::error(&text);
            ExitCode::FAILURE
        }
    }
}
