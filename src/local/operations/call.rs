//! One call of an operation: what its code has to work with.

use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::local::clock::{epoch, seconds};
use crate::local::logins::LoginCheck;
use crate::local::pool_service::PoolService;
use crate::local::pools::Pool;
use crate::local::record::LocalRequest;
use crate::local::rules::{Refusal, Rule};
use crate::local::tokens::{Algorithm, Issue};

/// A new id of the pool's region, for a pool or an identity.
pub(in crate::local) fn new_id(service: &PoolService) -> String {
    format!("{}:{}", service.settings.region, uuid::Uuid::new_v4())
}

/// What decides whether logins are good for a pool, `now` in seconds since the epoch.
pub(super) fn login_check<'p>(service: &'p PoolService, pool: &'p Pool, now: i64) -> LoginCheck<'p> {
    LoginCheck {
        issuers: &service.issuers,
        pool,
        now,
        grace: service.options.external_grace,
    }
}

/// One call of an operation.
pub(in crate::local) struct Call<'a> {
    pub(in crate::local) service: &'a PoolService,
    pub(in crate::local) record: &'a mut LocalRequest,
    input: Map<String, Value>,
    pub(super) now: SystemTime,
}

impl<'a> Call<'a> {
    pub(in crate::local) fn new(
        service: &'a PoolService,
        input: Map<String, Value>,
        now: SystemTime,
        record: &'a mut LocalRequest,
    ) -> Self {
        let text = |name: &str| input.get(name).and_then(Value::as_str).map(str::to_owned);
        record.identity_pool_id = text("IdentityPoolId");
        record.identity_id = text("IdentityId");
        if let Some(Value::Object(logins)) = input.get("Logins") {
            record.logins = logins.keys().cloned().collect();
        }
        Self {
            service,
            record,
            input,
            now,
        }
    }

    /// The members in the operation's own form.
    pub(super) fn input<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let input = std::mem::take(&mut self.input);
        // The shapes were checked, so nothing is left that could not be read.
        serde_json::from_value(Value::Object(input)).map_err(|_| Rule::NotJson.into())
    }

    /// Seconds since the epoch.
    pub(super) fn now(&self) -> f64 {
        epoch(self.now)
    }

    /// Whole seconds since the epoch.
    pub(super) fn seconds(&self) -> i64 {
        seconds(self.now)
    }

    /// What decides whether logins are good for a pool.
    pub(super) fn logins<'p>(&self, pool: &'p Pool) -> LoginCheck<'p>
    where
        'a: 'p,
    {
        login_check(self.service, pool, self.seconds())
    }

    pub(super) fn new_id(&self) -> String {
        new_id(self.service)
    }

    /// A signed OpenID token.
    pub(super) fn token(&self, issue: Issue) -> Result<String, Refusal> {
        let settings = &self.service.settings;
        let pool_arn = settings.pool_arn(&issue.pool_id);
        let claims = issue.claims(&settings.issuer_host, pool_arn, self.seconds());
        self.service
            .keys
            .sign(Algorithm::Rs512, &claims)
            .ok_or_else(|| Rule::Internal.refuse(&[&"the token could not be signed"]))
    }
}
