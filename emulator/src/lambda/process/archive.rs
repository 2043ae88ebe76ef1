//! Unpacks code that is packaged in a zip file.

use std::{
    fs, io,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use flate2::read::DeflateDecoder;
use sha2::{Digest, Sha256};
use zip::{CompressionMethod, ZipArchive, read::ZipFile, result::ZipError};

/// Most bytes that are unpacked of one zip file. Source: Lambda quotas, which count 250 MB with all layers.
const UNPACKED_BYTES_MAX: u64 = 250 * 1024 * 1024;

/// Most files, directories and links of one zip file: a bound of ours, against zip files that fill the disk with names.
const ENTRIES_MAX: usize = 100_000;

/// Largest zip file. A deployable one is smaller than its contents.
const ZIP_BYTES_MAX: u64 = 2 * UNPACKED_BYTES_MAX;

/// Longest target of a link. Source: the longest path of Linux.
const LINK_BYTES_MAX: u64 = 4_096;

/// Directories named `node_modules` that code in a zip file can see, besides its own.
const NODE_MODULES_MAX: usize = 8;

/// Why a zip file cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("{0}")]
    Zip(#[from] ZipError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the zip file is larger than {} MB", ZIP_BYTES_MAX >> 20)]
    FileTooLarge,
    #[error("it has more than {ENTRIES_MAX} entries")]
    TooManyEntries,
    #[error("it unpacks to more than {} MB, the limit of Lambda", .0 >> 20)]
    TooLarge(u64),
    #[error("the name {0} leads out of the zip file")]
    Name(String),
    #[error("the link {0} leads out of the zip file")]
    Link(String),
}

/// Unpacks a zip file into a directory below `under` that is named after its contents, unless that exists. Returns the
/// directory of the code.
///
/// Code that runs beside its project finds the project's `node_modules`. So that the same code finds them from here,
/// directories above the code link to those above the zip file.
pub(super) fn unpack(zip: &Path, under: &Path) -> Result<PathBuf, ArchiveError> {
    unpack_at_most(UNPACKED_BYTES_MAX, zip, under)
}

fn unpack_at_most(bytes_max: u64, zip: &Path, under: &Path) -> Result<PathBuf, ArchiveError> {
    let mut file = fs::File::open(zip)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => {
                bytes += read as u64;
                hasher.update(&block[..read]);
            }
        }
        if bytes > ZIP_BYTES_MAX {
            return Err(ArchiveError::FileTooLarge);
        }
    }
    // The same zip file in two projects sees different packages beside it.
    hasher.update(zip.as_os_str().as_encoded_bytes());
    let root = under.join(hex::encode(&hasher.finalize()[..16]));
    let modules = modules_above(zip);
    let code = modules.iter().fold(root.clone(), |directory, _| directory.join("in")).join("code");
    if code.is_dir() {
        return Ok(code);
    }
    let mut directory = root;
    for above in &modules {
        fs::create_dir_all(&directory)?;
        match symlink(above, directory.join("node_modules")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => directory.push("in"),
        }
    }
    fs::create_dir_all(&directory)?;
    // Under another name until it is complete: another process of the function may look at the same time.
    let partial = tempfile::Builder::new().prefix("partial-").tempdir_in(&directory)?;
    extract(&mut ZipArchive::new(fs::File::open(zip)?)?, partial.path(), bytes_max)?;
    match fs::rename(partial.path(), &code) {
        Err(_) if code.is_dir() => {}
        renamed => renamed?,
    }
    Ok(code)
}

/// Unpacks the bytes of a zip file, and checks that nothing of it is elsewhere or leads there.
#[cfg(feature = "fuzzing")]
pub(crate) fn unpack_bytes(bytes: &[u8]) {
    fn check(directory: &Path, root: &Path) {
        for entry in fs::read_dir(directory).expect("a directory").flatten() {
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                check(&entry.path(), root);
            } else if let Ok(target) = fs::canonicalize(entry.path()) {
                assert!(target.starts_with(root), "{} leads to {}", entry.path().display(), target.display());
            }
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let zip = directory.path().join("code.zip");
    fs::write(&zip, bytes).expect("written");
    let under = directory.path().join("under");
    match unpack_at_most(1 << 20, &zip, &under) {
        Ok(code) => check(&code, &fs::canonicalize(&code).expect("a directory")),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(fs::read_dir(directory.path()).expect("a directory").count() <= 2, "something is beside it");
}

/// The directories `node_modules` above a zip file, the outermost first.
fn modules_above(zip: &Path) -> Vec<PathBuf> {
    let above = zip.ancestors().skip(1).map(|directory| directory.join("node_modules"));
    let mut found: Vec<PathBuf> = above.filter(|modules| modules.is_dir()).take(NODE_MODULES_MAX).collect();
    found.reverse();
    found
}

fn extract<R: Read + io::Seek>(
    archive: &mut ZipArchive<R>,
    directory: &Path,
    bytes_max: u64,
) -> Result<(), ArchiveError> {
    if archive.len() > ENTRIES_MAX {
        return Err(ArchiveError::TooManyEntries);
    }
    let mut left = bytes_max;
    // Links come after everything else, so that nothing is written through one.
    let mut links = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.enclosed_name().filter(|name| name.components().next().is_some());
        // The name of a file elsewhere is not one below the directory, although it would become that.
        let name = name.filter(|_| !entry.name_raw().starts_with(b"/"));
        let name = name.ok_or_else(|| ArchiveError::Name(printable(entry.name_raw())))?;
        let path = directory.join(&name);
        if entry.is_symlink() {
            let mut target = String::new();
            entry.by_ref().take(LINK_BYTES_MAX).read_to_string(&mut target)?;
            links.push((name, PathBuf::from(target)));
        } else if entry.is_dir() {
            fs::create_dir_all(&path)?;
        } else {
            path.parent().map(fs::create_dir_all).transpose()?;
            let mode = entry.unix_mode();
            let written = if has_no_size(&entry) {
                drop(entry);
                write_file(&mut DeflateDecoder::new(archive.by_index_raw(index)?), &path, mode, left)?
            } else {
                write_file(&mut entry, &path, mode, left)?
            };
            left = written.ok_or(ArchiveError::TooLarge(bytes_max))?;
        }
    }
    for (name, target) in links {
        let path = directory.join(&name);
        path.parent().map(fs::create_dir_all).transpose()?;
        if !is_inside(directory, &name, &target) {
            return Err(ArchiveError::Link(printable(name.as_os_str().as_encoded_bytes())));
        }
        symlink(target, path)?;
    }
    Ok(())
}

/// Whether an entry has contents and says that it has none: an old Serverless Framework under a new Node.js writes
/// zeros for sizes and checksums. An empty file has two bytes when it is compressed.
fn has_no_size<R: Read>(entry: &ZipFile<'_, R>) -> bool {
    let is_deflated = entry.compression() == CompressionMethod::Deflated;
    is_deflated && entry.size() == 0 && entry.crc32() == 0 && entry.compressed_size() > 2
}

/// Writes a file, and returns how many bytes may still be unpacked. `None` if it has more than that.
fn write_file(file: &mut impl Read, path: &Path, mode: Option<u32>, left: u64) -> io::Result<Option<u64>> {
    // Zip files of Windows have no mode. Lambda's files are readable, and programs have to be executable.
    let mode = mode.map_or(0o755, |mode| mode & 0o777 | 0o600);
    let written = io::copy(&mut file.take(left + 1), &mut fs::File::create(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(left.checked_sub(written))
}

/// Whether a link leads to a place in the directory, whatever the links on its way are: the link lies in directories
/// that are no links, and its target only goes down after it has gone up.
fn is_inside(directory: &Path, name: &Path, target: &Path) -> bool {
    let mut parent = directory.to_owned();
    let mut depth = 0_usize;
    for part in name.parent().into_iter().flat_map(Path::components) {
        parent.push(part);
        depth += 1;
        if !parent.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return false;
        }
    }
    let mut goes_down = false;
    target.components().all(|part| match part {
        Component::CurDir => true,
        Component::Normal(_) => {
            goes_down = true;
            true
        }
        Component::ParentDir if !goes_down && depth > 0 => {
            depth -= 1;
            true
        }
        _ => false,
    })
}

/// A name from a zip file, as an error can show it.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(200)]).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn zip_of(directory: &Path, write: impl FnOnce(&mut ZipWriter<fs::File>)) -> PathBuf {
        let path = directory.join("code.zip");
        let mut zip = ZipWriter::new(fs::File::create(&path).expect("created"));
        write(&mut zip);
        zip.finish().expect("written");
        path
    }

    fn add(zip: &mut ZipWriter<fs::File>, name: &str, text: &[u8], mode: u32) {
        zip.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).expect("started");
        zip.write_all(text).expect("written");
    }

    #[test]
    fn files_modes_and_links_are_unpacked_once_and_packages_of_the_project_are_seen() {
        let project = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(project.path().join("node_modules/greet")).expect("created");
        let packaged = project.path().join(".serverless");
        fs::create_dir(&packaged).expect("created");
        let zip = zip_of(&packaged, |zip| {
            add(zip, "bootstrap", b"#!/bin/sh", 0o755);
            add(zip, "lib/a.js", b"a", 0o644);
            zip.add_symlink("lib/b.js", "a.js", SimpleFileOptions::default()).expect("written");
            zip.add_symlink("top.js", "lib/b.js", SimpleFileOptions::default()).expect("written");
            zip.add_symlink("lib/up.js", "../top.js", SimpleFileOptions::default()).expect("written");
        });
        let under = tempfile::tempdir().expect("a directory");
        let code = unpack(&zip, under.path()).expect("unpacked");
        assert_eq!(fs::read_to_string(code.join("lib/up.js")).expect("a link"), "a");
        let mode = |name: &str| fs::metadata(code.join(name)).expect("a file").permissions().mode() & 0o777;
        assert_eq!((mode("bootstrap"), mode("lib/a.js")), (0o755, 0o644));
        let seen = code.ancestors().skip(1).find(|above| above.join("node_modules/greet").is_dir());
        assert!(seen.is_some_and(|above| above.starts_with(under.path())), "{seen:?}");
        fs::write(code.join("mark"), "").expect("written");
        assert_eq!(unpack(&zip, under.path()).expect("known"), code);
        assert!(code.join("mark").exists(), "unpacked once");
        zip_of(&packaged, |zip| add(zip, "lib/a.js", b"changed", 0o644));
        assert_ne!(unpack(&zip, under.path()).expect("unpacked"), code);
    }

    #[test]
    fn a_file_whose_size_is_written_as_zero_is_unpacked_within_the_same_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "exports.handler = 1;".repeat(1_000);
        let zip = zip_of(directory.path(), |zip| {
            add(zip, "index.js", text.as_bytes(), 0o644);
            add(zip, "empty", b"", 0o644);
        });
        // Zeros for the checksum and the size, in the entry of the file itself and in the list at the end.
        let mut bytes = fs::read(&zip).expect("read");
        for (signature, checksum) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16)] {
            let at = bytes.windows(4).position(|four| four == signature).expect("a header") + checksum;
            bytes[at..at + 4].fill(0);
            bytes[at + 8..at + 12].fill(0);
        }
        fs::write(&zip, bytes).expect("written");
        let under = directory.path().join("under");
        let error = unpack_at_most(text.len() as u64 - 1, &zip, &under).expect_err("too large").to_string();
        assert!(error.starts_with("it unpacks to more than"), "{error}");
        let code = unpack(&zip, &under).expect("unpacked");
        assert_eq!(fs::read_to_string(code.join("index.js")).expect("read"), text);
        assert_eq!(fs::read_to_string(code.join("empty")).expect("read"), "");
    }

    #[test]
    fn what_leads_out_of_the_directory_is_refused() {
        let check = |expected: &str, write: &dyn Fn(&mut ZipWriter<fs::File>)| {
            let directory = tempfile::tempdir().expect("a directory");
            let zip = zip_of(directory.path(), write);
            let under = directory.path().join("under");
            let error = unpack(&zip, &under).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!directory.path().join("out").exists());
        };
        let link = |zip: &mut ZipWriter<fs::File>, name: &str, target: &str| {
            zip.add_symlink(name, target, SimpleFileOptions::default()).expect("written");
        };
        check("../../../out leads out of the zip file", &|zip| add(zip, "../../../out", b"x", 0o644));
        check("the link etc leads out", &|zip| link(zip, "etc", "/etc"));
        check("the link up leads out", &|zip| link(zip, "up", ".."));
        check("the link a/up leads out", &|zip| link(zip, "a/up", "../../out"));
        check("the link b/c leads out", &|zip| {
            add(zip, "x/y", b"", 0o644);
            link(zip, "b", "x");
            link(zip, "b/c", "../..");
        });
        check("the link a/b/up leads out", &|zip| {
            add(zip, "d/x", b"", 0o644);
            link(zip, "a/b/down", "../../d");
            link(zip, "a/b/up", "down/../../out");
        });
    }

    #[test]
    fn a_name_from_the_root_is_refused_and_not_taken_for_one_below_the_directory() {
        let directory = tempfile::tempdir().expect("a directory");
        // What writes zip files takes the slash away, so that it is put there afterwards.
        let zip = zip_of(directory.path(), |zip| add(zip, "_etc/out", b"x", 0o644));
        let mut bytes = fs::read(&zip).expect("read");
        while let Some(at) = bytes.windows(8).position(|name| name == b"_etc/out") {
            bytes[at] = b'/';
        }
        fs::write(&zip, bytes).expect("written");
        let error = unpack(&zip, &directory.path().join("under")).expect_err("from the root").to_string();
        assert_eq!(error, "the name /etc/out leads out of the zip file");
    }

    #[test]
    fn what_would_fill_the_disk_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let zip = zip_of(directory.path(), |zip| {
            let zeros = vec![0; 1 << 20];
            zip.start_file("zeros", SimpleFileOptions::default()).expect("started");
            zip.write_all(&zeros).expect("written");
            zip.write_all(&[0]).expect("written");
        });
        let under = directory.path().join("under");
        let error = unpack_at_most(1 << 20, &zip, &under).expect_err("too large").to_string();
        assert_eq!(error, "it unpacks to more than 1 MB, the limit of Lambda");
        let kept = fs::read_dir(&under).expect("a directory").flatten().flat_map(|entry| fs::read_dir(entry.path()));
        assert_eq!(kept.flatten().count(), 0);
        unpack_at_most((1 << 20) + 1, &zip, &under).expect("within the bound");
        fs::write(&zip, "no zip file").expect("written");
        assert!(unpack(&zip, &under).is_err());
    }
}
