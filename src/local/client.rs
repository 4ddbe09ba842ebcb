//! The pool as the HTTP client of an `SdkConfig`: no socket.

use std::fmt;
use std::sync::Arc;

use aws_smithy_async::rt::sleep::SharedAsyncSleep;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

use super::pool_service::PoolService;

/// Reaches the pool from within the process, whatever the endpoint.
#[derive(Clone)]
pub(super) struct InProcess {
    service: Arc<PoolService>,
    sleep: Option<SharedAsyncSleep>,
}

impl InProcess {
    pub(super) fn new(service: Arc<PoolService>) -> Self {
        Self { service, sleep: None }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}

impl HttpClient for InProcess {
    fn http_connector(&self, _settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        // A late answer is late by the client's own sleep, so that virtual time works.
        SharedHttpConnector::new(Self {
            service: Arc::clone(&self.service),
            sleep: components.sleep_impl(),
        })
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { service, sleep } = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let (parts, body) = request.into_parts();
            let body = body
                .bytes()
                .ok_or_else(|| ConnectorError::user("the local pool takes no streamed body".into()))?;
            let request = http::Request::from_parts(parts, Bytes::copy_from_slice(body));
            let response = service
                .respond(&request, sleep)
                .await
                .map_err(|cut| ConnectorError::io(cut.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
