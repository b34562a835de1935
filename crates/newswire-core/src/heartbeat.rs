//! Is the peer alive? Pings, the patience with a silent peer, and with one that does not read.

use std::time::Duration;

use newswire_protocol::CloseCode;

/// How often to ask and how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct HeartbeatConfig {
    /// Between pings, before jitter.
    pub interval: Duration,
    /// How long after a ping some sign of life must come.
    pub timeout: Duration,
    /// How long bytes may wait without the peer taking any.
    pub stall_timeout: Duration,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(25),
            timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Send a ping; only where no bytes wait.
    Ping,
    /// Close the connection: no sign of life ([`CloseCode::NoHeartbeat`]), or the peer reads nothing
    /// ([`CloseCode::TooSlow`]).
    Close(CloseCode),
    /// Nothing before this time.
    Wait(Duration),
}

/// The liveness of one connection. Times are the shell's monotonic ones.
///
/// A peer must show a sign of life (any received byte) within the timeout after a ping. That deadline rests while
/// bytes wait for a peer that does not read, and while the shell itself does not read; then it runs anew.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    config: HeartbeatConfig,
    /// The interval of this connection, jittered so that pings of many connections spread.
    interval: Duration,
    next_ping: Duration,
    /// Until when a sign of life must come; `None` if none is awaited.
    deadline: Option<Duration>,
    /// Since when bytes wait without progress.
    stalled_since: Option<Duration>,
    /// The shell reads nothing from the peer at present.
    reading_paused: bool,
}

impl Heartbeat {
    /// Begins now. `jitter` stretches the interval of this connection: 0.9 to 1.1, say.
    pub fn new(config: HeartbeatConfig, jitter: f64, now: Duration) -> Self {
        let interval = config.interval.mul_f64(jitter.clamp(0.1, 10.0));
        Self {
            config,
            interval,
            next_ping: now + interval,
            deadline: None,
            stalled_since: None,
            reading_paused: false,
        }
    }

    /// Bytes came from the peer: it lives.
    pub fn received(&mut self) {
        self.deadline = None;
    }

    /// Bytes wait that the peer did not take. To be repeated as often as one likes.
    pub fn write_blocked(&mut self, now: Duration) {
        self.stalled_since.get_or_insert(now);
    }

    /// The peer took some bytes. Of a peer that never made bytes wait this says nothing: they went to its kernel.
    pub fn write_progress(&mut self, now: Duration) {
        if let Some(since) = &mut self.stalled_since {
            *since = now;
        }
    }

    /// No bytes wait any more.
    pub fn write_idle(&mut self, now: Duration) {
        if self.stalled_since.take().is_some() {
            self.restart(now);
        }
    }

    /// The shell stops (`true`) or resumes reading from the peer.
    pub fn reading_paused(&mut self, paused: bool, now: Duration) {
        if self.reading_paused && !paused {
            self.restart(now);
        }
        self.reading_paused = paused;
    }

    /// What is to be done. A [`Beat::Ping`] is told once and taken as sent.
    pub fn poll(&mut self, now: Duration) -> Beat {
        if let Some(since) = self.stalled_since {
            let deadline = since + self.config.stall_timeout;
            return if now >= deadline { Beat::Close(CloseCode::TooSlow) } else { Beat::Wait(deadline) };
        }
        if let Some(deadline) = self.deadline.filter(|_| !self.reading_paused)
            && now >= deadline
        {
            return Beat::Close(CloseCode::NoHeartbeat);
        }
        if now >= self.next_ping {
            self.next_ping = now + self.interval;
            self.deadline.get_or_insert(now + self.config.timeout);
            return Beat::Ping;
        }
        match self.deadline.filter(|_| !self.reading_paused) {
            Some(deadline) => Beat::Wait(deadline.min(self.next_ping)),
            None => Beat::Wait(self.next_ping),
        }
    }

    fn restart(&mut self, now: Duration) {
        if let Some(deadline) = &mut self.deadline {
            *deadline = now + self.config.timeout;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn heartbeat() -> Heartbeat {
        Heartbeat::new(HeartbeatConfig::default(), 1.0, Duration::ZERO)
    }

    #[test]
    fn a_silent_peer_is_gone_within_interval_and_timeout() {
        let mut heart = heartbeat();
        assert_eq!(heart.poll(seconds(24)), Beat::Wait(seconds(25)));
        assert_eq!(heart.poll(seconds(25)), Beat::Ping);
        assert_eq!(heart.poll(seconds(34)), Beat::Wait(seconds(35)));
        assert_eq!(heart.poll(seconds(35)), Beat::Close(CloseCode::NoHeartbeat));
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut heart = heartbeat();
        assert_eq!(heart.poll(seconds(25)), Beat::Ping);
        heart.received();
        assert_eq!(heart.poll(seconds(49)), Beat::Wait(seconds(50)));
        assert_eq!(heart.poll(seconds(50)), Beat::Ping);
        assert_eq!(heart.poll(seconds(60)), Beat::Close(CloseCode::NoHeartbeat));
    }

    #[test]
    fn the_deadline_rests_while_bytes_wait_and_the_stall_timeout_rules() {
        let mut heart = heartbeat();
        assert_eq!(heart.poll(seconds(25)), Beat::Ping);
        heart.write_blocked(seconds(26));
        assert_eq!(heart.poll(seconds(85)), Beat::Wait(seconds(86)));
        heart.write_progress(seconds(85));
        heart.write_blocked(seconds(90));
        assert_eq!(heart.poll(seconds(144)), Beat::Wait(seconds(145)));
        assert_eq!(heart.clone().poll(seconds(145)), Beat::Close(CloseCode::TooSlow));
        heart.write_idle(seconds(144));
        assert_eq!(heart.poll(seconds(144)), Beat::Ping);
        assert_eq!(heart.poll(seconds(153)), Beat::Wait(seconds(154)));
        assert_eq!(heart.poll(seconds(154)), Beat::Close(CloseCode::NoHeartbeat));
    }

    #[test]
    fn nobody_is_blamed_while_the_shell_does_not_read() {
        let mut heart = heartbeat();
        assert_eq!(heart.poll(seconds(25)), Beat::Ping);
        heart.reading_paused(true, seconds(26));
        assert_eq!(heart.poll(seconds(40)), Beat::Wait(seconds(50)));
        heart.reading_paused(false, seconds(45));
        assert_eq!(heart.poll(seconds(50)), Beat::Ping);
        assert_eq!(heart.poll(seconds(55)), Beat::Close(CloseCode::NoHeartbeat));
    }

    #[test]
    fn jitter_stretches_the_interval() {
        let mut heart = Heartbeat::new(HeartbeatConfig::default(), 0.9, Duration::ZERO);
        assert_eq!(heart.poll(Duration::ZERO), Beat::Wait(Duration::from_millis(22_500)));
    }
}
