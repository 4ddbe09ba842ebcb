//! A log that never blocks the pool, nor ends it: lines that nobody reads are dropped, and counted.

use std::fmt::Write as _;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cognito_identity_pool::local::LocalRequest;

/// How many lines wait for a slow reader.
const LINES: usize = 4096;

/// How long the end waits for the last lines to be read.
const LAST: Duration = Duration::from_millis(500);

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
    Refusals,
    Silent,
}

/// Lines on their way to stderr.
pub(super) struct Log {
    form: Form,
    lines: Mutex<Option<SyncSender<String>>>,
    dropped: Arc<AtomicU64>,
    ended: Mutex<Receiver<()>>,
}

impl Log {
    pub(super) fn start(form: Form) -> io::Result<Self> {
        Self::to(form, io::stderr())
    }

    fn to(form: Form, mut out: impl io::Write + Send + 'static) -> io::Result<Self> {
        let (lines, queue) = sync_channel::<String>(LINES);
        let (end, ended) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let missed = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            for line in queue {
                let missed = missed.swap(0, Ordering::Relaxed);
                let note = (missed > 0).then(|| match form {
                    Form::Json => format!("{{\"dropped_lines\":{missed}}}\n"),
                    _ => format!("… {missed} lines were dropped: nobody read them\n"),
                });
                // Whoever closed stderr reads nothing; the pool goes on.
                drop(out.write_all((note.unwrap_or_default() + &line).as_bytes()));
            }
            // Whoever waits for the end may have stopped to.
            let _gone = end.send(());
        })?;
        Ok(Self {
            form,
            lines: Mutex::new(Some(lines)),
            dropped,
            ended: Mutex::new(ended),
        })
    }

    /// Something that is no request.
    pub(super) fn note(&self, text: &str) {
        match self.form {
            Form::Text => self.line(format!("{text}\n")),
            Form::Json => self.line(format!("{}\n", serde_json::json!({ "note": text }))),
            // What opens the pool to others is said, however quiet it is.
            Form::Refusals | Form::Silent if text.starts_with("WARNING") => self.line(format!("{text}\n")),
            Form::Refusals | Form::Silent => {}
        }
    }

    pub(super) fn request(&self, request: &LocalRequest) {
        match self.form {
            Form::Text => self.line(text(request)),
            Form::Json => {
                if let Ok(line) = serde_json::to_string(request) {
                    self.line(line + "\n");
                }
            }
            Form::Refusals if request.rule.is_some() => self.line(text(request)),
            Form::Refusals | Form::Silent => {}
        }
    }

    fn line(&self, line: String) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = &*lines
            && lines.try_send(line).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes no more lines, and gives a reader some time for the last ones.
    pub(super) fn end(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _late = ended.recv_timeout(LAST);
    }
}

/// `400 GetId NotAuthorizedException us-east-1:… ASIA…`, and why.
fn text(request: &LocalRequest) -> String {
    let outcome = request.error.unwrap_or("ok");
    let identity = request.identity_id.as_deref().unwrap_or("-");
    let issued = request.issued_access_key_id.as_deref();
    let key = issued.or(request.access_key_id.as_deref()).unwrap_or("-");
    let operation = if request.operation.is_empty() {
        "-"
    } else {
        &request.operation
    };
    let mut line = format!("{} {operation} {outcome} {identity} {key}", request.status);
    if let Some(rule) = request.rule {
        // Writing to a String cannot fail.
        let _ = write!(line, "\n    refused by {rule}");
        if let Some(why) = &request.why {
            let _ = write!(line, ": {why}");
        }
        if let Some(advice) = request.advice {
            let _ = write!(line, "\n    {advice}");
        }
    }
    // What a client sends cannot write lines of its own, nor colour the terminal.
    let line: String = line
        .chars()
        .map(|char| {
            if char.is_control() && char != '\n' {
                '\u{fffd}'
            } else {
                char
            }
        })
        .collect();
    line + "\n"
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that takes nothing until it is told to.
    struct Stuck(Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl io::Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _told = self.0.recv();
            let _gone = self.1.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_up_nobody_and_is_told_what_it_missed() {
        let (go, stuck) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let log = Log::to(Form::Text, Stuck(stuck, written)).unwrap();
        for n in 0..10_000 {
            log.note(&n.to_string());
        }
        drop(go);
        log.note("last");
        log.end();
        let said = String::from_utf8(read.iter().flatten().collect()).unwrap();
        let lines = said.lines().filter(|line| line.parse::<u32>().is_ok()).count();
        assert!((LINES..LINES + 2).contains(&lines), "{lines} lines");
        assert!(said.contains("lines were dropped"), "it is said that some are missing");
    }
}
