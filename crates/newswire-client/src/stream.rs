//! The connection beneath a WebSocket: TCP, with TLS on it where the address asks for it.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;
use url::{Host, Url};

pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connects to the host of an address, and shakes hands where there is TLS to speak. Dropped, the connection is lost.
pub(crate) async fn open(url: &Url, tls: Option<&Arc<ClientConfig>>) -> io::Result<Stream> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
    let host = url.host().ok_or_else(|| invalid("the address has no host"))?;
    let port = url.port_or_known_default().ok_or_else(|| invalid("the address has no port"))?;
    let connected = match host {
        Host::Domain(name) => TcpStream::connect((name, port)).await,
        Host::Ipv4(address) => TcpStream::connect((address, port)).await,
        Host::Ipv6(address) => TcpStream::connect((address, port)).await,
    };
    let stream = connected?;
    // Commands are small and waited for.
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Either::Left(stream)) };
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned())
            .map_err(|_| invalid("no certificate can be for such a name"))?,
        Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
        Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
    };
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?;
    Ok(Either::Right(Box::new(stream)))
}
