//! A small Python application that is the same on every machine.

use std::path::{Path, PathBuf};

/// Modules of the application.
const MODULES: usize = 120;
/// Data files and their size: together about what small wheels weigh.
const DATA_FILES: usize = 10;
const DATA_BYTES: usize = 2 << 20;

/// The base that the application is built from, by the name that every contender gives it.
pub(super) const BASE: &str = "golden.internal/python:3.11-slim";

pub(super) struct App {
    pub(super) directory: PathBuf,
}

impl App {
    pub(super) fn create(work: &Path) -> Result<Self, String> {
        let directory = work.join("app");
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            let folder = path.parent().unwrap_or(&directory);
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&path, bytes))
                .map_err(|error| format!("failed to write {}: {error}", path.display()))
        };
        write("Dockerfile", dockerfile().as_bytes())?;
        write("requirements.txt", b"# nothing: the benchmark measures the builder\n")?;
        write("app.py", b"VERSION = 0\nprint('app', VERSION)\n")?;
        for module in 0..MODULES {
            let text = format!("def f{module}(x):\n    return x + {module}\n").repeat(20);
            write(&format!("src/m{module:03}.py"), text.as_bytes())?;
        }
        for file in 0..DATA_FILES {
            write(&format!("data/{file}.bin"), &noise(file as u64 + 1))?;
        }
        Ok(Self { directory })
    }

    /// Changes one line of the code, to something that was never built.
    pub(super) fn change(&self, round: usize) -> Result<(), String> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_nanos());
        let text = format!("VERSION = '{round}-{now}'\nprint('app', VERSION)\n");
        std::fs::write(self.directory.join("app.py"), text).map_err(|error| error.to_string())
    }
}

fn dockerfile() -> String {
    format!(
        "FROM {BASE}\n\
         ENV PYTHONUNBUFFERED=1\n\
         WORKDIR /app\n\
         COPY requirements.txt .\n\
         RUN python3 -c 'open(\"/app/ready\", \"w\").write(\"yes\")'\n\
         COPY data data\n\
         COPY src src\n\
         COPY app.py .\n\
         EXPOSE 8000\n\
         CMD [\"python3\", \"app.py\"]\n"
    )
}

/// Bytes that do not compress, from a seed (xorshift).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(DATA_BYTES);
    while bytes.len() < DATA_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}
