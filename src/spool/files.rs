//! The files of a spool: their names, their lock, and what is read from them.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{line::Line, state::State};

/// A spool's files, in the order of their numbers.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(number) {
            files.push((number, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("usage-")?.strip_suffix(".jsonl")?;
    digits.parse().ok()
}

pub(super) fn name(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("usage-{number:08}.jsonl"))
}

/// Keeps other processes out, until it is dropped or the process ends.
pub(super) fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) lines: Vec<Line>,
    /// Its head is whole.
    pub(super) begun: bool,
    /// Lines that are none.
    pub(super) torn: usize,
}

pub(super) fn read(path: &Path) -> io::Result<Held> {
    let mut text = Vec::new();
    File::open(path)?.read_to_end(&mut text)?;
    Ok(parse(&text))
}

pub(super) fn parse(text: &[u8]) -> Held {
    let mut held = Held::default();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // A line without its end was being written when its process died.
        let whole = line.strip_suffix(b"\n").and_then(Line::read);
        let Some(line) = whole else {
            held.torn += 1;
            continue;
        };
        if let Line::Begun(lines) = line {
            held.begun |= held.torn == 0 && lines == held.lines.len() as u64;
        }
        held.lines.push(line);
    }
    held
}

/// The state that the newest file leaves; its predecessor's if its head is torn, and so on.
pub(super) fn restore(dir: &Path) -> io::Result<State> {
    let mut state = State::default();
    for (_, path) in list(dir)?.iter().rev() {
        let held = read(path)?;
        let file = path.display();
        if !held.begun {
            tracing::warn!(%file, "the head of a spool file is torn: the one before it is read");
            continue;
        }
        if held.torn > 0 {
            tracing::warn!(%file, lines = held.torn, "a spool file holds lines that cannot be read");
        }
        for line in &held.lines {
            state.apply(line);
        }
        break;
    }
    Ok(state)
}
