use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// Keep owners also on the way out of the container
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a link leads to, if the source is one
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// `CONTAINER:PATH`, a path, or `-` for a tar on standard input
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// `CONTAINER:PATH`, a path, or `-` for a tar on standard output
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}
