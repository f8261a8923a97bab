//! A Python that has PyTorch: the one that is asked for, the user's own, or one whose packages lie in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, file};
use crate::fetch;
use crate::libtorch::VERSION;
use crate::places::Places;
use crate::process;
use crate::tools;

/// What `benches/pytorch/compare.py` imports beside PyTorch: whatever suits the Python that is there.
const PACKAGES: [&str; 2] = ["numpy>=1.26", "safetensors>=0.5"];

/// g2p-en with all that its network needs. The rest of what it would bring is for sentences, and is left out.
const G2P_EN: [&str; 5] = [
    "g2p-en==2.1.0",
    "inflect==7.5.0",
    "more-itertools==10.8.0",
    "typeguard==4.4.4",
    "typing-extensions",
];

/// What the packages take while they are unpacked, and once they are: PyTorch for Linux comes with CUDA.
const PEAK: u64 = 9_000_000_000;

/// Prints the version of PyTorch if everything is there that the workers import.
const ASK: &str = "import numpy, safetensors.torch, torch; print(torch.__version__)";

/// A Python interpreter and where else it looks for packages.
#[derive(Debug, Clone)]
pub struct Python {
    program: PathBuf,
    packages: Option<PathBuf>,
}

impl Python {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(packages) = &self.packages {
            command.env("PYTHONPATH", packages);
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// The version of its PyTorch, without the build.
    fn torch(&self) -> Option<String> {
        let version = process::answer(self.command().args(["-c", ASK]))?;
        version.split('+').next().map(str::to_string)
    }

    fn has_g2p_en(&self) -> bool {
        const ASK: &str = "import importlib.util as u, sys; sys.exit(not (u.find_spec('g2p_en') and u.find_spec('inflect')))";
        process::answer(self.command().args(["-c", ASK])).is_some()
    }

    /// A Python with PyTorch, NumPy and safetensors. What is missing is brought into the cache.
    pub fn obtain(places: &Places, asked: Option<&Path>) -> Result<Python> {
        if let Some(program) = asked {
            let python = Python { program: program.to_path_buf(), packages: None };
            return match python.torch() {
                Some(version) if version == VERSION => Ok(python),
                found => Err(Error::UnfitPython { python: program.to_path_buf(), found }),
            };
        }
        let program = PathBuf::from(tools::python()?);
        let own = Python { program: program.clone(), packages: None };
        if own.torch().as_deref() == Some(VERSION) {
            return Ok(own);
        }
        const WHICH: &str = "import sys; print('cp%d%d' % sys.version_info[:2])";
        let which = process::answer(Command::new(&program).args(["-c", WHICH]));
        let which = which.unwrap_or_default();
        let finished = places.cache.join(format!("python-{VERSION}-{which}"));
        let cached = Python { program, packages: Some(finished.clone()) };
        if cached.torch().as_deref() == Some(VERSION) {
            return Ok(cached);
        }
        let _lock = fetch::lock(&places.cache)?;
        fetch::sweep(&places.cache)?;
        if finished.exists() {
            fs::remove_dir_all(&finished)
                .map_err(file("removing the damaged", &finished))?;
        }
        let cure = "Make room, name a folder on another disk with SELF_ATTENTION_CACHE, or a Python that has it all with --python.";
        tools::need_space(&places.cache, PEAK, &format!("PyTorch {VERSION}"), cure)?;
        println!("PyTorch {VERSION} for Python, once, into {}", finished.display());
        let workshop = fetch::workshop(&places.cache)?;
        let torch = format!("torch=={VERSION}");
        let packages: Vec<&str> = [torch.as_str()].into_iter().chain(PACKAGES).collect();
        let site = workshop.path().join("site");
        cached.install(workshop.path(), &site, &packages, &[])?;
        fs::rename(&site, &finished).map_err(file("naming", &finished))?;
        match cached.torch() {
            Some(version) if version == VERSION => Ok(cached),
            found => Err(Error::UnfitPython { python: cached.program, found }),
        }
    }

    /// The same Python with g2p-en, brought into the cache if it is not there.
    pub fn with_g2p_en(&self, places: &Places) -> Result<Python> {
        if self.has_g2p_en() {
            return Ok(self.clone());
        }
        let finished = places.cache.join("g2p-en-2.1.0");
        let mut paths: Vec<PathBuf> = vec![finished.clone()];
        paths.extend(self.packages.clone());
        let joined = std::env::join_paths(paths).unwrap_or_default();
        let python =
            Python { program: self.program.clone(), packages: Some(joined.into()) };
        if python.has_g2p_en() {
            return Ok(python);
        }
        let _lock = fetch::lock(&places.cache)?;
        if finished.exists() {
            fs::remove_dir_all(&finished)
                .map_err(file("removing the damaged", &finished))?;
        }
        let workshop = fetch::workshop(&places.cache)?;
        let site = workshop.path().join("site");
        self.install(workshop.path(), &site, &G2P_EN, &["--no-deps"])?;
        fs::rename(&site, &finished).map_err(file("naming", &finished))?;
        Ok(python)
    }

    fn install(
        &self,
        workshop: &Path,
        site: &Path,
        packages: &[&str],
        options: &[&str],
    ) -> Result<()> {
        let program = tools::python_with_pip()?;
        let temporary = workshop.join("pip");
        fs::create_dir_all(&temporary).map_err(file("making", &temporary))?;
        // pip runs under the Python that will use the packages.
        let mut pip = Command::new(&self.program);
        pip.args(["-m", "pip", "--disable-pip-version-check", "install"]);
        pip.args(["--no-cache-dir", "--only-binary=:all:"]).args(options);
        pip.arg("--target").arg(site).args(packages);
        pip.env("TMPDIR", &temporary);
        fetch::plain_pip(&mut pip);
        let (status, said) = process::watch(&mut pip)?;
        match status.success() {
            true => Ok(()),
            false => Err(fetch::diagnose(&said, &program, packages[0])),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that answers like a Python whose PyTorch is of that version.
    fn pretend(folder: &Path, version: &str) -> PathBuf {
        let path = folder.join("python");
        fs::write(&path, format!("#!/bin/sh\n{version}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_python_that_is_asked_for_must_have_the_right_pytorch() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let places = Places { root: root.clone(), cache: root };
        let obtain = |script: &str| {
            let program = pretend(folder.path(), script);
            Python::obtain(&places, Some(&program))
        };
        assert!(obtain(&format!("echo {VERSION}+cu130")).is_ok());
        let error = obtain("echo 2.4.0").unwrap_err().to_string();
        assert!(error.contains("has PyTorch 2.4.0"), "{error}");
        let error = obtain("exit 1").unwrap_err().to_string();
        assert!(error.contains("has no PyTorch, NumPy or safetensors"), "{error}");
    }
}
