//! What measuring the kernel's TCP takes: namespaces, devices, tools, priorities, the real clock.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::thread::{
    CpuSet, LinkNameSpaceType, gettid, move_into_link_name_space, sched_getaffinity, sched_setaffinity,
};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Scheduling priorities among real-time processes: the flows' ends, and the relay before them.
pub(super) const END_PRIORITY: &str = "10";
pub(super) const RELAY_PRIORITY: &str = "20";

/// Buffers that no path fills, and no memory of what an earlier flow has found.
pub(super) const SYSCTLS: [&str; 4] = [
    "net.ipv4.tcp_rmem=4096 131072 67108864",
    "net.ipv4.tcp_wmem=4096 131072 67108864",
    "net.ipv4.tcp_no_metrics_save=1",
    "net.ipv4.ip_local_port_range=21000 65000",
];

/// What `work` gives on a thread in a namespace.
pub(super) fn within<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace);
    let thread = thread::spawn(move || -> Result<T> {
        let namespace = File::open(path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(work())
    });
    thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
}

/// A TUN device of this name, in the namespace of the thread.
pub(super) fn open_device(name: &str) -> io::Result<SyncDevice> {
    DeviceBuilder::new().name(name).build_sync()
}

pub(super) fn command(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).status().with_context(|| format!("{program} is needed"))?;
    ensure!(status.success(), "{program} {} failed", args.join(" "));
    Ok(())
}

/// Makes this thread, and those that it starts, go before everything that is not real-time: a machine that does other
/// things as well would else measure those.
pub(super) fn prefer(priority: &str) -> Result<()> {
    let thread = gettid().as_raw_nonzero().to_string();
    command("chrt", &["--fifo", "--pid", priority, &thread])
}

/// Keeps this thread, and those that it starts, on some CPUs.
pub(super) fn keep_to(may: impl Fn(usize) -> bool) -> io::Result<()> {
    let there = sched_getaffinity(None)?;
    let mut cpus = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|cpu| there.is_set(*cpu) && may(*cpu)).for_each(|cpu| cpus.set(cpu));
    Ok(sched_setaffinity(None, &cpus)?)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's TCP runs by the real clock")]
pub(super) fn pause(time: Duration) {
    thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "the kernel's TCP runs by the real clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}
