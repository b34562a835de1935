//! Connections that begin to say something and fall silent: an attack that costs its author next to nothing.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// File descriptors of this process for everything else.
const OTHER_FILES: usize = 500;

/// What is said to a server without TLS: nothing; half the head of a request; half that of an upgrade.
pub const HTTP: [&[u8]; 3] = [
    b"",
    b"GET /api/v1/health HTTP/1.1\r\nhost: local",
    b"GET /api/v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-web",
];

/// What is said to a server with TLS: nothing; the beginning of a hello that claims to be longer.
pub const TLS: [&[u8]; 2] = [b"", &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 7, 7, 7, 7]];

/// A whole upgrade, by somebody who then does not say who it is.
pub const UPGRADE: [&[u8]; 1] = [b"GET /api/v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"];

/// So many connections, or as many as this process may have; its soft limit of files is raised for them.
pub fn as_many_as(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where it is not allowed, the limit stays as it is and counts as such.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let allowed = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize);
    wanted.min(allowed.saturating_sub(OTHER_FILES))
}

/// Opens `count` connections, which say each of `words` in turn and no more.
///
/// # Panics
/// When the server takes no more of them.
pub async fn open(addr: SocketAddr, count: usize, words: &[&[u8]]) -> Vec<TcpStream> {
    let mut opened = Vec::with_capacity(count);
    for words in words.iter().cycle().take(count) {
        let mut stream = TcpStream::connect(addr).await.expect("it takes connections");
        stream.write_all(words).await.expect("it has not closed yet");
        opened.push(stream);
    }
    opened
}

/// Waits until the server has closed all of them.
///
/// # Panics
/// When one is still open after `patience`.
pub async fn closed(streams: Vec<TcpStream>, patience: Duration) {
    let all = async {
        for mut stream in streams {
            let mut said = Vec::new();
            // A reset is an end as well.
            let _ = stream.read_to_end(&mut said).await;
        }
    };
    tokio::time::timeout(patience, all).await.expect("those who fell silent are let go");
}
