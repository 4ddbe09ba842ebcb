//! Why a rule applied, looked at once more after the refusal: what was sent beside what the pool has. The service itself
//! says less than this, so none of it is in the answer's message.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::directory::{Life, Link};
use super::logins::is_cognito_host;
use super::pool_service::PoolService;
use super::pools::Pool;
use super::record::LocalRequest;
use super::tokens::Jwt;

/// How many things of a kind are named.
const NAMED: usize = 5;

/// What can be said of a refusal by the rule `rule` of a request with this body. It holds no token.
pub(super) fn why(service: &PoolService, rule: &str, body: &[u8], record: &LocalRequest, now: i64) -> Option<String> {
    let input: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    Look {
        service,
        input: &input,
        record,
        now,
    }
    .at(rule)
}

struct Look<'a> {
    service: &'a PoolService,
    input: &'a Map<String, Value>,
    record: &'a LocalRequest,
    now: i64,
}

impl Look<'_> {
    fn at(&self, rule: &str) -> Option<String> {
        match rule {
            "PoolNotFound" => self.pool_not_found(),
            "IdentityNotFound" => self.identity_not_found(),
            "IdentityForbidden" => self.identity_forbidden(),
            "GuestsNotAllowed" => Some("no login was shown, and the pool does not allow guests".to_owned()),
            "LoginsDontMatch" => self.logins_do_not_match(),
            "PublicProviderOnly" => self.public_provider(),
            "UnsupportedProvider" => self.unsupported_provider(),
            "CognitoTokenPassed" => self.of_tokens(|key, jwt| {
                let cognitos = is_cognito_host(key) || jwt.is_some_and(Jwt::is_from_cognito);
                cognitos.then(|| format!("under {key} stands a token of Cognito's own"))
            }),
            "NotACognitoToken" => self.of_tokens(|key, jwt| match jwt {
                Some(jwt) if is_cognito_host(key) => Some(format!("the token under {key} was issued by {}", name(jwt.text("iss")))),
                None if is_cognito_host(key) => Some(format!("what stands under {key} is no JWT")),
                _ => None,
            }),
            "IssuerMismatch" => self.of_tokens(|key, jwt| {
                let issuer = jwt?.text("iss");
                let named = issuer.trim_start_matches("https://").trim_end_matches('/');
                (named != key).then(|| format!("the token under {key} was issued by {}", name(issuer)))
            }),
            "BadTokenSignature" | "StsNoKey" => self.bad_signature(),
            "TokenExpired" => self.expired(),
            "MissingClaim" => self.of_tokens(|key, jwt| {
                let claims: Vec<_> = jwt?.claims.keys().map(|claim| name(claim)).collect();
                (!claims.contains(&"aud".to_owned())).then(|| format!("the token under {key} has {}", some(&claims)))
            }),
            "UnsupportedDeveloperProvider" | "UnsupportedDeveloperProviderParameter" => self.developer_provider(),
            "DeveloperUserRegistered" => self.registered(),
            "PoolConfiguration" => self.roles(),
            "UnknownAccessKey" | "StsUnknownAccessKey" => self.record.access_key_id.as_ref().map(|key| {
                let own = &self.service.settings.developer_access_key;
                format!("it is signed with {}; the backend's key is {own}, and credentials of an identity need their session token", name(key))
            }),
            "AccessDenied" => self.record.identity_id.as_ref().filter(|_| self.record.access_key_id.is_some()).map(|id| {
                format!("it is signed with credentials of the identity {}", name(id))
            }),
            "SignatureTime" | "StsSignatureTime" => {
                let offset = self.service.faults.clock_offset();
                (offset != 0).then(|| format!("the service's clock was moved away from the clients' by {offset} s"))
            }
            _ => None,
        }
    }

    fn text(&self, member: &str) -> Option<&str> {
        self.input.get(member)?.as_str()
    }

    fn logins(&self) -> impl Iterator<Item = (&str, &str)> {
        let logins = self.input.get("Logins").and_then(Value::as_object);
        logins
            .into_iter()
            .flatten()
            .filter_map(|(key, token)| Some((key.as_str(), token.as_str()?)))
    }

    /// What the first login that has something to say says.
    fn of_tokens(&self, say: impl Fn(&str, Option<&Jwt<'_>>) -> Option<String>) -> Option<String> {
        self.logins()
            .find_map(|(key, token)| say(&name(key), Jwt::parse(token).as_ref()))
    }

    fn with_pool<T>(&self, say: impl FnOnce(&Pool) -> Option<T>) -> Option<T> {
        let state = self.service.state();
        let of_identity = || {
            state
                .directory
                .get(self.text("IdentityId")?)
                .ok()
                .map(|identity| identity.pool.clone())
        };
        let id = self.text("IdentityPoolId").map(str::to_owned).or_else(of_identity)?;
        say(state.pool(&id).ok()?)
    }

    fn pool_not_found(&self) -> Option<String> {
        let asked = self.record.identity_pool_id.as_deref().unwrap_or_default();
        let region = &self.service.settings.region;
        if let Some((other, _)) = asked.split_once(':')
            && other != region
        {
            return Some(format!("{} is a pool of another region than {region}", name(asked)));
        }
        let state = self.service.state();
        let known: Vec<_> = state
            .pools()
            .map(|pool| pool.settings.identity_pool_id.clone())
            .collect();
        Some(format!("the pools here are {}", some(&known)))
    }

    fn identity_not_found(&self) -> Option<String> {
        let count = self.service.state().directory.all().count();
        Some(format!(
            "it is none of the {count} identities that exist here; it may be one from before a restart or a reset"
        ))
    }

    fn identity_forbidden(&self) -> Option<String> {
        let state = self.service.state();
        let identity = state.directory.get(self.text("IdentityId")?).ok()?;
        Some(match identity.life {
            Life::Disabled => "the identity was merged into another one and is disabled, for good".to_owned(),
            Life::Inaccessible => "the identity has lost its last login and is inaccessible, for good".to_owned(),
            Life::Guest | Life::Authenticated => {
                let providers: Vec<_> = identity.providers().into_iter().map(str::to_owned).collect();
                format!("the identity has logins of {}, and none was shown", some(&providers))
            }
        })
    }

    fn logins_do_not_match(&self) -> Option<String> {
        let asked = self.text("IdentityId")?;
        let about_token = self.of_tokens(|_, jwt| {
            let jwt = jwt.filter(|jwt| jwt.is_from_cognito())?;
            let sub = jwt.text("sub");
            (sub != asked).then(|| {
                format!(
                    "the token was issued for the identity {}, and shown for {}",
                    name(sub),
                    name(asked)
                )
            })
        });
        about_token.or_else(|| {
            let state = self.service.state();
            let identity = state.directory.get(asked).ok()?;
            let linked: Vec<_> = identity.providers().into_iter().map(str::to_owned).collect();
            let shown: Vec<_> = self.logins().map(|(key, _)| name(key)).collect();
            Some(format!(
                "the identity has logins of {}; logins of {} were shown, and are not those",
                some(&linked),
                some(&shown)
            ))
        })
    }

    fn public_provider(&self) -> Option<String> {
        let developer = self.with_pool(|pool| pool.settings.developer_provider_name.clone());
        self.logins().find_map(|(key, _)| {
            if developer.as_deref() == Some(key) {
                return Some(format!(
                    "{key} is the pool's developer provider: its users have no login of that name here"
                ));
            }
            let public = self.with_pool(|pool| Some(super::logins::is_public(&self.service.issuers, pool, key)));
            (public == Some(false))
                .then(|| format!("{} is no public provider, and none that the pool knows", name(key)))
        })
    }

    fn unsupported_provider(&self) -> Option<String> {
        let accepted = self.with_pool(|pool| Some(providers(pool)))?;
        self.of_tokens(|key, jwt| match accepted.get(key) {
            None => {
                let known: Vec<_> = accepted.keys().cloned().collect();
                Some(format!("the pool has no provider {key}; it has {}", some(&known)))
            }
            Some(apps) => {
                let shown: Vec<_> = jwt?.audiences().into_iter().map(name).collect();
                Some(format!(
                    "the token under {key} is for {}; the pool accepts {}",
                    some(&shown),
                    some(apps)
                ))
            }
        })
    }

    fn bad_signature(&self) -> Option<String> {
        self.of_tokens(|key, _| {
            if is_cognito_host(key) {
                return Some("no key that this pool publishes made the signature: the token was changed, or is one of another pool, of AWS, or of before a restart".to_owned());
            }
            match self.service.issuers.get(key) {
                None => Some(format!("the pool has {key}, and knows none of its keys")),
                Some(issuer) if issuer.is_simulated() => {
                    Some(format!("{key} is simulated here: the tokens that this pool issues are good, those of the real provider are not"))
                }
                Some(_) => Some(format!("none of the keys of {key} made the signature with RS256, or the token was changed")),
            }
        })
    }

    fn expired(&self) -> Option<String> {
        let ahead = self.service.clock.ahead();
        let travelled = if ahead > 0 {
            format!("; the pool's clock was moved on by {ahead} s")
        } else {
            String::new()
        };
        self.of_tokens(|key, jwt| {
            let jwt = jwt?;
            let past = self.now.saturating_sub(jwt.exp());
            (past >= 0).then(|| format!("the token under {key} ended {past} s ago{travelled}"))
        })
    }

    fn developer_provider(&self) -> Option<String> {
        let known = self.with_pool(|pool| Some(pool.settings.developer_provider_name.clone()))?;
        let known = known.unwrap_or_else(|| "none".to_owned());
        let asked = self.text("DeveloperProviderName").map(name);
        let asked = asked.or_else(|| self.logins().map(|(key, _)| name(key)).find(|key| *key != known));
        Some(format!(
            "the pool's developer provider is {known}, asked was for {}",
            asked.unwrap_or_default()
        ))
    }

    fn registered(&self) -> Option<String> {
        let pool = self.text("IdentityPoolId")?;
        let state = self.service.state();
        self.logins().find_map(|(provider, user)| {
            let link = Link::Developer {
                provider: provider.to_owned(),
                user: user.to_owned(),
            };
            let owner = state.directory.owner(pool, &link)?;
            Some(format!("the user has the identity {owner} already"))
        })
    }

    fn roles(&self) -> Option<String> {
        self.with_pool(|pool| {
            let kind = if self.logins().next().is_some() {
                "authenticated"
            } else {
                "unauthenticated"
            };
            match pool.roles.get(kind) {
                None => Some(format!("the pool has no role for {kind} identities")),
                Some(arn) => Some(format!(
                    "the role {arn} does not trust this token, or the session tags do not fit"
                )),
            }
        })
    }
}

/// The providers that a pool accepts, each with its app ids.
fn providers(pool: &Pool) -> BTreeMap<String, Vec<String>> {
    let settings = &pool.settings;
    let mut accepted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (provider, apps) in settings.supported_login_providers.iter().flatten() {
        accepted.insert(provider.clone(), apps.split(';').map(str::to_owned).collect());
    }
    for pool in settings.cognito_identity_providers.iter().flatten() {
        let apps = accepted
            .entry(pool.provider_name.clone().unwrap_or_default())
            .or_default();
        apps.extend(pool.client_id.clone());
    }
    for arn in settings.open_id_connect_provider_arns.iter().flatten() {
        if let Some((_, host)) = arn.split_once(":oidc-provider/") {
            accepted.entry(host.to_owned()).or_default();
        }
    }
    accepted
}

/// What a client sent, no longer than anybody reads, and without what would break a line or a header.
fn name(text: &str) -> String {
    let plain = text.chars().map(|char| {
        if char.is_ascii_graphic() || char == ' ' {
            char
        } else {
            '?'
        }
    });
    plain.take(128).collect()
}

/// `a, b and 3 more`, or `none`.
fn some(names: &[String]) -> String {
    match names.len() {
        0 => "none".to_owned(),
        count if count <= NAMED => names.join(", "),
        count => format!("{} and {} more", names[..NAMED].join(", "), count - NAMED),
    }
}
