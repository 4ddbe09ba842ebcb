//! [`Login::decided_by`]: when the app's closure is asked, and whether its answer counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Cause, CurrentSession, Decide};
use crate::client::app_code::{drop_quietly, quietly};
use crate::client::events::EventKind;
use crate::client::login::{Login, Sameness, Who};
use crate::client::session_state::SessionState;
use crate::error::{Error, ErrorKind};
use crate::refresh::Reentry;

impl CurrentSession {
    /// Asks the app's closure, unless it was asked since `asked` was read. `false`: there is none.
    pub(super) fn consult(self: &Arc<Self>, asked: u64) -> bool {
        let mut switching = self.switching();
        let Some(decide) = switching.decide.clone() else {
            return false;
        };
        if asked != u64::MAX && switching.asked != asked {
            return true;
        }
        switching.asked += 1;
        let ticket = switching.asked;
        drop(switching);
        let login = decided(&decide, self.context.id());
        self.take_answer(&decide, ticket, login);
        drop_quietly(decide);
        true
    }

    /// Puts what the closure has answered in force, unless a newer answer, or a change of login, came first.
    fn take_answer(self: &Arc<Self>, decide: &Decide, ticket: u64, login: Option<Login>) {
        let mut switching = self.switching();
        let counts = ticket > switching.settled
            && switching
                .decide
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, decide));
        if !counts {
            drop(switching);
            return drop_quietly(login);
        }
        switching.settled = ticket;
        let state = self.in_force.load_full();
        let Some(login) = login else {
            drop(switching);
            return self.tell_undecided(
                &state,
                "the closure of Login::decided_by panicked, or answered with another Login::decided_by",
            );
        };
        match state.compare(&login) {
            Sameness::Same => {
                let old = state.renew(login);
                drop(switching);
                drop_quietly(old);
            }
            Sameness::Different => {
                state.overruled.store(true, Ordering::SeqCst);
                let decide = Some(Arc::clone(decide));
                drop(self.replace(switching, Cause::Decision, decide, login, Arc::default()));
            }
            Sameness::Unknown => {
                drop(switching);
                drop_quietly(login);
                self.tell_undecided(
                    &state,
                    "the answer of Login::decided_by has no subject and was made anew, so that nobody can tell whose it is",
                );
            }
        }
        drop_quietly(state);
    }

    /// The session in force goes on, and the app hears that its closure was of no use.
    fn tell_undecided(&self, state: &SessionState, why: &'static str) {
        let error = Error::new(ErrorKind::Configuration, why).with_hint(
            "give each login a `subject`, or answer with clones of logins that are kept: Login::developer(Arc::clone(&backend))",
        );
        quietly(|| tracing::warn!(%error, epoch = state.epoch, "the login stays as it is"));
        self.context
            .events
            .publish(state.epoch, EventKind::LoginUndecided { error });
    }
}

/// What the app's closure answers. One that panics, or hands the question on, has decided nothing.
pub(in crate::client) fn decided(decide: &Decide, provider: usize) -> Option<Login> {
    let login = quietly(|| Reentry::marked(provider, || decide()))?;
    if let Who::Decided(_) = login.who {
        drop_quietly(login);
        return None;
    }
    Some(login)
}

/// A login of which nothing is known yet.
pub(in crate::client) fn undecided() -> Login {
    Login::decided_by(Login::signed_out)
}
