//! stub
/// x
#[derive(clap::Args)]
pub struct Args {}
pub(crate) fn main(_: Args) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
