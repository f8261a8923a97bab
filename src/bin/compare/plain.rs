//! The same model written with tch and nothing of ours: its layers, its fused attention, its dropout, its optimizer.

use self_attention::data::batch::{Batch, IGNORED};
use self_attention::error::Result;
use tch::nn::{Module, OptimizerConfig};
use tch::{nn, Device, Kind, Reduction, Tensor};

use crate::step::Steps;
use crate::task::{Inputs, Shape, Training};

/// One block.
#[derive(Debug)]
struct Block {
    norms: [nn::LayerNorm; 2],
    input: nn::Linear,
    output: nn::Linear,
    expand: nn::Linear,
    contract: nn::Linear,
}

/// The model and its optimizer.
#[derive(Debug)]
pub struct Plain {
    shape: Shape,
    training: Training,
    dropout: f64,
    embedding: nn::Embedding,
    positions: nn::Embedding,
    blocks: Vec<Block>,
    norm: nn::LayerNorm,
    optimizer: nn::Optimizer,
}

/// The group of parameters that do not decay: biases, norms and tables.
const FIXED: usize = 1;

impl Plain {
    /// With the parameters of the file.
    pub fn new(
        shape: Shape,
        training: Training,
        dropout: f64,
        inputs: &Inputs,
        device: Device,
    ) -> Result<Self> {
        let store = nn::VarStore::new(device);
        let root = store.root();
        let Shape { width, hidden, blocks, vocabulary, max_positions, .. } = shape;
        let norm = |path: nn::Path| {
            nn::layer_norm(path.set_group(FIXED), vec![width], Default::default())
        };
        let linear = |path: nn::Path, inputs: i64, outputs: i64| nn::Linear {
            ws: path.kaiming_uniform("weight", &[outputs, inputs]),
            bs: Some(path.set_group(FIXED).zeros("bias", &[outputs])),
        };
        let table = |name: &str, rows: i64| {
            let path = (&root / name).set_group(FIXED);
            nn::embedding(path, rows, width, Default::default())
        };
        let block = |index: i64| {
            let path = &root / "layers" / index;
            Block {
                norms: [norm(&path / "norm1"), norm(&path / "norm2")],
                input: linear(&path / "self_attn" / "in_proj", width, 3 * width),
                output: linear(&path / "self_attn" / "out_proj", width, width),
                expand: linear(&path / "linear1", width, hidden),
                contract: linear(&path / "linear2", hidden, width),
            }
        };
        let blocks = (0..blocks).map(block).collect();
        let norm = norm(&root / "norm");
        let embedding = table("embedding", vocabulary);
        let positions = table("positions", max_positions);
        inputs.fill(store.variables(), |name| {
            let name = name.replace("in_proj.", "in_proj_");
            match name.as_str() {
                "embedding.weight" => "embedding".to_owned(),
                "positions.weight" => "positions".to_owned(),
                _ => name,
            }
        })?;
        let Training { beta1, beta2, epsilon, weight_decay, .. } = training;
        let adam =
            nn::AdamW { beta1, beta2, wd: weight_decay, eps: epsilon, amsgrad: false };
        let mut optimizer = adam.build(&store, training.learning_rate)?;
        optimizer.set_weight_decay_group(FIXED, 0.0);
        Ok(Self {
            shape,
            training,
            dropout,
            embedding,
            positions,
            blocks,
            norm,
            optimizer,
        })
    }

    fn forward(&self, batch: &Batch) -> Tensor {
        let Shape { heads, width, .. } = self.shape;
        let dropout = self.dropout;
        let [rows, length] = [0, 1].map(|dimension| batch.tokens.size()[dimension]); // B, T
        let device = batch.tokens.device();
        let drop = |x: &Tensor| {
            if dropout > 0.0 {
                x.dropout(dropout, true)
            } else {
                x.shallow_clone()
            }
        };
        let place = Tensor::arange(length, (Kind::Int64, device)); // [T]
        let key = place.view([1, 1, 1, length]);
        let in_prefix = key.less_tensor(&batch.prefixes.view([rows, 1, 1, 1]));
        let is_real = key.less_tensor(&batch.lengths.view([rows, 1, 1, 1]));
        let causal = Tensor::ones([length, length], (Kind::Bool, device)).tril(0);
        let mask = in_prefix.logical_or(&causal).logical_and(&is_real); // [B, 1, T, T]
        let x = self.embedding.forward(&batch.tokens) + self.positions.forward(&place);
        let mut x = drop(&x); // [B, T, E]
        for Block { norms, input, output, expand, contract } in &self.blocks {
            let projected = input
                .forward(&norms[0].forward(&x))
                .view([rows, length, 3, heads, width / heads])
                .permute([2, 0, 3, 1, 4]); // [3, B, H, T, D]
            let [query, key, value] = [0, 1, 2].map(|part| projected.select(0, part));
            let context = Tensor::scaled_dot_product_attention(
                &query,
                &key,
                &value,
                Some(&mask),
                dropout,
                false,
                None,
                false,
            ); // [B, H, T, D]
            let joined = context.transpose(1, 2).reshape([rows, length, width]);
            x = &x + drop(&output.forward(&joined));
            let inner = expand.forward(&norms[1].forward(&x)).gelu("none"); // [B, T, F]
            x = &x + drop(&contract.forward(&inner));
        }
        self.norm.forward(&x).linear(&self.embedding.ws, None::<Tensor>) // [B, T, V]
    }
}

impl Steps for Plain {
    fn step(&mut self, batch: &Batch) -> Result<[f64; 2]> {
        let logits = self.forward(batch).flatten(0, 1); // [B·T, V]
        let targets = batch.targets.flatten(0, 1); // [B·T]
        let loss = logits.f_cross_entropy_loss(
            &targets,
            None::<&Tensor>,
            Reduction::Mean,
            IGNORED,
            self.training.label_smoothing,
        )?;
        self.optimizer.zero_grad();
        loss.f_backward()?;
        let norms: Vec<Tensor> = self
            .optimizer
            .trainable_variables()
            .iter()
            .map(|variable| variable.grad().norm())
            .collect();
        let norm = Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?;
        let share = self.training.clip / (norm + 1e-6);
        if share < 1.0 {
            for variable in self.optimizer.trainable_variables() {
                let _ = variable.grad().f_mul_scalar_(share)?;
            }
        }
        self.optimizer.step();
        Ok([loss.f_double_value(&[])?, norm])
    }
}
