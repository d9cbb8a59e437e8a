//! Forwards frames between two ports as they are, in both directions: what the port layer costs by itself,
//! and a check that a device works. Compare with `dpdk-testpmd --forward-mode=io` on the same devices.
//!
//! ```text
//! cargo run --release --example forward -- net_null0 net_null1 --seconds 5
//! cargo run --release --example forward -- net_af_xdp0,iface=veth-in net_af_xdp1,iface=veth-out
//! ```

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a command-line tool that measures time")]

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use pnat_dataplane::port::capsule::{CorePorts, Idle, PortCounters, Runtime, counters, pools};
use pnat_dataplane::port::plan::{Plan, PlannedPort};
use pnat_dataplane::port::{BURST, PortInfo, PortQueue};

#[derive(Debug, Parser)]
struct Arguments {
    /// The first device and its arguments, e.g. net_af_xdp0,iface=veth-in or 0000:3b:00.0
    first: String,
    /// The second device and its arguments
    second: String,
    /// The cores that forward; each gets a queue pair of both ports
    #[arg(long, value_delimiter = ',', default_value = "1")]
    cores: Vec<usize>,
    /// Ends after so many seconds; without it, on SIGINT or SIGTERM
    #[arg(long)]
    seconds: Option<u64>,
    /// Descriptors in each queue
    #[arg(long, default_value_t = 2048)]
    queue_len: u16,
    /// Frame buffers in the pool
    #[arg(long, default_value_t = 32_767)]
    frames: u32,
    /// What a core does when nothing comes
    #[arg(long, value_enum, default_value_t = IdleArgument::Poll)]
    idle: IdleArgument,
    /// Further arguments for DPDK's environment layer
    #[arg(long, allow_hyphen_values = true)]
    eal: Vec<String>,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum IdleArgument {
    Poll,
    Adaptive,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let plan = Plan {
        app_name: "forward".to_owned(),
        cores: arguments.cores.clone(),
        main_core: None,
        ports: vec![
            planned("first", &arguments.first, &arguments),
            planned("second", &arguments.second, &arguments),
        ],
        frames: arguments.frames,
        frame_cache: 256,
        hugepages: true,
        eal_args: arguments.eal,
    };
    let idle = match arguments.idle {
        IdleArgument::Poll => Idle::Poll,
        IdleArgument::Adaptive => Idle::Adaptive,
    };

    let mut runtime = Runtime::start(&plan)?;
    println!("{}", runtime.memory());
    for port in runtime.ports() {
        println!("{port:?}");
    }
    for &core in &arguments.cores {
        runtime.run_on_core(core, idle, forward)?;
    }

    let ports = runtime.ports().to_vec();
    let stopper = runtime.stopper();
    let watcher = thread::spawn(move || {
        let Some(seconds) = arguments.seconds else { return };
        // The first half second is start-up.
        thread::sleep(Duration::from_millis(500));
        let before = read(&ports);
        let began = Instant::now();
        thread::sleep(Duration::from_secs(seconds));
        let after = read(&ports);
        let elapsed = began.elapsed().as_secs_f64();
        for ((port, before), after) in ports.iter().zip(before).zip(after) {
            let rate = (after.rx_pkts - before.rx_pkts) as f64 / elapsed;
            println!("{}: {:.3} Mpps received", port.name, rate / 1e6);
        }
        stopper.stop();
    });

    runtime.execute()?;
    for port in runtime.ports() {
        println!("{}: {:?}", port.name, counters(port).unwrap_or_default());
    }
    println!("{:?}", pools());
    if arguments.seconds.is_some() {
        watcher.join().map_err(|_| "the watching thread panicked")?;
    }
    Ok(())
}

/// A core's loop: what came in on one port goes out on the other.
fn forward(mut ports: CorePorts) -> impl FnMut() -> bool {
    let mut queue = |name| ports.queues.remove(name).expect("invariant: the plan gave the core both ports");
    let (mut first, mut second) = (queue("first"), queue("second"));
    let mut burst = Vec::with_capacity(BURST);
    move || {
        let mut received = first.receive(&mut burst);
        second.transmit(&mut burst);
        received += second.receive(&mut burst);
        first.transmit(&mut burst);
        received > 0
    }
}

fn planned(name: &str, device: &str, arguments: &Arguments) -> PlannedPort {
    let (device, args) = match device.split_once(',') {
        Some((device, args)) => (device, Some(args.to_owned())),
        None => (device, None),
    };
    PlannedPort {
        name: name.to_owned(),
        device: device.to_owned(),
        args,
        cores: arguments.cores.clone(),
        queue_len: arguments.queue_len,
        promiscuous: true,
        mtu: None,
        offloads: true,
    }
}

fn read(ports: &[PortInfo]) -> Vec<PortCounters> {
    ports.iter().map(|port| counters(port).unwrap_or_default()).collect()
}
