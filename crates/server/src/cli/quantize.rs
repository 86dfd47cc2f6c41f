//! `plimsoll quantize`: a model directory once more, its weights packed as they are computed with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use plimsoll_encoder::{Format, LoadError};

use super::Dtype;

const WEIGHTS: &str = "model.safetensors";
/// Files beside the weights that are read: whatever else a directory holds (other frameworks' weights) is not wanted twice.
const KEPT_EXTENSIONS: [&str; 3] = ["json", "txt", "md"];

/// Flags of `quantize`.
#[derive(Args, Clone, Debug)]
pub struct QuantizeArgs {
    /// Directory of the model.
    model: PathBuf,
    /// What products are computed in.
    #[arg(long, value_enum, default_value_t = Dtype::Int8)]
    dtype: Dtype,
    /// Directory to write; it must not exist yet.
    #[arg(long, short)]
    output: PathBuf,
}

/// Why a model was not written. One line each.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// `auto` says nothing here.
    #[error("--dtype auto: say f32, bf16 or int8")]
    Auto,
    /// The model.
    #[error("model {}: {source}", model.display())]
    Load {
        /// Which one.
        model: PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Writes the model.
///
/// # Errors
/// [`QuantizeError`]; a directory that was begun is removed.
pub fn run(args: &QuantizeArgs) -> Result<(), QuantizeError> {
    let format = args.dtype.format().ok_or(QuantizeError::Auto)?;
    fs::create_dir(&args.output).map_err(at(&args.output))?;
    let written = write(&args.model, format, &args.output);
    if written.is_err() {
        fs::remove_dir_all(&args.output).map_err(at(&args.output))?;
    }
    let bytes = written?;
    println!(
        "{}: {bytes} bytes of weights, {}",
        args.output.display(),
        format.name()
    );
    Ok(())
}

fn write(model: &Path, format: Format, output: &Path) -> Result<usize, QuantizeError> {
    let weights = plimsoll_encoder::quantize(model, format).map_err(|source| QuantizeError::Load {
        model: model.to_owned(),
        source,
    })?;
    copy_kept(model, output, true)?;
    let path = output.join(WEIGHTS);
    fs::write(&path, &weights).map_err(at(&path))?;
    Ok(weights.len())
}

/// Copies the small files of a directory, and of its modules' directories.
fn copy_kept(from: &Path, to: &Path, with_folders: bool) -> Result<(), QuantizeError> {
    for entry in fs::read_dir(from).map_err(at(from))? {
        let entry = entry.map_err(at(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            if with_folders && path.join("config.json").is_file() {
                fs::create_dir(&target).map_err(at(&target))?;
                copy_kept(&path, &target, false)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| KEPT_EXTENSIONS.iter().any(|kept| *kept == extension))
        {
            fs::copy(&path, &target).map_err(at(&path))?;
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> QuantizeError {
    let path = path.to_owned();
    move |source| QuantizeError::Io { path, source }
}
