//! The commands that ask once and print the answer.

use super::api::Api;
use super::failure::Failure;
use super::output::Output;
use crate::cli::{Close, Format, Push};
use crate::model::{ConnectionId, Name};
use serde_json::{Map, Value, json};
use std::io::{self, Read};

/// Bytes of a message that are read from standard input at most: far above what a node takes by default.
const MAX_INPUT: u64 = 64 << 20;

/// `push`: prints nothing, or with JSON that it was done.
pub(super) async fn push(api: &Api, push: &Push, output: &mut Output) -> Result<(), Failure> {
    let message = match push.message.as_deref() {
        Some(message) if message != "-" => message.to_owned(),
        _ => tokio::task::spawn_blocking(standard_input)
            .await
            .map_err(|error| Failure::Usage(format!("can't read standard input: {error}")))??,
    };
    let connection = push.connection.map(|id| id.to_string());
    let excluded: Vec<String> = push.exclude.iter().map(ConnectionId::to_string).collect();
    let mut parameters = vec![("message", message.as_str())];
    match (&push.channels[..], &connection, &push.user, &push.group) {
        ([channel], ..) => parameters.extend([("to", "channel"), ("channel", channel.as_str())]),
        (_, Some(id), ..) => parameters.extend([("to", "connection"), ("connection", id.as_str())]),
        (_, _, Some(user), _) => parameters.extend([("to", "user"), ("user", user.as_str())]),
        (_, _, _, Some(group)) => parameters.extend([("to", "group"), ("group", group.as_str())]),
        ([], ..) => parameters.push(("to", "all")),
        (channels, ..) => {
            parameters.push(("to", "channel"));
            parameters.extend(channels.iter().map(|channel| ("channel[]", channel.as_str())));
        }
    }
    parameters.extend(excluded.iter().map(|id| ("exclude[]", id.as_str())));
    api.tell("push", &parameters).await?;
    done(output)
}

/// `close`: prints nothing, or with JSON that it was done.
pub(super) async fn close(api: &Api, target: &Close, output: &mut Output) -> Result<(), Failure> {
    let connection = target.connection.map(|id| id.to_string());
    match (&connection, &target.channel) {
        (Some(id), _) => api.tell("close", &[("to", "connection"), ("connection", id)]).await?,
        (None, Some(channel)) => api.tell("close", &[("to", "channel"), ("channel", channel.as_str())]).await?,
        (None, None) => return Err(Failure::Usage("close needs --connection or --channel".into())),
    }
    done(output)
}

fn done(output: &mut Output) -> Result<(), Failure> {
    if output.format == Format::Json {
        output.json(&json!({"status": true}))?;
    }
    Ok(())
}

/// `channels`: each with the number of its connections, or with JSON their ids.
pub(super) async fn channels(api: &Api, name: Option<&Name>, output: &mut Output) -> Result<(), Failure> {
    let parameters: Vec<_> = name.map(|name| ("channel", name.as_str())).into_iter().collect();
    let mut response = api.ask("getChannels", &parameters).await?;
    let channels = match response["channels"].take() {
        Value::Object(channels) => channels,
        // What PHP makes of an empty map.
        Value::Array(none) if none.is_empty() => Map::new(),
        other => return Err(unexpected("getChannels", &other)),
    };
    if output.format == Format::Json {
        return Ok(output.json(&channels)?);
    }
    for (name, members) in &channels {
        let members = members.as_array().ok_or_else(|| unexpected("getChannels", members))?;
        output.line(format!("{name}\t{}", members.len()).as_bytes())?;
    }
    Ok(())
}

/// `connections`: their ids, or with JSON one list of them.
pub(super) async fn connections(api: &Api, channel: Option<&Name>, output: &mut Output) -> Result<(), Failure> {
    let parameters: Vec<_> = channel.map(|name| ("channel", name.as_str())).into_iter().collect();
    let response = api.ask("getConnections", &parameters).await?;
    if output.format == Format::Json {
        return Ok(output.json(&response["connections"])?);
    }
    let ids = response["connections"].as_array().ok_or_else(|| unexpected("getConnections", &response))?;
    ids.iter().try_for_each(|id| output.line(id.to_string().as_bytes()))?;
    Ok(())
}

/// `connections --count`: one number.
pub(super) async fn count(api: &Api, channel: Option<&Name>, output: &mut Output) -> Result<(), Failure> {
    let parameters: Vec<_> = channel.map(|name| ("channel", name.as_str())).into_iter().collect();
    let response = api.ask("countConnections", &parameters).await?;
    let count = response["count"].as_u64().ok_or_else(|| unexpected("countConnections", &response))?;
    output.line(count.to_string().as_bytes())?;
    Ok(())
}

/// `stats`: one line for each figure, its place in the answer as its name, or with JSON the answer's `response`.
pub(super) async fn stats(api: &Api, output: &mut Output) -> Result<(), Failure> {
    let response = api.ask("stats", &[]).await?;
    if output.format == Format::Json {
        return Ok(output.json(&response)?);
    }
    let mut figures = Vec::new();
    flatten("", &response, &mut figures);
    figures.iter().try_for_each(|(name, value)| output.line(format!("{name}\t{value}").as_bytes()))?;
    Ok(())
}

fn unexpected(action: &str, answer: &Value) -> Failure {
    let text: String = answer.to_string().chars().take(200).collect();
    Failure::refused(format!("the server answered {action} in an unknown form: {text}"))
}

/// The scalars of `value` in their order, each named by its place, such as `ws_server.start_time` or `channels.0`.
fn flatten(place: &str, value: &Value, into: &mut Vec<(String, String)>) {
    let below = |key: &str| if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(&below(key), value, into)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| flatten(&below(&index.to_string()), value, into));
        }
        Value::String(text) => into.push((place.to_owned(), text.clone())),
        scalar => into.push((place.to_owned(), scalar.to_string())),
    }
}

/// All of standard input, without one newline at its end, which `echo` and editors add.
fn standard_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let unreadable = |error| Failure::Usage(format!("can't read standard input: {error}"));
    io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    message_of(bytes)
}

fn message_of(bytes: Vec<u8>) -> Result<String, Failure> {
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Failure::Usage(format!("standard input has more than {MAX_INPUT} bytes")));
    }
    let mut message = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Usage(format!("standard input is not utf-8 at byte {at}; a message is text"))
    })?;
    if message.ends_with('\n') {
        message.pop();
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_taken_off_a_message() {
        for (input, message) in [("a\n", "a"), ("a\n\n", "a\n"), ("a\nb", "a\nb"), ("", ""), ("\n", "")] {
            assert_eq!(message_of(input.into()).unwrap(), message, "{input:?}");
        }
        let failure = message_of(b"ab\xff".to_vec()).unwrap_err();
        assert_eq!(failure.to_string(), "standard input is not utf-8 at byte 2; a message is text");
    }

    #[test]
    fn figures_are_named_by_their_place() {
        let mut figures = Vec::new();
        flatten(
            "",
            &json!({"status": true, "channels": ["a"], "ws_server": {"worker_num": 4}, "gone": []}),
            &mut figures,
        );
        let lines: Vec<_> = figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(lines, ["status true", "channels.0 a", "ws_server.worker_num 4"]);
    }
}
