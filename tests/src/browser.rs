//! Headless Chromium, driven over its debugging pipe: messages are JSON, each ended by a zero byte
//! (Chrome DevTools Protocol, `--remote-debugging-pipe`).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use testbed::Program;

/// A first start on a machine that does other things takes seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// What asks nobody on the network but the page's own server, and needs no rights.
const FLAGS: &str = "--headless --no-sandbox --disable-gpu --no-first-run --disable-extensions \
    --disable-background-networking --disable-component-update --disable-sync --disable-quic \
    --remote-debugging-pipe";

/// A browser with one page.
pub struct Browser {
    _program: Program,
    commands: File,
    answers: Receiver<Value>,
    session: Value,
    next: u64,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

impl Browser {
    /// Starts one that keeps its files in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let [to, from] = ["commands", "answers"].map(|name| folder.join(name));
        let made = Command::new("mkfifo").args([&to, &from]).status()?;
        ensure!(made.success(), "the pipes could not be made");
        let profile = folder.join("profile");
        let script = format!(
            "exec chromium {FLAGS} --user-data-dir='{}' 3<'{}' 4>'{}'",
            profile.display(),
            to.display(),
            from.display()
        );
        let args = ["-c".to_owned(), script];
        let log = folder.join("chromium.log");
        let program = Program::start(Path::new("/bin/bash"), &args, &[], &log)?;
        // In the order in which the shell opens them: each waits for the other side.
        let commands = OpenOptions::new().write(true).open(&to)?;
        let answers = listen(File::open(&from)?);
        let mut browser = Self {
            _program: program,
            commands,
            answers,
            session: Value::Null,
            next: 0,
        };
        browser
            .open_page()
            .context("chromium did not open a page")?;
        Ok(browser)
    }

    fn open_page(&mut self) -> Result<()> {
        let page = self.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        self.session = self.call("Target.attachToTarget", attach)?["sessionId"].clone();
        self.call("Page.enable", json!({}))?;
        Ok(())
    }

    /// Goes to this address and waits until the page is there.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let went = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(went.get("errorText").is_none(), "{url}: {went}");
        loop {
            let message = self.answers.recv_timeout(ANSWERS_WITHIN)?;
            if message["method"] == "Page.loadEventFired" {
                return Ok(());
            }
        }
    }

    /// What an expression of the page gives.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let ask = json!({ "expression": expression, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", ask)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// Writes a picture of the whole page, as PNG.
    pub fn picture(&mut self, screen: Screen, file: &Path) -> Result<()> {
        let Screen { width, scheme } = screen;
        let metrics =
            json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media)?;
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", whole)?;
        let data = shot["data"].as_str().context("no picture")?;
        std::fs::write(file, decoded(data)?)?;
        Ok(())
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if self.session.is_string() {
            message["sessionId"] = self.session.clone();
        }
        self.commands.write_all(format!("{message}\0").as_bytes())?;
        loop {
            let answer = self.answers.recv_timeout(ANSWERS_WITHIN);
            let mut answer = answer.with_context(|| format!("{method}: no answer"))?;
            if answer["id"] == id {
                ensure!(answer.get("error").is_none(), "{method}: {answer}");
                return Ok(answer["result"].take());
            }
        }
    }
}

/// Hands on what the browser says until it ends.
fn listen(from: File) -> Receiver<Value> {
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        for message in BufReader::new(from).split(0).map_while(Result::ok) {
            let parsed = serde_json::from_slice(&message);
            if parsed.is_ok_and(|message| tell.send(message).is_err()) {
                return;
            }
        }
    });
    heard
}

fn decoded(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}
