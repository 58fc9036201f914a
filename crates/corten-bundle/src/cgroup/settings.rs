//! From the resources of a configuration to files and values of control groups. Pure.

use crate::config::{BlockIo, Cpu, DeviceRule, Memory, Resources, ThrottleDevice};
use crate::error::{BundleError, invalid};

/// A value for a file of one controller's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub controller: String,
    pub file: String,
    pub value: String,
    /// It is not what somebody asked for, and may fail.
    pub optional: bool,
}

fn setting(controller: &str, file: &str, value: impl std::fmt::Display) -> Setting {
    let (controller, file) = (controller.to_owned(), file.to_owned());
    Setting { controller, file, value: format!("{value}"), optional: false }
}

/// What every container may use: to make nodes of any device, and to use those that it is given.
const DEFAULT_DEVICES: &[(char, i64, i64, &str)] = &[
    ('c', -1, -1, "m"),
    ('b', -1, -1, "m"),
    ('c', 1, 3, "rwm"),
    ('c', 1, 8, "rwm"),
    ('c', 1, 7, "rwm"),
    ('c', 5, 0, "rwm"),
    ('c', 1, 5, "rwm"),
    ('c', 1, 9, "rwm"),
    ('c', 5, 1, "rwm"),
    ('c', 136, -1, "rwm"),
    ('c', 5, 2, "rwm"),
];

/// Decides all values. `unified` is true where version 2 is all there is.
pub(crate) fn plan(resources: &Resources, unified: bool) -> Result<Vec<Setting>, BundleError> {
    let mut settings = Vec::new();
    if unified {
        plan_v2(resources, &mut settings)?;
    } else {
        plan_v1(resources, &mut settings)?;
        if !resources.unified.is_empty() {
            return Err(invalid("linux.resources.unified needs a host with nothing but cgroup v2"));
        }
    }
    Ok(settings)
}

/// The rules of devices, as version 1 takes them. A container without rules may use nothing but what
/// every one may.
pub(crate) fn plan_devices(rules: &[DeviceRule]) -> Result<Vec<Setting>, BundleError> {
    let mut settings = Vec::new();
    for rule in rules {
        settings.push(device(rule)?);
    }
    if !rules.is_empty() {
        for (kind, major, minor, access) in DEFAULT_DEVICES {
            let rule = DeviceRule {
                allow: true,
                kind: kind.to_string(),
                major: Some(*major),
                minor: Some(*minor),
                access: (*access).to_owned(),
            };
            settings.push(device(&rule)?);
        }
    }
    Ok(settings)
}

/// The same rules for version 2, which takes a program.
pub(crate) fn plan_device_program(
    rules: &[DeviceRule],
) -> Result<Option<Vec<corten_sys::bpf::Instruction>>, BundleError> {
    let texts = plan_devices(rules)?;
    if texts.is_empty() {
        return Ok(None);
    }
    let rule = |setting: &Setting| {
        let text = if setting.value == "a" { "a *:* rwm" } else { &setting.value };
        let mut rule = corten_runtime::DeviceRule::parse(text)?;
        rule.allow = setting.file == "devices.allow";
        Some(rule)
    };
    let rules: Option<Vec<_>> = texts.iter().map(rule).collect();
    let rules = rules.ok_or_else(|| invalid("a device rule has an impossible number"))?;
    Ok(Some(corten_runtime::device_program(&rules)))
}

fn device(rule: &DeviceRule) -> Result<Setting, BundleError> {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    if !rule.access.bytes().all(|byte| b"rwm".contains(&byte)) {
        return Err(invalid(format!("`{}` is no access of devices", rule.access)));
    }
    let access = if rule.access.is_empty() { "rwm" } else { &rule.access };
    let kind = match rule.kind.as_str() {
        // All of them: the numbers do not matter.
        "a" | "" => return Ok(setting("devices", file, "a")),
        "c" | "u" => 'c',
        "b" => 'b',
        other => return Err(invalid(format!("`{other}` is no type of a device rule"))),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => "*".to_owned(),
        Some(number) => number.to_string(),
    };
    let value = format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor));
    Ok(setting("devices", file, value))
}

fn plan_v1(resources: &Resources, settings: &mut Vec<Setting>) -> Result<(), BundleError> {
    if let Some(memory) = &resources.memory {
        memory_v1(memory, settings);
    }
    if let Some(cpu) = &resources.cpu {
        cpu_v1(cpu, settings);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        settings.push(setting("pids", "pids.max", positive_or_max(limit)));
    }
    if let Some(io) = &resources.block_io {
        io_v1(io, settings);
    }
    for huge in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.limit_in_bytes", page_size(&huge.page_size)?);
        settings.push(setting("hugetlb", &file, huge.limit));
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            settings.push(setting("net_cls", "net_cls.classid", class));
        }
        for one in &network.priorities {
            let value = format!("{} {}", one.name, one.priority);
            settings.push(setting("net_prio", "net_prio.ifpriomap", value));
        }
    }
    rdma(resources, settings);
    Ok(())
}

fn memory_v1(memory: &Memory, settings: &mut Vec<Setting>) {
    let mut add = |file: &str, value: Option<i64>| {
        settings
            .extend(value.filter(|value| *value != 0).map(|value| setting("memory", file, value)));
    };
    // The limit of both must not be below that of memory at any moment: an unlimited one goes first.
    let swap_first = memory.swap == Some(-1);
    if swap_first {
        add("memory.memsw.limit_in_bytes", memory.swap);
    }
    add("memory.limit_in_bytes", memory.limit);
    if !swap_first {
        add("memory.memsw.limit_in_bytes", memory.swap);
    }
    add("memory.soft_limit_in_bytes", memory.reservation);
    add("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp);
    if let Some(swappiness) = memory.swappiness {
        settings.push(setting("memory", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer == Some(true) {
        settings.push(setting("memory", "memory.oom_control", 1));
    }
}

fn cpu_v1(cpu: &Cpu, settings: &mut Vec<Setting>) {
    let mut add = |controller: &str, file: &str, value: Option<String>| {
        settings.extend(value.map(|value| setting(controller, file, value)));
    };
    let text =
        |value: Option<u64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    let signed =
        |value: Option<i64>| value.filter(|value| *value != 0).map(|value| value.to_string());
    add("cpu", "cpu.shares", text(cpu.shares));
    add("cpu", "cpu.idle", signed(cpu.idle));
    add("cpu", "cpu.cfs_period_us", text(cpu.period));
    add("cpu", "cpu.cfs_quota_us", signed(cpu.quota));
    add("cpu", "cpu.cfs_burst_us", text(cpu.burst));
    add("cpu", "cpu.rt_period_us", text(cpu.realtime_period));
    add("cpu", "cpu.rt_runtime_us", signed(cpu.realtime_runtime));
    cpuset(cpu, settings);
}

fn cpuset(cpu: &Cpu, settings: &mut Vec<Setting>) {
    for (file, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            settings.push(setting("cpuset", file, value));
        }
    }
}

fn io_v1(io: &BlockIo, settings: &mut Vec<Setting>) {
    let mut add = |file: &str, value: String| settings.push(setting("blkio", file, value));
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        add("blkio.weight", weight.to_string());
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        add("blkio.leaf_weight", weight.to_string());
    }
    for device in &io.weight_device {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        device.weight.into_iter().for_each(|weight| add("blkio.weight_device", line(weight)));
        device.leaf_weight.into_iter().for_each(|w| add("blkio.leaf_weight_device", line(w)));
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", &io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &io.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        for ThrottleDevice { major, minor, rate } in devices {
            add(file, format!("{major}:{minor} {rate}"));
        }
    }
}

fn plan_v2(resources: &Resources, settings: &mut Vec<Setting>) -> Result<(), BundleError> {
    let mut add = |controller: &str, file: &str, value: String| {
        settings.push(setting(controller, file, value));
    };
    if let Some(memory) = &resources.memory {
        let limit = memory.limit.filter(|limit| *limit != 0);
        if let Some(swap) = swap_v2(memory)? {
            add("memory", "memory.swap.max", swap);
        }
        if let Some(limit) = limit {
            add("memory", "memory.max", max_or(limit));
        }
        if let Some(low) = memory.reservation.filter(|low| *low != 0) {
            add("memory", "memory.low", max_or(low));
        }
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
            add("cpu", "cpu.weight", weight_of_shares(shares).to_string());
        }
        if let Some(idle) = cpu.idle {
            add("cpu", "cpu.idle", idle.to_string());
        }
        if cpu.quota.is_some_and(|quota| quota != 0) || cpu.period.is_some_and(|period| period != 0)
        {
            let quota = cpu.quota.filter(|quota| *quota > 0);
            let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
            let period = cpu.period.filter(|period| *period != 0).unwrap_or(100_000);
            add("cpu", "cpu.max", format!("{quota} {period}"));
        }
        if let Some(burst) = cpu.burst {
            add("cpu", "cpu.max.burst", burst.to_string());
        }
        cpuset(cpu, settings);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        settings.push(setting("pids", "pids.max", positive_or_max(limit)));
    }
    if let Some(io) = &resources.block_io {
        io_v2(io, settings);
    }
    for huge in &resources.hugepage_limits {
        let file = format!("hugetlb.{}.max", page_size(&huge.page_size)?);
        settings.push(setting("hugetlb", &file, huge.limit));
    }
    rdma(resources, settings);
    for (file, value) in &resources.unified {
        if file.contains('/') || !file.contains('.') {
            return Err(invalid(format!("`{file}` is no file of a control group")));
        }
        let controller = file.split('.').next().unwrap_or_default();
        settings.push(setting(controller, file, value));
    }
    Ok(())
}

/// Version 2 counts swap alone, the configuration memory and swap together.
fn swap_v2(memory: &Memory) -> Result<Option<String>, BundleError> {
    let limit = memory.limit.unwrap_or_default();
    Ok(match memory.swap {
        None | Some(0) => None,
        Some(-1) => Some("max".to_owned()),
        Some(_) if limit == -1 => Some("max".to_owned()),
        Some(_) if limit == 0 => {
            return Err(invalid("linux.resources.memory has a swap and no limit"));
        }
        Some(swap) if swap < limit => {
            return Err(invalid("linux.resources.memory.swap is below the limit of memory"));
        }
        Some(swap) => Some((swap - limit).to_string()),
    })
}

fn io_v2(io: &BlockIo, settings: &mut Vec<Setting>) {
    let mut add = |file: &str, value: String| settings.push(setting("io", file, value));
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        // Linux has one of the two, by the scheduler of the disk.
        let scaled = 1 + (u64::from(weight).max(10) - 10) * 9999 / 990;
        add("io.weight", format!("default {scaled}"));
    }
    for device in &io.weight_device {
        if let Some(weight) = device.weight {
            add("io.bfq.weight", format!("{}:{} {weight}", device.major, device.minor));
        }
    }
    let throttles = [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for ThrottleDevice { major, minor, rate } in devices {
            add("io.max", format!("{major}:{minor} {key}={rate}"));
        }
    }
}

fn rdma(resources: &Resources, settings: &mut Vec<Setting>) {
    for (device, limit) in &resources.rdma {
        let mut value = device.clone();
        for (key, number) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)]
        {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        settings.push(setting("rdma", "rdma.max", value));
    }
}

/// As every engine converts it: 2 to 262144 become 1 to 10000.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Zero processes is no limit that anyone wants; -1 is none.
fn positive_or_max(value: i64) -> String {
    if value <= 0 { "max".to_owned() } else { value.to_string() }
}

fn page_size(text: &str) -> Result<&str, BundleError> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let unit = text.strip_prefix(number).unwrap_or_default();
    let known = matches!(unit, "KB" | "MB" | "GB");
    if known && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text);
    }
    Err(invalid(format!("`{text}` is no size of huge pages: `2MB`, `1GB`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(json: &str, unified: bool, expected: &Expect) {
        let resources: Resources = serde_json::from_str(json).expect("read");
        let text = match plan(&resources, unified) {
            Ok(settings) => settings
                .iter()
                .map(|one| format!("{}: {} = {}", one.controller, one.file, one.value))
                .chain([String::new()])
                .collect::<Vec<_>>()
                .join("\n"),
            Err(error) => format!("{error}\n"),
        };
        expected.assert_eq(&text);
    }

    const MUCH: &str = r#"{"memory":{"limit":1048576,"swap":2097152,"reservation":524288,"swappiness":10},
        "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0-1","mems":"0"},
        "pids":{"limit":32},
        "blockIO":{"weight":100,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":100}]},
        "hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
        "network":{"classID":1,"priorities":[{"name":"lo","priority":5}]},
        "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4}}}"#;

    #[test]
    fn version_1_has_a_file_for_each() {
        check(
            MUCH,
            false,
            &expect![[r#"
            memory: memory.limit_in_bytes = 1048576
            memory: memory.memsw.limit_in_bytes = 2097152
            memory: memory.soft_limit_in_bytes = 524288
            memory: memory.swappiness = 10
            cpu: cpu.shares = 1024
            cpu: cpu.cfs_period_us = 100000
            cpu: cpu.cfs_quota_us = 50000
            cpuset: cpuset.cpus = 0-1
            cpuset: cpuset.mems = 0
            pids: pids.max = 32
            blkio: blkio.weight = 100
            blkio: blkio.throttle.read_bps_device = 8:0 100
            hugetlb: hugetlb.2MB.limit_in_bytes = 4194304
            net_cls: net_cls.classid = 1
            net_prio: net_prio.ifpriomap = lo 5
            rdma: rdma.max = mlx5_1 hca_handle=3 hca_object=4
        "#]],
        );
    }

    #[test]
    fn version_2_counts_otherwise() {
        check(
            MUCH,
            true,
            &expect![[r#"
            memory: memory.swap.max = 1048576
            memory: memory.max = 1048576
            memory: memory.low = 524288
            cpu: cpu.weight = 39
            cpu: cpu.max = 50000 100000
            cpuset: cpuset.cpus = 0-1
            cpuset: cpuset.mems = 0
            pids: pids.max = 32
            io: io.weight = default 910
            io: io.max = 8:0 rbps=100
            hugetlb: hugetlb.2MB.max = 4194304
            rdma: rdma.max = mlx5_1 hca_handle=3 hca_object=4
        "#]],
        );
        check(
            r#"{"unified":{"memory.high":"1000"}}"#,
            true,
            &expect![[r#"
            memory: memory.high = 1000
        "#]],
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        check(
            r#"{"unified":{"memory.high":"1"}}"#,
            false,
            &expect![[r#"
            invalid configuration: linux.resources.unified needs a host with nothing but cgroup v2
        "#]],
        );
        check(
            r#"{"unified":{"../x.y":"1"}}"#,
            true,
            &expect![[r#"
            invalid configuration: `../x.y` is no file of a control group
        "#]],
        );
        check(
            r#"{"memory":{"limit":10,"swap":5}}"#,
            true,
            &expect![[r#"
            invalid configuration: linux.resources.memory.swap is below the limit of memory
        "#]],
        );
        check(
            r#"{"hugepageLimits":[{"pageSize":"2 MB","limit":1}]}"#,
            false,
            &expect![[r#"
            invalid configuration: `2 MB` is no size of huge pages: `2MB`, `1GB`
        "#]],
        );
    }

    #[test]
    fn unlimited_memory_is_set_before_its_parts() {
        check(
            r#"{"memory":{"limit":1048576,"swap":-1}}"#,
            false,
            &expect![[r#"
            memory: memory.memsw.limit_in_bytes = -1
            memory: memory.limit_in_bytes = 1048576
        "#]],
        );
        check(
            r#"{"memory":{"limit":-1,"swap":-1},"pids":{"limit":-1}}"#,
            true,
            &expect![[r#"
            memory: memory.swap.max = max
            memory: memory.max = max
            pids: pids.max = max
        "#]],
        );
    }

    #[test]
    fn rules_of_devices_come_in_their_order_and_the_usual_ones_after_them() {
        let rules: Vec<DeviceRule> = serde_json::from_str(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#,
        )
        .expect("read");
        let settings = plan_devices(&rules).expect("planned");
        let first: Vec<_> =
            settings.iter().take(3).map(|s| (s.file.as_str(), s.value.as_str())).collect();
        assert_eq!(
            first,
            [("devices.deny", "a"), ("devices.allow", "c 10:229 rw"), ("devices.allow", "c *:* m")]
        );
        assert!(plan_devices(&[]).expect("none").is_empty());
        assert!(plan_device_program(&[]).expect("none").is_none());
        assert!(plan_device_program(&rules).expect("assembled").is_some());
        let odd = DeviceRule { kind: "x".to_owned(), ..DeviceRule::default() };
        assert!(plan_devices(&[odd]).is_err());
    }
}
