//! The CLI's end of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use pnat_shared::time::Duration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::answer::Failure;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no gateway answers at {}: {source}", socket.display())]
    NoGateway { socket: PathBuf, source: io::Error },
    /// The gateway says no; the text is its reason.
    #[error("{error}")]
    Refused { status: StatusCode, error: String },
    #[error("the gateway's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the gateway's answer is unreadable, it may be of another version: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the gateway at {} has not answered within {}", socket.display(), humantime::format_duration(*patience))]
    Silent { socket: PathBuf, patience: Duration },
    #[error("the question cannot be put: {0}")]
    Question(#[from] serde_urlencoded::ser::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Asks one gateway, one question per connection.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
    /// How long a whole answer may take; `None`: as long as it will.
    patience: Option<Duration>,
}

impl Client {
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: socket.to_owned(), runtime, patience: None })
    }

    /// Waits no longer than that for an answer; streams are not bounded by it.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Asks, and reads the whole answer.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.wait(self.answer(Method::GET, path))
    }

    /// As [`Client::get`], with a question in the query string.
    pub fn get_by<T: DeserializeOwned>(
        &self,
        path: &str,
        question: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.get(&format!("{path}?{}", serde_urlencoded::to_string(question)?))
    }

    /// As [`Client::get`], where the gateway's no has the same form as its yes, as that of `/ready` does.
    pub fn get_either<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.wait(async { whole(self.send(Method::GET, path).await?).await })
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.wait(self.answer(Method::POST, path))
    }

    /// Asks, and gives the answer to `take` as it comes, until it ends, `take` fails or SIGINT or SIGTERM arrives.
    pub fn stream(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let response = accepted(self.send(Method::POST, path).await?).await?;
            let mut body = response.into_body();
            let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
                    _ = terminated.recv() => return Ok(()),
                };
                let Some(frame) = frame else { return Ok(()) };
                if let Some(data) = frame?.data_ref() {
                    take(data)?;
                }
            }
        })
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        self.runtime.block_on(async {
            let Some(patience) = self.patience else { return answer.await };
            let silent = |_| ClientError::Silent { socket: self.socket.clone(), patience };
            tokio::time::timeout(patience, answer).await.map_err(silent)?
        })
    }

    async fn answer<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        whole(accepted(self.send(method, path).await?).await?).await
    }

    async fn send(&self, method: Method, path: &str) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::NoGateway { socket: self.socket.clone(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer; what goes wrong there is seen here as a broken answer.
        tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header(HOST, "pnat").body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }
}

async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

/// Turns an answer that is a refusal into an error.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.into_body().collect().await?.to_bytes();
    let error =
        serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |failure: Failure| failure.error);
    Err(ClientError::Refused { status, error })
}
