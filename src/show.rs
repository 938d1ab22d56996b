//! What `demo` shows: one streamed chat through the gateway's own socket, as a client sees it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
};

use crate::{gateway::Gateway, listen::Address};

/// The body of the shown request.
const CHAT: &str = concat!(
    r#"{"model":"echo","stream":true,"#,
    r#""messages":[{"role":"user","content":"hello, tollgate"}]}"#
);

/// Prints where the gateway is, a streamed chat as its bytes arrive, its line of the request log
/// and a command to paste.
///
/// # Errors
///
/// The gateway cannot be reached, or standard output cannot be written.
pub fn show(gateway: &Gateway) -> io::Result<()> {
    // Held while the chat runs: the line of the log comes behind it.
    let mut held = io::stdout().lock();
    let out = &mut held;
    let Some(address) = gateway.addresses().first() else {
        return Ok(());
    };
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        out,
        "tollgate {version}  demo: no key, no file; nothing leaves this machine"
    )?;
    writeln!(
        out,
        "  data   {}    OpenAI, Anthropic and Gemini dialects",
        shown(address)
    )?;
    writeln!(
        out,
        "  admin  {}    /livez /readyz /metrics /config",
        shown(gateway.admin_address())
    )?;
    writeln!(out, "  models echo  slow  long  cut  e429  e500  count-N\n")?;
    writeln!(out, "POST /v1/chat/completions {CHAT}\n")?;
    out.flush()?;
    match address {
        Address::Tcp { host, port } => {
            chat(TcpStream::connect((host.as_str(), *port))?, out)?;
        }
        Address::Unix(path) => chat(UnixStream::connect(path)?, out)?,
    }
    writeln!(out, "\nand its line of the request log:")?;
    out.flush()?;
    drop(held);
    gateway.flush_log();
    let out = &mut io::stdout();
    writeln!(out, "\nNow you (Ctrl-C ends it):\n  {}\n", command(address))?;
    out.flush()
}

fn shown(address: &Address) -> String {
    match address {
        Address::Tcp { .. } => format!("http://{address}"),
        Address::Unix(_) => address.to_string(),
    }
}

fn command(address: &Address) -> String {
    let to = match address {
        Address::Tcp { .. } => format!("{address}/v1/chat/completions"),
        Address::Unix(path) => {
            format!(
                "--unix-socket {} localhost/v1/chat/completions",
                path.display()
            )
        }
    };
    format!("curl -N {to} -d '{CHAT}'")
}

/// Sends the chat and prints the events of its answer as they come.
fn chat(mut stream: impl Read + Write, out: &mut impl Write) -> io::Result<()> {
    let length = CHAT.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(CHAT.as_bytes())?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    let mut in_head = true;
    while lines.read_line(&mut line)? > 0 {
        let text = line.trim_end();
        if in_head {
            in_head = !text.is_empty();
            if text.starts_with("HTTP/") {
                writeln!(out, "{text}")?;
            }
        } else if text.starts_with("data:") {
            // The rest are chunk sizes and empty lines.
            writeln!(out, "{text}")?;
            out.flush()?;
        }
        line.clear();
    }
    Ok(())
}
