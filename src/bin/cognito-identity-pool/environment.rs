//! Variables for the AWS CLI, boto3 and the other SDKs: printed, written to a file, or given to a command.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};

use crate::output::{Failure, Outcome};

/// Variables, and where what they are about is ready.
pub(crate) struct Environment {
    variables: Vec<(&'static str, String)>,
    ready: String,
    /// What a command must not have, because it would win.
    without: &'static [&'static str],
}

impl Environment {
    pub(crate) fn new(ready: String, variables: Vec<(&'static str, String)>) -> Self {
        Self {
            variables,
            ready,
            without: &[],
        }
    }

    /// A command gets none of these.
    pub(crate) fn without(mut self, names: &'static [&'static str]) -> Self {
        self.without = names;
        self
    }

    /// What is printed when all is ready; as shell text, it can be evaluated whole.
    pub(crate) fn ready(&self, as_json: bool) -> String {
        if as_json {
            let variables: Map<_, _> = self
                .variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
                .collect();
            return format!("{}\n", json!({ "ready": self.ready, "environment": variables }));
        }
        format!("{}# ready: {}\n", self.exports(), self.ready)
    }

    fn exports(&self) -> String {
        self.variables
            .iter()
            .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
            .collect()
    }

    /// Runs a command with the variables until it ends, and ends as it does. If this process is asked to end, so is the
    /// command.
    pub(crate) async fn run(&self, command: &[OsString], ended: impl Future<Output = ()>) -> Outcome {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::new("there is no command"));
        };
        let mut command = Command::new(program);
        for name in self.without {
            command.env_remove(name);
        }
        let mut child = command
            .args(arguments)
            .envs(self.variables.iter().map(|(name, value)| (*name, value)))
            .spawn()
            .map_err(|error| Failure::new(format!("{} cannot be run: {error}", program.display())))?;
        let status = tokio::select! {
            status = child.wait() => status?,
            () = ended => {
                terminate(&mut child);
                child.wait().await?
            }
        };
        Ok(ExitCode::from(exit_code(status)))
    }

    /// Writes a file that a shell sources. It appears whole, and is its owner's alone: it holds secrets.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&new)?.write_all(self.exports().as_bytes())?;
        fs::rename(&new, path)
    }
}

fn terminate(child: &mut Child) {
    #[cfg(unix)]
    if let Some(pid) = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
    {
        // It may have ended meanwhile.
        let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    #[cfg(not(unix))]
    drop(child.start_kill());
}

/// As a shell tells it: 128 and the signal, for a command that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

/// Ends when the process is asked to: by SIGINT or SIGTERM. The handlers are set when this returns, also for process 1,
/// for which the system has none.
pub(crate) fn ended() -> Result<impl Future<Output = ()>, Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        drop(tokio::signal::ctrl_c().await);
    })
}

/// A word for a shell.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+=./:@%,".contains(&byte);
    if !value.is_empty() && value.bytes().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_whatever_it_holds() {
        assert_eq!(quoted("us-east-1:0-f/+="), "us-east-1:0-f/+=");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $(x)"), r"'it'\''s $(x)'");
        assert_eq!(quoted(""), "''");
    }
}
