//! Tensors in a file, in the safetensors format: names, shapes and bytes, and nothing that could be run.
//!
//! A file is written whole or not at all, so whoever is killed at any moment leaves either the old file or the new one.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use half::f16;
use safetensors::tensor::{serialize, TensorView};
use safetensors::{Dtype, SafeTensors};
use tch::{no_grad, Device, Kind, Tensor};

use self_attention::error::{Error, Result};
use self_attention::files::write_whole;

/// Named tensors, in the order of their names, and the text that goes with them.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// The tensors.
    pub tensors: BTreeMap<String, Tensor>,
    /// Texts, each under a key.
    pub texts: HashMap<String, String>,
}

impl Checkpoint {
    /// Writes the tensors: those of kind `Half` as 16-bit floats, those of kind `Int8` as 8-bit numbers, all others as
    /// 32-bit floats.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; a file of that name is then as it was.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut floats = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            let shape: Vec<usize> =
                tensor.size().iter().map(|&size| size as usize).collect();
            let numbers = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_reshape([-1])?;
            let (kind, bytes): (_, Vec<u8>) = match tensor.kind() {
                Kind::Half => {
                    let numbers = Vec::<f16>::try_from(numbers)?;
                    (Dtype::F16, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
                }
                Kind::Int8 => {
                    let numbers = Vec::<i8>::try_from(numbers)?;
                    (Dtype::I8, numbers.iter().map(|&x| x as u8).collect())
                }
                _ => {
                    let numbers = Vec::<f32>::try_from(numbers.f_to_kind(Kind::Float)?)?;
                    (Dtype::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
                }
            };
            floats.push((name, kind, shape, bytes));
        }
        let views = floats
            .iter()
            .map(|(name, kind, shape, bytes)| {
                Ok((name, TensorView::new(*kind, shape.clone(), bytes)?))
            })
            .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
            .and_then(|views| serialize(views, Some(self.texts.clone())))
            .map_err(|error| {
                Error::file(path, format!("cannot be put together: {error}"))
            })?;
        write_whole(path, &views)
    }

    /// Reads a file of tensors.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::File`] if it is cut short, damaged, or holds numbers of another kind
    /// than 32-bit and 16-bit floats, and 8-bit numbers with their scales. What was written in 8 bits comes back in 32.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io(path))?;
        let damaged = |error| {
            Error::file(
                path,
                format!("is cut short or damaged ({error}); get it or train it again"),
            )
        };
        let texts = SafeTensors::read_metadata(&bytes)
            .map_err(damaged)?
            .1
            .metadata()
            .clone()
            .unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes).map_err(damaged)?.tensors() {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F16 => Kind::Half,
                Dtype::I8 => Kind::Int8,
                other => {
                    let problem =
                        format!("`{name}` holds {other:?}; expected F32, F16 or I8");
                    return Err(Error::file(path, problem));
                }
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
        }
        Self { tensors, texts }.dequantized(path)
    }

    /// The tensor of that name, if it has that shape. `path` is named in the error.
    ///
    /// # Errors
    /// [`Error::File`] that says that it is missing or has another shape.
    pub fn find(&self, name: &str, shape: &[i64], path: &Path) -> Result<&Tensor> {
        match self.tensors.get(name) {
            Some(tensor) if tensor.size() == shape => Ok(tensor),
            Some(tensor) => {
                let found = tensor.size();
                let problem =
                    format!("`{name}` is {found:?} and the model needs {shape:?}");
                Err(Error::file(path, format!("{problem}; it belongs to another model")))
            }
            None => {
                let problem =
                    format!("has no tensor `{name}`; it belongs to another model");
                Err(Error::file(path, problem))
            }
        }
    }

    /// The same tensors for shipping, at a quarter of the size: matrices in 8 bits, all others in 16-bit floats.
    ///
    /// Each row of a matrix has a scale of its own, its largest magnitude over 127, and holds `w / scale` rounded to a
    /// whole number. The scales are a tensor beside it, `NAME.scale`, in 16-bit floats. So a weight is off by half a scale
    /// at most.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    // ANCHOR: quantized
    pub fn quantized(&self) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            let tensor = tensor.f_detach()?;
            if tensor.dim() != 2 {
                tensors.insert(name.clone(), tensor.f_to_kind(Kind::Half)?);
                continue;
            }
            let largest = tensor.f_abs()?.f_amax([1], true)?; // [rows, 1]
            let scale =
                largest.f_clamp_min(1e-2)?.f_div_scalar(127.0)?.f_to_kind(Kind::Half)?;
            let whole = tensor.f_div(&scale.f_to_kind(tensor.kind())?)?.f_round()?;
            tensors.insert(
                name.clone(),
                whole.f_clamp(-127.0, 127.0)?.f_to_kind(Kind::Int8)?,
            );
            tensors.insert(scale_of(name), scale.f_squeeze_dim(1)?); // [rows]
        }
        Ok(Self { tensors, texts: self.texts.clone() })
    }
    // ANCHOR_END: quantized

    /// The tensors as they are computed with: what is in 8 bits times its scales. `path` is named in the error.
    ///
    /// # Errors
    /// [`Error::File`] if scales are missing or not one for each row.
    pub fn dequantized(&self, path: &Path) -> Result<Self> {
        let mut tensors: BTreeMap<String, Tensor> = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
            .collect();
        for (name, whole) in
            self.tensors.iter().filter(|(_, tensor)| tensor.kind() == Kind::Int8)
        {
            let (rows, scales) = (whole.size2()?.0, scale_of(name));
            let scale = self.find(&scales, &[rows], path)?.f_to_kind(Kind::Float)?; // [rows]
            let weight = whole.f_to_kind(Kind::Float)?.f_mul(&scale.f_unsqueeze(1)?)?;
            tensors.insert(name.clone(), weight);
            tensors.remove(&scales);
        }
        Ok(Self { tensors, texts: self.texts.clone() })
    }

    /// Copies each of `targets` from the tensor of the same name. All of them must be there and have the right shape;
    /// otherwise none is changed. `path` is named in the error.
    ///
    /// # Errors
    /// [`Error::File`] that names the tensor that is missing or has another shape.
    pub fn restore(
        &self,
        targets: impl IntoIterator<Item = (String, Tensor)>,
        path: &Path,
    ) -> Result<()> {
        let mut pairs = Vec::new();
        for (name, target) in targets {
            pairs.push((self.find(&name, &target.size(), path)?, target));
        }
        no_grad(|| {
            pairs.into_iter().try_for_each(|(source, mut target)| target.f_copy_(source))
        })?;
        Ok(())
    }
}

/// What the scales of a tensor are called.
fn scale_of(name: &str) -> String {
    format!("{name}.scale")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            tensors: BTreeMap::from([
                ("a".to_owned(), Tensor::randn([2, 3], (Kind::Float, Device::Cpu))),
                ("b.c".to_owned(), Tensor::from_slice(&[f32::NAN, 1.0, -0.0])),
            ]),
            texts: HashMap::from([("state".to_owned(), "{\"epoch\": 3}".to_owned())]),
        }
    }

    #[test]
    fn comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("file.safetensors");
        let written = checkpoint();
        written.write(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read.texts, written.texts);
        assert_eq!(read.tensors["a"], written.tensors["a"]);
        let bits = |tensor: &Tensor| {
            Vec::<f32>::try_from(tensor)
                .unwrap()
                .into_iter()
                .map(f32::to_bits)
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&read.tensors["b.c"]), bits(&written.tensors["b.c"]));
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "a temporary file was left"
        );
    }

    #[test]
    fn what_is_shipped_is_a_quarter_as_large_and_off_by_half_a_scale_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        let matrix = Tensor::randn([64, 100], (Kind::Float, Device::Cpu));
        let _ = matrix.get(7).zero_();
        let vector = Tensor::randn([64], (Kind::Float, Device::Cpu));
        let named =
            |name: &str, tensor: &Tensor| (name.to_owned(), tensor.shallow_clone());
        let whole = Checkpoint {
            tensors: BTreeMap::from([named("matrix", &matrix), named("vector", &vector)]),
            ..Checkpoint::default()
        };
        whole.write(&path).unwrap();
        let large = fs::metadata(&path).unwrap().len();
        let shipped = whole.quantized().unwrap();
        shipped.write(&path).unwrap();
        assert!(fs::metadata(&path).unwrap().len() * 3 < large);

        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read.tensors.keys().collect::<Vec<_>>(), ["matrix", "vector"]);
        assert_eq!(read.tensors["vector"], vector.to_kind(Kind::Half));
        let scale = shipped.tensors["matrix.scale"].to_kind(Kind::Float).unsqueeze(1);
        let off = (&read.tensors["matrix"] - &matrix).abs() / scale;
        assert!(
            off.max().double_value(&[]) < 0.51,
            "half, and what 16 bits make of a scale"
        );
        assert_eq!(read.tensors["matrix"].get(7), matrix.get(7));
        let same = shipped.dequantized(&path).unwrap();
        assert_eq!(same.tensors["matrix"], read.tensors["matrix"]); // scored is what is read
        let target = Tensor::zeros([64, 100], (Kind::Float, Device::Cpu));
        read.restore([named("matrix", &target)], &path).unwrap();
        assert_eq!(target, read.tensors["matrix"]);
    }

    #[test]
    fn eight_bits_without_their_scales_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        let mut shipped = checkpoint().quantized().unwrap();
        shipped.tensors.remove("a.scale");
        shipped.write(&path).unwrap();
        let error = Checkpoint::read(&path).unwrap_err().to_string();
        assert!(error.contains("no tensor `a.scale`"), "{error}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        checkpoint().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = Checkpoint::read(&path).unwrap_err();
            assert!(matches!(error, Error::File { .. }), "{length} bytes: {error}");
        }
    }

    #[test]
    fn tensors_of_another_model_are_refused_and_nothing_is_changed() {
        let path = Path::new("other.safetensors");
        let first = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        let wrong = Tensor::zeros([4], (Kind::Float, Device::Cpu));
        let targets =
            [("a".to_owned(), first.shallow_clone()), ("b.c".to_owned(), wrong)];
        let error = checkpoint().restore(targets, path).unwrap_err();
        assert!(
            error.to_string().contains("`b.c` is [3] and the model needs [4]"),
            "{error}"
        );
        let error = checkpoint()
            .restore([("d".to_owned(), first.shallow_clone())], path)
            .unwrap_err();
        assert!(error.to_string().contains("has no tensor `d`"), "{error}");
        assert_eq!(first, first.zeros_like());
    }
}
