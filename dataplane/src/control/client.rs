//! The CLI's end of the control API: over the gateway's Unix socket, or by TCP from another machine.

use core::cell::RefCell;
use core::fmt;
use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use pnat_shared::time::Duration;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::answer::Failure;
use super::tls::{self, TlsError};

/// How long a gateway may take to accept a connection, and to prove that it is one.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no gateway answers at {place}: {source}")]
    NoGateway { place: Place, source: io::Error },
    #[error("the gateway at {place} has not answered within {}", humantime::format_duration(*patience))]
    Silent { place: Place, patience: Duration },
    /// What answers does not prove that it is the gateway, or speaks no TLS.
    #[error("no secure connection to {place}: {source}")]
    Insecure { place: Place, source: io::Error },
    /// The gateway does not believe this client's certificate.
    #[error("the gateway at {place} turns this client away: {alert:?}")]
    TurnedAway { place: Place, alert: AlertDescription },
    /// The gateway says no; the text is its reason.
    #[error("{error}")]
    Refused { status: StatusCode, error: String },
    #[error("the gateway's answer broke off: {0}")]
    Broken(hyper::Error),
    #[error("the gateway's answer is unreadable, it may be of another version: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the question cannot be put: {0}")]
    Question(#[from] serde_urlencoded::ser::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Where a gateway answers.
#[derive(Clone, Debug)]
pub enum Place {
    Socket(PathBuf),
    Remote(Remote),
}

/// A gateway's API by TCP, and this client's side of TLS.
#[derive(Clone, Debug)]
pub struct Remote {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
}

/// Why a gateway elsewhere cannot be asked.
#[derive(Debug, Error)]
pub enum RemoteError {
    #[error(
        "\"{0}\" is no address of a gateway; allowed: https, a host and a port, as in https://gateway.example:9443"
    )]
    Address(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Remote {
    /// A gateway at `url`. Its certificate must be of `ca` and carry the host's name or address; `certificate` and `key` are
    /// this client's own.
    pub fn new(url: &str, certificate: &Path, key: &Path, ca: &Path) -> Result<Self, RemoteError> {
        let (host, port) = parse_url(url).ok_or_else(|| RemoteError::Address(url.to_owned()))?;
        let name = ServerName::try_from(host.clone()).map_err(|_| RemoteError::Address(url.to_owned()))?;
        Ok(Self { host, port, name, tls: tls::client(certificate, key, ca)? })
    }
}

/// Host and port; an IPv6 address without its brackets.
fn parse_url(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let is_plain =
        uri.scheme_str() == Some("https") && matches!(uri.path(), "" | "/") && uri.query().is_none();
    let host = uri.host().filter(|_| is_plain)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host.to_owned(), uri.port_u16()?))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Remote(Remote { host, port, .. }) if host.contains(':') => {
                write!(f, "https://[{host}]:{port}")
            }
            Self::Remote(Remote { host, port, .. }) => write!(f, "https://{host}:{port}"),
        }
    }
}

type Sender = SendRequest<Empty<Bytes>>;

/// Asks one gateway, one question after the other.
#[derive(Debug)]
pub struct Client {
    place: Place,
    runtime: Runtime,
    /// How long a whole answer may take; `None`: as long as it will.
    patience: Option<Duration>,
    /// The connection of the question before, if it still lives.
    kept: RefCell<Option<Sender>>,
}

impl Client {
    pub fn new(place: Place) -> Result<Self, ClientError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { place, runtime, patience: None, kept: RefCell::new(None) })
    }

    /// Waits no longer than that for an answer; streams are not bounded by it.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Asks, and reads the whole answer.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.wait(async { whole(accepted(self.ask(path).await?).await?).await })
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
        self.wait(async { whole(self.ask(path).await?).await })
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.wait(async { whole(accepted(self.order(path).await?).await?).await })
    }

    /// Asks, and gives the answer to `take` as it comes, until it ends, `take` fails or SIGINT or SIGTERM arrives.
    pub fn stream(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let response = accepted(self.order(path).await?).await?;
            let mut body = response.into_body();
            let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            loop {
                let frame = tokio::select! {
                    frame = body.frame() => frame,
                    interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
                    _ = terminated.recv() => return Ok(()),
                };
                let Some(frame) = frame else { return Ok(()) };
                if let Some(data) = frame.map_err(ClientError::Broken)?.data_ref() {
                    take(data)?;
                }
            }
        })
    }

    fn wait<T>(&self, answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        self.runtime.block_on(async {
            let Some(patience) = self.patience else { return answer.await };
            let silent = |_| ClientError::Silent { place: self.place.clone(), patience };
            timeout(patience, answer).await.map_err(silent)?
        })
    }

    /// Asks over the connection of the question before. The gateway may close it at any time, so a question that gets no
    /// answer there is put once more over a fresh one.
    async fn ask(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
            && let Ok(response) = sender.send_request(request(Method::GET, path)?).await
        {
            self.kept.replace(Some(sender));
            return Ok(response);
        }
        let mut sender = self.connect().await?;
        let answered = sender.send_request(request(Method::GET, path)?).await;
        self.kept.replace(Some(sender));
        answered.map_err(|error| self.broken(error))
    }

    /// Asks for something that must not happen twice.
    async fn order(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        let mut sender = self.connect().await?;
        let answered = sender.send_request(request(Method::POST, path)?).await;
        answered.map_err(|error| self.broken(error))
    }

    async fn connect(&self) -> Result<Sender, ClientError> {
        let silent = |_| ClientError::Silent { place: self.place.clone(), patience: CONNECT };
        timeout(CONNECT, self.reach()).await.map_err(silent)?
    }

    async fn reach(&self) -> Result<Sender, ClientError> {
        let absent = |source| ClientError::NoGateway { place: self.place.clone(), source };
        match &self.place {
            Place::Socket(path) => self.speak(UnixStream::connect(path).await.map_err(absent)?).await,
            Place::Remote(remote) => {
                let stream = TcpStream::connect((remote.host.as_str(), remote.port)).await.map_err(absent)?;
                stream.set_nodelay(true)?;
                let connector = TlsConnector::from(remote.tls.clone());
                let secured = connector.connect(remote.name.clone(), stream).await;
                let insecure = |source| ClientError::Insecure { place: self.place.clone(), source };
                self.speak(secured.map_err(insecure)?).await
            }
        }
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Sender, ClientError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // What goes wrong there is seen here as a broken answer.
        tokio::spawn(connection);
        Ok(sender)
    }

    /// In TLS 1.3 a client learns only after the handshake that it is not let in.
    fn broken(&self, error: hyper::Error) -> ClientError {
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let inner = source.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref());
        match inner {
            Some(rustls::Error::AlertReceived(alert)) => {
                ClientError::TurnedAway { place: self.place.clone(), alert: *alert }
            }
            _ => ClientError::Broken(error),
        }
    }
}

fn request(method: Method, path: &str) -> Result<Request<Empty<Bytes>>, ClientError> {
    Ok(Request::builder().method(method).uri(path).header(HOST, "pnat").body(Empty::new())?)
}

async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = response.into_body().collect().await.map_err(ClientError::Broken)?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

/// Turns an answer that is a refusal into an error.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.into_body().collect().await.map_err(ClientError::Broken)?.to_bytes();
    let error =
        serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |failure: Failure| failure.error);
    Err(ClientError::Refused { status, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_gateway_is_https_a_host_and_a_port() {
        let rows = [
            ("https://gateway.example:9443", Some(("gateway.example", 9443))),
            ("https://10.0.0.1:9443/", Some(("10.0.0.1", 9443))),
            ("https://[2001:db8::1]:9443", Some(("2001:db8::1", 9443))),
            ("https://gateway.example", None),
            ("http://gateway.example:9443", None),
            ("gateway.example:9443", None),
            ("https://gateway.example:9443/stats", None),
            ("https://gateway.example:9443?a=b", None),
            ("https://gateway.example:99999", None),
            ("", None),
        ];
        for (url, parts) in rows {
            assert_eq!(parse_url(url), parts.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }
}
