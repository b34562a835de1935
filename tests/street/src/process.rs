//! Signals to a process, and what the kernel says about it.

use std::process::Command;

/// Takes every `NEWSWIRE_*` variable of the tests' own environment away from a child: to a server they are settings.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEWSWIRE_") {
            command.env_remove(name);
        }
    }
}

/// Sends `signal` (as `kill` names it: `STOP`, `CONT`, `INT`, `TERM`, `KILL`) to one process.
///
/// # Panics
/// When there is no such process.
pub fn signal(pid: u32, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.expect("kill starts").success(), "kill -{signal} {pid} failed");
}

/// Sends `signal` to a process and everything it started, if it was started as the leader of a process group.
///
/// # Panics
/// When there is no such group.
pub fn signal_group(leader: u32, signal: &str) {
    let status =
        Command::new("kill").args([format!("-{signal}"), "--".to_owned(), format!("-{leader}")]).status();
    assert!(status.expect("kill starts").success(), "no process group {leader}");
}

/// Resident memory of a process in bytes, from `/proc`.
pub fn rss_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

/// The most resident memory the process ever had, in bytes.
pub fn peak_rss_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:") * 1024
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the kernel reports memory");
    line.split_ascii_whitespace().nth(1).and_then(|digits| digits.parse().ok()).expect("kB are a number")
}
