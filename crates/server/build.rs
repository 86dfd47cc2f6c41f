//! Compresses the files of the page, so that the binary holds them small and sends them as they are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::{Compression, GzBuilder};

const FILES: [&str; 11] = [
    "index.html",
    "page.css",
    "page.js",
    "figures.js",
    "request.js",
    "hull.js",
    "charts.js",
    "try.js",
    "icon.svg",
    "uplot/uPlot.iife.min.js",
    "uplot/uPlot.min.css",
];

fn main() {
    println!("cargo::rerun-if-changed=assets");
    let to = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    for file in FILES {
        let from = Path::new("assets").join(file);
        let bytes = fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
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
