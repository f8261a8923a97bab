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
    /// Writes the tensors: those of kind `Half` as 16-bit floats, all others as 32-bit floats.
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
    /// than 32-bit and 16-bit floats.
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
                other => {
                    let problem =
                        format!("`{name}` holds {other:?}; expected F32 or F16");
                    return Err(Error::file(path, problem));
                }
            };
            let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            tensors.insert(name, Tensor::f_from_data_size(view.data(), &shape, kind)?);
        }
        Ok(Self { tensors, texts })
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

    /// The same tensors in 16-bit floats: half the size, and about three decimal digits of each number.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch fails.
    pub fn halved(&self) -> Result<Self> {
        let half = |(name, tensor): (&String, &Tensor)| {
            Ok((name.clone(), tensor.f_detach()?.f_to_kind(Kind::Half)?))
        };
        let tensors = self.tensors.iter().map(half).collect::<Result<_>>()?;
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
    fn sixteen_bits_take_half_the_room_and_come_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.safetensors");
        let written = checkpoint().halved().unwrap();
        written.write(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read.tensors["a"].kind(), Kind::Half);
        assert_eq!(read.tensors["a"], written.tensors["a"]);
        let target = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        read.restore([("a".to_owned(), target.shallow_clone())], &path).unwrap();
        assert_eq!(target, written.tensors["a"].to_kind(Kind::Float));
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
