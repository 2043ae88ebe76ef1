//! The machine that figures are of.

use std::{fs::read_to_string, thread::available_parallelism};

/// Its processor, cores, memory and kernel, as far as Linux says so.
pub(crate) fn description() -> String {
    let of = |path: &str| read_to_string(path).unwrap_or_default();
    let processor = field(&of("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let cores = available_parallelism().map_or(0, usize::from);
    let memory_kb: u64 = field(&of("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse().ok())
        .unwrap_or_default();
    let kernel = of("/proc/sys/kernel/osrelease");
    format!("{processor}, {cores} cores, {:.0} GiB, Linux {}", memory_kb as f64 / 1_048_576.0, kernel.trim())
}

/// The value of the first line with this name, as in `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name_alone() {
        let text = "model\t\t: 17\nmodel name\t: EPYC\nmodel name\t: other\nMemTotal:       24 kB\n";
        assert_eq!(field(text, "model name").as_deref(), Some("EPYC"));
        assert_eq!(field(text, "MemTotal").as_deref(), Some("24 kB"));
        assert_eq!(field(text, "bogomips"), None);
    }
}
