//! Files that are never half written.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use self_attention::error::{Error, Result};

/// How the names of files begin that are being written.
const HALF_WRITTEN: &str = ".half-written-";

/// Removes what a program that was killed while it wrote into `folder` has left there.
///
/// # Errors
/// [`Error::Io`] if the system refuses.
pub fn remove_half_written(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if entry.file_name().to_string_lossy().starts_with(HALF_WRITTEN) {
            fs::remove_file(entry.path()).map_err(Error::io(entry.path()))?;
        }
    }
    Ok(())
}

/// Writes a file under a temporary name beside its place, and renames it when it is whole and on the disk.
///
/// # Errors
/// [`Error::Io`] if the system refuses; a file of that name is then as it was.
// ANCHOR: write_whole
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(Error::io(folder))?;
    // Opened here and not by `tempfile`, whose files no other user may read.
    let mut file = tempfile::Builder::new()
        .prefix(HALF_WRITTEN)
        .make_in(folder, |temporary| File::create_new(temporary))
        .map_err(Error::io(path))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(Error::io(path))?;
    file.persist(path).map_err(|error| Error::io(path)(error.error))?;
    Ok(())
}
// ANCHOR_END: write_whole

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("file");
        for text in ["a long text", "short"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_program_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".half-written-a1b2c3", ".hidden", "file"] {
            fs::write(folder.path().join(name), "text").unwrap();
        }
        remove_half_written(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_whole(folder.path(), b"a folder is in the way").unwrap_err();
        assert!(
            error.to_string().starts_with(&folder.path().display().to_string()),
            "{error}"
        );
    }
}
