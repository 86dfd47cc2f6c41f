//! The product where the CPU multiplies [tiles](crate::simd::Simd::HAS_TILES): sums come from memory, in the first-level cache, instead of registers.
//!
//! All rows of x are cut into tiles of one height, so that shapes are set once: the last tile ends with the last row, and does some rows of the one before again.
//! Two tiles of rows share the tiles of weights. Floats in [two bf16](crate::Format::TwoBf16) are multiplied half by half, three products of tiles for one.

use super::{Columns, Epilogue, Output, Part, Target};
use crate::act::{Apply, Function, apply};
use crate::packed::{Format, PANEL};
use crate::simd::{Fetch, Simd, TILE};

/// Tiles of a row of sums.
const COLUMNS: usize = 3;
/// Cache lines of weights in a step of [`TILE`] words.
const STEP_LINES: usize = PANEL * TILE / LINE_WORDS;
const LINE_WORDS: usize = 64 / size_of::<u32>();
/// Rows of sums.
const ROWS: usize = 2 * TILE;

/// Sums of two tiles of rows; tiles are written in whole cache lines.
#[repr(align(64))]
struct Sums([u32; ROWS * PANEL]);

/// How the rows of x are cut.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    /// Rows of each tile.
    height: usize,
    /// Rows that each step brings, but for the last: one tile's or two tiles'.
    stride: usize,
}

impl Cut {
    /// With a rest, where the words of x are no whole tiles, there are no registers for two tiles of rows.
    fn new(rows: usize, rest: usize) -> Cut {
        let height = rows.div_ceil(rows.div_ceil(TILE));
        let stride = if rest == 0 { 2 * height } else { height };
        Cut { rows, height, stride }
    }

    /// First rows of the tiles that bring the rows from `done` on.
    fn tiles(self, done: usize) -> (usize, Option<usize>) {
        let last = self.rows - self.height;
        let second = done + self.height;
        let is_there = self.stride > self.height && second < self.rows;
        (done.min(last), is_there.then(|| second.min(last)))
    }
}

impl Part<'_> {
    /// All panels of this part.
    #[inline(always)]
    pub(super) fn by_tiles<S: Simd, const FORMAT: u8>(&self, s: S) {
        if self.x.rows() == 0 {
            return;
        }
        let rest = self.x.words() % TILE;
        let cut = Cut::new(self.x.rows(), rest);
        s.shape_tiles(cut.height, rest);
        let (mut sums, mut aside) = (Sums([0; ROWS * PANEL]), [0.0; ROWS * PANEL]);
        let steps = cut.rows.div_ceil(cut.stride);
        for panel in self.panels.clone() {
            let columns = self.columns::<S, COLUMNS>(s, panel, 0);
            for step in 0..steps {
                let done = step * cut.stride;
                let first =
                    self.sum::<S, FORMAT>(s, &columns, cut, done, self.fetch(panel, step, steps), &mut sums);
                let rows = done..cut.rows.min(done + cut.stride);
                self.finish::<S, FORMAT>(s, &columns, rows, &sums.0[(done - first) * PANEL..], &mut aside);
            }
        }
        s.release_tiles();
    }

    /// Sums of the rows from `done` on; returns the row that they begin with.
    #[inline(always)]
    fn sum<S: Simd, const FORMAT: u8>(
        &self,
        s: S,
        columns: &Columns<'_, S, COLUMNS>,
        cut: Cut,
        done: usize,
        fetch: Fetch,
        sums: &mut Sums,
    ) -> usize {
        let (words, (first, second)) = (self.x.words(), cut.tiles(done));
        let x = self.x.strided(first..first + cut.height);
        let start = sums.0.as_mut_ptr();
        // SAFETY: `by_tiles` shaped the tiles; `strided` checked the rows of x, and a panel has a step of PANEL words for each of their words. Sums have room for two
        // tiles of rows, the second at most TILE rows behind the first.
        unsafe {
            match second {
                Some(second) => {
                    let x = [x, self.x.strided(second..second + cut.height)];
                    let sums = [start, start.add((second - first) * PANEL)];
                    s.multiply_two_tiles::<FORMAT>(x, columns.w.words, words, fetch, sums);
                }
                None => s.multiply_tile::<FORMAT, COLUMNS>(x, columns.w, words, fetch, start),
            }
        }
        first
    }

    /// What a step fetches: its share of the panel that is read next.
    #[inline(always)]
    fn fetch(&self, panel: usize, step: usize, steps: usize) -> Fetch {
        let next = if panel + 1 < self.panels.end {
            panel + 1
        } else {
            self.next
        };
        let Some(from) = self.w.fetched(next) else {
            return Fetch::NOTHING;
        };
        let lines = STEP_LINES.div_ceil(steps);
        let share = lines * (self.x.words() / TILE) * LINE_WORDS;
        Fetch {
            from: from.wrapping_add(step * share),
            lines,
        }
    }

    /// Has sums of some rows become Y.
    #[inline(always)]
    fn finish<S: Simd, const FORMAT: u8>(
        &self,
        s: S,
        columns: &Columns<'_, S, COLUMNS>,
        rows: core::ops::Range<usize>,
        sums: &[u32],
        aside: &mut [f32; ROWS * PANEL],
    ) {
        let (first, height) = (rows.start, rows.len());
        assert!(sums.len() >= height * PANEL);
        // For rows that cannot go straight to Y.
        let aside = Output {
            start: aside.as_mut_ptr(),
            stride: PANEL,
        };
        let whole = columns.count == PANEL;
        let target = match self.target {
            Target::Floats(y, epilogue) if whole => Target::Floats(y.at(first, columns.first), epilogue),
            Target::Bf16(y, f) if whole => Target::Bf16(y.at(first, columns.first / 2), f),
            Target::Floats(_, Epilogue::Add) => Target::Floats(aside, Epilogue::Store),
            Target::Floats(_, epilogue) => Target::Floats(aside, epilogue),
            Target::Bf16(_, f) => Target::Floats(aside, Epilogue::Activate(f)),
        };
        let finish = Finish::<S, FORMAT> {
            sums,
            columns,
            rows,
            target,
        };
        match target {
            Target::Floats(_, Epilogue::Activate(f)) | Target::Bf16(_, f) => {
                apply(s, f, self.w.format() != Format::TwoBf16, finish)
            }
            Target::Floats(..) => finish.apply::<Same>(s),
        }
        if !whole {
            self.put(s, aside, columns, first, height);
        }
    }
}

/// No activation.
struct Same;

impl Function for Same {
    #[inline(always)]
    fn of<S: Simd>(_s: S, x: S::V) -> S::V {
        x
    }
}

/// Rows of sums on their way to Y.
struct Finish<'a, S: Simd, const FORMAT: u8> {
    sums: &'a [u32],
    columns: &'a Columns<'a, S, COLUMNS>,
    rows: core::ops::Range<usize>,
    /// From the first of the rows and the first of the columns on.
    target: Target,
}

impl<S: Simd, const FORMAT: u8> Apply<S> for Finish<'_, S, FORMAT> {
    #[inline(always)]
    fn apply<F: Function>(self, s: S) {
        let is_bytes = FORMAT == Format::Int8 as u8;
        for (i, sums) in self.sums.chunks_exact(PANEL).take(self.rows.len()).enumerate() {
            let tail = is_bytes.then(|| self.columns.x.tail(self.rows.start + i));
            let mut v = [s.splat(0.0); COLUMNS];
            for (n, v) in v.iter_mut().enumerate() {
                // SAFETY: a row of sums is three vectors of the instruction sets that have tiles.
                let sum = unsafe { s.load_words(sums[n * S::LANES..].as_ptr()) };
                let sum = if is_bytes {
                    s.words_to_floats(sum)
                } else {
                    s.floats(sum)
                };
                *v = F::of(s, self.columns.finished(s, n, sum, tail));
            }
            // SAFETY: a row of PANEL numbers of Y, or of those aside, which nobody else touches.
            unsafe {
                match self.target {
                    Target::Floats(y, epilogue) => {
                        let y = core::slice::from_raw_parts_mut(y.at(i, 0).start, PANEL);
                        for (v, to) in v.into_iter().zip(y.chunks_exact_mut(S::LANES)) {
                            s.store(
                                if epilogue == Epilogue::Add {
                                    s.add(v, s.load(to))
                                } else {
                                    v
                                },
                                to,
                            );
                        }
                    }
                    Target::Bf16(y, _) => {
                        let y = y.at(i, 0).start;
                        s.store_both_bf16(v[0], v[1], y);
                        s.store_bf16(v[2], y.add(S::LANES));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_brought_once_and_tiles_stay_within_the_rows() {
        for rest in [0, 3] {
            for rows in 1..200 {
                let cut = Cut::new(rows, rest);
                let mut done = 0;
                while done < rows {
                    let (first, second) = cut.tiles(done);
                    assert!(first <= done && first + cut.height <= rows);
                    let end = match second {
                        Some(second) => {
                            assert!(second > first && second - first <= TILE && second <= first + cut.height);
                            second + cut.height
                        }
                        None => first + cut.height,
                    };
                    assert_eq!(end, rows.min(done + cut.stride), "{rows} rows, from {done}");
                    done = end;
                }
            }
        }
    }
}
