//! How a run of DPDK ends: signals, and a loop that panics. A process of its own, because one can start DPDK once.

use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pnat_dataplane::port::capsule::{Idle, Runtime, RuntimeError, Signal, available_cpus};
use pnat_dataplane::port::plan::Plan;

/// Idle turns after which capsule's signal handlers are in place for sure: a sleep of 50 us each, or more.
const HANDLERS_SET: u32 = 4000;

#[test]
fn a_signal_may_be_declined_and_a_panicking_loop_ends_the_run_with_an_error() {
    let core = available_cpus()[0];
    let plan = Plan {
        app_name: "pnat-test-end".to_owned(),
        cores: vec![core],
        main_core: Some(core),
        ports: Vec::new(),
        frames: 4095,
        frame_cache: 0,
        hugepages: true,
        eal_args: Vec::new(),
    };
    let mut runtime = Runtime::start(&plan).unwrap();
    assert_eq!(runtime.main_core(), core);

    let hangups = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&hangups);
    runtime.on_signal(move |signal| {
        assert!(matches!(signal, Signal::SIGHUP));
        seen.fetch_add(1, Ordering::Relaxed);
        false
    });
    let seen = Arc::clone(&hangups);
    runtime
        .run_on_core(core, Idle::Adaptive, move |_| {
            let mut turns = 0;
            move || {
                turns += 1;
                if turns == HANDLERS_SET {
                    let pid = process::id().to_string();
                    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
                }
                assert_eq!(seen.load(Ordering::Relaxed), 0, "the test's own panic");
                false
            }
        })
        .unwrap();

    assert!(matches!(runtime.execute(), Err(RuntimeError::Panicked)));
    assert_eq!(hangups.load(Ordering::Relaxed), 1, "the run went on after the signal that was declined");
}
