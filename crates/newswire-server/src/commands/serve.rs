//! `newswire serve`: runs the server until it is told to stop.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio_util::sync::CancellationToken;

use super::{EXIT_USAGE, Failure};
use crate::auth;
use crate::config::{
    Config, ConfigError, DEFAULT_FILE, Inputs, Settings, Source, docs, load_settings, load_with_settings,
    open_beyond_loopback,
};
use crate::logging;
use crate::server::{Server, signals};

mod reload;

/// Connections that may wait to be accepted, so that a wave of reconnecting clients is not turned away; the system
/// may lower it (`net.core.somaxconn`).
const PENDING_CONNECTIONS: u32 = 4096;

const EXAMPLES: &str = "\
Examples:
  newswire serve                                     127.0.0.1:8080, data in ./newswire-data
  newswire serve --config /etc/newswire.toml         keys as in docs/configuration.md
  newswire serve --set log.sync=interval --listen 127.0.0.1:0
  newswire serve --print-config                      what all of it comes to, and who said so

SIGHUP makes it read the file again; SIGTERM and SIGINT stop it in order, a second one at once.

Exit codes: 0 stopped when asked to, 1 failed, 2 wrong arguments or configuration, 3 another server has the data \
directory, 4 the log is damaged, 130 or 143 left at once at a second signal.";

/// Arguments of `newswire serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", docs::help()))]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print every configuration key with its value and where that was said, and do not start
    #[arg(long)]
    print_config: bool,
    /// Begin a new epoch: once, after restoring the data directory from a backup
    #[arg(long)]
    new_epoch: bool,
    /// Write docs/configuration.md to standard output
    #[arg(long, hide = true)]
    print_config_docs: bool,
    /// Write newswire.example.toml to standard output
    #[arg(long, hide = true, conflicts_with = "print_config_docs")]
    print_config_example: bool,
}

/// What decides the configuration.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArgs {
    /// Address to listen on [default: 127.0.0.1:8080]; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Directory of the log [default: ./newswire-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Configuration file [default: newswire.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "NEWSWIRE_CONFIG")]
    config: Option<PathBuf>,
    /// Set any configuration key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArgs {
    /// The file that [`ConfigArgs::load`] reads, if it reads any.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()))
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn read(&self) -> Result<(Config, Settings), ConfigError> {
        load_with_settings(&self.inputs())
    }

    /// What the file says now, for a server that runs with other settings.
    ///
    /// # Errors
    /// As [`load_settings`].
    pub(crate) fn read_again(&self) -> Result<Settings, ConfigError> {
        load_settings(&self.inputs())
    }

    fn inputs(&self) -> Inputs {
        let mut inputs = Inputs::from_process(self.config.clone());
        inputs.set.clone_from(&self.set);
        inputs.flags.extend(self.listen.clone().map(|listen| ("--listen", "listen", listen)));
        inputs.flags.extend(self.data_dir.clone().map(|directory| ("--data-dir", "data_dir", directory)));
        inputs
    }

    /// As [`ConfigArgs::read`], for a command that ends where something is wrong.
    ///
    /// # Errors
    /// A [`Failure`] with the exit code for it.
    pub(crate) fn load(&self) -> anyhow::Result<(Config, Settings)> {
        self.read().map_err(|error| Failure::new(EXIT_USAGE, error.to_string()).into())
    }
}

/// Serves until SIGTERM or SIGINT. Exit codes beside the common ones: 3 if another server has the data directory, 4 if
/// the log is damaged.
///
/// # Errors
/// When the configuration is wrong, the log cannot be opened or the address cannot be listened on.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.print_config_docs {
        anstream::print!("{}", docs::markdown());
        return Ok(ExitCode::SUCCESS);
    }
    if args.print_config_example {
        anstream::print!("{}", docs::example_file());
        return Ok(ExitCode::SUCCESS);
    }
    let new_epoch = args.new_epoch;
    let (config, settings) = args.config.load()?;
    if args.print_config {
        anstream::print!("{}", settings.effective());
        return Ok(ExitCode::SUCCESS);
    }
    let logging = logging::init(&config.logging, &config.audit)?;
    let stop = CancellationToken::new();
    signals::watch(stop.clone()).context("cannot watch for signals")?;
    let listener = listen(&config).await?;
    let hangups = signals::hangups().context("cannot watch for signals")?;
    let mut server = Server::start(listener, &config, new_epoch).await?;
    if let (Some(channel), Some(events)) = (config.audit.channel.clone(), logging.events) {
        server.publish_audit(channel, events);
    }
    // Ends with the process: nobody waits for it.
    tokio::spawn(reload::on_signal(hangups, args.config, settings, server.reloader(), logging.level.clone()));
    let address = server.address()?;
    let scheme = if config.tls.cert.is_some() { "https" } else { "http" };
    announce(address, scheme, &config);
    if config.auth.sign_in
        && let Some(path) = server.sign_in_path().await
    {
        let host = if address.ip().is_unspecified() { "localhost".to_owned() } else { host_of(address) };
        let _ = writeln!(
            std::io::stdout(),
            "sign a browser in, once, within ten minutes: {scheme}://{host}:{}{path}",
            address.port()
        );
    }
    server.run(stop).await;
    Ok(ExitCode::SUCCESS)
}

/// The one line on standard output: whoever started us reads the port from it.
fn announce(address: SocketAddr, scheme: &str, config: &Config) {
    // Nobody may be reading; the server runs all the same.
    let _ = writeln!(std::io::stdout(), "newswire listening on {scheme}://{address}");
    if auth::asks(&config.auth) {
        tracing::info!(
            "callers have to show a token, a key, a ticket or the cookie of a browser that signed in"
        );
    } else if config.auth.mode.is_none() {
        tracing::info!(
            "open on loopback: everybody on this machine may read and publish, web pages of others may not"
        );
    } else {
        tracing::warn!(%address, "auth.mode = none: everybody who reaches this address may read and publish");
    }
}

async fn listen(config: &Config) -> anyhow::Result<TcpListener> {
    let listen = &config.listen;
    let addresses: Vec<SocketAddr> = lookup_host((listen.host(), listen.port()))
        .await
        .with_context(|| format!("cannot listen on {listen}: nobody knows the name {}", listen.host()))?
        .collect();
    // `localhost` is a name like any other to the resolver; what counts is where it leads.
    let is_open = config.auth.mode.is_none() && !auth::asks(&config.auth);
    if is_open && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Failure::new(EXIT_USAGE, open_beyond_loopback(listen, &Source::Default)).into());
    }
    bind(&addresses).with_context(|| {
        format!("cannot listen on {listen}; choose another address with --listen, or stop what listens there")
    })
}

/// As it stands in an address.
fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// The first address that can be bound.
fn bind(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let bind_one = |address: &SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(*address)?;
        socket.listen(PENDING_CONNECTIONS)
    };
    let mut result = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        result = bind_one(address);
        if result.is_ok() {
            break;
        }
    }
    result
}
