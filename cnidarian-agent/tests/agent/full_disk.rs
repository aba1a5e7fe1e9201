//! A state directory on a full disk: what cannot be written down is not done, and nothing has to be restarted afterwards.

use crate::world::{Pod, World, until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs::{File, remove_file};
use std::io::Write;
use std::path::PathBuf;

/// A file system of a few MiB as the state directory, seen by the calling thread and what it starts alone.
struct Disk(PathBuf);

impl Disk {
    fn new(world: &World) -> Self {
        let path = world.state();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        std::fs::create_dir_all(&path).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=6m")).unwrap();
        Self(path)
    }

    fn fill(&self) {
        let mut filler = File::create(self.0.join("filler")).unwrap();
        for bytes in [64 << 10, 4 << 10, 1] {
            while filler.write_all(&vec![0; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A mount namespace is a thread's: the harness may use its threads for other tests.
fn on_a_tiny_disk(test: impl FnOnce(&mut World, &Disk) + Send) {
    let work = || {
        let mut world = World::new();
        let disk = Disk::new(&world);
        test(&mut world, &disk);
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// ADDs until one is refused: the database has some pages of its own to reuse.
fn add_until_refused(world: &World, disk: &Disk) -> (Vec<Pod>, Pod) {
    let mut attached = Vec::new();
    for number in 0..100 {
        let pod = Pod::new(&format!("full-{number}"));
        let answer = world.cni("ADD", &pod);
        if answer.success {
            attached.push(pod);
            continue;
        }
        assert!([5, 11].contains(&answer.code()), "{}", answer.text());
        let text = answer.text();
        assert!(text.contains(disk.0.to_str().unwrap()) && text.contains("No space left"), "{text}");
        return (attached, pod);
    }
    panic!("a hundred ADDs on a full disk");
}

#[test]
fn add_on_a_full_disk_is_refused_by_path_changes_nothing_and_works_when_there_is_space() {
    on_a_tiny_disk(|world, disk| {
        world.start();
        let before = Pod::new("before");
        world.cni("ADD", &before).ok();
        disk.fill();
        let (attached, refused) = add_until_refused(world, disk);
        for _ in 0..3 {
            assert!(!world.cni("ADD", &refused).success);
        }
        let counts = || (world.leases().len(), world.veths().len(), world.routes().len());
        let expected = attached.len() + 1;
        until("what was begun is undone", || {
            let counts = counts();
            if counts == (expected, expected, expected) { Ok(()) } else { Err(format!("{counts:?}, not {expected}")) }
        });
        disk.free();
        let added = world.cni("ADD", &refused).ok();
        assert!(world.check(&refused, &added).success);
        assert_eq!(world.leases().len(), expected + 1);
        // And what the file says is what the agent said.
        world.kill();
        world.start();
        assert!(world.check(&refused, &added).success);
        assert_eq!(world.leases().len(), expected + 1);
    });
}

#[test]
fn del_on_a_full_disk_loses_nothing_and_is_done_when_there_is_space() {
    on_a_tiny_disk(|world, disk| {
        world.start();
        let pods = ["a", "b"].map(Pod::new);
        for pod in &pods {
            world.cni("ADD", pod).ok();
        }
        disk.fill();
        let (mut attached, refused) = add_until_refused(world, disk);
        attached.push(refused);
        attached.extend(pods);
        for pod in &attached {
            let answer = world.cni("DEL", pod);
            assert!(answer.success || answer.text().contains("No space left"), "{}", answer.text());
        }
        // Without agent: a DEL that cannot be written down is not promised.
        world.kill();
        let answer = world.cni("DEL", &attached[0]);
        assert_eq!(answer.code(), 5, "{}", answer.text());
        assert!(answer.text().contains(disk.0.to_str().unwrap()), "{}", answer.text());
        disk.free();
        world.cni("DEL", &attached[0]).ok();
        world.start();
        for pod in &attached {
            world.cni("DEL", pod).ok();
        }
        world.assert_empty();
    });
}
