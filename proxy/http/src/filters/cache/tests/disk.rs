//! What lies on disk: it survives a restart, and no failure of the disk harms anybody.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::running;
use super::*;
use crate::filters::Section;

const FRESH: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=600")], "old");
const NEW: (u16, &[(&str, &str)], &str) = (200, &[("Cache-Control", "max-age=600")], "new");

/// A directory that is gone at the end.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn keys(&self) -> String {
        keys(self.0.path())
    }

    fn site(&self) -> Site {
        Site::new(&self.keys())
    }

    /// The files that responses lie in.
    fn blocks(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.path().join("blocks")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn keys(dir: &Path) -> String {
    format!("dir = {dir:?}\ndisk = 8388608\nobject = 200000")
}

fn at(target: &str) -> Request {
    request("GET", target, &[("Host", "a.example")])
}

#[test]
fn what_is_stored_survives_a_restart_and_what_was_removed_does_not_come_back() {
    let dir = Dir::new();
    let mut site = dir.site();
    for target in ["/kept", "/changed", "/purged/1"] {
        site.exchange(at(target), whole(FRESH));
    }
    let varying: &[(&str, &str)] = &[("Cache-Control", "max-age=600"), ("Vary", "A")];
    site.get(&[("A", "1")], (200, varying, "one"));
    site.send("POST", "/changed", &[], whole((200, &[], "")));
    let now = site.calls.gateway.unix_time;
    assert_eq!(site.handle().purge(&Purge::Prefix("http://a.example/purged".into()), now), Ok(1));
    drop(site);

    let mut site = dir.site();
    site.pass(60);
    let got = site.exchange(at("/kept"), whole(NEW));
    assert_eq!((got.text(), got.field("age"), site.asked.len()), ("old", Some("60"), 0));
    assert_eq!(site.get(&[("A", "1")], NEW).text(), "one");
    assert_eq!(site.exchange(at("/changed"), whole(NEW)).text(), "new");
    assert_eq!(site.exchange(at("/purged/1"), whole(NEW)).text(), "new");
    assert_eq!(site.exchange(at("/kept"), whole(NEW)).text(), "old", "now from memory");
    assert_eq!(site.handle().report().io_errors, 0);
}

#[test]
fn what_left_memory_comes_back_from_disk() {
    let dir = Dir::new();
    let mut site = Site::new(&format!("{}\nmemory = 1048576", dir.keys()));
    let large = "x".repeat(150_000);
    for number in 0..20 {
        let fields: &[(&str, &str)] = &[("Cache-Control", "max-age=600")];
        site.exchange(at(&format!("/{number}")), whole((200, fields, &large)));
    }
    let report = site.handle().report();
    assert!(report.evicted >= 13 && report.memory_bytes <= 1 << 20, "{report:?}");
    assert_eq!(report.entries, 20 - report.evicted, "what has left memory is not seen any more");
    assert_eq!(site.exchange(at("/0"), whole(NEW)).content.len(), 150_000);
    assert_eq!(site.asked.len(), 20);
}

#[test]
fn a_stale_response_from_disk_is_validated() {
    let dir = Dir::new();
    let mut site = dir.site();
    site.get(&[], (200, &[("Cache-Control", "max-age=60"), ("ETag", "\"a\"")], "old"));
    drop(site);
    let mut site = dir.site();
    site.pass(100);
    assert_eq!(site.get(&[], (304, &[], "")).text(), "old");
    assert_eq!(site.asked[0].fields().text("if-none-match"), Some("\"a\""));
}

#[test]
fn broken_blocks_are_forgotten() {
    let dir = Dir::new();
    let mut site = dir.site();
    site.get(&[], FRESH);
    drop(site);
    for path in dir.blocks() {
        let mut block = OpenOptions::new().write(true).open(path).unwrap();
        // Behind the heads, where the content of small things lies, too.
        for place in (0..256 << 10).step_by(512) {
            block.seek(SeekFrom::Start(place)).unwrap();
            block.write_all(b"garbage").unwrap();
        }
    }
    let mut site = dir.site();
    assert_eq!(site.get(&[], NEW).text(), "new");
    assert_eq!(site.get_stored(&[]).text(), "new");
}

#[test]
fn blocks_of_an_erased_disk_are_forgotten() {
    // Of all ones there is no next number; there is one of the other.
    for byte in [0xff, 0xf0] {
        let dir = Dir::new();
        drop(dir.site());
        for path in dir.blocks() {
            let length = fs::metadata(&path).unwrap().len();
            fs::write(path, vec![byte; usize::try_from(length).unwrap()]).unwrap();
        }
        let mut site = dir.site();
        assert_eq!(site.get(&[], FRESH).text(), "old");
        assert_eq!(site.handle().report().io_errors, 1);
        drop(site);
        let mut site = dir.site();
        assert_eq!(site.get(&[], NEW).text(), "old", "what was stored since is there");
        assert_eq!(site.handle().report().io_errors, 0);
    }
}

#[test]
fn files_cut_short_are_forgotten() {
    let dir = Dir::new();
    let mut site = dir.site();
    site.get(&[], FRESH);
    drop(site);
    for path in dir.blocks() {
        File::create(path).unwrap();
    }
    let mut site = dir.site();
    assert_eq!(site.get(&[], NEW).text(), "new");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the disk's threads take real time")]
fn a_disk_that_fails_later_is_counted_and_memory_goes_on() {
    let dir = Dir::new();
    let mut site = Site::new(&format!("{}\nmemory = 1048576", dir.keys()));
    let large = "x".repeat(150_000);
    let fields: &[(&str, &str)] = &[("Cache-Control", "max-age=600")];
    for number in 0..20 {
        site.exchange(at(&format!("/{number}")), whole((200, fields, &large)));
    }
    // What left memory is written by threads of the disk's.
    for _ in 0..500 {
        site.handle().settle();
        if site.handle().report().disk_bytes > 12 * large.len() as u64 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for path in dir.blocks() {
        File::create(path).unwrap();
    }
    assert_eq!(site.exchange(at("/0"), whole(NEW)).text(), "new");
    assert_eq!(site.exchange(at("/0"), whole(FRESH)).text(), "new");
    assert_eq!(site.handle().report().io_errors, 1);
}

#[test]
fn where_purges_cannot_be_read_nothing_on_disk_is_believed() {
    let dir = Dir::new();
    let mut site = dir.site();
    site.get(&[], FRESH);
    drop(site);
    fs::write(dir.0.path().join("purges.json"), "{").unwrap();
    let mut site = dir.site();
    assert_eq!(site.get(&[], NEW).text(), "new");
    assert_eq!(site.handle().report().io_errors, 1);
}

#[test]
fn what_was_stored_by_a_clock_that_was_ahead_is_not_believed_once_it_is_right() {
    let dir = Dir::new();
    let mut site = dir.site();
    let right = site.calls.gateway.unix_time;
    site.pass(3600);
    site.get(&[], FRESH);
    let now = site.calls.gateway.unix_time;
    site.handle().purge(&Purge::Url("http://b.example/".into()), now).unwrap();
    drop(site);
    let mut site = dir.site();
    assert_eq!(site.calls.gateway.unix_time, right);
    assert_eq!(site.get(&[], NEW).text(), "new");
    assert_eq!(site.get_stored(&[]).text(), "new");
}

fn fault(keys: &str) -> String {
    testkit::configure(configure, &Lasting::default(), keys).unwrap_err().to_string()
}

#[test]
fn a_directory_that_cannot_be_used_is_a_fault_of_the_configuration() {
    let dir = Dir::new();
    let file = dir.0.path().join("file");
    fs::write(&file, "").unwrap();
    for dir in [file.clone(), file.join("below")] {
        let expected = format!("dir: {}: cannot write in the directory: ", dir.display());
        assert!(fault(&keys(&dir)).starts_with(&expected), "{}", fault(&keys(&dir)));
    }
    let site = dir.site();
    assert!(fault(&dir.keys()).ends_with(": another cache uses the directory"), "{}", fault(&dir.keys()));
    drop(site);
    let endless = dir.keys().replace("8388608", "9007199254740992");
    assert!(fault(&endless).starts_with("dir: "));
}

#[test]
fn settings_that_make_no_sense_are_faults_that_name_their_keys() {
    for (keys, expected) in [
        ("memory = 5", "memory: at least 1048576 bytes"),
        ("memory = \"1 TB\"", "memory: \"1 TB\" is no size; such are 1048576 and \"256MiB\""),
        ("memory = -1", "memory: a size is a number of bytes or a text like \"256MiB\""),
        ("memory = \"1MiB\"\nobject = \"1MiB\"", "object: at most 262144: a quarter of memory"),
        ("disk = \"1GiB\"", "disk: is for a cache with dir only"),
        ("dir = \"x\"\ndisk = 1", "disk: at least 8388608 bytes"),
        ("status = \"a b\"", "status: letters, digits, and -._ after a letter"),
        ("wait = \"soon\"", "wait: \"soon\" is no duration; such are \"30s\" and \"2h\""),
        ("nonsense = 1", "nonsense: unknown field"),
    ] {
        assert!(fault(keys).starts_with(expected), "{keys}: {}", fault(keys));
    }
}

#[test]
fn a_cache_outlives_a_change_of_its_settings_but_not_of_its_room() {
    let mut site = Site::new("");
    site.get(&[], FRESH);
    let mut changed = Site::within(&site.lasting, "status = \"\"");
    let got = changed.get_stored(&[]);
    assert_eq!((got.text(), got.field("cache-status")), ("old", None));
    let dir = Dir::new();
    for (keys, key) in [("memory = 67108864".to_owned(), "memory"), (dir.keys(), "dir")] {
        let fault = testkit::configure(configure, &site.lasting, &keys).unwrap_err();
        assert_eq!(fault.key, key, "{fault}");
    }
    let lasting = Arc::clone(&site.lasting);
    drop(site);
    assert_eq!(changed.get_stored(&[]).text(), "old", "a connection has it yet");
    drop(changed);
    Site::within(&lasting, "memory = 67108864");
}

#[test]
fn a_cache_ends_with_the_last_connection_and_another_one_may_have_its_directory() {
    let dir = Dir::new();
    let mut site = dir.site();
    site.get(&[], FRESH);
    let lasting = Arc::clone(&site.lasting);
    let renamed = || {
        let keys = dir.keys().parse().unwrap();
        configure(&Section { name: "renamed", keys, lasting: &lasting, rehearsal: false })
    };
    assert!(renamed().unwrap_err().to_string().starts_with("dir: the cache \"test\" has it "));
    // A core, which would wait for ever here.
    let (done, is_done) = crossbeam_channel::bounded(0);
    site.handle().jobs.send(Job::Sync(done)).unwrap();
    drop(site);
    assert!(running(&lasting).is_empty());
    is_done.recv().unwrap();
    let factory = renamed().unwrap();
    assert_eq!(running(&lasting)[0].0, "renamed");
    drop(factory);
    assert_eq!(Site::within(&lasting, &dir.keys()).get_stored(&[]).text(), "old");
}

#[test]
fn a_rehearsal_leaves_everything_as_it_is() {
    let dir = Dir::new();
    let lasting = Lasting::default();
    let below = dir.0.path().join("below");
    let keys = format!("dir = {below:?}").parse().unwrap();
    let section = Section { name: "test", keys, lasting: &lasting, rehearsal: true };
    assert!(configure(&section).is_ok());
    assert!(!below.exists() && running(&lasting).is_empty());
}

#[test]
fn a_purge_that_cannot_be_written_down_is_told_as_a_fault() {
    let dir = Dir::new();
    let mut site = dir.site();
    site.get(&[], FRESH);
    // In the way of the file that the rules are written to.
    fs::create_dir(dir.0.path().join("purges.new")).unwrap();
    let now = site.calls.gateway.unix_time;
    let fault = site.handle().purge(&Purge::All, now).unwrap_err();
    assert!(matches!(fault, PurgeFault::Unwritten(_)), "{fault}");
    assert_eq!(site.handle().report().io_errors, 1);
    assert_eq!(site.get(&[], NEW).text(), "new", "it holds until a restart");
}

#[test]
fn less_room_on_disk_frees_what_was_taken() {
    let dir = Dir::new();
    let taken = || dir.blocks().iter().map(|block| block.metadata().unwrap().len()).sum::<u64>();
    let open = |disk: u64| drop(Site::new(&dir.keys().replace("8388608", &disk.to_string())));
    open(24 << 20);
    let large = taken();
    open(8 << 20);
    assert!(large > 20 << 20 && taken() <= 9 << 20, "{large} bytes, then {}", taken());
    let mut site = dir.site();
    site.get(&[], FRESH);
    drop(site);
    assert_eq!(dir.site().get_stored(&[]).text(), "old");
}
