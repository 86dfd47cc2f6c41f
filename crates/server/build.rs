//! Compresses the files of the page, so that the binary holds them small and sends them as they are, and the default model's vocabulary, which
//! is read once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::{Compression, GzBuilder};

const FILES: [&str; 12] = [
    "assets/index.html",
    "assets/page.css",
    "assets/page.js",
    "assets/figures.js",
    "assets/request.js",
    "assets/hull.js",
    "assets/charts.js",
    "assets/try.js",
    "assets/icon.svg",
    "assets/uplot/uPlot.iife.min.js",
    "assets/uplot/uPlot.min.css",
    "../../models/default/tokenizer.json",
];

fn main() {
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
        let from = Path::new(file);
        let bytes = fs::read(from).unwrap_or_else(|error| panic!("{file}: {error}"));
        let name = from.file_name().expect("a file").to_string_lossy().into_owned() + ".gz";
        // No name and no time in the header: the same files always give the same binary.
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        gzip.write_all(&bytes).expect("memory takes all that is written");
        fs::write(
            to.join(name),
            gzip.finish().expect("memory takes all that is written"),
        )
        .expect("cargo's folder takes files");
    }
}
