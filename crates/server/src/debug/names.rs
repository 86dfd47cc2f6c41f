//! Names of places in this process, from the symbol table of its own executable.
//!
//! The table and its strings are megabytes, and a library that loads them, or maps the whole file, takes more than a profile may (`debug reading` in the bill). So the table
//! is read in pieces and only the strings of the symbols that were met.

use std::fs::{self, File};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Symbols read at once.
const PIECE_SYMBOLS: usize = 2048;
/// A longer name is cut.
const NAME_BYTES_MAX: usize = 1024;

/// ELF64, little-endian: sizes of its records.
const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
/// `e_type` of an executable that lies where it was linked to.
const FIXED: u16 = 2;
/// `sh_type` of the table of symbols; the type of a symbol that is a function.
const SYMBOL_TABLE: u32 = 2;
const FUNCTION: u8 = 2;

/// The names of return addresses (sorted): a function's of the executable, a library's in brackets, or `?`.
///
/// # Errors
/// When the executable cannot be read, is no ELF64 file or was stripped of its symbols.
pub(super) fn names(addresses: &[u64]) -> io::Result<Vec<String>> {
    let executable = Executable::open()?;
    let mut symbols = vec![None; addresses.len()];
    executable.each_function(|start, end, name_at| {
        let first = addresses.partition_point(|&address| address - 1 < start);
        let inside = addresses[first..]
            .iter()
            .take_while(|&&address| address - 1 < end)
            .count();
        symbols[first..first + inside].fill(Some(name_at));
    })?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let named = addresses
        .iter()
        .zip(symbols)
        .map(|(&address, symbol)| match symbol {
            Some(name_at) => executable.name(name_at),
            None => Ok(library(&maps, address)),
        });
    named.collect()
}

struct Executable {
    file: File,
    /// Where address 0 of the file lies in this process.
    base: u64,
    /// Place and bytes of the symbols, place of their names.
    symbols: (u64, u64),
    strings_at: u64,
}

impl Executable {
    fn open() -> io::Result<Executable> {
        let file = File::open("/proc/self/exe")?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        if header[..6] != *b"\x7fELF\x02\x01" {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "the executable is no ELF64 file",
            ));
        }
        let sections_at = u64_at(&header, 0x28);
        let section = |number: u64| {
            let mut section = [0; SECTION_BYTES];
            file.read_exact_at(&mut section, sections_at + number * SECTION_BYTES as u64)?;
            io::Result::Ok(section)
        };
        for number in 0..u64::from(u16_at(&header, 0x3c)) {
            let table = section(number)?;
            if u32_at(&table, 4) == SYMBOL_TABLE {
                let strings = section(u64::from(u32_at(&table, 40)))?;
                let base = if u16_at(&header, 0x10) == FIXED {
                    0
                } else {
                    base()?
                };
                return Ok(Executable {
                    symbols: (u64_at(&table, 24), u64_at(&table, 32)),
                    strings_at: u64_at(&strings, 24),
                    file,
                    base,
                });
            }
        }
        Err(Error::new(
            ErrorKind::NotFound,
            "the executable was stripped of its symbols",
        ))
    }

    /// Calls `with` for each function: its first address in this process, the one behind it, and where its name is.
    fn each_function(&self, mut with: impl FnMut(u64, u64, u64)) -> io::Result<()> {
        let (at, bytes) = self.symbols;
        let mut piece = vec![0; PIECE_SYMBOLS * SYMBOL_BYTES];
        for from in (0..bytes).step_by(piece.len()) {
            let length = piece.len().min((bytes - from) as usize);
            self.file.read_exact_at(&mut piece[..length], at + from)?;
            for symbol in piece[..length].chunks_exact(SYMBOL_BYTES) {
                let (start, size) = (u64_at(symbol, 8), u64_at(symbol, 16));
                if symbol[4] & 0xf == FUNCTION && size > 0 {
                    let start = self.base.wrapping_add(start);
                    with(start, start.wrapping_add(size), u64::from(u32_at(symbol, 0)));
                }
            }
        }
        Ok(())
    }

    fn name(&self, at: u64) -> io::Result<String> {
        let mut bytes = [0; NAME_BYTES_MAX];
        let read = self.file.read_at(&mut bytes, self.strings_at + at)?;
        let length = bytes[..read].iter().position(|&byte| byte == 0).unwrap_or(read);
        let name = String::from_utf8_lossy(&bytes[..length]);
        Ok(format!("{:#}", rustc_demangle::demangle(&name)))
    }
}

/// Where the executable's first byte is mapped.
fn base() -> io::Result<u64> {
    let (path, maps) = (
        fs::read_link("/proc/self/exe")?,
        fs::read_to_string("/proc/self/maps")?,
    );
    let path = path.to_string_lossy();
    let mut first = maps
        .lines()
        .filter(|line| line.ends_with(&*path))
        .filter_map(mapping);
    let mapping = first.find(|mapping| mapping.offset == 0);
    let mapping = mapping.ok_or_else(|| Error::new(ErrorKind::NotFound, "the executable is not mapped"))?;
    Ok(mapping.start)
}

/// The file that an address is mapped from, in brackets.
fn library(maps: &str, address: u64) -> String {
    let mapping = maps
        .lines()
        .filter_map(mapping)
        .find(|m| (m.start..m.end).contains(&(address - 1)));
    let name = mapping.and_then(|mapping| Path::new(mapping.path).file_name()?.to_str());
    name.map_or_else(
        || "?".to_owned(),
        |name| format!("[{}]", name.trim_matches(['[', ']'])),
    )
}

struct Mapping<'a> {
    start: u64,
    end: u64,
    offset: u64,
    path: &'a str,
}

/// A line of `/proc/self/maps`: `start-end permissions offset device inode path`.
fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let hex = |digits| u64::from_str_radix(digits, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset: hex(offset)?,
        path: fields.nth(2).map_or("", str::trim),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_with_a_name() -> u64 {
        std::hint::black_box(a_function_with_a_name as *const () as u64)
    }

    #[test]
    fn functions_of_this_program_have_their_names_and_others_that_of_their_file() {
        let own = a_function_with_a_name() + 1;
        let maps = fs::read_to_string("/proc/self/maps").expect("maps");
        let stack = maps
            .lines()
            .find(|line| line.ends_with("[stack]"))
            .and_then(mapping)
            .expect("a stack");
        let mut addresses = [own, stack.start + 1, 1];
        addresses.sort_unstable();
        let names = names(&addresses).expect("names");
        let at = |address| {
            &names[addresses
                .iter()
                .position(|&other| other == address)
                .expect("asked")]
        };
        assert!(
            at(own).ends_with("names::tests::a_function_with_a_name"),
            "{}",
            at(own)
        );
        assert_eq!((at(stack.start + 1).as_str(), at(1).as_str()), ("[stack]", "?"));
    }
}
