//! TLS: certificate and key from files, read again whenever they change, without a connection noticing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use parking_lot::RwLock;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::TlsConfig;

/// How often the files are looked at for a change.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is spoken over TLS, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
const HTTP_2: &[u8] = b"h2";

/// The files, and what they held last. Cloning gives the same.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    files: Files,
    current: RwLock<Arc<ServerConfig>>,
}

#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

/// By what a change of a file is known.
type Look = Vec<Option<(SystemTime, u64)>>;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, where the configuration names some. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read, holds nothing of its kind, or the key is not that of the certificate.
    pub fn open(config: &TlsConfig) -> anyhow::Result<Option<Self>> {
        let (Some(cert), Some(key)) = (config.cert.clone(), config.key.clone()) else { return Ok(None) };
        let files = Files { cert, key, client_ca: config.client_ca.clone() };
        let current = RwLock::new(Arc::new(files.read()?));
        Ok(Some(Self(Arc::new(Shared { files, current }))))
    }

    /// Reads the files again, for handshakes from now on; connections that are there go on. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Tls::open`]; then everything stays as it was.
    pub fn reload(&self) -> anyhow::Result<()> {
        let new = Arc::new(self.0.files.read()?);
        *self.0.current.write() = new;
        Ok(())
    }

    /// Reloads whenever a file has changed, until `stop`. A pair that does not fit, as in the middle of a change, is tried again
    /// when one of its files changes next.
    pub(super) async fn follow(self, stop: CancellationToken) {
        let mut known = self.look().await;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let now = self.look().await;
            if now == known {
                continue;
            }
            known = now;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(())) => tracing::info!("the TLS certificate was read again"),
                Ok(Err(error)) => {
                    tracing::error!(error = format!("{error:#}"), "the TLS certificate stays as it was");
                }
                // The panic hook has reported it.
                Err(_) => {}
            }
        }
    }

    async fn look(&self) -> Look {
        let shared = Arc::clone(&self.0);
        let look = move || shared.files.all().map(look_at).collect();
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Shakes hands. Not cancel-safe: dropped, the connection is lost.
    ///
    /// # Errors
    /// Those of the socket; [`io::ErrorKind::InvalidData`] where the peer offers nothing that is acceptable. The peer was then
    /// told why, and can read it on the stream that comes with the error.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, (io::Error, TcpStream)> {
        let config = Arc::clone(&self.0.current.read());
        TlsAcceptor::from(config).accept(stream).into_fallible().await
    }
}

/// Whether the two sides have agreed to speak HTTP/2.
pub(super) fn speaks_http_2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

/// None where it cannot be looked at: reading says why.
fn look_at(path: &Path) -> Option<(SystemTime, u64)> {
    let found = path.metadata().ok()?;
    Some((found.modified().ok()?, found.len()))
}

impl Files {
    fn all(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
    }

    /// TLS 1.2 and 1.3, and nothing older.
    fn read(&self) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, "tls.client_ca")? {
                    roots.add(authority).with_context(|| format!("tls.client_ca: {}", path.display()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&self.cert, "tls.cert")?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("tls.key: {} holds no private key in PEM", self.key.display()))?;
        let mut config = builder.with_single_cert(chain, key).with_context(|| {
            format!("{} and {} do not belong together", self.cert.display(), self.key.display())
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

fn certificates(path: &Path, key: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().with_context(|| format!("{key}: {} cannot be read as PEM", path.display()))?;
    anyhow::ensure!(!found.is_empty(), "{key}: {} holds no certificate", path.display());
    Ok(found)
}
