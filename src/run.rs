//! The commands that read a configuration or serve.

use std::{
    convert::Infallible,
    fmt::Display,
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tower_service::Service;

use crate::{
    cli::{
        CheckArgs, DemoArgs, ExplainArgs, FileArgs, Format, HealthcheckArgs, InitArgs, ListenArgs,
        MockArgs, ServeArgs, UsageArgs, UsageBy, UsageFormat,
    },
    config::{self, Config, Finding, Inputs, Loaded, NoVariables, Problems},
    connect::Connector,
    explain::{self, Question},
    gateway::{self, Gateway},
    listen::Address,
    mock::{self, Mock},
    probe,
    reload::Source,
    server::{self, Outcome, Readiness, Settings, Signals, Stacks, Tls},
    show, spool,
};

/// A configuration or a start that failed.
const FAILED: ExitCode = ExitCode::FAILURE;
/// Bad usage.
const USAGE: u8 = 2;
/// How often a file is read that changes while it is read, and the wait between.
const READS: u32 = 10;
const REST: Duration = Duration::from_millis(20);

/// Serves a configuration until a signal ends it.
pub fn serve(args: &ServeArgs) -> ExitCode {
    let (config, source) = match loaded(&args.file, &args.listen) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let signals = Signals::catch_with_reload();
    let start = || Gateway::start_from(&config, source);
    run(signals, start, |gateway| {
        for address in gateway.addresses() {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %gateway.admin_address(), "admin");
        Ok(())
    })
}

/// Serves the built-in provider, and shows that it works.
pub fn demo(args: &DemoArgs) -> ExitCode {
    match with_inputs(&args.listen, config::demo) {
        Ok(loaded) => {
            let start = || Gateway::start(&loaded.config);
            let first = if args.quiet {
                |_: &_| Ok(())
            } else {
                show::show
            };
            run(Signals::catch(), start, first)
        }
        Err(problems) => failed(&problems),
    }
}

/// Starts, does what comes first, and serves until a signal.
fn run(
    signals: io::Result<Signals>,
    start: impl FnOnce() -> Result<Gateway, gateway::StartError>,
    first: impl FnOnce(&Gateway) -> io::Result<()>,
) -> ExitCode {
    let signals = match signals {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let gateway = match start() {
        Ok(gateway) => gateway,
        Err(error) => return failed(&error),
    };
    if let Err(error) = first(&gateway) {
        return failed(&error);
    }
    ended(gateway.run(signals))
}

fn ended(outcome: Outcome) -> ExitCode {
    tracing::info!(cut = outcome.cut, "drained");
    if outcome.lost == 0 {
        ExitCode::SUCCESS
    } else {
        FAILED
    }
}

/// Checks a configuration; opens no socket.
pub fn check(args: &CheckArgs) -> ExitCode {
    let found = match read_and_inspect(&args.file, &ListenArgs::default(), certificates) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let told = "no configuration file: name one with --config, or see `tollgate demo`";
            eprintln!("tollgate: {told}");
            return ExitCode::from(USAGE);
        }
        Err(problems) => return print_problems(&problems, args.format),
    };
    let (_, Loaded { config, warnings }) = found;
    let text = match args.format {
        Format::Json => warnings.to_json(),
        Format::Text if warnings.is_empty() => config::summary(&config),
        Format::Text => format!("{warnings}\n{}", config::summary(&config)),
    };
    print(&text, ExitCode::SUCCESS)
}

/// What is wrong with the certificates and keys that a configuration names.
fn certificates(config: &Config) -> Vec<Finding> {
    let providers = config.providers.iter().flat_map(|provider| {
        let url = provider.base_url.as_ref();
        let problems = url.map(|url| Connector::problems(url.scheme, provider.tls.as_ref()));
        let problems = problems.unwrap_or_default().into_iter();
        problems.map(|(key, error)| Finding {
            key: ["providers", &provider.name, "tls", key]
                .map(str::to_owned)
                .into(),
            message: error.to_string(),
        })
    });
    let own = config.server.tls.as_ref().map(Tls::problems);
    let own = own.unwrap_or_default().into_iter();
    let own = own.map(|(key, error)| Finding {
        key: ["server", "tls", key].map(str::to_owned).into(),
        message: error.to_string(),
    });
    providers.chain(own).collect()
}

/// Says what would happen to a request; sends nothing.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let config = match loaded(&args.file, &ListenArgs::default()) {
        Ok((config, _)) => config,
        Err(code) => return code,
    };
    let question = match (&args.request, &args.model) {
        (Some(file), _) => match fs::read(file) {
            Ok(text) => Question::of_file(&text, &args.path),
            Err(error) => return failed(&format!("{}: {error}", file.display())),
        },
        (None, Some(model)) => Question::of_model(model, &args.path),
        (None, None) => return ExitCode::from(USAGE),
    };
    let listed = |name: &String| config.callers.iter().any(|it| it.name == *name);
    if let Some(name) = args.caller.as_ref().filter(|name| !listed(name)) {
        return failed(&format!("the configuration has no caller {name:?}"));
    }
    match question {
        Ok(question) => {
            let question = match &args.caller {
                Some(name) => question.by(name),
                None => question,
            };
            let question = match &args.origin {
                Some(origin) => question.from_page(origin.clone()),
                None => question,
            };
            let (text, served) = explain::explain(&config, &question);
            print(&text, if served { ExitCode::SUCCESS } else { FAILED })
        }
        Err(error) => failed(&error),
    }
}

/// Writes a first configuration file; never over one that is there, unless that is asked for.
pub fn init(args: &InitArgs) -> ExitCode {
    let text = config::starter(&variable);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .create_new(!args.force)
        .truncate(args.force)
        .open(&args.config)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    let file = args.config.display();
    match written {
        Ok(()) => print(
            &format!("{file} is written; next: tollgate check, tollgate serve"),
            ExitCode::SUCCESS,
        ),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => failed(&format!(
            "{file} is there already; --force writes over it, --config FILE writes another"
        )),
        Err(error) => failed(&format!("{file} cannot be written: {error}")),
    }
}

/// Prints the JSON Schema of the file.
pub fn schema() -> ExitCode {
    print(&config::json_schema(), ExitCode::SUCCESS)
}

/// Prints what was used; also while a gateway runs.
pub fn usage(args: &UsageArgs) -> ExitCode {
    // Nothing but the sums is told: warnings are for `check`.
    let config = match read_and_load(&args.file, &ListenArgs::default()) {
        Ok(found) => found.map(|(_, loaded)| loaded.config),
        Err(problems) => return failed(&problems),
    };
    let Some(dir) = config.and_then(|config| config.state.dir) else {
        return failed(&"nothing is kept: the configuration names no `state.dir`");
    };
    let by = args.by.map(|by| match by {
        UsageBy::Caller => spool::By::Caller,
        UsageBy::Day => spool::By::Day,
        UsageBy::Model => spool::By::Model,
    });
    let sums = match spool::usage(&dir, by) {
        Ok(sums) => sums,
        Err(error) => return failed(&format!("{}: {error}", dir.display())),
    };
    let text = match args.format {
        UsageFormat::Table => spool::table(&sums),
        // Numbers and texts are written to memory.
        UsageFormat::Json => serde_json::to_string(&sums).unwrap_or_default(),
    };
    print(text.trim_end(), ExitCode::SUCCESS)
}

/// Asks a running gateway whether it is ready.
pub fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let admin = match &args.admin {
        Some(admin) => Ok(admin.clone()),
        None => admin_of(&args.file),
    };
    match admin.map(|admin| probe::readiness(&admin)) {
        Ok(Ok(())) => print("ready", ExitCode::SUCCESS),
        Ok(Err(error)) => failed(&error),
        Err(problems) => failed(&problems),
    }
}

/// The admin listener of a configuration, or the default one without a file.
fn admin_of(file: &FileArgs) -> Result<Address, Problems> {
    let found = config::find(file.config.as_deref(), &variable, Path::is_file);
    let listen = match found {
        None => config::Admin::default().listen,
        Some(found) => {
            let text = config::read_file(&found.path)?;
            let name = found.path.display().to_string();
            config::admin_listen(&text, &name, &Inputs::of_process())?
        }
    };
    Ok(gateway::address(&listen))
}

/// Serves the mock provider alone, without a gateway in front of it.
pub fn mock(args: MockArgs) -> ExitCode {
    let loaded = with_inputs(&ListenArgs::default(), config::demo);
    let config = match loaded {
        Ok(loaded) => loaded.config,
        Err(problems) => return failed(&problems),
    };
    let settings = Settings {
        listen: vec![args.listen],
        ..gateway::settings(&config)
    };
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    match server::start(settings, Mocks, Readiness::new()) {
        Ok(handle) => {
            for address in handle.addresses() {
                tracing::info!(%address, "the mock provider listens");
            }
            ended(handle.run(signals, || ()))
        }
        Err(error) => failed(&error),
    }
}

/// The mock provider as a server's stack.
struct Mocks;

#[derive(Clone)]
struct MockStack(Mock);

impl Stacks for Mocks {
    type Body = mock::Body;
    type Stack = MockStack;

    fn stack(&self, _: usize) -> MockStack {
        MockStack(Mock)
    }

    fn sweep(&self, _: &MockStack) {}
}

impl Service<Request<Incoming>> for MockStack {
    type Response = Response<mock::Body>;
    type Error = Infallible;
    type Future = mock::ResponseFuture<Incoming>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Incoming>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, req: Request<Incoming>) -> Self::Future {
        self.0.call(req)
    }
}

/// The configuration of a file, or of the SDKs' variables, and what reads it again; what is wrong has
/// been said.
fn loaded(file: &FileArgs, listen: &ListenArgs) -> Result<(Config, Source), ExitCode> {
    let again = listen.clone();
    match read_and_load(file, listen) {
        Ok(Some((path, loaded))) => {
            tracing::info!(file = %path.display(), "configuration");
            if !loaded.warnings.is_empty() {
                eprintln!("{}", loaded.warnings);
            }
            let source = move || load_at_rest(&path, &again).map_err(|error| error.to_string());
            Ok((loaded.config, Box::new(source)))
        }
        Ok(None) => {
            let source = move || match with_inputs(&again, config::from_environment) {
                Ok(made) => Ok(made.loaded),
                Err(NoVariables::Broken(problems)) => Err(problems.to_string()),
                Err(NoVariables::Nothing(_)) => Err("error: no variable is set".to_owned()),
            };
            Ok((from_variables(listen)?, Box::new(source)))
        }
        Err(problems) => Err(failed(&problems)),
    }
}

type Found = Option<(PathBuf, Loaded)>;

fn read_and_load(file: &FileArgs, listen: &ListenArgs) -> Result<Found, Problems> {
    read_and_inspect(file, listen, |_| Vec::new())
}

fn read_and_inspect(
    file: &FileArgs,
    listen: &ListenArgs,
    inspect: impl FnOnce(&Config) -> Vec<Finding>,
) -> Result<Found, Problems> {
    let Some(found) = config::find(file.config.as_deref(), &variable, Path::is_file) else {
        return Ok(None);
    };
    let text = config::read_file(&found.path)?;
    let name = found.path.display().to_string();
    let loaded = with_inputs(listen, |inputs| {
        config::load_inspected(&text, &name, inputs, inspect)
    })?;
    Ok(Some((found.path, loaded)))
}

fn load_file(path: &Path, listen: &ListenArgs) -> Result<Loaded, Problems> {
    let text = config::read_file(path)?;
    let name = path.display().to_string();
    with_inputs(listen, |inputs| config::load(&text, &name, inputs))
}

/// Reads a file again that changes while it is read: half of a file may be a good one.
fn load_at_rest(path: &Path, listen: &ListenArgs) -> Result<Loaded, Problems> {
    let state = || {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.len(), found.modified().ok()))
    };
    let mut tries = 0;
    loop {
        let before = state();
        let loaded = load_file(path, listen);
        tries += 1;
        if before == state() || tries == READS {
            return loaded;
        }
        thread::sleep(REST);
    }
}

fn from_variables(listen: &ListenArgs) -> Result<Config, ExitCode> {
    match with_inputs(listen, config::from_environment) {
        Ok(made) => {
            for told in &made.told {
                tracing::info!("{told}");
            }
            Ok(made.loaded.config)
        }
        Err(NoVariables::Broken(problems)) => Err(failed(&problems)),
        Err(NoVariables::Nothing(looked_for)) => {
            eprintln!(
                "tollgate: nothing to serve: there is no configuration file, and none of {} is set.\n\
                 `tollgate demo` needs neither; a file is named with --config.",
                looked_for.join(", ")
            );
            Err(ExitCode::from(USAGE))
        }
    }
}

fn with_inputs<T>(listen: &ListenArgs, load: impl FnOnce(&Inputs<'_>) -> T) -> T {
    let [data, admin] =
        [&listen.listen, &listen.admin].map(|it| it.as_ref().map(Address::to_string));
    load(&Inputs {
        listen: data.as_deref(),
        admin: admin.as_deref(),
        ..Inputs::of_process()
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn print_problems(problems: &Problems, format: Format) -> ExitCode {
    match format {
        Format::Json => print(&problems.to_json(), FAILED),
        Format::Text => failed(problems),
    }
}

fn print(text: &str, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{}", text.trim_end()) {
        Ok(()) => code,
        Err(_) => FAILED,
    }
}

fn failed(error: &dyn Display) -> ExitCode {
    let text = error.to_string();
    if text.starts_with("error") {
        eprintln!("{text}");
    } else {
        eprintln!("tollgate: {text}");
    }
    FAILED
}
