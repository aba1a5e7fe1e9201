//! `cnidarian policy` as a person runs it: files in, words and exit code out. Needs no root.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A shop: `front` (app: front) may reach `db` on port 5432, named `sql`; nobody else may.
const SHOP: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: shop, labels: {app: front}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, ports: [{name: sql, containerPort: 5432}]}]}
status: {podIP: 10.0.0.2}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cron, namespace: shop}
spec: {template: {metadata: {labels: {app: cron}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: front}}}]
    ports: [{port: sql}]
";

struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Runs a command; answers exit code, standard output and standard error.
fn policy(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_cnidarian")).arg("policy").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn explain_names_the_rule_that_decides_and_those_that_were_passed_by() {
    let files = Files::new(&[("shop.yaml", SHOP)]);
    let file = files.path("shop.yaml");
    let explain = |from: &str, to: &str| policy(&["explain", "-f", text(&file), "--from", from, "--to", to]);
    let (code, out, _) = explain("shop/front", "shop/db:sql");
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("shop/front -> shop/db TCP 5432: ALLOWED\n"), "{out}");
    assert!(out.contains("by         tier default: NetworkPolicy shop/db, spec.ingress[0]: allow"), "{out}");
    for from in ["shop/cron", "203.0.113.9"] {
        let (code, out, _) = explain(from, "shop/db:5432");
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("isolated by NetworkPolicy shop/db"), "{out}");
        assert!(out.contains(
            "passed by  tier default: NetworkPolicy shop/db, spec.ingress[0]: allow, not this: another source"
        ));
    }
    let (code, _, error) = explain("shop/nobody", "shop/db:5432");
    assert_eq!((code, error.trim()), (2, "cnidarian: there is no pod shop/nobody among the objects"));
    let (code, _, error) = explain("shop/front", "shop/db:http");
    assert_eq!((code, error.trim()), (2, "cnidarian: shop/db names no TCP port \"http\""));
}

#[test]
fn check_says_file_line_and_what_would_be_right() {
    let wrong = SHOP.replace("- from:", "- frm:");
    let files = Files::new(&[("shop.yaml", &wrong), ("more.yaml", "kind: [\n")]);
    let (code, out, _) = policy(&["check", text(files.0.path())]);
    assert_eq!(code, 1, "{out}");
    let file = files.path("shop.yaml");
    let line = 1 + wrong.lines().position(|line| line.contains("frm:")).unwrap();
    let place = format!(
        "{}:{line}: error (the rule fails closed): NetworkPolicy shop/db: spec.ingress[0].frm:",
        file.display()
    );
    assert!(out.contains(&place), "{place}\n{out}");
    assert!(out.contains("did you mean `from`?"), "{out}");
    assert!(out.contains("more.yaml:"), "{out}");
    let good = Files::new(&[("shop.yaml", SHOP)]);
    let (code, out, _) = policy(&["check", text(good.0.path())]);
    assert_eq!((code, out.as_str()), (0, "1 policies, 3 workloads: 0 errors, 0 warnings\n"));
}

#[test]
fn a_directory_without_manifests_is_no_good_news() {
    let empty = Files::new(&[("notes.txt", "nothing")]);
    let (code, _, error) = policy(&["check", text(empty.0.path())]);
    assert!(code == 2 && error.contains("no manifest in it"), "{error}");
}

#[test]
fn check_warns_of_policies_about_nobody_and_rules_without_effect() {
    let idle = SHOP.replace("{podSelector: {matchLabels: {app: front}}}", "{podSelector: {matchLabels: {app: fornt}}}");
    let files = Files::new(&[("shop.yaml", &idle)]);
    let (code, out, _) = policy(&["check", text(files.0.path())]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("warning: NetworkPolicy shop/db: spec.ingress[0]: matches nobody among the objects"), "{out}");
}

#[test]
fn matrix_shows_who_reaches_whom() {
    let files = Files::new(&[("shop.yaml", SHOP)]);
    let file = files.path("shop.yaml");
    let (code, out, _) = policy(&["matrix", "-f", text(&file), "--port", "5432", "--json"]);
    assert_eq!(code, 0, "{out}");
    let pairs: serde_json::Value = serde_json::from_str(&out).unwrap();
    let allowed = |from: &str, to: &str| {
        let pairs = pairs["pairs"].as_array().unwrap();
        let pair = pairs.iter().find(|pair| pair["from"] == from && pair["to"] == to).unwrap();
        !pair["allowed"].as_array().unwrap().is_empty()
    };
    assert!(allowed("shop/front", "shop/db") && !allowed("shop/cron", "shop/db") && !allowed("outside", "shop/db"));
    assert!(allowed("shop/db", "shop/front") && allowed("shop/cron", "outside"));
    let (_, out, _) = policy(&["matrix", "-f", text(&file)]);
    assert!(out.contains("TCP 5432") && out.contains("shop/front"), "{out}");
}

#[test]
fn diff_shows_what_opens_and_closes_and_is_silent_of_other_changes() {
    let open = SHOP.replace("- from: [{podSelector: {matchLabels: {app: front}}}]\n    ports", "- ports");
    let files = Files::new(&[
        ("old.yaml", SHOP),
        ("new.yaml", &open),
        (
            "same.yaml",
            &SHOP.replace(
                "name: db, namespace: shop}\nspec:\n  podS",
                "name: database, namespace: shop}\nspec:\n  podS",
            ),
        ),
    ]);
    let [old, new, same] = ["old.yaml", "new.yaml", "same.yaml"].map(|name| files.path(name));
    let (code, out, _) = policy(&["diff", text(&old), text(&new)]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("opened: TCP 5432") && out.contains("shop/cron -> shop/db"), "{out}");
    let (code, out, _) = policy(&["diff", text(&new), text(&old)]);
    assert!(code == 1 && out.contains("closed: TCP 5432"), "{out}");
    let (code, out, _) = policy(&["diff", text(&old), text(&same)]);
    assert_eq!(code, 0, "{out}");
    assert!(out.starts_with("0 pairs change"), "{out}");
}

#[test]
fn test_fails_when_a_query_is_otherwise_and_says_why() {
    let case = |expect: bool| {
        format!(
            r#"{{"id": "c", "objects": [{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "a", "namespace": "n"}}, "status": {{"podIP": "10.0.0.1"}}}},
            {{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {{"name": "close", "namespace": "n"}}, "spec": {{"podSelector": {{}}}}}}],
            "queries": [{{"from": "10.0.0.9", "to": "n/a", "proto": "TCP", "port": 80, "expect": {expect}}}]}}"#
        )
    };
    let files = Files::new(&[("good.json", &case(false)), ("bad.json", &case(true))]);
    let (good, bad) = (files.path("good.json"), files.path("bad.json"));
    let (code, out, _) = policy(&["test", text(&good)]);
    assert_eq!((code, out.as_str()), (0, "1 cases, 1 queries, 0 wrong\n"));
    let (code, out, _) = policy(&["test", text(&good), text(&bad)]);
    assert_eq!(code, 1);
    assert!(out.contains("10.0.0.9 -> n/a TCP 80: expected allowed, got denied"), "{out}");
    assert!(out.contains("isolated by NetworkPolicy n/close"), "{out}");
    assert!(out.ends_with("2 cases, 2 queries, 1 wrong\n"), "{out}");
    let (code, out, _) = policy(&["test", text(&bad), "--json"]);
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, value["wrong"].as_u64()), (1, Some(1)));
    let (code, _, error) = policy(&["test", "no-such-file.yaml"]);
    assert!(code == 2 && error.contains("no-such-file.yaml"), "{error}");
}

#[test]
fn check_names_a_policy_whose_kind_or_group_is_misspelt_and_leaves_other_kinds_alone() {
    for (wrong, said) in [
        (
            SHOP.replace("kind: NetworkPolicy", "kind: NetworkPolice"),
            "NetworkPolice of networking.k8s.io/v1 is not read here; did you mean NetworkPolicy of networking.k8s.io/v1?",
        ),
        (
            SHOP.replace("networking.k8s.io/v1", "networking.k8s/v1"),
            "NetworkPolicy of networking.k8s/v1 is not read here; did you mean NetworkPolicy of networking.k8s.io/v1?",
        ),
        (
            SHOP.replace("networking.k8s.io/v1", "projectcalicoo.org/v3")
                .replace("NetworkPolicy", "GlobalNetworkPolicy"),
            "did you mean GlobalNetworkPolicy of projectcalico.org/v3?",
        ),
    ] {
        let files = Files::new(&[("shop.yaml", &wrong)]);
        let (code, out, _) = policy(&["check", files.path("shop.yaml").to_str().unwrap()]);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("error (the object is left out)") && out.contains(said), "{out}");
    }
    let others = [
        "networking.k8s.io/v1 Ingress",
        "projectcalico.org/v3 BGPFilter",
        "projectcalico.org/v3 IPPool",
        "cilium.io/v2 CiliumNode",
        "cilium.io/v2 CiliumEndpoint",
        "cilium.io/v2 CiliumLocalRedirectPolicy",
        "policy/v1 PodDisruptionBudget",
        "v1 ConfigMap",
        "config.openshift.io/v1 Network",
    ];
    let manifest = |kind: &str| {
        let (api, kind) = kind.split_once(' ').unwrap();
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\n")
    };
    let files = Files::new(&[("others.yaml", &others.map(manifest).join("---\n"))]);
    let (code, out, _) = policy(&["check", files.path("others.yaml").to_str().unwrap()]);
    assert_eq!((code, out.lines().count()), (0, 1), "{out}");
}

#[test]
fn a_command_ends_without_a_word_when_nobody_reads_on() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_cnidarian")).arg("version").stdout(writer).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
