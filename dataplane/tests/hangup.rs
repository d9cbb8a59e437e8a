//! SIGHUP reloads. Alone in its process, for a signal reaches every gateway in it.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crossbeam_channel::bounded;
use pnat_dataplane::control::{self, Core, CoreMessage, Gateway, Role};
use pnat_dataplane::filters::{Clock, Filters, Kinds};
use pnat_shared::config::Config;
use pnat_shared::stats::{Counters, Metric};

#[derive(Debug)]
struct NoCounters;

impl Counters for NoCounters {
    fn counters(&self, _each: &mut dyn FnMut(Metric, u64)) {}
}

#[test]
fn sighup_hands_the_cores_a_new_policy() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("hangup");
    std::fs::create_dir_all(&dir).expect("a directory");
    let config_file = dir.join("lab.toml");
    let text = format!(
        "[[port]]\nname = \"in\"\ndevice = \"net_null0\"\naddresses = [\"10.77.1.1/24\"]\n\
         [[port]]\nname = \"out\"\ndevice = \"net_null1\"\naddresses = [\"198.18.0.1/24\"]\n\
         [cores]\nworkers = [0]\n[nat]\npublic = [\"198.18.0.1\"]\n[policy]\ndefault_action = \"nat\"\n\
         [control]\nsocket = \"{}\"\n",
        dir.join("control.sock").display()
    );
    std::fs::write(&config_file, &text).expect("written");
    let (messages, inbox) = bounded(control::CORE_QUEUE);
    let _control = control::start(Gateway {
        config: Config::load(&config_file, 1).expect("good"),
        config_file: config_file.clone(),
        cpus: 1,
        started: SystemTime::UNIX_EPOCH,
        cores: vec![Core { role: Role::Worker, index: 0, cpu: 0, messages, counters: Arc::new(NoCounters) }],
        gauges: Vec::new(),
        filters: Filters::start(65_535, Kinds::default(), Clock::start()).unwrap().0,
        credentials: None,
    })
    .expect("control starts");
    std::fs::write(&config_file, text + "[[rule]]\nname = \"mail\"\naction = \"deny\"\n").expect("written");

    let sent =
        Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    // Control asks for latency every now and then.
    let told = loop {
        let message = inbox.recv_timeout(Duration::from_secs(5)).expect("the worker is told");
        if let CoreMessage::Policy { generation, policy, .. } = message {
            break (generation, policy.rules.len());
        }
    };
    assert_eq!(told, (2, 1));
}
