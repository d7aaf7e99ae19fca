//! A file system of its own for one index node, in a file on this machine's, that can be made to stand
//! still: whatever would change it waits until it goes on.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Missing, caretaker::Caretaker, run};

const PRIVILEGE: &str = "root, `mkfs.ext4`, a loop device and `fsfreeze`";

/// Far more than a node of the benchmark needs.
const SIZE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    _caretaker: Caretaker,
}

impl Disk {
    /// Makes the file system and mounts it, both in the directory.
    pub fn new(directory: &Path) -> Result<Self, Missing> {
        let (image, mount) = (directory.join("disk.image"), directory.join("disk"));
        let made = || -> io::Result<()> {
            fs::create_dir_all(&mount)?;
            fs::File::create(&image)?.set_len(SIZE_BYTES)
        };
        made().map_err(|error| Missing(format!("cannot make {}: {error}", image.display())))?;
        let (image, at) = (image.display().to_string(), mount.display().to_string());
        // Processes that are still ending keep it busy for a moment.
        let script = format!(
            "fsfreeze -u '{at}'\n\
             for try in 1 2 3 4 5 6 7 8 9 10; do umount '{at}' && break; sleep 0.5; done\n\
             rm -f '{image}'"
        );
        let caretaker = Caretaker::new(&script)
            .map_err(|error| Missing(format!("cannot start a shell: {error}")))?;
        let disk = Self { mount, _caretaker: caretaker };
        run(&["mkfs.ext4", "-q", "-F", "-O", "^has_journal", &image], PRIVILEGE)?;
        run(&["mount", "-o", "loop,noatime", &image, &at], PRIVILEGE)?;
        // Whether it can be frozen shows only by doing so.
        disk.freeze()?;
        disk.thaw()?;
        Ok(disk)
    }

    /// Moves what is in the directory to this disk, and leaves a link to it. Nobody may be using it.
    pub fn take_in(&self, directory: &Path) -> io::Result<()> {
        let target = self.mount.join("data");
        let copied = Command::new("cp").arg("-a").arg(directory).arg(&target).status()?;
        if !copied.success() {
            return Err(io::Error::other("cp -a failed"));
        }
        fs::remove_dir_all(directory)?;
        symlink(&target, directory)
    }

    /// From now on nothing is written to it.
    pub fn freeze(&self) -> Result<(), Missing> {
        run(&["fsfreeze", "-f", &self.mount.display().to_string()], PRIVILEGE)
    }

    pub fn thaw(&self) -> Result<(), Missing> {
        run(&["fsfreeze", "-u", &self.mount.display().to_string()], PRIVILEGE)
    }
}
