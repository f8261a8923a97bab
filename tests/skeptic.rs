//! Compiles and runs every snippet of every page.

include!(concat!(env!("OUT_DIR"), "/skeptic-tests.rs"));

/// Runs a snippet as the generated tests do, and says whether it passed.
fn passes(snippet: &str) -> bool {
    let run = || {
        skeptic::rt::run_test(
            env!("CARGO_MANIFEST_DIR"),
            env!("OUT_DIR"),
            env!("TARGET"),
            snippet,
        )
    };
    std::panic::catch_unwind(run).is_ok()
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
