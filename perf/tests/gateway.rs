//! The load generator with the whole gateway between its ports, run as `pnat run` runs it: their counts agree to the frame.
//!
//! The gateway is this process, the generator another one.

use std::fs;
use std::path::Path;
use std::process::{self, Command};
use std::thread;

use pnat_dataplane::control::answer::Stats;
use pnat_dataplane::control::client::{Client, Place};
use pnat_dataplane::filters::Kinds;
use pnat_dataplane::launch;
use pnat_dataplane::port::capsule::available_cpus;
use pnat_shared::config::Config;

use memif::{directory, load, memif, wait_until};

mod memif;

/// Frames by which the gateway says that it is there.
const ANNOUNCEMENTS: u64 = 2;

const LOAD: &str = "duration = \"300ms\"\n[traffic]\nrate = \"20 kpps\"\nsizes = \"imix\"\n\
                    [flows]\ncount = 500\nsrc = \"10.1.0.0/16\"\ndst = \"203.0.113.1\"";

fn config(dir: &Path, cpu: usize) -> String {
    format!(
        "[[port]]\nname = \"inside\"\ndevice = \"net_memif0\"\nargs = \"{}\"\naddresses = [\"10.0.0.1/8\"]\n\
         [[port]]\nname = \"outside\"\ndevice = \"net_memif1\"\nargs = \"{}\"\naddresses = [\"198.18.0.1/24\"]\n\
         gateway = \"198.18.0.2\"\n[cores]\nworkers = [{cpu}]\nproxies = [{cpu}]\nidle = \"adaptive\"\n\
         [memory]\nframes = 20_479\nhugepages = \"never\"\n[nat]\npublic = [\"198.18.0.1\"]\n\
         [policy]\ndefault_action = \"nat\"\n[control]\nsocket = \"{}\"",
        memif("server", dir, "a"),
        memif("server", dir, "b"),
        dir.join("control.sock").display(),
    )
}

/// What a core or port has counted.
fn counted(stats: &Stats, kind: &str, name: &str, counter: &str) -> u64 {
    let group = stats.groups.iter().find(|group| group.kind == kind && group.name == name);
    group.expect("a group").counters[counter]
}

#[test]
fn through_the_gateway_every_frame_is_counted_as_the_gateway_counts_it() {
    let dir = directory("gateway");
    let cpus = available_cpus();
    let file = dir.join("gateway.toml");
    let text = config(&dir, cpus[0]);
    let config = Config::parse(&file, &text, cpus.len()).unwrap_or_else(|error| panic!("{error}"));
    let gateway = thread::spawn(move || {
        launch::run(config, &file, cpus.len(), Kinds::default()).map_err(|error| error.to_string())
    });
    let client = Client::new(Place::Socket(dir.join("control.sock"))).expect("a client");
    let stats = || client.get::<Stats>("/stats");
    assert!(wait_until(|| gateway.is_finished() || stats().is_ok()), "the gateway does not answer");
    if gateway.is_finished() {
        panic!("the gateway ended: {:?}", gateway.join());
    }

    // Announcements find no link yet, and are dropped; what is dropped later is a test frame.
    assert!(wait_until(|| counted(&stats().expect("stats"), "worker", "0", "generated") == ANNOUNCEMENTS));
    let before = stats().expect("stats");
    let core = available_cpus().pop().expect("a CPU");
    let loading = load(&dir, LOAD, &format!("core = {core}\ngateway = \"10.0.0.1\""));
    let mut after = None;
    let frames = loading.result(|| {
        after = Some(stats().expect("stats"));
        assert!(
            Command::new("kill")
                .args(["-TERM", &process::id().to_string()])
                .status()
                .expect("kill")
                .success()
        );
        assert_eq!(gateway.join().expect("no panic"), Ok(()));
    });
    let (frames, after) = (frames.frames, after.expect("stats"));

    assert!(
        frames.sent > 0 && (frames.foreign, frames.corrupt, frames.duplicated) == (0, 0, 0),
        "{frames:?}"
    );
    let more =
        |kind, name, counter| counted(&after, kind, name, counter) - counted(&before, kind, name, counter);
    let came = more("worker", "0", "hits") + more("worker", "0", "misses");
    assert_eq!(came, frames.sent - frames.missed, "{frames:?}");
    // Toward the generator's hosts it answers questions only.
    let answers = more("port", "inside", "tx_packets");
    let passed = more("worker", "0", "tx_packets") - more("worker", "0", "generated") - answers;
    assert_eq!(passed - more("port", "outside", "tx_dropped"), frames.received, "{frames:?}");
    fs::remove_dir_all(dir).expect("removed");
}
