//! What must be on the machine, and mdbook, which can be brought there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::browser;
use crate::error::{Error, Result, file};
use crate::places::{Places, variable};
use crate::process;

/// The mdbook that set-up installs where there is none; any 0.5 will do.
const MDBOOK: &str = "0.5.4";

/// The first CUDA driver that runs what CUDA 13 compiled.
const DRIVER: u32 = 580;

/// The Python that torch-sys would call, checked to be a Python 3.
pub fn python() -> Result<String> {
    let names = if variable("VIRTUAL_ENV").is_some() {
        ["python", "python3"]
    } else {
        ["python3", "python"]
    };
    let is_python_3 = |name: &str| {
        process::answer(Command::new(name).arg("--version"))
            .is_some_and(|version| version.starts_with("Python 3."))
    };
    match names.into_iter().find(|name| is_python_3(name)) {
        Some(name) => Ok(name.to_string()),
        None => Err(Error::NoPython { tried: names.join(" and ") }),
    }
}

/// A Python 3 that has pip.
pub fn python_with_pip() -> Result<String> {
    let python = python()?;
    match process::answer(Command::new(&python).args(["-m", "pip", "--version"])) {
        Some(_) => Ok(python),
        None => Err(Error::NoPip { python }),
    }
}

/// The first line the C++ compiler says of itself. It is found as the crate `cc` finds it.
pub fn compiler() -> Result<String> {
    let name =
        variable("CXX").unwrap_or_else(|| "c++".into()).to_string_lossy().into_owned();
    let mut words = name.split_whitespace(); // CXX may be "ccache g++"
    let version = process::answer(
        Command::new(words.next().unwrap_or("c++")).args(words).arg("--version"),
    );
    match version.as_deref().and_then(|version| version.lines().next()) {
        Some(line) => Ok(line.to_string()),
        None => Err(Error::NoCompiler { tried: name }),
    }
}

/// An NVIDIA card, and what its driver can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    None,
    /// The driver is older than CUDA 13 needs.
    OldDriver(u32),
    Usable,
}

/// Looks for an NVIDIA card.
pub fn card() -> Card {
    let driver = process::answer(
        Command::new("nvidia-smi")
            .args(["--query-gpu=driver_version", "--format=csv,noheader"]),
    );
    let version =
        driver.as_deref().and_then(|driver| driver.split('.').next()?.parse().ok());
    match version {
        Some(version) if version < DRIVER => Card::OldDriver(version),
        Some(_) => Card::Usable,
        None if Path::new("/dev/nvidia0").exists() => Card::Usable,
        None => Card::None,
    }
}

/// An mdbook 0.5: the one on the PATH, cargo's, or one of our own; if there is none, cargo builds it.
pub fn mdbook(places: &Places) -> Result<PathBuf> {
    let own = places.cache.join(format!("mdbook-{MDBOOK}"));
    let cargo_home = variable("CARGO_HOME")
        .map(PathBuf::from)
        .or(std::env::home_dir().map(|home| home.join(".cargo")));
    let cargos = cargo_home.unwrap_or_default().join("bin/mdbook");
    let candidates = [PathBuf::from("mdbook"), cargos.clone(), own.join("bin/mdbook")];
    let versions = candidates.clone().map(|candidate| mdbook_version(&candidate));
    for (candidate, version) in candidates.iter().zip(&versions) {
        if version.as_ref().is_some_and(|version| version.starts_with("0.5.")) {
            return Ok(candidate.clone());
        }
    }
    let theirs = versions.into_iter().flatten().next();
    println!("mdbook {MDBOOK}: cargo builds it, two to four minutes of compiling");
    let mut install = places.cargo();
    install.args(["install", "--locked", "mdbook", "--version", MDBOOK]);
    let installed = match &theirs {
        // Another mdbook belongs to other books: it stays, and ours goes beside it.
        Some(version) => {
            println!("  (mdbook {version} stays as it is; this book needs 0.5)");
            install.arg("--root").arg(&own);
            own.join("bin/mdbook")
        }
        None => cargos,
    };
    let (status, said) = process::watch(&mut install)?;
    match mdbook_version(&installed) {
        Some(_) if status.success() => Ok(installed),
        _ if process::speaks_of_no_network(&said) => {
            Err(Error::NoNetwork { what: format!("mdbook {MDBOOK}") })
        }
        _ => Err(Error::Mdbook),
    }
}

pub fn mdbook_version(program: &Path) -> Option<String> {
    let answer = process::answer(Command::new(program).arg("--version"))?;
    Some(answer.strip_prefix("mdbook v")?.to_string())
}

/// A browser for the tests of the pages. Where there is none and packages may be installed, Debian's is.
pub fn browser() -> Option<PathBuf> {
    browser::find().or_else(|| {
        let user = process::answer(Command::new("id").arg("-u"));
        let has_apt = process::answer(Command::new("apt-get").arg("--version")).is_some();
        if user.as_deref() != Some("0") || !has_apt {
            return None;
        }
        println!("chromium: apt-get installs it, for the tests of the pages");
        let install = ["install", "--yes", "--no-install-recommends", "chromium"];
        for arguments in [&["update"][..], &install] {
            let mut apt = Command::new("apt-get");
            apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
            process::follow(apt.stdout(Stdio::null())).ok()?;
        }
        browser::find()
    })
}

/// Fails if a file system has too little room.
pub fn need_space(
    path: &Path,
    needed: u64,
    what: &str,
    cure: &'static str,
) -> Result<()> {
    let available =
        fs4::available_space(path).map_err(file("asking for the free space of", path))?;
    enough(path, needed, available, what, cure)
}

fn enough(
    path: &Path,
    needed: u64,
    available: u64,
    what: &str,
    cure: &'static str,
) -> Result<()> {
    if available >= needed {
        return Ok(());
    }
    Err(Error::LittleSpace {
        what: what.to_string(),
        path: path.to_path_buf(),
        needed,
        available,
        cure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_disk_says_how_much_is_there_and_how_much_is_needed() {
        let path = Path::new("cache");
        assert!(enough(path, 5, 5, "libtorch", "").is_ok());
        let error = enough(path, 1_600_000_000, 75_000_000, "libtorch", "Make room.")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "too little disk space for libtorch: cache has 75 MB free, and 1.6 GB are needed\n  Make room."
        );
    }

    #[test]
    fn no_file_system_has_all_the_space_there_could_be() {
        assert!(need_space(&std::env::temp_dir(), 1, "nothing", "").is_ok());
        assert!(need_space(&std::env::temp_dir(), u64::MAX, "everything", "").is_err());
    }
}
