//! Objects and lines of files as people write them.

use super::*;

const BLOCK: &str = "\
# who may talk to the database
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db
  labels: {app.kubernetes.io/name: db, team: a}
spec:
  podSelector: {}
  ingress:
    - from:
        - podSelector: {}
        - ipBlock:
            cidr: 10.0.0.0/8
            except:
              - 10.1.0.0/16
              - nonsense
      ports:
        - {port: 80}
    # the second
    - from: []
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {name: a}
  - kind: Pod
    apiVersion: v1
    metadata:
      name: b
";

#[test]
fn what_has_no_end_is_not_read_to_it() {
    let error = |path: &Path| Manifests::read([path]).unwrap_err().to_string();
    assert!(error(Path::new("/dev/zero")).contains("neither a file nor a pipe"), "{}", error(Path::new("/dev/zero")));
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("long.yaml");
    fs::File::create(&long).unwrap().set_len(MOST_BYTES + 1).unwrap();
    assert!(error(&long).contains("split it"), "{}", error(&long));
    fs::write(&long, BLOCK).unwrap();
    assert_eq!(Manifests::read([&long]).unwrap().objects.len(), 3);
}

fn read(name: &str, text: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.add_text(Path::new(name), text);
    manifests
}

#[test]
fn the_line_of_a_field_is_where_its_name_or_its_item_begins() {
    let manifests = read("db.yaml", BLOCK);
    assert!(manifests.problems.is_empty(), "{:?}", manifests.problems);
    let (_, place) = &manifests.objects[0];
    assert_eq!(place.to_string(), "db.yaml:3");
    for (path, line) in [
        ("", 3),
        ("spec", 8),
        ("spec.ingress", 10),
        ("spec.ingress[0]", 11),
        ("spec.ingress[0].from[1].ipBlock.except[1]", 17),
        ("spec.ingress[0].ports[0].port", 19),
        ("spec.ingress[1].from", 21),
        ("metadata.labels[app.kubernetes.io/name]", 7),
        // Not there: the nearest around it.
        ("spec.ingress[1].ports[0].endPort", 21),
        ("spec.tier", 8),
        ("status", 3),
    ] {
        assert_eq!(place.line_of(path), line, "{path}");
    }
}

#[test]
fn items_of_a_list_have_lines_of_their_own() {
    let manifests = read("db.yaml", BLOCK);
    let [_, (a, place_a), (b, place_b)] = &manifests.objects[..] else { panic!("{:?}", manifests.objects) };
    assert_eq!((&*a.key.name, place_a.line, &*b.key.name, place_b.line), ("a", 26, "b", 29));
    assert_eq!((place_a.line_of("metadata.name"), place_b.line_of("metadata.name")), (28, 32));
}

#[test]
fn json_has_lines_too() {
    let text = "{\"apiVersion\": \"v1\",\n \"kind\": \"Pod\",\n \"metadata\": {\n\t\"name\": \"a\"},\n \"spec\": {\n\t\"x\": [1,\n\t2]}}\n";
    let manifests = read("pod.json", text);
    let (_, place) = &manifests.objects[0];
    let lines = ["kind", "metadata.name", "spec.x", "spec.x[1]"].map(|path| place.line_of(path));
    assert_eq!(lines, [2, 4, 6, 7]);
}

#[test]
fn a_broken_file_is_named_with_its_line_and_others_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("b.yaml", b"apiVersion: v1\nkind: Pod\nmetadata: {name: b}\n");
    write("below/a.json", br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#);
    write("broken.yml", b"apiVersion: v1\nkind: [\n");
    write("latin.yaml", b"apiVersion: v1\n# \xe9\n");
    write("notes.txt", b"nothing");
    write(".hidden.yaml", b"kind: [\n");
    let manifests = Manifests::read([directory.path()]).unwrap();
    let names: Vec<_> = manifests.objects.iter().map(|(object, _)| &*object.key.name).collect();
    assert_eq!(names, ["b", "a"]);
    let problems: Vec<_> = manifests.problems.iter().map(ToString::to_string).collect();
    let starts = ["broken.yml:", "latin.yaml:2: is no UTF-8"].map(|end| directory.path().join(end));
    assert_eq!(problems.len(), 2, "{problems:?}");
    for (problem, start) in problems.iter().zip(&starts) {
        assert!(problem.starts_with(start.to_str().unwrap()), "{problem}");
    }
    assert!(matches!(Manifests::read([directory.path().join("none")]), Err(Error::Io { .. })));
}

/// A policy of 10,000 rules, or a dump of a cluster, has more nodes than YAML parsers allow by default.
#[test]
fn a_document_of_300_000_nodes_is_read() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: [".to_owned() + &"0,".repeat(300_000) + "]\n";
    assert!(read("long.yaml", &text).problems.is_empty());
}

#[test]
fn aliases_do_not_make_a_small_file_large() {
    let mut text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\na0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let alias = format!("*a{}, ", level - 1).repeat(9);
        text += &format!("a{level}: &a{level} [{alias}]\n");
    }
    assert_eq!(read("bomb.yaml", &text).problems.len(), 1);
}
