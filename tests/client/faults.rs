//! Every fault of the local pool, at every request of every row of the table of round trips: the typed error (or that it
//! recovers), what was asked of whom, and that the next legitimate action works and is the right user's. Then random faults.
//!
//! Nothing waits for real: tokio's clock is paused, and goes on when there is nothing else to do.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::script::Script;
use crate::stage::{PROVIDER, Stage, ours};
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_cognitoidentity::Client;
use aws_sdk_cognitoidentity::config::retry::RetryConfig;
use aws_sdk_cognitoidentity::config::timeout::TimeoutConfig;
use aws_sdk_cognitoidentity::error::ProvideErrorMetadata;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, Error, ErrorKind,
    IdentityId, Login, Logins, OpenIdToken, RefreshRequest, async_trait,
    client::CognitoCredentialsProviderBuilder,
    local::{LocalFault, LocalIssuer},
    logins::LoginsProvider,
    token::RefreshReason,
};

const VEND: &str = "GetOpenIdTokenForDeveloperIdentity";
const GET_ID: &str = "GetId";
const EXCHANGE: &str = "GetCredentialsForIdentity";
const HOUR: Duration = Duration::from_secs(3_600);

/// A user of a backend that asks the pool once for each call of its hook, or of a public provider.
struct User {
    name: String,
    client: Client,
    pool_id: String,
    issuer: LocalIssuer,
    token_seconds: AtomicI32,
    /// What is answered once in place of a good token.
    stale: Mutex<Option<DeveloperIdentity>>,
    stale_logins: Mutex<Option<Logins>>,
    /// The guests that were shown to the backend.
    offered: Mutex<HashSet<String>>,
}

impl User {
    fn new(stage: &Stage, issuer: &LocalIssuer, name: String) -> Arc<Self> {
        let config = stage.pool.backend_config().into_builder();
        Arc::new(Self {
            name,
            client: Client::new(&config.retry_config(RetryConfig::disabled()).build()),
            pool_id: stage.pool.identity_pool_id().to_owned(),
            issuer: issuer.clone(),
            token_seconds: AtomicI32::new(900),
            stale: Mutex::default(),
            stale_logins: Mutex::default(),
            offered: Mutex::default(),
        })
    }

    /// Somebody else of the same backend and provider.
    fn another(&self, name: String) -> Arc<Self> {
        Arc::new(Self {
            name,
            client: self.client.clone(),
            pool_id: self.pool_id.clone(),
            issuer: self.issuer.clone(),
            token_seconds: AtomicI32::new(900),
            stale: Mutex::default(),
            stale_logins: Mutex::default(),
            offered: Mutex::default(),
        })
    }

    fn developer(self: &Arc<Self>) -> Login {
        Login::developer(Arc::clone(self) as Arc<dyn DeveloperIdentityProvider>).subject(format!("own/{}", self.name))
    }

    fn external(self: &Arc<Self>) -> Login {
        Login::external(Arc::clone(self) as Arc<dyn LoginsProvider>).subject(format!("google/{}", self.name))
    }

    async fn vend(&self, guest: Option<&IdentityId>) -> Result<DeveloperIdentity, BackendError> {
        let request = self.client.get_open_id_token_for_developer_identity();
        let request = request.identity_pool_id(&self.pool_id).logins(PROVIDER, &self.name);
        let request = request.set_identity_id(guest.map(|id| id.as_str().to_owned()));
        let answer = request
            .token_duration(self.token_seconds.load(Ordering::SeqCst).into())
            .send()
            .await;
        let answer = match answer {
            // The guest cannot be this user's: it is left alone.
            Err(error) if guest.is_some() && CANNOT_LINK.contains(&error.code().unwrap_or_default()) => {
                return Box::pin(self.vend(None)).await;
            }
            answer => answer?,
        };
        let lacks = || BackendError::transient("Cognito's answer lacks something");
        let id = IdentityId::new(answer.identity_id.ok_or_else(lacks)?)?;
        Ok(DeveloperIdentity::new(
            id,
            OpenIdToken::new(answer.token.ok_or_else(lacks)?)?,
        ))
    }

    fn google(&self) -> Logins {
        crate::stage::google(&self.issuer, &self.name)
    }
}

const CANNOT_LINK: [&str; 4] = [
    "DeveloperUserAlreadyRegisteredException",
    "ResourceConflictException",
    "ResourceNotFoundException",
    "NotAuthorizedException",
];

#[async_trait]
impl DeveloperIdentityProvider for User {
    async fn refresh(&self, request: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let guest = request.guest_to_link();
        self.offered
            .lock()
            .unwrap()
            .extend(guest.map(|id| id.as_str().to_owned()));
        let stale = self.stale.lock().unwrap().take();
        match stale {
            Some(stale) => Ok(stale),
            None => self.vend(guest).await,
        }
    }
}

#[async_trait]
impl LoginsProvider for User {
    async fn logins(&self, _: RefreshReason) -> Result<Logins, BackendError> {
        let stale = self.stale_logins.lock().unwrap().take();
        Ok(stale.unwrap_or_else(|| self.google()))
    }
}

/// A row of the table of round trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    DeveloperCold,
    DeveloperTokenGood,
    DeveloperBothExpired,
    DeveloperTokenRejected,
    DeveloperGone,
    DeveloperId,
    GuestCold,
    GuestStored,
    GuestGone,
    GuestId,
    GuestToDeveloper,
    GuestToExternal,
    ExternalCold,
    ExternalStored,
    ExternalTokenRejected,
    ExternalGone,
    ExternalId,
}

const ALL_ROWS: [Row; 17] = [
    Row::DeveloperCold,
    Row::DeveloperTokenGood,
    Row::DeveloperBothExpired,
    Row::DeveloperTokenRejected,
    Row::DeveloperGone,
    Row::DeveloperId,
    Row::GuestCold,
    Row::GuestStored,
    Row::GuestGone,
    Row::GuestId,
    Row::GuestToDeveloper,
    Row::GuestToExternal,
    Row::ExternalCold,
    Row::ExternalStored,
    Row::ExternalTokenRejected,
    Row::ExternalGone,
    Row::ExternalId,
];

impl Row {
    /// What is asked of the pool, by the app and by the backend, if nothing goes wrong.
    fn requests(self) -> &'static [&'static str] {
        match self {
            Self::DeveloperCold | Self::DeveloperBothExpired | Self::GuestToDeveloper => &[VEND, EXCHANGE],
            Self::DeveloperTokenGood | Self::GuestStored | Self::GuestToExternal | Self::ExternalStored => &[EXCHANGE],
            Self::DeveloperTokenRejected | Self::DeveloperGone => &[EXCHANGE, VEND, EXCHANGE],
            Self::DeveloperId => &[VEND],
            Self::GuestCold | Self::ExternalCold => &[GET_ID, EXCHANGE],
            Self::GuestGone | Self::ExternalGone => &[EXCHANGE, GET_ID, EXCHANGE],
            Self::GuestId | Self::ExternalId => &[GET_ID],
            Self::ExternalTokenRejected => &[GET_ID, GET_ID, EXCHANGE],
        }
    }

    /// The request that the pool refuses without any fault.
    fn refused(self) -> Option<usize> {
        let refuses = matches!(
            self,
            Self::DeveloperTokenRejected
                | Self::DeveloperGone
                | Self::GuestGone
                | Self::ExternalTokenRejected
                | Self::ExternalGone
        );
        refuses.then_some(0)
    }

    fn is_developer(self) -> bool {
        self.requests().contains(&VEND) || self == Self::DeveloperTokenGood
    }

    fn is_guest(self) -> bool {
        matches!(
            self,
            Self::GuestCold | Self::GuestStored | Self::GuestGone | Self::GuestId
        )
    }

    fn asks_for_the_id(self) -> bool {
        matches!(self, Self::DeveloperId | Self::GuestId | Self::ExternalId)
    }
}

#[derive(Clone, Debug)]
enum Fault {
    Pool(LocalFault),
    /// The service's clock is off by so many seconds.
    Clock(i64),
}

fn refusal(error: &str) -> Fault {
    Fault::Pool(LocalFault::refuse(error).unwrap())
}

fn without(member: &str) -> Fault {
    Fault::Pool(LocalFault::WithoutMember(member.to_owned()))
}

const SLOW: Duration = Duration::from_secs(2);
/// Longer than an attempt may take.
const TOO_SLOW: Duration = Duration::from_secs(6);

fn all_faults() -> Vec<Fault> {
    let mut faults: Vec<_> = [
        LocalFault::Latency(SLOW),
        LocalFault::Latency(TOO_SLOW),
        LocalFault::Hang,
        LocalFault::ConnectionReset,
        LocalFault::HalfResponse,
        LocalFault::Status(403),
        LocalFault::Status(404),
        LocalFault::Status(429),
        LocalFault::Status(500),
        LocalFault::Status(503),
        LocalFault::MalformedBody,
        LocalFault::WrongContentType,
        LocalFault::ExpiredCredentials,
        LocalFault::OtherIdentity,
        LocalFault::RotateKeys { keep_old: true },
        LocalFault::RotateKeys { keep_old: false },
    ]
    .map(Fault::Pool)
    .into();
    faults.extend(REFUSALS.map(|(error, _)| refusal(error)));
    faults.extend(MEMBERS.map(|(_, member)| without(member)));
    faults.extend([Fault::Clock(120), Fault::Clock(-120)]);
    faults
}

/// By the service's own types, what each is to us.
const REFUSALS: [(&str, ErrorKind); 14] = [
    ("TooManyRequestsException", ErrorKind::Throttled),
    ("InternalErrorException", ErrorKind::Service),
    ("ExternalServiceException", ErrorKind::Service),
    ("ConcurrentModificationException", ErrorKind::Service),
    ("LimitExceededException", ErrorKind::Configuration),
    // "Access to Role … is forbidden."
    ("NotAuthorizedException", ErrorKind::NotAuthorized),
    // "IdentityPool … not found."
    ("ResourceNotFoundException", ErrorKind::Configuration),
    ("ResourceConflictException", ErrorKind::Conflict),
    ("InvalidParameterException", ErrorKind::Configuration),
    ("ValidationException", ErrorKind::Configuration),
    ("InvalidIdentityPoolConfigurationException", ErrorKind::Configuration),
    ("AccessDeniedException", ErrorKind::NotAuthorized),
    ("UnknownOperationException", ErrorKind::Configuration),
    ("SerializationException", ErrorKind::Configuration),
];

/// The operations whose answer has a member.
const MEMBERS: [(&[&str], &str); 7] = [
    (&[VEND, GET_ID, EXCHANGE], "IdentityId"),
    (&[VEND], "Token"),
    (&[EXCHANGE], "Credentials"),
    (&[EXCHANGE], "AccessKeyId"),
    (&[EXCHANGE], "SecretKey"),
    (&[EXCHANGE], "SessionToken"),
    (&[EXCHANGE], "Expiration"),
];

/// What one request's fault does.
enum Effect {
    None,
    Fails(ErrorKind),
    /// The token that is shown is refused as not verifiable.
    TokenRefused,
    /// It answers with an identity that does not exist.
    OtherIdentity,
}

fn effect(operation: &str, fault: &Fault, answers: bool) -> Effect {
    let Fault::Pool(fault) = fault else { return Effect::None };
    let backend = operation == VEND;
    // Whatever the backend meets is the backend's failure.
    let fails = |kind| Effect::Fails(if backend { ErrorKind::Backend } else { kind });
    match fault {
        LocalFault::Latency(TOO_SLOW) if !backend => Effect::Fails(ErrorKind::Timeout),
        LocalFault::Hang => Effect::Fails(ErrorKind::Timeout),
        LocalFault::ConnectionReset | LocalFault::HalfResponse => fails(ErrorKind::Transport),
        // Not the service: a proxy, most likely.
        LocalFault::Status(403 | 404) => fails(ErrorKind::InvalidResponse),
        LocalFault::Status(429) => fails(ErrorKind::Throttled),
        LocalFault::Status(_) => fails(ErrorKind::Service),
        LocalFault::Refuse(error) => fails(REFUSALS.iter().find(|(name, _)| **name == **error).unwrap().1),
        LocalFault::MalformedBody => fails(ErrorKind::InvalidResponse),
        LocalFault::ExpiredCredentials if operation == EXCHANGE && answers => fails(ErrorKind::InvalidResponse),
        // The token says whose it is.
        LocalFault::OtherIdentity if backend => Effect::Fails(ErrorKind::InvalidResponse),
        LocalFault::OtherIdentity if answers => Effect::OtherIdentity,
        LocalFault::WithoutMember(lacks) => {
            let has = |(operations, member): &(&[&str], &str)| member == lacks && operations.contains(&operation);
            if answers && MEMBERS.iter().any(has) {
                fails(ErrorKind::InvalidResponse)
            } else {
                Effect::None
            }
        }
        LocalFault::RotateKeys { keep_old: false } if operation == EXCHANGE => Effect::TokenRefused,
        _ => Effect::None,
    }
}

/// What comes of a fault at the row's request number `at`: what is asked of whom in all, and how it ends.
fn expected(row: Row, at: usize, fault: &Fault) -> (Vec<&'static str>, Result<(), ErrorKind>) {
    let requests = row.requests();
    let operation = requests[at];
    let and_then = |more: &[&'static str]| [requests, more].concat();
    let refused = row.refused() == Some(at);
    // The service itself asks for a new token, or identity, once in an exchange.
    let mended_before = row.refused().is_some();
    match effect(operation, fault, !refused) {
        Effect::Fails(ErrorKind::Backend) if row == Row::GuestToDeveloper && cannot_link(fault) => {
            ([&[VEND], requests].concat(), Ok(()))
        }
        // What came from a store may be corrupt.
        Effect::Fails(ErrorKind::Configuration) if row == Row::ExternalStored && names_a_parameter(fault) => {
            (and_then(&[GET_ID, EXCHANGE]), Ok(()))
        }
        // The pool does not count a request that the client gives up before it is looked at.
        Effect::Fails(kind) if matches!(fault, Fault::Pool(LocalFault::Latency(_))) => {
            (requests[..at].to_vec(), Err(kind))
        }
        Effect::Fails(kind) => (requests[..=at].to_vec(), Err(kind)),
        Effect::TokenRefused if !row.is_developer() || refused => (requests.to_vec(), Ok(())),
        Effect::TokenRefused if mended_before => (requests.to_vec(), Err(ErrorKind::NotAuthorized)),
        Effect::TokenRefused => (and_then(&[VEND, EXCHANGE]), Ok(())),
        Effect::OtherIdentity if operation == EXCHANGE && (row.is_developer() || row == Row::GuestToDeveloper) => {
            (requests.to_vec(), Err(ErrorKind::IdentityChanged))
        }
        Effect::OtherIdentity if operation == GET_ID && !row.asks_for_the_id() => match row {
            Row::GuestGone | Row::ExternalGone => (requests.to_vec(), Err(ErrorKind::IdentityNotFound)),
            _ => (and_then(&[GET_ID, EXCHANGE]), Ok(())),
        },
        Effect::None | Effect::OtherIdentity => (requests.to_vec(), Ok(())),
    }
}

fn cannot_link(fault: &Fault) -> bool {
    matches!(fault, Fault::Pool(LocalFault::Refuse(error)) if CANNOT_LINK.contains(&&**error))
}

fn names_a_parameter(fault: &Fault) -> bool {
    let about_parameters = ["InvalidParameterException", "ValidationException"];
    matches!(fault, Fault::Pool(LocalFault::Refuse(error)) if about_parameters.contains(&&**error))
}

/// One pair of row and fault: a device and its user.
struct Case<'a> {
    stage: &'a Stage,
    row: Row,
    provider: CognitoCredentialsProvider,
    user: Arc<User>,
    /// The guest that was there before.
    guest: Option<IdentityId>,
}

impl<'a> Case<'a> {
    /// Brings the device to where the row begins.
    async fn at_the_start_of(
        row: Row,
        stage: &'a Stage,
        user: Arc<User>,
        builder: CognitoCredentialsProviderBuilder,
    ) -> Self {
        let provider = builder.build().unwrap();
        let sign_in = async |login: Login| provider.switch_to(login).ready().await.unwrap().identity_id;
        let mut guest = None;
        match row {
            Row::DeveloperCold | Row::DeveloperId => drop(provider.switch_to(user.developer())),
            Row::DeveloperTokenGood | Row::DeveloperGone => {
                user.token_seconds.store(86_400, Ordering::SeqCst);
                let id = sign_in(user.developer()).await;
                if row == Row::DeveloperGone {
                    stage.delete(&id).await;
                }
                stage.clock.advance(HOUR);
            }
            Row::DeveloperBothExpired => {
                sign_in(user.developer()).await;
                stage.clock.advance(HOUR);
            }
            Row::DeveloperTokenRejected => {
                user.token_seconds.store(1, Ordering::SeqCst);
                *user.stale.lock().unwrap() = Some(user.vend(None).await.unwrap());
                user.token_seconds.store(900, Ordering::SeqCst);
                stage.clock.advance(Duration::from_secs(600));
                provider.switch_to(user.developer());
            }
            Row::GuestCold | Row::GuestId => drop(provider.switch_to(Login::guest())),
            Row::GuestStored | Row::GuestGone | Row::GuestToDeveloper | Row::GuestToExternal => {
                let id = sign_in(Login::guest()).await;
                if row == Row::GuestGone {
                    stage.delete(&id).await;
                }
                provider.sign_out();
                provider.switch_to(match row {
                    Row::GuestToDeveloper => user.developer(),
                    Row::GuestToExternal => user.external(),
                    _ => Login::guest(),
                });
                guest = Some(id);
            }
            Row::ExternalCold | Row::ExternalId => drop(provider.switch_to(user.external())),
            Row::ExternalStored => {
                sign_in(user.external()).await;
                provider.sign_out();
                provider.switch_to(user.external());
            }
            Row::ExternalTokenRejected => {
                let stale = user
                    .issuer
                    .token_for(&user.name)
                    .lifetime(Duration::from_secs(1))
                    .issue();
                *user.stale_logins.lock().unwrap() = Some(Logins::new().google(stale).unwrap());
                stage.clock.advance(Duration::from_secs(600));
                provider.switch_to(user.external());
            }
            Row::ExternalGone => {
                let id = sign_in(user.external()).await;
                stage.delete(&id).await;
                stage.clock.advance(HOUR);
            }
        }
        stage.pool.clear_requests();
        Self {
            stage,
            row,
            provider,
            user,
            guest,
        }
    }

    fn plan(&self, at: usize, fault: &Fault) {
        let faults = self.stage.pool.faults();
        match fault {
            Fault::Clock(offset) => faults.set_clock_offset(*offset),
            Fault::Pool(fault) => {
                let operation = self.row.requests()[at];
                let earlier = self.row.requests()[..at].iter().filter(|one| **one == operation);
                faults.next_n_of(operation, earlier.count(), LocalFault::Latency(Duration::ZERO));
                faults.next_of(operation, fault.clone());
            }
        }
    }

    /// The access key of what is served; none where the id alone is asked for.
    async fn act(&self) -> Result<Option<String>, Error> {
        if self.row.asks_for_the_id() {
            return self.provider.identity_id().await.map(|_| None);
        }
        let credentials = self.provider.provide_credentials().await;
        credentials
            .map(|credentials| Some(credentials.access_key_id().to_owned()))
            .map_err(|error| ours(&error))
    }

    fn asked(&self) -> Vec<String> {
        let requests = self.stage.pool.requests();
        requests.into_iter().map(|request| request.operation).collect()
    }

    /// The credentials were given to the identity that the user has at the pool.
    async fn is_right(&self, key: &str) -> IdentityId {
        let signer = IdentityId::new(self.stage.pool.identity_of(key).unwrap()).unwrap();
        let issued = self.stage.pool.requests().into_iter();
        let logins = issued
            .filter(|request| request.issued_access_key_id.as_deref() == Some(key))
            .map(|request| request.logins)
            .next()
            .unwrap();
        if self.row.is_guest() {
            assert_eq!(logins, Vec::<String>::new());
            return signer;
        }
        let users = if self.row.is_developer() {
            assert_eq!(logins, [self.stage.pool.issuer_host()]);
            self.user.vend(None).await.unwrap().identity_id().clone()
        } else {
            assert_eq!(logins, [Logins::GOOGLE]);
            let request = self
                .user
                .client
                .get_id()
                .identity_pool_id(self.stage.pool.identity_pool_id());
            let token = self.user.issuer.token(&self.user.name);
            let answer = request.logins(Logins::GOOGLE, token).send().await.unwrap();
            IdentityId::new(answer.identity_id.unwrap()).unwrap()
        };
        assert_eq!(signer, users);
        signer
    }

    async fn works(&self, when: &str) -> Result<String, String> {
        match self.provider.provide_credentials().await {
            Ok(credentials) => Ok(credentials.access_key_id().to_owned()),
            Err(error) => Err(format!("{when} {:?}", ours(&error))),
        }
    }

    /// The same session works once the trouble is over, and goes on to; then another user signs in.
    async fn goes_on(&self, other_guest: bool) -> Result<(), String> {
        self.stage.pool.faults().clear();
        self.stage.clock.advance(Duration::from_secs(10));
        self.is_right(&self.works("after 10 s").await?).await;
        self.stage.clock.advance(HOUR);
        let signer = self.is_right(&self.works("after an hour").await?).await;
        assert_eq!(self.provider.identity_id().await.unwrap(), signer);
        if let Some(guest) = self.guest.as_ref().filter(|_| !other_guest) {
            assert_eq!(*guest, signer, "the guest was lost");
        }
        let bob = self.user.another(format!("{}-other", self.user.name));
        self.provider.switch_to(bob.developer());
        let key = self.works("as another user").await?;
        let bobs = bob.vend(None).await.unwrap();
        assert_eq!(
            self.stage.pool.identity_of(&key).as_deref(),
            Some(bobs.identity_id().as_str())
        );
        Ok(())
    }
}

async fn every_fault_of(row: Row) {
    let stage = Stage::start().await;
    let nobody = User::new(&stage, &stage.google(), String::new());
    let mut wrong = Vec::new();
    for at in 0..row.requests().len() {
        for (number, fault) in all_faults().iter().enumerate() {
            // A key takes long to make, and only an exchange looks at tokens of the pool's own.
            let rotates = matches!(fault, Fault::Pool(LocalFault::RotateKeys { .. }));
            if rotates && row.requests()[at] != EXCHANGE && !row.asks_for_the_id() {
                continue;
            }
            let builder = stage.builder().retry_config(RetryConfig::disabled());
            let case = Case::at_the_start_of(row, &stage, nobody.another(format!("{at}-{number}")), builder).await;
            let what = format!("{row:?}, request {at} ({}), {fault:?}", row.requests()[at]);
            case.plan(at, fault);
            let result = case.act().await;
            let asked = case.asked();
            assert_eq!(stage.pool.faults().pending(), 0, "{what}: nobody met the fault");
            let (requests, outcome) = expected(row, at, fault);
            let how = result.as_ref().map(drop).map_err(Error::kind);
            if how != outcome || asked != requests {
                wrong.push(format!(
                    "{what}: {how:?} by {asked:?}, expected {outcome:?} by {requests:?}"
                ));
            }
            if let Ok(Some(key)) = result {
                case.is_right(&key).await;
            }
            let others = matches!(fault, Fault::Pool(LocalFault::OtherIdentity))
                || row == Row::GuestGone
                || (row == Row::GuestToDeveloper && at == 0 && cannot_link(fault));
            let next = case.goes_on(others).await;
            wrong.extend(next.err().map(|error| format!("{what}: {error}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! rows {
    ($($name:ident: $row:ident,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            every_fault_of(Row::$row).await;
        }
    )*};
}

rows! {
    developer_cold: DeveloperCold,
    developer_with_expired_credentials_and_a_good_token: DeveloperTokenGood,
    developer_with_both_expired: DeveloperBothExpired,
    developer_whose_token_is_rejected: DeveloperTokenRejected,
    developer_whose_identity_is_gone: DeveloperGone,
    developer_identity_id_alone: DeveloperId,
    guest_cold: GuestCold,
    guest_with_a_stored_id: GuestStored,
    guest_whose_identity_is_gone: GuestGone,
    guest_identity_id_alone: GuestId,
    guest_to_developer: GuestToDeveloper,
    guest_to_external: GuestToExternal,
    external_cold: ExternalCold,
    external_with_a_stored_id: ExternalStored,
    external_whose_token_is_rejected: ExternalTokenRejected,
    external_whose_identity_is_gone: ExternalGone,
    external_identity_id_alone: ExternalId,
}

/// What passes by itself, and what the SDK therefore tries again.
fn passing() -> Vec<Fault> {
    let mut faults: Vec<_> = [
        LocalFault::Hang,
        LocalFault::ConnectionReset,
        LocalFault::HalfResponse,
        LocalFault::Status(500),
        LocalFault::Status(503),
    ]
    .map(Fault::Pool)
    .into();
    faults.extend(REFUSALS[..4].iter().map(|(error, _)| refusal(error)));
    faults
}

/// With the retries that a provider has by default.
#[tokio::test(start_paused = true)]
async fn what_passes_costs_one_request_more_and_nobody_notices() {
    let stage = Stage::start().await;
    let nobody = User::new(&stage, &stage.google(), String::new());
    for row in ALL_ROWS {
        let requests = row.requests();
        // The backend's retries are its own.
        for at in (0..requests.len()).filter(|at| requests[*at] != VEND) {
            for (number, fault) in passing().iter().enumerate() {
                let name = format!("{row:?}-{at}-{number}");
                let case = Case::at_the_start_of(row, &stage, nobody.another(name), stage.builder()).await;
                case.plan(at, fault);
                let key = case
                    .act()
                    .await
                    .unwrap_or_else(|error| panic!("{row:?}, {at}, {fault:?}: {error:?}"));
                let expected = [&requests[..=at], &requests[at..]].concat();
                assert_eq!(case.asked(), expected, "{row:?}, request {at}, {fault:?}");
                if let Some(key) = key {
                    case.is_right(&key).await;
                }
            }
        }
    }
}

/// Whose login is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Guest,
    Developer(usize),
    External(usize),
}

/// A device in a storm of faults.
struct Device {
    stage: Arc<Stage>,
    script: Script,
    provider: CognitoCredentialsProvider,
    sts: aws_sdk_sts::Client,
    users: [Arc<User>; 2],
    who: Who,
    signed: usize,
    failed: usize,
}

impl Device {
    fn new(stage: &Arc<Stage>, issuer: &LocalIssuer, seed: u64) -> Self {
        let script = Script::new(stage);
        let provider = script
            .builder(stage)
            .retry_config(RetryConfig::disabled())
            .build()
            .unwrap();
        let base = stage.pool.client_config().into_builder();
        // Longer than credentials may take: what ends is the operation itself.
        let patience = TimeoutConfig::builder()
            .operation_timeout(Duration::from_secs(60))
            .build();
        let base = base
            .retry_config(RetryConfig::disabled())
            .timeout_config(patience)
            .build();
        Self {
            sts: crate::stage::sts(&provider.sdk_config(&base)),
            users: ["alice", "bob"].map(|name| User::new(stage, issuer, format!("{name}-{seed}"))),
            stage: Arc::clone(stage),
            script,
            provider,
            who: Who::Nobody,
            signed: 0,
            failed: 0,
        }
    }

    fn switch(&mut self, who: Who) {
        self.who = who;
        self.provider.switch_to(match who {
            Who::Nobody => Login::signed_out(),
            Who::Guest => Login::guest(),
            Who::Developer(user) => self.users[user].developer(),
            Who::External(user) => self.users[user].external(),
        });
    }

    fn fails(&mut self, error: &Error) {
        self.failed += 1;
        assert_eq!(
            error.kind() == ErrorKind::SignedOut,
            self.who == Who::Nobody,
            "{error:?}"
        );
        assert_ne!(error.kind(), ErrorKind::SessionEnded, "{error:?}");
    }

    /// Whom Cognito was shown when it gave these credentials out.
    fn is_in_force(&mut self, key: &str) {
        self.signed += 1;
        let request = self.script.exchange_of(key, |exchange| exchange.request.clone());
        let shown = request["Logins"].as_object().and_then(|logins| logins.iter().next());
        let Some((provider, token)) = shown else {
            assert_eq!(self.who, Who::Guest);
            return;
        };
        let claims = token.as_str().unwrap().split('.').nth(1).unwrap();
        let claims = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let named = |text: &str| self.users.iter().position(|user| text.ends_with(&*user.name)).unwrap();
        let proven = if provider == Logins::GOOGLE {
            Who::External(named(claims["sub"].as_str().unwrap()))
        } else {
            let mut amr = claims["amr"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|entry| entry.as_str());
            Who::Developer(named(amr.next_back().unwrap()))
        };
        assert_eq!(proven, self.who, "signed by the login in force");
    }

    async fn act(&mut self, action: u32) {
        match action {
            0 => self.switch(Who::Developer(0)),
            1 => self.switch(Who::Developer(1)),
            2 => self.switch(Who::External(0)),
            3 => self.switch(Who::External(1)),
            4 | 5 => self.switch(Who::Guest),
            6 => self.switch(Who::Nobody),
            7 | 8 => self.stage.clock.advance(HOUR),
            // Within the last minute callers wait.
            9 => self.stage.clock.advance(HOUR - Duration::from_secs(40)),
            10 => self.stage.clock.advance(Duration::from_secs(10)),
            11 => {
                if let Err(error) = self.provider.refresh_now().await {
                    self.fails(&error);
                }
            }
            12 => {
                if let Err(error) = self.provider.identity_id().await {
                    self.fails(&error);
                }
            }
            13..=15 => match self.provider.provide_credentials().await {
                Ok(credentials) => self.is_in_force(credentials.access_key_id()),
                Err(error) => self.fails(&ours(&error)),
            },
            _ => {
                let before = self.stage.calls("GetCallerIdentity");
                let result = self.sts.get_caller_identity().send().await;
                let signed = self.stage.pool.requests_of("GetCallerIdentity").into_iter().nth(before);
                match (signed.map(|request| request.access_key_id), result) {
                    // A fault may keep the service from looking who it was.
                    (Some(key), _) => key.into_iter().for_each(|key| self.is_in_force(&key)),
                    (None, Err(error)) => self.fails(&ours(&error)),
                    (None, Ok(_)) => panic!("nobody signed"),
                }
            }
        }
    }

    /// No guest was made while another one was there that was neither offered to a user nor refused as gone.
    fn no_guest_is_lost(&self) {
        let id = |value: &serde_json::Value| value["IdentityId"].as_str().map(str::to_owned);
        let shows_logins =
            |request: &serde_json::Value| request["Logins"].as_object().is_some_and(|logins| !logins.is_empty());
        let mut gone = HashSet::new();
        for user in &self.users {
            gone.extend(user.offered.lock().unwrap().clone());
        }
        let shown = self
            .script
            .seen()
            .into_iter()
            .filter(|(_, request)| shows_logins(request));
        gone.extend(shown.filter_map(|(_, request)| id(&request)));
        let mut minted = Vec::new();
        self.script.answered(|answered| {
            for one in answered.iter().filter(|one| !shows_logins(&one.request)) {
                if one.operation == GET_ID {
                    minted.extend(id(&one.answer));
                } else {
                    let said = one.answer["message"].as_str().unwrap_or_default();
                    // The service says that it is another one now, or none.
                    let another = id(&one.answer).is_some() && id(&one.answer) != id(&one.request);
                    let refused =
                        said.contains("Identity '") && (said.contains("not found") || said.contains("forbidden"));
                    gone.extend(id(&one.request).filter(|_| another || refused));
                }
            }
        });
        for guest in minted.iter().rev().skip(1) {
            assert!(gone.contains(guest), "minted although {guest} was there: {minted:?}");
        }
    }

    async fn works(&mut self) {
        let credentials = self.provider.provide_credentials().await;
        let credentials = credentials.unwrap_or_else(|error| panic!("{:?}: {:?}", self.who, ours(&error)));
        self.is_in_force(credentials.access_key_id());
    }
}

const SEEDS: u64 = 200;

#[tokio::test(start_paused = true)]
async fn two_hundred_storms() {
    let stage = Arc::new(Stage::start().await);
    let issuer = stage.google();
    let (mut signed, mut failed) = (0, 0);
    for seed in 0..SEEDS {
        // The jitter of refresh windows and pauses, too.
        fastrand::seed(seed);
        stage.pool.clear_requests();
        let mut device = Device::new(&stage, &issuer, seed);
        let faults = all_faults().into_iter().filter_map(|fault| match fault {
            // A key takes long to make.
            Fault::Pool(LocalFault::RotateKeys { .. }) if seed % 20 != 0 => None,
            Fault::Pool(fault) => Some(fault),
            Fault::Clock(_) => None,
        });
        stage.pool.faults().seeded(seed, 3, faults);
        let mut numbers = fastrand::Rng::with_seed(seed);
        let actions: Vec<_> = (0..25).map(|_| numbers.u32(..19)).collect();
        println!("seed {seed}: {actions:?}");
        for action in actions {
            device.act(action).await;
        }
        stage.pool.faults().clear();
        stage.clock.advance(Duration::from_secs(10));
        if device.who != Who::Nobody {
            device.works().await;
        }
        for who in [Who::Guest, Who::Developer(0), Who::External(1)] {
            device.switch(who);
            device.works().await;
        }
        device.no_guest_is_lost();
        signed += device.signed;
        failed += device.failed;
    }
    println!("{signed} signed, {failed} failed");
    assert!(signed > 1_000 && failed > 500, "{signed} signed, {failed} failed");
}
