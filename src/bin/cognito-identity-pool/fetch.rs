//! A document over HTTP, with the HTTP client of the AWS SDK.

use std::convert::Infallible;
use std::time::Duration;

use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;

/// The longest document.
const LONGEST: usize = 1024 * 1024;

/// Gets `url`, or says why not.
pub(crate) async fn get(config: &SdkConfig, url: &str) -> Result<String, String> {
    let uri: http::Uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{url} is not an http or https URL"));
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(Duration::from_secs(5))
        .build();
    let mut operation = Operation::builder()
        .service_name("jwks")
        .operation_name("get")
        .endpoint_url(&format!("{scheme}://{authority}"))
        .no_auth()
        .no_retry()
        .timeout_config(timeouts)
        .serializer(move |(): ()| {
            let mut request = HttpRequest::empty();
            request.set_uri(path.as_str())?;
            Ok(request)
        })
        .deserializer::<_, Infallible>(|response: &HttpResponse| {
            let body = response.body().bytes().unwrap_or_default();
            let body = body.get(..body.len().min(LONGEST)).unwrap_or_default();
            Ok((response.status().as_u16(), String::from_utf8_lossy(body).into_owned()))
        });
    if let Some(client) = config.http_client() {
        operation = operation.http_client(client);
    }
    if let Some(sleep) = config.sleep_impl() {
        operation = operation.sleep_impl(sleep);
    }
    if let Some(time) = config.time_source() {
        operation = operation.time_source(time);
    }
    match operation.build().invoke(()).await {
        Ok((200, body)) => Ok(body),
        Ok((status, _)) => Err(format!("{url} answered with status {status}")),
        Err(error) => Err(format!(
            "{url} did not answer: {}",
            aws_smithy_types::error::display::DisplayErrorContext(&error)
        )),
    }
}
