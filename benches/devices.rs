//! The same work on every device of this machine.
//!
//! ```text
//! cargo bench --bench devices
//! SAVE_FIGURE=1 cargo bench --bench devices     also writes src/bin/ch02_environment/measured.json
//! ```
//!
//! The devices take turns, so that what else the machine does slows them alike; a row is the median of all rounds.

use std::env;
use std::path::Path;
use std::time::Instant;

use self_attention::environment::{DeviceChoice, Environment};
use self_attention::files::write_whole;
use self_attention::prelude::*;
use self_attention::training::loss::cross_entropy;
use self_attention::training::optimizer::{AdamW, AdamWConfig};
use serde_json::json;

const ROUNDS: usize = 15;

/// Fixed, so that a machine with more cores does not measure something else.
const THREADS: i32 = 2;

/// Something to do again and again.
type Work = Box<dyn FnMut() -> Result<()>>;

/// What makes it ready on a device.
type Prepare = fn(Device) -> Result<Work>;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    tch::set_num_threads(THREADS);
    // Not MPS: it computes while the program goes on, and tch has no way to wait for it.
    let devices: Vec<_> = [DeviceChoice::Cpu, DeviceChoice::Cuda]
        .into_iter()
        .filter_map(|choice| Some((choice, choice.device().ok()?)))
        .collect();
    let environment = Environment::detect();
    println!("on {}, {THREADS} threads", environment.processor);
    println!("{:<44}{:<8}milliseconds", "work", "device");
    let mut rows = Vec::new();
    for (work, prepare) in WORKS {
        let mut each: Vec<(DeviceChoice, Device, Work)> = devices
            .iter()
            .map(|&(choice, device)| Ok((choice, device, prepare(device)?)))
            .collect::<Result<_>>()?;
        let mut times = vec![Vec::new(); each.len()];
        for round in 0..=ROUNDS {
            for ((_, device, work), times) in each.iter_mut().zip(&mut times) {
                let started = Instant::now();
                work()?;
                if let Device::Cuda(index) = device {
                    tch::Cuda::synchronize(*index as i64); // the call returns before the work is done
                }
                if round > 0 {
                    times.push(started.elapsed().as_secs_f64() * 1e3); // the first is to warm up
                }
            }
        }
        for ((choice, ..), times) in each.iter().zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let milliseconds = times[ROUNDS / 2];
            println!("{work:<44}{choice:<8}{milliseconds:>12.2}");
            rows.push(json!({
                "work": work,
                "device": choice,
                "milliseconds": milliseconds,
            }));
        }
    }
    if env::var_os("SAVE_FIGURE").is_some() {
        let measured = json!({ "environment": environment, "rows": rows });
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/bin/ch02_environment/measured.json");
        let text = serde_json::to_string_pretty(&measured)?;
        write_whole(&path, (text + "\n").as_bytes())?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// What is measured.
const WORKS: [(&str, Prepare); 3] = [
    ("matrix product, 1024 × 1024", matrix_product),
    ("fused attention, B 8, H 8, T 512, D 64", attention),
    ("training step, E 160, 6 blocks, B 64, T 32", training_step),
];

fn matrix_product(device: Device) -> Result<Work> {
    let a = Tensor::f_randn([1024, 1024], (Kind::Float, device))?;
    Ok(Box::new(move || {
        drop(a.f_matmul(&a)?);
        Ok(())
    }))
}

fn attention(device: Device) -> Result<Work> {
    let x = Tensor::f_randn([8, 8, 512, 64], (Kind::Float, device))?;
    Ok(Box::new(move || {
        drop(fused_attention(&x, &x, &x, None)?);
        Ok(())
    }))
}

fn training_step(device: Device) -> Result<Work> {
    let store = nn::VarStore::new(device);
    let model = TransformerConfig::new(69).init(&store.root())?;
    let mut optimizer = AdamW::new(&store, AdamWConfig::default())?;
    let tokens = Tensor::f_randint(69, [64, 32], (Kind::Int64, device))?;
    let mask = Mask::causal(32, device)?;
    Ok(Box::new(move || {
        let logits = model.forward(&tokens, Some(&mask), &Dropout::off())?.logits;
        optimizer.zero_grad();
        cross_entropy(&logits, &tokens, 0.0)?.f_backward()?;
        optimizer.clip_gradients(1.0)?;
        optimizer.step(1e-4)
    }))
}
