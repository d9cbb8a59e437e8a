//! Reload: all of a new policy and of new certificates, or nothing of them.
//!
//! Proxy cores get the new policy first, for they make filters of it and may fail. Only when all have it do the workers,
//! so no worker ever names a policy that a proxy core lacks. Where something goes wrong on the way, workers get the old
//! policy again behind the new one: whatever state a slow worker is in, the last word it reads is the old policy.

use pnat_shared::config::{Config, ConfigError};
use thiserror::Error;
use tracing::{info, warn};

use super::answer::Reloaded;
use super::server::{Live, Server};
use super::tls::Credentials;
use super::{CoreError, CoreMessage, Role};
use crate::filters::Compiled;

/// Why everything stays as it was.
#[derive(Debug, Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("these keys changed and need a restart: {}; a reload changes policy, rules, filters and http only", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    #[error("{0}")]
    Filter(String),
    #[error("{0}")]
    Core(#[from] CoreError),
    #[error("reading the configuration was cancelled")]
    Cancelled,
}

/// Reads the configuration file again and puts its policy in force. One at a time.
pub(super) async fn reload(server: &Server) -> Result<Reloaded, ReloadError> {
    let mut last_generation = server.reloading.lock().await;
    let gateway = &server.gateway;
    let (file, cpus) = (gateway.config_file.clone(), gateway.cpus);
    let filters = gateway.filters.clone();
    let read = tokio::task::spawn_blocking(move || {
        let config = Config::load(&file, cpus)?;
        let chains = filters.compile(&config.policy).map_err(ReloadError::Filter)?;
        let listen = config.control.listen.as_ref();
        let credentials = listen.map(|listen| Credentials::load(&file, &listen.tls)).transpose()?;
        Ok::<_, ReloadError>((config, chains, credentials))
    });
    let (config, chains, credentials) = read.await.map_err(|_| ReloadError::Cancelled)??;
    let live = server.live.borrow().clone();
    let keys = restart_keys(&live.config, &config);
    if !keys.is_empty() {
        return Err(ReloadError::NeedsRestart(keys));
    }

    // Proxy cores may keep a generation that came to nothing, so its number is never used again.
    *last_generation = last_generation.wrapping_add(1);
    let generation = *last_generation;
    hand_over(server, Role::Proxy, generation, &live, &config, &chains).await?;
    if let Err(error) = hand_over(server, Role::Worker, generation, &live, &config, &chains).await {
        take_back(server, &live, &chains);
        return Err(error.into());
    }
    let reloaded =
        Reloaded { generation, rules: config.policy.rules.len(), filters: config.policy.filters.len() };
    // Who is connected stays so.
    if let Some((sender, credentials)) = server.credentials.as_ref().zip(credentials) {
        sender.send_replace(credentials);
    }
    server.live.send_replace(live.succeed(generation, config).into());
    gateway.filters.reopen_logs();
    info!(generation, rules = reloaded.rules, filters = reloaded.filters, "policy reloaded");
    Ok(reloaded)
}

/// Gives the policy to all cores of a role at once and waits for all of them.
async fn hand_over(
    server: &Server,
    role: Role,
    generation: u32,
    live: &Live,
    config: &Config,
    chains: &Compiled,
) -> Result<(), CoreError> {
    let ask = |core: &super::Core| {
        let (policy, chains) = (config.policy.clone(), chains.clone());
        let asked = core.ask(|reply| CoreMessage::Policy {
            generation,
            oldest: live.generation,
            policy,
            chains,
            reply,
        });
        (core.name(), asked)
    };
    let asked: Vec<_> = server.gateway.role(role).map(ask).collect();
    for (core, asked) in asked {
        asked.answer().await?.map_err(|reason| CoreError::Refused(core, reason))?;
    }
    Ok(())
}

/// Gives workers, which do not look at chains, the old policy again.
fn take_back(server: &Server, live: &Live, chains: &Compiled) {
    let generation = live.generation;
    for worker in server.gateway.role(Role::Worker) {
        let (policy, chains) = (live.config.policy.clone(), chains.clone());
        let asked =
            worker.ask(|reply| CoreMessage::Policy { generation, oldest: generation, policy, chains, reply });
        if let Err(error) = asked.answer {
            warn!(%error, "the old policy could not be given back");
        }
    }
}

/// Keys that differ and that a running gateway cannot change.
fn restart_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let address = |config: &Config| config.control.listen.as_ref().map(|listen| listen.address);
    let keys = [
        ("port", old.ports != new.ports),
        ("cores", old.cores != new.cores),
        ("memory", old.memory != new.memory),
        ("nat.public", old.nat.public != new.nat.public),
        ("nat.ports", old.nat.ports != new.nat.ports),
        ("nat.flows", old.nat.flows != new.nat.flows),
        ("nat.flows_per_client", old.nat.flows_per_client != new.nat.flows_per_client),
        ("nat.timeouts", old.nat.timeouts != new.nat.timeouts),
        ("proxy", old.proxy != new.proxy),
        ("control.socket", old.control.socket != new.control.socket),
        ("control.group", old.control.group != new.control.group),
        ("control.metrics", old.control.metrics != new.control.metrics),
        ("control.listen", address(old) != address(new)),
        ("log", old.log != new.log),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
