//! Hints for flags that other tools have, and for flags in the wrong place.

use clap::{
    Parser,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};

/// Flags of `sam local`, serverless-offline and servers in general, and what to write instead.
const FOREIGN: [(&[&str], &str); 6] = [
    (&["--port", "-p", "--httpPort", "--websocketPort"], "--ws-addr PORT for sockets, --http-addr PORT for HTTP"),
    (&["--host", "-H"], "--ws-addr HOST:PORT for sockets, --http-addr HOST:PORT for HTTP"),
    (&["--template-file", "-t"], "--template PATH"),
    (&["--parameter-overrides"], "--parameter NAME=VALUE, once for each"),
    (&["--env-vars", "-n"], "Variables in the template, with --parameter NAME=VALUE for what differs here"),
    (&["--debug", "--verbose", "-v"], "--log debug"),
];

/// Reads the arguments of the process. Ends it with a message if they cannot be read, or if they ask for help.
pub fn parse<P: Parser>() -> P {
    P::try_parse().unwrap_or_else(|mut error| {
        if let Some(hint) = hint(&error) {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(hint)]));
        }
        error.exit()
    })
}

fn hint(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag)), _) => {
            let (_, ours) = FOREIGN.iter().find(|(flags, _)| flags.contains(&flag.as_str()))?;
            Some(format!("use {ours}"))
        }
        (ErrorKind::ArgumentConflict, _, Some(ContextValue::String(subcommand))) => {
            Some(format!("write flags after '{subcommand}'"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::*;

    #[test]
    fn flags_of_other_tools_are_not_flags_here_and_have_a_hint() {
        let command = crate::cli::Flags::augment_args(Command::new("emulator").no_binary_name(true));
        for flag in FOREIGN.iter().flat_map(|(flags, _)| *flags) {
            let error = command.clone().try_get_matches_from([flag]).expect_err("unknown");
            let hint = hint(&error).unwrap_or_else(|| panic!("{flag} has no hint: {error}"));
            assert!(hint.starts_with("use "), "{hint}");
        }
        let error = command.try_get_matches_from(["--nonsense"]).expect_err("unknown");
        assert_eq!(hint(&error), None);
    }
}
