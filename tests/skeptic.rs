//! Compiles and runs every snippet of every page.

use std::any::Any;
use std::panic::{catch_unwind, resume_unwind};
use std::thread::sleep;
use std::time::Duration;

include!(concat!(env!("OUT_DIR"), "/skeptic-tests.rs"));

/// Compiles and runs a snippet, and again if it was *busy*. While one thread starts a program, that holds for a moment
/// what the other threads have open, also a snippet that was written just now, and Linux starts no program that
/// somebody can still write to.
fn run_snippet(root: &str, out: &str, target: &str, snippet: &str) {
    for _ in 0..5 {
        let run = || skeptic::rt::run_test(root, out, target, snippet);
        match catch_unwind(run) {
            Err(panic) if is_busy(panic.as_ref()) => sleep(Duration::from_millis(200)),
            Err(panic) => resume_unwind(panic),
            Ok(()) => return,
        }
    }
    panic!("the snippet's program stayed busy");
}

fn is_busy(panic: &(dyn Any + Send)) -> bool {
    panic.downcast_ref::<String>().is_some_and(|said| said.contains("Text file busy"))
}

/// Runs a snippet as the generated tests do, and says whether it passed.
fn passes(snippet: &str) -> bool {
    let run = || {
        run_snippet(env!("CARGO_MANIFEST_DIR"), env!("OUT_DIR"), env!("TARGET"), snippet)
    };
    catch_unwind(run).is_ok()
}

#[test]
fn a_broken_snippet_fails() {
    let snippet =
        |body: &str| format!("use self_attention::prelude::*;\nfn main() {{ {body} }}\n");
    assert!(passes(&snippet("assert_eq!(Device::Cpu, Device::Cpu);")));
    assert!(
        !passes(&snippet("assert_eq!(Device::Cpu, Device::Mps);")),
        "an assertion that does not hold"
    );
    assert!(
        !passes(&snippet("attention_scores(&Device::Cpu);")),
        "a call that does not compile"
    );
}
