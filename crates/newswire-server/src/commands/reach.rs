//! Asking a server that may not be there yet.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use newswire_client::{Backoff, Client, RequestError, Tls};

/// The variable that holds a token or a key.
const TOKEN_VARIABLE: &str = "NEWSWIRE_TOKEN";

/// How a command gets to a server: which one, whom it believes there, and what it shows one that asks who it is. A token is no
/// argument: everybody on a machine can read the arguments of everybody's commands, and shells keep them.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ReachArgs {
    /// File with a token or API key, for a server that asks for one; else the variable NEWSWIRE_TOKEN. It cannot be given as an
    /// argument: everybody on this machine can read those, and shells keep them
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Over https://, believe the authorities in this file (PEM) and no others [default: those of the system]
    #[arg(long, value_name = "FILE", env = "NEWSWIRE_CA")]
    ca: Option<PathBuf>,
    /// Over https://, the certificate (PEM) for a server that asks for one
    #[arg(long, value_name = "FILE", env = "NEWSWIRE_CERT", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of that certificate (PEM)
    #[arg(long, value_name = "FILE", env = "NEWSWIRE_CERT_KEY", requires = "cert")]
    key: Option<PathBuf>,
}

impl ReachArgs {
    /// A client of the server, that shows what there is to show.
    pub(crate) fn client(&self, url: &str) -> anyhow::Result<Client> {
        let client = Client::with_tls(url, &self.tls()?)?;
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Some(text.trim().to_owned())
            }
            None => std::env::var(TOKEN_VARIABLE).ok().map(|token| token.trim().to_owned()),
        };
        match token.filter(|token| !token.is_empty()) {
            Some(token) => Ok(client.with_token(&token)?),
            None => Ok(client),
        }
    }

    fn tls(&self) -> anyhow::Result<Tls> {
        let mut tls = Tls::default();
        if let Some(authorities) = &self.ca {
            tls = tls.with_authorities(authorities).context("--ca")?;
        }
        if let (Some(certificate), Some(key)) = (&self.cert, &self.key) {
            tls = tls.with_certificate(certificate, key).context("--cert and --key")?;
        }
        Ok(tls)
    }
}

/// Waits between attempts, for commands at which somebody waits.
pub(crate) const fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(300), Duration::from_secs(5))
}

/// Asks until the server can be reached; `waiting` is told the reason before each further attempt. What the
/// server then answers is the result, be it a refusal.
pub(crate) async fn until_reached<T>(
    mut ask: impl AsyncFnMut() -> Result<T, RequestError>,
    mut waiting: impl FnMut(&str),
) -> Result<T, RequestError> {
    let mut backoff = backoff();
    let mut random = fastrand::Rng::new();
    loop {
        match ask().await {
            Err(RequestError::Unreachable(reason)) => {
                waiting(&reason);
                tokio::time::sleep(backoff.next(&mut random)).await;
            }
            answered => return answered,
        }
    }
}
