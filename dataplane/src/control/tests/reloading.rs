//! A new policy reaches all cores, or none keeps it.

use super::*;

#[test]
fn a_reload_reaches_all_proxy_cores_before_any_worker() {
    let rig = Rig::new("reload");
    assert_eq!(rig.decides_mail(), "proxy");
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let reloaded: Reloaded = rig.client().post("/reload").expect("reloaded");
    assert_eq!(reloaded, Reloaded { generation: 2, rules: 2, filters: 0 });
    let told = rig.told();
    let cores: Vec<&str> = told
        .iter()
        .map(|told| match told {
            Told::Policy { core, generation: 2, oldest: 1, rules: 2 } => &core[..5],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(cores, ["proxy", "proxy", "worke", "worke"]);
    assert_eq!(rig.decides_mail(), "deny with reset");
    let flows: Flows = rig.client().get("/flows").expect("flows");
    assert_eq!(flows.flows[1].rule.as_deref(), Some("web"), "an earlier policy's rule keeps its name");
}

#[test]
fn a_proxy_core_that_refuses_leaves_everything_as_it_was() {
    let rig = Rig::with("refusing-proxy", Some((Role::Proxy, 1)));
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let (status, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!((status, error.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "proxy 1: no room for filters"));
    let worker_was_told =
        rig.told().iter().any(|told| matches!(told, Told::Policy { core, .. } if core.starts_with('w')));
    assert!(!worker_was_told);
    assert_eq!(rig.decides_mail(), "proxy");
    assert_eq!(rig.client().get::<Stats>("/stats").expect("stats").generation, 1);

    // The number of the attempt is spent: a proxy core may have kept it.
    let _ = refused(rig.client().post::<Reloaded>("/reload"));
    let attempts = rig.told();
    assert!(
        attempts.iter().all(|told| matches!(told, Told::Policy { generation: 3, oldest: 1, .. })),
        "{attempts:?}"
    );
}

#[test]
fn a_worker_that_refuses_makes_all_workers_get_the_old_policy_back() {
    let rig = Rig::with("refusing-worker", Some((Role::Worker, 0)));
    rig.write_config(&format!("{CONFIG}{MORE_RULES}"));
    let (_, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!(error, "worker 0: no room for filters");
    assert_eq!(rig.decides_mail(), "proxy");
    // Flows are asked after the old policy in the same channel, so both workers have read it by now.
    let _: Flows = rig.client().get("/flows").expect("flows");
    let told = rig.told();
    for worker in ["worker 0", "worker 1"] {
        let generations: Vec<(u32, usize)> = told
            .iter()
            .filter_map(|told| match told {
                Told::Policy { core, generation, rules, .. } if core == worker => Some((*generation, *rules)),
                _ => None,
            })
            .collect();
        assert_eq!(generations, [(2, 2), (1, 1)], "{worker}");
    }
}

#[test]
fn keys_that_need_a_restart_are_named_and_nothing_changes() {
    let rig = Rig::new("restart");
    let changed = CONFIG.replace("workers = [0, 1]", "workers = [0]").replace("public", "flows = 9\npublic");
    rig.write_config(&format!("{changed}{MORE_RULES}"));
    let (status, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.starts_with("these keys changed and need a restart: cores, nat.flows"), "{error}");
    assert!(rig.told().is_empty());
    assert_eq!(rig.decides_mail(), "proxy");
}

#[test]
fn a_faulty_file_is_refused_with_its_line_and_nothing_changes() {
    let rig = Rig::new("faulty");
    rig.write_config(&CONFIG.replace("action = \"proxy\"", "action = \"prxy\""));
    let (status, error) = refused(rig.client().post::<Reloaded>("/reload"));
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(error.contains("lab.toml:17: rule \"web\": action: \"prxy\" is not one of"), "{error}");
    assert!(rig.told().is_empty());
}
