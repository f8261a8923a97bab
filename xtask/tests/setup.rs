//! Set-up on machines that lack something, played by stub programs: nothing is fetched and nothing is built.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const VERSION_HEADER: &str = "include/torch/headeronly/version.h";

/// A pip that copies the wheels of the test instead of fetching them.
const GOOD_PIP: &str = r#"
    while [ "$1" != --dest ]; do shift; done
    mkdir -p "$2" && cp "$WHEELS"/*.whl "$2"
"#;

/// A machine with a C++ compiler, an mdbook and an empty cache, and a fresh clone on it.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for name in ["bin", "cache", "clone/xtask", "cargo/bin", "wheels"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let machine = Machine { folder };
        machine.program("c++", "echo 'c++ 12.2.0'");
        machine.program("mdbook", "echo 'mdbook v0.5.4'");
        machine.program("cargo", r#"echo "$@" >> "$CALLS""#);
        // So that a card in the machine that runs the tests makes no difference.
        machine.program("nvidia-smi", "echo 470.1");
        machine
    }

    /// The same with a Python whose pip does what the script says.
    fn with_pip(script: &str) -> Machine {
        let machine = Machine::new();
        let python = format!(
            r#"case "$*" in
            --version) echo 'Python 3.11.7' ;;
            '-m pip --version') echo 'pip 23.2.1' ;;
            *) echo "$@" >> "$CALLS"; {script} ;;
            esac"#
        );
        machine.program("python3", &python);
        machine.wheel();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a program on the PATH.
    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn without(self, name: &str) -> Machine {
        fs::remove_file(self.path("bin").join(name)).unwrap();
        self
    }

    /// A wheel with the files that matter, and some that do not.
    fn wheel(&self) {
        let mut wheel =
            zip::ZipWriter::new(fs::File::create(self.path("wheels/torch.whl")).unwrap());
        let mut add = |name: &str, text: &str| {
            wheel.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            wheel.write_all(text.as_bytes()).unwrap();
        };
        add("torch/__init__.py", "");
        add(&format!("torch/{VERSION_HEADER}"), &version_header(13));
        for library in ["libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libc10.so"]
        {
            add(&format!("torch/lib/{library}"), "a library");
        }
        wheel.finish().unwrap();
    }

    /// A libtorch of the user's own.
    fn libtorch(&self, name: &str, minor: u32) -> PathBuf {
        let libtorch = self.path(name);
        fs::create_dir_all(libtorch.join("lib")).unwrap();
        fs::create_dir_all(libtorch.join(VERSION_HEADER).parent().unwrap()).unwrap();
        fs::write(libtorch.join(VERSION_HEADER), version_header(minor)).unwrap();
        for library in ["libtorch.so", "libtorch_cpu.so", "libc10.so"] {
            fs::write(libtorch.join("lib").join(library), "a library").unwrap();
        }
        libtorch
    }

    /// `cargo xtask` in the clone.
    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(arguments).env_clear();
        xtask
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("CARGO", self.path("bin/cargo"));
        xtask
            .env("CARGO_HOME", self.path("cargo"))
            .env("CARGO_MANIFEST_DIR", self.path("clone/xtask"));
        xtask.env("SELF_ATTENTION_CACHE", self.path("cache"));
        xtask.env("WHEELS", self.path("wheels")).env("CALLS", self.path("calls"));
        xtask
    }

    fn setup(&self) -> Outcome {
        outcome(&mut self.xtask(&["setup"]))
    }

    fn cached(&self) -> PathBuf {
        self.path("cache/libtorch-2.13.0-cpu")
    }

    fn link(&self) -> Option<PathBuf> {
        fs::read_link(self.path("clone/.libtorch")).ok()
    }

    /// What pip and cargo were called with.
    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn assert_nothing_half_made(&self) {
        let left: Vec<_> = fs::read_dir(self.path("cache"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            left.iter().all(|name| name == "lock" || name == "libtorch-2.13.0-cpu"),
            "{left:?}"
        );
    }
}

fn version_header(minor: u32) -> String {
    format!(
        "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH 0\n"
    )
}

#[derive(Debug)]
struct Outcome {
    success: bool,
    out: String,
    error: String,
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        success: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        error: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn assert_fails(outcome: &Outcome, sayings: &[&str]) {
    assert!(!outcome.success, "{outcome:?}");
    for saying in sayings {
        assert!(outcome.error.contains(saying), "no `{saying}` in:\n{}", outcome.error);
    }
}

#[track_caller]
fn assert_succeeds(outcome: &Outcome) {
    assert!(outcome.success, "{}\n{}", outcome.out, outcome.error);
}

#[test]
fn no_python() {
    assert_fails(
        &Machine::new().setup(),
        &["no Python 3 was found (tried python3 and python)", "apt install python3"],
    );
}

#[test]
fn a_python_2_is_no_python() {
    let machine = Machine::new();
    machine.program("python", "echo 'Python 2.7.18'");
    assert_fails(&machine.setup(), &["no Python 3 was found"]);
}

#[test]
fn no_pip() {
    let machine = Machine::new();
    machine.program("python3", r#"[ "$1" = --version ] && echo 'Python 3.11.7'"#);
    assert_fails(
        &machine.setup(),
        &["python3 has no pip", "apt install python3-pip", "-m ensurepip"],
    );
}

#[test]
fn no_compiler() {
    let machine = Machine::with_pip(GOOD_PIP).without("c++");
    assert_fails(
        &machine.setup(),
        &["no C++ compiler was found (tried c++)", "apt install g++", "CXX"],
    );
    assert_eq!(machine.calls(), "", "nothing is fetched before the compiler is there");
    let named = outcome(machine.xtask(&["setup"]).env("CXX", "no-such-compiler -O2"));
    assert_fails(&named, &["(tried no-such-compiler -O2)"]);
}

#[test]
fn no_network() {
    let machine = Machine::with_pip(
        "echo \"WARNING: Retrying after connection broken by 'NewConnectionError'\" >&2
         echo 'ERROR: No matching distribution found for torch==2.13.0' >&2; exit 1",
    );
    assert_fails(
        &machine.setup(),
        &["error: no network: torch==2.13.0 could not be fetched", "HTTPS_PROXY"],
    );
    machine.assert_nothing_half_made();
}

#[test]
fn no_such_package() {
    let machine = Machine::with_pip(
        "echo 'ERROR: No matching distribution found for torch==2.13.0' >&2; exit 1",
    );
    assert_fails(
        &machine.setup(),
        &["pip finds no package for torch==2.13.0", "pip install --upgrade pip"],
    );
}

#[test]
fn another_complaint_of_pip() {
    let machine =
        Machine::with_pip("echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1");
    assert_fails(
        &machine.setup(),
        &["pip could not fetch torch==2.13.0: ERROR: [Errno 28] No space left on device"],
    );
    machine.assert_nothing_half_made();
}

#[test]
fn a_libtorch_of_the_wrong_version() {
    let machine = Machine::new();
    let old = machine.libtorch("old", 12);
    let outcome = outcome(machine.xtask(&["setup"]).env("LIBTORCH", old));
    assert_fails(
        &outcome,
        &["LIBTORCH names", "which is libtorch 2.12.0; tch needs 2.13.0 exactly"],
    );
}

#[test]
fn a_folder_that_is_no_libtorch() {
    let machine = Machine::new();
    let outcome = outcome(machine.xtask(&["setup"]).env("LIBTORCH", machine.path("bin")));
    assert_fails(&outcome, &["LIBTORCH names", "which is no libtorch: lib is missing"]);
}

#[test]
fn a_libtorch_of_the_users_own_is_used_and_stays_in_use() {
    let machine = Machine::new();
    let own = machine.libtorch("own", 13);
    assert_succeeds(&outcome(machine.xtask(&["setup"]).env("LIBTORCH", &own)));
    assert_eq!(machine.link().unwrap(), own);
    assert_succeeds(&machine.setup());
    assert_eq!(machine.link().unwrap(), own);
    let both = outcome(machine.xtask(&["setup", "--cuda"]).env("LIBTORCH", &own));
    assert_fails(&both, &["LIBTORCH is set, and so is --cuda"]);
}

#[test]
fn the_torch_of_a_python() {
    let machine = Machine::new();
    let package = machine.libtorch("site-packages/torch", 13);
    let answer = format!(
        "[ \"$1\" = --version ] && echo 'Python 3.11.7' || echo '{}'",
        package.display()
    );
    machine.program("python3", &answer);
    assert_succeeds(&outcome(machine.xtask(&["setup"]).env("LIBTORCH_USE_PYTORCH", "1")));
    assert_eq!(machine.link().unwrap(), package);

    machine.program("python3", "[ \"$1\" = --version ] && echo 'Python 3.11.7'");
    let without = outcome(machine.xtask(&["setup"]).env("LIBTORCH_USE_PYTORCH", "1"));
    assert_fails(&without, &["LIBTORCH_USE_PYTORCH is set, but python3 has no torch"]);
}

#[test]
fn libtorch_is_fetched_once_and_then_needs_neither_python_nor_network() {
    let machine = Machine::with_pip(GOOD_PIP);
    let first = machine.setup();
    assert_succeeds(&first);
    assert!(
        first.out.contains("libtorch 2.13.0, CPU: 540 MB to download, 485 MB on disk"),
        "{}",
        first.out
    );
    assert!(
        machine
            .calls()
            .contains("-m pip --disable-pip-version-check download --no-deps --dest")
    );
    let libtorch = machine.cached();
    assert_eq!(machine.link().unwrap(), libtorch);
    assert_eq!(
        fs::read_to_string(libtorch.join("lib/libtorch.so")).unwrap(),
        "INPUT(libtorch_cpu.so)\n"
    );
    assert_eq!(
        fs::read_to_string(libtorch.join("build-version")).unwrap(),
        "2.13.0+cpu\n"
    );
    assert!(!libtorch.join("lib/libtorch_cuda.so").exists());
    machine.assert_nothing_half_made();

    let machine = machine.without("python3");
    assert_succeeds(&machine.setup());
    // What cargo sets from its configuration is not a libtorch of the user's.
    let link = machine.path("clone/.libtorch");
    assert_succeeds(&outcome(machine.xtask(&["setup", "--cpu"]).env("LIBTORCH", link)));
}

#[test]
fn a_damaged_or_half_made_cache_is_made_anew() {
    let machine = Machine::with_pip(GOOD_PIP);
    fs::create_dir_all(machine.path("cache/.unfinished-abc/libtorch/lib")).unwrap();
    fs::create_dir_all(machine.cached().join("lib")).unwrap();
    assert_succeeds(&machine.setup());
    assert!(machine.cached().join("include").exists());
    machine.assert_nothing_half_made();
}

#[test]
fn a_killed_setup_leaves_nothing_that_counts() {
    let machine = Machine::with_pip(&format!("{GOOD_PIP}\n sleep 2"));
    let mut killed = machine.xtask(&["setup"]).stdout(Stdio::null()).spawn().unwrap();
    wait_until(|| !machine.calls().is_empty());
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!machine.cached().exists());

    assert_succeeds(&machine.setup());
    machine.assert_nothing_half_made();
}

#[test]
fn two_setups_at_once_fetch_once() {
    let machine = Machine::with_pip(&format!("{GOOD_PIP}\n sleep 0.5"));
    let mut first = machine.xtask(&["setup"]).stdout(Stdio::null()).spawn().unwrap();
    wait_until(|| !machine.calls().is_empty());
    let second = machine.setup();
    assert_succeeds(&second);
    assert!(second.out.contains("Another set-up is at work"), "{}", second.out);
    assert!(first.wait().unwrap().success());
    assert_eq!(machine.calls().lines().count(), 1);
}

#[test]
fn a_card_gets_cuda_if_its_driver_is_new_enough() {
    let machine = Machine::with_pip("exit 1");
    machine.program("nvidia-smi", "echo 580.65.06");
    assert_fails(&machine.setup(), &["pip could not fetch torch==2.13.0"]);
    assert!(machine.calls().contains("install --target"), "{}", machine.calls());

    let machine = Machine::with_pip(GOOD_PIP);
    machine.program("nvidia-smi", "echo 535.183.01");
    let outcome = machine.setup();
    assert_succeeds(&outcome);
    assert!(
        outcome.out.contains("CUDA 13 needs driver 580 or newer, and this is 535"),
        "{}",
        outcome.out
    );
}

#[test]
fn another_libtorch_has_torch_sys_built_anew() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("clone/target/debug/build/torch-sys-0123")).unwrap();
    let (one, other) = (machine.libtorch("one", 13), machine.libtorch("other", 13));
    assert_succeeds(&outcome(machine.xtask(&["setup"]).env("LIBTORCH", &one)));
    assert_succeeds(&outcome(machine.xtask(&["setup"]).env("LIBTORCH", &one)));
    assert_succeeds(&outcome(machine.xtask(&["setup"]).env("LIBTORCH", &other)));
    assert_eq!(machine.link().unwrap(), other);
    let clean = "clean --quiet --package torch-sys --package self-attention\n";
    assert_eq!(machine.calls(), clean.repeat(2));
}

#[test]
fn mdbook_is_installed_where_there_is_none() {
    let machine = Machine::new().without("mdbook");
    let own = machine.libtorch("own", 13);
    machine.program(
        "cargo",
        r#"echo "$@" >> "$CALLS"; printf '#!/bin/sh\necho mdbook v0.5.4\n' > "$CARGO_HOME/bin/mdbook"
           chmod +x "$CARGO_HOME/bin/mdbook""#,
    );
    let outcome = outcome(machine.xtask(&["setup"]).env("LIBTORCH", own));
    assert_succeeds(&outcome);
    assert_eq!(machine.calls(), "install --locked mdbook --version 0.5.4\n");
    assert!(outcome.out.contains("cargo/bin first on the PATH"), "{}", outcome.out);
}

#[test]
fn an_mdbook_of_another_version_stays() {
    let machine = Machine::new();
    let own = machine.libtorch("own", 13);
    machine.program("mdbook", "echo 'mdbook v0.4.52'");
    machine.program(
        "cargo",
        "echo 'error: Could not resolve host' >&2; echo \"$@\" >> \"$CALLS\"; exit 101",
    );
    let outcome = outcome(machine.xtask(&["setup"]).env("LIBTORCH", own));
    assert!(outcome.out.contains("mdbook 0.4.52 stays as it is"), "{}", outcome.out);
    assert!(
        machine.calls().trim_end().ends_with("cache/mdbook-0.5.4"),
        "{}",
        machine.calls()
    );
    assert_fails(&outcome, &["no network: mdbook 0.5.4 could not be fetched"]);
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let outcome =
        outcome(&mut Machine::new().xtask(&["read", "--port", &port.to_string()]));
    assert_fails(
        &outcome,
        &[&format!("port {port} is in use"), "cargo xtask read --port "],
    );
}

#[test]
fn something_else_in_the_place_of_the_link() {
    let machine = Machine::new();
    let own = machine.libtorch("own", 13);
    fs::create_dir_all(machine.path("clone/.libtorch/precious")).unwrap();
    let outcome = outcome(machine.xtask(&["setup"]).env("LIBTORCH", own));
    assert_fails(&outcome, &[".libtorch is in the way"]);
    assert!(machine.path("clone/.libtorch/precious").exists());
}

#[test]
fn further_arguments_and_the_exit_code_belong_to_cargo_test() {
    let machine = Machine::new();
    let own = machine.libtorch("own", 13);
    machine.program("cargo", r#"echo "$@" >> "$CALLS"; exit 101"#);
    let test = ["test", "--release", "-p", "xtask", "--", "--nocapture"];
    let status =
        machine.xtask(&test).env("LIBTORCH", own).stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(101));
    assert_eq!(machine.calls(), "test --workspace --release -p xtask -- --nocapture\n");
}

#[test]
fn a_browser_for_the_tests_is_installed_where_packages_may_be_and_there_is_none() {
    let machine = Machine::new();
    let own = machine.libtorch("own", 13);
    let test = || outcome(machine.xtask(&["test"]).env("LIBTORCH", &own));
    let there_is = |outcome: Outcome, what: &str| {
        let line = format!("{:<16} {what}", "browser");
        assert!(outcome.out.contains(&line), "{}", outcome.out);
    };
    there_is(test(), "none");
    assert_eq!(machine.calls(), "test --workspace\n");

    machine.program("id", "echo 0");
    let install = r#"[ "$1" = --version ] && exit
        echo "apt-get $1" >> "$CALLS"
        [ "$1" = update ] || touch "$(dirname "$0")/chromium""#;
    machine.program("apt-get", install);
    for _ in 0..2 {
        let chromium = machine.path("bin/chromium");
        there_is(test(), &chromium.display().to_string());
    }
    let calls = ["test --workspace", "apt-get update", "apt-get install"];
    let calls = [&calls[..], &["test --workspace"; 2]].concat();
    assert_eq!(machine.calls(), calls.join("\n") + "\n");
}

#[test]
fn the_book_is_refused_if_mdbook_complains_or_a_page_has_faults() {
    let machine = Machine::new();
    let own = machine.libtorch("own", 13);
    let book = |script: &str| {
        machine.program(
            "mdbook",
            &format!("[ \"$1\" = --version ] && echo 'mdbook v0.5.4' && exit\n{script}"),
        );
        outcome(machine.xtask(&["book"]).env("LIBTORCH", &own))
    };
    let page = |html: &str| {
        format!("mkdir -p target/book; echo '{html}' > target/book/index.html")
    };
    assert_succeeds(&book(&page("<p>sound</p>")));
    assert_fails(
        &book("echo ' WARN no such anchor' >&2"),
        &["the book has 1 fault:\n  WARN no such anchor"],
    );
    assert_fails(
        &book(&page("{{#include gone.rs}}")),
        &["index.html: this was not expanded: {{#include gone.rs}}"],
    );
    assert_fails(&book("exit 101"), &["mdbook ended with exit status: 101"]);
}

#[test]
fn mdbook_is_told_for_which_renderer_the_preprocessor_is() {
    let machine = Machine::new();
    assert!(outcome(&mut machine.xtask(&["maths", "supports", "html"])).success);
    assert!(!outcome(&mut machine.xtask(&["maths", "supports", "epub"])).success);
}

#[track_caller]
fn wait_until(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}
