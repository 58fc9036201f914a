//! Wall and processor time of one command.

use std::process::{Command, Stdio};
use std::time::Instant;

/// One run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    wall_ms: f64,
    cpu_ms: f64,
}

/// What many runs say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) median_ms: f64,
    pub(super) min_ms: f64,
    pub(super) cpu_ms: f64,
}

/// Runs a command to its end and measures it; an unsuccessful end is an error.
pub(super) fn measure(command: &mut Command) -> Result<Sample, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let before = children_cpu_ms()?;
    let started = Instant::now();
    let output =
        command.output().map_err(|error| format!("failed to start {command:?}: {error}"))?;
    let wall_ms = started.elapsed().as_secs_f64() * 1000.0;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(Sample { wall_ms, cpu_ms: children_cpu_ms()? - before })
}

/// Processor time of all children that have ended, from `/proc/self/stat`: fields 16 and 17, in
/// ticks of a hundredth of a second, so that small figures only count in a sum.
fn children_cpu_ms() -> Result<f64, String> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(|error| error.to_string())?;
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = fields
        .split(' ')
        .skip(13)
        .take(2)
        .map(|field| field.parse::<f64>().unwrap_or_default())
        .sum();
    Ok(ticks * 10.0)
}

pub(super) fn summarise(samples: &[Sample]) -> Summary {
    let mut wall: Vec<f64> = samples.iter().map(|sample| sample.wall_ms).collect();
    wall.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a few dozen samples")]
    let count = samples.len().max(1) as f64;
    Summary {
        median_ms: wall.get(wall.len() / 2).copied().unwrap_or_default(),
        min_ms: wall.first().copied().unwrap_or_default(),
        cpu_ms: samples.iter().map(|sample| sample.cpu_ms).sum::<f64>() / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let samples = [3.0, 1.0, 100.0].map(|wall_ms| Sample { wall_ms, cpu_ms: 2.0 });
        let summary = summarise(&samples);
        assert!((summary.median_ms - 3.0).abs() < 1e-9 && (summary.min_ms - 1.0).abs() < 1e-9);
        assert!((summary.cpu_ms - 2.0).abs() < 1e-9);
    }
}
