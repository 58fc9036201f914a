//! A small project like those that people build: code, data and a few large files, always the same.

use std::fmt::Write as _;
use std::path::Path;

use crate::{Failure, shell};

/// Modules of source code, some 4 kB each.
const MODULES: u64 = 100;

/// Tables of data, some 50 kB each.
const TABLES: u64 = 18;

/// Large files, as a model's weights would be; random bytes, which do not compress.
const SHARDS: u64 = 8;
const SHARD_BYTES: usize = 2_400_000;

/// The line that a change touches.
const CHANGED_FILE: &str = "main.py";

/// Writes the project: 130 files, 21 MB.
pub(super) fn write(directory: &Path, base: &str) -> Result<(), Failure> {
    let put = |name: &str, content: &[u8]| shell::write_file(&directory.join(name), content);
    put("Dockerfile", dockerfile(base).as_bytes())?;
    put(".dockerignore", b".git\n__pycache__\n*.pyc\n")?;
    put("requirements.txt", b"numpy==2.2.6\n")?;
    change(directory, 0)?;
    for number in 0..MODULES {
        put(&format!("app/module_{number:03}.py"), module(number).as_bytes())?;
    }
    for number in 0..TABLES {
        put(&format!("data/table_{number:02}.csv"), table(number).as_bytes())?;
    }
    for number in 0..SHARDS {
        put(&format!("model/shard_{number}.bin"), &Noise(number + 1).bytes(SHARD_BYTES))?;
    }
    Ok(())
}

/// Changes one line of the code.
pub(super) fn change(directory: &Path, number: u64) -> Result<(), Failure> {
    let text = format!("import sys\n\nVERSION = {number}\nprint(VERSION, sys.version)\n");
    shell::write_file(&directory.join(CHANGED_FILE), text)
}

/// What changes least comes first, as in a Dockerfile of someone who knows the cache.
fn dockerfile(base: &str) -> String {
    format!(
        "FROM {base}\n\
         WORKDIR /srv/app\n\
         COPY requirements.txt .\n\
         RUN sort requirements.txt > installed.txt\n\
         COPY . .\n\
         CMD [\"python3\", \"main.py\"]\n"
    )
}

pub(super) fn module(number: u64) -> String {
    let mut noise = Noise(1000 + number);
    let mut text = format!("\"\"\"Module {number} of the sample.\"\"\"\n\n");
    for function in 0..40 {
        let value = noise.next() % 100_000;
        writeln!(
            text,
            "def step_{function}(value: int) -> int:\n    \"\"\"Adds {value}.\"\"\"\n    \
             return (value + {value}) % 65521\n"
        )
        .expect("writing to a string cannot fail");
    }
    text
}

fn table(number: u64) -> String {
    let mut noise = Noise(2000 + number);
    let mut text = "row,first,second\n".to_owned();
    for row in 0..2000 {
        let (first, second) = (noise.next() % 1_000_000, noise.next() % 1_000_000);
        writeln!(text, "{row},{first},{second}").expect("writing to a string cannot fail");
    }
    text
}

/// The same numbers on every machine (xorshift64 of Marsaglia); the seed is not zero.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_always_the_same_and_as_large_as_it_says() {
        let files = 4 + MODULES + TABLES + SHARDS;
        assert_eq!(files, 130);
        let shards = Noise(1).bytes(SHARD_BYTES).len() as u64 * SHARDS;
        let text: usize = (0..MODULES).map(|number| module(number).len()).sum();
        let tables: usize = (0..TABLES).map(|number| table(number).len()).sum();
        let total = shards + text as u64 + tables as u64;
        assert!((20_000_000..22_000_000).contains(&total), "{total}");
        assert_eq!(module(7), module(7));
        assert_eq!(Noise(1).bytes(9), [65, 32, 130, 64, 0, 0, 0, 0, 65]);
    }
}
