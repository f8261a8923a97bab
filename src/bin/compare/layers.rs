//! Attention alone, a multi-head layer, a block: forward, or forward and backward.

use self_attention::attention::{fused_attention, scaled_dot_product_attention};
use self_attention::block::{Block, BlockConfig};
use self_attention::dropout::Dropout;
use self_attention::error::Result;
use self_attention::mask::Mask;
use self_attention::model::prefix_decoder_mask;
use serde::Deserialize;
use serde_json::{Map, Value};
use tch::{nn, no_grad, Device, Kind, Tensor};

use crate::task::{summary, Answer, Prepared, Shape, Task};

#[derive(Debug, Deserialize)]
struct AttentionSettings {
    backward: bool,
}

#[derive(Debug, Deserialize)]
struct LayerSettings {
    backward: bool,
    model: Shape,
}

/// Scaled dot-product attention without a mask, explicit or fused.
pub fn attention(task: &Task, device: Device) -> Result<Answer> {
    let AttentionSettings { backward } = task.settings()?;
    let inputs = task.inputs(device, task.precision.kind())?;
    let way: fn(&[Tensor; 3]) -> Result<Tensor> = match task.way.as_str() {
        "explicit" => |[query, key, value]| {
            let off = Dropout::off();
            Ok(scaled_dot_product_attention(query, key, value, None, &off)?.context)
        },
        "fused" => |[query, key, value]| fused_attention(query, key, value, None),
        _ => return Err(task.unknown_way()),
    };
    let leaf = |name: &str| -> Result<Tensor> {
        Ok(inputs.get(name)?.f_set_requires_grad(backward)?)
    };
    let leaves = [leaf("query")?, leaf("key")?, leaf("value")?];
    let upstream = inputs.get("upstream")?;
    let names = ["query", "key", "value"];
    there_and_back(leaves, names, upstream, backward, way)
}

/// A multi-head layer or a whole block, with the mask of the model.
pub fn layer(task: &Task, device: Device) -> Result<Answer> {
    let LayerSettings { backward, model } = task.settings()?;
    let inputs = task.inputs(device, task.precision.kind())?;
    let mut store = nn::VarStore::new(device);
    let config = BlockConfig::new(model.width, model.heads).with_hidden(model.hidden);
    let block = config.init(&store.root())?;
    inputs.fill(store.variables(), str::to_owned)?;
    match task.precision.kind() {
        Kind::BFloat16 => store.bfloat16(),
        Kind::Half => store.half(),
        _ => {}
    }
    let x = inputs.get("x")?.f_set_requires_grad(backward)?; // [B, T, E]
    let [lengths, prefixes] = [inputs.get("lengths")?, inputs.get("prefixes")?];
    let mask = prefix_decoder_mask(&lengths, &prefixes, x.size()[1])?;
    let forward: fn(&Block, &Tensor, &Mask) -> Result<Tensor> = match task.work.as_str() {
        "multi_head" => |block, x, mask| {
            let off = Dropout::off();
            Ok(block.attention.forward(x, Some(mask), &off)?.context)
        },
        _ => |block, x, mask| Ok(block.forward(x, Some(mask), &Dropout::off())?.context),
    };
    let weight = match task.work.as_str() {
        "multi_head" => block.attention.input.weight.shallow_clone(),
        _ => block.feed_forward.expand.weight.shallow_clone(),
    };
    let upstream = inputs.get("upstream")?;
    let names = ["x", "weight"];
    there_and_back([x, weight], names, upstream, backward, move |[x, _]| {
        forward(&block, x, &mask)
    })
}

/// A function of some tensors, with its result and, backward, their gradients to check.
fn there_and_back<const N: usize>(
    leaves: [Tensor; N],
    names: [&str; N],
    upstream: Tensor,
    backward: bool,
    forward: impl Fn(&[Tensor; N]) -> Result<Tensor> + 'static,
) -> Result<Answer> {
    let there = move |leaves: &[Tensor; N]| -> Result<(Tensor, Vec<Tensor>)> {
        if !backward {
            return Ok((no_grad(|| forward(leaves))?, Vec::new()));
        }
        let result = forward(leaves)?;
        let sum = result.f_mul(&upstream)?.f_sum(result.kind())?;
        let gradients = Tensor::f_run_backward(&[sum], &leaves[..], false, false)?;
        Ok((result, gradients))
    };
    let (result, gradients) = there(&leaves)?;
    let mut checked: Map<String, Value> = Map::new();
    checked.insert("result".to_owned(), summary(&result)?);
    for (name, gradient) in names.iter().zip(&gradients) {
        checked.insert(format!("gradient of {name}"), summary(gradient)?);
    }
    let run = Box::new(move || there(&leaves).map(drop));
    Ok(Answer::Ready(Prepared { units: 1.0, checked, run }))
}
