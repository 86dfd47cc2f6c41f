//! Once an arena is resident, no length of text makes the process grow. Alone in its file: other tests would grow beside it.

use std::fs;
use std::path::Path;

use plimsoll_encoder::{Batch, BatchShape, Model};
use plimsoll_memory::Scratch;

/// Tokens of a pass.
const TOKENS: usize = 2048;

/// Memory of the process that no file is behind, from the kernel's own count of pages.
fn anonymous_kib() -> usize {
    let table = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = table.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn no_length_makes_the_process_grow() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/default");
    let model = Model::load_dir(&directory).unwrap();
    let longest = model.info().tokens_max;
    let shape = BatchShape {
        tokens: TOKENS,
        sequences: TOKENS,
        tokens_longest: longest,
    };
    let mut scratch = Scratch::new(model.forward_scratch(shape).bytes()).unwrap();
    scratch.populate().unwrap();
    let ids = [7; TOKENS];
    let mut run = |length: usize| {
        let lens = [length as u32; TOKENS];
        let sequences = (longest / length).min(4);
        let batch = Batch {
            ids: &ids[..sequences * length],
            types: &[],
            lens: &lens[..sequences],
        };
        let frame = scratch.frame();
        model.forward(&batch, &frame).unwrap();
    };
    run(1);
    anonymous_kib();
    let before = anonymous_kib();
    // Every ninth length, now a short one, now a long one.
    (0..longest)
        .step_by(9)
        .for_each(|step| run(step * 197 % longest + 1));
    assert_eq!(anonymous_kib(), before, "KiB");
}
