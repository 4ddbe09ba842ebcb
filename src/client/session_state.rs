//! [`SessionState`]: one session, from the change of login that began it to the one that ends it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::app_code::quietly;
use super::context::Context;
use super::exchange::{Consult, SessionCaches, Snapshot};
use super::identity_state::IdentityState;
use super::kept_identities::KeptIdentities;
use super::login::{Login, Sameness, Who};
use super::resolution::SessionMark;
use crate::error::{Error, ErrorKind};
use crate::metrics::{self, By};
use crate::refresh::{self, Failure, RefreshCache};

/// What a caller asks for.
#[derive(Clone, Copy)]
pub(super) enum Demand {
    /// Credentials that may be served.
    Fresh,
    /// Those of a refresh that was forced.
    Forced,
    /// Credentials that are valid for at least this long.
    ValidFor(Duration),
}

/// What the provider's pointer points to.
pub(super) struct SessionState {
    pub(super) epoch: u64,
    pub(super) login: Login,
    /// `None`: signed out.
    pub(super) caches: Option<Arc<SessionCaches>>,
    pub(super) credentials: Option<RefreshCache<Snapshot, Error>>,
    /// Why nobody gets anything any more.
    pub(super) closed: Option<Error>,
    /// What is derived from the session has it.
    pub(super) mark: Arc<SessionMark>,
    /// What identity caches keep of other resolvers while the session is in force.
    pub(super) kept: KeptIdentities,
    /// The app's closure has decided for another login: whoever waits goes on with that one.
    pub(super) overruled: AtomicBool,
}

/// What a session serves, and which it was.
pub(super) type Served = (Arc<SessionState>, refresh::Cached<Snapshot>);

impl SessionState {
    /// Waits for credentials of this session; the caller looks afterwards whether it is still in force.
    pub(super) async fn obtain(&self, demand: Demand) -> Result<refresh::Cached<Snapshot>, Error> {
        let Some(credentials) = &self.credentials else {
            return Err(self.nobody());
        };
        match demand {
            Demand::Fresh => credentials.get().await,
            Demand::Forced => credentials.refresh_now().await,
            Demand::ValidFor(least) => credentials.get_valid_for(least).await,
        }
    }

    /// Whether there are credentials that have not expired.
    pub(super) fn serves(&self) -> bool {
        let credentials = self.credentials.as_ref();
        credentials.is_some_and(|credentials| credentials.status().life.is_some_and(|(left, _)| !left.is_zero()))
    }

    /// Its credentials are about to be used. Not told of every hit: those that were looked at within the last second are not.
    pub(super) fn count_use(&self) {
        if !metrics::ENABLED {
            return;
        }
        let by = if self.caches.is_some() { By::Client } else { By::Users };
        if let Some((left, life)) = self
            .credentials
            .as_ref()
            .and_then(|credentials| credentials.status().life)
        {
            metrics::credentials_used(by, life.saturating_sub(left));
        }
    }

    pub(super) fn compare(&self, login: &Login) -> Sameness {
        match &self.caches {
            Some(caches) => caches.newest_login().compare(login),
            None => self.login.compare(login),
        }
    }

    /// Takes `login`, which means the same person, for what the session is loaded with from now on. Answers what is to be dropped.
    pub(super) fn renew(&self, login: Login) -> Login {
        match &self.caches {
            Some(caches) => caches.renew(login),
            None => login,
        }
    }

    /// How often it was given newer tokens.
    pub(super) fn renewals(&self) -> u64 {
        self.caches.as_ref().map_or(0, |caches| caches.renewals())
    }

    pub(super) fn nobody(&self) -> Error {
        if let Some(error) = &self.closed {
            return error.clone();
        }
        match self.login.who {
            Who::SignedOut => Error::new(ErrorKind::SignedOut, "nobody is signed in")
                .with_hint("call switch_to with the user's Login, or with Login::guest()"),
            Who::Decided(_) => Error::new(ErrorKind::Configuration, "the app has not decided who is signed in")
                .with_hint("the closure of Login::decided_by panicked, or answered with another Login::decided_by"),
            _ => Error::ended(),
        }
    }

    /// Tells all who wait that the session is over, and lets go of what is secret. Under no lock: the app's code runs.
    pub(super) fn end(&self) {
        if let Some(credentials) = &self.credentials {
            quietly(|| credentials.end());
        }
        if let Some(caches) = &self.caches {
            caches.end();
        }
        quietly(|| self.kept.clear());
    }
}

pub(super) fn state(
    context: &Arc<Context>,
    login: Login,
    mark: Arc<SessionMark>,
    identity: Arc<IdentityState>,
    consult: Option<Consult>,
) -> Arc<SessionState> {
    let epoch = mark.id.epoch;
    let caches = match login.who {
        Who::SignedOut | Who::Decided(_) => None,
        _ => Some(SessionCaches::new(
            Arc::clone(context),
            login.clone(),
            epoch,
            identity,
            consult,
        )),
    };
    let credentials = caches.as_ref().map(SessionCaches::credentials);
    Arc::new(SessionState {
        epoch,
        login,
        caches,
        credentials,
        closed: None,
        mark,
        kept: KeptIdentities::default(),
        overruled: AtomicBool::new(false),
    })
}
