//! An authority of a test's own, and the certificates that it vouches for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Vouches for certificates, and lays everything into one directory as PEM.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    home: PathBuf,
    name: String,
}

impl Authority {
    /// A new one, whose certificate is then `<name>.pem` in `home`.
    pub fn new(home: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(home.join(format!("{name}.pem")), pem("CERTIFICATE", issuer.der())).unwrap();
        Self { issuer, home: home.to_owned(), name: name.to_owned() }
    }

    /// The file of its own certificate.
    pub fn file(&self) -> String {
        self.path(&format!("{}.pem", self.name))
    }

    /// A certificate of a server on this machine: `<file>.pem`, and `<file>.key`.
    pub fn server(&self, file: &str) {
        self.issue(file, &["localhost", "127.0.0.1"], |_| {});
    }

    /// One of a server of another name.
    pub fn server_named(&self, file: &str, name: &str) {
        self.issue(file, &[name], |_| {});
    }

    /// One that was good until some years ago.
    pub fn expired_server(&self, file: &str) {
        self.issue(file, &["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    }

    /// One for clients.
    pub fn client(&self, file: &str) {
        self.issue(file, &["client"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
    }

    /// A client that believes this authority, and offers to speak this protocol.
    pub fn connector(&self, protocol: &str) -> TlsConnector {
        let mut believed = RootCertStore::empty();
        believed.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(believed)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// The path of one of its files.
    pub fn path(&self, file: &str) -> String {
        self.home.join(file).display().to_string()
    }

    /// Each file is replaced at once, as a good renewal does.
    fn issue(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        replace(&self.home.join(format!("{file}.pem")), &pem("CERTIFICATE", certificate.der()));
        replace(&self.home.join(format!("{file}.key")), &pem("PRIVATE KEY", &key.serialize_der()));
    }
}

/// As RFC 7468 writes it. The crate that makes certificates would bring a second version of one that writes this.
fn pem(label: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn replace(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, path).unwrap();
}
