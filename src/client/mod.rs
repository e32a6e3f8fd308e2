//! The command line as a client of a running node.
//!
//! [`run`] is the one entrance. `commands` holds what each command asks and prints, over `api` (the actions API, over
//! HTTP); `health` asks for the health pages; `operate` is the console command; `listen` is the command that stays, over `socket` (a WebSocket as a
//! client). All connect through `http`.
//! Results go to standard output by `output`, everything else to standard error.

mod api;
mod commands;
mod failure;
mod health;
mod http;
mod listen;
mod operate;
mod output;
mod socket;

use crate::cli::{ClientCommand, Connections, Format};
use api::Api;
use failure::Failure;
use output::Output;
use std::process::ExitCode;

/// Carries out one client command and says how it went: 0 done, 1 refused, 2 wrong usage, 3 not reachable.
///
/// Results are on standard output; an error, and what to do about it, is on standard error. It makes its own runtime,
/// so it must not be called within one.
pub fn run(command: &ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(Box::pin(carry_out(command)));
    // A look-up of a name that did not answer in time may still block a thread: it is not waited for.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell();
            failure.exit_code()
        }
    }
}

/// Writes a text to standard output; for what the program says of itself.
pub fn print(text: &str) -> ExitCode {
    let mut output = Output::standard(Format::Lines);
    match output.line(text.trim_end().as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn carry_out(command: &ClientCommand) -> Result<(), Failure> {
    let options = command.options();
    let mut output = Output::standard(options.format());
    if let Some((operation, told)) = command.operation() {
        operate::operate(operation, told, &mut output).await?;
        return Ok(output.flush()?);
    }
    let api = Api::new(options)?;
    match command {
        ClientCommand::Listen(listen) => listen::listen(listen, &mut output).await?,
        ClientCommand::Push(push) => commands::push(&api, push, &mut output).await?,
        ClientCommand::Close(target) => commands::close(&api, target, &mut output).await?,
        ClientCommand::Channels(channels) => commands::channels(&api, channels.name.as_ref(), &mut output).await?,
        ClientCommand::Connections(Connections { channel, count: false, .. }) => {
            commands::connections(&api, channel.as_ref(), &mut output).await?;
        }
        ClientCommand::Connections(Connections { channel, count: true, .. }) => {
            commands::count(&api, channel.as_ref(), &mut output).await?;
        }
        ClientCommand::Stats(_) => commands::stats(&api, &mut output).await?,
        ClientCommand::Health(health) => health::health(&api, health, &mut output).await?,
        // Carried out above: it finds its node by itself.
        ClientCommand::Reload(_) | ClientCommand::Stop(_) | ClientCommand::Status(_) | ClientCommand::Say(_) => {}
    }
    Ok(output.flush()?)
}
