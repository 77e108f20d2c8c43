//! The built-in receiver: prints the global webhooks it is sent. `serve --print` has it in its own process and sends to it over
//! a real connection; `receive` is it alone, for trying a service elsewhere.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use actix_web::dev::Server;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use crate::config::Source;

/// The end of the command's help.
pub(super) const HELP: &str = "\
Examples:
  global-webhook receive
  WebhookTargetUrl=http://127.0.0.1:9000/ WebhookTargetFormat=standard global-webhook serve --regions northeurope,westus

Exit codes:
  0  ended in order
  1  it cannot listen there
  2  wrong arguments";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Where to listen; give `http://<this>/` to a target
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
}

/// Prints what arrives until the process is ended.
pub(super) fn main(args: &Args) -> ExitCode {
    let run = || -> std::io::Result<()> {
        let listener = TcpListener::bind(args.listen)?;
        super::complain(&format!("printing what is sent to http://{}/", listener.local_addr()?));
        // Signals end it as they end any process: nothing is kept here.
        actix_web::rt::System::new().block_on(async { Receiver { listener }.serve()?.await })
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            super::complain(&format!("cannot listen on {}: {why}", args.listen));
            ExitCode::FAILURE
        }
    }
}

/// A bound receiver that is not serving yet.
pub(super) struct Receiver {
    listener: TcpListener,
}

/// Binds the receiver to a free loopback port and adds it to the settings as the target `print`.
pub(super) fn listen(source: &mut Source) -> Result<Receiver, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("--print cannot listen: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("--print cannot listen: {e}"))?;
    let mut targets = match source.get("WebhookTargets").map(serde_json::from_str::<Value>) {
        None => Vec::new(),
        Some(Ok(Value::Array(targets))) => targets,
        // Left as it is: the check of the settings says what is wrong with it.
        Some(_) => return Ok(Receiver { listener }),
    };
    targets.push(json!({
        "name": "print",
        "url": format!("http://{address}/"),
        "format": "standard",
        "outcomes": ["replicated", "timed_out", "recovered"],
    }));
    source.set("WebhookTargets", Value::Array(targets).to_string());
    Ok(Receiver { listener })
}

impl Receiver {
    /// A server that prints what arrives, until it is dropped.
    pub(super) fn serve(self) -> std::io::Result<Server> {
        let server = HttpServer::new(|| App::new().default_service(web::to(print))).workers(1).disable_signals();
        Ok(server.listen(self.listener)?.run())
    }
}

#[expect(clippy::print_stdout, reason = "printing is what it is for")]
async fn print(request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let id = request.headers().get("webhook-id").and_then(|v| v.to_str().ok()).unwrap_or("");
    println!("global webhook {id}\n{}", shown(&body));
    HttpResponse::NoContent().finish()
}

/// JSON laid out, and anything else on one line, so that no text within can pass for another notification.
fn shown(body: &[u8]) -> String {
    super::printable(&match serde_json::from_slice::<Value>(body) {
        Ok(json) => format!("{json:#}"),
        Err(_) => String::from_utf8_lossy(body).replace('\n', "\u{fffd}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_c8_nothing_that_is_printed_moves_the_cursor() {
        let json = serde_json::to_vec(&json!({ "tag": "a\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\nb" })).expect("JSON");
        assert_eq!(shown(&json), "{\n  \"tag\": \"a\\u001b[2J�31m��\\nb\"\n}");
        assert_eq!(shown("x\u{1b}[2J\nglobal webhook msg_1".as_bytes()), "x�[2J�global webhook msg_1");
    }
}
