//! Files that users name, or that stand beside theirs. What is read of them has a bound: a device has no end.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

/// Reads a file, or a pipe such as that of a shell's `<(…)`, as text.
///
/// # Errors
///
/// If it cannot be read, has more bytes than `bytes_max` or is not UTF-8.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    // The bound may be within a character.
    let mut text = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a regular file, also through links, as text.
///
/// # Errors
///
/// Those of [`read_text`], and if it is another kind of file, which is not opened: a pipe may wait forever.
pub(crate) fn read_regular_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    match fs::metadata(path)?.is_file() {
        true => read_text(path, bytes_max),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_read_has_a_bound_and_special_files_are_read_only_where_pipes_make_sense() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, socket) = (directory.path().join("file"), directory.path().join("socket"));
        fs::write(&file, "123é").expect("written");
        let _listening = UnixListener::bind(&socket).expect("a socket");
        for read in [read_text, read_regular_text] {
            assert_eq!(read(&file, 5).expect("read"), "123é");
            for bytes_max in [3, 4] {
                let error = read(&file, bytes_max).expect_err("too large").to_string();
                assert_eq!(error, format!("it has more than {bytes_max} bytes"));
            }
            read(&socket, 5).expect_err("a socket");
        }
        assert_eq!(read_regular_text(&socket, 5).expect_err("a socket").to_string(), "it is not a regular file");
        // It has no end.
        let zeros = read_text(Path::new("/dev/zero"), 1024).expect_err("too large");
        assert_eq!(zeros.kind(), io::ErrorKind::FileTooLarge);
    }
}
