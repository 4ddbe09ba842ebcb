//! What the program says, and how it fails.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// Why a command failed, with the causes; for its user.
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {cause}");
            source = cause.source();
        }
        Self(text)
    }
}

/// How a command ends, if nothing went wrong.
pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Prints a text. Whoever reads may stop reading (`| head`).
pub(crate) fn text(text: &str) -> Outcome {
    bytes(text.as_bytes())
}

pub(crate) fn bytes(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Outcome {
    text(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Says what went wrong; to nobody, if stderr is closed.
pub(crate) fn error(text: &str) {
    drop(writeln!(io::stderr(), "cognito-identity-pool: {text}"));
}
