//! Who signs what clients send that nobody here wrote: S3, plain and for a directory bucket, opendal, and object_store.
#![allow(clippy::unwrap_used, reason = "a test's failure is a panic")]

#[path = "../../../client/any_service.rs"]
mod any_service;

use std::sync::Arc;
use std::time::Duration;

use any_service::{AnyService, role_of};
use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use cognito_identity_pool::local::LocalIdentityPool;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperUserId, Error, ErrorKind, Login, Session, TokenVendor,
    developer::developer_fn,
};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::{CredentialProvider, ObjectStoreExt};
use opendal::services::S3;
use reqsign_aws_v4::Credential;
use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain};

const DEVELOPER: &str = "login.mycompany.myapp";
const DIRECTORY_BUCKET: &str = "photos--use1-az4--x-s3";

struct Scene {
    provider: CognitoCredentialsProvider,
    vendor: Arc<TokenVendor>,
    service: AnyService,
    base: SdkConfig,
    _pool: LocalIdentityPool,
}

impl Scene {
    /// Whoever keeps credentials by their expiry follows within `lease`.
    async fn new(lease: Option<Duration>) -> Self {
        let pool = LocalIdentityPool::builder()
            .developer_provider(DEVELOPER)
            .start()
            .await
            .unwrap();
        let builder = CognitoCredentialsProvider::builder(pool.identity_pool_id());
        let vendor = TokenVendor::builder(pool.identity_pool_id(), DEVELOPER).configure(&pool.backend_config());
        let service = AnyService::start(&pool).await;
        Self {
            provider: builder.configure(&pool.client_config()).lease(lease).build().unwrap(),
            vendor: Arc::new(vendor.build().unwrap()),
            base: service.config(&pool.client_config()),
            service,
            _pool: pool,
        }
    }

    fn login(&self, user: &str) -> Login {
        let (vendor, user) = (Arc::clone(&self.vendor), DeveloperUserId::new(user).unwrap());
        Login::developer(developer_fn(move |_| {
            let (vendor, user) = (Arc::clone(&vendor), user.clone());
            async move {
                let vended = vendor.vend(&user).await.map_err(BackendError::transient)?;
                Ok(vended.identity().clone())
            }
        }))
    }

    async fn sign_in(&self, user: &str) -> (Session, String) {
        let session = self.provider.switch_to(self.login(user));
        let id = session.ready().await.unwrap().identity_id;
        (session, id.as_str().to_owned())
    }

    /// At the next request: a 503, and a switch to another user while it is on its way.
    fn switch_at_the_next_request(&self) {
        let (provider, login) = (self.provider.clone(), self.login("carol"));
        self.service.fail_once_and(move || drop(provider.switch_to(login)));
    }
}

async fn put(client: &aws_sdk_s3::Client, bucket: &str) -> Result<(), Error> {
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"a photo");
    let put = client.put_object().bucket(bucket).key("1.jpg").body(body).send().await;
    put.map(drop)
        .map_err(|error| Error::find(&error).unwrap_or_else(|| panic!("{error:?}")).clone())
}

/// By path, as there are no names for buckets on a loopback address.
fn s3(config: &SdkConfig) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(config).force_path_style(true);
    aws_sdk_s3::Client::from_conf(config.build())
}

#[tokio::test]
async fn an_object_in_a_plain_bucket_has_one_signer() {
    let scene = Scene::new(None).await;
    let client = s3(&scene.provider.sdk_config(&scene.base));
    let (_, alice) = scene.sign_in("alice").await;
    put(&client, "photos").await.unwrap();
    scene.switch_at_the_next_request();
    assert_eq!(
        put(&client, "photos").await.unwrap_err().kind(),
        ErrorKind::SessionEnded
    );
    let (_, bob) = scene.sign_in("bob").await;
    put(&client, "photos").await.unwrap();
    scene.provider.sign_out();
    assert_eq!(put(&client, "photos").await.unwrap_err().kind(), ErrorKind::SignedOut);
    assert_eq!(scene.service.signers("PutObject"), [alice.clone(), alice, bob]);
}

#[tokio::test]
async fn an_object_in_a_directory_bucket_has_one_signer() {
    let scene = Scene::new(None).await;
    let client = s3(&scene.provider.sdk_config(&scene.base));
    let (_, alice) = scene.sign_in("alice").await;
    put(&client, DIRECTORY_BUCKET).await.unwrap();
    scene.switch_at_the_next_request();
    assert_eq!(
        put(&client, DIRECTORY_BUCKET).await.unwrap_err().kind(),
        ErrorKind::SessionEnded
    );
    let (_, bob) = scene.sign_in("bob").await;
    put(&client, DIRECTORY_BUCKET).await.unwrap();
    // A retry within the session goes on.
    scene.service.fail_once_and(|| {});
    put(&client, DIRECTORY_BUCKET).await.unwrap();
    scene.provider.sign_out();
    assert_eq!(
        put(&client, DIRECTORY_BUCKET).await.unwrap_err().kind(),
        ErrorKind::SignedOut
    );
    let (of_alice, of_bob) = (role_of(&alice), role_of(&bob));
    let expected = [&of_alice, &of_alice, &of_bob, &of_bob, &of_bob];
    assert_eq!(scene.service.signers("PutObject").iter().collect::<Vec<_>>(), expected);
    assert_eq!(scene.service.signers("CreateSession"), [alice, bob]);
}

#[tokio::test]
async fn a_directory_bucket_on_a_role_or_a_bound_session_has_one_signer() {
    let scene = Scene::new(None).await;
    let (session, alice) = scene.sign_in("alice").await;
    let bound = s3(&session.sdk_config(&scene.base));
    put(&bound, DIRECTORY_BUCKET).await.unwrap();
    let config = scene.provider.sdk_config(&scene.base);
    let assumed = aws_config::sts::AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/photos")
        .session_name("test")
        .configure(&config)
        .build()
        .await;
    let assumed = s3(&config
        .to_builder()
        .credentials_provider(SharedCredentialsProvider::new(assumed))
        .build());
    scene.switch_at_the_next_request();
    assert_eq!(
        put(&assumed, DIRECTORY_BUCKET).await.unwrap_err().kind(),
        ErrorKind::SessionEnded
    );
    assert_eq!(
        put(&bound, DIRECTORY_BUCKET).await.unwrap_err().kind(),
        ErrorKind::SessionEnded
    );
    assert_eq!(
        scene.service.signers("PutObject"),
        [role_of(&alice), role_of(&role_of(&alice))]
    );
}

/// What an application writes to hand a credentials provider to another library.
#[derive(Debug)]
struct Adapter<P>(P);

impl<P: ProvideCredentials + Unpin + 'static> ProvideCredential for Adapter<P> {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Credential>> {
        let credentials = self.0.provide_credentials().await;
        let credentials =
            credentials.map_err(|error| reqsign_core::Error::unexpected("no credentials").with_source(error))?;
        let expires = credentials
            .expiry()
            .map(|at| at.duration_since(std::time::UNIX_EPOCH).unwrap());
        Ok(Some(Credential {
            access_key_id: credentials.access_key_id().to_owned(),
            secret_access_key: credentials.secret_access_key().to_owned(),
            session_token: credentials.session_token().map(str::to_owned),
            expires_in: expires.map(|at| reqsign_core::time::Timestamp::from_second(at.as_secs() as i64).unwrap()),
        }))
    }
}

#[async_trait]
impl<P: ProvideCredentials + 'static> CredentialProvider for Adapter<P> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let credentials: Credentials =
            self.0
                .provide_credentials()
                .await
                .map_err(|error| object_store::Error::Generic {
                    store: "S3",
                    source: error.into(),
                })?;
        Ok(Arc::new(AwsCredential {
            key_id: credentials.access_key_id().to_owned(),
            secret_key: credentials.secret_access_key().to_owned(),
            token: credentials.session_token().map(str::to_owned),
        }))
    }
}

fn opendal(scene: &Scene, credentials: impl ProvideCredentials + Unpin + 'static) -> opendal::Operator {
    let service = S3::default()
        .bucket("photos")
        .region("us-east-1")
        .endpoint(&scene.service.url)
        .credential_provider_chain(ProvideCredentialChain::new().push(Adapter(credentials)));
    opendal::install_default();
    opendal::Operator::new(service).unwrap()
}

#[tokio::test]
async fn opendal_follows_a_switch_and_a_sign_out_within_the_lease() {
    // Its signer keeps credentials until two minutes before their expiry: with a lease of less it asks each time.
    let scene = Scene::new(Some(Duration::from_secs(60))).await;
    let (session, alice) = scene.sign_in("alice").await;
    let of_the_provider = opendal(&scene, scene.provider.clone());
    let of_the_session = opendal(&scene, session);
    for store in [&of_the_provider, &of_the_session] {
        store.write("1.jpg", "a photo").await.unwrap();
    }
    let (_, bob) = scene.sign_in("bob").await;
    of_the_provider.write("1.jpg", "a photo").await.unwrap();
    of_the_session.write("1.jpg", "a photo").await.unwrap_err();
    scene.provider.sign_out();
    of_the_provider.write("1.jpg", "a photo").await.unwrap_err();
    of_the_session.write("1.jpg", "a photo").await.unwrap_err();
    assert_eq!(scene.service.signers("PutObject"), [alice.clone(), alice, bob]);
}

#[tokio::test]
async fn without_a_lease_opendal_goes_on_as_the_first_user() {
    let scene = Scene::new(None).await;
    let (_, alice) = scene.sign_in("alice").await;
    let store = opendal(&scene, scene.provider.clone());
    store.write("1.jpg", "a photo").await.unwrap();
    scene.provider.sign_out();
    store.write("1.jpg", "a photo").await.unwrap();
    assert_eq!(scene.service.signers("PutObject"), [alice.clone(), alice]);
}

#[tokio::test]
async fn object_store_follows_at_once() {
    let scene = Scene::new(Some(Duration::from_secs(60))).await;
    let store = AmazonS3Builder::new()
        .with_bucket_name("photos")
        .with_region("us-east-1")
        .with_endpoint(&scene.service.url)
        .with_allow_http(true)
        .with_credentials(Arc::new(Adapter(scene.provider.clone())))
        .with_retry(object_store::RetryConfig {
            max_retries: 0,
            ..Default::default()
        })
        .build()
        .unwrap();
    let put = || async {
        store
            .put(&object_store::path::Path::from("1.jpg"), "a photo".into())
            .await
    };
    let (_, alice) = scene.sign_in("alice").await;
    drop(put().await);
    let (_, bob) = scene.sign_in("bob").await;
    drop(put().await);
    scene.provider.sign_out();
    put().await.unwrap_err();
    assert_eq!(scene.service.signers("PutObject"), [alice, bob]);
}
