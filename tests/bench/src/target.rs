//! What is measured: how each is configured and started.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BoxError;
use crate::process::{Nursery, Running, free_address};

/// The ways from the load generator to the fake provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Inline,
    Legacy,
    Nginx,
    Tollgate,
}

/// A running target.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// The processes whose CPU time and memory count: the provider's own for `Direct`.
    pub(crate) pids: Vec<u32>,
    running: Option<Running>,
}

/// Everything that is needed to start targets.
#[derive(Debug)]
pub(crate) struct Starter {
    pub(crate) nursery: Nursery,
    pub(crate) dir: PathBuf,
    /// Where tollgate is, if it takes part.
    pub(crate) tollgate: Option<PathBuf>,
    /// Lines to append to tollgate's configuration.
    pub(crate) append: String,
}

// ===== impl Starter =====

impl Starter {
    /// Starts the fake provider.
    pub(crate) fn upstream(&self) -> Result<(Running, SocketAddr), BoxError> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("upstream").arg(address.to_string());
        Ok((
            self.nursery.start("upstream", &mut command, address)?,
            address,
        ))
    }

    /// Starts one target before the provider at `upstream`, whose processes are `provider`.
    pub(crate) fn start(
        &self,
        kind: Kind,
        upstream: SocketAddr,
        provider: &[u32],
    ) -> Result<Target, BoxError> {
        let address = free_address()?;
        let (name, mut command) = match kind {
            Kind::Direct => {
                return Ok(Target {
                    kind,
                    address: upstream,
                    pids: provider.to_vec(),
                    running: None,
                });
            }
            Kind::Inline => ("inline", reference("inline", address, upstream)?),
            Kind::Legacy => ("legacy", reference("legacy", address, upstream)?),
            Kind::Nginx => ("nginx", self.nginx(address, upstream)?),
            Kind::Tollgate => ("tollgate", self.tollgate(address, upstream)?),
        };
        let running = self.nursery.start(name, &mut command, address)?;
        Ok(Target {
            kind,
            address,
            pids: running.pids(),
            running: Some(running),
        })
    }

    fn nginx(&self, address: SocketAddr, upstream: SocketAddr) -> Result<Command, BoxError> {
        let dir = self.dir.join(format!("nginx-{}", address.port()));
        fs::create_dir_all(&dir)?;
        let built = Command::new("nginx").arg("-V").output()?;
        let built = String::from_utf8_lossy(&built.stderr).into_owned();
        let config = dir.join("nginx.conf");
        fs::write(&config, nginx_config(&dir, address, upstream, &built))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-c").arg(&config);
        command.arg("-e").arg(dir.join("error.log"));
        Ok(command)
    }

    fn tollgate(&self, address: SocketAddr, upstream: SocketAddr) -> Result<Command, BoxError> {
        let binary = self
            .tollgate
            .as_ref()
            .ok_or("tollgate takes no part in this run")?;
        let log = self.dir.join(format!("tollgate-{}.log", address.port()));
        let config = self.dir.join(format!("tollgate-{}.yaml", address.port()));
        let mut text = tollgate_config(address, free_address()?, upstream, &log);
        text.push_str(&self.append);
        fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(config);
        Ok(command)
    }
}

// ===== impl Target =====

impl Target {
    /// Looks again which processes belong to the target; an error if it has ended. Workers may be started after
    /// the first connection is accepted.
    pub(crate) fn check(&mut self) -> Result<(), BoxError> {
        if let Some(running) = &mut self.running {
            running.check()?;
            self.pids = running.pids();
        }
        Ok(())
    }
}

// ===== impl Kind =====

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Inline => "inline",
            Self::Legacy => "legacy",
            Self::Nginx => "nginx",
            Self::Tollgate => "tollgate",
        })
    }
}

fn reference(role: &str, address: SocketAddr, upstream: SocketAddr) -> Result<Command, BoxError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([role, &address.to_string(), &upstream.to_string()]);
    Ok(command)
}

/// nginx as a pass-through for streams: nothing buffered, kept connections on both sides, an access log as
/// tollgate has one. Directories of modules that are `built` in are all moved, since the default ones need root.
fn nginx_config(dir: &Path, address: SocketAddr, upstream: SocketAddr, built: &str) -> String {
    let dir = dir.display();
    let moved: String = ["fastcgi", "uwsgi", "scgi"]
        .iter()
        .filter(|module| !built.contains(&format!("--without-http_{module}_module")))
        .map(|module| format!("  {module}_temp_path {dir}/{module};\n"))
        .collect();
    format!(
        "daemon off;\nworker_processes 2;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n  access_log {dir}/access.log;\n  client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n{moved}\
         \x20 client_max_body_size 64m;\n  keepalive_requests 1000000000;\n  tcp_nodelay on;\n\
         \x20 upstream provider {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {address} reuseport;\n    location / {{\n      proxy_pass http://provider;\n\
         \x20     proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n      proxy_buffering off;\n\
         \x20     proxy_request_buffering off;\n      proxy_read_timeout 600s;\n    }}\n  }}\n}}\n"
    )
}

fn tollgate_config(
    address: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
    log: &Path,
) -> String {
    format!(
        "version: 1\nserver:\n  listen: [\"{address}\"]\n  workers: 2\nadmin:\n  listen: \"{admin}\"\n\
         providers:\n  main:\n    dialect: openai\n    base_url: \"http://{upstream}/v1\"\n    credentials: []\n    models: [\"*\"]\n\
         routes:\n  - name: all\n    match: {{}}\n    targets: [main]\n\
         telemetry:\n  log:\n    format: json\n    to: \"{}\"\n",
        log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_modules_that_are_built_in_are_moved() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let built = "configure arguments: --without-http_uwsgi_module";
        let text = nginx_config(Path::new("/d"), address, address, built);
        assert!(text.contains("  fastcgi_temp_path /d/fastcgi;\n"), "{text}");
        assert!(!text.contains("uwsgi"), "{text}");
        assert_eq!(
            text.matches('{').count(),
            text.matches('}').count(),
            "{text}"
        );
    }

    #[test]
    fn tollgate_is_told_where_everything_is() {
        let [listen, admin, upstream] =
            [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = tollgate_config(listen, admin, upstream, Path::new("/d/log"));
        for line in [
            "  listen: [\"127.0.0.1:1\"]",
            "  listen: \"127.0.0.1:2\"",
            "    base_url: \"http://127.0.0.1:3/v1\"",
            "    to: \"/d/log\"",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line:?} is not in\n{text}"
            );
        }
    }
}
