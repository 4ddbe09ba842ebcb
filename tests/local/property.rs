//! The life cycle of identities against a reference model: random sequences of 20 operations and more, 1,500 of them, or as many
//! as the environment variable `PROPTEST_CASES` says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use aws_lc_rs::{digest, hmac};
use aws_smithy_async::time::TimeSource as _;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use cognito_identity_pool::{LocalIdentityPool, local::LocalClock};
use futures_util::FutureExt;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use crate::stage::sequences;

const SEQUENCES: u32 = 1_500;
const PROVIDER: &str = "login.app";
const PUBLIC: [&str; 2] = ["accounts.google.com", "login.example.org"];
const ISSUER: &str = "cognito-identity.amazonaws.com";

// The operations: users, subjects and providers by number, identities by their place in the order of creation.

type Login = (usize, usize);

#[derive(Clone, Debug)]
enum Op {
    GetId(BTreeMap<usize, usize>),
    Token {
        user: usize,
        identity: Option<usize>,
        extra: Option<Login>,
    },
    CredentialsAsGuest(usize),
    CredentialsByLogin(usize, Login),
    CredentialsByToken {
        identity: usize,
        token_of: usize,
    },
    Merge(usize, usize),
    UnlinkUser {
        identity: usize,
        user: usize,
    },
    UnlinkLogin {
        identity: usize,
        shown: Login,
        removed: usize,
    },
    Delete(usize),
    Lookup(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let user = || 0..4usize;
    let identity = || 0..8usize;
    let login = || (0..2usize, 0..3usize);
    prop_oneof![
        3 => Just(Op::GetId(BTreeMap::new())),
        2 => prop::collection::btree_map(0..2usize, 0..3usize, 1..=2).prop_map(Op::GetId),
        2 => (user(), prop::option::of(identity()), prop::option::weighted(0.3, login()))
            .prop_map(|(user, identity, extra)| Op::Token { user, identity, extra }),
        2 => identity().prop_map(Op::CredentialsAsGuest),
        4 => (identity(), login()).prop_map(|(identity, login)| Op::CredentialsByLogin(identity, login)),
        3 => (identity(), identity()).prop_map(|(identity, token_of)| Op::CredentialsByToken { identity, token_of }),
        2 => (user(), user()).prop_map(|(source, destination)| Op::Merge(source, destination)),
        2 => (identity(), user()).prop_map(|(identity, user)| Op::UnlinkUser { identity, user }),
        2 => (identity(), login(), 0..2usize)
            .prop_map(|(identity, shown, removed)| Op::UnlinkLogin { identity, shown, removed }),
        1 => identity().prop_map(Op::Delete),
        1 => user().prop_map(Op::Lookup),
    ]
}

// The model: who owns each login, and what became of each identity. What an identity has follows from that.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    Public(usize, usize),
    User(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Guest,
    Authenticated,
    Disabled,
    Inaccessible,
    Deleted,
}

#[derive(Default)]
struct Model {
    owners: BTreeMap<Link, usize>,
    states: Vec<State>,
    transitions: BTreeMap<(Option<State>, State), usize>,
}

/// An identity, nothing, or the type of an error.
type Expected = Result<Option<usize>, &'static str>;

const NOT_AUTHORIZED: &str = "NotAuthorizedException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const CONFLICT: &str = "ResourceConflictException";

impl Model {
    fn pass(&mut self, identity: usize, to: State) {
        let from = self.states[identity];
        if from != to {
            *self.transitions.entry((Some(from), to)).or_default() += 1;
            self.states[identity] = to;
        }
    }

    fn new_identity(&mut self) -> usize {
        *self.transitions.entry((None, State::Guest)).or_default() += 1;
        self.states.push(State::Guest);
        self.states.len() - 1
    }

    fn links(&self, identity: usize) -> BTreeSet<Link> {
        self.owners
            .iter()
            .filter(|(_, owner)| **owner == identity)
            .map(|(link, _)| *link)
            .collect()
    }

    fn usable(&self, identity: usize) -> Result<State, &'static str> {
        match self.states.get(identity) {
            None | Some(State::Deleted) => Err(NOT_FOUND),
            Some(State::Disabled | State::Inaccessible) => Err(NOT_AUTHORIZED),
            Some(state) => Ok(*state),
        }
    }

    fn join(
        &mut self,
        target: usize,
        links: &BTreeSet<Link>,
        mut sources: BTreeSet<usize>,
    ) -> Result<(), &'static str> {
        sources.extend(links.iter().filter_map(|link| self.owners.get(link)));
        sources.remove(&target);
        let mut all = links.clone();
        for identity in sources.iter().chain([&target]) {
            all.extend(self.links(*identity));
        }
        let providers = all.iter().filter_map(|link| match link {
            Link::Public(provider, _) => Some(*provider),
            Link::User(_) => None,
        });
        let providers: Vec<_> = providers.collect();
        if providers.len() > providers.iter().collect::<BTreeSet<_>>().len() {
            return Err(CONFLICT);
        }
        for source in sources {
            self.pass(source, State::Disabled);
        }
        if !all.is_empty() {
            self.pass(target, State::Authenticated);
        }
        self.owners.extend(all.into_iter().map(|link| (link, target)));
        Ok(())
    }

    fn unlink(&mut self, identity: usize, link: Link) -> Expected {
        if self.owners.get(&link) != Some(&identity) {
            return Err(CONFLICT);
        }
        self.owners.remove(&link);
        if self.links(identity).is_empty() {
            self.pass(identity, State::Inaccessible);
        }
        Ok(None)
    }

    fn apply(&mut self, op: &Op, has_token: impl Fn(usize) -> bool) -> Expected {
        match op {
            Op::GetId(logins) => {
                let links: BTreeSet<_> = logins
                    .iter()
                    .map(|(provider, sub)| Link::Public(*provider, *sub))
                    .collect();
                let owner = links.iter().find_map(|link| self.owners.get(link).copied());
                if owner.is_some() || links.is_empty() {
                    let id = owner.unwrap_or_else(|| self.new_identity());
                    return self.join(id, &links, BTreeSet::new()).map(|()| Some(id));
                }
                let id = self.new_identity();
                self.join(id, &links, BTreeSet::new()).map(|()| Some(id))
            }
            Op::Token { user, identity, extra } => {
                let mut links = BTreeSet::from([Link::User(*user)]);
                links.extend(extra.map(|(provider, sub)| Link::Public(provider, sub)));
                let owner = self.owners.get(&Link::User(*user)).copied();
                let id = match (*identity, owner) {
                    (Some(id), owner) => {
                        let state = self.usable(id)?;
                        if owner.is_some_and(|owner| owner != id) {
                            return Err("DeveloperUserAlreadyRegisteredException");
                        }
                        if owner.is_none() && state == State::Authenticated && self.links(id).is_disjoint(&links) {
                            return Err(NOT_AUTHORIZED);
                        }
                        id
                    }
                    (None, Some(owner)) => owner,
                    (None, None) => {
                        let owner = links.iter().find_map(|link| self.owners.get(link).copied());
                        owner.unwrap_or_else(|| self.new_identity())
                    }
                };
                self.join(id, &links, BTreeSet::new()).map(|()| Some(id))
            }
            Op::CredentialsAsGuest(id) => match self.usable(*id) {
                Ok(State::Guest) => Ok(Some(*id)),
                Err(NOT_FOUND) => Err(NOT_FOUND),
                _ => Err(NOT_AUTHORIZED),
            },
            Op::CredentialsByLogin(id, (provider, sub)) => {
                let link = Link::Public(*provider, *sub);
                match (self.usable(*id)?, self.owners.get(&link).copied()) {
                    (State::Guest, Some(owner)) => {
                        self.join(owner, &[link].into(), [*id].into())?;
                        Ok(Some(owner))
                    }
                    (State::Authenticated, owner) if owner != Some(*id) => Err(NOT_AUTHORIZED),
                    _ => self.join(*id, &[link].into(), BTreeSet::new()).map(|()| Some(*id)),
                }
            }
            Op::CredentialsByToken { identity, token_of } => {
                let usable = self.usable(*identity);
                match (has_token(*token_of), usable) {
                    (_, Err(NOT_FOUND)) => Err(NOT_FOUND),
                    (true, Ok(_)) if identity == token_of => Ok(Some(*identity)),
                    _ => Err(NOT_AUTHORIZED),
                }
            }
            Op::Merge(source, destination) => {
                let owner = |user: usize| self.owners.get(&Link::User(user)).copied().ok_or(NOT_FOUND);
                let (source, destination) = (owner(*source)?, owner(*destination)?);
                self.join(destination, &BTreeSet::new(), [source].into())
                    .map(|()| Some(destination))
            }
            Op::UnlinkUser { identity, user } => {
                if matches!(self.usable(*identity), Err(NOT_FOUND)) {
                    return Err(NOT_FOUND);
                }
                self.unlink(*identity, Link::User(*user))
            }
            Op::UnlinkLogin {
                identity,
                shown: (provider, sub),
                removed,
            } => {
                self.usable(*identity)?;
                let links = self.links(*identity);
                if !links.contains(&Link::Public(*provider, *sub)) {
                    return Err(NOT_AUTHORIZED);
                }
                let of = |link: &&Link| matches!(link, Link::Public(provider, _) if provider == removed);
                let link = *links.iter().find(of).ok_or(CONFLICT)?;
                self.unlink(*identity, link)
            }
            Op::Delete(id) => {
                if *id < self.states.len() {
                    self.pass(*id, State::Deleted);
                    self.owners.retain(|_, owner| owner != id);
                }
                Ok(None)
            }
            Op::Lookup(user) => self.owners.get(&Link::User(*user)).map(|id| Some(*id)).ok_or(NOT_FOUND),
        }
    }
}

// The pool, asked in process: no socket, no client.

struct Pool {
    pool: LocalIdentityPool,
    clock: LocalClock,
    /// A token of each login.
    logins: BTreeMap<Login, String>,
}

fn key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Pool {
    fn new() -> Self {
        let clock = LocalClock::at_present();
        let builder = LocalIdentityPool::builder().time_source(clock.clone());
        let pool = builder.start().now_or_never().unwrap().unwrap();
        let mut logins = BTreeMap::new();
        for (provider, host) in PUBLIC.into_iter().enumerate() {
            let issuer = pool.oidc_issuer(host).unwrap();
            logins.extend((0..3).map(|sub| ((provider, sub), issuer.token(&sub.to_string()))));
        }
        Self { pool, clock, logins }
    }

    fn call(&self, operation: &str, body: &Value, signed: bool) -> Result<Value, String> {
        let body = body.to_string();
        let mut request = http::Request::post("/")
            .header("host", "localhost")
            .header("x-amz-target", format!("AWSCognitoIdentityService.{operation}"));
        if signed {
            let date = DateTime::from(self.clock.now()).fmt(Format::DateTime).unwrap();
            // 2026-01-02T03:04:05.678Z without its fraction and separators.
            let date: String = date[..19]
                .chars()
                .filter(|char| !"-:".contains(*char))
                .chain(['Z'])
                .collect();
            request = request
                .header("x-amz-date", &date)
                .header("authorization", self.authorization(&date, &body));
        }
        let request = request.body(Bytes::from(body)).unwrap();
        let response = self.pool.respond(request).now_or_never().unwrap().unwrap();
        let output = if response.body().is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(response.body()).unwrap()
        };
        match response.status().as_u16() {
            200 => Ok(output),
            _ => Err(output["__type"].as_str().unwrap().to_owned()),
        }
    }

    fn authorization(&self, date: &str, body: &str) -> String {
        let credentials = self.pool.developer_credentials();
        let payload = hex(digest::digest(&digest::SHA256, body.as_bytes()).as_ref());
        let canonical = format!("POST\n/\n\nhost:localhost\nx-amz-date:{date}\n\nhost;x-amz-date\n{payload}");
        let scope = format!("{}/us-east-1/cognito-identity/aws4_request", &date[..8]);
        let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        let mut tag = hmac::sign(
            &key(format!("AWS4{}", credentials.secret_access_key()).as_bytes()),
            &date.as_bytes()[..8],
        );
        for part in ["us-east-1", "cognito-identity", "aws4_request"] {
            tag = hmac::sign(&key(tag.as_ref()), part.as_bytes());
        }
        let signature = hex(hmac::sign(&key(tag.as_ref()), to_sign.as_bytes()).as_ref());
        let key = credentials.access_key_id();
        format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}")
    }

    /// An identity pool of its own for each sequence.
    fn create(&self) -> String {
        let created = self.call(
            "CreateIdentityPool",
            &json!({
                "IdentityPoolName": "p",
                "AllowUnauthenticatedIdentities": true,
                "DeveloperProviderName": PROVIDER,
                "SupportedLoginProviders": { PUBLIC[0]: "local-app" },
                "OpenIdConnectProviderARNs": [format!("arn:aws:iam::123456789012:oidc-provider/{}", PUBLIC[1])],
            }),
            true,
        );
        let id = created.unwrap()["IdentityPoolId"].as_str().unwrap().to_owned();
        let role = "arn:aws:iam::123456789012:role/r";
        let roles = json!({ "IdentityPoolId": id, "Roles": { "authenticated": role, "unauthenticated": role } });
        self.call("SetIdentityPoolRoles", &roles, true).unwrap();
        id
    }
}

/// What the pool said, in the model's terms.
fn ask(
    pool: &Pool,
    pool_id: &str,
    ids: &[String],
    tokens: &mut BTreeMap<usize, String>,
    op: &Op,
) -> Result<Value, String> {
    let nobody = "us-east-1:00000000-0000-0000-0000-000000000000".to_owned();
    let id = |index: &usize| ids.get(*index).unwrap_or(&nobody);
    let user = |user: &usize| format!("user-{user}");
    let login = |login: &Login| json!({ PUBLIC[login.0]: pool.logins[login] });
    match op {
        Op::GetId(logins) => {
            let logins: serde_json::Map<String, Value> = logins
                .iter()
                .map(|(p, s)| (PUBLIC[*p].to_owned(), json!(pool.logins[&(*p, *s)])))
                .collect();
            pool.call("GetId", &json!({ "IdentityPoolId": pool_id, "Logins": logins }), false)
        }
        Op::Token {
            user: index,
            identity,
            extra,
        } => {
            let mut logins = extra.as_ref().map_or(json!({}), login);
            logins[PROVIDER] = json!(user(index));
            let input = json!({ "IdentityPoolId": pool_id, "IdentityId": identity.as_ref().map(id), "Logins": logins });
            pool.call("GetOpenIdTokenForDeveloperIdentity", &input, true)
        }
        Op::CredentialsAsGuest(index) => {
            pool.call("GetCredentialsForIdentity", &json!({ "IdentityId": id(index) }), false)
        }
        Op::CredentialsByLogin(index, shown) => pool.call(
            "GetCredentialsForIdentity",
            &json!({ "IdentityId": id(index), "Logins": login(shown) }),
            false,
        ),
        Op::CredentialsByToken { identity, token_of } => {
            let token = tokens.get(token_of).map_or("no token", String::as_str);
            let input = json!({ "IdentityId": id(identity), "Logins": { ISSUER: token } });
            pool.call("GetCredentialsForIdentity", &input, false)
        }
        Op::Merge(source, destination) => {
            let input = json!({
                "IdentityPoolId": pool_id,
                "DeveloperProviderName": PROVIDER,
                "SourceUserIdentifier": user(source),
                "DestinationUserIdentifier": user(destination),
            });
            pool.call("MergeDeveloperIdentities", &input, true)
        }
        Op::UnlinkUser { identity, user: index } => {
            let input = json!({
                "IdentityPoolId": pool_id,
                "IdentityId": id(identity),
                "DeveloperProviderName": PROVIDER,
                "DeveloperUserIdentifier": user(index),
            });
            pool.call("UnlinkDeveloperIdentity", &input, true)
        }
        Op::UnlinkLogin {
            identity,
            shown,
            removed,
        } => {
            let input =
                json!({ "IdentityId": id(identity), "Logins": login(shown), "LoginsToRemove": [PUBLIC[*removed]] });
            pool.call("UnlinkIdentity", &input, false)
        }
        Op::Delete(index) => pool
            .call("DeleteIdentities", &json!({ "IdentityIdsToDelete": [id(index)] }), true)
            .map(|_| Value::Null),
        Op::Lookup(index) => {
            let input = json!({ "IdentityPoolId": pool_id, "DeveloperUserIdentifier": user(index) });
            pool.call("LookupDeveloperIdentity", &input, true)
        }
    }
}

fn run(pool: &Pool, ops: &[Op]) -> Result<Model, TestCaseError> {
    let pool_id = pool.create();
    let mut model = Model::default();
    let mut ids: Vec<String> = Vec::new();
    let mut tokens = BTreeMap::new();
    for op in ops {
        let expected = model.apply(op, |identity| tokens.contains_key(&identity));
        let got = ask(pool, &pool_id, &ids, &mut tokens, op);
        let named = got.as_ref().ok().and_then(|output| output["IdentityId"].as_str());
        match (&expected, &got) {
            (Ok(Some(identity)), Ok(output)) => {
                let named = named.ok_or_else(|| TestCaseError::fail(format!("{op:?}: no identity in {output}")))?;
                if *identity == ids.len() {
                    ids.push(named.to_owned());
                }
                prop_assert_eq!(&ids[*identity], named, "{:?}", op);
                if let Some(token) = output["Token"].as_str() {
                    tokens.insert(*identity, token.to_owned());
                }
            }
            (Ok(None), Ok(_)) => prop_assert_eq!(named, None, "{:?}", op),
            (Err(expected), Err(got)) => prop_assert_eq!(expected, got, "{:?}", op),
            _ => {
                return Err(TestCaseError::fail(format!(
                    "{op:?}: expected {expected:?}, got {got:?}"
                )));
            }
        }
    }
    let listed = pool
        .call(
            "ListIdentities",
            &json!({ "IdentityPoolId": pool_id, "MaxResults": 60 }),
            true,
        )
        .unwrap();
    let mut listed = listed["Identities"].as_array().unwrap().iter();
    for (index, id) in ids
        .iter()
        .enumerate()
        .filter(|(index, _)| model.states[*index] != State::Deleted)
    {
        let mut providers: BTreeSet<&str> = BTreeSet::new();
        providers.extend(model.links(index).iter().map(|link| match link {
            Link::Public(provider, _) => PUBLIC[*provider],
            Link::User(_) => PROVIDER,
        }));
        if model.states[index] == State::Disabled {
            providers.insert("DISABLED");
        }
        let identity = listed
            .next()
            .ok_or_else(|| TestCaseError::fail(format!("{index} is not listed")))?;
        prop_assert_eq!(identity["IdentityId"].as_str(), Some(id.as_str()));
        let logins: BTreeSet<_> = identity["Logins"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        prop_assert_eq!(logins, providers, "{} is {:?}", index, model.states[index]);
    }
    prop_assert!(listed.next().is_none(), "deleted, and yet listed");
    pool.call("DeleteIdentityPool", &json!({ "IdentityPoolId": pool_id }), true)
        .unwrap();
    Ok(model)
}

#[test]
fn identities_live_as_the_model_says() {
    let transitions = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let transitions = &transitions;
            scope.spawn(move || {
                let pool = Pool::new();
                let lives = prop::collection::vec(op(), 20..28);
                let outcome = sequences(thread, 2, SEQUENCES).run(&lives, |ops| {
                    let model = run(&pool, &ops)?;
                    let mut all = transitions.lock().unwrap();
                    for (transition, count) in model.transitions {
                        *all.entry(transition).or_insert(0) += count;
                    }
                    Ok(())
                });
                if let Err(error) = outcome {
                    panic!("{error}");
                }
            });
        }
    });
    let transitions = transitions.into_inner().unwrap();
    for ((from, to), count) in &transitions {
        println!(
            "{count:>7}  {} -> {to:?}",
            from.map_or("new".to_owned(), |from| format!("{from:?}"))
        );
    }
    use State::{Authenticated, Deleted, Disabled, Guest, Inaccessible};
    let expected = [
        (None, Guest),
        (Some(Guest), Authenticated),
        (Some(Guest), Disabled),
        (Some(Guest), Deleted),
        (Some(Authenticated), Disabled),
        (Some(Authenticated), Inaccessible),
        (Some(Authenticated), Deleted),
        (Some(Disabled), Deleted),
        (Some(Inaccessible), Deleted),
    ];
    assert_eq!(
        transitions.keys().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from(expected)
    );
}

const OPERATIONS: [&str; 23] = [
    "GetId",
    "GetCredentialsForIdentity",
    "GetOpenIdToken",
    "UnlinkIdentity",
    "GetOpenIdTokenForDeveloperIdentity",
    "LookupDeveloperIdentity",
    "MergeDeveloperIdentities",
    "UnlinkDeveloperIdentity",
    "DescribeIdentity",
    "DeleteIdentities",
    "ListIdentities",
    "CreateIdentityPool",
    "DescribeIdentityPool",
    "UpdateIdentityPool",
    "DeleteIdentityPool",
    "ListIdentityPools",
    "SetIdentityPoolRoles",
    "GetIdentityPoolRoles",
    "SetPrincipalTagAttributeMap",
    "GetPrincipalTagAttributeMap",
    "TagResource",
    "UntagResource",
    "ListTagsForResource",
];

const MEMBERS: [&str; 30] = [
    "IdentityPoolId",
    "IdentityId",
    "Logins",
    "CustomRoleArn",
    "PrincipalTags",
    "TokenDuration",
    "DeveloperUserIdentifier",
    "MaxResults",
    "NextToken",
    "SourceUserIdentifier",
    "DestinationUserIdentifier",
    "DeveloperProviderName",
    "LoginsToRemove",
    "IdentityIdsToDelete",
    "HideDisabled",
    "IdentityPoolName",
    "AllowUnauthenticatedIdentities",
    "AllowClassicFlow",
    "SupportedLoginProviders",
    "OpenIdConnectProviderARNs",
    "CognitoIdentityProviders",
    "IdentityPoolTags",
    "Roles",
    "RoleMappings",
    "IdentityProviderName",
    "UseDefaults",
    "ResourceArn",
    "Tags",
    "TagKeys",
    "Rules",
];

/// JSON that looks like a request often enough to get far. `pool` and `token` stand for real ones.
fn json_value() -> impl Strategy<Value = Value> {
    let texts = [
        "pool",
        "token",
        PROVIDER,
        ISSUER,
        PUBLIC[0],
        "authenticated",
        "Token",
        "Rules",
        "arn:aws:iam::123456789012:role/r",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..70i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        let key = prop_oneof![
            prop::sample::select(MEMBERS.to_vec()),
            prop::sample::select(texts.to_vec())
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|members| {
                Value::Object(
                    members
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect(),
                )
            }),
        ]
    })
}

/// Whatever is sent, there is an answer in the service's form: no panic, no other status.
#[test]
fn odd_input_gets_an_answer_of_the_service() {
    let pool = Pool::new();
    let pool_id = pool.create();
    let token = pool.logins[&(0, 0)].clone();
    let request = (
        prop::sample::select(OPERATIONS.to_vec()),
        prop::sample::select(MEMBERS.to_vec()),
        json_value(),
        any::<bool>(),
    );
    let outcome = sequences(0, 1, 3_000).run(&request, |(operation, member, value, named)| {
        let mut input = json!({ "IdentityPoolId": pool_id, "MaxResults": 5, member: value });
        if named && value.is_object() {
            input = value;
        }
        let text = input
            .to_string()
            .replace("\"pool\"", &format!("\"{pool_id}\""))
            .replace("\"token\"", &format!("\"{token}\""));
        let input: Value = serde_json::from_str(&text).unwrap();
        // `call` itself checks that an answer is JSON, and a refusal has its type.
        drop(pool.call(operation, &input, true));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let answered: BTreeMap<u16, usize> = pool
        .pool
        .requests()
        .iter()
        .fold(BTreeMap::new(), |mut counts, request| {
            *counts.entry(request.status).or_default() += 1;
            counts
        });
    assert_eq!(answered.keys().copied().collect::<Vec<_>>(), [200, 400], "{answered:?}");
}

/// The same for what stands around the body: signatures, forms, tokens. None of it can be valid.
#[test]
fn odd_signatures_forms_and_tokens_are_refused() {
    let pool = Pool::new();
    let part = || "[A-Za-z0-9_.=/,; -]{0,40}";
    let header = prop_oneof![
        "[ -~]{0,80}",
        (part(), part(), "[0-9a-f]{0,66}").prop_map(|(credential, signed, signature)| {
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}")
        }),
        ("[0-9]{8}", part()).prop_map(|(date, token)| {
            format!("AWS4-HMAC-SHA256 Credential=AKIA/{date}/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date;{token}, Signature=00")
        }),
    ];
    let form = prop_oneof![
        "[ -~]{0,80}",
        "Action=(GetCallerIdentity|AssumeRoleWithWebIdentity)(&[A-Za-z]{1,20}=[ -~]{0,40}){0,4}"
    ];
    let request = (
        header,
        "[0-9TZ]{0,17}",
        "[ -~]{0,40}",
        form,
        prop::collection::vec(any::<u8>(), 0..60),
    );
    let outcome = sequences(0, 1, 3_000).run(&request, |(header, date, token, form, bytes)| {
        let request = |name: &'static str, value: &'static str| {
            let request = http::Request::post("/")
                .header("host", "localhost")
                .header("authorization", &header);
            request
                .header("x-amz-date", &date)
                .header("x-amz-security-token", &token)
                .header(name, value)
        };
        let jwt: Vec<String> = bytes
            .splitn(3, |byte| *byte == 0)
            .map(|part| base64_simd::URL_SAFE_NO_PAD.encode_to_string(part))
            .collect();
        let logins = json!({ "IdentityPoolId": pool.pool.identity_pool_id(), "Logins": { PUBLIC[0]: jwt.join(".") } });
        for request in [
            request("x-amz-target", "AWSCognitoIdentityService.ListIdentityPools")
                .body(Bytes::from_static(br#"{"MaxResults":1}"#)),
            request("content-type", "application/x-www-form-urlencoded").body(Bytes::from(form)),
            request("x-amz-target", "AWSCognitoIdentityService.GetId").body(Bytes::from(logins.to_string())),
            request("x-amz-target", "AWSCognitoIdentityService.GetId").body(Bytes::from(bytes)),
        ] {
            let response = pool.pool.respond(request.unwrap()).now_or_never().unwrap().unwrap();
            prop_assert!(matches!(response.status().as_u16(), 400 | 403), "{}", response.status());
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
