//! A steady tick, as exact as the kernel's timers: poll timeouts alone are rounded up to milliseconds.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

pub(crate) struct Timer {
    fd: OwnedFd,
}

impl Timer {
    /// Ticks first after one interval. A late reader gets all missed ticks at once.
    pub(crate) fn start(interval: Duration, registry: &Registry, token: Token) -> anyhow::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let each =
            Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: i64::from(interval.subsec_nanos()) };
        timerfd_settime(&fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: each, it_value: each })?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd })
    }

    /// Ticks since the last call.
    pub(crate) fn expirations(&mut self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.fd, &mut count) {
            Ok(8) => u64::from_ne_bytes(count),
            _ => 0,
        }
    }
}
