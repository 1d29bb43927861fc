//! The command line.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

pub(crate) const HELP: &str = "\
Two copies of one service, with and without LoadShed, under a load that exceeds their capacity.

usage: demo [--port <port>]
       demo --headless [--seconds <seconds>]

  --port <port>        port of the page (default: 3000; 0: any free port)
  --headless           no page: normal load, ten times the capacity, normal load; then a summary
  --seconds <seconds>  duration of the three phases, 6 to 3600 (default: 30)
  --help               this text";

const SECONDS: RangeInclusive<u64> = 6..=3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Args {
    Page { port: u16 },
    Headless { duration: Duration },
    Help,
}

impl Args {
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut port, mut headless, mut seconds) = (None, false, None);
        let mut args = args;
        while let Some(arg) = args.next() {
            let (flag, value) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut value = || value.clone().or_else(|| args.next());
            match flag {
                "--help" | "-h" => return Ok(Self::Help),
                "--headless" => headless = true,
                "--port" => port = Some(number(flag, value(), 0..=u16::MAX)?),
                "--seconds" => seconds = Some(number(flag, value(), SECONDS)?),
                _ => return Err(format!("unknown flag {arg}\n\n{HELP}")),
            }
        }
        match (headless, port, seconds) {
            (true, Some(_), _) => {
                Err("--port cannot be combined with --headless, which has no page".into())
            }
            (false, _, Some(_)) => Err("--seconds needs --headless".into()),
            (true, None, seconds) => Ok(Self::Headless {
                duration: Duration::from_secs(seconds.unwrap_or(30)),
            }),
            (false, port, None) => Ok(Self::Page {
                port: port.unwrap_or(3000),
            }),
        }
    }
}

fn number<T>(flag: &str, value: Option<String>, allowed: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    let (least, most) = (allowed.start(), allowed.end());
    let allowed_text = format!("must be a whole number from {least} to {most}");
    let Some(value) = value else {
        return Err(format!("{flag} without a value: {allowed_text}"));
    };
    match value.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("invalid {flag} {value}: {allowed_text}")),
    }
}
