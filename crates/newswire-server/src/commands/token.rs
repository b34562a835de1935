//! `newswire token`: makes secrets, tokens and API keys.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use super::{EXIT_USAGE, Failure};
use crate::auth::{NewToken, Permissions, create_secret, names, new_key, secret_of};

/// Arguments of `newswire token`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tokens and keys are written to standard output, explanations to standard error. docs/security.md says how a server takes them.

Examples:
  newswire token secret auth.secret                                   a secret, for its owner's eyes only
  newswire token jwt --secret-file auth.secret --subject sarah_chen   a token that may read, for an hour
  newswire token key ci                                               an API key, and its line for the configuration

Exit codes: 0 made, 1 failed, 2 wrong arguments.")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a secret that signs and verifies tokens (HS256)
    #[command(after_help = "\
Examples:
  newswire token secret auth.secret                                    readable by its owner alone
  newswire token secret auth.secret && newswire serve --set auth.jwt.secret_file=auth.secret

Exit codes: 0 made, 1 the file is there already or cannot be made, 2 wrong arguments.")]
    Secret {
        /// The file to make; one that is there is left as it is
        file: PathBuf,
    },
    /// Make a token, signed with a secret
    #[command(after_help = "\
Examples:
  newswire token jwt --secret-file auth.secret --subject sarah_chen    may read, for an hour
  newswire token jwt --secret-file auth.secret --subject ci --role publisher --expires-in 30d
  export NEWSWIRE_TOKEN=$(newswire token jwt --secret-file auth.secret --subject me) && newswire tail

Exit codes: 0 written, 1 the secret cannot be read, 2 wrong arguments.")]
    Jwt(Jwt),
    /// Make an API key
    #[command(after_help = "\
Examples:
  newswire token key ci                        may publish and read
  newswire token key ops --role admin > ops.key

Exit codes: 0 written, 1 failed, 2 wrong arguments.")]
    Key {
        /// Its name: letters, digits and hyphens
        name: String,
        /// The role of whoever shows it: observer, publisher, operator, admin, or one of the configuration
        #[arg(long, default_value = "publisher")]
        role: String,
    },
}

#[derive(Debug, clap::Args)]
struct Jwt {
    /// The secret, as `newswire token secret` makes it
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Who shows it
    #[arg(long, value_name = "NAME")]
    subject: String,
    /// How long it counts
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = span)]
    expires_in: Duration,
    /// observer, publisher, operator, admin, or one of the server's configuration [default: observer]
    #[arg(long)]
    role: Option<String>,
    /// Channels that may be subscribed, with commas; a trailing * is a pattern [default: all]
    #[arg(long, value_name = "CHANNELS", value_delimiter = ',')]
    subscribe: Option<Vec<String>>,
    /// Channels that may be published to [default: all]
    #[arg(long, value_name = "CHANNELS", value_delimiter = ',')]
    publish: Option<Vec<String>>,
    /// Channels whose past may be read [default: all]
    #[arg(long, value_name = "CHANNELS", value_delimiter = ',')]
    history: Option<Vec<String>>,
    /// Only events that pass this filter exist, as JSON: {"project":["proj-456"]}
    #[arg(long, value_name = "FILTER", value_parser = rows)]
    rows: Option<serde_json::Map<String, serde_json::Value>>,
    /// The issuer, where the server asks for one
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// The audience, where the server asks for one
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
}

fn span(text: &str) -> Result<Duration, String> {
    newswire_protocol::time::parse_duration(text).ok_or_else(|| "a span like 15m, 1h or 30d".to_owned())
}

fn rows(text: &str) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("a filter as JSON, like {{\"project\":[\"proj-456\"]}}: {error}"))
}

/// Makes what was asked for and writes it.
///
/// # Errors
/// When a file cannot be read or made, or a name cannot be one.
#[expect(clippy::unused_async, reason = "as all commands")]
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Secret { file } => {
            create_secret(&file).with_context(|| format!("cannot make {}", file.display()))?;
            anstream::eprintln!(
                "Made {}. Use it with --set auth.jwt.secret_file={}",
                file.display(),
                file.display()
            );
        }
        What::Jwt(jwt) => anstream::println!("{}", sign(jwt)?),
        What::Key { name, role } => {
            let made = new_key(&name).context("the system gives no random bytes")?;
            let (key, hash) = made.ok_or_else(|| {
                Failure::new(EXIT_USAGE, format!("{name:?}: a name has 1 to 64 letters, digits and hyphens"))
            })?;
            anstream::println!("{key}");
            anstream::eprintln!(
                "This is the key: it is not shown again. For the configuration (newswire.toml):\n\n\
                 [auth.keys.{name}]\nhash = \"{hash}\"\nrole = \"{role}\""
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn sign(jwt: Jwt) -> anyhow::Result<String> {
    let permissions = Permissions {
        role: jwt.role,
        subscribe: jwt.subscribe,
        publish: jwt.publish,
        history: jwt.history,
        rows: jwt.rows,
        ..Permissions::default()
    };
    let token = NewToken {
        subject: jwt.subject,
        expires_in: jwt.expires_in,
        issuer: jwt.issuer,
        audience: jwt.audience,
        permissions,
    };
    if let Err(bad) = names::check(&token.subject) {
        return Err(Failure::new(EXIT_USAGE, format!("--subject {:?}: {bad}", token.subject)).into());
    }
    let secret = secret_of(&jwt.secret_file)?;
    token.sign(&secret).context("the token cannot be signed")
}
