//! Flags of `run` and `create` about what a container is kept from, and what it may use.

use clap::Args;

/// What a container shares, sees and may do.
#[derive(Debug, Args)]
pub(crate) struct IsolationArgs {
    /// Give it every capability, system call and device; root is still only root of the container
    #[arg(long)]
    pub privileged: bool,
    /// Processes: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// Messages and shared memory: shareable, private, none, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Host name: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// Control groups: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// Users: auto, host, keep-id, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// User ids by hand, `CONTAINER:HOST[:COUNT]`
    #[arg(long = "uidmap", value_name = "MAP", conflicts_with = "userns")]
    pub user_maps: Vec<String>,
    /// Group ids by hand, `CONTAINER:HOST[:COUNT]`
    #[arg(long = "gidmap", value_name = "MAP", conflicts_with = "userns")]
    pub group_maps: Vec<String>,
    /// Another group of the user, by name or number
    #[arg(long = "group-add", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// NIS domain name inside
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Set a kernel setting of the container's namespaces, `NAME=VALUE`
    #[arg(long = "sysctl", value_name = "SETTING")]
    pub sysctls: Vec<String>,
    /// Give a secret as a file in memory, `id=ID,src=FILE|env=NAME[,target=PATH][,type=file|env]`
    #[arg(long = "secret", value_name = "SECRET")]
    pub secrets: Vec<String>,
    /// With --read-only, leave /tmp, /var/tmp and /run writable, in memory
    #[arg(long, value_name = "BOOL", default_value = "true", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub read_only_tmpfs: bool,
    /// Let it open further devices, `c MAJOR:MINOR rwm`
    #[arg(long = "device-cgroup-rule", value_name = "RULE")]
    pub device_rules: Vec<String>,
}

/// What a container may use of the machine, besides the most usual.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Memory and swap together, or -1 for any swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Memory that it keeps when the machine is short of it
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// How readily its memory is swapped out, 0 to 100; cgroup v1
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub memory_swappiness: Option<i64>,
    /// Let it wait at its memory limit instead of killing it; cgroup v1
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// How soon it is killed when the machine is out of memory, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,
    /// CPU weight; 1024 is normal
    #[arg(short = 'c', long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_quota: Option<u64>,
    /// Length of such a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub cpu_period: Option<u64>,
    /// CPUs to run on, such as 0-3,6
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Disk weight, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    pub blkio_weight: Option<u64>,
    /// Weight at one disk, `/dev/NAME:NUMBER`
    #[arg(long, value_name = "LIMIT")]
    pub blkio_weight_device: Vec<String>,
    /// Bytes a second from a disk, `/dev/NAME:BYTES`
    #[arg(long, value_name = "LIMIT")]
    pub device_read_bps: Vec<String>,
    /// Bytes a second to a disk, `/dev/NAME:BYTES`
    #[arg(long, value_name = "LIMIT")]
    pub device_write_bps: Vec<String>,
    /// Reads a second from a disk, `/dev/NAME:NUMBER`
    #[arg(long, value_name = "LIMIT")]
    pub device_read_iops: Vec<String>,
    /// Writes a second to a disk, `/dev/NAME:NUMBER`
    #[arg(long, value_name = "LIMIT")]
    pub device_write_iops: Vec<String>,
    /// Put its control groups below this one
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
}
