//! What the program asks of the system, as strace tells it: whom it connects to, and how often it is called for a request.

use std::{fs, path::Path};

use tempfile::tempdir;
use tollgate_testing::{
    client::{Conn, request},
    needs,
    upstream::Upstream,
};

use crate::binary::{CHAT, Program, chat, serve, until};

/// The program with one provider, its system calls of these kinds written to `trace` in the folder.
async fn traced(folder: &Path, calls: &str, upstream: &Upstream) -> Program {
    let file = folder.join("a.yaml");
    let text = format!(
        "version: 1\nproviders: {{ main: {{ dialect: openai, base_url: \"http://{}/v1\", credentials: [] }} }}\n\
         routes: [{{ name: all, match: {{}}, targets: [main] }}]\nserver: {{ workers: 1 }}\n",
        upstream.addr()
    );
    fs::write(&file, text).expect("written");
    serve(&file).traced(calls, &folder.join("trace")).start()
}

/// Ends the program; gives the lines of its calls once the tracer has written the last.
async fn ended(program: Program, folder: &Path) -> Vec<String> {
    assert_eq!(program.terminate().await.code, Some(0));
    until("the tracer's last line", async || {
        let text = fs::read_to_string(folder.join("trace")).ok()?;
        let over = text.contains("+++ exited with 0 +++");
        over.then(|| text.lines().map(str::to_owned).collect())
    })
    .await
}

/// X01: whatever a request names, the only addresses that are dialled are those of the configuration.
#[tokio::test]
async fn only_the_configured_address_is_dialled() {
    if !needs::command("strace") {
        return;
    }
    let (folder, upstream) = (tempdir().unwrap(), Upstream::start().await);
    let decoy = Upstream::start().await;
    let program = traced(folder.path(), "connect", &upstream).await;
    let url = format!("http://{}/v1", decoy.addr());
    let body = format!(
        r#"{{"model":"m","messages":[],"api_base":"{url}","base_url":"{url}","webhook":"{url}"}}"#
    );
    let headers = [("x-api-base", url.as_str())];
    for path in [
        CHAT.to_owned(),
        format!("{CHAT}?api_base={url}&base_url={url}"),
    ] {
        let conn = Conn::open(program.data().await).await;
        conn.send(request("POST", &path, &headers, &body))
            .await
            .unwrap();
        assert_eq!(conn.response().await.status(), 200);
    }
    let calls = ended(program, folder.path()).await;
    let (port, mut dialled) = (format!("htons({})", upstream.port()), 0);
    for line in calls
        .iter()
        .filter(|line| line.contains("sa_family=AF_INET"))
    {
        assert!(line.contains(&port), "{line}");
        dialled += 1;
    }
    assert!(dialled >= 1, "{calls:#?}");
    assert_eq!(decoy.connections(), 0);
}

/// On warm connections a request is one read and one write on each side, and nothing else is asked of a socket.
#[tokio::test]
async fn a_request_takes_two_reads_and_two_writes() {
    const COUNT: usize = 100;
    if !needs::command("strace") {
        return;
    }
    let (folder, upstream) = (tempdir().unwrap(), Upstream::start().await);
    let calls =
        "recvfrom,read,readv,recvmsg,writev,sendto,sendmsg,setsockopt,getsockopt,ioctl,fcntl";
    let program = traced(folder.path(), calls, &upstream).await;
    let conn = Conn::open(program.data().await).await;
    let ask = request(
        "POST",
        CHAT,
        &[("content-type", "application/json")],
        chat("m", false),
    );
    for _ in 0..COUNT {
        conn.next("POST");
        conn.send(&ask).await.unwrap();
        assert_eq!(conn.response().await.status(), 200);
    }
    drop(conn);
    let lines = ended(program, folder.path()).await;
    // What went over the sockets of the client and of the provider, and not over those of the runtime.
    let over = |line: &&String, call: &str| line.contains(call) && line.contains("HTTP/1.1");
    let reads = lines.iter().filter(|line| over(line, "recvfrom(")).count();
    let write = |line: &&String| over(line, "writev(") || over(line, "sendto(");
    let writes = lines.iter().filter(write).count();
    assert_eq!((reads, writes), (2 * COUNT, 2 * COUNT));
    let in_vain = lines.iter().filter(|line| line.contains("EAGAIN")).count();
    assert!(
        in_vain < COUNT / 2,
        "{in_vain} calls in vain for {COUNT} requests"
    );
}
