//! The service behind both forms of the pool: what it is made of, and whom it believes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::SharedTimeSource;
use bytes::Bytes;
use http::{Request, header};
use secrecy::{ExposeSecret, SecretString};

use super::clock::{PoolClock, seconds};
use super::error::LocalPoolError;
use super::faults::LocalFaults;
use super::issuers::{AmrForm, Issuers, LocalIssuer};
use super::partitions::Partition;
use super::pools::{PoolSettings, SOCIAL, State, UserPool};
use super::record::{LocalRequest, Records, cut};
use super::roles::Roles;
use super::rules::Refusal;
use super::sessions::{Mint, Session, Upstream};
use super::sigv4::{Authorization, Mismatch, Scope, signed_at, verify};
use super::state_file::Changes;
use super::throttle::Throttle;
use super::tokens::KeyRing;

/// The app id of the simulated providers.
pub(super) const LOCAL_APP: &str = "local-app";

/// What the builder decided and nothing changes.
pub(super) struct Settings {
    /// The pool that the builder described.
    pub(super) identity_pool_id: String,
    pub(super) region: String,
    pub(super) account_id: String,
    pub(super) partition: Partition,
    /// Host of the `iss` claim, and the key of the logins map.
    pub(super) issuer_host: String,
    pub(super) developer_access_key: String,
    pub(super) developer_secret: SecretString,
    /// The life of credentials of the enhanced flow.
    pub(super) credentials_seconds: i64,
    pub(super) cors: bool,
    pub(super) admin_token: String,
}

impl Settings {
    /// Who the developer credentials belong to.
    pub(super) fn developer_arn(&self) -> String {
        format!("arn:{}:iam::{}:user/developer", self.partition.name, self.account_id)
    }

    pub(super) fn pool_arn(&self, pool_id: &str) -> String {
        format!(
            "arn:{}:cognito-identity:{}:{}:identitypool/{pool_id}",
            self.partition.name, self.region, self.account_id
        )
    }
}

/// What the service's documentation leaves open, and what a test may want otherwise.
pub(super) struct Options {
    pub(super) merge_guests: bool,
    pub(super) wrong_provider_is_parameter: bool,
    pub(super) ignore_custom_role: bool,
    pub(super) refuse_classic_exchange: bool,
    /// Seconds for which a token of Cognito's own is accepted after its end.
    pub(super) token_grace: i64,
    /// The same for tokens of external providers.
    pub(super) external_grace: i64,
    /// Whether the quotas are kept from the start.
    pub(super) throttling: bool,
    /// Operations that a policy denies, signed or not.
    pub(super) denied: BTreeSet<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            merge_guests: false,
            wrong_provider_is_parameter: false,
            ignore_custom_role: false,
            refuse_classic_exchange: false,
            token_grace: 0,
            external_grace: 300,
            throttling: false,
            denied: BTreeSet::new(),
        }
    }
}

/// The pool without any transport.
pub(super) struct PoolService {
    pub(super) settings: Settings,
    pub(super) options: Options,
    pub(super) roles: Roles,
    pub(super) issuers: Issuers,
    pub(super) throttle: Throttle,
    pub(super) faults: LocalFaults,
    pub(super) upstream: Option<Upstream>,
    pub(super) keys: KeyRing,
    pub(super) mint: Mint,
    pub(super) records: Records,
    pub(super) clock: PoolClock,
    /// The clock once more, as what the pool's configs carry.
    pub(super) time: SharedTimeSource,
    pub(super) state: Mutex<State>,
    /// The pools that a reset goes back to.
    pub(super) initial: Mutex<State>,
    pub(super) changes: Arc<Changes>,
}

/// Who signed a request.
pub(super) enum Signer {
    Developer,
    Session(Box<Session>),
}

/// Why a signer is not believed; each protocol has its own words for it.
pub(super) enum Distrust {
    Missing,
    Incomplete(&'static str),
    UnknownKey,
    Signature,
    Time(String),
    Expired,
}

impl PoolService {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a social or OIDC provider's logins are spelled, and whether its tokens are opaque.
    pub(super) fn form_of(&self, host: &str) -> (AmrForm, bool) {
        match SOCIAL.iter().find(|(name, _)| *name == host) {
            Some((_, opaque)) => (AmrForm::Social, *opaque),
            None => {
                let Settings {
                    partition, account_id, ..
                } = &self.settings;
                let arn = format!("arn:{}:iam::{account_id}:oidc-provider/{host}", partition.name);
                (AmrForm::Oidc { arn }, false)
            }
        }
    }

    /// Makes the pool that the builder described trust a provider, and knows its tokens from then on.
    pub(super) fn trust(&self, issuer: LocalIssuer) -> Result<(), LocalPoolError> {
        let name = issuer.provider_name().to_owned();
        let (audience, form, _) = issuer.describe();
        let configure = |settings: &mut PoolSettings| match form {
            AmrForm::Social => {
                let audience = if audience.is_empty() { LOCAL_APP } else { audience };
                let providers = settings.supported_login_providers.get_or_insert_default();
                providers.insert(name.clone(), audience.to_owned());
            }
            AmrForm::Oidc { arn } => {
                let arns = settings.open_id_connect_provider_arns.get_or_insert_default();
                if !arns.contains(arn) {
                    arns.push(arn.clone());
                }
            }
            AmrForm::UserPool => {
                let known = settings.cognito_identity_providers.get_or_insert_default();
                let is_known = known.iter().any(|pool| {
                    pool.provider_name.as_ref() == Some(&name) && pool.client_id.as_deref() == Some(audience)
                });
                if !is_known {
                    known.push(UserPool {
                        provider_name: Some(name.clone()),
                        client_id: Some(audience.to_owned()),
                        server_side_token_check: None,
                    });
                }
            }
        };
        let id = &self.settings.identity_pool_id;
        let refused = |refusal: Refusal| LocalPoolError::Setting(refusal.message);
        {
            let mut state = self.state();
            let pool = state.pool_mut(id).map_err(refused)?;
            let mut settings = pool.settings.clone();
            configure(&mut settings);
            settings.check()?;
            pool.settings = settings;
        }
        let mut initial = self.initial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(pool) = initial.pool_mut(id) {
            configure(&mut pool.settings);
        }
        self.issuers.add(issuer);
        self.changed();
        Ok(())
    }

    /// Whether whoever signed at this second is believed although the pool's time is another, because the pool has
    /// travelled in time. Where the clocks were told to disagree, nobody is.
    fn travels(&self, second: i64) -> bool {
        self.faults.clock_offset() == 0 && self.clock.is_somebodys_present(second)
    }

    /// Says that there may be something to keep.
    pub(super) fn changed(&self) {
        self.changes.tell();
    }

    /// The service's time.
    pub(super) fn now(&self) -> SystemTime {
        let (now, offset) = (self.time.now(), self.faults.clock_offset());
        let distance = Duration::from_secs(offset.unsigned_abs());
        if offset < 0 {
            now.checked_sub(distance)
        } else {
            now.checked_add(distance)
        }
        .unwrap_or(now)
    }

    /// Who signed `request`, if the signature holds.
    pub(super) fn signer(
        &self,
        request: &Request<Bytes>,
        scope: &Scope<'_>,
        now: SystemTime,
        record: &mut LocalRequest,
    ) -> Result<Signer, Distrust> {
        let authorization = authorization(request)?;
        record.access_key_id = Some(cut(&authorization.access_key_id).to_owned());
        let token = authorization.session_token(request);
        let (signer, secret) = if authorization.access_key_id == self.settings.developer_access_key && token.is_none() {
            (
                Signer::Developer,
                self.settings.developer_secret.expose_secret().to_owned(),
            )
        } else {
            let token = token.ok_or(Distrust::UnknownKey)?;
            let session = self
                .mint
                .open(&authorization.access_key_id, token)
                .ok_or(Distrust::UnknownKey)?;
            (
                Signer::Session(Box::new(session)),
                self.mint.secret(&authorization.access_key_id),
            )
        };
        let verified =
            verify(request, &authorization, &secret, scope, seconds(now)).or_else(|mismatch| match mismatch {
                // A client does not travel along when the pool's clock is moved on.
                Mismatch::Time(how) => match signed_at(request).filter(|at| self.travels(*at)) {
                    Some(at) => verify(request, &authorization, &secret, scope, at),
                    None => Err(Mismatch::Time(how)),
                },
                other => Err(other),
            });
        verified.map_err(|mismatch| match mismatch {
            Mismatch::Incomplete(what) => Distrust::Incomplete(what),
            Mismatch::Signature => Distrust::Signature,
            Mismatch::Time(how) => Distrust::Time(how),
        })?;
        if let Signer::Session(session) = &signer {
            record.identity_id = Some(session.identity_id.clone());
            record.identity_pool_id = Some(session.pool_id.clone());
            record.principal_tags.clone_from(&session.tags);
            if seconds(now) >= session.expires {
                return Err(Distrust::Expired);
            }
        }
        Ok(signer)
    }
}

/// How a request is signed: by its header, or presigned in its query.
fn authorization(request: &Request<Bytes>) -> Result<Authorization<'_>, Distrust> {
    let headers = request.headers();
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let presigned = Authorization::presigned(request.uri().query().unwrap_or_default());
        return presigned.ok_or(Distrust::Missing)?.map_err(Distrust::Incomplete);
    };
    let value = value.to_str().map_err(|_| Distrust::Incomplete("it is not ASCII"))?;
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return Err(Distrust::Incomplete("it is given twice"));
    }
    Authorization::parse(value).map_err(Distrust::Incomplete)
}
