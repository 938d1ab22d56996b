use super::*;

use clap::error::ErrorKind;
use proptest::prelude::*;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("tollgate").chain(line.split_whitespace()))
}

fn command(line: &str) -> Command {
    parsed(line).unwrap().command
}

fn run(command: KeyCommand, mut input: &[u8]) -> (bool, String) {
    let mut output = Vec::new();
    let code = key(command, &mut input, &mut output);
    // `ExitCode` cannot be compared.
    let well = format!("{code:?}") == format!("{:?}", ExitCode::SUCCESS);
    (well, String::from_utf8(output).unwrap())
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_is_understood() {
    let Command::Demo(demo) = command("demo --quiet --listen 127.0.0.1:0 --admin 127.0.0.1:0")
    else {
        panic!("not demo")
    };
    assert!(demo.quiet && demo.listen.listen.is_some() && demo.listen.admin.is_some());
    let Command::Serve(serve) = command("serve --config a.yaml --listen unix:/a") else {
        panic!("not serve")
    };
    assert_eq!(serve.file.config, Some("a.yaml".into()));
    assert!(matches!(serve.listen.listen, Some(Address::Unix(_))));
    let Command::Check(check) = command("check --format json") else {
        panic!("not check")
    };
    assert_eq!((check.format, check.file.config), (Format::Json, None));
    let Command::Explain(explain) = command("explain --model m --path /v1/messages --caller c")
    else {
        panic!("not explain")
    };
    assert_eq!(explain.model.as_deref(), Some("m"));
    assert_eq!(explain.path, "/v1/messages");
    assert_eq!(explain.caller.as_deref(), Some("c"));
    assert!(matches!(
        command("mock --listen 127.0.0.1:0"),
        Command::Mock(_)
    ));
    assert!(matches!(command("key new"), Command::Key(KeyCommand::New)));
    assert!(matches!(
        command("key hash"),
        Command::Key(KeyCommand::Hash)
    ));
    assert!(matches!(command("version"), Command::Version));
    assert!(matches!(command("schema"), Command::Schema));
    let Command::Init(init) = command("init") else {
        panic!("not init")
    };
    assert_eq!(
        (init.config.to_str(), init.force),
        (Some("tollgate.yaml"), false)
    );
    let Command::Healthcheck(check) = command("healthcheck --admin [::1]:9901") else {
        panic!("not healthcheck")
    };
    assert_eq!(
        check.admin.map(|it| it.to_string()).as_deref(),
        Some("[::1]:9901")
    );
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(matches!(
            command(&format!("completions {shell}")),
            Command::Completions { .. }
        ));
    }
}

#[test]
fn bad_usage_exits_with_two() {
    for line in [
        "",
        "nonsense",
        "serve --nonsense",
        "serve --listen nowhere",
        "mock",
        "explain",
        "explain --model m --request f",
        "explain --request f --caller c",
        "check --format xml",
        "key",
        "completions",
        "completions csh",
        "healthcheck --admin nowhere",
        "init --frce",
    ] {
        let error = parsed(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert_eq!(parsed("--help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    let version = parsed("--version").unwrap_err();
    assert_eq!(version.exit_code(), 0);
    assert_eq!(version.to_string(), "tollgate 0.1.0\n");
    let mut output = Vec::new();
    super::version(&mut output);
    // The command says what it was built with, too.
    let output = String::from_utf8(output).unwrap();
    assert_eq!(output, format!("{}\n", crate::built()));
    assert!(output.starts_with("tollgate 0.1.0 ("), "{output}");
    assert!(output.contains("tokenizer"), "{output}");
}

#[test]
fn the_hash_is_that_of_the_secret_without_one_line_break() {
    // SHA-256 of "abc": FIPS 180-2, appendix B.1.
    let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    for input in ["abc", "abc\n", "abc\r\n"] {
        let (well, output) = run(KeyCommand::Hash, input.as_bytes());
        assert!(well);
        assert_eq!(output, expected);
    }
    assert_ne!(run(KeyCommand::Hash, b"abc\n\n").1, expected);
    assert_ne!(run(KeyCommand::Hash, b" abc").1, expected);
}

#[test]
fn nothing_and_too_much_are_no_secrets() {
    for input in [&b""[..], b"\n", b"\r\n", &[b'x'; SECRET + 1]] {
        assert_eq!(run(KeyCommand::Hash, input), (false, String::new()));
    }
    assert!(run(KeyCommand::Hash, &[b'x'; SECRET]).0);
}

#[test]
fn a_new_key_has_the_hash_that_is_printed_with_it() {
    let (well, output) = run(KeyCommand::New, b"");
    assert!(well);
    let mut lines = output.lines();
    let key = lines.next().unwrap().strip_prefix("key: ").unwrap();
    let digits = key.strip_prefix("tg-").unwrap();
    assert_eq!(digits.len(), 43);
    assert!(
        digits
            .bytes()
            .all(|digit| digit.is_ascii_alphanumeric() || b"-_".contains(&digit))
    );
    let hash = lines.next().unwrap().strip_prefix("hash: ").unwrap();
    assert_eq!(run(KeyCommand::Hash, key.as_bytes()).1.trim_end(), hash);
    assert_eq!(lines.next(), None);
    assert_ne!(run(KeyCommand::New, b"").1, output);
}

#[test]
fn base64url_is_that_of_the_standard() {
    // RFC 4648 section 10, without padding; the last shows the two digits of its own.
    for (bytes, text) in [
        (&b""[..], ""),
        (b"f", "Zg"),
        (b"fo", "Zm8"),
        (b"foo", "Zm9v"),
        (b"foob", "Zm9vYg"),
        (b"foobar", "Zm9vYmFy"),
        (&[0xfb, 0xff], "-_8"),
    ] {
        assert_eq!(base64url(bytes), text);
    }
}

proptest! {
    #[test]
    fn no_two_texts_of_bytes_are_the_same(one: [u8; 8], two: [u8; 8]) {
        prop_assert_eq!(base64url(&one) == base64url(&two), one == two);
    }
}
