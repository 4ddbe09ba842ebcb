//! reqsign's Cognito provider behind its signer, which keeps the credentials.

use std::collections::HashMap;

use bytes::Bytes;
use reqsign_aws_v4::{CognitoIdentityCredentialProvider, Credential, RequestSigner};
use reqsign_core::{Context, Error, HttpSend, Signer, StaticEnv};

use super::{Answer, Client, Settings, Who};

#[derive(Debug)]
struct Send(reqwest::Client);

impl HttpSend for Send {
    async fn http_send(&self, request: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |error: reqwest::Error| Error::unexpected("not answered").with_source(error);
        let request = request.map(reqwest::Body::from).try_into().map_err(failed)?;
        let answer = self.0.execute(request).await.map_err(failed)?;
        let mut response = http::Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.body_mut() = answer.bytes().await.map_err(failed)?;
        Ok(response)
    }
}

pub(crate) struct Reqsign {
    provider: CognitoIdentityCredentialProvider,
    signer: Signer<Credential>,
}

impl Reqsign {
    pub(crate) fn new(settings: &Settings, who: Who) -> anyhow::Result<Self> {
        let mut provider = CognitoIdentityCredentialProvider::new()
            .with_identity_pool_id(&settings.pool_id)
            .with_region(&settings.region);
        if who.state == "developer" {
            provider = provider.with_identity_id(who.identity);
        }
        if who.state != "guest" {
            provider = provider.with_logins(HashMap::from([(who.login, who.token)]));
        }
        let context = Context::new()
            .with_http_send(Send(reqwest::Client::new()))
            .with_env(StaticEnv {
                home_dir: None,
                envs: HashMap::from([("AWS_COGNITO_ENDPOINT".to_owned(), settings.endpoint.clone())]),
            });
        let signer = Signer::new(context, provider.clone(), RequestSigner::new("sts", &settings.region));
        Ok(Self { provider, signer })
    }
}

async fn key(signer: &Signer<Credential>) -> Answer {
    let request = http::Request::get("https://sts.us-east-1.amazonaws.com/").body(());
    let (mut parts, ()) = request.map_err(|error| error.to_string())?.into_parts();
    signer
        .sign(&mut parts, None)
        .await
        .map_err(|error| format!("{error:?}"))?;
    let header = parts
        .headers
        .get("authorization")
        .and_then(|header| header.to_str().ok());
    let key = header.and_then(|header| header.split_once("Credential=")?.1.split_once('/'));
    key.map(|(key, _)| key.to_owned())
        .ok_or_else(|| "not signed".to_owned())
}

impl Client for Reqsign {
    async fn ask(&self) -> Answer {
        key(&self.signer).await
    }

    async fn again(&self) -> Answer {
        // The same provider behind an empty cache: what happens two minutes before the expiry.
        key(&self.signer.clone().with_credential_provider(self.provider.clone())).await
    }
}
