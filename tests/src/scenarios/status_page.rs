//! The status page in a real browser: what it shows is what /metrics says, in four states.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::slot_identity::lose_slot;
use super::stopped::flowing;
use super::takeover::stands_by;
use crate::browser::{Browser, Screen};
use crate::relay::Relay;
use crate::scenario::{Figures, Group, Scenario};
use crate::stage::{DATABASE, Stage, UNROUTABLE};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "status-page",
    about: "the status page in Chromium: healthy, standby, bus down, slot lost; its numbers are those of /metrics",
    group: Group::Proof,
    within: Duration::from_secs(240),
    run: |figures| Box::pin(run(figures)),
};

const SHOWS_WITHIN: Duration = Duration::from_secs(40);
const DESKTOP: Screen = Screen {
    width: 1200,
    scheme: "light",
};
const DARK: Screen = Screen {
    width: 1200,
    scheme: "dark",
};
const PHONE: Screen = Screen {
    width: 360,
    scheme: "light",
};
/// Figures of the page and the metrics that they are.
const SAME: [(&str, &str); 5] = [
    ("published", "outboxd_events_published_total"),
    ("dead-letters", "outboxd_dead_letters_total"),
    ("backlog", "event_outbox_backlog"),
    ("parked", "outboxd_parked_keys"),
    ("windows", "outboxd_windows_in_flight"),
];

async fn run(figures: &mut Figures) -> Result<()> {
    let stage = Stage::builder().patient().start().await?;
    let active = flowing(&stage, &[]).await?;
    let standby = stage.launch(&[])?;
    let mut scene = Scene::open(&stage)?;

    scene.look_at(&active).await?;
    scene.follows(&stage, &active).await?;
    scene.shows_what_metrics_say(&active).await?;
    scene.is_readable()?;
    scene.take("healthy", &[DESKTOP, DARK, PHONE])?;

    stands_by(&standby).await?;
    scene.look_at(&standby).await?;
    scene.shows("role", "standby").await?;
    scene.take("standby", &[DESKTOP, PHONE])?;
    standby.stop().await?;

    stage.kafka.stop()?;
    stage.insert(5)?;
    scene.look_at(&active).await?;
    scene.shows("ready", "✕ not ready").await?;
    scene.shows("backlog", "5").await?;
    let text = scene.text("main")?;
    ensure!(
        text.contains("[kafka-") && text.contains("Remedy: "),
        "{text}"
    );
    scene.take("bus-down", &[DESKTOP, DARK])?;
    stage.kafka.start_again()?;
    stage.caught_up(&active).await?;
    active.stop().await?;

    lose_slot(&stage).await?;
    let stopped = stage.launch(&[])?;
    scene.look_at(&stopped).await?;
    scene.shows("state", "✕ stopped").await?;
    let text = scene.text("main")?;
    ensure!(
        text.contains("[slot-lost]") && text.contains("Remedy: "),
        "{text}"
    );
    scene.take("slot-lost", &[DESKTOP, PHONE])?;
    stopped.stop().await?;
    scene.says_that_nobody_answers().await?;
    figures.add("pictures", scene.pictures);
    Ok(())
}

struct Scene {
    browser: Browser,
    folder: PathBuf,
    pictures: u32,
}

impl Scene {
    fn open(stage: &Stage) -> Result<Self> {
        let own = stage.folder().join("browser");
        std::fs::create_dir(&own)?;
        // Where a person who wants to see them says.
        let wanted = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
        let folder = wanted.unwrap_or_else(|| own.clone());
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            browser: Browser::start(&own)?,
            folder,
            pictures: 0,
        })
    }

    async fn look_at(&mut self, relay: &Relay) -> Result<()> {
        let answers = async || Ok(relay.get("/live").is_ok());
        wait::until("the relay answers", SHOWS_WITHIN, answers).await?;
        self.browser.open(&format!("http://{}/", relay.admin()))
    }

    fn text(&mut self, selector: &str) -> Result<String> {
        let ask = format!("document.querySelector({selector:?})?.textContent ?? ''");
        let text = self.browser.evaluate(&ask)?;
        Ok(text.as_str().context("no text")?.to_owned())
    }

    fn shown(&mut self, name: &str) -> Result<String> {
        self.text(&format!("[data-is={name}]"))
    }

    /// Waits until the page shows this, without being loaded again.
    async fn shows(&mut self, name: &str, expected: &str) -> Result<()> {
        let mut last = String::new();
        let shown = wait::until(name, SHOWS_WITHIN, async || {
            last = self.shown(name)?;
            Ok(last == expected)
        });
        shown
            .await
            .map(drop)
            .with_context(|| format!("the page shows {last:?}, not {expected:?}"))
    }

    /// An open page follows what happens: events, and a dead letter.
    async fn follows(&mut self, stage: &Stage, relay: &Relay) -> Result<()> {
        let before = self.shown("published")?;
        stage.insert(20)?;
        let dead =
            format!("INSERT INTO outbox (event_type, payload) VALUES ('{UNROUTABLE}', '{{}}')");
        stage.postgres.sql(DATABASE, &dead)?;
        stage.caught_up(relay).await?;
        self.shows("dead-letters", "1").await?;
        self.shows("backlog", "0").await?;
        ensure!(self.shown("published")? != before, "events do not show");
        Ok(())
    }

    async fn shows_what_metrics_say(&mut self, relay: &Relay) -> Result<()> {
        for (name, metric) in SAME {
            let value = relay.metric(metric, "")?;
            let value = value.with_context(|| format!("{metric} is not exposed"))?;
            self.shows(name, &value.to_string()).await?;
        }
        let status = relay.json("/status")?;
        let confirmed = status["pipelines"][0]["confirmed_lsn"].as_str();
        self.shows("confirmed", confirmed.context("nothing is confirmed")?)
            .await?;
        ensure!(
            self.shown("checkpoint")?.contains('/'),
            "no checkpoint is shown"
        );
        Ok(())
    }

    /// Every chart says in words what it draws, every figure has a name, and nothing comes from elsewhere.
    fn is_readable(&mut self) -> Result<()> {
        let count =
            |expression: &str| format!("[...document.querySelectorAll({expression})].length");
        let mut number = |expression: &str| -> Result<u64> {
            let value = self.browser.evaluate(&count(expression))?;
            value.as_u64().context("no number")
        };
        ensure!(number("'svg'")? == 4, "there are not four charts");
        ensure!(
            number("'svg:not([role=img][aria-label*=\"over 15 minutes\"])'")? == 0,
            "a chart is silent"
        );
        ensure!(
            number("'dl > div > dd'")? == number("'dl > div > dt'")?,
            "a figure has no name"
        );
        ensure!(
            number("'[role=alert], [role=status]'")? == 2,
            "changes are not announced"
        );
        ensure!(
            number("'[src], link:not([href^=\"data:\"])'")? == 0,
            "something comes from elsewhere"
        );
        ensure!(
            number("'h1'")? == 1 && number("'h2'")? == 1,
            "headings are missing"
        );
        Ok(())
    }

    fn take(&mut self, name: &str, screens: &[Screen]) -> Result<()> {
        for screen in screens {
            let file = format!("{name}-{}-{}.png", screen.width, screen.scheme);
            self.browser.picture(*screen, &self.folder.join(file))?;
            let wide = self
                .browser
                .evaluate("document.documentElement.scrollWidth - innerWidth")?;
            ensure!(
                wide.as_i64() <= Some(0),
                "{name}: {wide} pixels are beyond a screen of {}",
                screen.width
            );
            self.pictures += 1;
        }
        Ok(())
    }

    /// The relay is gone: the page says so, and of when its figures are.
    async fn says_that_nobody_answers(&mut self) -> Result<()> {
        let expected = "No answer from the relay.";
        wait::until("the page says so", SHOWS_WITHIN, async || {
            let hidden = self
                .browser
                .evaluate("document.getElementById('silence').hidden")?;
            Ok(hidden == false && self.text("#silence")?.starts_with(expected))
        })
        .await?;
        Ok(())
    }
}
