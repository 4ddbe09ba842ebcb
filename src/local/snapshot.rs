//! The pool's state as JSON: what is exported, imported and kept in a file.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::directory::{Identity, Life, Link};
use super::error::LocalPoolError;
use super::issuers::{AmrForm, LocalIssuer};
use super::pool_service::PoolService;
use super::pools::{Pool, PoolSettings, RoleMapping, State, TagMap};

/// The form of this version.
const VERSION: u32 = 1;

/// Everything that outlives a restart. It holds secrets: the keys of a local pool.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshot {
    version: u32,
    /// The pool that the builder described.
    pub(super) identity_pool_id: String,
    pub(super) access_key_id: String,
    pub(super) secret_access_key: String,
    /// What credentials are made with, in base64.
    pub(super) credentials_key: String,
    signing_keys: Vec<(String, Option<String>)>,
    pools: Vec<KeptPool>,
    providers: Vec<KeptProvider>,
    identities: Vec<KeptIdentity>,
}

#[derive(Serialize, Deserialize)]
struct KeptPool {
    settings: PoolSettings,
    roles: BTreeMap<String, String>,
    role_mappings: BTreeMap<String, RoleMapping>,
    tag_maps: BTreeMap<String, TagMap>,
}

/// A simulated provider.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptProvider {
    name: String,
    audience: String,
    form: AmrForm,
    opaque: bool,
}

/// An identity, as it is exported and as the admin path lists it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptIdentity {
    identity_id: String,
    identity_pool_id: String,
    state: Life,
    logins: Vec<Link>,
    /// Seconds since the epoch.
    created: f64,
    modified: f64,
}

impl KeptIdentity {
    pub(super) fn new(id: &str, identity: &Identity) -> Self {
        Self {
            identity_id: id.to_owned(),
            identity_pool_id: identity.pool.clone(),
            state: identity.life,
            logins: identity.links.iter().cloned().collect(),
            created: identity.created,
            modified: identity.modified,
        }
    }
}

impl Snapshot {
    /// Reads what [`PoolService::export`] wrote.
    pub(super) fn parse(text: &str) -> Result<Self, LocalPoolError> {
        let snapshot: Self = serde_json::from_str(text)
            .map_err(|error| LocalPoolError::Setting(format!("this is no state of a local pool: {error}")))?;
        if snapshot.version != VERSION {
            let known = format!("the state has the form {}, known is {VERSION}", snapshot.version);
            return Err(LocalPoolError::Setting(known));
        }
        snapshot.state()?;
        Ok(snapshot)
    }

    pub(super) fn signing_keys(&self) -> &[(String, Option<String>)] {
        &self.signing_keys
    }

    /// Pools and identities.
    pub(super) fn state(&self) -> Result<State, LocalPoolError> {
        let mut state = State::default();
        for pool in &self.pools {
            pool.settings.check()?;
            let pool = Pool {
                settings: pool.settings.clone(),
                roles: pool.roles.clone(),
                role_mappings: pool.role_mappings.clone(),
                tag_maps: pool.tag_maps.clone(),
            };
            state
                .add_pool(pool)
                .map_err(|refusal| LocalPoolError::Setting(refusal.message))?;
        }
        for kept in &self.identities {
            if state.pool(&kept.identity_pool_id).is_err() {
                let text = format!(
                    "the state has an identity of {}, and no such pool",
                    kept.identity_pool_id
                );
                return Err(LocalPoolError::Setting(text));
            }
            let links = kept.logins.iter().cloned().collect();
            state
                .directory
                .restore(
                    kept.identity_id.clone(),
                    &kept.identity_pool_id,
                    kept.state,
                    links,
                    (kept.created, kept.modified),
                )
                .map_err(|refusal| LocalPoolError::Setting(refusal.message))?;
        }
        Ok(state)
    }
}

impl PoolService {
    /// The state as JSON.
    pub(super) fn export(&self) -> String {
        let (pools, identities) = {
            let state = self.state();
            let pools = state.pools().map(|pool| KeptPool {
                settings: pool.settings.clone(),
                roles: pool.roles.clone(),
                role_mappings: pool.role_mappings.clone(),
                tag_maps: pool.tag_maps.clone(),
            });
            let identities = state.directory.all();
            let identities = identities.map(|(id, identity)| KeptIdentity::new(id, identity));
            (pools.collect(), identities.collect())
        };
        let simulated = self.issuers.all().into_iter().filter(LocalIssuer::is_simulated);
        let providers = simulated.map(|issuer| {
            let (audience, form, opaque) = issuer.describe();
            KeptProvider {
                name: issuer.provider_name().to_owned(),
                audience: audience.to_owned(),
                form: form.clone(),
                opaque,
            }
        });
        let snapshot = Snapshot {
            version: VERSION,
            identity_pool_id: self.settings.identity_pool_id.clone(),
            access_key_id: self.settings.developer_access_key.clone(),
            secret_access_key: self.settings.developer_secret.expose_secret().to_owned(),
            credentials_key: self.mint.export(),
            signing_keys: self.keys.export(),
            pools,
            providers: providers.collect(),
            identities,
        };
        // Text, numbers and maps with text keys: there is nothing in it that could not be written.
        serde_json::to_string_pretty(&snapshot).unwrap_or_default()
    }

    /// Takes over pools, identities, simulated providers and the keys that sign tokens. The keys of the backend and of
    /// credentials stay those of this process.
    pub(super) fn import(&self, snapshot: &Snapshot) -> Result<(), LocalPoolError> {
        let state = snapshot.state()?;
        self.keys.import(&snapshot.signing_keys).ok_or(LocalPoolError::Key)?;
        self.add_providers(snapshot)?;
        *self.initial.lock().unwrap_or_else(PoisonError::into_inner) = state.without_identities();
        *self.state() = state;
        self.changed();
        Ok(())
    }

    pub(super) fn add_providers(&self, snapshot: &Snapshot) -> Result<(), LocalPoolError> {
        for provider in &snapshot.providers {
            let issuer = LocalIssuer::new(
                provider.name.clone(),
                provider.audience.clone(),
                provider.form.clone(),
                provider.opaque,
                self.time.clone(),
            );
            self.issuers.add(issuer.ok_or(LocalPoolError::Key)?);
        }
        Ok(())
    }

    /// Forgets identities, requests, faults and moved clocks; pools and providers are again what they were when the
    /// pool started, or when a state was imported.
    pub(super) fn reset(&self) {
        let initial = self.initial.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *self.state() = initial;
        self.faults.clear();
        self.clock.reset();
        self.records.clear();
        self.throttle.switch(self.options.throttling);
        self.changed();
    }
}
