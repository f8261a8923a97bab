//! A phrasebook: what one says in Python with PyTorch, and what one says in Rust with tch.
//!
//! Every row runs. `tests/phrasebook.rs` holds its result against the one that PyTorch gave for the Python on its left.

use self_attention::prelude::*;
use tch::kind::{FLOAT_CPU, INT64_CPU};
use tch::{no_grad, IndexOp, Reduction};

/// What the rows work on.
pub struct Inputs {
    /// `[2, 3]`
    pub x: Tensor,
    /// `[2, 3]`
    pub y: Tensor,
    /// `[4, 3]`
    pub w: Tensor,
    /// `[4]`
    pub b: Tensor,
    /// `[2]`, whole numbers
    pub ids: Tensor,
    /// Where layers keep their parameters.
    pub store: nn::VarStore,
}

impl Inputs {
    /// The same numbers each time, some below zero.
    pub fn new() -> Self {
        tch::manual_seed(2);
        let normal = |size: &[i64]| Tensor::randn(size, FLOAT_CPU);
        let (x, y, w, b) =
            (normal(&[2, 3]), normal(&[2, 3]), normal(&[4, 3]), normal(&[4]));
        let store = nn::VarStore::new(Device::Cpu);
        Self { x, y, w, b, ids: Tensor::from_slice(&[2i64, 0]), store }
    }
}

/// A row.
pub struct Phrase {
    /// What one says in Python.
    pub python: &'static str,
    /// What one says in Rust.
    pub rust: &'static str,
    /// What it gives.
    pub run: fn(Inputs) -> Result<Tensor>,
}

/// Rows that belong together, under the name of their section in the program's output.
pub type Section = (&'static str, Vec<Phrase>);

/// What a phrase may come to, as a tensor.
trait Outcome {
    fn tensor(self) -> Tensor;
}

impl Outcome for Tensor {
    fn tensor(self) -> Tensor {
        self
    }
}

impl Outcome for Vec<Vec<f32>> {
    fn tensor(self) -> Tensor {
        Tensor::from_slice2(&self)
    }
}

impl Outcome for f64 {
    fn tensor(self) -> Tensor {
        Tensor::from(self)
    }
}

impl Outcome for i64 {
    fn tensor(self) -> Tensor {
        Tensor::from(self)
    }
}

impl Outcome for usize {
    fn tensor(self) -> Tensor {
        Tensor::from(self as i64)
    }
}

impl Outcome for bool {
    fn tensor(self) -> Tensor {
        Tensor::from(self)
    }
}

/// Rows of Python and Rust. The Rust is shown as it is compiled.
macro_rules! phrases {
    ($section:literal, $inputs:pat, $($python:literal => $rust:expr;)*) => {
        ($section, vec![$(Phrase {
            python: $python,
            rust: stringify!($rust),
            run: |inputs| {
                #[allow(unused_variables, unused_mut)] // no row uses all of them
                let $inputs = inputs;
                Ok(Outcome::tensor($rust))
            },
        }),*])
    };
}

/// All rows.
pub fn phrasebook() -> Vec<Section> {
    vec![make(), shape(), pick(), compute(), functions(), modules(), gradients()]
}

/// Making tensors.
#[rustfmt::skip] // a row a line
fn make() -> Section {
    phrases! {
        "q2_make", Inputs { mut x, y, w, b, ids, store },
        "torch.tensor([1.0, 2.0])" => Tensor::from_slice(&[1f32, 2.0]);
        "torch.tensor([[1, 2], [3, 4]])" => Tensor::from_slice2(&[[1i64, 2], [3, 4]]);
        "torch.tensor(0.5)" => Tensor::from(0.5f32);
        "torch.zeros(2, 3)" => Tensor::zeros([2, 3], FLOAT_CPU);
        "torch.ones(2, 3)" => Tensor::ones([2, 3], FLOAT_CPU);
        "torch.full((2, 3), 0.5)" => Tensor::full([2, 3], 0.5, FLOAT_CPU);
        "torch.eye(3)" => Tensor::eye(3, FLOAT_CPU);
        "torch.arange(5)" => Tensor::arange(5, INT64_CPU);
        "torch.zeros_like(x)" => x.zeros_like();
        "torch.manual_seed(0); torch.randn(2, 3)" => { tch::manual_seed(0); Tensor::randn([2, 3], FLOAT_CPU) };
    }
}

/// Shape, kind, device.
#[rustfmt::skip] // a row a line
fn shape() -> Section {
    phrases! {
        "q2_shape", Inputs { mut x, y, w, b, ids, store },
        "x.shape[1]" => x.size()[1];
        "x.dim()" => x.dim();
        "x.numel()" => x.numel();
        "x.dtype == torch.float32" => x.kind() == Kind::Float;
        "x.to(torch.float64)" => x.to_kind(Kind::Double);
        "x.to(\"cpu\")" => x.to_device(Device::Cpu);
        "x.view(3, 2)" => x.view([3, 2]);
        "x.reshape(-1)" => x.reshape([-1]);
        "x.flatten()" => x.flatten(0, -1);
        "x.T" => x.tr();
        "x.transpose(0, 1)" => x.transpose(0, 1);
        "x.mT" => x.transpose(-2, -1);
        "x.permute(1, 0)" => x.permute([1, 0]);
        "x.T.contiguous()" => x.tr().contiguous();
        "x.unsqueeze(0)" => x.unsqueeze(0);
        "x.unsqueeze(0).squeeze(0)" => x.unsqueeze(0).squeeze_dim(0);
        "b.expand(2, 4)" => b.expand([2, 4], false);
    }
}

/// Picking and joining.
#[rustfmt::skip] // a row a line
fn pick() -> Section {
    phrases! {
        "q2_pick", Inputs { mut x, y, w, b, ids, store },
        "x[0]" => x.get(0);
        "x[:, 1]" => x.i((.., 1));
        "x[:, 0:2]" => x.i((.., 0..2));
        "x[:, -1]" => x.select(1, -1);
        "x[:, :-1]" => x.narrow(1, 0, x.size()[1] - 1);
        "x.narrow(1, 1, 2)" => x.narrow(1, 1, 2);
        "x[0, 2].item()" => x.double_value(&[0, 2]);
        "ids[1].item()" => ids.int64_value(&[1]);
        "x.tolist()" => Vec::<Vec<f32>>::try_from(&x)?;
        "w[ids]" => w.index_select(0, &ids);
        "x.gather(1, ids.unsqueeze(1))" => x.gather(1, &ids.unsqueeze(1), false);
        "torch.cat([x, y])" => Tensor::cat(&[&x, &y], 0);
        "torch.stack([x, y])" => Tensor::stack(&[&x, &y], 0);
        "x.split(2, dim=1)[0]" => x.split(2, 1).swap_remove(0);
        "x.chunk(3, dim=1)[0]" => x.chunk(3, 1).swap_remove(0);
    }
}

/// Computing.
#[rustfmt::skip] // a row a line
fn compute() -> Section {
    phrases! {
        "q2_compute", Inputs { mut x, y, w, b, ids, store },
        "x + y" => &x + &y;
        "x * y" => &x * &y;
        "-x" => -&x;
        "x / y" => &x / &y;
        "2 * x" => 2 * &x;
        "x ** 2" => x.square();
        "x @ w.T" => x.matmul(&w.tr());
        "x.sum()" => x.sum(Kind::Float);
        "x.sum(-1)" => x.sum_dim_intlist(-1, false, Kind::Float);
        "x.mean(-1, keepdim=True)" => x.mean_dim(-1, true, Kind::Float);
        "x.std()" => x.std(true);
        "x.amax(-1)" => x.amax([-1], false);
        "x.argmax(-1)" => x.argmax(-1, false);
        "x.topk(2).values" => x.topk(2, -1, true, true).0;
        "x.exp()" => x.exp();
        "x < 0" => x.lt(0);
        "x == y" => x.eq_tensor(&y);
        "x.masked_fill(x < 0, 0.0)" => x.masked_fill(&x.lt(0), 0.0);
        "torch.where(x < 0, y, x)" => y.where_self(&x.lt(0), &x);
        "torch.ones(3, 3).tril()" => Tensor::ones([3, 3], FLOAT_CPU).tril(0);
        "torch.ones(3, 3).triu(1)" => Tensor::ones([3, 3], FLOAT_CPU).triu(1);
        "torch.allclose(x, y)" => x.allclose(&y, 1e-5, 1e-8, false);
        "x.clone().fill_(1.0)" => x.copy().fill_(1.0);
    }
}

/// Functions of a network.
#[rustfmt::skip] // a row a line
fn functions() -> Section {
    phrases! {
        "q2_functions", Inputs { mut x, y, w, b, ids, store },
        "F.linear(x, w, b)" => x.linear(&w, Some(&b));
        "F.softmax(x, dim=-1)" => x.softmax(-1, Kind::Float);
        "F.log_softmax(x, dim=-1)" => x.log_softmax(-1, Kind::Float);
        "F.relu(x)" => x.relu();
        "F.gelu(x)" => x.gelu("none");
        "F.layer_norm(x, [3])" => x.layer_norm([3], None::<&Tensor>, None::<&Tensor>, 1e-5, false);
        "F.embedding(ids, w)" => Tensor::embedding(&w, &ids, -1, false, false);
        "F.scaled_dot_product_attention(x, w, w)" => Tensor::scaled_dot_product_attention(&x, &w, &w, None::<&Tensor>, 0.0, false, None::<f64>, false);
        "F.cross_entropy(x, ids)" => x.cross_entropy_for_logits(&ids);
        "F.cross_entropy(x, ids, label_smoothing=0.1)" => x.cross_entropy_loss(&ids, None::<&Tensor>, Reduction::Mean, -100, 0.1);
        "F.dropout(x, 0.5, training=False)" => x.dropout(0.5, false);
        "F.one_hot(ids, 4)" => ids.one_hot(4);
    }
}

/// Modules.
#[rustfmt::skip] // a row a line
fn modules() -> Section {
    phrases! {
        "q2_modules", Inputs { mut x, y, w, b, ids, store },
        "nn.Linear(3, 4)(x).shape[1]" => Linear::new(&store.root(), 3, 4)?.forward(&x)?.size()[1];
        "nn.LayerNorm(3)(x)" => LayerNorm::new(&store.root(), 3)?.forward(&x)?;
        "nn.GELU()(x)" => Activation::Gelu.apply(&x)?;
        "nn.Dropout(0.5).eval()(x)" => Dropout::off().apply(&x)?;
        "sum(p.numel() for p in nn.Linear(3, 4).parameters())" => { Linear::new(&store.root(), 3, 4)?; store.variables().values().map(Tensor::numel).sum::<usize>() };
        "len(nn.Linear(3, 4).state_dict())" => { Linear::new(&store.root(), 3, 4)?; store.variables().len() };
    }
}

/// Gradients, sharing, errors.
#[rustfmt::skip] // a row a line
fn gradients() -> Section {
    phrases! {
        "q2_gradients", Inputs { mut x, y, w, b, ids, store },
        "x.requires_grad_(); x.requires_grad" => x.set_requires_grad(true).requires_grad();
        "x.requires_grad_(); (x * x).sum().backward(); x.grad" => { let x = x.set_requires_grad(true); (&x * &x).sum(Kind::Float).backward(); x.grad() };
        "x.requires_grad_(); x.detach().requires_grad" => x.set_requires_grad(true).detach().requires_grad();
        "with torch.no_grad(): z = w.requires_grad_().exp()\nz.requires_grad" => no_grad(|| w.set_requires_grad(true).exp().requires_grad());
        "z = x; z.fill_(1.0); x" => { let mut z = x.shallow_clone(); let _ = z.fill_(1.0); x };
        "z = x.clone(); z.fill_(1.0); x" => { let mut z = x.copy(); let _ = z.fill_(1.0); x };
        "try: x.view(7); ok = True\nexcept RuntimeError: ok = False\nok" => x.f_view([7]).is_ok();
    }
}
