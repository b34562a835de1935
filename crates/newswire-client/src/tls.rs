//! Over `https` and `wss`: whom to believe, what to show, and what went wrong, in words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_platform_verifier::BuilderVerifierExt;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

/// Whom a client believes over `https` and `wss`, and what it shows of itself. By default it believes whom the system
/// believes, and shows nothing. The files are read once, here.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    authorities: Option<RootCertStore>,
    shown: Option<Arc<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>>,
}

/// Why there is no TLS to be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds nothing of its kind.
    #[error("{} holds no {wanted} in PEM that can be used: {reason}", file.display())]
    BadFile {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are not of each other.
    #[error("the certificate and its key cannot be used together: {0}")]
    BadPair(Error),
    /// The system knows no authorities.
    #[error("this system's authorities cannot be used ({0}); name the server's with --ca FILE")]
    NoAuthorities(Error),
}

impl Tls {
    /// Believes the authorities in this file (PEM) and nobody else. Blocks on the disk.
    pub fn with_authorities(self, file: &Path) -> Result<Self, TlsError> {
        let mut authorities = RootCertStore::empty();
        for certificate in certificates(file)? {
            let bad = |error: Error| bad_file(file, "certificate of an authority", &error);
            authorities.add(certificate).map_err(bad)?;
        }
        Ok(Self { authorities: Some(authorities), ..self })
    }

    /// Shows this certificate (PEM, the chain behind it) to servers that ask for one. Blocks on the disk.
    pub fn with_certificate(self, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| bad_file(key, "private key", &error))?;
        Ok(Self { shown: Some(Arc::new((chain, key))), ..self })
    }

    /// What connections are made by. Reads the system's authorities, where those are to be believed.
    pub(crate) fn config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::NoAuthorities)?;
        let builder = match &self.authorities {
            Some(authorities) => builder.with_root_certificates(authorities.clone()),
            None => builder.with_platform_verifier().map_err(TlsError::NoAuthorities)?,
        };
        let mut config = match self.shown.as_deref() {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                builder.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(TlsError::BadPair)?
            }
        };
        // For requests one behind the other HTTP/2 has nothing to offer, and it hides why a server lets nobody in.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn bad_file(file: &Path, wanted: &'static str, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::BadFile { file: file.to_owned(), wanted, reason: reason.to_string() }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wanted = "certificate";
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| bad_file(file, wanted, &error))?;
    if found.is_empty() {
        return Err(bad_file(file, wanted, &"there is none in it"));
    }
    Ok(found)
}

/// What TLS has to say about an error, if it is one of TLS: the two sides do not trust, or do not understand, each other.
pub(crate) fn in_words(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Some(words_for(error));
        }
        // What an error of I/O carries is not among its sources, only what lies behind that.
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn words_for(error: &Error) -> String {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "nobody who is trusted here vouches for the server's certificate (unknown issuer); --ca FILE names its authority"
                .to_owned()
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            format!("the server's certificate has expired ({error})")
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            format!("the server's certificate is not valid yet, or this clock is wrong ({error})")
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the server's certificate is for another host ({error})")
        }
        Error::InvalidCertificate(_) => format!("the server's certificate is no good ({error})"),
        Error::AlertReceived(Alert::CertificateRequired) => {
            "the server asks for a certificate of ours; --cert FILE and --key FILE show one".to_owned()
        }
        Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => format!("the server does not take the certificate shown to it ({error})"),
        Error::InvalidMessage(_) => format!("what answers there does not speak TLS ({error}); is it http://?"),
        _ => format!("no TLS with this server ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_tls_is_found_inside_one_of_io() {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, unknown);
        let told = tokio_tungstenite::tungstenite::Error::Io(io);
        assert!(in_words(&told).unwrap().contains("--ca FILE"));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(in_words(&refused), None);
    }

    #[test]
    fn files_that_hold_nothing_of_use_are_named() {
        let none = Path::new("/nowhere/ca.pem");
        assert!(Tls::default().with_authorities(none).unwrap_err().to_string().contains("/nowhere/ca.pem"));
        let none = Tls::default().with_certificate(none, none).unwrap_err();
        assert!(matches!(none, TlsError::BadFile { wanted: "certificate", .. }), "{none}");
    }
}
