//! Two projects with Python packages: a small service, and one with a wheel of gigabytes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::sample;
use crate::{Failure, shell};

/// What the small service needs; with what these need, 19 wheels and 21 MB.
const SERVICE: &str = "fastapi==0.165.0 uvicorn==0.54.0 numpy==2.4.6 requests==2.34.2";

/// 1.1 GB of wheels, 2 GB when they are installed.
const LARGE: &str = "torch==2.15.0 nvidia-cublas-cu12==12.9.3.13";

/// Modules of the service.
const MODULES: u64 = 100;

/// A project whose wheels lie in its context.
#[derive(Debug, Clone)]
pub(super) struct Application {
    pub directory: PathBuf,
    /// How the wheels are installed, without the place that they go to.
    pub install: &'static str,
}

/// The service: packages first, then a hundred files of code, then the file that changes.
pub(super) fn service(directory: &Path, base: &str) -> Result<Application, Failure> {
    let put = |name: &str, text: &str| shell::write_file(&directory.join(name), text);
    let install = "pip install --no-index --find-links /wheels --requirement requirements.txt";
    put(
        "Dockerfile",
        &format!(
            "FROM {base}\n\
             ENV PYTHONUNBUFFERED=1\n\
             WORKDIR /app\n\
             COPY requirements.txt .\n\
             COPY wheels /wheels\n\
             RUN {install}\n\
             COPY src src\n\
             COPY app.py .\n\
             EXPOSE 8000\n\
             CMD [\"uvicorn\", \"app:app\"]\n"
        ),
    )?;
    put("requirements.txt", &SERVICE.replace(' ', "\n"))?;
    for number in 0..MODULES {
        put(&format!("src/module_{number:03}.py"), &sample::module(number))?;
    }
    change(directory, 0)?;
    let install = "pip install --no-index --find-links /wheels fastapi uvicorn numpy requests";
    Ok(Application { directory: directory.to_owned(), install })
}

/// The large one: the wheels are only mounted.
pub(super) fn large(directory: &Path, base: &str) -> Result<Application, Failure> {
    let install = "pip install --no-deps --no-index --find-links /wheels torch nvidia-cublas-cu12";
    let text = format!(
        "FROM {base}\n\
         RUN --mount=type=bind,source=wheels,target=/wheels {install}\n\
         COPY app.py /app.py\n"
    );
    shell::write_file(&directory.join("Dockerfile"), text)?;
    change(directory, 0)?;
    Ok(Application { directory: directory.to_owned(), install })
}

/// Changes one line of the code.
pub(super) fn change(directory: &Path, number: u64) -> Result<(), Failure> {
    let mut text = "from fastapi import FastAPI\n\napp = FastAPI()\n".to_owned();
    writeln!(text, "\n\n@app.get(\"/\")\ndef root() -> dict:\n    return {{\"v\": {number}}}")
        .expect("writing to a string cannot fail");
    shell::write_file(&directory.join("app.py"), text)
}

/// A Dockerfile whose files are the wheels of a project, fetched from the package index.
pub(super) fn fetching(base: &str, is_large: bool) -> String {
    let (packages, more) = if is_large { (LARGE, " --no-deps") } else { (SERVICE, "") };
    format!(
        "FROM {base} AS fetched\n\
         RUN pip download --quiet --only-binary :all:{more} --dest /wheels {packages}\n\
         FROM scratch\n\
         COPY --from=fetched /wheels /\n"
    )
}
