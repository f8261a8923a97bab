//! The numbers that every side starts from, in a file of the safetensors format.
//!
//! They are drawn here, so that no side has them from another. The format is a length, a header in JSON, and the bytes.

use std::f64::consts::TAU;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Result, file};

/// Named tensors, to be written into a file.
#[derive(Debug, Default)]
pub struct Tensors {
    header: Map<String, Value>,
    bytes: Vec<u8>,
}

impl Tensors {
    pub fn floats(&mut self, name: &str, shape: &[usize], numbers: &[f32]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.add(name, "F32", shape, bytes);
    }

    pub fn integers(&mut self, name: &str, shape: &[usize], numbers: &[i64]) {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes());
        self.add(name, "I64", shape, bytes);
    }

    fn add(
        &mut self,
        name: &str,
        kind: &str,
        shape: &[usize],
        bytes: impl Iterator<Item = u8>,
    ) {
        let start = self.bytes.len();
        self.bytes.extend(bytes);
        let offsets = [start, self.bytes.len()];
        let entry = json!({ "dtype": kind, "shape": shape, "data_offsets": offsets });
        self.header.insert(name.to_string(), entry);
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let mut header = Value::Object(self.header.clone()).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' '); // the numbers lie aligned
        let length = (header.len() as u64).to_le_bytes();
        let whole = [&length[..], &header, &self.bytes].concat();
        fs::write(path, whole).map_err(file("writing", path))
    }
}

/// Random numbers, the same on every machine (Steele, Lea & Flood, "Fast splittable pseudorandom number generators",
/// 2014). A crate for it would make cargo build tch anew for `cargo test` after `cargo xtask`.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly between 0 and 1, never 0.
    fn share(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Normally distributed around `mean` (Box & Muller, 1958).
    pub fn normal(&mut self, count: usize, mean: f64, deviation: f64) -> Vec<f32> {
        let draw = |_| {
            let (radius, angle) = ((-2.0 * self.share().ln()).sqrt(), TAU * self.share());
            (mean + deviation * radius * angle.cos()) as f32
        };
        (0..count).map(draw).collect()
    }

    /// Evenly from `from` up to but not including `to`.
    pub fn integers(&mut self, count: usize, from: i64, to: i64) -> Vec<i64> {
        let width = to.abs_diff(from).max(1);
        (0..count).map(|_| from + (self.next() % width) as i64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first outputs for the seed 1234567, as published with the algorithm's reference implementation.
        let mut random = Random::new(1_234_567);
        let drawn = [random.next(), random.next(), random.next()];
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(drawn, expected);
    }

    #[test]
    fn normal_numbers_have_their_mean_and_deviation_and_integers_their_range() {
        let mut random = Random::new(1);
        let numbers = random.normal(100_000, 3.0, 2.0);
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let squares = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / 1e5).sqrt();
        assert!((mean - 3.0).abs() < 0.03 && (deviation - 2.0).abs() < 0.03);
        let integers = random.integers(1000, -2, 3);
        assert_eq!(integers.iter().min(), Some(&-2));
        assert_eq!(integers.iter().max(), Some(&2));
    }

    #[test]
    fn the_file_is_a_length_a_header_and_the_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs.safetensors");
        let mut tensors = Tensors::default();
        tensors.floats("x", &[1, 2], &[1.5, -2.0]);
        tensors.integers("ids", &[1], &[7]);
        tensors.write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let x = json!({ "dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8] });
        let ids = json!({ "dtype": "I64", "shape": [1], "data_offsets": [8, 16] });
        assert_eq!(header, json!({ "x": x, "ids": ids }));
        let numbers = &bytes[8 + length..];
        assert_eq!(length % 8, 0);
        assert_eq!(numbers[..8], [1.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat());
        assert_eq!(numbers[8..], 7i64.to_le_bytes());
    }
}
