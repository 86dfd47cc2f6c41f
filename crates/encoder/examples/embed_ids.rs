//! Embeds token ids: a bridge for comparing this encoder with others.
//!
//! `cargo run --release -p plimsoll-encoder --example embed_ids -- MODEL_DIRECTORY [portable|avx2|avx512] < ids > vectors`
//!
//! A line of standard input is one sequence, ids separated by spaces. Standard output is one unit vector a line, as
//! little-endian f32 without separators. Sequences are packed into passes of up to 2,048 tokens.

use std::error::Error;
use std::io::{self, BufRead, Write};

use plimsoll_encoder::{Batch, BatchShape, Model};
use plimsoll_kernel::{Isa, Kernel};
use plimsoll_memory::Scratch;

const PASS_TOKENS: usize = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .ok_or("usage: embed_ids MODEL_DIRECTORY [ISA] < ids > vectors")?;
    let mut kernel = Kernel::detect();
    if let Some(name) = arguments.next() {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or("no such instruction set")?;
        kernel = Kernel::with(isa).ok_or("this CPU lacks that instruction set")?;
    }
    let model = Model::load_dir_on(kernel, directory.as_ref(), None)?;
    eprintln!("{} on {}", model.info().dtype, model.kernel().isa().name());
    let longest = model.info().positions_max;
    let shape = BatchShape {
        tokens: PASS_TOKENS.max(longest),
        sequences: PASS_TOKENS,
        tokens_longest: longest,
    };
    let mut scratch = Scratch::new(model.forward_scratch(shape).bytes())?;
    let mut out = io::stdout().lock();
    let (mut ids, mut lens) = (Vec::new(), Vec::new());
    for line in io::stdin().lock().lines() {
        let sequence = line?
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>()?;
        if !lens.is_empty() && ids.len() + sequence.len() > PASS_TOKENS {
            embed(&model, &mut scratch, &ids, &lens, &mut out)?;
            ids.clear();
            lens.clear();
        }
        lens.push(sequence.len() as u32);
        ids.extend(sequence);
    }
    embed(&model, &mut scratch, &ids, &lens, &mut out)
}

fn embed(
    model: &Model,
    scratch: &mut Scratch,
    ids: &[u32],
    lens: &[u32],
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let frame = scratch.frame();
    let hidden = model.forward(
        &Batch {
            ids,
            types: &[],
            lens,
        },
        &frame,
    )?;
    let mut vector = vec![0.0; hidden.width()];
    let mut start = 0;
    for &len in lens {
        let tokens = start..start + len as usize;
        start = tokens.end;
        model.pool(&hidden, tokens, true, &mut vector);
        for value in &vector {
            out.write_all(&value.to_le_bytes())?;
        }
    }
    Ok(())
}
