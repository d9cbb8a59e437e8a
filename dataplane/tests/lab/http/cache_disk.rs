//! A cache on a disk: what a restart leaves of it, and a disk that is broken or full.

use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{curl, early, numbers, requests_under};
use crate::exchange::noise;
use crate::fixture::{Lab, pnat, printed, succeed, text, wait_until};

const TEAPOT: &str = "I am a little teapot, short and stout.\n";

#[test]
fn what_is_on_disk_survives_a_restart_and_garbage_there_harms_nobody() {
    let dir = Dir::new("restarts");
    let lab = Lab::start(&early(&[&cache(&dir.0)]));
    assert_all_answered();
    assert_eq!(requests_under(&lab, "/fresh/"), 3);

    stop(&lab);
    lab.start_again();
    assert_all_answered();
    assert_eq!(requests_under(&lab, "/fresh/"), 3, "all came from disk");

    stop(&lab);
    // Behind what tells where everything lies, and not what was removed.
    let log = dir.0.join("blocks/foyer-storage-direct-fs-00000000");
    let removals = fs::read(&log).unwrap();
    spoil(&dir.0.join("blocks"), 4096);
    fs::write(&log, removals).unwrap();
    lab.start_again();
    assert_all_answered();
    assert_eq!(requests_under(&lab, "/fresh/"), 6, "all came from the server");
    assert_eq!(numbers(&lab)["io_errors"], 3);
    assert_all_answered();
    assert_eq!(requests_under(&lab, "/fresh/"), 6, "and were stored again");

    lab.pnat("purge", &["--host", "elsewhere.example"]);
    stop(&lab);
    spoil(&dir.0, 0);
    lab.start_again();
    assert_all_answered();
    assert_eq!(requests_under(&lab, "/fresh/"), 9, "all came from the server");
    assert_eq!(numbers(&lab)["io_errors"], 1, "what was purged could not be read");
}

#[test]
fn a_full_disk_costs_what_would_lie_there_and_is_counted() {
    // For blocks, and a little besides.
    let disk = Disk::new("full", "10m");
    let lab = Lab::start(&early(&[&cache(&disk.0.0)]));
    assert_all_answered();
    // As if it had no space reserved: what is written from now on finds none.
    for block in fs::read_dir(disk.0.0.join("blocks")).unwrap() {
        File::create(block.unwrap().path()).unwrap();
    }
    disk.fill();

    let assert_answered = |numbers: &str| {
        let url = format!("http://www.lab.example/fresh/text?{numbers}");
        let answers = curl(&["-o", "/dev/null", "-w", "%{http_code} %{size_download}\n", &url]);
        assert_eq!(answers, "200 100000\n".repeat(100));
    };
    let log = || fs::read_to_string(lab.file("log/gateway.log")).unwrap();
    assert_answered("[1-100]");
    wait_until(Duration::from_secs(10), "the disk is given up", || numbers(&lab)["io_errors"] == 1);
    let told = numbers(&lab);
    assert!(told["unwritten"].as_u64() > Some(0), "{told}");
    assert!(told["memory_bytes"].as_u64() <= Some(4 << 20), "{told}");
    // What is under way may fail yet.
    let mut lines = 0;
    wait_until(Duration::from_secs(10), "the storage has told its failures", || {
        std::thread::sleep(Duration::from_millis(500));
        mem::replace(&mut lines, log().lines().count()) == lines
    });
    assert_answered("[101-200]");
    assert_eq!(numbers(&lab)["io_errors"], 1);
    assert_eq!(log().lines().count(), lines, "nothing is said of a disk that is given up: {}", log());
    assert_eq!(log().matches("the cache's disk takes nothing any more").count(), 1);

    // What was purged cannot be written down either, and whoever purged is told so: it holds until the gateway ends.
    let purge = pnat("purge", &lab.config()).arg("--all").output().unwrap();
    assert_eq!(purge.status.code(), Some(1));
    assert!(printed(&purge).contains("comes back from disk with a restart"), "{}", printed(&purge));
    assert_all_answered();
    assert_eq!(numbers(&lab)["io_errors"], 2);
    stop(&lab);
}

fn cache(dir: &Path) -> String {
    format!(
        "[[filter]]\nname = \"cache\"\ntype = \"cache\"\nmemory = \"4MiB\"\nobject = 200_000\ndir = \"{}\"\ndisk = \"8MiB\"",
        text(dir)
    )
}

fn assert_all_answered() {
    for target in ["word", "word?again"] {
        assert_eq!(curl(&[&format!("http://www.lab.example/fresh/{target}")]), TEAPOT);
    }
    assert_eq!(curl(&["http://www.lab.example/fresh/1k"]), "x".repeat(1024));
}

/// At once: connections that are over are not waited for.
fn stop(lab: &Lab) {
    lab.signal("TERM");
    lab.stop();
}

/// Puts garbage into all files below a directory, from this place on.
fn spoil(dir: &Path, from: u64) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            spoil(&path, from);
            continue;
        }
        let mut file = File::options().write(true).open(path).unwrap();
        let length = file.seek(SeekFrom::End(0)).unwrap();
        file.seek(SeekFrom::Start(from)).unwrap();
        file.write_all(&noise(1, usize::try_from(length.saturating_sub(from)).unwrap())).unwrap();
    }
}

/// A directory, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("cache-{name}-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A small disk, gone at the end.
struct Disk(Dir);

impl Disk {
    fn new(name: &str, size: &str) -> Self {
        let dir = Dir::new(name);
        succeed(
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(&dir.0),
        );
        Self(dir)
    }

    /// Takes all that is free.
    fn fill(&self) {
        let mut file = File::create(self.0.0.join("filling")).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        succeed(Command::new("umount").arg(&self.0.0));
    }
}
