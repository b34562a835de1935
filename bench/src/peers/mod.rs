//! Who is measured beside Newswire.
//!
//! A peer implements [`newswire_load::peer::Peer`] (its documentation says how, step by step) in a file of its own here
//! and stands in [`all`]. Its configuration is the best documented one, committed under `bench/peers/NAME/`. What is
//! not installed is listed as such with what to do about it; its goals are then unmet. `newswire-bench --peers` lists
//! everybody and tries what each says it can do; `newswire-bench --peers NAME…` tries only these.

mod centrifugo;
mod installed;
mod litestar;
mod nats;
mod nchan;
mod redis;
mod resp;
mod socketio;
mod sockudo;

use newswire_load::newswire::Newswire;
use newswire_load::peer::Peer;
use newswire_load::trial;
use newswire_street_tests::binary;

use centrifugo::Centrifugo;
pub(crate) use installed::version_of;
use litestar::Litestar;
pub(crate) use nats::Nats;
use nchan::Nchan;
pub(crate) use redis::Redis;
use socketio::{SocketIo, Socketioxide};
use sockudo::Sockudo;

/// What names of systems end in that sync less often than Newswire does: shown beside it, no rivals in durability.
pub const LESS_DURABLE: &str = ", default sync";

/// Everybody, Newswire first.
pub fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(Newswire::new(binary::newswire())),
        Box::new(Litestar::channels()),
        Box::new(Litestar::joining()),
        Box::new(SocketIo),
        Box::new(Socketioxide),
        Box::new(Sockudo),
        Box::new(Nats::synced()),
        Box::new(Nats::by_default()),
        Box::new(Redis::synced()),
        Box::new(Redis::by_default()),
        Box::new(Nchan),
        Box::new(Centrifugo),
    ]
}

/// Lists all peers (or those whose names hold one of `words`), and tries those that are installed.
///
/// # Errors
/// When one that is installed does not do what it says it can.
pub fn try_out(words: &[String]) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for peer in all() {
        let name = peer.name();
        let wanted = |word: &String| name.to_lowercase().contains(&word.to_lowercase());
        if !words.is_empty() && !words.iter().any(wanted) {
            continue;
        }
        match peer.version() {
            Err(why) => println!("{name}: not installed: {why}"),
            Ok(version) => match trial::run(&*peer) {
                Ok(()) => {
                    println!("{name} {version}: works ({:?}; {})", peer.abilities(), peer.configuration());
                }
                Err(error) => {
                    println!("{name} {version}: {error:#}");
                    failed.push(name);
                }
            },
        }
    }
    anyhow::ensure!(failed.is_empty(), "{} failed", failed.join(", "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newswire_does_what_it_says_it_can() {
        trial::run(&Newswire::new(binary::newswire())).expect("every part of the trial");
    }
}
