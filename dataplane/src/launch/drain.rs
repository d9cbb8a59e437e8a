//! The end of a gateway: flows may finish, the report is printed, then the cores stop.
//!
//! Runs on: a thread of its own, so that neither signals nor cores wait. Blocks: yes.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pnat_proxy::reactor::ReactorStats;
use pnat_shared::time::Duration;
use tracing::{info, warn};

use crate::control::Control;
use crate::port::capsule::Stopper;

/// How long TCP flows may go on after the first signal to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the cores may take to end what is left then.
const LAST_WORDS: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// Lets flows end, prints the report, and stops the cores. Flows on the packet path and UDP have no end that could be
/// waited for: they carry on until the TCP flows of the proxy are done.
/// `hurry` ends the wait for them.
pub(super) fn drain(control: Control, pairs: &[Arc<ReactorStats>], hurry: &AtomicBool, stopper: &Stopper) {
    let tcp = || pairs.iter().map(|stats| stats.open_tcp.value()).sum::<u64>();
    let all = || tcp() + pairs.iter().map(|stats| stats.open_udp.value()).sum::<u64>();
    info!(tcp = tcp(), "stopping: no new flows; those that are open may end");
    control.drain(PATIENCE);
    wait(PATIENCE, || tcp() == 0 || hurry.load(Ordering::Relaxed));
    control.drain(Duration::ZERO);
    wait(LAST_WORDS, || all() == 0);
    if let Err(error) = write!(io::stdout(), "{}", control.report()) {
        warn!(%error, "the final report could not be printed");
    }
    drop(control);
    stopper.stop();
}

#[expect(clippy::disallowed_methods, reason = "a thread that has nothing to do but wait")]
fn wait(limit: Duration, is_over: impl Fn() -> bool) {
    for _ in 0..limit.as_millis() / LOOK.as_millis() {
        if is_over() {
            return;
        }
        thread::sleep(LOOK);
    }
}
