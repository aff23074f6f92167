//! The directory of a voter: its four files and its lock.
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;

use super::copy::COPY_BYTES_MAX;
use crate::error::StartError;

/// Where the copies are kept: 0 and 1 are a pair, and so are 2 and 3.
pub(super) trait Medium {
    /// All bytes of a copy; none if it is not there.
    fn read(&mut self, index: usize) -> io::Result<Option<Vec<u8>>>;
    /// Puts the bytes in the place of both copies of a pair; returns when they are durable. Until
    /// then any part of either may be lost, but for one that was not there: that is there whole or
    /// not at all.
    fn write_pair(&mut self, pair: usize, bytes: &[u8]) -> io::Result<()>;
}

/// The files `voter-state.0` to `.3` of a directory that this process has locked.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    copies: [Option<File>; 4],
    /// Keeps the lock.
    lock: File,
}

impl Files {
    /// Locks the directory, and makes it if it is not there, for nobody but this user.
    ///
    /// # Errors
    ///
    /// [`StartError::Disk`], [`StartError::DiskInUse`].
    pub(super) fn open(directory: &Path) -> Result<Self, StartError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| StartError::Disk { path, source }
        };
        make(directory).map_err(failed(directory))?;
        let path = directory.join("voter-state.lock");
        let lock = file(&path, true).map_err(failed(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StartError::DiskInUse { path: directory.to_owned() },
            TryLockError::Error(source) => StartError::Disk { path, source },
        })?;
        let mut copies = [None, None, None, None];
        for (index, copy) in copies.iter_mut().enumerate() {
            let path = directory.join(name(index));
            *copy = match file(&path, false) {
                Ok(file) => Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(StartError::Disk { path, source }),
            };
        }
        Ok(Self { directory: directory.to_owned(), copies, lock })
    }

    /// The lock's file once more, as a child of this process has it.
    #[cfg(test)]
    pub(super) fn hold_lock(&self) -> File {
        self.lock.try_clone().unwrap()
    }

    /// A copy appears under its name when it is whole and durable: an empty one is never left
    /// behind by a crash, so it is damage.
    fn create(&self, index: usize, bytes: &[u8]) -> io::Result<File> {
        let draft = self.directory.join("voter-state.new");
        let mut file = file(&draft, true)?;
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&draft, self.directory.join(name(index)))?;
        File::open(&self.directory)?.sync_all()?;
        Ok(file)
    }
}

impl Drop for Files {
    /// A process that is being started elsewhere in this one holds the file until it is another
    /// program, and would keep the lock as long: so it is given up, and not only closed.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl Medium for Files {
    fn read(&mut self, index: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &mut self.copies[index] else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(COPY_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write_pair(&mut self, pair: usize, bytes: &[u8]) -> io::Result<()> {
        for index in [2 * pair, 2 * pair + 1] {
            if self.copies[index].is_none() {
                self.copies[index] = Some(self.create(index, bytes)?);
            }
        }
        let [Some(one), Some(other)] = &self.copies[2 * pair..][..2] else { return Ok(()) };
        // Two syncs at the same time take as long as one.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("hr-quorum-sync".to_owned());
            let twin = thread.spawn_scoped(scope, || overwrite(other, bytes));
            overwrite(one, bytes)?;
            match twin.map(ScopedJoinHandle::join) {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => overwrite(other, bytes),
            }
        })
    }
}

fn overwrite(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// Makes a directory and those above it. Each is durable in the one above.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = match directory.parent() {
        Some(path) if path.as_os_str().is_empty() => Path::new("."),
        Some(path) => path,
        None => Path::new("/"),
    };
    make(above)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !directory.is_dir() => {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    File::open(above)?.sync_all()
}

fn file(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
}

fn name(index: usize) -> String {
    format!("voter-state.{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_whichever_of_the_pair_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for index in 0..4 {
            let mut files = Files::open(directory.path()).unwrap();
            files.write_pair(index / 2, b"whole").unwrap();
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            files.copies[index] = Some(full);
            let failed = files.write_pair(index / 2, b"other").unwrap_err();
            assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        }
    }
}
