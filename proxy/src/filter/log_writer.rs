//! The log writer: a thread that owns the files which `log` filters write to.
//!
//! Runs on: a thread of its own ([`run`]), and proxy cores ([`LogSender`]). Allocates: freely. Blocks: on the disk, in
//! [`run`] alone; a core never waits for it: what the channel has no room for is lost and counted.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use pnat_shared::stats::Counter;

/// Records that may wait for the writer. With content in all of them, this is 64 MiB.
const CAPACITY: usize = 4096;

/// Bytes of lines that wait for one write.
const BATCH: usize = 64 * 1024;

/// What the writer is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A line, with its line feed, for the end of a file.
    Line { path: Arc<Path>, line: Vec<u8> },
    /// A piece of a stream's content, for its own place in a file. The piece at offset 0 starts the file anew; one that was
    /// lost leaves zeros.
    Content { path: Arc<Path>, offset: u64, bytes: Vec<u8> },
    /// Close all files; they are opened again by their names when next written to (log rotation).
    Reopen,
}

/// The channel to the writer. It ends when all senders are gone.
pub fn channel() -> (Sender<Record>, Receiver<Record>) {
    crossbeam_channel::bounded(CAPACITY)
}

/// One core's end of the channel.
#[derive(Debug)]
pub struct LogSender {
    sender: Sender<Record>,
    lost: Arc<Counter>,
}

impl LogSender {
    /// `lost` counts the records of this core that found no room, and must be written by nobody else.
    pub const fn new(sender: Sender<Record>, lost: Arc<Counter>) -> Self {
        Self { sender, lost }
    }

    /// Sends a record if there is room; answers false, and counts it, where it is lost.
    pub(super) fn send(&self, record: Record) -> bool {
        let sent = self.sender.try_send(record).is_ok();
        if !sent {
            self.lost.add(1);
        }
        sent
    }
}

/// Writes records until the channel ends. `lost` counts what could not be written.
pub fn run(records: &Receiver<Record>, lost: &Counter) {
    let mut writer = Writer { files: HashMap::new(), content_failing: false, lost };
    while let Ok(record) = records.recv() {
        writer.take(record);
        for record in records.try_iter() {
            writer.take(record);
        }
        writer.flush();
    }
}

struct Writer<'a> {
    files: HashMap<Arc<Path>, LineFile>,
    /// Whether the last piece of content could not be written, which was reported then.
    content_failing: bool,
    lost: &'a Counter,
}

/// A file that lines are appended to.
#[derive(Default)]
struct LineFile {
    /// Open once something was written, until a failure.
    file: Option<File>,
    waiting: Vec<u8>,
    lines: u64,
    failing: bool,
}

impl Writer<'_> {
    fn take(&mut self, record: Record) {
        match record {
            Record::Line { path, line } => {
                let file = self.files.entry(path.clone()).or_default();
                file.waiting.extend_from_slice(&line);
                file.lines += 1;
                if file.waiting.len() >= BATCH {
                    file.flush(&path, self.lost);
                }
            }
            Record::Content { path, offset, bytes } => self.content(&path, offset, &bytes),
            Record::Reopen => {
                self.flush();
                self.files.clear();
            }
        }
    }

    fn flush(&mut self) {
        for (path, file) in &mut self.files {
            file.flush(path, self.lost);
        }
    }

    fn content(&mut self, path: &Path, offset: u64, bytes: &[u8]) {
        let open = || OpenOptions::new().write(true).create(true).truncate(offset == 0).open(path);
        let file = match (open(), path.parent()) {
            (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(dir).and_then(|()| open())
            }
            (result, _) => result,
        };
        let result = file.and_then(|file| file.write_all_at(bytes, offset));
        if let Err(error) = &result {
            self.lost.add(1);
            if !self.content_failing {
                tracing::warn!(path = %path.display(), %error, "cannot write stream content");
            }
        }
        self.content_failing = result.is_err();
    }
}

impl LineFile {
    fn flush(&mut self, path: &Path, lost: &Counter) {
        if self.waiting.is_empty() {
            return;
        }
        let result = self.write(path);
        if let Err(error) = &result {
            self.file = None;
            lost.add(self.lines);
            if !self.failing {
                tracing::warn!(path = %path.display(), %error, "cannot write the log");
            }
        }
        self.failing = result.is_err();
        self.waiting.clear();
        self.lines = 0;
    }

    fn write(&mut self, path: &Path) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(OpenOptions::new().append(true).create(true).open(path)?),
        };
        file.write_all(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of this test alone, removed when dropped.
    struct Dir(std::path::PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("pnat-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn path(&self, name: &str) -> Arc<Path> {
            Arc::from(self.0.join(name))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn line(path: &Arc<Path>, text: &str) -> Record {
        Record::Line { path: path.clone(), line: text.as_bytes().to_vec() }
    }

    fn write(records: impl IntoIterator<Item = Record>) -> u64 {
        let (sender, receiver) = channel();
        records.into_iter().for_each(|record| sender.send(record).unwrap());
        drop(sender);
        let lost = Counter::default();
        run(&receiver, &lost);
        lost.value()
    }

    #[test]
    fn lines_are_appended_in_order_to_their_files() {
        let dir = Dir::new("lines");
        let [a, b] = [dir.path("a"), dir.path("b")];
        assert_eq!(write([line(&a, "1\n"), line(&b, "2\n"), line(&a, "3\n")]), 0);
        assert_eq!(write([line(&a, "4\n")]), 0);
        assert_eq!(std::fs::read_to_string(a).unwrap(), "1\n3\n4\n");
        assert_eq!(std::fs::read_to_string(b).unwrap(), "2\n");
    }

    #[test]
    fn after_a_reopen_lines_go_to_the_file_that_has_the_name_now() {
        let dir = Dir::new("reopen");
        let [log, rotated] = [dir.path("log"), dir.path("log.1")];
        let (sender, receiver) = channel();
        let writer = std::thread::spawn(move || run(&receiver, &Counter::default()));
        sender.send(line(&log, "old\n")).unwrap();
        while !std::fs::read_to_string(&log).is_ok_and(|text| text == "old\n") {
            std::thread::yield_now();
        }
        std::fs::rename(&log, &rotated).unwrap();
        sender.send(Record::Reopen).unwrap();
        sender.send(line(&log, "new\n")).unwrap();
        drop(sender);
        writer.join().unwrap();
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "old\n");
        assert_eq!(std::fs::read_to_string(log).unwrap(), "new\n");
    }

    #[test]
    fn a_lost_piece_of_content_leaves_zeros_in_its_place() {
        let dir = Dir::new("content");
        let path = dir.path("deeper/1-a-b.first");
        let piece =
            |offset, bytes: &[u8]| Record::Content { path: path.clone(), offset, bytes: bytes.to_vec() };
        assert_eq!(write([piece(0, b"an older flow's content")]), 0);
        assert_eq!(write([piece(0, b"abc"), piece(5, b"fg")]), 0);
        assert_eq!(std::fs::read(&path).unwrap(), b"abc\0\0fg");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_rest_is_written() {
        let dir = Dir::new("unwritable");
        let [good, bad] = [dir.path("good"), dir.path("no/such/dir")];
        assert_eq!(write([line(&bad, "1\n"), line(&bad, "2\n"), line(&good, "3\n")]), 2);
        assert_eq!(std::fs::read_to_string(good).unwrap(), "3\n");
    }

    #[test]
    fn a_full_channel_loses_the_record_and_counts_it() {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let lost = Arc::new(Counter::default());
        let sender = LogSender::new(sender, lost.clone());
        assert!(sender.send(Record::Reopen));
        assert!(!sender.send(Record::Reopen));
        assert_eq!(lost.value(), 1);
        drop(receiver);
    }
}
