//! Every row of the phrasebook: what the Rust gives is what PyTorch gave for the Python beside it.
//!
//! One test, for some rows draw from libtorch's one generator.

mod common;
#[path = "parity/fixture.rs"]
mod fixture;
#[path = "../src/bin/ch02_environment/phrasebook.rs"]
mod phrasebook;

use std::collections::BTreeSet;

use fixture::{assert_close, Fixture};
use phrasebook::{phrasebook, Inputs};

#[test]
fn both_languages_say_the_same() {
    let fixture = Fixture::load("ch02_environment");
    let Inputs { x, y, w, b, ids, .. } = Inputs::new();
    for (name, input) in [("x", x), ("y", y), ("w", w), ("b", b), ("ids", ids)] {
        assert_eq!(
            &input,
            fixture.get(&format!("inputs/{name}")),
            "one seed, one generator"
        );
    }
    let mut said = BTreeSet::new();
    for phrase in phrasebook().iter().flat_map(|(_, phrases)| phrases) {
        let ours = (phrase.run)(Inputs::new())
            .unwrap_or_else(|error| panic!("{}: {error}", phrase.rust));
        let theirs = fixture.get(phrase.python);
        // A Python number becomes a tensor of 32 bits, a Rust one of 64.
        let ours = if ours.dim() == 0 { ours.to_kind(theirs.kind()) } else { ours };
        assert_close(phrase.rust, &ours, theirs);
        assert!(said.insert(phrase.python), "{} stands there twice", phrase.python);
    }
    assert!(said.len() >= 40, "{} rows", said.len());
    let recorded = fixture.names().filter(|name| !name.starts_with("inputs/"));
    assert_eq!(said, recorded.collect(), "the script and the phrasebook differ");
}
