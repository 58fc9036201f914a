use clap::{Args, Subcommand};

/// What a container's network shall be, for `run` and `create`.
#[derive(Debug, Args)]
pub(crate) struct NetworkArgs {
    /// Network: a name, default, none, host, container:NAME or `name=…,alias=…,ip=…`
    #[arg(long = "network", visible_alias = "net", value_name = "NETWORK")]
    pub networks: Vec<String>,
    /// A further name that others on the network find the container by
    #[arg(long = "network-alias", alias = "net-alias", value_name = "NAME")]
    pub aliases: Vec<String>,
    /// Address on the network
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// IPv6 address on the network
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
    /// Hardware address on the network
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Publish a port, `[IP:]HOST:CONTAINER[/udp]`
    #[arg(short, long = "publish", value_name = "SPEC")]
    pub publish: Vec<String>,
    /// Publish every exposed port on some port of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// A port that the container listens on, `PORT[/udp]`, for `--publish-all`
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// Ask this name server instead of the host's
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Search this domain for names without a dot; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Option of the resolver, such as `timeout:3`
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "OPTION")]
    pub dns_options: Vec<String>,
    /// A name for /etc/hosts, `NAME:ADDRESS`; `host-gateway` stands for the host
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub hosts: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network
    Create(NetworkCreateArgs),
    /// List networks
    #[command(alias = "list")]
    Ls(NetworkListArgs),
    /// Show everything that is known of networks
    Inspect(NetworkInspectArgs),
    /// Put a container on one more network
    Connect(NetworkConnectArgs),
    /// Take a container off a network
    Disconnect(NetworkDisconnectArgs),
    /// Remove networks that no container is made for
    #[command(alias = "remove")]
    Rm(NetworkNamesArgs),
    /// Remove all networks that no container is made for
    Prune(NetworkPruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkCreateArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// How it works; there is only `bridge`
    #[arg(short, long, value_name = "DRIVER", default_value = "bridge")]
    pub driver: String,
    /// Its addresses, such as 10.1.2.0/24; once for IPv4 and once for IPv6
    #[arg(long = "subnet", value_name = "SUBNET")]
    pub subnets: Vec<String>,
    /// The host's own address on it
    #[arg(long = "gateway", value_name = "ADDRESS")]
    pub gateways: Vec<String>,
    /// The part of the subnet that is given to containers which ask for no address
    #[arg(long = "ip-range", value_name = "SUBNET")]
    pub ranges: Vec<String>,
    /// Without a way out or in
    #[arg(long)]
    pub internal: bool,
    /// With addresses of IPv6
    #[arg(long, alias = "ipv6-enabled")]
    pub ipv6: bool,
    /// A label, `NAME=VALUE`
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// `mtu=NUMBER` or `bridge=INTERFACE`
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    pub options: Vec<String>,
    /// Accepted for Docker's sake: any container may be put on any network
    #[arg(long, hide = true)]
    pub attachable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkListArgs {
    /// Only those for which this holds: `name=`, `id=`, `label=`, `driver=`, `type=custom|builtin`
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Print only IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// Show whole IDs
    #[arg(long)]
    pub no_trunc: bool,
    /// `json`, `table TEMPLATE` or a Go template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkInspectArgs {
    /// Names or IDs
    #[arg(value_name = "NETWORK", required = true)]
    pub names: Vec<String>,
    /// `json` or a Go template such as `{{.Name}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkConnectArgs {
    /// Name or ID of the network
    #[arg(value_name = "NETWORK")]
    pub network: String,
    /// Name or ID of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// A further name that others on the network find the container by
    #[arg(long = "alias", value_name = "NAME")]
    pub aliases: Vec<String>,
    /// Its address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkDisconnectArgs {
    /// Name or ID of the network
    #[arg(value_name = "NETWORK")]
    pub network: String,
    /// Name or ID of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Say nothing of a container that is not on it
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkNamesArgs {
    /// Names or IDs
    #[arg(value_name = "NETWORK", required = true)]
    pub names: Vec<String>,
    /// Say nothing of a network that is not there
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NetworkPruneArgs {
    /// Accepted for Docker's sake: Corten never asks
    #[arg(short, long, hide = true)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Only this port of the container, `PORT[/udp]`
    #[arg(value_name = "PORT")]
    pub port: Option<String>,
}
