//! Who is signed in, by a command of the user's.

use std::process::Stdio;
use std::time::Duration;

use aws_smithy_async::future::timeout::Timeout;
use aws_smithy_async::rt::sleep::{AsyncSleep as _, TokioSleep};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use zeroize::Zeroizing;

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints a bearer, or nothing.
pub(super) struct BearerCommand(String);

/// A bearer, and a name for it that tells nothing of it.
pub(super) struct Bearer {
    pub(super) secret: SecretString,
    pub(super) fingerprint: String,
}

impl BearerCommand {
    pub(super) fn new(command: String) -> Self {
        Self(command)
    }

    /// The bearer of who is signed in; nothing if nobody is.
    pub(super) async fn ask(&self) -> Result<Option<Bearer>, String> {
        let mut command = if cfg!(windows) {
            Command::new("cmd")
        } else {
            Command::new("sh")
        };
        command
            .arg(if cfg!(windows) { "/C" } else { "-c" })
            .arg(&self.0)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        let output = Timeout::new(command.output(), TokioSleep::new().sleep(PATIENCE)).await;
        let output = output
            .map_err(|_| "the bearer command did not end within 30 s".to_owned())?
            .map_err(|error| format!("the bearer command cannot be run: {error}"))?;
        let printed = Zeroizing::new(output.stdout);
        if !output.status.success() {
            return Err(format!("the bearer command failed ({})", output.status));
        }
        let text = std::str::from_utf8(&printed).map_err(|_| "the bearer command prints no text".to_owned())?;
        let bearer = text.trim();
        if bearer.is_empty() {
            return Ok(None);
        }
        let hash = Sha256::digest(bearer.as_bytes());
        Ok(Some(Bearer {
            secret: bearer.to_owned().into(),
            fingerprint: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }))
    }
}
