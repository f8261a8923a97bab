//! Fetching a libtorch with pip, and laying it out in the cache.
//!
//! PyTorch's Python wheel holds the whole of libtorch, and pip knows mirrors, proxies and checksums. All work is
//! done in a folder beside the final one, which gets its name only when it is complete: a set-up that is killed
//! leaves nothing that could be taken for a libtorch.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use zip::ZipArchive;

use crate::error::{Error, Result, file, megabytes};
use crate::libtorch::{self, Flavour, VERSION};
use crate::places::Places;
use crate::process;
use crate::tools;

/// What folders in the making are called.
const UNFINISHED: &str = ".unfinished-";

const MEGABYTE: u64 = 1_000_000;

/// What pip has to fetch for a kind of machine.
struct Parcel {
    packages: Vec<String>,
    /// pip's tags for machines whose packages run here, newest first.
    platforms: Vec<String>,
    /// Sizes in bytes: fetched over the network, kept, and used at the worst moment.
    download: u64,
    disk: u64,
    peak: u64,
}

impl Parcel {
    /// What to fetch for this machine.
    fn find(flavour: Flavour) -> Result<Parcel> {
        let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
        let system = || format!("{architecture} {os}");
        let torch = format!("torch=={VERSION}");
        // libtorch_cpu.so of the Linux wheels is linked to these two, even where no card is.
        let linux = vec![
            torch.clone(),
            "nvidia-cuda-runtime==13.0.96".to_string(),
            "nvidia-cuda-cupti==13.0.85".to_string(),
        ];
        let parcel = |packages, platforms, [download, disk, peak]: [u64; 3]| Parcel {
            packages,
            platforms,
            download: download * MEGABYTE,
            disk: disk * MEGABYTE,
            peak: peak * MEGABYTE,
        };
        match (flavour, os, architecture) {
            (Flavour::Cuda, "linux", "x86_64") => {
                Ok(parcel(vec![torch], manylinux(architecture), [2750, 3900, 7800]))
            }
            (Flavour::Cuda, ..) => Err(Error::NoCuda { system: system() }),
            (Flavour::Cpu, "linux", "x86_64") => {
                Ok(parcel(linux, manylinux(architecture), [540, 485, 1200]))
            }
            (Flavour::Cpu, "linux", "aarch64") => {
                Ok(parcel(linux, manylinux(architecture), [440, 370, 1000]))
            }
            (Flavour::Cpu, "macos", "aarch64") => Ok(parcel(
                vec![torch],
                vec!["macosx_14_0_arm64".to_string()],
                [111, 410, 600],
            )),
            (Flavour::Cpu, ..) => Err(Error::UnknownSystem { system: system() }),
        }
    }
}

/// The tags of Linux packages, down to the oldest that are still in use.
fn manylinux(architecture: &str) -> Vec<String> {
    let numbered =
        (17..=28).rev().map(|glibc| format!("manylinux_2_{glibc}_{architecture}"));
    numbered.chain([format!("manylinux2014_{architecture}")]).collect()
}

/// The libtorch in the cache; fetched first, if it is not there.
pub fn from_cache_or_network(places: &Places, flavour: Flavour) -> Result<PathBuf> {
    let finished = places.cache.join(format!("libtorch-{VERSION}-{}", flavour.name()));
    let libtorch = match flavour {
        Flavour::Cpu => finished.clone(),
        // Its libraries look for NVIDIA's beside the package, two folders up.
        Flavour::Cuda => finished.join("site/torch"),
    };
    if libtorch::check(&libtorch).is_ok() {
        return Ok(libtorch);
    }
    let parcel = Parcel::find(flavour)?;
    let python = tools::python_with_pip()?;
    let _lock = lock(&places.cache)?;
    if libtorch::check(&libtorch).is_ok() {
        return Ok(libtorch); // another set-up made it while this one waited
    }
    sweep(&places.cache)?;
    if finished.exists() {
        fs::remove_dir_all(&finished).map_err(file("removing the damaged", &finished))?;
    }
    tools::need_space(
        &places.cache,
        parcel.peak,
        &format!("libtorch {VERSION}"),
        "Make room, or name a folder on another disk: SELF_ATTENTION_CACHE=/path cargo xtask setup",
    )?;
    println!(
        "libtorch {VERSION}, {}: {} to download, {} on disk in {}",
        flavour.name().to_uppercase(),
        megabytes(parcel.download),
        megabytes(parcel.disk),
        finished.display()
    );
    let workshop = workshop(&places.cache)?;
    let layout = workshop.path().join("libtorch");
    match flavour {
        Flavour::Cpu => lay_out_cpu(&parcel, &python, workshop.path(), &layout)?,
        Flavour::Cuda => lay_out_cuda(&parcel, &python, workshop.path(), &layout)?,
    }
    fs::rename(&layout, &finished).map_err(file("naming", &finished))?;
    match libtorch::check(&libtorch) {
        Ok(()) => Ok(libtorch),
        Err(unfit) => Err(Error::Pip {
            what: format!("libtorch {VERSION}"),
            said: format!("got {unfit:?}"),
        }),
    }
}

/// A folder to work in beside the final one.
pub fn workshop(cache: &Path) -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(cache);
    folder.map_err(file("making a folder in", cache))
}

/// Waits until no other set-up works in the cache. The lock ends with the returned file, or with this program.
pub fn lock(cache: &Path) -> Result<File> {
    let path = cache.join("lock");
    let lock = File::create(&path).map_err(file("making", &path))?;
    if lock.try_lock().is_err() {
        println!("Another set-up is at work; waiting for it.");
        lock.lock().map_err(file("locking", &path))?;
    }
    Ok(lock)
}

/// Removes what killed set-ups left. Only the holder of the lock may. A pip that outlived its set-up may still write
/// there; then the rest goes the next time.
pub fn sweep(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache).map_err(file("reading", cache))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// The parts of the wheels that a CPU needs: `lib/` and `include/`.
fn lay_out_cpu(
    parcel: &Parcel,
    python: &str,
    workshop: &Path,
    layout: &Path,
) -> Result<()> {
    let wheels = workshop.join("wheels");
    pip(parcel, python, workshop, &["download", "--no-deps", "--dest"], &wheels)?;
    let wheels: Vec<PathBuf> = fs::read_dir(&wheels)
        .map_err(file("reading", &wheels))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    for wheel in &wheels {
        unpack(wheel, layout)?;
    }
    if cfg!(target_os = "linux") {
        // The wheel's own libtorch.so is empty but for needing libtorch_cuda.so; this text stands in for it.
        write(&layout.join("lib/libtorch.so"), "INPUT(libtorch_cpu.so)\n")?;
    }
    write(&layout.join("build-version"), &format!("{VERSION}+cpu\n"))
}

/// PyTorch with all of NVIDIA's libraries, less what only Python needs.
fn lay_out_cuda(
    parcel: &Parcel,
    python: &str,
    workshop: &Path,
    layout: &Path,
) -> Result<()> {
    let site = layout.join("site");
    pip(parcel, python, workshop, &["install", "--target"], &site)?;
    keep_only(&site, &["torch", "nvidia"])?;
    keep_only(&site.join("torch"), &["lib", "include"])?;
    write(&site.join("torch/build-version"), &format!("{VERSION}+cu130\n"))
}

/// Has pip bring packages for this machine, whatever Python it runs on itself.
fn pip(
    parcel: &Parcel,
    python: &str,
    workshop: &Path,
    task: &[&str],
    folder: &Path,
) -> Result<()> {
    let temporary = workshop.join("pip");
    fs::create_dir_all(&temporary).map_err(file("making", &temporary))?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "--disable-pip-version-check"]).args(task).arg(folder);
    pip.args([
        "--no-cache-dir",
        "--only-binary=:all:",
        "--python-version=3.12",
        "--implementation=cp",
        "--abi=cp312",
    ]);
    pip.args(parcel.platforms.iter().map(|platform| format!("--platform={platform}")));
    pip.args(&parcel.packages);
    // Half a gigabyte may be more than the usual folder for temporary files holds.
    pip.env("TMPDIR", &temporary);
    plain_pip(&mut pip);
    let (status, said) = process::watch(&mut pip)?;
    if status.success() {
        Ok(())
    } else {
        Err(diagnose(&said, python, &parcel.packages[0]))
    }
}

/// Undoes settings that suit daily work with pip, but not this.
pub fn plain_pip(pip: &mut Command) {
    pip.env("PIP_USER", "0")
        .env("PIP_REQUIRE_VIRTUALENV", "0")
        .env("PIP_ROOT_USER_ACTION", "ignore");
}

/// What pip's complaint comes down to.
pub fn diagnose(said: &str, python: &str, package: &str) -> Error {
    let what = package.to_string();
    let errors: Vec<_> = said.lines().filter(|line| line.contains("ERROR:")).collect();
    let said_last =
        errors.last().copied().unwrap_or("it gave no reason").trim().to_string();
    // Without a network, pip ends by saying that there is no such package, too.
    if process::speaks_of_no_network(said) {
        Error::NoNetwork { what }
    } else if said.contains("No matching distribution") {
        Error::NoPackage { what, python: python.to_string(), said: said_last }
    } else {
        Error::Pip { what, said: said_last }
    }
}

/// Unpacks what is wanted of a wheel, with a progress bar.
fn unpack(wheel: &Path, layout: &Path) -> Result<()> {
    let bad = |source| Error::Package { path: wheel.to_path_buf(), source };
    let mut archive = ZipArchive::new(File::open(wheel).map_err(file("opening", wheel))?)
        .map_err(bad)?;
    let mut picked = Vec::new();
    let mut bytes = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(bad)?;
        if entry.is_dir() {
            continue;
        }
        if let Some(place) = entry.enclosed_name().as_deref().and_then(place_of) {
            bytes += entry.size();
            picked.push((index, place));
        }
    }
    let style = ProgressStyle::with_template(
        "  unpacking {bar:40} {decimal_bytes}/{decimal_total_bytes}",
    );
    let bar = ProgressBar::new(bytes)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    for (index, place) in picked {
        let path = layout.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file("making", folder))?;
        }
        let mut entry = archive.by_index(index).map_err(bad)?;
        let mut unpacked = File::create(&path).map_err(file("making", &path))?;
        std::io::copy(&mut entry, &mut bar.wrap_write(&mut unpacked))
            .map_err(file("unpacking", &path))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Where a file of a wheel belongs in the libtorch, if it does.
fn place_of(entry: &Path) -> Option<PathBuf> {
    if let Ok(header) = entry.strip_prefix("torch/include") {
        return Some(Path::new("include").join(header));
    }
    let name = entry.file_name()?.to_str()?;
    let folder = entry.parent()?;
    let needed = match folder.to_str()? {
        "torch/lib" => !needs_python_or_card(name),
        "nvidia/cu13/lib" => {
            name.starts_with("libcudart.so.") || name.starts_with("libcupti.so.")
        }
        _ => false,
    };
    needed.then(|| Path::new("lib").join(name))
}

/// Whether a library of the wheel serves Python or an NVIDIA card only.
fn needs_python_or_card(name: &str) -> bool {
    name == "libtorch.so"
        || ["cuda", "nvrtc", "nvshmem", "python", "shm", "global_deps"]
            .iter()
            .any(|part| name.contains(part))
}

/// Removes everything from a folder but these.
fn keep_only(folder: &Path, kept: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(file("reading", folder))?.flatten() {
        let path = entry.path();
        if kept.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(file("removing", path))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(file("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(entry: &str) -> Option<PathBuf> {
        place_of(Path::new(entry))
    }

    #[test]
    fn a_cpu_needs_headers_and_few_libraries() {
        assert_eq!(
            place("torch/include/torch/script.h"),
            Some("include/torch/script.h".into())
        );
        assert_eq!(
            place("torch/lib/libtorch_cpu.so"),
            Some("lib/libtorch_cpu.so".into())
        );
        assert_eq!(place("torch/lib/libgomp.so.1"), Some("lib/libgomp.so.1".into()));
        assert_eq!(
            place("torch/lib/libnvpl_blas_core.so.0"),
            Some("lib/libnvpl_blas_core.so.0".into())
        );
        assert_eq!(place("torch/lib/libtorch.dylib"), Some("lib/libtorch.dylib".into()));
        assert_eq!(
            place("nvidia/cu13/lib/libcudart.so.13"),
            Some("lib/libcudart.so.13".into())
        );
        for unneeded in [
            "torch/lib/libtorch.so",
            "torch/lib/libtorch_cuda.so",
            "torch/lib/libtorch_python.so",
            "torch/lib/libshm/err.h",
            "torch/__init__.py",
            "nvidia/cu13/include/cuda.h",
        ] {
            assert_eq!(place(unneeded), None, "{unneeded}");
        }
    }

    #[test]
    fn pips_complaints_are_told_apart() {
        let offline = "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError'\n\
                       ERROR: No matching distribution found for torch==2.13.0\n";
        assert!(matches!(diagnose(offline, "python3", "torch"), Error::NoNetwork { .. }));
        let absent = "ERROR: Could not find a version\nERROR: No matching distribution found for torch==2.13.0\n";
        assert!(matches!(diagnose(absent, "python3", "torch"), Error::NoPackage { .. }));
        let full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n";
        let Error::Pip { said, .. } = diagnose(full, "python3", "torch") else {
            panic!("a full disk is neither")
        };
        assert!(said.contains("No space left on device"));
    }
}
