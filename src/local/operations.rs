//! The operations: what each is called, whether it is signed, what it takes, what it does.

mod developer;
mod identities;
mod pools;
pub(super) mod sign_in;

use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::clock::{epoch, seconds};
use super::logins::LoginCheck;
use super::model;
use super::pool_service::PoolService;
use super::pools::Pool;
use super::record::LocalRequest;
use super::rules::{Refusal, Rule};
use super::shapes::Member;
use super::tokens::{Algorithm, Issue};

/// One operation of the API.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Whether it takes a SigV4 signature; the others take none.
    pub(super) signed: bool,
    pub(super) members: &'static [Member],
    pub(super) run: fn(&mut Call<'_>) -> Result<Answer, Refusal>,
}

const fn signed(
    name: &'static str,
    members: &'static [Member],
    run: fn(&mut Call<'_>) -> Result<Answer, Refusal>,
) -> Operation {
    Operation {
        name,
        signed: true,
        members,
        run,
    }
}

const fn unsigned(
    name: &'static str,
    members: &'static [Member],
    run: fn(&mut Call<'_>) -> Result<Answer, Refusal>,
) -> Operation {
    Operation {
        name,
        signed: false,
        members,
        run,
    }
}

static OPERATIONS: &[Operation] = &[
    unsigned("GetId", model::GET_ID, sign_in::get_id),
    unsigned(
        "GetCredentialsForIdentity",
        model::GET_CREDENTIALS,
        sign_in::get_credentials,
    ),
    unsigned("GetOpenIdToken", model::GET_OPEN_ID_TOKEN, sign_in::get_open_id_token),
    unsigned("UnlinkIdentity", model::UNLINK, sign_in::unlink),
    signed(
        "GetOpenIdTokenForDeveloperIdentity",
        model::GET_DEVELOPER_TOKEN,
        developer::get_token,
    ),
    signed("LookupDeveloperIdentity", model::LOOKUP, developer::lookup),
    signed("MergeDeveloperIdentities", model::MERGE, developer::merge),
    signed("UnlinkDeveloperIdentity", model::UNLINK_DEVELOPER, developer::unlink),
    signed("DescribeIdentity", model::DESCRIBE_IDENTITY, identities::describe),
    signed("DeleteIdentities", model::DELETE_IDENTITIES, identities::delete),
    signed("ListIdentities", model::LIST_IDENTITIES, identities::list),
    signed("CreateIdentityPool", model::CREATE_POOL, pools::create),
    signed("DescribeIdentityPool", model::POOL, pools::describe),
    signed("UpdateIdentityPool", model::UPDATE_POOL, pools::update),
    signed("DeleteIdentityPool", model::POOL, pools::delete),
    signed("ListIdentityPools", model::LIST_POOLS, pools::list),
    signed("SetIdentityPoolRoles", model::SET_ROLES, pools::set_roles),
    signed("GetIdentityPoolRoles", model::POOL, pools::get_roles),
    signed("SetPrincipalTagAttributeMap", model::SET_TAG_MAP, pools::set_tag_map),
    signed("GetPrincipalTagAttributeMap", model::TAG_MAP, pools::get_tag_map),
    signed("TagResource", model::TAG_RESOURCE, pools::tag),
    signed("UntagResource", model::UNTAG_RESOURCE, pools::untag),
    signed("ListTagsForResource", model::RESOURCE, pools::list_tags),
];

pub(super) fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

/// Whether an operation can leave something behind that a restart has to know.
pub(super) fn may_change(name: &str) -> bool {
    let reads = ["Describe", "List", "Lookup", "GetIdentityPoolRoles", "GetPrincipalTag"];
    find(name).is_some() && !reads.iter().any(|prefix| name.starts_with(prefix))
}

/// A new id of the pool's region, for a pool or an identity.
pub(super) fn new_id(service: &PoolService) -> String {
    format!("{}:{}", service.settings.region, uuid::Uuid::new_v4())
}

/// What decides whether logins are good for a pool, `now` in seconds since the epoch.
fn login_check<'p>(service: &'p PoolService, pool: &'p Pool, now: i64) -> LoginCheck<'p> {
    LoginCheck {
        issuers: &service.issuers,
        pool,
        now,
        grace: service.options.external_grace,
    }
}

/// One call of an operation.
pub(super) struct Call<'a> {
    pub(super) service: &'a PoolService,
    pub(super) record: &'a mut LocalRequest,
    input: Map<String, Value>,
    now: SystemTime,
}

impl<'a> Call<'a> {
    pub(super) fn new(
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
    fn input<T: DeserializeOwned>(&mut self) -> Result<T, Refusal> {
        let input = std::mem::take(&mut self.input);
        // The shapes were checked, so nothing is left that could not be read.
        serde_json::from_value(Value::Object(input)).map_err(|_| Rule::NotJson.into())
    }

    /// Seconds since the epoch.
    fn now(&self) -> f64 {
        epoch(self.now)
    }

    /// Whole seconds since the epoch.
    fn seconds(&self) -> i64 {
        seconds(self.now)
    }

    /// What decides whether logins are good for a pool.
    fn logins<'p>(&self, pool: &'p Pool) -> LoginCheck<'p>
    where
        'a: 'p,
    {
        login_check(self.service, pool, self.seconds())
    }

    fn new_id(&self) -> String {
        new_id(self.service)
    }

    /// A signed OpenID token.
    fn token(&self, issue: Issue) -> Result<String, Refusal> {
        let settings = &self.service.settings;
        let pool_arn = settings.pool_arn(&issue.pool_id);
        let claims = issue.claims(&settings.issuer_host, pool_arn, self.seconds());
        self.service
            .keys
            .sign(Algorithm::Rs512, &claims)
            .ok_or_else(|| Rule::Internal.refuse(&[&"the token could not be signed"]))
    }
}
