//! What the kernel says about this machine and the processes on it. Linux only; elsewhere figures are missing.

use std::fs;
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Processor, cores, memory and kernel, in one line.
pub fn describe() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cpu}, {} cores, {memory} memory, Linux {}", cores().len(), kernel.trim())
}

/// The load average of the last minute: figures of a busy machine say little.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The cores that this process could use before it pinned anything.
pub fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(|| {
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect()
    })
}

/// Does something with this thread on these cores, and lets it go back.
///
/// # Errors
/// When the kernel does not allow the cores.
pub fn on_cores<T>(cores: &[usize], act: impl FnOnce() -> T) -> anyhow::Result<T> {
    let before = sched_getaffinity(None)?;
    pin(cores)?;
    let done = act();
    sched_setaffinity(None, &before)?;
    Ok(done)
}

/// Keeps this thread, and those it will start, on these cores.
///
/// # Errors
/// When the kernel does not allow them.
pub fn pin(wanted: &[usize]) -> anyhow::Result<()> {
    cores();
    let mut set = CpuSet::new();
    wanted.iter().for_each(|&core| set.set(core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Processor time that processes have used, in seconds: summed over their threads, in nanoseconds of the scheduler, where
/// it keeps them, otherwise in hundredths.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|&pid| scheduled_seconds(pid).unwrap_or_else(|| ticks_seconds(pid))).sum()
}

/// Processor time of the calling thread, in seconds.
pub fn own_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Time for which these cores did anything for anybody, in seconds, in steps of a hundredth.
pub fn core_busy_seconds(cores: &[usize]) -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of = |core: &usize| {
        let line = field_words(&text, &format!("cpu{core}"));
        // user, nice, system, idle, iowait, irq, softirq, steal: all but the fourth and fifth.
        line.iter()
            .take(8)
            .enumerate()
            .filter(|(at, _)| ![3, 4].contains(at))
            .map(|(_, ticks)| ticks)
            .sum::<f64>()
    };
    cores.iter().map(of).sum::<f64>() / 100.0
}

/// The numbers behind a word at the beginning of a line.
fn field_words(text: &str, word: &str) -> Vec<f64> {
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(word));
    line.into_iter().flat_map(|line| line.split_ascii_whitespace().skip(1)).flat_map(str::parse).collect()
}

fn scheduled_seconds(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0u64;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread may end between the two calls.
        let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        nanoseconds += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanoseconds > 0).then_some(nanoseconds as f64 / 1e9)
}

fn ticks_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields are counted behind the command's name, which may hold spaces; ticks are hundredths on Linux.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// Anonymous memory that processes have to themselves, in bytes: what they cost beyond files and shared pages.
pub fn user_memory_bytes(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        field(&text, "Private_Dirty").map_or(0, |value| kilobytes(&value))
    };
    pids.iter().map(of).sum()
}

/// Resident memory of processes, in bytes.
pub fn rss_bytes(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        field(&text, "VmRSS").map_or(0, |value| kilobytes(&value))
    };
    pids.iter().map(of).sum()
}

/// Memory of the kernel itself: its slabs, where sockets live, in bytes.
pub fn kernel_memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    ["Slab", "KernelStack", "PageTables"]
        .iter()
        .filter_map(|name| field(&text, name))
        .map(|value| kilobytes(&value))
        .sum()
}

/// Lets this process open as many files as it is allowed to at most, and says how many.
pub fn raise_open_files() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize)
}

/// The value behind `name:` at the beginning of a line.
fn field(text: &str, name: &str) -> Option<String> {
    let named = |line: &str| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned());
    text.lines().find_map(named)
}

fn kilobytes(value: &str) -> u64 {
    value.split_ascii_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
}
