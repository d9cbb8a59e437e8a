//! The Unix socket of the API: whoever may open the file may say everything.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};

use super::server::ControlError;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
const OWNER: u32 = 0o600;
const OWNER_AND_GROUP: u32 = 0o660;
/// Of directories on the way that did not exist.
const DIRECTORY: u32 = 0o750;

/// Binds the socket, for its owner only, and for the members of `group` if one is given. A socket that nobody answers at is
/// what a killed gateway left behind.
pub(super) fn open(path: &Path, group: Option<&str>) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Socket { path: path.to_owned(), source };
    let gid = group.map(|group| group_id(group).map_err(|source| grouped(group, source))).transpose()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY).create(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ControlError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ControlError::InUse(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let listener = bound(path).map_err(failed)?;
    if let Some((group, gid)) = group.zip(gid) {
        std::os::unix::fs::chown(path, None, Some(gid)).map_err(|source| grouped(group, source))?;
        std::fs::set_permissions(path, Permissions::from_mode(OWNER_AND_GROUP)).map_err(failed)?;
    }
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn grouped(group: &str, source: io::Error) -> ControlError {
    ControlError::Group { group: group.to_owned(), source }
}

/// Linux gives the file the mode of the socket that is bound to it, so it is never open to others, whatever the umask.
fn bound(path: &Path) -> io::Result<UnixListener> {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    fchmod(&socket, Mode::from_raw_mode(OWNER))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The number of a group, by its name in /etc/group or by itself.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group")?;
    find_group(&groups, group)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "/etc/group knows no group of that name"))
}

/// Lines are `name:password:number:members`.
fn find_group(groups: &str, name: &str) -> Option<u32> {
    let line = groups.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split(':').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nops-night:x:990:ann\nops:x:991:bob,cleo\nbroken\n";
        let rows =
            [("root", Some(0)), ("ops", Some(991)), ("ops-night", Some(990)), ("op", None), ("broken", None)];
        for (name, number) in rows {
            assert_eq!(find_group(groups, name), number, "{name}");
        }
        assert_eq!(group_id("4711").expect("a number is itself"), 4711);
    }
}
