//! docs/deploy/kubernetes: what a schema can't see. The schemas themselves are checked by .ci/manifests.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testbed::RunFolder;

use super::compose::document::{root, seconds};
use super::image::Dockerfile;
use scenarios::stage::outboxd;

/// What `run` may take to end: `shutdown_timeout` (10 s by default) and about 3 s.
pub const TIME_TO_END: u64 = 13;

fn folder() -> PathBuf {
    root().join("docs/deploy/kubernetes")
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

fn relay(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

#[test]
fn every_manifest_is_applied() {
    let kustomization = read("kustomization.yaml");
    let listed = kustomization["resources"].as_array().unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|name| name.as_str().unwrap()).collect();
    let files = std::fs::read_dir(folder()).unwrap();
    let files: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
        .collect();
    assert_eq!(listed, files.iter().map(String::as_str).collect());
}

#[test]
fn the_configuration_is_valid() {
    let secrets = RunFolder::fresh("kubernetes").unwrap();
    std::fs::write(secrets.path().join("postgres-password"), "secret\n").unwrap();
    std::fs::write(secrets.path().join("postgres-ca.crt"), "").unwrap();
    let text = std::fs::read_to_string(folder().join("outboxd.toml")).unwrap();
    let mounted = relay(&read("deployment.yaml"))["volumeMounts"][1]["mountPath"].clone();
    let mounted = mounted.as_str().unwrap();
    assert!(text.contains(mounted), "no secret is read from {mounted}");
    let file = secrets.path().join("outboxd.toml");
    std::fs::write(
        &file,
        text.replace(mounted, secrets.path().to_str().unwrap()),
    )
    .unwrap();
    let check = Command::new(outboxd().unwrap())
        .args(["config", "check", "--config"])
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn probes_ask_the_endpoint_that_fits_their_purpose() {
    let deployment = read("deployment.yaml");
    let relay = relay(&deployment);
    let asked = |probe: &str| relay[probe]["httpGet"].clone();
    let live = json!({ "path": "/live", "port": "admin" });
    assert_eq!(asked("startupProbe"), live);
    // A relay that can't reach Kafka must not be restarted for it.
    assert_eq!(asked("livenessProbe"), live);
    assert_eq!(
        asked("readinessProbe"),
        json!({ "path": "/ready", "port": "admin" })
    );
    let configuration = std::fs::read_to_string(folder().join("outboxd.toml")).unwrap();
    let port = &relay["ports"][0]["containerPort"];
    assert!(
        configuration.contains(&format!("listen = \"0.0.0.0:{port}\"")),
        "{port}"
    );
    assert_eq!(&read("service.yaml")["spec"]["ports"][0]["port"], port);
}

#[test]
fn the_end_has_the_time_that_it_takes() {
    let deployment = read("deployment.yaml");
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    assert!(grace.as_u64().unwrap() > TIME_TO_END, "{grace}");
    let compose = super::compose::document::read();
    let grace = compose
        .service("outboxd")
        .stop_grace_period
        .clone()
        .unwrap();
    assert!(seconds(&grace) > TIME_TO_END, "{grace}");
}

#[test]
fn it_runs_as_the_user_of_the_image_with_no_right_beyond() {
    let deployment = read("deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    let user = Dockerfile::read().shipped_user();
    assert_eq!(pod["securityContext"]["runAsUser"].to_string(), user.0);
    assert_eq!(pod["securityContext"]["runAsGroup"].to_string(), user.1);
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    let container = &relay(&deployment)["securityContext"];
    assert_eq!(container["readOnlyRootFilesystem"], json!(true));
    assert_eq!(container["allowPrivilegeEscalation"], json!(false));
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
}

#[test]
fn one_relay_is_always_left() {
    let deployment = read("deployment.yaml");
    let spec = &deployment["spec"];
    assert_eq!(spec["replicas"], json!(2));
    assert_eq!(
        spec["strategy"]["rollingUpdate"]["maxUnavailable"],
        json!(0)
    );
    let budget = read("poddisruptionbudget.yaml");
    assert_eq!(budget["spec"]["minAvailable"], json!(1));
    let labels = &spec["template"]["metadata"]["labels"];
    assert_eq!(&spec["selector"]["matchLabels"], labels);
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&read("service.yaml")["spec"]["selector"], labels);
    let policy = read("networkpolicy.yaml");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
}
